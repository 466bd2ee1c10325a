//! The methods on the daemon itself.

use super::Method;
use super::session::Done;
use serde::{Deserialize, Serialize};

/// Says how the daemon is.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DaemonStatus {}

impl Method for DaemonStatus {
    const NAME: &'static str = "daemon/status";
    type Params = StatusParams;
    type Answer = Status;
}

/// No parameters yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusParams {}

/// The answer of `daemon/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where it listens.
    pub daemon: Discovery,
    /// Connections now, this one counted.
    pub clients: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Agents now.
    pub agents: Vec<AgentInfo>,
    /// Seconds without client, session and agent after which it ends; 0 for never.
    pub idle_exit_seconds: u64,
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentInfo {
    /// Its name.
    pub agent: String,
    /// What it looks at.
    pub target: String,
    /// Where it is, for people: `pid 12`, `job shop/mirrord-ide-x`.
    pub place: String,
    /// The sessions it serves.
    pub sessions: Vec<String>,
    /// Starting, ready, leaving.
    pub state: String,
}

/// What stands beside the socket as `ide-v1.json`, and what `serve --ensure` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// The daemon's process id.
    pub pid: u32,
    /// Its build.
    pub version: String,
    /// Protocols it speaks.
    pub protocols: Vec<u32>,
    /// The socket's path.
    pub socket: String,
    /// The path of the socket that speaks HTTP and WebSocket.
    #[serde(default)]
    pub http_socket: String,
    /// Milliseconds since 1970.
    pub started_at: u64,
}

/// Ends the daemon. Sessions live on and the next daemon takes them over, so it refuses while there are any, unless
/// forced.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DaemonStop {}

impl Method for DaemonStop {
    const NAME: &'static str = "daemon/stop";
    type Params = DaemonStopParams;
    type Answer = Done;
}

/// How to end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonStopParams {
    /// Although sessions run.
    pub force: bool,
}
