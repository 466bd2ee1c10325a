//! `daemon/stop`.

use crate::main_loop::{Ask, Daemon, Event, answer};
use protocol::ide::{DaemonStop, Done, ErrorData, ErrorKind};

pub(crate) fn handle(daemon: &Daemon, ask: Ask<DaemonStop>) {
    let busy = daemon.sessions.len();
    if busy > 0 && !ask.params.force {
        let message = format!("the daemon still has {busy} session{}", if busy == 1 { "" } else { "s" });
        let help =
            "stop them with `mirrord-ide stop --all`, or force the daemon's end: sessions live on without it";
        answer(ask.reply, Err(ErrorData::new(ErrorKind::SessionsActive, message, help)));
        return;
    }
    answer(ask.reply, Ok(Done {}));
    daemon.later(Event::Terminate);
}
