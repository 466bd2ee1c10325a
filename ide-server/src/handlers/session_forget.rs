//! `session/forget`.

use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{Done, SessionForget};

/// A plan that is not there any more is as good as forgotten.
pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionForget>) {
    if daemon.plans.contains_key(&ask.params.plan) {
        daemon.remove_plan(&ask.params.plan);
    }
    answer(ask.reply, Ok(Done {}));
}
