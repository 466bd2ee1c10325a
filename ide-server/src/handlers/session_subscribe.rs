//! `session/subscribe`.

use super::no_such_session;
use crate::main_loop::{Ask, Daemon, answer};
use protocol::host::HostCommand;
use protocol::ide::{Done, ErrorData, ErrorKind, SessionSubscribe};

/// The session host does it and tells of the port by an event; what it refuses comes as a warning.
pub(crate) fn handle(daemon: &Daemon, ask: Ask<SessionSubscribe>) {
    let params = ask.params;
    let outcome = match daemon.sessions.get(&params.session) {
        None => Err(no_such_session(&params.session)),
        Some(session) => match &session.host {
            None => Err(ErrorData::new(
                ErrorKind::LayerNotConnected,
                format!("the program of session {} does not run yet", params.session),
                "subscribe when the session is running",
            )
            .retryable()),
            Some(host) => {
                host.command(HostCommand::Subscribe {
                    pod_port: params.pod_port,
                    local_port: params.local_port,
                });
                Ok(Done {})
            }
        },
    };
    answer(ask.reply, outcome);
}
