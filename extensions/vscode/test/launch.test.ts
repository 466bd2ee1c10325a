import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import type * as vscode from "vscode";
import { Groups } from "../src/groups.js";
import { Launcher, isAsked } from "../src/launch.js";
import { Picker } from "../src/picker.js";
import { Debuggees } from "../src/reattach.js";
import type { PlanAnswer, PlanParams } from "../src/protocol.js";
import { Sessions } from "../src/sessions.js";
import { Toggle } from "../src/toggle.js";
import { FakeDaemon, Memory, item, listed, logs, planned, ready, refusal, run, soon } from "./support.js";
import { CancellationTokenSource, CustomExecution, Range, ShellExecution, Task, TaskScope, Uri, reset, shown, workspace, type QuickPick } from "./vscode.js";

const folder = { uri: Uri.file("/work/shop"), name: "shop", index: 0 } as unknown as vscode.WorkspaceFolder;
const config = (more: Record<string, unknown> = {}): vscode.DebugConfiguration =>
    ({ type: "debugpy", request: "launch", name: "app", program: "app.py", env: { A: "1", B: "2" }, ...more });

describe("F5", () => {
    let daemon: FakeDaemon;
    let toggle: Toggle;
    let sessions: Sessions;
    let launcher: Launcher;
    let kept: ReturnType<typeof logs>;
    let memory: Memory;
    beforeEach(() => {
        reset();
        daemon = new FakeDaemon();
        kept = logs();
        memory = new Memory();
        toggle = new Toggle(memory);
        sessions = new Sessions(daemon, memory, kept);
        launcher = new Launcher(daemon, toggle, new Picker(daemon, memory), new Groups(), sessions, new Debuggees(memory), kept);
    });
    const resolve = (what: vscode.DebugConfiguration, token?: unknown) =>
        launcher.resolveDebugConfigurationWithSubstitutedVariables(folder, what, token as vscode.CancellationToken);
    const picker = (label: string): Promise<QuickPick> => soon(() => shown.picks.find((pick) => pick.labels.includes(label)), `a picker with ${label}`);
    const runs = () => daemon.on("session/plan", () => run).on("session/start", () => ready);

    it("connects at the first hook, while the editor resolves, and only where it concerns us", async () => {
        launcher.resolveDebugConfiguration(folder, config());
        launcher.resolveDebugConfiguration(folder, config({ mirrord: false }));
        strictEqual(daemon.warmed, 0);
        launcher.resolveDebugConfiguration(folder, config({ mirrord: true }));
        strictEqual(daemon.warmed, 1);
        deepStrictEqual(daemon.asked, [], "nothing is begun before the configuration is whole");
    });

    it("is expected where a launch configuration asks for it, so that the daemon may be there already", () => {
        strictEqual(isAsked(), false);
        shown.settings["launch.configurations"] = [config(), config({ mirrord: false })];
        strictEqual(isAsked(), false);
        shown.settings["launch.configurations"] = [config(), config({ mirrord: { target: "pod/shop-1" } })];
        strictEqual(isAsked(), true);
    });

    it("asks the daemon nothing while mirrord is off", async () => {
        const one = config();
        strictEqual(await resolve(one), one);
        strictEqual(await resolve(config({ mirrord: false })).then((got) => got?.["program"]), "app.py");
        deepStrictEqual(daemon.asked, []);
    });

    it("is left alone by \"mirrord\": false though the toggle is on", async () => {
        await toggle.flip();
        const one = config({ mirrord: false });
        strictEqual(await resolve(one), one);
        deepStrictEqual(daemon.asked, []);
    });

    it("plans, starts a session and applies the daemon's patch", async () => {
        await toggle.flip();
        runs();
        const got = await resolve(config());
        deepStrictEqual(got, { ...config(), program: "wrapped", env: { B: "2" }, __mirrordPlan: "p1" });
        deepStrictEqual(daemon.names(), ["session/plan", "session/start"]);
        const asked = daemon.asked[0]?.params as PlanParams;
        deepStrictEqual([asked.debug, asked.enabled, asked.editor, asked.config?.folder], [config(), true, "vscode", "/work/shop"]);
        strictEqual(asked.config?.env?.["PATH"], process.env["PATH"]);
        strictEqual(asked.debuggerFolder, "/extensions/debugpy");
        strictEqual(sessions.all[0]?.target, "deployment/shop");
    });

    it("follows the launch configuration's own word though the toggle is off", async () => {
        runs();
        for (const mirrord of [true, "configs/other.json", { target: "pod/shop-1" }]) {
            await resolve(config({ mirrord }));
            const asked = daemon.asked.at(-2)?.params as PlanParams;
            deepStrictEqual([asked.mirrord, asked.enabled], [mirrord, false]);
        }
    });

    it("is planned with the folder that the launch configuration is of", async () => {
        runs();
        workspace.workspaceFolders = [{ uri: folder.uri as unknown as Uri, name: "shop" }, { uri: Uri.file("/work/cart"), name: "cart" }];
        const cart = { uri: Uri.file("/work/cart"), name: "cart", index: 1 } as unknown as vscode.WorkspaceFolder;
        const one = config({ mirrord: true });
        await launcher.resolveDebugConfigurationWithSubstitutedVariables(cart, one);
        await launcher.resolveDebugConfigurationWithSubstitutedVariables(undefined, one);
        const folders = daemon.asked.filter(({ name }) => name === "session/plan").map(({ params }) => (params as unknown as PlanParams).config?.folder);
        deepStrictEqual(folders, ["/work/cart", "/work/shop"]);
    });

    it("does one run with mirrord by the run menu, whatever the toggle says", async () => {
        runs();
        let go: (() => void) | undefined;
        shown.settings["during command"] = new Promise<void>((resolve) => (go = resolve));
        const debugging = launcher.debug();
        const got = await resolve(config());
        go?.();
        await debugging;
        strictEqual(got?.["__mirrordPlan"], "p1");
        deepStrictEqual(shown.commands, ["workbench.action.debug.start"]);
        const next = config();
        strictEqual(await resolve(next), next);
    });

    it("keeps the configuration for a reload as its user wrote it, with the patch", async () => {
        daemon.on("session/plan", () => ({ ...run, editorStops: true })).on("session/start", () => ready);
        const written = config({ mirrord: true, env: { TOKEN: "${env:TOKEN}" } });
        strictEqual(launcher.resolveDebugConfiguration(folder, written), written);
        const got = await resolve(config({ mirrord: true, env: { TOKEN: "a secret" } }));
        deepStrictEqual([got?.["__mirrordPlan"], got?.["__mirrordStops"]], ["p1", true]);
        const [one] = memory.get<{ folder: string; config: vscode.DebugConfiguration }[]>("mirrord.debuggees");
        strictEqual(one?.folder, String(folder.uri));
        deepStrictEqual(one?.config, { ...written, program: "wrapped", __mirrordPlan: "p1", __mirrordStops: true });
        ok(!JSON.stringify([...memory.values]).includes("a secret"));
        strictEqual(await resolve(one?.config ?? written), one?.config, "it is not planned again");
    });

    it("leaves child sessions, programs that run already and what is patched alone", async () => {
        await toggle.flip();
        for (const one of [config({ __parentId: "7" }), config({ request: "attach", delegateId: 7 }), config({ __mirrordPlan: "p0" })]) {
            strictEqual(await resolve(one), one);
        }
        deepStrictEqual(daemon.asked, []);
    });

    it("shows the picker only when the plan asks for it, and plans again with the pick", async () => {
        await toggle.flip();
        daemon
            .on("session/plan", ({ target }): PlanAnswer => (target === undefined ? planned("pick", { configFile: "/work/shop/mirrord.json" }) : run))
            .on("target/list", () => listed([item("deployment/shop"), item("pod/shop-1")], { namespace: "shop" }))
            .on("session/start", () => ready);
        const going = resolve(config());
        const pick = await picker("pod/shop-1");
        pick.accept("pod/shop-1");
        strictEqual((await going)?.["program"], "wrapped");
        deepStrictEqual(daemon.names(), ["session/plan", "target/list", "session/plan", "session/start"]);
        strictEqual((daemon.asked[2]?.params as PlanParams).target, "pod/shop-1");
        strictEqual((daemon.asked[1]?.params as { config: { file: string } }).config.file, "/work/shop/mirrord.json");
    });

    it("is taken back by Escape in the picker, without a word", async () => {
        await toggle.flip();
        daemon.on("session/plan", () => planned("pick")).on("target/list", () => listed([item("deployment/shop")]));
        const going = resolve(config());
        (await picker("deployment/shop")).hide();
        strictEqual(await going, undefined);
        deepStrictEqual(shown.messages, []);
        ok(!daemon.names().includes("session/start"));
    });

    it("shows the cluster's current event, and is taken back by the notification's Cancel", async () => {
        await toggle.flip();
        let token: unknown;
        daemon.on("session/plan", () => run).on("session/start", ({ workDoneToken }, cancel) => {
            token = workDoneToken;
            return new Promise((_, reject) => cancel?.onCancellationRequested(() => reject(refusal({ kind: "cancelled", message: "taken back" }, -32800))));
        });
        const going = resolve(config());
        const progress = await soon(() => shown.progress[0], "progress");
        daemon.progress(token, { kind: "report", message: "Pulling image" });
        deepStrictEqual(progress.messages.at(-1), "Pulling image");
        progress.cancel();
        strictEqual(await going, undefined);
        await soon(() => progress.done, "the progress ends");
        deepStrictEqual(shown.messages, []);
    });

    it("shows no progress when the session is ready at once", async () => {
        await toggle.flip();
        runs();
        await resolve(config());
        await new Promise((resolve) => setTimeout(resolve, 350));
        deepStrictEqual(shown.progress, []);
    });

    it("is taken back by the editor's own token", async () => {
        await toggle.flip();
        const source = new CancellationTokenSource();
        daemon.on("session/plan", () => run).on("session/start", (_, cancel) => new Promise((_resolve, reject) => cancel?.onCancellationRequested(() => reject(new Error("any")))));
        const going = resolve(config(), source.token);
        await soon(() => daemon.names().includes("session/start"), "the start");
        source.cancel();
        strictEqual(await going, undefined);
        deepStrictEqual(shown.messages, []);
    });

    it("fails with one toast: what failed and what to do; Details opens the run's log", async () => {
        await toggle.flip();
        daemon.on("session/plan", () => run).on("session/start", () => {
            throw refusal({ kind: "forbidden", message: "you may not create jobs in namespace shop", help: "ask for the role in SECURITY.md", cause: ["HTTP 403"], facts: { verb: "create" } });
        });
        strictEqual(await resolve(config()), undefined);
        deepStrictEqual(shown.messages.map(({ level, text, buttons }) => ({ level, text, buttons })), [
            { level: "error", text: "You may not create jobs in namespace shop. Ask for the role in SECURITY.md.", buttons: ["Details"] },
        ]);
        shown.messages[0]?.press("Details");
        const { uri } = await soon(() => shown.documents[0], "the log opens");
        strictEqual(String(uri), "mirrord-log:///run-1.log");
        const text = await kept.text("run-1");
        for (const part of [/forbidden/u, /HTTP 403/u, /verb: create/u]) {
            match(text, part);
        }
    });

    it("opens a wrong config at its place", async () => {
        await toggle.flip();
        daemon.on("session/plan", () => {
            throw refusal({ kind: "config-invalid", message: "unknown key", help: "remove it", uri: "file:///work/shop/mirrord.json", range: { start: { line: 2, character: 4 }, end: { line: 2, character: 9 } } });
        });
        strictEqual(await resolve(config()), undefined);
        const { uri, options } = await soon(() => shown.documents[0], "the config opens");
        strictEqual(uri.fsPath, "/work/shop/mirrord.json");
        deepStrictEqual(options, { selection: new Range(2, 4, 2, 9) });
        strictEqual(shown.messages.length, 1);
    });

    it("goes on without mirrord where the daemon says off, and says the reason once", async () => {
        await toggle.flip();
        daemon.on("session/plan", () => planned("off", { reason: "an attach request starts no program" }));
        for (const one of [config(), config()]) {
            strictEqual(await resolve(one), one);
        }
        strictEqual(shown.messages.length, 1);
        match(shown.messages[0]?.text ?? "", /attach request starts no program/u);
    });

    it("shares one pick between the members of a compound", async () => {
        await toggle.flip();
        shown.settings["launch.compounds"] = [{ name: "both", configurations: ["shop", "cart"] }];
        daemon
            .on("session/plan", ({ target }): PlanAnswer => (target === undefined ? planned("pick") : run))
            .on("target/list", () => listed([item("deployment/shop")]))
            .on("session/start", () => ready);
        const members = [config({ name: "shop" }), config({ name: "cart" })];
        members.forEach((one) => launcher.resolveDebugConfiguration(folder, one));
        const going = members.map((one) => resolve(one));
        const pick = await picker("deployment/shop");
        pick.accept("deployment/shop");
        deepStrictEqual((await Promise.all(going)).map((one) => one?.["program"]), ["wrapped", "wrapped"]);
        strictEqual(shown.picks.length, 1);
        const asked = daemon.asked.filter(({ name }) => name === "session/plan").map(({ params }) => params["target"]);
        deepStrictEqual(asked, [undefined, undefined, "deployment/shop", "deployment/shop"]);
    });

    describe("with a task before it", () => {
        const build = (execution: unknown) => new Task({ type: "shell" }, TaskScope.Workspace, "build", "Workspace", execution);

        it("leaves the task to VS Code", () => {
            const one = config({ preLaunchTask: "build", mirrord: true });
            strictEqual(launcher.resolveDebugConfiguration(folder, one)["preLaunchTask"], "build");
        });

        it("runs it in the pod's world where asked, with the same pick, and before the launch", async () => {
            shown.tasks.push(build(new ShellExecution("make all")));
            const programs: unknown[] = [];
            daemon
                .on("session/plan", ({ debug, target }): PlanAnswer => {
                    programs.push([debug?.["type"], debug?.["args"], target]);
                    return target === undefined ? planned("pick") : { ...run, patch: { program: "mirrord-ide", args: ["exec"] } };
                })
                .on("target/list", () => listed([item("deployment/shop")]))
                .on("session/start", () => ready);
            const first = launcher.resolveDebugConfiguration(folder, config({ preLaunchTask: "build", mirrord: { tasks: true } }));
            strictEqual(first["preLaunchTask"], undefined);
            const going = resolve(first);
            (await picker("deployment/shop")).accept("deployment/shop");
            const task = await soon(() => shown.executed[0], "the task runs");
            deepStrictEqual((task.execution as { process: string; args: string[] }).args, ["exec"]);
            shown.taskEnds.fire({ execution: task, exitCode: 0 });
            const got = await going;
            strictEqual(got?.["program"], "mirrord-ide");
            ok(!("preLaunchTask" in (got ?? {})) && !("__mirrordTask" in (got ?? {})));
            deepStrictEqual(programs[1], ["mirrord-task", ["-c", "make all"], "deployment/shop"]);
            deepStrictEqual(programs.at(-1), ["debugpy", undefined, "deployment/shop"]);
            strictEqual(shown.picks.length, 1);
        });

        it("does not launch when the task fails", async () => {
            shown.tasks.push(build(new ShellExecution("make all")));
            runs();
            const going = resolve(launcher.resolveDebugConfiguration(folder, config({ preLaunchTask: "build", mirrord: { tasks: true } })));
            const task = await soon(() => shown.executed[0], "the task runs");
            shown.taskEnds.fire({ execution: task, exitCode: 2 });
            strictEqual(await going, undefined);
            match(shown.messages[0]?.text ?? "", /build ended with 2/u);
        });

        it("says of a task that it cannot be taken along, or is not there", async () => {
            shown.tasks.push(build(new CustomExecution()));
            runs();
            for (const [name, said] of [["build", /run by its extension/u], ["other", /no task "other"/u]] as const) {
                shown.messages.length = 0;
                strictEqual(await resolve(launcher.resolveDebugConfiguration(folder, config({ preLaunchTask: name, mirrord: { tasks: true } }))), undefined);
                match(shown.messages[0]?.text ?? "", said);
            }
        });
    });

    it("has the toggle remembered, and drawn", async () => {
        strictEqual(toggle.enabled, false);
        match(shown.items[0]?.text ?? "", /circle-outline/u);
        await toggle.flip();
        match(shown.items[0]?.text ?? "", /circle-filled/u);
        shown.settings["mirrord.enabledByDefault"] = true;
        strictEqual(new Toggle(new Memory()).enabled, true);
    });
});
