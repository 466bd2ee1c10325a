// Whether debugging starts in a pod's world: one switch a workspace, in the status bar and the palette.

import * as vscode from "vscode";

const KEY = "mirrord.enabled";

export class Toggle implements vscode.Disposable {
    private readonly item = vscode.window.createStatusBarItem("mirrord.toggle", vscode.StatusBarAlignment.Left, 1);

    constructor(private readonly memory: vscode.Memento) {
        this.item.name = "mirrord";
        this.item.command = "mirrord.toggle";
        this.draw();
        this.item.show();
    }

    get enabled(): boolean {
        return this.memory.get<boolean>(KEY) ?? vscode.workspace.getConfiguration("mirrord").get("enabledByDefault", false);
    }

    async flip(): Promise<boolean> {
        const enabled = !this.enabled;
        await this.memory.update(KEY, enabled);
        this.draw();
        return enabled;
    }

    draw(): void {
        this.item.text = this.enabled ? "$(circle-filled) mirrord" : "$(circle-outline) mirrord";
        this.item.tooltip = this.enabled
            ? "Debugging starts in a pod's world. Click to debug on this machine alone."
            : "Debugging stays on this machine. Click to start in a pod's world.";
        this.item.accessibilityInformation = { label: `mirrord is ${this.enabled ? "on" : "off"}`, role: "switch" };
    }

    dispose(): void {
        this.item.dispose();
    }
}
