//! The wires of mirrord-ide, as plain data: no I/O, no clocks, no threads.
//!
//! [`agent`] is spoken between session host and agent, [`host`] between daemon, front and session host,
//! [`ide`] between editors (and the command line) and the daemon, [`layer`] is what the debuggee is handed.
//! [`codec`] frames the binary wire, [`auth`] proves who may speak to an agent.

#![forbid(unsafe_code)]

pub mod agent;
pub mod auth;
pub mod codec;
pub mod host;
pub mod ide;
pub mod layer;

/// The version of this build, as the handshakes and annotations carry it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
