// The sessions of this window as their events tell them, across restarts of the program, the daemon and the window.

import * as vscode from "vscode";
import type { Daemon } from "./link.js";
import type { Logs } from "./logs.js";
import { problemOf, sentence } from "./problem.js";
import type { AgentState, Attached, EventParams, PlanAnswer, PortState, SessionEvent, SessionInfo, SessionState, Started } from "./protocol.js";
import type { Debuggees } from "./reattach.js";

/** One session, as much as is shown of it. */
export interface Live {
    session: string;
    /** The plan that it runs by; a restart makes a new session of the same plan. */
    plan: string | undefined;
    /** The launch configuration's name. */
    name: string;
    target: string;
    namespace: string | undefined;
    mode: string;
    state: SessionState;
    agent: AgentState | undefined;
    ports: Map<number, PortState>;
    /** Connections that reached the program. */
    connections: number;
    /** What the program finds unlike the pod; each once. */
    warnings: Map<string, string>;
    /** The last event's number. */
    seq: number;
    /** Whether a debugger started it, which ends with the window; a terminal lives on. */
    debugged: boolean;
}

/** What a reloaded window remembers of a session. */
interface Remembered {
    session: string;
    name: string;
    plan?: string;
    mode: string;
    debugged: boolean;
}

const KEY = "mirrord.sessions";
/** After a lost connection the daemon is asked again, in milliseconds; it may be being replaced. */
const TRIES = [200, 500, 1000, 2000, 4000, 8000];
/** The warning by which the daemon says that no process came under the session; shown as the error it is. */
const NOT_COVERED = "not-covered";
/** How long a window's former self may take to leave, in milliseconds; what somebody debugs then is another window's. */
const LEAVING = { times: 60, wait: 500 };

export class Sessions implements vscode.Disposable {
    private readonly live = new Map<string, Live>();
    /** Plans of this window with their configuration's name, mode and target. */
    private readonly plans = new Map<string, { name: string; mode: string; target: string; debugged: boolean }>();
    /** What another window of the same memory debugs. */
    private others: Remembered[] = [];
    private readonly changed = new vscode.EventEmitter<void>();
    readonly onDidChange = this.changed.event;
    private readonly ends: vscode.Disposable[];

    constructor(
        private readonly daemon: Daemon,
        private readonly memory: vscode.Memento,
        private readonly logs: Logs,
    ) {
        this.ends = [daemon.onEvent((event) => this.happened(event)), daemon.onLost(() => void this.reattach())];
    }

    get all(): Live[] {
        return [...this.live.values()];
    }

    ofPlan(plan: string): Live[] {
        return this.all.filter((one) => one.plan === plan);
    }

    /** A session was made ready by a plan of this window. */
    started(name: string, plan: PlanAnswer, started: Started, debugged: boolean): void {
        const target = started.target.path;
        if (plan.plan !== null) {
            this.plans.set(plan.plan, { name, mode: started.mode, target, debugged });
        }
        if (started.folder) {
            this.logs.folder(started.session, started.folder);
        }
        this.logs.add(started.session, `${name} acts as ${target}, incoming traffic: ${started.mode}, as ${started.identity}${started.warm ? ", agent was there" : ""}`);
        for (const notice of started.notices) {
            this.logs.add(started.session, notice);
        }
        this.add(started.session, { name, plan: plan.plan ?? undefined, mode: started.mode, target, namespace: started.target.namespace ?? undefined, debugged });
    }

    /** Follows again what this window had before it was reloaded; what was debugged then gets its debugger back, or ends. */
    async resume(debuggees: Debuggees, leaving = LEAVING): Promise<void> {
        const known = await this.own(this.memory.get<Remembered[]>(KEY, []), leaving);
        const answers = known.length > 0 ? await this.follow(known, true) : [];
        for (const { session, reattach, reattachRefused } of answers) {
            const live = this.live.get(session);
            if (!live?.debugged) {
                continue;
            }
            const why = reattach ? await this.regain(live, reattach, debuggees) : (reattachRefused ?? "its debugger is gone with the window");
            if (why !== undefined) {
                this.logs.add(live.session, `${why}: it is stopped`);
                await this.stop(live.session);
            }
        }
    }

