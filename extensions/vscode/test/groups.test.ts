import { notStrictEqual, strictEqual } from "node:assert";
import { Groups } from "../src/groups.js";
import { Uri, reset, shown, workspace } from "./vscode.js";

describe("a compound's members", () => {
    let now = 0;
    let groups: Groups;
    beforeEach(() => {
        reset();
        now = 1000;
        groups = new Groups(() => now);
        shown.settings["launch.compounds"] = [{ name: "both", configurations: ["shop", "cart"] }];
    });

    it("form a group when they start within a moment", () => {
        groups.note("shop", "a");
        now += 30;
        groups.note("cart", "a");
        const group = groups.take("shop", "a");
        notStrictEqual(group, undefined);
        strictEqual(groups.take("cart", "a"), group);
    });

    it("form one also when a task of the first takes its time", () => {
        groups.note("shop", "a");
        groups.note("cart", "a");
        const group = groups.take("cart", "a");
        now += 60_000;
        groups.note("other", "a");
        strictEqual(groups.take("shop", "a"), group);
    });

    it("are alone when they start one after the other", () => {
        groups.note("shop", "a");
        now += 5000;
        groups.note("cart", "a");
        strictEqual(groups.take("shop", "a"), undefined);
        strictEqual(groups.take("cart", "a"), undefined);
    });

    it("get another group the next time", () => {
        const pair = () => {
            groups.note("shop", "a");
            groups.note("cart", "a");
            return [groups.take("shop", "a"), groups.take("cart", "a")];
        };
        const first = pair();
        now += 5000;
        const second = pair();
        notStrictEqual(first[0], second[0]);
        strictEqual(second[0], second[1]);
    });

    it("do not wait for one that starts alone later", () => {
        groups.note("shop", "a");
        groups.note("cart", "a");
        groups.take("cart", "a");
        now += 5000;
        groups.note("cart", "a");
        strictEqual(groups.take("cart", "a"), undefined);
    });

    it("are not joined by a configuration that no compound names", () => {
        groups.note("shop", "a");
        groups.note("other", "a");
        strictEqual(groups.take("shop", "a"), undefined);
        strictEqual(groups.take("other", "a"), undefined);
    });

    it("are counted once though the hook sees them as node and as pwa-node", () => {
        groups.note("shop", "a");
        groups.note("shop", "a");
        strictEqual(groups.take("shop", "a"), undefined);
    });

    it("of two folders may have one name", () => {
        workspace.workspaceFolders = [{ uri: Uri.file("/a"), name: "a" }, { uri: Uri.file("/b"), name: "b" }];
        shown.settings["launch.compounds"] = [{ name: "both", configurations: [{ name: "app", folder: "a" }, { name: "app", folder: "b" }] }];
        groups.note("app", "a");
        groups.note("app", "b");
        const group = groups.take("app", "a");
        notStrictEqual(group, undefined);
        strictEqual(groups.take("app", "b"), group);
    });
});
