// The target picker: targets appear as the cluster names them. Escape takes the run back.

import * as vscode from "vscode";
import type { Daemon } from "./link.js";
import { isCancelled, problemOf, sentence } from "./problem.js";
import type { ConfigSource, TargetBatch, TargetItem } from "./protocol.js";

/** What the user chose. */
export interface Pick {
    /** As a config names it, with a container where one was chosen. */
    target: string;
    /** Another namespace than the config's. */
    namespace?: string;
}

/** New items are drawn at most this often, in milliseconds: a big cluster names thousands. */
const REDRAW = 100;
const RECENT = { key: "mirrord.recentTargets", kept: 5 };

interface Row extends vscode.QuickPickItem {
    item?: TargetItem;
}

const CONTAINERS: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("list-selection"), tooltip: "Choose a container" };
const NAMESPACE: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("symbol-namespace"), tooltip: "Another namespace" };
const AGAIN: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("refresh"), tooltip: "List again" };

export class Picker {
    private tokens = 0;

    constructor(
        private readonly daemon: Daemon,
        private readonly memory: vscode.Memento,
    ) {}

    /** Asks for a target; nothing when the user took the run back. */
    async pick(config: ConfigSource, title: string, token?: vscode.CancellationToken): Promise<Pick | undefined> {
        let namespace = config.overrides?.namespace ?? undefined;
        for (;;) {
            const asked = namespace === undefined ? config : { ...config, overrides: { ...config.overrides, namespace } };
            const chosen = await this.target(asked, title, token);
            if (chosen === "namespace") {
                namespace = (await this.namespace(asked, token)) ?? namespace;
                continue;
            }
            if (!chosen) {
                return undefined;
            }
            let target = chosen.item.path;
            if (chosen.containers) {
                const container = await this.container(chosen.item, token);
                if (!container) {
                    continue;
                }
                target += `/container/${container}`;
            }
            await this.remember(target, chosen.item.namespace);
            return { target, ...(namespace === undefined ? {} : { namespace }) };
        }
    }

    private async target(config: ConfigSource, title: string, token?: vscode.CancellationToken): Promise<{ item: TargetItem; containers: boolean } | "namespace" | undefined> {
        const list = vscode.window.createQuickPick<Row>();
        const ends: vscode.Disposable[] = [list];
        const source = new vscode.CancellationTokenSource();
        ends.push(source);
        try {
            list.title = title;
            list.placeholder = "Which target is the program to act as?";
            list.matchOnDescription = true;
            list.keepScrollPosition = true;
            list.buttons = [NAMESPACE, AGAIN];
            list.ignoreFocusOut = true;
            const listing = this.list(config, list, title, source.token);
            ends.push(listing);
            list.show();
            return await new Promise((resolve) => {
                ends.push(
                    list.onDidAccept(() => {
                        const item = list.selectedItems[0]?.item;
                        if (item) {
                            resolve({ item, containers: false });
                        }
                    }),
                    list.onDidTriggerItemButton(({ item: row }) => row.item && resolve({ item: row.item, containers: true })),
                    list.onDidTriggerButton((button) => (button === NAMESPACE ? resolve("namespace") : listing.again())),
                    list.onDidHide(() => resolve(undefined)),
                );
                const taken = token?.onCancellationRequested(() => resolve(undefined));
                if (taken) {
                    ends.push(taken);
                }
            });
        } finally {
            source.cancel();
            ends.forEach((end) => void end.dispose());
        }
    }

