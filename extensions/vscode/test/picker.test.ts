import { deepStrictEqual, match, strictEqual } from "node:assert";
import { Picker } from "../src/picker.js";
import type { TargetQuery } from "../src/protocol.js";
import { FakeDaemon, Memory, item, listed, refusal, soon } from "./support.js";
import { QuickPickItemKind, reset, shown, type QuickPick } from "./vscode.js";

describe("the picker", () => {
    let daemon: FakeDaemon;
    let memory: Memory;
    const config = { folder: "/work" };
    const listing = (n = 0): Promise<QuickPick> => soon(() => (shown.picks[n]?.items.length ? shown.picks[n] : undefined), "the picker lists");
    const targets = (list: QuickPick) => list.items.filter((row) => row.kind !== QuickPickItemKind.Separator).map((row) => row.label);
    beforeEach(() => {
        reset();
        daemon = new FakeDaemon();
        memory = new Memory();
    });

    it("shows the targets as they come, and is busy until all are there", async () => {
        let done: (() => void) | undefined;
        let token: unknown;
        daemon.on("target/list", ({ partialResultToken }: TargetQuery) => {
            token = partialResultToken;
            return new Promise((resolve) => (done = () => resolve({ items: [], complete: true, namespace: "shop", context: "prod" })));
        });
        void new Picker(daemon, memory).pick(config, "app");
        await soon(() => done, "the request");
        const list = shown.picks[0] as QuickPick;
        strictEqual(list.busy, true);
        daemon.progress(token, { items: [item("deployment/shop")] });
        await soon(() => targets(list).length === 1, "the first batch is drawn");
        daemon.progress(token, { items: [item("pod/shop-1")] });
        await soon(() => targets(list).length === 2, "the second batch is drawn");
        done?.();
        await soon(() => !list.busy, "no longer busy");
        match(list.title, /app · namespace shop · prod/u);
    });

    it("keeps what is marked while more comes", async () => {
        let token: unknown;
        daemon.on("target/list", ({ partialResultToken }) => ((token = partialResultToken), new Promise(() => undefined)));
        void new Picker(daemon, memory).pick(config, "app");
        await soon(() => token, "the request");
        const list = shown.picks[0] as QuickPick;
        daemon.progress(token, { items: [item("deployment/a"), item("deployment/b")] });
        await soon(() => targets(list).length === 2, "drawn");
        list.activeItems = list.items.filter((row) => row.label === "deployment/b");
        daemon.progress(token, { items: [item("deployment/c")] });
        await soon(() => targets(list).length === 3, "drawn again");
        deepStrictEqual(list.activeItems.map((row) => row.label), ["deployment/b"]);
    });

    it("draws thousands in few strokes", async () => {
        let token: unknown;
        let strokes = 0;
        daemon.on("target/list", ({ partialResultToken }) => ((token = partialResultToken), new Promise(() => undefined)));
        void new Picker(daemon, memory).pick(config, "app");
        await soon(() => token, "the request");
        const list = shown.picks[0] as QuickPick;
        let items = list.items;
        Object.defineProperty(list, "items", { get: () => items, set: (value: typeof items) => ((strokes += 1), (items = value)) });
        for (let n = 0; n < 50; n++) {
            daemon.progress(token, { items: Array.from({ length: 100 }, (_, m) => item(`pod/p-${n}-${m}`)) });
        }
        await soon(() => targets(list).length === 5000, "all are drawn");
        strictEqual(strokes <= 3, true, `drawn ${strokes} times`);
    });

    it("says of each what is not ready, which containers it has, and who is on it", async () => {
        daemon.on("target/list", () => listed([
            item("deployment/down", { ready: false, reason: "0 of 1 ready" }),
            item("deployment/up", { containers: ["app", "log"], inUseBy: ["abcd1234"] }),
        ]));
        void new Picker(daemon, memory).pick(config, "app");
        const list = await listing();
        deepStrictEqual(targets(list), ["deployment/up", "deployment/down"]);
        const row = (label: string) => list.items.find((one) => one.label === label);
        match(row("deployment/down")?.description ?? "", /0 of 1 ready/u);
        match(row("deployment/up")?.description ?? "", /app, log/u);
        match(row("deployment/up")?.detail ?? "", /in use by abcd1234/u);
    });

    it("puts what was used lately first", async () => {
        daemon.on("target/list", () => listed([item("deployment/a"), item("deployment/b")]));
        const picking = new Picker(daemon, memory).pick(config, "app");
        (await listing()).accept("deployment/b");
        deepStrictEqual(await picking, { target: "deployment/b" });
        void new Picker(daemon, memory).pick(config, "app");
        deepStrictEqual((await listing(1)).labels, ["used lately", "deployment/b", "deployment", "deployment/a"]);
    });

    it("has the kinds in the daemon's order, whichever came first", async () => {
        daemon.on("target/list", () => listed([item("service/s"), item("pod/p"), item("deployment/d")]));
        void new Picker(daemon, memory).pick(config, "app");
        deepStrictEqual((await listing()).labels, ["deployment", "deployment/d", "pod", "pod/p", "service", "service/s"]);
    });

    it("lets a container be chosen", async () => {
        daemon.on("target/list", () => listed([item("pod/shop-1", { containers: ["app", "log"] })]));
        shown.answers.push("log");
        const picking = new Picker(daemon, memory).pick(config, "app");
        (await listing()).itemButton("pod/shop-1");
        deepStrictEqual(await picking, { target: "pod/shop-1/container/log" });
        deepStrictEqual(shown.asked, [["app", "log"]]);
    });

    it("lists another namespace's targets, and hands it on with the pick", async () => {
        daemon
            .on("target/list", ({ config: asked }) => listed([item(`deployment/of-${asked?.overrides?.namespace ?? "default"}`)]))
            .on("namespace/list", () => ({ namespaces: ["default", "prod"], current: "default" }));
        shown.answers.push("prod");
        const picking = new Picker(daemon, memory).pick(config, "app");
        (await listing()).button("Another namespace");
        (await listing(1)).accept("deployment/of-prod");
        deepStrictEqual(await picking, { target: "deployment/of-prod", namespace: "prod" });
    });

    it("lets the namespace be typed where they may not be listed", async () => {
        daemon
            .on("target/list", () => listed([item("deployment/a")]))
            .on("namespace/list", () => {
                throw refusal({ kind: "forbidden", message: "you may not list namespaces", help: "" });
            });
        shown.answers.push(" prod ");
        const picking = new Picker(daemon, memory).pick(config, "app");
        (await listing()).button("Another namespace");
        (await listing(1)).accept("deployment/a");
        deepStrictEqual(await picking, { target: "deployment/a", namespace: "prod" });
        match(JSON.stringify(shown.asked[0]), /may not list namespaces/u);
    });

    it("says in its place why nothing can be listed", async () => {
        daemon.on("target/list", () => {
            throw refusal({ kind: "unreachable", message: "the cluster does not answer", help: "check your VPN" });
        });
        void new Picker(daemon, memory).pick(config, "app");
        const list = await listing();
        match(list.items[0]?.label ?? "", /The cluster does not answer\./u);
        strictEqual(list.items[0]?.detail, "Check your VPN.");
        list.accept(list.items[0]?.label ?? "");
        strictEqual(list.visible, true);
    });

    it("says that nothing is there", async () => {
        daemon.on("target/list", () => listed([], { complete: false, missing: ["pod: you may not list pods"] }));
        void new Picker(daemon, memory).pick(config, "app");
        const list = await listing();
        match(list.items[0]?.detail ?? "", /may not list pods/u);
    });

    it("takes its request back when it is closed", async () => {
        let taken = false;
        daemon.on("target/list", (_, token) => {
            token?.onCancellationRequested(() => (taken = true));
            return new Promise(() => undefined);
        });
        const picking = new Picker(daemon, memory).pick(config, "app");
        await soon(() => daemon.asked.length, "the request");
        shown.picks[0]?.hide();
        strictEqual(await picking, undefined);
        strictEqual(taken, true);
    });
});
