//! One file a method: what the main loop does when it is called.

pub mod config_verify;
pub mod daemon_status;
pub mod daemon_stop;
pub mod namespace_list;
pub mod session_attach;
pub mod session_explain;
pub mod session_forget;
pub mod session_list;
pub mod session_plan;
pub mod session_redeem;
pub mod session_start;
pub mod session_stop;
pub mod session_subscribe;
pub mod target_list;

use protocol::ide::{ErrorData, ErrorKind};

/// The answer to all that is asked of an ending daemon.
pub fn shutting_down() -> ErrorData {
    ErrorData::new(ErrorKind::ShuttingDown, "the daemon is ending", "try again; a new daemon is started then")
        .retryable()
}

/// What ends the making of an agent that nobody waits for any more.
pub(crate) fn not_wanted() -> ErrorData {
    ErrorData::new(ErrorKind::Cancelled, "the agent was not wanted any more", "start it again")
}

/// The answer to all that is asked of a plan that is not there.
fn no_such_plan(name: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::NoSuchSession,
        format!("there is no plan {name}: its debug session is over"),
        "start the program again from the editor",
    )
}

/// The answer to all that is asked of a session that is not there.
fn no_such_session(name: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::NoSuchSession,
        format!("there is no session {name}"),
        "see `mirrord-ide status` for the sessions there are",
    )
}
