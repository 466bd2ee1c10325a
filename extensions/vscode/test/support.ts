// What the tests share: a daemon that answers by a script, a memory, and waiting for what is shown.

import type * as vscode from "vscode";
import type { Daemon } from "../src/link.js";
import { Logs } from "../src/logs.js";
import type { EventParams, Methods, News, PlanAnswer, Started, TargetItem, Targets } from "../src/protocol.js";
import { EventEmitter } from "./vscode.js";

type Name = keyof Methods;
type Handler = (params: never, token: vscode.CancellationToken | undefined) => unknown;

/** Answers requests by `on`, and keeps what was asked; a request without an answer fails the test. */
export class FakeDaemon implements Daemon {
    readonly asked: { name: Name; params: Record<string, unknown> }[] = [];
    readonly events = new EventEmitter<EventParams>();
    readonly lost = new EventEmitter<void>();
    readonly onEvent = this.events.event as unknown as Daemon["onEvent"];
    readonly onLost = this.lost.event as unknown as Daemon["onLost"];
    warmed = 0;
    private readonly handlers = new Map<Name, Handler>();
    private readonly listeners = new Map<string, (value: never) => void>();

    on<One extends Name>(name: One, answer: (params: Methods[One]["params"], token: vscode.CancellationToken | undefined) => Methods[One]["answer"] | Promise<Methods[One]["answer"]>): this {
        this.handlers.set(name, answer as Handler);
        return this;
    }

    async request<One extends Name>(name: One, params: Methods[One]["params"], token?: vscode.CancellationToken): Promise<Methods[One]["answer"]> {
        this.asked.push({ name, params: params as Record<string, unknown> });
        const handler = this.handlers.get(name);
        if (!handler) {
            throw new Error(`nobody expected ${name}`);
        }
        return (await handler(params as never, token)) as Methods[One]["answer"];
    }

    async onProgress<T>(token: string, handle: (value: T) => void): Promise<vscode.Disposable> {
        this.listeners.set(token, handle as (value: never) => void);
        return { dispose: () => this.listeners.delete(token) };
    }

    warm(): void {
        this.warmed += 1;
    }

    async targetKinds(): Promise<string[]> {
        return ["deployment", "pod"];
    }

    progress(token: unknown, value: unknown): void {
        this.listeners.get(token as string)?.(value as never);
    }

    names(): Name[] {
        return this.asked.map(({ name }) => name);
    }

    tell(session: string, seq: number, event: News, plan?: string): void {
        this.events.fire({ session, seq, at: 0, missed: 0, event, ...(plan === undefined ? {} : { plan }) });
    }
}

/** An error as the language client raises it. */
export function refusal(data: Record<string, unknown>, code = -32000): Error {
    return Object.assign(new Error(String(data["message"])), { code, data });
}

export function planned(action: PlanAnswer["action"], more: Partial<PlanAnswer> = {}): PlanAnswer {
    return { action, reason: null, configFile: null, target: null, notices: [], patch: null, plan: null, editorStops: false, ...more };
}

export const run = planned("run", { plan: "p1", target: "deployment/shop", patch: { program: "wrapped", env: { A: null } } });

export const ready: Started = {
    session: "abcd1234", folder: "", config: null, mode: "steal", identity: "developer", notices: [], warm: false,
    target: { path: "deployment/shop", instance: "pod/shop-1", container: null, namespace: "shop", context: null },
};

export function item(path: string, more: Partial<TargetItem> = {}): TargetItem {
    return { path, kind: path.split("/")[0] ?? "", namespace: "shop", ready: true, containers: ["app"], ...more };
}

export function listed(items: TargetItem[], more: Partial<Targets> = {}): Targets {
    return { items, complete: true, context: null, namespace: null, ...more };
}

export class Memory implements vscode.Memento {
    constructor(readonly values = new Map<string, unknown>()) {}
    keys(): readonly string[] {
        return [...this.values.keys()];
    }
    get<T>(key: string, otherwise?: T): T {
        return (this.values.has(key) ? this.values.get(key) : otherwise) as T;
    }
    async update(key: string, value: unknown): Promise<void> {
        this.values.set(key, value);
    }
}

export function logs(): Logs & { text(name: string): Promise<string> } {
    const channel = { info: () => undefined } as unknown as vscode.LogOutputChannel;
    const made = new Logs(() => channel) as Logs & { text(name: string): Promise<string> };
    made.text = (name) => made.provideTextDocumentContent({ path: `/${name}.log` } as vscode.Uri);
    return made;
}

/** Waits until `check` gives something true: everything here happens within a few turns of the event loop. */
export async function soon<T>(check: () => T, what: string): Promise<NonNullable<T>> {
    for (const end = Date.now() + 2000; Date.now() < end; ) {
        const got = check();
        if (got) {
            return got;
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`still not: ${what}`);
}
