// The connection to the daemon: LSP framing on its Unix socket. A bundle of its own, loaded at the first use, so that
// the extension's activation does not wait for the language client to be read.

import { connect, type Socket } from "node:net";
import type * as vscode from "vscode";
import {
    CloseAction,
    ErrorAction,
    LanguageClient,
    NotificationType,
    ProgressType,
    RevealOutputChannelOn,
    State,
    type LanguageClientOptions,
    type StreamInfo,
} from "vscode-languageclient/node";
import type { ClientOptions, DaemonOptions, Discovery, Methods, Notices } from "./protocol.js";

/** The protocols that this extension speaks. */
const PROTOCOL = { min: 1, max: 1 };

/** What a connection is made with. */
export interface Place {
    /** This extension's version. */
    version: string;
    channel: vscode.LogOutputChannel;
}

/** One connection; ended once it has been closed by either side. */
export class Connection {
    private constructor(private readonly client: LanguageClient) {}

    /** Connects to the daemon found. */
    static async open(discovery: Discovery, place: Place, onClosed: () => void, onEvent: (params: Notices["session/event"]["params"]) => void): Promise<Connection> {
        const initializationOptions: ClientOptions = { client: "vscode", clientVersion: place.version, editor: true, protocol: PROTOCOL };
        const options: LanguageClientOptions = {
            documentSelector: [],
            initializationOptions,
            outputChannel: place.channel,
            traceOutputChannel: place.channel,
            revealOutputChannelOn: RevealOutputChannelOn.Never,
            initializationFailedHandler: () => false,
            // Whoever asks next connects anew; the language client's own restarts would keep a daemon from ending.
            errorHandler: {
                error: () => ({ action: ErrorAction.Shutdown, handled: true }),
                closed: () => ({ action: CloseAction.DoNotRestart, handled: true }),
            },
        };
        const client = new LanguageClient("mirrord", "mirrord", () => dial(discovery.socket), options);
        client.onNotification(new NotificationType<Notices["session/event"]["params"]>("session/event"), onEvent);
        client.onDidChangeState(({ newState }) => {
            if (newState === State.Stopped) {
                onClosed();
            }
        });
        await client.start();
        return new Connection(client);
    }

    request<Name extends keyof Methods>(name: Name, params: Methods[Name]["params"], token?: vscode.CancellationToken): Promise<Methods[Name]["answer"]> {
        // An absent token given as an argument would be taken for a second parameter.
        return token ? this.client.sendRequest(name, params, token) : this.client.sendRequest(name, params);
    }

    /** The kinds of targets that the daemon knows, in its order. */
    get targetKinds(): string[] {
        const experimental = this.client.initializeResult?.capabilities.experimental as { ide?: Partial<DaemonOptions> } | undefined;
        return experimental?.ide?.targetKinds ?? [];
    }

    /** Has `handle` told what is reported under `progressToken`. */
    onProgress<T>(progressToken: string, handle: (value: T) => void): vscode.Disposable {
        return this.client.onProgress(new ProgressType<T>(), progressToken, handle);
    }

    /** Says goodbye; the daemon keeps what runs. */
    async close(): Promise<void> {
        if (this.client.isRunning()) {
            await this.client.stop(1000);
        }
    }
}

function dial(path: string): Promise<StreamInfo> {
    return new Promise((resolve, reject) => {
        const socket: Socket = connect(path);
        socket.once("error", reject);
        socket.once("connect", () => {
            socket.off("error", reject);
            resolve({ reader: socket, writer: socket });
        });
    });
}
