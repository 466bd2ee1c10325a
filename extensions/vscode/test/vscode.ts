// A stand-in for VS Code's API, made by hand: as much of it as the extension uses. What the extension shows is kept in
// `shown`, and a test plays the user by acting on that.

type Listener<T> = (event: T) => unknown;

export class Disposable {
    constructor(private readonly act: () => void) {}
    dispose(): void {
        this.act();
    }
}

export class EventEmitter<T> {
    private readonly listeners = new Set<Listener<T>>();
    readonly event = (listener: Listener<T>): Disposable => {
        this.listeners.add(listener);
        return new Disposable(() => this.listeners.delete(listener));
    };
    fire(event: T): void {
        [...this.listeners].forEach((listener) => listener(event));
    }
    dispose(): void {
        this.listeners.clear();
    }
}

export class CancellationError extends Error {}

export class CancellationTokenSource {
    private readonly emitter = new EventEmitter<void>();
    readonly token = { isCancellationRequested: false, onCancellationRequested: this.emitter.event };
    cancel(): void {
        if (!this.token.isCancellationRequested) {
            this.token.isCancellationRequested = true;
            this.emitter.fire();
        }
    }
    dispose(): void {
        this.emitter.dispose();
    }
}

export class Uri {
    private constructor(
        readonly scheme: string,
        readonly path: string,
    ) {}
    static file(path: string): Uri {
        return new Uri("file", path);
    }
    static parse(text: string): Uri {
        const url = new URL(text);
        return new Uri(url.protocol.slice(0, -1), decodeURIComponent(url.pathname));
    }
    static from(parts: { scheme: string; path: string }): Uri {
        return new Uri(parts.scheme, parts.path);
    }
    get fsPath(): string {
        return this.path;
    }
    toString(): string {
        return `${this.scheme}://${this.path}`;
    }
}

export class Range {
    constructor(
        readonly startLine: number,
        readonly startCharacter: number,
        readonly endLine: number,
        readonly endCharacter: number,
    ) {}
}