    /** Has a debugger attach again; why not, if it did not. */
    private async regain(live: Live, patch: Record<string, unknown>, debuggees: Debuggees): Promise<string | undefined> {
        try {
            if (live.plan !== undefined && (await debuggees.attach(live.plan, patch))) {
                this.logs.add(live.session, "its debugger is attached again");
                return undefined;
            }
            return "its debugger could not be attached again";
        } catch (error) {
            return `its debugger could not be attached again, ${problemOf(error).message}`;
        }
    }

    /** Those of `known` that no other window debugs: two tabs of one folder share their memory. */
    private async own(known: Remembered[], leaving: typeof LEAVING): Promise<Remembered[]> {
        for (let turn = 0; known.some((one) => one.debugged); turn += 1) {
            const { sessions } = await this.daemon.request("session/list", {});
            const attended = new Set(sessions.filter((info) => info.attended).map((info) => info.session));
            this.others = known.filter((one) => one.debugged && attended.has(one.session));
            if (this.others.length === 0 || turn === leaving.times) {
                break;
            }
            await new Promise((resolve) => setTimeout(resolve, leaving.wait));
        }
        return known.filter((one) => !this.others.includes(one));
    }

    /** The user left a plan's program running without its debugger. */
    release(plan: string): void {
        this.ofPlan(plan).forEach((one) => (one.debugged = false));
        void this.remember();
    }

    /** Whether a reloaded window has something to follow. */
    get hasPast(): boolean {
        return this.memory.get<Remembered[]>(KEY, []).length > 0;
    }

    /** Ends sessions; what could not be removed is said. */
    async stop(session: string, graceMs?: number): Promise<void> {
        const stopped = await this.daemon.request("session/stop", { session, ...(graceMs === undefined ? {} : { graceMs }) });
        for (const left of stopped.left ?? []) {
            void vscode.window.showWarningMessage(sentence(left));
        }
    }

    forget(plan: string): void {
        this.plans.delete(plan);
    }

    private happened(params: EventParams): void {
        let one = this.live.get(params.session);
        if (!one) {
            const plan = params.plan === undefined || params.plan === null ? undefined : this.plans.get(params.plan);
            if (!plan || (params.event.kind === "state" && params.event.state === "ended")) {
                return;
            }
            // The program was started anew by the debugger's restart, which asks nobody.
            one = this.add(params.session, { ...plan, plan: params.plan ?? undefined, namespace: undefined });
            void this.attach({ session: params.session, name: plan.name, mode: plan.mode, debugged: plan.debugged }, params.seq);
        }
        one.seq = Math.max(one.seq, params.seq);
        const { event } = params;
        if (event.kind === "state") {
            one.state = event.state;
            this.logs.add(one.session, `${event.state}: ${event.message}`, params.at);
            if (event.state === "ended") {
                this.live.delete(one.session);
                void this.remember();
            }
        } else {
            this.apply(one, event.happened, params.at);
        }
        this.changed.fire();
    }

    private apply(one: Live, event: SessionEvent, at: number): void {
        this.logs.add(one.session, account(event), at);
        switch (event.what) {
            case "port":
                one.ports.set(event.pod_port, event);
                break;
            case "port-closed":
                one.ports.delete(event.pod_port);
                break;
            case "connection":
                one.connections += 1;
                break;
            case "agent":
                if (event.state === "lost" && one.agent !== "lost") {
                    this.fail(one, `${event.message || "the agent is gone"}`, "Requests go to the pod's own program now; start the program again.");
                }
                one.agent = event.state;
                break;
            case "warning":
                if (event.code === NOT_COVERED) {
                    this.fail(one, event.message, "");
                }
                one.warnings.set(event.code, event.message);
                break;
            case "process":
            case "ended":
                break;
        }
    }

    private fail(one: Live, message: string, help: string): void {
        const text = [`${one.name}: ${message}`, help].filter(Boolean).map(sentence).join(" ");
        void vscode.window.showErrorMessage(text, "Details").then((chosen) => (chosen === "Details" ? this.logs.show(one.session) : undefined));
    }

    private add(session: string, what: { name: string; plan: string | undefined; mode: string; target: string; namespace: string | undefined; debugged: boolean }): Live {
        const known = this.live.get(session);
        const made: Live = {
            ...what,
            session,
            state: known?.state ?? "ready",
            agent: known?.agent,
            ports: known?.ports ?? new Map(),
            connections: known?.connections ?? 0,
            warnings: known?.warnings ?? new Map(),
            seq: known?.seq ?? 0,
        };
        this.live.set(session, made);
        void this.remember();
        this.changed.fire();
        return made;
    }

