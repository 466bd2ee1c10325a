//! `session/plan`: a task reads the config and writes the scripts.

use crate::main_loop::{Ask, Daemon};
use crate::plans;
use protocol::ide::SessionPlan;

pub(crate) fn handle(daemon: &Daemon, ask: Ask<SessionPlan>) {
    plans::spawn(daemon.state.clone(), daemon.events.clone(), ask);
}
