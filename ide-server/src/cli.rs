//! The command line: `mirrord-ide COMMAND`. Standard output belongs to what was asked for; all else goes to standard
//! error.

mod adapter;
mod args;
mod exec;
mod explain;
mod ls;
mod status;
mod terminal;
mod verify;

use crate::daemon::{self, Served, ensure};
use crate::state::StateFolder;
use args::{Arguments, Command, ServeArgs, StopArgs};
use clap::Parser;
use protocol::ide::{
    DaemonStatus, DaemonStop, DaemonStopParams, ErrorData, ErrorKind, SessionStop, StatusParams, StopParams,
};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command that this process was called with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap knows which stream each belongs to.
            let code = if error.use_stderr() { 2 } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let outcome = match arguments.command {
        Command::Exec(args) => return exec::run(*args),
        Command::SessionHost(args) => return exec::session_host(args.fd),
        Command::Adapter(args) => return adapter::front(args),
        Command::AdapterHolder(args) => return adapter::hold(args),
        Command::AdapterTerminal(args) => return adapter::terminal(args),
        Command::Serve(args) => serve(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Stop(args) => stop(&args),
        Command::Explain(args) => explain::run(&args),
        Command::VerifyConfig(args) => verify::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => terminal::fail(&error),
    }
}

fn serve(args: &ServeArgs) -> Result<ExitCode, ErrorData> {
    let state = StateFolder::locate()?;
    if args.ensure {
        let (_, discovery) = ensure::ensure(&state)?;
        terminal::out(&serde_json::to_string(&discovery).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("MIRRORD_IDE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,hyper=warn,tower=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let idle = (args.idle_exit > 0).then(|| Duration::from_secs(args.idle_exit));
    match daemon::serve(&state, idle)? {
        Served::ToTheEnd => {}
        Served::AnotherServes => tracing::info!("another daemon of this user serves already"),
    }
    Ok(ExitCode::SUCCESS)
}

fn stop(args: &StopArgs) -> Result<ExitCode, ErrorData> {
    let state = StateFolder::locate()?;
    if args.session.is_none()
        && args.all
        && !status::something_is_left(&state)
        && ensure::connect(&state).is_none()
    {
        terminal::say("nothing runs");
        return Ok(ExitCode::SUCCESS);
    }
    // A killed daemon has left what only a daemon can take over and end.
    let (mut client, _) = ensure::ensure(&state)?;
    let params = StopParams { session: args.session.clone(), all: args.all, grace_ms: args.grace_ms };
    let stopped = client.call::<SessionStop>(&params)?;
    for session in &stopped.ended {
        terminal::say(&format!("session {session} ended"));
    }
    for agent in &stopped.agents {
        terminal::say(&format!("agent {agent} removed"));
    }
    for left in &stopped.left {
        terminal::say(left);
    }
    if !stopped.left.is_empty() {
        return Ok(ExitCode::from(ErrorKind::AgentFailed.exit_status()));
    }
    if args.all {
        let status = client.call::<DaemonStatus>(&StatusParams {})?;
        if status.clients == 1 && status.sessions == 0 {
            client.call::<DaemonStop>(&DaemonStopParams::default())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends with a status that is no error of ours.
fn exit(status: i32) -> ExitCode {
    // Nothing is left to do when standard error is gone too.
    let _ = std::io::stderr().flush();
    ExitCode::from(u8::try_from(status & 0xff).unwrap_or(1))
}
