// The status item of what runs now: target, state, connections, warnings; a click lists all sessions of the user.

import * as vscode from "vscode";
import type { Daemon } from "./link.js";
import type { Logs } from "./logs.js";
import { tell } from "./problem.js";
import type { SessionInfo } from "./protocol.js";
import type { Live, Sessions } from "./sessions.js";

export class Status implements vscode.Disposable {
    private readonly item = vscode.window.createStatusBarItem("mirrord.sessions", vscode.StatusBarAlignment.Left, 0);
    private readonly change: vscode.Disposable;

    constructor(private readonly sessions: Sessions) {
        this.item.name = "mirrord sessions";
        this.item.command = "mirrord.sessions";
        this.change = sessions.onDidChange(() => this.draw());
        this.draw();
    }

    private draw(): void {
        const all = this.sessions.all;
        const first = all[0];
        if (!first) {
            this.item.hide();
            return;
        }
        const connections = all.reduce((sum, one) => sum + one.connections, 0);
        const warnings = all.reduce((sum, one) => sum + one.warnings.size, 0);
        const others = all.length > 1 ? ` +${all.length - 1}` : "";
        const warned = warnings > 0 ? ` $(warning) ${warnings}` : "";
        const worst = all.find((one) => one.agent === "lost") ?? all.find((one) => one.agent === "reconnecting");
        this.item.text = `${worst ? "$(debug-disconnect)" : "$(plug)"} ${first.target}${others}: ${stateOf(worst ?? first)} $(arrow-down) ${connections}${warned}`;
        this.item.backgroundColor = worst?.agent === "lost" ? new vscode.ThemeColor("statusBarItem.errorBackground") : warnings > 0 ? new vscode.ThemeColor("statusBarItem.warningBackground") : undefined;
        this.item.tooltip = tooltip(all);
        this.item.show();
    }

    dispose(): void {
        this.change.dispose();
        this.item.dispose();
    }
}

function stateOf(one: Live): string {
    return one.agent === "lost" ? "agent lost" : one.agent === "reconnecting" ? "reconnecting" : one.state;
}

function tooltip(all: Live[]): vscode.MarkdownString {
    const text = new vscode.MarkdownString("", true);
    for (const one of all) {
        text.appendMarkdown("**").appendText(one.name).appendMarkdown("** as ").appendText(one.target);
        text.appendText(one.namespace ? ` in ${one.namespace}` : "").appendMarkdown(`: ${stateOf(one)}  \n`);
        for (const port of one.ports.values()) {
            text.appendMarkdown(`port ${port.pod_port} → ${port.local_port}: ${port.mode}  \n`);
        }
        text.appendMarkdown(`${one.connections} connections reached the program  \n`);
        for (const warning of one.warnings.values()) {
            text.appendMarkdown("$(warning) ").appendText(warning).appendMarkdown("  \n");
        }
    }
    return text;
}

interface Row extends vscode.QuickPickItem {
    session?: string;
}

const STOP: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("debug-stop"), tooltip: "End this session" };
const LOG: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("output"), tooltip: "Show its log" };

/** Lists the sessions of all windows and terminals of this user; each can be ended, those of this window have a log. */
export async function showSessions(daemon: Daemon, sessions: Sessions, logs: Logs): Promise<void> {
    const list = vscode.window.createQuickPick<Row>();
    list.title = "Sessions of all windows and terminals";
    list.placeholder = "Enter shows a session's log";
    list.busy = true;
    list.onDidHide(() => list.dispose());
    const fill = async () => {
        const own = new Map(sessions.all.map((one) => [one.session, one]));
        const { sessions: listed } = await daemon.request("session/list", {});
        list.items = listed.length > 0 ? listed.map((info) => rowOf(info, own.get(info.session))) : [{ label: "Nothing runs in a pod's world now" }];
        list.busy = false;
    };
    list.onDidAccept(() => {
        const chosen = list.selectedItems[0]?.session;
        list.hide();
        if (chosen) {
            void logs.show(chosen);
        }
    });
    list.onDidTriggerItemButton(async ({ item, button }) => {
        if (!item.session) {
            return;
        }
        try {
            if (button === STOP) {
                list.busy = true;
                await sessions.stop(item.session);
                await fill();
            } else {
                list.hide();
                await logs.show(item.session);
            }
        } catch (error) {
            void tell(error, logs, item.session);
        }
    });
    list.show();
    try {
        await fill();
    } catch (error) {
        list.hide();
        void tell(error, logs, "daemon");
    }
}

function rowOf(info: SessionInfo, own: Live | undefined): Row {
    const namespace = info.target.namespace ? ` in ${info.target.namespace}` : "";
    return {
        session: info.session,
        label: `${own ? "$(window)" : "$(multiple-windows)"} ${info.target.path}${namespace}`,
        description: `${info.state}${own ? "" : " · not of this window"}`,
        detail: own?.name ?? info.command.join(" "),
        buttons: own ? [LOG, STOP] : [STOP],
    };
}
