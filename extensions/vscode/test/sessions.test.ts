import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import type * as vscode from "vscode";
import { Runs } from "../src/runs.js";
import type { Attached, News, SessionEvent, SessionInfo } from "../src/protocol.js";
import { Debuggees } from "../src/reattach.js";
import { Sessions } from "../src/sessions.js";
import { Status, showSessions } from "../src/status.js";
import { FakeDaemon, Memory, logs, ready, run, soon } from "./support.js";
import { reset, shown, type MarkdownString } from "./vscode.js";

const state = (now: "running" | "ending" | "ended"): News => ({ kind: "state", state: now, message: "because" });
const happened = (event: SessionEvent): News => ({ kind: "happened", happened: event });
const port = { pod_port: 80, local_port: 8080, mode: "steal", connections: 0 } as const;

function info(session: string, more: Partial<SessionInfo> = {}): SessionInfo {
    const { target } = ready;
    const command = ["python", "app.py"];
    return {
        session, state: "running", startedAt: 1, command, target, agent: "connected", attended: false,
        host: {
            session, host_pid: 6, debuggee_pid: 7, target, mode: "traps", agent: "connected", endpoint: { kind: "unix", path: "/agent.sock" },
            ports: [{ ...port, connections: 5 }], command, started_at: 1,
        },
        ...more,
    };
}

const attached = (session: string, more: Partial<Attached> = {}): Attached => ({ ...info(session), reattach: null, ...more });

