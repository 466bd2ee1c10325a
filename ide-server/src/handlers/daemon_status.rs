//! `daemon/status`.

use crate::agents::Phase;
use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{AgentInfo, DaemonStatus, Status};

pub(crate) fn handle(daemon: &Daemon, ask: Ask<DaemonStatus>) {
    let agents = daemon.agents.iter().map(|(name, agent)| AgentInfo {
        agent: name.clone(),
        target: agent.target.clone(),
        place: agent.record().map(|record| record.place_text()).unwrap_or_default(),
        sessions: agent.sessions.iter().cloned().collect(),
        state: match agent.phase {
            Phase::Starting { .. } => "starting",
            Phase::Ready(_) => "ready",
            Phase::Leaving(_) => "leaving",
        }
        .to_owned(),
    });
    let status = Status {
        daemon: daemon.discovery.clone(),
        clients: daemon.clients.len(),
        sessions: daemon.sessions.len(),
        agents: agents.collect(),
        idle_exit_seconds: daemon.idle_exit.map_or(0, |limit| limit.as_secs()),
    };
    answer(ask.reply, Ok(status));
}
