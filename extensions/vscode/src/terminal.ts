// The terminal in a pod's world: the user's shell, and all that is started in it.

import * as vscode from "vscode";
import type { Launcher } from "./launch.js";

const NAME = "mirrord terminal";

export class Terminals implements vscode.TerminalProfileProvider {
    constructor(private readonly launcher: Launcher) {}

    async provideTerminalProfile(token: vscode.CancellationToken): Promise<vscode.TerminalProfile | undefined> {
        const options = await this.options(token);
        return options && new vscode.TerminalProfile(options);
    }

    /** Opens one outside the terminal menu. */
    async open(): Promise<void> {
        const options = await this.options();
        if (options) {
            vscode.window.createTerminal(options).show();
        }
    }

    /** Opens JavaScript's debug terminal with that shell in it: Node programs that are started there are debugged. */
    async debug(): Promise<void> {
        const options = await this.options();
        if (options) {
            const words = [options.shellPath ?? "", ...(options.shellArgs ?? [])].map((one) => `'${one.replaceAll("'", "'\\''")}'`);
            const [folder] = vscode.workspace.workspaceFolders ?? [];
            await vscode.commands.executeCommand("extension.js-debug.createDebuggerTerminal", `exec ${words.join(" ")}`, folder);
        }
    }

    private async options(token?: vscode.CancellationToken): Promise<(vscode.TerminalOptions & { shellArgs?: string[] }) | undefined> {
        const folder = vscode.workspace.workspaceFolders?.[0];
        const cwd = folder?.uri.fsPath;
        const debug: vscode.DebugConfiguration = {
            type: "mirrord-terminal",
            request: "launch",
            name: NAME,
            mirrord: true,
            program: vscode.env.shell || process.env["SHELL"] || "/bin/sh",
            args: [],
            ...(cwd === undefined ? {} : { cwd }),
        };
        const prepared = await this.launcher.prepare(folder, debug, undefined, token);
        if (prepared === "off" || prepared === "stop") {
            return undefined;
        }
        const { program, args, env } = prepared.patch as { program?: string; args?: string[]; env?: Record<string, string> };
        return {
            name: NAME,
            iconPath: new vscode.ThemeIcon("debug-alt"),
            shellPath: program ?? "mirrord-ide",
            shellArgs: args ?? [],
            ...(cwd === undefined ? {} : { cwd }),
            ...(env === undefined ? {} : { env }),
        };
    }
}
