// Debug adapters as the tests have them, and a second channel to the tests that does not depend on what is drawn:
// every debug session, and every message of its adapter, becomes a line of JSON in the file SHIM_EVENTS.
const vscode = require("vscode");
const { spawn } = require("node:child_process");
const { appendFileSync } = require("node:fs");

const tell = (event) => appendFileSync(process.env.SHIM_EVENTS, JSON.stringify({ at: Date.now(), ...event }) + "\n");

/** dlv's adapter listens by itself; the patch of mirrord may name another one, as Go's extension would obey. */
function dlv(session) {
    const { dlvToolPath, cwd } = session.configuration;
    return new Promise((resolve, reject) => {
        const child = spawn(dlvToolPath ?? process.env.SHIM_DLV, ["dap", "--listen=127.0.0.1:0"], { cwd, env: process.env });
        let said = "";
        child.stdout.on("data", (data) => {
            said += data;
            const port = /listening at: 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
            if (port) {
                resolve(new vscode.DebugAdapterServer(Number(port), "127.0.0.1"));
            }
        });
        child.stderr.on("data", (data) => (said += data));
        child.on("error", reject);
        child.on("exit", (code) => reject(new Error(`dlv ended with ${code}: ${said}`)));
    });
}

/** As Python's extension does: the adapter runs by the interpreter that it has found, without mirrord's words. */
const debugpy = (session) => {
    const adapter = session.configuration.debugAdapterPath;
    return new vscode.DebugAdapterExecutable(process.env.SHIM_PYTHON, adapter ? [adapter] : ["-m", "debugpy.adapter"]);
};

const lldb = (session) => new vscode.DebugAdapterExecutable(session.configuration.debugAdapterExecutable ?? process.env.SHIM_LLDB_DAP, []);

/** The table that "Developer: Startup Performance" shows: for each extension how long its code took to load, and its activation. */
async function activations() {
    await vscode.commands.executeCommand("perfview.show");
    for (let tries = 0; tries < 100; tries++) {
        const shown = vscode.workspace.textDocuments.find(({ uri }) => uri.scheme === "perf")?.getText() ?? "";
        if (shown.includes("Extension Activation Stats")) {
            const rows = shown.split("\n").map((line) => line.split("|").map((cell) => cell.trim())).filter((row) => row.length > 6);
            return tell({ what: "activations", of: Object.fromEntries(rows.map(([, name, , load, call, finish]) => [name, { load: +load, call: +call, finish: +finish }])) });
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    tell({ what: "error", message: "the activation times are not shown" });
}

exports.activate = (context) => {
    const register = (type, make) => vscode.debug.registerDebugAdapterDescriptorFactory(type, { createDebugAdapterDescriptor: make });
    const of = (session) => ({ session: session.id, name: session.name, type: session.type, child: Boolean(session.parentSession) });
    context.subscriptions.push(
        vscode.commands.registerCommand("shim.activations", activations),
        register("debugpy", debugpy),
        register("go", dlv),
        register("lldb-dap", lldb),
        vscode.debug.onDidStartDebugSession((session) => tell({ what: "started", ...of(session), configuration: session.configuration })),
        vscode.debug.onDidTerminateDebugSession((session) => tell({ what: "terminated", ...of(session) })),
        vscode.debug.registerDebugAdapterTrackerFactory("*", {
            createDebugAdapterTracker: (session) => ({
                onWillReceiveMessage: (message) => tell({ what: "to", ...of(session), message }),
                onDidSendMessage: (message) => tell({ what: "from", ...of(session), message }),
                onError: (error) => tell({ what: "error", ...of(session), message: String(error) }),
                onExit: (code) => tell({ what: "exit", ...of(session), code }),
            }),
        }),
        vscode.debug.registerDebugConfigurationProvider("*", {
            resolveDebugConfiguration: (_folder, config) => (tell({ what: "first hook", name: config.name, type: config.type }), config),
        }),
        vscode.window.onDidOpenTerminal((terminal) => tell({ what: "terminal", name: terminal.name })),
    );
    tell({ what: "activated" });
};
