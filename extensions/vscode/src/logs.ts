// What happened, a log for each session, shown as a read-only document. Nothing of it is written to a file here.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as vscode from "vscode";

const SCHEME = "mirrord-log";
/** How many sessions, and how many lines of one, are kept. */
const KEPT = { logs: 30, lines: 2000 };
/** How much of the session host's own log is shown, in characters. */
const HOST_LOG = 64 * 1024;

interface Log {
    lines: string[];
    /** The session's folder, where its host writes a log of its own. */
    folder?: string;
}

export class Logs implements vscode.TextDocumentContentProvider, vscode.Disposable {
    private readonly logs = new Map<string, Log>();
    private readonly changed = new vscode.EventEmitter<vscode.Uri>();
    readonly onDidChange = this.changed.event;
    private readonly registration = vscode.workspace.registerTextDocumentContentProvider(SCHEME, this);

    /** `channel` is asked for when there is something to say: making one costs a file. */
    constructor(private readonly channel: () => vscode.LogOutputChannel) {}

    /** Adds a line (or several) to a log, and to the output channel. */
    add(name: string, text: string, at = Date.now()): void {
        const log = this.of(name);
        log.lines.push(`${new Date(at).toISOString().slice(11, 23)}  ${text}`);
        log.lines.splice(0, log.lines.length - KEPT.lines);
        this.channel().info(`${name}: ${text}`);
        this.changed.fire(uriOf(name));
    }

    /** Says where the session host writes its own log. */
    folder(name: string, folder: string): void {
        this.of(name).folder = folder;
    }

    /** A log under another name: of a run once its session has one. */
    rename(from: string, to: string): void {
        const log = this.logs.get(from);
        if (log) {
            this.logs.delete(from);
            this.logs.set(to, log);
        }
    }

    async show(name: string): Promise<void> {
        await vscode.window.showTextDocument(uriOf(name), { preview: true });
    }

    async provideTextDocumentContent(uri: vscode.Uri): Promise<string> {
        const log = this.logs.get(nameOf(uri));
        if (!log) {
            return "This log is not kept any more.\n";
        }
        const host = log.folder ? await tail(join(log.folder, "host.log")) : "";
        return log.lines.join("\n") + "\n" + (host && `\n--- the session host's log\n${host}`);
    }

    private of(name: string): Log {
        let log = this.logs.get(name);
        if (!log) {
            log = { lines: [] };
            this.logs.set(name, log);
            for (const oldest of [...this.logs.keys()].slice(0, -KEPT.logs)) {
                this.logs.delete(oldest);
            }
        }
        return log;
    }

    dispose(): void {
        this.registration.dispose();
        this.changed.dispose();
    }
}

function uriOf(name: string): vscode.Uri {
    return vscode.Uri.from({ scheme: SCHEME, path: `/${name}.log` });
}

function nameOf(uri: vscode.Uri): string {
    return uri.path.slice(1, -".log".length);
}

async function tail(file: string): Promise<string> {
    try {
        return (await readFile(file, "utf8")).slice(-HOST_LOG);
    } catch {
        // It goes with the session's folder once the session has ended.
        return "";
    }
}
