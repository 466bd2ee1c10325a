// "mirrord" is no debugger of its own: chosen as one, it writes a launch configuration for the language at hand.

import * as vscode from "vscode";

interface Snippet {
    label: string;
    /** Languages that the preset is for; without them it is offered by its label alone. */
    languages?: string[];
    body: Record<string, unknown>;
}

export class Presets implements vscode.DebugConfigurationProvider {
    /** What a new launch.json begins with: what fits the open file, else all of them. */
    provideDebugConfigurations(): vscode.DebugConfiguration[] {
        const language = vscode.window.activeTextEditor?.document.languageId ?? "";
        const presets = snippets().filter((one) => one.languages);
        const fitting = presets.filter((one) => one.languages?.includes(language));
        return (fitting.length > 0 ? fitting : presets).map(({ body }) => plain(body) as vscode.DebugConfiguration);
    }

    /** Nothing can be launched by this name: launch.json is opened instead. */
    resolveDebugConfiguration(_folder: vscode.WorkspaceFolder | undefined, config: vscode.DebugConfiguration): null {
        if (config.request) {
            void vscode.window.showErrorMessage('"mirrord" is no debugger. Use your own debugger\'s type and add "mirrord": true.');
        }
        return null;
    }
}

function snippets(): Snippet[] {
    const ours = vscode.extensions.getExtension("mirrord-ide.mirrord-ide")?.packageJSON as { contributes?: { debuggers?: { configurationSnippets?: Snippet[] }[] } } | undefined;
    return (ours?.contributes?.debuggers ?? []).flatMap((one) => one.configurationSnippets ?? []);
}

/** A snippet's body without what only a snippet has: `^"…"`, `${1:default}` and escaped dollars. */
function plain(value: unknown): unknown {
    if (typeof value === "string") {
        return value.replace(/^\^"(.*)"$/su, "$1").replace(/(?<!\\)\$\{\d+:([^}]*)\}/gu, "$1").replaceAll("\\$", "$");
    }
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
    }
    return value;
}
