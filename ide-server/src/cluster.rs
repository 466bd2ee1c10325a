//! Kubernetes: the only place of the daemon that talks to it.

pub mod agent;

use crate::config::Resolved;
use crate::session::start::Steps;
use crate::target::Chosen;
use config_schema::Target;
use protocol::ide::{ErrorData, ErrorKind, TargetItem, TargetQuery, Targets};

/// Chooses the pod and container for a target.
pub async fn choose(_resolved: &Resolved, target: &Target, _steps: &Steps) -> Result<Chosen, ErrorData> {
    Err(ErrorData::new(
        ErrorKind::Unsupported,
        format!("{target}: this build reaches no cluster yet"),
        "use a local target: process/PID",
    ))
}

/// Lists what can be impersonated.
pub async fn list(
    _resolved: &Resolved,
    _query: &TargetQuery,
    _on_batch: &mut (dyn FnMut(Vec<TargetItem>) + Send),
) -> Result<Targets, ErrorData> {
    Err(ErrorData::new(
        ErrorKind::Unsupported,
        "this build reaches no cluster yet",
        "use a local target: process/PID",
    ))
}
