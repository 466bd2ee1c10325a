// From F5 to a covered debuggee: one plan from the daemon, a picker when it needs one, the session with its progress,
// and the daemon's patch on the launch configuration.

import * as vscode from "vscode";
import type { Groups } from "./groups.js";
import type { Daemon } from "./link.js";
import type { Logs } from "./logs.js";
import { merge } from "./merge.js";
import type { Pick, Picker } from "./picker.js";
import { isCancelled, sentence, tell } from "./problem.js";
import type { ConfigSource, PlanAnswer, PlanParams, Started, WorkProgress } from "./protocol.js";
import { PLAN, STOPS, type Debuggees } from "./reattach.js";
import type { Sessions } from "./sessions.js";
import { runTask } from "./tasks.js";
import type { Toggle } from "./toggle.js";

/** Holds the `preLaunchTask` that is to run in the pod's world, between the hooks. */
const TASK = "__mirrordTask";
/** A start that is over sooner shows no progress, in milliseconds. */
const QUICK = 300;

/** What a run needs, made ready: the program may start. */
export interface Prepared {
    plan: string;
    patch: Record<string, unknown>;
    /** Whether the program is ended by us and not by its debugger. */
    editorStops: boolean;
}

export class Launcher implements vscode.DebugConfigurationProvider {
    private readonly picks = new Map<string, Promise<Pick | undefined>>();
    private readonly said = new Set<string>();
    /** Configurations as their user wrote them, between the hooks. */
    private readonly written = new Map<string, vscode.DebugConfiguration>();
    private forced = 0;
    private runs = 0;

    constructor(
        private readonly daemon: Daemon,
        private readonly toggle: Toggle,
        private readonly picker: Picker,
        private readonly groups: Groups,
        private readonly sessions: Sessions,
        private readonly debuggees: Debuggees,
        private readonly logs: Logs,
    ) {}

    /** Starts the chosen launch configuration in a pod's world, whatever the toggle says. */
    async debug(): Promise<void> {
        this.forced += 1;
        try {
            await vscode.commands.executeCommand("workbench.action.debug.start");
        } finally {
            this.forced -= 1;
        }
    }

    resolveDebugConfiguration(folder: vscode.WorkspaceFolder | undefined, config: vscode.DebugConfiguration): vscode.DebugConfiguration {
        if (isChild(config) || config[PLAN] !== undefined || !this.concerns(config)) {
            return config;
        }
        this.daemon.warm();
        this.groups.note(config.name, folder?.name);
        this.written.set(runOf(folder, config), config);
        const task: unknown = config["preLaunchTask"];
        if (takesTasks(config) && task !== undefined) {
            const { preLaunchTask: _, ...rest } = config;
            return { ...rest, [TASK]: task } as unknown as vscode.DebugConfiguration;
        }
        return config;
    }

    async resolveDebugConfigurationWithSubstitutedVariables(
        folder: vscode.WorkspaceFolder | undefined,
        config: vscode.DebugConfiguration,
        token?: vscode.CancellationToken,
    ): Promise<vscode.DebugConfiguration | undefined> {
        if (isChild(config) || config[PLAN] !== undefined || !this.concerns(config)) {
            return config;
        }
        const written = this.written.get(runOf(folder, config));
        this.written.delete(runOf(folder, config));
        const { [TASK]: task, ...plain } = config;
        // A task that runs before shares the pick too.
        const group = this.groups.take(config.name, folder?.name) ?? (task === undefined ? undefined : `with-task-${++this.runs}`);
        // The task first: a session that is ready waits for its program, not for a build.
        if (task !== undefined && !(await runTask(this, folder, task, config["mirrord"], group))) {
            return undefined;
        }
        const prepared = await this.prepare(folder, plain as vscode.DebugConfiguration, group, token);
        if (prepared === "stop") {
            return undefined;
        }
        if (prepared === "off") {
            return task === undefined ? config : (plain as vscode.DebugConfiguration);
        }
        const marks = { [PLAN]: prepared.plan, ...(prepared.editorStops ? { [STOPS]: true } : {}) };
        const patched = (one: unknown) => ({ ...(merge(one, prepared.patch) as vscode.DebugConfiguration), ...marks });
        if (written) {
            await this.debuggees.keep(prepared.plan, folder, patched(written));
        }
        return patched(plain);
    }