    /** Fills `list` from the daemon, batch after batch; what the user has typed and marked stays. */
    private list(config: ConfigSource, list: vscode.QuickPick<Row>, title: string, token: vscode.CancellationToken): vscode.Disposable & { again(): void } {
        let items: TargetItem[] = [];
        let timer: NodeJS.Timeout | undefined;
        let round = 0;
        let kinds: string[] = [];
        const draw = () => {
            timer = undefined;
            const marked = list.activeItems[0]?.item?.path;
            list.items = this.rows(items, kinds);
            const again = marked && list.items.find((row) => row.item?.path === marked);
            if (again) {
                list.activeItems = [again];
            }
        };
        const add = (more: TargetItem[]) => {
            items.push(...more);
            timer ??= setTimeout(draw, items.length === more.length ? 0 : REDRAW);
        };
        const run = async () => {
            const mine = ++round;
            const progressToken = `mirrord-targets-${++this.tokens}`;
            items = [];
            list.busy = true;
            kinds = await this.daemon.targetKinds();
            const progress = await this.daemon.onProgress<TargetBatch>(progressToken, (batch) => mine === round && add(batch.items));
            try {
                const answer = await this.daemon.request("target/list", { config, partialResultToken: progressToken }, token);
                if (mine !== round || token.isCancellationRequested) {
                    return;
                }
                add(answer.items);
                list.title = `${title} · namespace ${answer.namespace ?? "default"}${answer.context ? ` · ${answer.context}` : ""}`;
                if (items.length === 0) {
                    list.items = [{ label: "$(info) Nothing here can be a target", detail: answer.missing?.join("; ") || "Choose another namespace above.", alwaysShow: true }];
                    clearTimeout(timer);
                } else if (answer.missing?.length) {
                    list.placeholder = `Not listed: ${answer.missing.join("; ")}`;
                }
            } finally {
                progress.dispose();
                if (mine === round) {
                    list.busy = false;
                }
            }
        };
        const start = () => {
            run().catch((error: unknown) => {
                if (!isCancelled(error) && !token.isCancellationRequested) {
                    const problem = problemOf(error);
                    list.busy = false;
                    list.items = [{ label: `$(error) ${sentence(problem.message)}`, detail: sentence(problem.help || "See the log"), alwaysShow: true }];
                }
            });
        };
        start();
        return { again: start, dispose: () => clearTimeout(timer) };
    }

    /** The rows: what was used lately first, then each kind under its name in the daemon's order, ready ones first. */
    private rows(items: TargetItem[], kinds: string[]): Row[] {
        const recent = this.recent();
        const lately = recent.flatMap((one) => items.filter((item) => `${item.namespace ?? ""}/${item.path}` === one));
        const rows: Row[] = [];
        const section = (label: string, of: TargetItem[]) => {
            if (of.length > 0) {
                rows.push({ label, kind: vscode.QuickPickItemKind.Separator }, ...of.map(rowOf));
            }
        };
        section("used lately", lately);
        for (const kind of new Set([...kinds, ...items.map((item) => item.kind)])) {
            const own = items.filter((item) => item.kind === kind && !lately.includes(item));
            section(kind, [...own.filter((item) => item.ready), ...own.filter((item) => !item.ready)]);
        }
        return rows;
    }

    private async container(item: TargetItem, token?: vscode.CancellationToken): Promise<string | undefined> {
        return vscode.window.showQuickPick(item.containers, { title: item.path, placeHolder: "Which container of it?" }, token);
    }

    /** Asks for a namespace; where they may not be listed, for its name. */
    private async namespace(config: ConfigSource, token?: vscode.CancellationToken): Promise<string | undefined> {
        try {
            const listed = this.daemon.request("namespace/list", { config }, token).then(({ namespaces }) => namespaces);
            // Unhandled only while nobody waits: showQuickPick does not report that its list failed.
            const names = await listed;
            return await vscode.window.showQuickPick(names, { title: "Namespace", placeHolder: "Whose targets are to be listed?" }, token);
        } catch (error) {
            if (isCancelled(error)) {
                return undefined;
            }
            const prompt = `${sentence(problemOf(error).message)} Type the namespace's name.`;
            const typed = await vscode.window.showInputBox({ title: "Namespace", prompt }, token);
            return typed?.trim() || undefined;
        }
    }

    private recent(): string[] {
        return this.memory.get<string[]>(RECENT.key, []);
    }

    private async remember(target: string, namespace: string | null): Promise<void> {
        const one = `${namespace ?? ""}/${target.replace(/\/container\/[^/]+$/u, "")}`;
        await this.memory.update(RECENT.key, [one, ...this.recent().filter((other) => other !== one)].slice(0, RECENT.kept));
    }
}

function rowOf(item: TargetItem): Row {
    const several = item.containers.length > 1;
    const about = [...(item.ready ? [] : [`$(warning) ${item.reason ?? "not ready"}`]), ...(several ? [item.containers.join(", ")] : [])];
    const users = item.inUseBy ?? [];
    return {
        item,
        label: item.path,
        description: about.join(" · "),
        ...(users.length > 0 ? { detail: `$(person) in use by ${users.join(", ")}` } : {}),
        ...(several ? { buttons: [CONTAINERS] } : {}),
    };
}
