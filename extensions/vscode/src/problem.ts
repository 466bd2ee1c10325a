// What failed, as the daemon told it, and how a user hears of it: once, with what to do next.

import * as vscode from "vscode";
import type { ErrorFields } from "./protocol.js";
import type { Logs } from "./logs.js";

/** The JSON-RPC code of a request that was taken back. */
const CANCELLED = -32800;
/** The JSON-RPC code of a method that is not served. */
const NO_METHOD = -32601;

/** Whether a request failed because it was taken back. */
export function isCancelled(error: unknown): boolean {
    return error instanceof vscode.CancellationError || fieldOf(error, "code") === CANCELLED;
}

/** The daemon's fields of an error; for any other error its text alone. */
export function problemOf(error: unknown): ErrorFields {
    const data = fieldOf(error, "data");
    if (typeof fieldOf(data, "message") === "string" && typeof fieldOf(data, "kind") === "string") {
        return { help: "", ...(data as object) } as ErrorFields;
    }
    if (fieldOf(error, "code") === NO_METHOD) {
        return { kind: "protocol-mismatch", message: "the mirrord-ide that answers is older than this extension", retryable: false, help: 'clear the setting "mirrord.binary", then end the old daemon: mirrord-ide stop --all' };
    }
    const message = error instanceof Error ? error.message : String(error);
    const [first = message, ...rest] = message.split("\n");
    return { kind: "internal", message: first, help: rest.join(" ").trim(), retryable: false };
}

/** Says what failed. A config that is wrong is shown at its place; "Details" opens the log named. */
export async function tell(error: unknown, logs: Logs, log: string): Promise<void> {
    const problem = problemOf(error);
    logs.add(log, describe(problem));
    const text = [problem.message, problem.help].filter(Boolean).map(sentence).join(" ");
    const chosen = vscode.window.showErrorMessage(text, "Details");
    if (problem.uri) {
        await show(problem.uri, problem.range);
    }
    if ((await chosen) === "Details") {
        await logs.show(log);
    }
}

/** The log's account of a problem: all of its fields, one a line. */
function describe(problem: ErrorFields): string {
    const facts = Object.entries(problem.facts ?? {}).map(([name, value]) => `  ${name}: ${value}`);
    const causes = (problem.cause ?? []).map((cause) => `  caused by: ${cause}`);
    const place = problem.uri ? [`  in ${problem.uri}${problem.range ? `:${problem.range.start.line + 1}` : ""}`] : [];
    const candidates = problem.candidates?.length ? [`  could be: ${problem.candidates.join(", ")}`] : [];
    return [`error: ${problem.message} [${problem.kind}]`, ...(problem.help ? [`  ${problem.help}`] : []), ...place, ...causes, ...facts, ...candidates].join("\n");
}

async function show(uri: string, range: ErrorFields["range"]): Promise<void> {
    const selection = range && new vscode.Range(range.start.line, range.start.character, range.end.line, range.end.character);
    const where = /^[a-z][a-z0-9+.-]*:/iu.test(uri) ? vscode.Uri.parse(uri) : vscode.Uri.file(uri);
    await vscode.window.showTextDocument(where, selection ? { selection } : {});
}

/** `text` as a sentence: a capital first, a full stop last. */
export function sentence(text: string): string {
    const ended = /[.!?]$/u.test(text) ? text : `${text}.`;
    return ended.charAt(0).toUpperCase() + ended.slice(1);
}

function fieldOf(value: unknown, name: string): unknown {
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
