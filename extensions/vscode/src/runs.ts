// The debug sessions of our plans: when the last one of a plan is over, its session is to be over as well.

import * as vscode from "vscode";
import type { Daemon } from "./link.js";
import type { Logs } from "./logs.js";
import { problemOf } from "./problem.js";
import { PLAN, STOPS, type Debuggees } from "./reattach.js";
import type { Sessions } from "./sessions.js";

/** Milliseconds that a session may outlive its debugger by itself; VS Code's restart comes 300 ms and the tasks' time after. */
const TIMES = { grace: 3000, restart: 60_000 };

/** What a debug adapter is told, as much as is looked at. */
interface Told {
    command?: string;
    arguments?: {
        terminateDebuggee?: boolean;
        /** Of a restart: the configuration, resolved again where launch.json holds another one than runs now. */
        arguments?: vscode.DebugConfiguration;
    };
}

/** One debug session's end, as it shows. */
interface End {
    /** The user left the program running. */
    left?: boolean;
    /** The user stopped it, or began it anew: the program is being ended. */
    stopped?: boolean;
    /** The adapter said by itself that it is over. */
    over?: boolean;
    /** VS Code let go of the adapter without a word about the program: a window that is reloaded does. */
    dropped?: boolean;
}

export class Runs implements vscode.DebugAdapterTrackerFactory, vscode.Disposable {
    /** Debug sessions now, by plan. */
    private readonly running = new Map<string, Set<string>>();
    private readonly ends = new Map<string, End>();
    private readonly timers = new Set<NodeJS.Timeout>();

    constructor(
        private readonly daemon: Daemon,
        private readonly sessions: Sessions,
        private readonly debuggees: Debuggees,
        private readonly logs: Logs,
        private readonly times = TIMES,
    ) {}

    createDebugAdapterTracker(session: vscode.DebugSession): vscode.DebugAdapterTracker | undefined {
        const root = rootOf(session);
        const plan: unknown = root.configuration[PLAN];
        if (typeof plan !== "string") {
            return undefined;
        }
        return {
            onWillReceiveMessage: (message: Told) => {
                if (session === root || message.command === "restart") {
                    this.told(root, plan, message);
                }
            },
            onDidSendMessage: (message: { event?: string }) => {
                if (session === root && message.event === "terminated") {
                    this.endOf(root).over = true;
                }
            },
        };
    }

    /** The adapter of a debug session is told something. */
    private told(root: vscode.DebugSession, plan: string, message: Told): void {
        const ours = root.configuration[STOPS] === true;
        const attached = root.configuration.request === "attach";
        const end = this.endOf(root);
        const terminate = message.arguments?.terminateDebuggee;
        if (message.command === "disconnect" && terminate === undefined) {
            end.dropped = true;
        } else if (message.command === "disconnect" && terminate === false && !attached) {
            end.left = true;
        } else if (message.command === "disconnect" && terminate === false && end.over) {
            // VS Code tidies up after an adapter that has ended.
        } else if (ours && message.command === "restart") {
            end.stopped = true;
            this.act(() => (attached ? this.anew(root, plan, message.arguments?.arguments) : this.stop(plan)));
        } else if (ours && (message.command === "terminate" || message.command === "disconnect")) {
            // Asked a second time it is not asked politely. To an attached program "disconnect" is all that VS Code offers.
            const graceMs = end.stopped ? 0 : undefined;
            end.stopped = true;
            this.act(() => this.stop(plan, graceMs));
        }
    }

    started(session: vscode.DebugSession, plan: unknown): void {
        if (typeof plan !== "string" || session.parentSession) {
            return;
        }
        const all = this.running.get(plan) ?? new Set();
        this.running.set(plan, all.add(session.id));
    }

    ended(session: vscode.DebugSession, plan: unknown): void {
        if (typeof plan !== "string" || session.parentSession) {
            return;
        }
        this.running.get(plan)?.delete(session.id);
        const { left, stopped, over, dropped } = this.endOf(session);
        this.ends.delete(session.id);
        if (left) {
            this.sessions.release(plan);
        } else if (!stopped) {
            const all = this.sessions.ofPlan(plan).map((one) => one.session);
            const soon = session.configuration[STOPS] === true && !over && !dropped;
            this.after(soon ? 0 : this.times.grace, () => this.end(all));
        }
        this.after(this.times.restart, async () => {
            if (this.running.get(plan)?.size === 0 && this.sessions.ofPlan(plan).length === 0) {
                this.running.delete(plan);
                this.sessions.forget(plan);
                await this.debuggees.forget(plan);
                await this.daemon.request("session/forget", { plan });
            }
        });
    }

    /** Ends those of `sessions` that did not end with their debugger. */
    private async end(sessions: string[]): Promise<void> {
        const living = new Set(this.sessions.all.map((one) => one.session));
        for (const session of sessions.filter((one) => living.has(one))) {
            this.logs.add(session, "still there after its debugger ended: it is stopped");
            await this.sessions.stop(session);
        }
    }

    /** Ends the program of a plan, as its debugger leaves it alone. */
    private async stop(plan: string, graceMs?: number): Promise<void> {
        await Promise.all(this.sessions.ofPlan(plan).map((one) => this.sessions.stop(one.session, graceMs)));
    }

    /** Begins a program anew whose debugger is only attached: js-debug would attach once more. */
    private async anew(root: vscode.DebugSession, plan: string, resolved?: vscode.DebugConfiguration): Promise<void> {
        await this.stop(plan);
        await vscode.debug.stopDebugging(root);
        await this.debuggees.launch(plan, resolved);
    }

    private endOf(session: vscode.DebugSession): End {
        const known = this.ends.get(session.id) ?? {};
        this.ends.set(session.id, known);
        return known;
    }

    private act(work: () => Promise<void>): void {
        work().catch((error: unknown) => this.logs.add("daemon", problemOf(error).message));
    }

    private after(time: number, act: () => Promise<void>): void {
        const timer = setTimeout(() => {
            this.timers.delete(timer);
            this.act(act);
        }, time);
        this.timers.add(timer);
    }

    dispose(): void {
        this.timers.forEach((timer) => clearTimeout(timer));
    }
}

/** The debug session that the user started; js-debug makes one below it for each process. */
function rootOf(session: vscode.DebugSession): vscode.DebugSession {
    let root = session;
    while (root.parentSession) {
        root = root.parentSession;
    }
    return root;
}
