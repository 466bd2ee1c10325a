//! The methods on sessions.

use super::config::ConfigSource;
use super::{Method, Notice};
use crate::host::{AgentState, HostStatus, SessionEvent, TargetSummary, Ticket};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Resolves the target, prepares the agent and says what is to be launched.
///
/// Sent once a run. Steps are told by `$/progress` under `workDoneToken`; `$/cancelRequest` removes what was made. The
/// session belongs to the connection until its session host listens: if the connection ends before, so does it.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionStart {}

impl Method for SessionStart {
    const NAME: &'static str = "session/start";
    type Params = StartParams;
    type Answer = Started;
}

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StartParams {
    /// The config, and what stands over it.
    pub config: ConfigSource,
    /// The program that will run.
    pub launch: LaunchPlan,
    /// Whether this connection wants `session/event` of the session.
    pub events: bool,
    /// The plan that it is for; config and launch are the plan's then.
    pub plan: Option<String>,
    /// Names the steps.
    pub work_done_token: Option<serde_json::Value>,
}

/// The program that will run, as far as it decides something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LaunchPlan {
    /// Program and arguments; debugger ports are recognised in them.
    pub command: Vec<String>,
    /// Variables of its environment that hold debugger settings: `NODE_OPTIONS`, `JAVA_TOOL_OPTIONS` …
    pub env: BTreeMap<String, String>,
    /// Ports of the debugger that the editor knows of.
    pub debugger_ports: Vec<u16>,
}

/// The answer of `session/start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// The session's name.
    pub session: String,
    /// What the session host needs. Holds the session's private key: pass it on, do not keep it. Absent where a plan's
    /// session was made ready: whoever redeems the plan gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// What is impersonated.
    #[serde(default)]
    pub target: TargetSummary,
    /// The session's folder, where its log is.
    #[serde(default)]
    pub folder: String,
    /// The config file that was used.
    pub config: Option<String>,
    /// `mirror`, `steal` or `off`.
    pub mode: String,
    /// Who the cluster says we are, or the local user.
    pub identity: String,
    /// What the user should know before the program runs, one sentence each.
    pub notices: Vec<String>,
    /// Whether a running agent was joined.
    pub warm: bool,
}

/// Something happened in a session; sent to the connections that started or attached to it.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionNews {}

impl Notice for SessionNews {
    const NAME: &'static str = "session/event";
    type Params = EventParams;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EventParams {
    /// The session.
    pub session: String,
    /// The plan that it runs by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Counts from 1 a session, without gaps; `missed` says how many were dropped for this connection before this one.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// Events that this connection was too slow for.
    #[serde(default)]
    pub missed: u64,
    /// What.
    pub event: News,
}

/// An event of the session host, or of the daemon about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum News {
    /// The session is in another state.
    State {
        /// Now.
        state: SessionState,
        /// Why; one sentence.
        message: String,
    },
    /// The session host tells.
    Happened {
        /// What.
        happened: SessionEvent,
    },
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Target and agent are being prepared.
    Starting,
    /// Prepared; the program is not there yet.
    Ready,
    /// The program runs.
    Running,
    /// Being stopped.
    Ending,
    /// Gone.
    Ended,
}

/// Lists the sessions of all windows and terminals of this user.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionList {}

impl Method for SessionList {
    const NAME: &'static str = "session/list";
    type Params = ListParams;
    type Answer = Sessions;
}

/// No parameters yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListParams {}

/// The answer of `session/list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sessions {
    /// The sessions, oldest first.
    pub sessions: Vec<SessionInfo>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its name.
    pub session: String,
    /// The plan that it runs by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// How far it is.
    pub state: SessionState,
    /// What is impersonated.
    pub target: TargetSummary,
    /// Milliseconds since 1970 of its start.
    pub started_at: u64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The link to the agent, when the session host has told.
    pub agent: Option<AgentState>,
    /// All that the session host has told.
    pub host: Option<HostStatus>,
    /// Whether the editor that it was started from is connected.
    #[serde(default)]
    pub attended: bool,
}

/// Follows a session of another connection, or an own one after a restart of the editor or the daemon.
///
/// Events after `fromSeq` that are still kept come at once. An editor that comes back asks for `reattach` as well: the
/// answer then says how its debugger gets hold of the program again.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionAttach {}

impl Method for SessionAttach {
    const NAME: &'static str = "session/attach";
    type Params = AttachParams;
    type Answer = Attached;
}

/// What to follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AttachParams {
    /// The session.
    pub session: String,
    /// Only events after this one.
    #[serde(default)]
    pub from_seq: u64,
    /// Whether the program's debugger is gone and another one is to get hold of it.
    #[serde(default)]
    pub reattach: bool,
}

/// The answer of `session/attach`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The session as it is now.
    #[serde(flatten)]
    pub info: SessionInfo,
    /// What changes in the patched debug configuration so that its debugger attaches to the running program: an RFC 7396
    /// merge patch. `null` where nobody asked for it, or where it cannot be done.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub reattach: Option<serde_json::Value>,
    /// Why it cannot be done, where it was asked for; one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reattach_refused: Option<String>,
}

/// Ends sessions: the program first, then what was made for it. Answers when all is gone.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionStop {}

impl Method for SessionStop {
    const NAME: &'static str = "session/stop";
    type Params = StopParams;
    type Answer = Stopped;
}

/// What to stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StopParams {
    /// One session.
    pub session: Option<String>,
    /// All of them, and the agents kept warm.
    pub all: bool,
    /// Milliseconds that the program has to end by itself; 3000 without.
    pub grace_ms: Option<u32>,
}

/// The answer of `session/stop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stopped {
    /// The sessions that ended.
    pub ended: Vec<String>,
    /// Agents that were removed with them.
    pub agents: Vec<String>,
    /// What could not be removed, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// Takes one more port of the pod to a port of this machine in a running session.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionSubscribe {}

impl Method for SessionSubscribe {
    const NAME: &'static str = "session/subscribe";
    type Params = SubscribeParams;
    type Answer = Done;
}

/// Which port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubscribeParams {
    /// The session.
    pub session: String,
    /// The port in the pod.
    pub pod_port: u16,
    /// Where the program listens on this machine.
    pub local_port: u16,
}

/// Nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}
