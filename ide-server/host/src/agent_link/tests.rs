//! Tests of the link against a peer in the same process that speaks the wire (`peer`), and against the real agent.

pub(crate) mod peer;
mod pumping;
mod real_agent;
mod requests;
mod streams;
mod supervision;
