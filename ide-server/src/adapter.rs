//! A debug adapter that outlives the editor's window.
//!
//! An editor starts its debug adapter as a child and ends it with its window, and the adapter ends its program. So what
//! the editor starts is a thin *front*; the adapter is the child of a detached *holder*, which waits in the plan's
//! folder for the next front when the first one leaves without a word ([`relay`] says what counts as one). Terminals in
//! which the adapter has its program run are the holder's as well, and the editor's only show them.

mod child;
mod connections;
mod front;
mod holder;
mod peer;
mod pty;
mod relay;
mod screen;
mod stops;
mod tail;
mod terminal;
mod wire;
mod words;

use front::{FIRST_FREE, Front};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use words::Door;

/// Where a holder listens, in the plan's folder.
const SOCKET: &str = "adapter.sock";
const LOCK: &str = "adapter.lock";
const LOG: &str = "adapter.log";

/// Whose words an adapter's are, as far as the relay reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// It speaks over standard input and output.
    Stdio,
    /// `dlv dap`: `under` words stand before dlv's own.
    Dlv {
        /// How many words start it under a plan.
        under: usize,
    },
}

/// What a front starts if there is no holder.
#[derive(Debug)]
pub struct Command {
    /// The adapter's words.
    pub words: Vec<OsString>,
    /// Its name for itself, where that is not its first word.
    pub arg0: Option<OsString>,
    /// How it is spoken to.
    pub language: Language,
}

/// Runs as what an editor takes for its debug adapter; the exit status. To be called without other threads.
pub fn front(folder: &Path, command: Command) -> io::Result<i32> {
    let Command { mut words, arg0, language } = command;
    let (mut door, mut log) = (Door::Stdio, None);
    if let Language::Dlv { under } = language {
        let dlv = words::dlv(&words.split_off(under.min(words.len())));
        words.extend(dlv.words);
        (door, log) = (dlv.door, dlv.log);
    }
    let mut holder: Vec<OsString> = Vec::new();
    if door != Door::Stdio {
        holder.push("--dials".into());
    }
    if let Some(number) = log {
        holder.extend(["--log-fd".into(), number.to_string().into()]);
    }
    if let Some(name) = arg0 {
        holder.extend(["--arg0".into(), name]);
    }
    holder.push("--".into());
    holder.extend(words);
    Front { holder, door, log }.run(folder)
}

/// What a holder is started with.
#[derive(Debug)]
pub struct Held {
    /// The descriptor of its listener.
    pub listener: i32,
    /// The adapter dials the holder.
    pub dials: bool,
    /// The adapter runs in a terminal.
    pub in_terminal: bool,
    /// The descriptor that the adapter writes its log to.
    pub log: Option<i32>,
    /// The adapter's name for itself.
    pub arg0: Option<OsString>,
    /// The adapter's words.
    pub words: Vec<OsString>,
}

/// Runs as the holder. To be called without other threads.
pub fn hold(folder: &Path, held: Held) -> io::Result<()> {
    // What else the editor let its child inherit would stay open as long as we live.
    close_all_but(held.listener)?;
    // SAFETY: the front has made this descriptor for us, and nothing else in this process knows it.
    let listener = unsafe { OwnedFd::from_raw_fd(held.listener) };
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let log = held.log.filter(|number| *number < FIRST_FREE).map(inherited_pipe).transpose()?;
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    let program = std::env::current_exe()?;
    let terminal = [&program.to_string_lossy(), "adapter-terminal", "--folder", &folder.to_string_lossy()];
    let terminal = terminal.into_iter().map(str::to_owned).collect();
    let words = child::Words {
        words: held.words,
        arg0: held.arg0,
        speaks: if held.dials { child::Speaks::Dials } else { child::Speaks::Stdio },
        in_terminal: held.in_terminal,
        log,
    };
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        holder::run(folder, listener, terminal, words).await;
        Ok(())
    })
}

fn close_all_but(kept: i32) -> io::Result<()> {
    let kept = u32::try_from(kept).map_err(io::Error::other)?;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        // SAFETY: this process has just begun: nothing in it uses a descriptor beyond these.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A pipe whose writing end has the number `number` and is inherited.
fn inherited_pipe(number: i32) -> io::Result<child::Log> {
    let (reader, writer) = nix::unistd::pipe()?;
    let move_up = |fd: OwnedFd| -> io::Result<OwnedFd> {
        let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE))?;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(moved) })
    };
    let (reader, writer) = (move_up(reader)?, move_up(writer)?);
    // SAFETY: dup2(2) onto a number that is free: all below the listener's were closed.
    if unsafe { libc::dup2(writer.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made one line above.
    Ok(child::Log { reader, writer: unsafe { OwnedFd::from_raw_fd(number) } })
}

/// Runs as the view of a holder's terminal, with `words` to be started in it if there are any; the exit status.
pub fn terminal(folder: &Path, number: u32, words: Vec<OsString>) -> io::Result<i32> {
    let start = match words.is_empty() {
        true => None,
        false => Some(wire::Start {
            words,
            folder: std::env::current_dir()?.into_os_string(),
            env: std::env::vars_os().collect(),
        }),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async { screen::Screen::open(folder, number, start).await?.run().await });
    runtime.shutdown_background();
    Ok(end?.status())
}

/// Whether a holder in the plan's folder waits for a client to come back.
pub fn holder_waits(plan_folder: &Path) -> bool {
    // A holder that was killed leaves its mark, and nobody who listens.
    plan_folder.join(holder::WAITING).exists() && holder_lives(plan_folder)
}

/// Whether a holder is in the plan's folder.
pub fn holder_lives(plan_folder: &Path) -> bool {
    UnixStream::connect(plan_folder.join(SOCKET)).is_ok()
}
