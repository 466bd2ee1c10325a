//! What the front is told when the program cannot be started.

use crate::agent_link::LinkError;
use crate::launch::LaunchError;
use protocol::host::{Failure, Ticket};

pub(super) fn failure(kind: &str, message: impl Into<String>, help: impl Into<String>) -> Box<Failure> {
    Box::new(Failure {
        kind: kind.into(),
        message: message.into(),
        help: help.into(),
        retryable: false,
        cause: vec![],
    })
}

pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> Box<Failure> {
    Box::new(Failure {
        cause: vec![error.to_string()],
        retryable: true,
        ..*failure("host-failed", format!("{what} on this machine"), "see the session's host.log")
    })
}

impl From<LaunchError> for Box<Failure> {
    fn from(error: LaunchError) -> Self {
        failure(error.kind(), error.to_string(), error.help())
    }
}

pub(super) fn agent_unreachable(ticket: &Ticket, error: &LinkError) -> Box<Failure> {
    Box::new(Failure {
        kind: "agent-unreachable".into(),
        message: format!("the agent of {} does not answer", ticket.target.path),
        help: "start again: a new agent is made; `mirrord-ide status` shows what is running".into(),
        retryable: error.retryable(),
        cause: error.words(),
    })
}
