//! `session/attach`.

use super::no_such_session;
use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{SessionAttach, SessionNews};

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionAttach>) {
    let Some(session) = daemon.sessions.get_mut(&ask.params.session) else {
        answer(ask.reply, Err(no_such_session(&ask.params.session)));
        return;
    };
    let mut missed = 0;
    for event in session.kept.iter().filter(|event| event.seq > ask.params.from_seq) {
        if !ask.outbox.notify::<SessionNews>(event) {
            missed += 1;
        }
    }
    session.followers.insert(ask.client, missed);
    // A window that was reloaded follows its plans' next sessions too.
    if let Some(plan) = session.plan.as_ref().and_then(|plan| daemon.plans.get_mut(plan)) {
        plan.client.get_or_insert(ask.client);
    }
    answer(ask.reply, Ok(session.info()));
}
