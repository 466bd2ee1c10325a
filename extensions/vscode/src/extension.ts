// Wires the parts together. Everything here runs at the editor's start, so it only makes objects: the daemon is asked,
// and its client loaded, when there is something to ask.

import * as vscode from "vscode";
import { Groups } from "./groups.js";
import { Launcher, isAsked } from "./launch.js";
import { Link } from "./link.js";
import { Logs } from "./logs.js";
import { Picker } from "./picker.js";
import { tell } from "./problem.js";
import { Presets } from "./presets.js";
import { Debuggees, PLAN } from "./reattach.js";
import { Runs } from "./runs.js";
import { Sessions } from "./sessions.js";
import { Status, showSessions } from "./status.js";
import { Terminals } from "./terminal.js";
import { Toggle } from "./toggle.js";

let link: Link | undefined;

export function activate(context: vscode.ExtensionContext): void {
    let made: vscode.LogOutputChannel | undefined;
    const channel = () => (made ??= vscode.window.createOutputChannel("mirrord", { log: true }));
    const version = String((context.extension.packageJSON as { version?: string }).version);
    link = new Link(() => ({ binary: binary(context), version, channel: channel() }));
    const daemon = link;
    const logs = new Logs(channel);
    const toggle = new Toggle(context.workspaceState);
    const sessions = new Sessions(link, context.workspaceState, logs);
    const picker = new Picker(link, context.workspaceState);
    const debuggees = new Debuggees(context.workspaceState);
    const launcher = new Launcher(link, toggle, picker, new Groups(), sessions, debuggees, logs);
    const terminals = new Terminals(launcher);
    const runs = new Runs(link, sessions, debuggees, logs);
    context.subscriptions.push(
        link, logs, toggle, sessions, new Status(sessions), runs,
        { dispose: () => made?.dispose() },
        vscode.commands.registerCommand("mirrord.toggle", async () => ((await toggle.flip()) ? daemon.warm() : undefined)),
        vscode.commands.registerCommand("mirrord.debug", () => launcher.debug()),
        vscode.commands.registerCommand("mirrord.sessions", () => showSessions(daemon, sessions, logs)),
        vscode.commands.registerCommand("mirrord.terminal", () => terminals.open()),
        vscode.commands.registerCommand("mirrord.debugTerminal", () => terminals.debug()),
        vscode.commands.registerCommand("mirrord.log", () => channel().show()),
        vscode.debug.registerDebugConfigurationProvider("*", launcher),
        vscode.debug.registerDebugConfigurationProvider("mirrord", new Presets()),
        vscode.debug.registerDebugAdapterTrackerFactory("*", runs),
        vscode.debug.onDidStartDebugSession((session) => runs.started(session, session.configuration[PLAN])),
        vscode.debug.onDidTerminateDebugSession((session) => runs.ended(session, session.configuration[PLAN])),
        vscode.window.registerTerminalProfileProvider("mirrord.terminal", terminals),
        vscode.workspace.onDidChangeConfiguration((event) => event.affectsConfiguration("mirrord") && toggle.draw()),
    );
    if (sessions.hasPast) {
        sessions.resume(debuggees).catch((error: unknown) => void tell(error, logs, "daemon"));
    } else {
        // Not before the editor is up. A daemon is all that this starts; nothing happens in a cluster before F5.
        setTimeout(() => (toggle.enabled || isAsked()) && daemon.warm(), 0);
    }
}

export async function deactivate(): Promise<void> {
    await link?.close();
}

/** The program that came with this extension, unless another one is set. */
function binary(context: vscode.ExtensionContext): string {
    return vscode.workspace.getConfiguration("mirrord").get<string>("binary") || context.asAbsolutePath("bin/mirrord-ide");
}
