//! `session/list`.

use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{SessionList, Sessions};

pub(crate) fn handle(daemon: &Daemon, ask: Ask<SessionList>) {
    let mut sessions: Vec<_> = daemon.sessions.values().map(|session| daemon.info(session)).collect();
    sessions.sort_by_key(|session| session.started_at);
    answer(ask.reply, Ok(Sessions { sessions }));
}
