// The one connection of this window, made when it is first needed and made anew after it broke.

import * as vscode from "vscode";
import type { Connection, Place } from "./daemon.js";
import { ensure } from "./ensure.js";
import type { EventParams, Methods } from "./protocol.js";

/** What the rest of the extension knows of the daemon. */
export interface Daemon {
    /** Connects ahead of the first request, which then waits for nothing; why that failed is told to the request. */
    warm(): void;
    request<Name extends keyof Methods>(name: Name, params: Methods[Name]["params"], token?: vscode.CancellationToken): Promise<Methods[Name]["answer"]>;
    /** Has `handle` told what is reported under `progressToken`; the connection must have been used before. */
    onProgress<T>(progressToken: string, handle: (value: T) => void): Promise<vscode.Disposable>;
    /** The kinds of targets that the daemon knows, in its order. */
    targetKinds(): Promise<string[]>;
    readonly onEvent: vscode.Event<EventParams>;
    /** The connection is gone: the daemon ended, or was killed. */
    readonly onLost: vscode.Event<void>;
}

export class Link implements Daemon, vscode.Disposable {
    private connection: Promise<Connection> | undefined;
    private closing = false;
    private readonly events = new vscode.EventEmitter<EventParams>();
    private readonly lost = new vscode.EventEmitter<void>();
    readonly onEvent = this.events.event;
    readonly onLost = this.lost.event;

    /** `binary` is the `mirrord-ide` program. */
    constructor(private readonly place: () => Place & { binary: string }) {}

    warm(): void {
        this.connected().catch(() => undefined);
    }

    async request<Name extends keyof Methods>(name: Name, params: Methods[Name]["params"], token?: vscode.CancellationToken): Promise<Methods[Name]["answer"]> {
        return (await this.connected()).request(name, params, token);
    }

    async onProgress<T>(progressToken: string, handle: (value: T) => void): Promise<vscode.Disposable> {
        return (await this.connected()).onProgress(progressToken, handle);
    }

    async targetKinds(): Promise<string[]> {
        return (await this.connected()).targetKinds;
    }

    /** The connection; connects when there is none. */
    connected(): Promise<Connection> {
        this.connection ??= this.open();
        return this.connection;
    }

    private async open(): Promise<Connection> {
        let gone = false;
        const forget = () => {
            gone = true;
            this.connection = undefined;
        };
        try {
            const place = this.place();
            // The client is read while the daemon starts.
            const [{ Connection }, discovery] = await Promise.all([import("./daemon.js"), ensure(place.binary)]);
            return await Connection.open(
                discovery,
                place,
                () => {
                    if (!gone) {
                        forget();
                        if (!this.closing) {
                            this.lost.fire();
                        }
                    }
                },
                (params) => this.events.fire(params),
            );
        } catch (error) {
            forget();
            throw error;
        }
    }

    /** Says goodbye, so that the daemon need not find out. */
    async close(): Promise<void> {
        this.closing = true;
        await (await this.connection)?.close();
    }

    dispose(): void {
        this.events.dispose();
        this.lost.dispose();
    }
}
