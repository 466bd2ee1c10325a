//! `session/start`: opens the session's books and sends a task to do the work (see `session::start`).

use crate::main_loop::{Ask, Daemon, answer};
use crate::session::{Session, SessionRecord, start};
use crate::state;
use protocol::host::TargetSummary;
use protocol::ide::{SessionStart, SessionState};

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionStart>) {
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
    if ask.params.events {
        session.followers.insert(ask.client, 0);
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
