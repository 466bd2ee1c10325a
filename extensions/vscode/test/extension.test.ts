import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { readFileSync } from "node:fs";
import type * as vscode from "vscode";
import { activate } from "../src/extension.js";
import { Presets } from "../src/presets.js";
import { problemOf } from "../src/problem.js";
import { Memory } from "./support.js";
import { reset, shown, window } from "./vscode.js";

interface Manifest {
    contributes: {
        commands: { command: string }[];
        terminal: { profiles: { id: string }[] };
        debuggers: { type: string; configurationSnippets?: { label: string; description: string; body: Record<string, unknown> }[] }[];
        configuration: { properties: Record<string, unknown> };
        menus: Record<string, { command: string }[]>;
    };
    extensionKind: string[];
}
const manifest = JSON.parse(readFileSync("package.json", "utf8")) as Manifest;

describe("the extension", () => {
    beforeEach(reset);

    it("registers all that its manifest names, and nothing else", () => {
        const context = { extension: { packageJSON: { version: "1" } }, workspaceState: new Memory(), subscriptions: [], asAbsolutePath: (path: string) => path };
        activate(context as unknown as vscode.ExtensionContext);
        const commands = manifest.contributes.commands.map(({ command }) => `command ${command}`);
        const terminals = manifest.contributes.terminal.profiles.map(({ id }) => `terminal ${id}`);
        const others = ["provider *", "provider mirrord", "tracker *"];
        deepStrictEqual([...shown.registered].sort(), [...commands, ...terminals, ...others].sort());
    });

    it("runs where the program runs", () => {
        deepStrictEqual(manifest.extensionKind, ["workspace"]);
    });

    it("has only menus of its own commands, and settings that are documented", () => {
        const commands = new Set(manifest.contributes.commands.map(({ command }) => command));
        ok(Object.values(manifest.contributes.menus).flat().every(({ command }) => commands.has(command)));
        const readme = readFileSync("README.md", "utf8");
        Object.keys(manifest.contributes.configuration.properties).forEach((name) => ok(readme.includes(name), name));
    });
});

describe("a new launch.json", () => {
    beforeEach(() => {
        reset();
        shown.settings["package.json"] = manifest;
    });
    const types = () => new Presets().provideDebugConfigurations().map(({ type }) => type);

    it("begins with the preset of the open file's language", () => {
        window.activeTextEditor = { document: { languageId: "python" } };
        const [preset, ...rest] = new Presets().provideDebugConfigurations();
        deepStrictEqual(rest, []);
        deepStrictEqual(preset, { type: "debugpy", request: "launch", name: "Python with mirrord", program: "${workspaceFolder}/app.py", console: "integratedTerminal", mirrord: true });
    });

    it("writes what only a snippet has in plain words", () => {
        window.activeTextEditor = { document: { languageId: "csharp" } };
        deepStrictEqual(new Presets().provideDebugConfigurations(), [
            { type: "coreclr", request: "launch", name: ".NET with mirrord", program: "${workspaceFolder}/bin/Debug/net8.0/app.dll", cwd: "${workspaceFolder}", mirrord: true },
        ]);
    });

    it("says of what was not tried in VS Code that it was not", () => {
        const presets = manifest.contributes.debuggers.flatMap((one) => one.configurationSnippets ?? []);
        const said = presets.filter(({ description }) => description.includes("untested in VS Code")).map(({ body }) => body["type"]);
        deepStrictEqual(said, ["cppdbg", "java", "coreclr"]);
    });

    it("has one of each where no language is known", () => {
        window.activeTextEditor = undefined;
        deepStrictEqual(types(), ["node", "debugpy", "go", "lldb-dap", "java", "coreclr"]);
    });
});

describe("an error", () => {
    it("that is not the daemon's keeps its words, and what to do on its second line", () => {
        deepStrictEqual(problemOf(new Error("the daemon cannot be started [daemon-unreachable]\n  check the file")), {
            kind: "internal", message: "the daemon cannot be started [daemon-unreachable]", help: "check the file", retryable: false,
        });
        strictEqual(problemOf("plain").message, "plain");
    });

    it("about a method that is not there says that the program is too old", () => {
        match(problemOf(Object.assign(new Error("Method not found"), { code: -32601 })).message, /older than this extension/u);
    });
});
