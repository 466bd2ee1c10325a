// A task before the launch, run in the pod's world: only where the launch configuration asks for it.

import * as vscode from "vscode";
import type { Launcher } from "./launch.js";

/** Runs the task named to its end; whether the launch may go on. */
export async function runTask(launcher: Launcher, folder: vscode.WorkspaceFolder | undefined, named: unknown, mirrord: unknown, group?: string): Promise<boolean> {
    const task = await find(named, folder);
    if (!task) {
        void vscode.window.showErrorMessage(`There is no task ${JSON.stringify(named)}. Check preLaunchTask in launch.json.`);
        return false;
    }
    const process = processOf(task);
    if (!process) {
        void vscode.window.showErrorMessage(`The task ${task.name} is run by its extension, so it cannot run in the pod's world. Remove "tasks" from the launch configuration's "mirrord".`);
        return false;
    }
    const debug: vscode.DebugConfiguration = { type: "mirrord-task", request: "launch", name: task.name, mirrord: mirrord ?? true, ...process };
    const prepared = await launcher.prepare(folder, debug, group);
    if (prepared === "stop") {
        return false;
    }
    const ended = await run(prepared === "off" ? task : wrapped(task, prepared.patch));
    if (ended !== 0) {
        void vscode.window.showErrorMessage(`The task ${task.name} ended with ${ended ?? "no exit code"}. See its terminal.`);
    }
    return ended === 0;
}

async function find(named: unknown, folder: vscode.WorkspaceFolder | undefined): Promise<vscode.Task | undefined> {
    const tasks = await vscode.tasks.fetchTasks();
    const inFolder = tasks.filter((task) => typeof task.scope !== "object" || !folder || task.scope.uri.toString() === folder.uri.toString());
    if (named === "${defaultBuildTask}") {
        return inFolder.find((task) => task.group?.id === vscode.TaskGroup.Build.id && task.group.isDefault);
    }
    if (typeof named === "string") {
        return inFolder.find((task) => task.name === named || `${task.source}: ${task.name}` === named);
    }
    const wanted = Object.entries((named ?? {}) as Record<string, unknown>);
    return inFolder.find((task) => wanted.every(([name, value]) => task.definition[name] === value));
}

/** The process of a task: what the daemon is to wrap. */
function processOf(task: vscode.Task): { program: string; args: string[]; cwd?: string } | undefined {
    const { execution } = task;
    const cwd = execution instanceof vscode.CustomExecution ? undefined : execution?.options?.cwd;
    const place = cwd === undefined ? {} : { cwd };
    if (execution instanceof vscode.ProcessExecution) {
        return { program: execution.process, args: execution.args, ...place };
    }
    if (execution instanceof vscode.ShellExecution) {
        const line = execution.commandLine ?? [execution.command, ...(execution.args ?? [])].map(word).join(" ");
        const shell = execution.options?.executable ?? "/bin/sh";
        return { program: shell, args: [...(execution.options?.shellArgs ?? ["-c"]), line], ...place };
    }
    return undefined;
}

/** A word of a shell line; what the user quoted is kept together. */
function word(part: string | vscode.ShellQuotedString | undefined): string {
    if (typeof part === "object") {
        return `'${part.value.replaceAll("'", "'\\''")}'`;
    }
    return part ?? "";
}

function wrapped(task: vscode.Task, patch: Record<string, unknown>): vscode.Task {
    const { program, args, env } = patch as { program?: string; args?: string[]; env?: Record<string, string> };
    const options = task.execution instanceof vscode.CustomExecution ? undefined : task.execution?.options;
    const execution = new vscode.ProcessExecution(program ?? "mirrord-ide", args ?? [], {
        ...(options?.cwd === undefined ? {} : { cwd: options.cwd }),
        env: { ...options?.env, ...env },
    });
    const made = new vscode.Task(task.definition, task.scope ?? vscode.TaskScope.Workspace, task.name, task.source, execution, task.problemMatchers);
    made.presentationOptions = task.presentationOptions;
    return made;
}

/** Runs a task and waits for its process; its exit code. */
async function run(task: vscode.Task): Promise<number | undefined> {
    let execution: vscode.TaskExecution | undefined;
    const early = new Map<vscode.TaskExecution, number | undefined>();
    let done: ((code: number | undefined) => void) | undefined;
    const ends = vscode.tasks.onDidEndTaskProcess((event) => {
        if (!execution) {
            early.set(event.execution, event.exitCode);
        } else if (event.execution === execution) {
            done?.(event.exitCode);
        }
    });
    try {
        execution = await vscode.tasks.executeTask(task);
        if (early.has(execution)) {
            return early.get(execution);
        }
        return await new Promise((resolve) => (done = resolve));
    } finally {
        ends.dispose();
    }
}
