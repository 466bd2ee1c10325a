//! An agent as a Job beside the target's pod.

use crate::agents::AgentRecord;
use crate::session::start::Steps;
use protocol::auth::PublicKey;
use protocol::host::Endpoint;
use protocol::ide::{ErrorData, ErrorKind};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the agent's Job is to be.
#[derive(Clone, Debug)]
pub struct JobSpec {}

impl JobSpec {
    /// Equal for sessions that can share an agent.
    pub fn key(&self) -> String {
        String::new()
    }
    /// The target, for people.
    pub fn target_text(&self) -> String {
        String::new()
    }
}

fn not_yet() -> ErrorData {
    ErrorData::new(ErrorKind::Unsupported, "this build reaches no cluster yet", "use process/PID")
}

/// Creates the Job.
pub async fn create(
    _agent: &str,
    _spec: &JobSpec,
    _key: PublicKey,
    _idle: Duration,
    _steps: &Steps,
    _cancel: &CancellationToken,
) -> Result<AgentRecord, ErrorData> {
    Err(not_yet())
}

/// Lets one more session in.
pub async fn admit(_: &Endpoint, _: &str, _: &str, _: PublicKey) -> Result<(), ErrorData> {
    Err(not_yet())
}

/// Removes the Job.
pub async fn remove(_: &Endpoint, _: &str, _: &str, _: &str) -> Result<(), ErrorData> {
    Err(not_yet())
}