    /** The connection broke: the daemon is asked anew as long as there is something to follow. */
    private async reattach(): Promise<void> {
        const known = this.all.map((one): Remembered => ({ session: one.session, name: one.name, mode: one.mode, debugged: one.debugged, ...(one.plan === undefined ? {} : { plan: one.plan }) }));
        for (const wait of known.length > 0 ? TRIES : []) {
            await new Promise((resolve) => setTimeout(resolve, wait));
            try {
                await this.follow(known);
                return;
            } catch (error) {
                known.forEach(({ session }) => this.logs.add(session, `the daemon does not answer: ${problemOf(error).message}`));
            }
        }
    }

    /** Attaches to those of `known` that still live, and forgets the others. Of what was debugged: how to `reattach`. */
    private async follow(known: Remembered[], reattach = false): Promise<Attached[]> {
        const answers: Attached[] = [];
        const { sessions } = await this.daemon.request("session/list", {});
        const living = new Map(sessions.map((info) => [info.session, info]));
        for (const one of known) {
            const info = living.get(one.session);
            if (!info || info.state === "ended") {
                this.live.delete(one.session);
                continue;
            }
            if (one.plan !== undefined) {
                this.plans.set(one.plan, { name: one.name, mode: one.mode, target: info.target.path, debugged: one.debugged });
            }
            const answer = await this.attach(one, this.live.get(one.session)?.seq ?? 0, reattach && one.debugged);
            answers.push(...(answer ? [answer] : []));
        }
        await this.remember();
        this.changed.fire();
        return answers;
    }

    private async attach(known: Remembered, fromSeq: number, reattach = false): Promise<Attached | undefined> {
        let answer: Attached | undefined;
        try {
            const old = this.live.get(known.session);
            if (!old) {
                this.add(known.session, { name: known.name, plan: known.plan, mode: known.mode, target: "", namespace: undefined, debugged: known.debugged });
            }
            answer = await this.daemon.request("session/attach", { session: known.session, fromSeq, ...(reattach ? { reattach } : {}) });
            this.take(answer, known);
        } catch (error) {
            this.logs.add(known.session, `cannot be followed: ${problemOf(error).message}`);
            this.live.delete(known.session);
        }
        this.changed.fire();
        return answer;
    }

    /** What the daemon knows of a session stands over what was counted here. */
    private take(info: SessionInfo, known: Remembered): void {
        const one = this.live.get(info.session) ?? this.add(info.session, { name: known.name, plan: known.plan, mode: known.mode, target: "", namespace: undefined, debugged: known.debugged });
        one.state = info.state;
        one.target = info.target.path;
        one.namespace = info.target.namespace ?? undefined;
        one.agent = info.host?.agent ?? info.agent ?? undefined;
        if (info.host) {
            one.ports = new Map(info.host.ports.map((port) => [port.pod_port, port]));
            one.connections = info.host.ports.reduce((sum, port) => sum + port.connections, 0);
        }
    }

    private async remember(): Promise<void> {
        const all = this.all.map((one): Remembered => ({ session: one.session, name: one.name, mode: one.mode, debugged: one.debugged, ...(one.plan === undefined ? {} : { plan: one.plan }) }));
        await this.memory.update(KEY, [...all, ...this.others]);
    }

    dispose(): void {
        this.ends.forEach((end) => void end.dispose());
        this.changed.dispose();
    }
}

/** An event as a line of the log. */
function account(event: SessionEvent): string {
    switch (event.what) {
        case "process":
            return `process ${event.pid}: ${event.executable}, ${event.coverage}`;
        case "port":
            return `port ${event.pod_port} of the pod: ${event.mode}, to port ${event.local_port} here`;
        case "port-closed":
            return `port ${event.pod_port} of the pod: given back`;
        case "connection":
            return `connection from ${event.peer_addr} to port ${event.pod_port}`;
        case "warning":
            return `warning: ${event.message} [${event.code}]`;
        case "agent":
            return `agent ${event.state}: ${event.message}`;
        case "ended":
            return event.signal ? `the program was ended by signal ${event.signal}` : `the program ended with ${event.code ?? 0}`;
    }
}