describe("a session", () => {
    let daemon: FakeDaemon;
    let memory: Memory;
    let kept: ReturnType<typeof logs>;
    let sessions: Sessions;
    const status = () => shown.items.find((one) => one.id === "mirrord.sessions");
    beforeEach(() => {
        reset();
        daemon = new FakeDaemon();
        memory = new Memory();
        kept = logs();
        sessions = new Sessions(daemon, memory, kept);
        new Status(sessions);
    });
    const start = (debugged = false) => sessions.started("app", run, ready, debugged);
    const tell = (seq: number, event: News) => daemon.tell(ready.session, seq, event);

    it("is not shown while there is none", () => {
        strictEqual(status()?.visible, false);
    });

    it("shows target, state, connections and warnings", () => {
        start();
        tell(1, state("running"));
        tell(2, happened({ what: "port", ...port }));
        tell(3, happened({ what: "connection", pod_port: 80, peer_addr: "10.0.0.7:1" }));
        tell(4, happened({ what: "connection", pod_port: 80, peer_addr: "10.0.0.7:2" }));
        strictEqual(status()?.visible, true);
        match(status()?.text ?? "", /deployment\/shop: running \$\(arrow-down\) 2$/u);
        tell(5, happened({ what: "warning", code: "read-only", message: "the pod's files cannot be written" }));
        match(status()?.text ?? "", /\$\(warning\) 1$/u);
        match((status()?.tooltip as MarkdownString).value, /port 80 → 8080: steal[\s\S]*cannot be written/u);
        deepStrictEqual(shown.messages, [], "a warning is no toast");
    });

    it("leaves the status bar when it has ended", () => {
        start();
        tell(1, state("running"));
        tell(2, state("ended"));
        strictEqual(status()?.visible, false);
        deepStrictEqual(memory.get("mirrord.sessions"), []);
    });

    it("has a log of its own", async () => {
        start();
        tell(1, happened({ what: "process", pid: 9, executable: "/bin/true", coverage: "covered" }));
        const text = await kept.text(ready.session);
        match(text, /app acts as deployment\/shop/u);
        match(text, /process 9: \/bin\/true, covered/u);
    });

    it("that covers nothing is an error, with its log behind Details", async () => {
        start();
        tell(1, happened({ what: "warning", code: "not-covered", message: "no process came under the session within 5 s; start it by python" }));
        strictEqual(shown.messages.length, 1);
        strictEqual(shown.messages[0]?.level, "error");
        shown.messages[0]?.press("Details");
        strictEqual(String((await soon(() => shown.documents[0], "the log")).uri), `mirrord-log:///${ready.session}.log`);
    });

    it("that loses its agent says so once, and looks so", () => {
        start();
        tell(1, happened({ what: "agent", state: "reconnecting", message: "trying" }));
        match(status()?.text ?? "", /reconnecting/u);
        deepStrictEqual(shown.messages, []);
        tell(2, happened({ what: "agent", state: "lost", message: "the agent is gone" }));
        tell(3, happened({ what: "agent", state: "lost", message: "the agent is gone" }));
        strictEqual(shown.messages.length, 1);
        match(status()?.text ?? "", /agent lost/u);
    });

    it("of another window does not come up", () => {
        daemon.tell("other000", 1, state("running"));
        strictEqual(status()?.visible, false);
    });

    it("that a restart made by the same plan is followed", async () => {
        start();
        tell(1, state("ended"));
        daemon.on("session/attach", ({ session }) => attached(session));
        daemon.tell("again000", 1, state("running"), "p1");
        await soon(() => status()?.visible, "shown");
        match(status()?.text ?? "", /deployment\/shop: running/u);
        deepStrictEqual(sessions.ofPlan("p1").map((one) => one.session), ["again000"]);
    });

    it("is followed again after the window was reloaded", async () => {
        start();
        const reloaded = new Sessions(daemon, memory, logs());
        ok(reloaded.hasPast);
        daemon.on("session/list", () => ({ sessions: [info(ready.session), info("other000")] })).on("session/attach", ({ session }) => attached(session));
        await reloaded.resume(new Debuggees(memory));
        deepStrictEqual(reloaded.all.map((one) => [one.session, one.name, one.target, one.connections, one.state]), [[ready.session, "app", "deployment/shop", 5, "running"]]);
        deepStrictEqual(daemon.names(), ["session/list", "session/attach"]);
    });

    describe("that was debugged, after a reload,", () => {
        const launched = { type: "node", request: "launch", name: "app", program: "app.js", preLaunchTask: "build", __mirrordPlan: "p1" };
        const reattach = { request: "attach", port: 9229, program: null };
        let debuggees: Debuggees;
        let reloaded: Sessions;
        beforeEach(async () => {
            start(true);
            debuggees = new Debuggees(memory);
            await debuggees.keep("p1", undefined, launched);
            reloaded = new Sessions(daemon, memory, kept);
            daemon.on("session/list", () => ({ sessions: [info(ready.session)] })).on("session/stop", () => ({ ended: [], agents: [] }));
        });
        const resume = () => reloaded.resume(debuggees, { times: 3, wait: 1 });

        it("gets its debugger back, and no task is run again", async () => {
            daemon.on("session/attach", ({ session }) => attached(session, { reattach }));
            await resume();
            deepStrictEqual(daemon.asked.at(-1)?.params, { session: ready.session, fromSeq: 0, reattach: true });
            deepStrictEqual(shown.debugged.map(({ config }) => config), [{ type: "node", request: "attach", name: "app", port: 9229, __mirrordPlan: "p1" }]);
            deepStrictEqual(reloaded.all.map((one) => one.session), [ready.session]);
        });

        it("is ended where it cannot be attached to, with the reason in its log", async () => {
            daemon.on("session/attach", ({ session }) => attached(session, { reattachRefused: "its editor crashed" }));
            await resume();
            deepStrictEqual(daemon.asked.at(-1), { name: "session/stop", params: { session: ready.session } });
            deepStrictEqual(shown.debugged, []);
            match(await kept.text(ready.session), /its editor crashed: it is stopped/u);
        });

        it("is ended where VS Code starts no debugger", async () => {
            shown.settings["debugging fails"] = true;
            daemon.on("session/attach", ({ session }) => attached(session, { reattach }));
            await resume();
            strictEqual(shown.debugged.length, 1);
            deepStrictEqual(daemon.asked.at(-1), { name: "session/stop", params: { session: ready.session } });
        });

        it("is ended where its launch configuration is not known any more", async () => {
            await debuggees.forget("p1");
            daemon.on("session/attach", ({ session }) => attached(session, { reattach }));
            await resume();
            deepStrictEqual([shown.debugged, daemon.names().at(-1)], [[], "session/stop"]);
        });

        it("waits until the window's former self has left", async () => {
            let asked = 0;
            daemon.on("session/list", () => ({ sessions: [info(ready.session, { attended: (asked += 1) < 3 })] }));
            daemon.on("session/attach", ({ session }) => attached(session, { reattach }));
            await resume();
            strictEqual(shown.debugged.length, 1);
        });

        it("is left alone while another window of the same folder debugs it", async () => {
            daemon.on("session/list", () => ({ sessions: [info(ready.session, { attended: true })] }));
            await resume();
            ok(daemon.names().every((name) => name === "session/list"), String(daemon.names()));
            deepStrictEqual([reloaded.all, shown.debugged], [[], []]);
            reloaded.started("mine", { ...run, plan: "p2" }, { ...ready, session: "mine0000" }, true);
            const remembered = memory.get<{ session: string }[]>("mirrord.sessions").map((one) => one.session);
            deepStrictEqual(remembered, ["mine0000", ready.session], "the other window still remembers it");
        });
    });

    it("that ended while the window was away is forgotten", async () => {
        start();
        const reloaded = new Sessions(daemon, memory, logs());
        daemon.on("session/list", () => ({ sessions: [] }));
        await reloaded.resume(new Debuggees(memory));
        deepStrictEqual([reloaded.all, memory.get("mirrord.sessions")], [[], []]);
    });

    it("is followed again by the next daemon, from the last event on", async () => {
        start();
        tell(7, state("running"));
        daemon.on("session/list", () => ({ sessions: [info(ready.session)] })).on("session/attach", ({ session }) => attached(session));
        daemon.lost.fire();
        await soon(() => daemon.names().includes("session/attach"), "attached");
        deepStrictEqual(daemon.asked.at(-1)?.params, { session: ready.session, fromSeq: 7 });
    });

    it("is none when the daemon ends: nobody starts another", async () => {
        daemon.lost.fire();
        await new Promise((resolve) => setTimeout(resolve, 300));
        deepStrictEqual(daemon.asked, []);
    });

    it("can be ended from the list of all windows' sessions", async () => {
        start();
        let living = [info(ready.session), info("other000")];
        daemon.on("session/list", () => ({ sessions: living })).on("session/stop", ({ session }) => {
            living = living.filter((one) => one.session !== session);
            return { ended: [session ?? ""], agents: [], left: ["its agent's pod is still there"] };
        });
        await showSessions(daemon, sessions, kept);
        const list = shown.picks[0];
        strictEqual(list?.items.length, 2);
        const other = list?.items.find((row) => row.description?.includes("not of this window"));
        list?.itemButton(other?.label ?? "");
        await soon(() => list?.items.length === 1, "listed again");
        deepStrictEqual(daemon.asked.find(({ name }) => name === "session/stop")?.params, { session: "other000" });
        match(shown.messages[0]?.text ?? "", /Its agent's pod is still there\./u);
    });
});

describe("the end of a debug session", () => {
    type Tracker = { onWillReceiveMessage?(message: unknown): void; onDidSendMessage?(message: unknown): void };
    const session = (id: string, configuration: Record<string, unknown> = {}) =>
        ({ id, configuration: { __mirrordPlan: "p1", request: "launch", ...configuration } }) as unknown as vscode.DebugSession;
    let daemon: FakeDaemon;
    let sessions: Sessions;
    let debuggees: Debuggees;
    let runs: Runs;
    beforeEach(() => {
        reset();
        daemon = new FakeDaemon().on("session/stop", () => ({ ended: [], agents: [] })).on("session/forget", () => ({}));
        const memory = new Memory();
        sessions = new Sessions(daemon, memory, logs());
        debuggees = new Debuggees(memory);
        runs = new Runs(daemon, sessions, debuggees, logs(), { grace: 5, restart: 20 });
        sessions.started("app", run, ready, true);
    });
    const wait = (time = 60) => new Promise((resolve) => setTimeout(resolve, time));
    const tracker = (of: vscode.DebugSession) => runs.createDebugAdapterTracker(of) as Tracker;
    const tell = (of: vscode.DebugSession, command: string, terminateDebuggee?: boolean) =>
        tracker(of).onWillReceiveMessage?.({ command, arguments: terminateDebuggee === undefined ? { restart: false } : { restart: false, terminateDebuggee } });
    const stops = () => daemon.asked.filter(({ name }) => name === "session/stop").map(({ params }) => params);

    it("ends its mirrord session when that does not end by itself, then forgets the plan", async () => {
        runs.started(session("a"), "p1");
        runs.ended(session("a"), "p1");
        await soon(() => daemon.names().includes("session/stop"), "stopped");
        deepStrictEqual(daemon.asked[0]?.params, { session: ready.session });
        daemon.tell(ready.session, 1, state("ended"));
        await soon(() => daemon.names().includes("session/forget"), "forgotten");
    });

    it("stops nothing that has ended with it", async () => {
        runs.started(session("a"), "p1");
        runs.ended(session("a"), "p1");
        daemon.tell(ready.session, 1, state("ended"));
        await soon(() => daemon.names().includes("session/forget"), "forgotten");
        deepStrictEqual(daemon.names(), ["session/forget"]);
    });

    it("by a restart keeps the plan", async () => {
        runs.started(session("a"), "p1");
        runs.ended(session("a"), "p1");
        daemon.tell(ready.session, 1, state("ended"));
        runs.started(session("a"), "p1");
        await wait();
        deepStrictEqual(daemon.names(), []);
    });

    it("by \"disconnect\" leaves program and session running", async () => {
        runs.started(session("a"), "p1");
        tell(session("a"), "disconnect", false);
        runs.ended(session("a"), "p1");
        await wait();
        deepStrictEqual(daemon.names(), []);
        deepStrictEqual(sessions.all.map((one) => one.debugged), [false], "a reload leaves it as well");
    });

    it("of a run without mirrord is nobody's business", async () => {
        const other = session("a", { __mirrordPlan: undefined });
        strictEqual(runs.createDebugAdapterTracker(other), undefined);
        runs.started(other, undefined);
        runs.ended(other, undefined);
        await wait();
        deepStrictEqual(daemon.names(), []);
    });

    it("that ends its program itself is not helped", async () => {
        tell(session("a"), "terminate");
        tell(session("a"), "restart");
        tell(session("a"), "disconnect", true);
        await wait();
        deepStrictEqual(daemon.names(), []);
    });

    describe("whose debugger leaves the program to us", () => {
        const launch = (id: string) => session(id, { __mirrordStops: true });
        const attach = (id: string) => session(id, { __mirrordStops: true, request: "attach" });

        it("ends the program when the user stops, and at once when asked again", async () => {
            runs.started(launch("a"), "p1");
            tell(launch("a"), "terminate");
            tell(launch("a"), "disconnect", true);
            runs.ended(launch("a"), "p1");
            await wait(10);
            deepStrictEqual(stops(), [{ session: ready.session }, { session: ready.session, graceMs: 0 }]);
        });

        it("ends the program when it is restarted, be it by a child's toolbar", async () => {
            const child = { id: "b", configuration: {}, parentSession: launch("a") } as unknown as vscode.DebugSession;
            tell(child, "disconnect", true);
            deepStrictEqual(stops(), [], "a child's end is not the program's");
            tell(child, "restart");
            deepStrictEqual(stops(), [{ session: ready.session }]);
        });

        it("lets it live when the window drops the adapter", async () => {
            runs.started(launch("a"), "p1");
            tell(launch("a"), "disconnect");
            runs.dispose();
            await wait();
            deepStrictEqual(daemon.names(), []);
        });

        it("ends it without a grace when the debug session is over for another reason", async () => {
            runs = new Runs(daemon, sessions, debuggees, logs(), { grace: 60_000, restart: 60_000 });
            runs.started(launch("a"), "p1");
            runs.ended(launch("a"), "p1");
            await soon(() => stops().length === 1, "stopped");
            runs.dispose();
        });

        it("ends an attached program by \"disconnect\", which is its toolbar's stop", async () => {
            runs.started(attach("a"), "p1");
            tell(attach("a"), "disconnect", false);
            runs.ended(attach("a"), "p1");
            await wait(10);
            deepStrictEqual(stops(), [{ session: ready.session }]);
        });

        it("stops nothing when VS Code tidies up after an attached program's end", async () => {
            runs.started(attach("a"), "p1");
            tracker(attach("a")).onDidSendMessage?.({ type: "event", event: "terminated" });
            tell(attach("a"), "disconnect", false);
            runs.ended(attach("a"), "p1");
            daemon.tell(ready.session, 1, state("ended"));
            await wait();
            deepStrictEqual(stops(), []);
        });

        it("begins an attached program anew when it is restarted", async () => {
            await debuggees.keep("p1", undefined, { type: "node", request: "launch", name: "app", __mirrordPlan: "p1" });
            tell(attach("a"), "restart");
            await soon(() => shown.debugged.length === 1, "launched");
            deepStrictEqual([stops(), shown.commands], [[{ session: ready.session }], ["stop a"]]);
            strictEqual(shown.debugged[0]?.config["request"], "launch");
        });

        it("begins it by the plan that VS Code's restart has made, and its task is not run twice", async () => {
            await debuggees.keep("p1", undefined, { type: "node", request: "launch", name: "app", __mirrordPlan: "p1" });
            const resolved = { type: "node", request: "launch", name: "app", __mirrordPlan: "p2" };
            tracker(attach("a")).onWillReceiveMessage?.({ command: "restart", arguments: { arguments: { ...resolved, preLaunchTask: "build" } } });
            await soon(() => shown.debugged.length === 1, "launched");
            deepStrictEqual(shown.debugged[0]?.config, resolved);
        });
    });
});
