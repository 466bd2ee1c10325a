//! Processes of this machine as targets.

use super::Chosen;
use crate::agents::{AgentSpec, local::LocalSpec, process};
use crate::config::Resolved;
use crate::session::start::{host_name, user_name};
use protocol::host::TargetSummary;
use protocol::ide::{ErrorData, ErrorKind};
use std::os::unix::fs::MetadataExt;

/// A process of ours, or any if we are root.
pub fn choose(resolved: &Resolved, pid: u32) -> Result<Chosen, ErrorData> {
    let path = format!("process/{pid}");
    let not_found = || {
        ErrorData::new(ErrorKind::TargetNotFound, format!("there is no process {pid}"), "see `ps` for its id")
            .target(path.clone())
    };
    let id = i32::try_from(pid).map_err(|_| not_found())?;
    let start_time =
        process::start_time(id).filter(|since| process::lives(id, *since)).ok_or_else(not_found)?;
    // The owner of the folder is the process's effective user, or root where the process is not dumpable.
    let owner = std::fs::metadata(format!("/proc/{pid}")).map_err(|_| not_found())?.uid();
    let me = nix::unistd::geteuid();
    if !me.is_root() && owner != me.as_raw() {
        return Err(ErrorData::new(
            ErrorKind::Forbidden,
            format!("process {pid} belongs to another user (uid {owner}), and we are {}", user_name()),
            "run mirrord-ide as that user or as root",
        )
        .target(path));
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let summary = TargetSummary {
        path,
        instance: format!("{} (pid {pid})", name.trim()),
        container: None,
        namespace: None,
        context: None,
    };
    let log_level = resolved.config.agent().log_level().to_owned();
    Ok(Chosen {
        summary,
        agent: AgentSpec::Local(LocalSpec { pid: id, start_time, log_level }),
        declared: None,
        identity: format!("{}@{}", user_name(), host_name()),
        notices: Vec::new(),
    })
}
