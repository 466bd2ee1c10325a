//! `session/start`: opens the session's books and sends a task to do the work (see `session::start`).

use super::no_such_plan;
use crate::main_loop::{Ask, Daemon, answer};
use crate::session::{Session, SessionRecord, start};
use crate::state;
use protocol::host::TargetSummary;
use protocol::ide::{SessionStart, SessionState};

/// Where the ticket of a plan's session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticket {
    /// To who asks.
    HandOut,
    /// Into the plan, for who redeems it.
    Keep,
}

pub(crate) fn handle(daemon: &mut Daemon, mut ask: Ask<SessionStart>) {
    let Some(name) = &ask.params.plan else { return start(daemon, ask, Ticket::HandOut) };
    match daemon.plans.get(name) {
        Some(plan) => ask.params.config = plan.config.clone(),
        None => {
            let error = no_such_plan(name);
            return answer(ask.reply, Err(error));
        }
    }
    start(daemon, ask, Ticket::Keep);
}

pub(super) fn start(daemon: &mut Daemon, ask: Ask<SessionStart>, ticket: Ticket) {
    let name = match state::fresh_name() {
        Ok(name) => name,
        Err(error) => return answer(ask.reply, Err(error)),
    };
    let record = SessionRecord {
        session: name.clone(),
        started_at: state::now(),
        target: TargetSummary::default(),
        public_key: String::new(),
        agent: None,
        command: ask.params.launch.command.clone(),
    };
    let mut session = Session::new(record.clone(), SessionState::Starting, Some(ask.client));
    session.plan.clone_from(&ask.params.plan);
    session.keeps_ticket = ticket == Ticket::Keep;
    let editor =
        ask.params.plan.as_ref().and_then(|plan| daemon.plans.get(plan)).and_then(|plan| plan.client);
    for client in editor.into_iter().chain(ask.params.events.then_some(ask.client)) {
        session.followers.insert(client, 0);
    }
    start::spawn(start::Context {
        state: daemon.state.clone(),
        events: daemon.events.clone(),
        record,
        cancel: session.cancel.clone(),
        ask,
    });
    daemon.sessions.insert(name, session);
}