export class ThemeIcon {
    constructor(readonly id: string) {}
}
export class ThemeColor {
    constructor(readonly id: string) {}
}
export class MarkdownString {
    constructor(public value = "") {}
    appendMarkdown(text: string): this {
        this.value += text;
        return this;
    }
    appendText(text: string): this {
        return this.appendMarkdown(text.replace(/[\\`*_{}[\]()#+\-.!]/gu, "\\$&"));
    }
}

export class ProcessExecution {
    constructor(
        readonly process: string,
        readonly args: string[],
        readonly options?: object,
    ) {}
}
export class ShellExecution {
    constructor(
        readonly commandLine: string | undefined,
        readonly options?: object,
    ) {}
}
export class CustomExecution {}
export class Task {
    group?: { id: string; isDefault?: boolean };
    presentationOptions = {};
    constructor(
        readonly definition: Record<string, unknown>,
        readonly scope: unknown,
        readonly name: string,
        readonly source: string,
        readonly execution: unknown,
        readonly problemMatchers: string[] = [],
    ) {}
}
export class TerminalProfile {
    constructor(readonly options: unknown) {}
}

export const StatusBarAlignment = { Left: 1, Right: 2 };
export const QuickPickItemKind = { Separator: -1, Default: 0 };
export const ProgressLocation = { Notification: 15 };
export const TaskScope = { Workspace: 2 };
export const TaskGroup = { Build: { id: "build" } };

/** One message with the buttons it offers; `press` is the user's choice. */
export interface Message {
    level: "error" | "warning" | "information";
    text: string;
    buttons: string[];
    press(button?: string): void;
}

class StatusBarItem {
    name = "";
    text = "";
    command = "";
    tooltip: unknown;
    backgroundColor: ThemeColor | undefined;
    accessibilityInformation: unknown;
    visible = false;
    constructor(readonly id: string) {}
    show(): void {
        this.visible = true;
    }
    hide(): void {
        this.visible = false;
    }
    dispose(): void {
        this.visible = false;
    }
}

export interface Row {
    label: string;
    kind?: number;
    description?: string;
    detail?: string;
    buttons?: unknown[];
}

export class QuickPick {
    title = "";
    placeholder = "";
    busy = false;
    items: Row[] = [];
    activeItems: Row[] = [];
    selectedItems: Row[] = [];
    buttons: { tooltip: string }[] = [];
    visible = false;
    private readonly accepted = new EventEmitter<void>();
    private readonly hidden = new EventEmitter<void>();
    private readonly pressed = new EventEmitter<unknown>();
    private readonly pressedOnItem = new EventEmitter<{ item: Row; button: unknown }>();
    readonly onDidAccept = this.accepted.event;
    readonly onDidHide = this.hidden.event;
    readonly onDidTriggerButton = this.pressed.event;
    readonly onDidTriggerItemButton = this.pressedOnItem.event;
    show(): void {
        this.visible = true;
    }
    hide(): void {
        this.visible = false;
        this.hidden.fire();
    }
    dispose(): void {
        this.visible = false;
    }
    /** The user's acts. */
    accept(label: string): void {
        this.selectedItems = this.items.filter((item) => item.label === label);
        this.accepted.fire();
    }
    button(tooltip: string): void {
        this.pressed.fire(this.buttons.find((button) => button.tooltip === tooltip));
    }
    itemButton(label: string): void {
        const item = this.items.find((one) => one.label === label);
        this.pressedOnItem.fire({ item: item as Row, button: item?.buttons?.[0] });
    }
    get labels(): string[] {
        return this.items.map((item) => item.label);
    }
}

/** What the extension shows and does, for tests to look at and act on. */
export const shown = {
    messages: [] as Message[],
    items: [] as StatusBarItem[],
    picks: [] as QuickPick[],
    documents: [] as { uri: Uri; options: unknown }[],
    progress: [] as { title: string; messages: string[]; cancel(): void; done: boolean }[],
    terminals: [] as unknown[],
    commands: [] as string[],
    registered: [] as string[],
    executed: [] as Task[],
    debugged: [] as { folder: unknown; config: Record<string, unknown>; options: unknown }[],
    /** What `showQuickPick` and `showInputBox` answer, in order. */
    answers: [] as (string | undefined)[],
    asked: [] as unknown[],
    settings: {} as Record<string, unknown>,
    tasks: [] as Task[],
    taskEnds: new EventEmitter<{ execution: unknown; exitCode: number | undefined }>(),
    contents: new Map<string, { provideTextDocumentContent(uri: Uri): unknown }>(),
};

export function reset(): void {
    for (const value of Object.values(shown)) {
        if (Array.isArray(value)) {
            value.length = 0;
        }
    }
    shown.settings = {};
    shown.contents.clear();
    workspace.workspaceFolders = undefined;
}

function message(level: Message["level"]) {
    return (text: string, ...buttons: string[]): Promise<string | undefined> =>
        new Promise((resolve) => shown.messages.push({ level, text, buttons, press: resolve }));
}

export const window = {
    activeTextEditor: undefined as { document: { languageId: string } } | undefined,
    showErrorMessage: message("error"),
    showWarningMessage: message("warning"),
    showInformationMessage: message("information"),
    createStatusBarItem(id: string): StatusBarItem {
        const item = new StatusBarItem(id);
        shown.items.push(item);
        return item;
    },
    createQuickPick(): QuickPick {
        const pick = new QuickPick();
        shown.picks.push(pick);
        return pick;
    },
    async showQuickPick(items: unknown): Promise<string | undefined> {
        shown.asked.push(await items);
        return shown.answers.shift();
    },
    async showInputBox(options: unknown): Promise<string | undefined> {
        shown.asked.push(options);
        return shown.answers.shift();
    },
    async showTextDocument(uri: Uri, options: unknown): Promise<void> {
        shown.documents.push({ uri, options });
    },
    async withProgress<T>(options: { title: string }, work: (progress: unknown, token: unknown) => Promise<T>): Promise<T> {
        const source = new CancellationTokenSource();
        const one = { title: options.title, messages: [] as string[], cancel: () => source.cancel(), done: false };
        shown.progress.push(one);
        try {
            return await work({ report: (step: { message: string }) => one.messages.push(step.message) }, source.token);
        } finally {
            one.done = true;
        }
    },
    createTerminal(options: unknown) {
        shown.terminals.push(options);
        return { show: () => undefined };
    },
    createOutputChannel: () => ({ info: () => undefined, warn: () => undefined, show: () => undefined, dispose: () => undefined }),
    registerTerminalProfileProvider: (id: string) => registered(`terminal ${id}`),
};

export const workspace = {
    workspaceFolders: undefined as { uri: Uri; name: string }[] | undefined,
    getConfiguration: (section: string) => ({ get: (name: string, otherwise?: unknown) => shown.settings[`${section}.${name}`] ?? otherwise }),
    registerTextDocumentContentProvider(scheme: string, provider: { provideTextDocumentContent(uri: Uri): unknown }): Disposable {
        shown.contents.set(scheme, provider);
        return new Disposable(() => shown.contents.delete(scheme));
    },
    onDidChangeConfiguration: () => new Disposable(() => undefined),
};

export const commands = {
    registerCommand: (name: string) => registered(`command ${name}`),
    async executeCommand(name: string): Promise<void> {
        shown.commands.push(name);
        await shown.settings["during command"];
    },
};

export const debug = {
    registerDebugConfigurationProvider: (type: string) => registered(`provider ${type}`),
    registerDebugAdapterTrackerFactory: (type: string) => registered(`tracker ${type}`),
    onDidStartDebugSession: () => new Disposable(() => undefined),
    onDidTerminateDebugSession: () => new Disposable(() => undefined),
    async startDebugging(folder: unknown, config: Record<string, unknown>, options: unknown): Promise<boolean> {
        shown.debugged.push({ folder, config, options });
        return shown.settings["debugging fails"] !== true;
    },
    async stopDebugging(session: { id: string }): Promise<void> {
        shown.commands.push(`stop ${session.id}`);
    },
};

export const tasks = {
    fetchTasks: async () => shown.tasks,
    async executeTask(task: Task): Promise<Task> {
        shown.executed.push(task);
        return task;
    },
    onDidEndTaskProcess: shown.taskEnds.event,
};

export const extensions = {
    all: [
        { extensionPath: "/extensions/other", packageJSON: {} },
        { extensionPath: "/extensions/debugpy", packageJSON: { contributes: { debuggers: [{ label: "Python" }, { type: "debugpy" }] } } },
    ],
    getExtension: () => ({ packageJSON: shown.settings["package.json"] }),
};
export const env = { shell: "/bin/bash" };

function registered(what: string): Disposable {
    shown.registered.push(what);
    return new Disposable(() => undefined);
}
