//! `mirrord-ide`: the daemon that plans and starts sessions, and the command line that is its client.
//!
//! The daemon's state has one owner, [`main_loop`]; requests reach it through [`rpc`], each method is a file of
//! [`handlers`], slow work goes out as tasks and comes back as events. Only [`cluster`] talks to Kubernetes.

pub mod adapter;
pub mod agents;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod embedded;
pub mod handlers;
pub mod launch;
pub mod main_loop;
pub mod plans;
pub mod rpc;
pub mod session;
pub mod state;
pub mod target;