    /** Plans a run and makes its session ready. "off": it runs on this machine alone; "stop": it does not run. */
    async prepare(
        folder: vscode.WorkspaceFolder | undefined,
        debug: vscode.DebugConfiguration,
        group?: string,
        token?: vscode.CancellationToken,
    ): Promise<Prepared | "off" | "stop"> {
        const run = `run-${++this.runs}`;
        try {
            const plan = await this.plan(folder, debug, group, token);
            if (!plan) {
                return "stop";
            }
            if (plan.action === "off") {
                this.explain(plan.reason, debug, run);
                return "off";
            }
            if (plan.action !== "run" || plan.plan === null) {
                throw new Error("the daemon's plan does not say how to run\nInstall extension and mirrord-ide of the same release.");
            }
            for (const notice of plan.notices) {
                this.logs.add(run, notice);
            }
            const started = await this.start(plan, run, token);
            this.sessions.started(debug.name, plan, started, !debug.type.startsWith("mirrord-"));
            return { plan: plan.plan, patch: plan.patch ?? {}, editorStops: plan.editorStops };
        } catch (error) {
            if (!isCancelled(error) && !token?.isCancellationRequested) {
                void tell(error, this.logs, run);
            }
            return "stop";
        }
    }

    /** The daemon's plan, with the user's pick where it asks for one; nothing when the user took the run back. */
    private async plan(folder: vscode.WorkspaceFolder | undefined, debug: vscode.DebugConfiguration, group: string | undefined, token?: vscode.CancellationToken): Promise<PlanAnswer | undefined> {
        const config = sourceOf(folder, debug);
        const debuggerFolder = debuggerOf(debug.type);
        const params: PlanParams = {
            config,
            debug,
            editor: "vscode",
            enabled: this.toggle.enabled || this.forced > 0,
            ...(debug["mirrord"] === undefined ? (this.forced > 0 ? { mirrord: true } : {}) : { mirrord: debug["mirrord"] }),
            ...(debuggerFolder === undefined ? {} : { debuggerFolder }),
        };
        const plan = await this.daemon.request("session/plan", params, token);
        if (plan.action !== "pick") {
            return plan;
        }
        const pick = await this.pick(plan.configFile === null ? config : { ...config, file: plan.configFile }, debug.name, group, token);
        if (!pick) {
            return undefined;
        }
        const overrides = pick.namespace === undefined ? {} : { overrides: { ...config.overrides, namespace: pick.namespace } };
        return this.daemon.request("session/plan", { ...params, config: { ...config, ...overrides }, target: pick.target }, token);
    }

    /** One picker for all members of a compound. */
    private pick(config: ConfigSource, name: string, group: string | undefined, token?: vscode.CancellationToken): Promise<Pick | undefined> {
        if (group === undefined) {
            return this.picker.pick(config, name, token);
        }
        let pick = this.picks.get(group);
        if (!pick) {
            pick = this.picker.pick(config, "Target of all of them", token);
            this.picks.set(group, pick);
        }
        return pick;
    }

