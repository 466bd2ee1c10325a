//! JSON-RPC: the only place that knows of it.
//!
//! [`service`] has the one method table and turns requests into calls to the main loop. There are two doors to it: LSP
//! framing through tower-lsp-server ([`connection`] moves the messages of one client, [`framing`] cuts bytes into
//! messages), and HTTP and WebSocket through jsonrpsee ([`http`]). [`client`] is the other side for the command line.

pub mod client;
pub mod connection;
pub mod framing;
pub mod http;
pub mod service;
