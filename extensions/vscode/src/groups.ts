// Compounds: VS Code does not tell which compound started a configuration, but it resolves all members at once. Those
// that come within a moment and are named by one compound form a group, which shares one pick and one agent.

import * as vscode from "vscode";

/** Members of a compound reach the first hook within some 30 ms. */
const MOMENT = 400;

interface Seen {
    name: string;
    folder: string | undefined;
    at: number;
    group: string | undefined;
}

interface Member {
    name: string;
    /** The name of the workspace folder, where there are several. */
    folder: string | undefined;
}

export class Groups {
    private seen: Seen[] = [];
    private count = 0;

    constructor(private readonly now = () => Date.now()) {}

    /** A configuration reached the first hook. */
    note(name: string, folder: string | undefined): void {
        const at = this.now();
        // It may have been here before, as another type: node comes again as pwa-node.
        const mine = this.find(name, folder);
        this.seen = this.seen.filter((one) => one !== mine && (at - one.at < MOMENT || one.group));
        const fresh: Seen = { name, folder, at, group: undefined };
        for (const members of compounds()) {
            const together = this.seen.find((one) => at - one.at < MOMENT && members.some((member) => fits(member, one)));
            if (together && members.some((member) => fits(member, fresh))) {
                together.group ??= `compound-${++this.count}`;
                fresh.group = together.group;
                break;
            }
        }
        this.seen.push(fresh);
    }

    /** The group that a configuration belongs to; asked once, in the last hook. */
    take(name: string, folder: string | undefined): string | undefined {
        const found = this.find(name, folder);
        this.seen = this.seen.filter((one) => one !== found);
        return found?.group;
    }

    private find(name: string, folder: string | undefined): Seen | undefined {
        return this.seen.find((one) => one.name === name && one.folder === folder);
    }
}

function fits(member: Member, seen: Seen): boolean {
    return member.name === seen.name && (member.folder === undefined || member.folder === seen.folder);
}

/** The members of each compound in all of the workspace's launch configurations. */
function compounds(): Member[][] {
    const scopes = [null, ...(vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri)];
    return scopes.flatMap((scope) => {
        const listed = vscode.workspace.getConfiguration("launch", scope).get<unknown>("compounds");
        return Array.isArray(listed) ? listed.map(members) : [];
    });
}

function members(compound: { configurations?: unknown } | undefined): Member[] {
    const listed: unknown[] = Array.isArray(compound?.configurations) ? compound.configurations : [];
    return listed.flatMap((one): Member[] => {
        if (typeof one === "string") {
            return [{ name: one, folder: undefined }];
        }
        const { name, folder } = (one ?? {}) as Partial<Member>;
        return name === undefined ? [] : [{ name, folder }];
    });
}
