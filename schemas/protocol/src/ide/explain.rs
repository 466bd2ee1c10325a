//! The method that tells where things go.

use super::Method;
use crate::host::Place;
use serde::{Deserialize, Serialize};

/// Tells where a path or an address goes in a running session, and what says so.
///
/// Nothing is opened, looked up or connected for it.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionExplain {}

impl Method for SessionExplain {
    const NAME: &'static str = "session/explain";
    type Params = ExplainParams;
    type Answer = Explanation;
}

/// What to explain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainParams {
    /// The session; may be left out where one alone runs.
    pub session: Option<String>,
    /// An absolute path, or `HOST:PORT` with an address or a name (TCP; `udp:HOST:PORT` for datagrams).
    pub what: String,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The session that was asked.
    pub session: String,
    /// `local` is this machine, `remote` the pod.
    pub place: Place,
    /// What says so: a key of the config, a mount of the pod, or a reason.
    pub rule: String,
}
