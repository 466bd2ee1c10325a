// The debuggees of a window that was reloaded: their launch configurations are kept, so that their debuggers come back.

import * as vscode from "vscode";
import { merge } from "./merge.js";

/** Marks a configuration that was patched, with the plan's name. */
export const PLAN = "__mirrordPlan";
/** Marks a configuration whose debugger leaves its program to us at its end. */
export const STOPS = "__mirrordStops";

const KEY = "mirrord.debuggees";
/** How many are kept: nobody debugs more at a time. */
const KEPT = 20;

/** What was launched. Its variables are as the user wrote them: what they stand for may be a secret. */
interface Kept {
    plan: string;
    /** The workspace folder's address. */
    folder?: string;
    config: vscode.DebugConfiguration;
}

export class Debuggees {
    constructor(private readonly memory: vscode.Memento) {}

    /** Keeps a configuration that is about to be launched: as it was written, with the daemon's patch. */
    async keep(plan: string, folder: vscode.WorkspaceFolder | undefined, config: vscode.DebugConfiguration): Promise<void> {
        const others = this.kept.filter((one) => one.plan !== plan);
        const made: Kept = { plan, config, ...(folder === undefined ? {} : { folder: folder.uri.toString() }) };
        await this.memory.update(KEY, [...others, made].slice(-KEPT));
    }

    async forget(plan: string): Promise<void> {
        await this.memory.update(KEY, this.kept.filter((one) => one.plan !== plan));
    }

    /** Has a debugger attach to the running program of a plan, by the daemon's patch; whether it began to. */
    async attach(plan: string, patch: Record<string, unknown>): Promise<boolean> {
        const kept = this.kept.find((one) => one.plan === plan);
        if (!kept) {
            return false;
        }
        // What belongs to the start of a program has been done.
        const { preLaunchTask: _task, serverReadyAction: _action, ...config } = kept.config;
        return start(kept, merge(config, patch) as vscode.DebugConfiguration);
    }

    /** Launches the program of a plan anew: by `resolved` where VS Code has planned a restart by itself, its task done. */
    async launch(plan: string, resolved?: vscode.DebugConfiguration): Promise<boolean> {
        const kept = this.kept.find((one) => one.plan === plan);
        if (kept && typeof resolved?.[PLAN] === "string" && resolved.request === "launch") {
            const { preLaunchTask: _task, ...config } = resolved;
            return start(kept, config as unknown as vscode.DebugConfiguration);
        }
        return kept !== undefined && start(kept, kept.config);
    }

    private get kept(): Kept[] {
        return this.memory.get<Kept[]>(KEY, []);
    }
}

async function start(kept: Kept, config: vscode.DebugConfiguration): Promise<boolean> {
    const folder = vscode.workspace.workspaceFolders?.find((one) => one.uri.toString() === kept.folder);
    return vscode.debug.startDebugging(folder, config, { suppressSaveBeforeStart: true });
}
