// The debug sessions of our plans: when the last one of a plan is over, its session is to be over as well.

import * as vscode from "vscode";
import type { Daemon } from "./link.js";
import type { Logs } from "./logs.js";
import { problemOf } from "./problem.js";
import type { Sessions } from "./sessions.js";

/** Milliseconds that a session may outlive its debugger by itself; VS Code's restart comes 300 ms and the tasks' time after. */
const TIMES = { grace: 3000, restart: 60_000 };

export class Runs implements vscode.DebugAdapterTrackerFactory, vscode.Disposable {
    /** Debug sessions now, by plan. */
    private readonly running = new Map<string, Set<string>>();
    /** Debug sessions that the user left running. */
    private readonly left = new Set<string>();
    private readonly timers = new Set<NodeJS.Timeout>();

    constructor(
        private readonly daemon: Daemon,
        private readonly sessions: Sessions,
        private readonly logs: Logs,
        private readonly times = TIMES,
    ) {}

    createDebugAdapterTracker(session: vscode.DebugSession): vscode.DebugAdapterTracker {
        return {
            onWillReceiveMessage: (message: { command?: string; arguments?: { terminateDebuggee?: boolean } }) => {
                if (message.command === "disconnect" && message.arguments?.terminateDebuggee === false) {
                    this.left.add(session.id);
                }
            },
        };
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
        if (this.left.delete(session.id)) {
            this.sessions.release(plan);
        } else {
            const over = this.sessions.ofPlan(plan).map((one) => one.session);
            this.after(this.times.grace, () => this.end(over));
        }
        this.after(this.times.restart, async () => {
            if (this.running.get(plan)?.size === 0 && this.sessions.ofPlan(plan).length === 0) {
                this.running.delete(plan);
                this.sessions.forget(plan);
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

    private after(time: number, act: () => Promise<void>): void {
        const timer = setTimeout(() => {
            this.timers.delete(timer);
            act().catch((error: unknown) => this.logs.add("daemon", problemOf(error).message));
        }, time);
        this.timers.add(timer);
    }

    dispose(): void {
        this.timers.forEach((timer) => clearTimeout(timer));
    }
}
