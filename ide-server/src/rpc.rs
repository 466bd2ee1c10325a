//! JSON-RPC with LSP framing: the only place that knows of it.
//!
//! [`service`] turns requests into calls to the main loop by tower-lsp-server, [`connection`] moves the messages of one
//! client, [`client`] is the other side for the command line, [`framing`] cuts bytes into messages.

pub mod client;
pub mod connection;
pub mod framing;
pub mod service;
