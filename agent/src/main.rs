//! The agent: the short-lived helper that stands in a target's namespaces and speaks [`protocol::agent`].
//!
//! This file is the command line only. `serve` stays and serves; `admit` tells a running agent of more keys.

mod admit;
mod files;
mod link;
mod outgoing;
mod redirect;
mod serve;
mod socket;
mod sync;
mod target;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use protocol::auth::PublicKey;

/// The helper in the target pod; started by mirrord-ide.
#[derive(Parser)]
#[command(name = "agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves sessions until none has been there for a while.
    Serve(serve::Options),
    /// Lets more sessions into a running agent.
    Admit {
        /// The running agent's admin socket.
        #[arg(long)]
        socket: PathBuf,
        /// The sessions' public keys, 64 hexadecimal digits each; all are let in, or none.
        #[arg(required = true)]
        keys: Vec<PublicKey>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(options) => serve::serve(options),
        Command::Admit { socket, keys } => admit::ask(&socket, &keys).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // Nothing is left to do when standard error is gone too.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
