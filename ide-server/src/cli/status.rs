//! `status`: what runs.

use super::args::StatusArgs;
use super::terminal;
use crate::daemon::ensure;
use crate::state::StateFolder;
use protocol::ide::{
    DaemonStatus, ErrorData, ListParams, SessionInfo, SessionList, SessionState, StatusParams,
};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, ErrorData> {
    let state = StateFolder::locate()?;
    // Asking must not start a daemon, unless a killed one has left something that only a daemon can tell of.
    let client = match ensure::connect(&state) {
        Some(client) => Some(client),
        None if something_is_left(&state) => Some(ensure::ensure(&state)?.0),
        None => None,
    };
    let Some(mut client) = client else {
        if args.json {
            terminal::out("{\"daemon\":null,\"sessions\":[]}")?;
        } else {
            terminal::out("no daemon, no session")?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let status = client.call::<DaemonStatus>(&StatusParams {})?;
    let sessions = client.call::<SessionList>(&ListParams {})?.sessions;
    if args.json {
        let value = json!({ "daemon": status, "sessions": sessions });
        terminal::out(&value.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    terminal::out(&format!(
        "daemon {} pid {}, {}",
        status.daemon.version, status.daemon.pid, status.daemon.socket
    ))?;
    for session in &sessions {
        terminal::out(&line(session))?;
    }
    for agent in &status.agents {
        let held = match agent.sessions.as_slice() {
            [] => "warm".to_owned(),
            names => format!("for {}", names.join(", ")),
        };
        terminal::out(&format!(
            "agent {} {} on {}, {}, {held}",
            agent.agent, agent.state, agent.target, agent.place
        ))?;
    }
    if sessions.is_empty() {
        terminal::out("no session")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(session: &SessionInfo) -> String {
    let state = match session.state {
        SessionState::Starting => "starting",
        SessionState::Ready => "ready",
        SessionState::Running => "running",
        SessionState::Ending => "ending",
        SessionState::Ended => "ended",
    };
    let mut text = format!("session {} {state} {}", session.session, session.target.path);
    if let Some(host) = &session.host {
        text.push_str(&format!(" pid {} ({})", host.debuggee_pid, host.mode));
        for port in &host.ports {
            text.push_str(&format!(", port {} to {}", port.pod_port, port.local_port));
        }
    }
    if !session.command.is_empty() {
        text.push_str(&format!(": {}", session.command.join(" ")));
    }
    text
}

/// Whether a session or an agent stands in the state folder.
pub(super) fn something_is_left(state: &StateFolder) -> bool {
    [state.sessions(), state.agents()]
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}
