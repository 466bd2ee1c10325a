// The editor's wire, as docs/protocol-ide.md describes it. Written by hand until it is generated.

export interface TextPosition { line: number; character: number }
export interface TextRange { start: TextPosition; end: TextPosition }

export interface Overrides { target?: string; namespace?: string; context?: string; kubeconfig?: string }
export interface ConfigSource { folder?: string; file?: string; text?: string; overrides?: Overrides; env?: Record<string, string> }

export interface PlanParams {
    config?: ConfigSource;
    mirrord?: unknown;
    enabled?: boolean;
    debug?: Record<string, unknown>;
    editor?: string;
    target?: string;
    group?: string;
}
export interface PlanAnswer {
    action: "off" | "pick" | "run";
    reason?: string;
    configFile?: string;
    target?: string;
    notices?: string[];
    patch?: Record<string, unknown>;
    plan?: string;
    coveredWithinMs?: number;
}
export interface ForgetParams { plan: string }

export interface TargetQuery { config?: ConfigSource; kinds?: string[]; text?: string; partialResultToken?: unknown }
export interface TargetItem {
    path: string;
    kind: string;
    namespace?: string | null;
    ready: boolean;
    containers: string[];
    reason?: string | null;
    inUseBy?: string[];
}
export interface TargetBatch { items: TargetItem[] }
export interface Targets { items: TargetItem[]; complete: boolean; missing?: string[]; context?: string | null; namespace?: string | null }
export interface NamespaceParams { config?: ConfigSource }
export interface Namespaces { namespaces: string[]; current?: string | null }

export interface StartParams { plan?: string; events?: boolean; workDoneToken?: unknown }
export interface TargetSummary { path: string; instance: string; container?: string | null; namespace?: string | null; context?: string | null }
export interface Started {
    session: string;
    folder?: string | null;
    config?: string | null;
    mode: string;
    identity: string;
    notices: string[];
    warm: boolean;
    target?: TargetSummary | null;
}

export type SessionState = "starting" | "ready" | "running" | "ending" | "ended";
export type AgentState = "connected" | "reconnecting" | "lost";
export interface PortState { pod_port: number; local_port: number; mode: string; connections: number }
export type SessionEvent =
    | { what: "process"; pid: number; executable: string; coverage: string }
    | ({ what: "port" } & PortState)
    | { what: "port-closed"; pod_port: number }
    | { what: "connection"; pod_port: number; peer_addr: string }
    | { what: "warning"; code: string; message: string }
    | { what: "agent"; state: AgentState; message: string }
    | { what: "ended"; code?: number | null; signal?: number | null };
export type News = { kind: "state"; state: SessionState; message: string } | { kind: "happened"; happened: SessionEvent };
export interface EventParams { session: string; plan?: string | null; seq: number; at: number; missed?: number; event: News }

export interface HostStatus { session: string; debuggee_pid: number; mode: string; agent: AgentState; ports: PortState[] }
export interface SessionInfo {
    session: string;
    plan?: string | null;
    state: SessionState;
    target: TargetSummary;
    startedAt: number;
    command: string[];
    agent?: AgentState | null;
    host?: HostStatus | null;
}
export interface Sessions { sessions: SessionInfo[] }
export interface AttachParams { session: string; fromSeq?: number }
export interface StopParams { session?: string; all?: boolean; graceMs?: number }
export interface Stopped { ended: string[]; agents: string[]; left?: string[] }
export interface Done { [none: string]: never }

export type WorkProgress =
    | { kind: "begin"; title: string; cancellable?: boolean }
    | { kind: "report"; message: string }
    | { kind: "end"; message?: string | null };

export interface ClientOptions { client?: string; clientVersion?: string; editor?: boolean; protocol?: { min: number; max: number } }
export interface DaemonOptions { protocol: number; version: string; targetKinds: string[]; methods: string[] }
export interface Discovery { pid: number; version: string; protocols: number[]; socket: string; startedAt: number }

export interface ErrorFields {
    kind: string;
    message: string;
    help: string;
    retryable?: boolean;
    uri?: string;
    range?: TextRange;
    target?: string;
    cause?: string[];
    facts?: Record<string, string>;
    candidates?: string[];
}

export interface Methods {
    "session/plan": { params: PlanParams; answer: PlanAnswer };
    "session/forget": { params: ForgetParams; answer: Done };
    "session/start": { params: StartParams; answer: Started };
    "session/list": { params: Record<string, never>; answer: Sessions };
    "session/attach": { params: AttachParams; answer: SessionInfo };
    "session/stop": { params: StopParams; answer: Stopped };
    "target/list": { params: TargetQuery; answer: Targets };
    "namespace/list": { params: NamespaceParams; answer: Namespaces };
}
export interface Notices {
    "session/event": EventParams;
}