    /** Has the session made ready, with the cluster's current event told and a way to take it back. */
    private start(plan: PlanAnswer, run: string, token?: vscode.CancellationToken): Promise<Started> {
        const source = new vscode.CancellationTokenSource();
        const taken = token?.onCancellationRequested(() => source.cancel());
        let report: ((message: string) => void) | undefined;
        let last = "";
        const work = async (): Promise<Started> => {
            const workDoneToken = `mirrord-${run}`;
            const steps = await this.daemon.onProgress<WorkProgress>(workDoneToken, (step) => {
                const message = step.kind === "begin" ? step.title : step.message;
                if (message) {
                    last = message;
                    this.logs.add(run, message);
                    report?.(message);
                }
            });
            try {
                const started = await this.daemon.request("session/start", { plan: plan.plan, events: true, workDoneToken }, source.token);
                this.logs.rename(run, started.session);
                return started;
            } finally {
                steps.dispose();
                taken?.dispose();
                source.dispose();
            }
        };
        const starting = work();
        const wait = setTimeout(() => {
            const options = { location: vscode.ProgressLocation.Notification, cancellable: true, title: `mirrord: ${plan.target ?? "starting"}` };
            void vscode.window.withProgress(options, (progress, stop) => {
                report = (message) => progress.report({ message });
                report(last);
                stop.onCancellationRequested(() => source.cancel());
                return starting.catch(() => undefined);
            });
        }, QUICK);
        const settled = () => clearTimeout(wait);
        starting.then(settled, settled);
        return starting;
    }

    /** Says why a run stays on this machine: once, or each time when it was asked for by name. */
    private explain(reason: string | null, debug: vscode.DebugConfiguration, run: string): void {
        if (!reason) {
            return;
        }
        this.logs.add(run, `off: ${reason}`);
        if (debug["mirrord"] !== undefined || this.forced > 0 || !this.said.has(reason)) {
            this.said.add(reason);
            void vscode.window.showInformationMessage(`Without mirrord: ${sentence(reason)}`);
        }
    }

    /** Whether anything asks for a pod's world; if nothing does, the daemon is not asked either. */
    private concerns(config: vscode.DebugConfiguration): boolean {
        const asked: unknown = config["mirrord"];
        return asked === undefined ? this.toggle.enabled || this.forced > 0 : asked !== false;
    }
}

/** Whether a launch configuration of this workspace asks for a pod's world by itself. */
export function isAsked(): boolean {
    const scopes = [null, ...(vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri)];
    return scopes.some((scope) => {
        const listed = vscode.workspace.getConfiguration("launch", scope).get<unknown>("configurations");
        return Array.isArray(listed) && listed.some((one: { mirrord?: unknown } | undefined) => Boolean(one?.mirrord));
    });
}

/** Which config, and whose environment decides about the cluster: this machine's, where the extension runs. */
export function sourceOf(folder: vscode.WorkspaceFolder | undefined, debug?: vscode.DebugConfiguration): ConfigSource {
    const cwd: unknown = debug?.["cwd"];
    const env = Object.entries(process.env).filter(([name, value]) => value !== undefined && !/^(VSCODE|ELECTRON)_/u.test(name));
    const first = vscode.workspace.workspaceFolders?.[0];
    return { folder: (folder ?? first)?.uri.fsPath ?? (typeof cwd === "string" && cwd ? cwd : process.cwd()), env: Object.fromEntries(env) as Record<string, string> };
}

/** Where the extension is that brings a debug type. */
function debuggerOf(type: string): string | undefined {
    const brings = (one: vscode.Extension<unknown>) => {
        const { contributes } = one.packageJSON as { contributes?: { debuggers?: { type?: string }[] } };
        return contributes?.debuggers?.some((row) => row.type === type) === true;
    };
    return vscode.extensions.all.find(brings)?.extensionPath;
}

/** Names a run between its hooks. */
function runOf(folder: vscode.WorkspaceFolder | undefined, config: vscode.DebugConfiguration): string {
    return JSON.stringify([folder?.uri.toString(), config.name]);
}

/** Whether the program runs already: started by another debug session's, or in a terminal that js-debug watches. */
function isChild(config: vscode.DebugConfiguration): boolean {
    return config["__parentId"] !== undefined || config["delegateId"] !== undefined;
}

function takesTasks(config: vscode.DebugConfiguration): boolean {
    const asked: unknown = config["mirrord"];
    return typeof asked === "object" && asked !== null && (asked as { tasks?: unknown }).tasks === true;
}
