//! `daemon/stop`.

use crate::main_loop::{Ask, Daemon, Event, answer, send};
use protocol::ide::{DaemonStop, Done, ErrorData, ErrorKind};
use std::time::Duration;

/// How long an asker that has its answer may keep an ending daemon.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<DaemonStop>) {
    let busy = daemon.sessions.len();
    if busy > 0 && !ask.params.force {
        let message = format!("the daemon still has {busy} session{}", if busy == 1 { "" } else { "s" });
        let help =
            "stop them with `mirrord-ide stop --all`, or force the daemon's end: sessions live on without it";
        answer(ask.reply, Err(ErrorData::new(ErrorKind::SessionsActive, message, help)));
        return;
    }
    answer(ask.reply, Ok(Done {}));
    // The asker is to read the answer; it hangs up then, or is not waited for.
    daemon.ends_with = Some(ask.client);
    let events = daemon.events.clone();
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        send(&events, Event::Terminate);
    });
}
