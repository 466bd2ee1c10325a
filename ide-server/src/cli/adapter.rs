//! `adapter` and its other halves: what editors start for a debug adapter.

use super::args::{AdapterArgs, HolderArgs, TerminalArgs};
use super::terminal;
use crate::adapter::{self, Command, Held, Language};
use protocol::ide::{ErrorData, ErrorKind};
use std::io;
use std::process::ExitCode;

pub(super) fn front(args: AdapterArgs) -> ExitCode {
    let language = match args.dlv {
        Some(under) => Language::Dlv { under },
        None => Language::Stdio,
    };
    let command = Command { words: args.words, arg0: args.arg0, language };
    end(adapter::front(&args.folder, command), "the debug adapter cannot be reached")
}

pub(super) fn hold(args: HolderArgs) -> ExitCode {
    let HolderArgs { folder, listener, dials, in_terminal, log_fd, arg0, words } = args;
    let held = Held { listener, dials, in_terminal, log: log_fd, arg0, words };
    end(adapter::hold(&folder, held).map(|()| 0), "the debug adapter cannot be held")
}

pub(super) fn terminal(args: TerminalArgs) -> ExitCode {
    end(adapter::terminal(&args.folder, args.number, args.words), "the debugger's terminal cannot be shown")
}

fn end(outcome: io::Result<i32>, what: &str) -> ExitCode {
    match outcome {
        Ok(status) => super::exit(status),
        Err(error) => {
            let help = "start the debugger again";
            terminal::fail(&ErrorData::new(ErrorKind::Internal, what, help).caused_by(&error))
        }
    }
}
