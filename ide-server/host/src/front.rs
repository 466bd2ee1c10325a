//! What the editor or the shell sees: a process that stands for the debuggee.
//!
//! The front starts the session host, passes signals on, and ends as the program ended. Terminal signals reach the
//! program by themselves, since it stays in the front's process group. If the host is killed, the front ends the
//! program and all it has started.

mod terminal;

use crate::sys;
use protocol::host::{Failure, FromFront, Launch, ToFront};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use terminal::Terminal;

/// The exit status when the program could not be started.
pub const NOT_STARTED: i32 = 125;
/// The exit status when the session host was lost and the program was ended for it.
pub const HOST_LOST: i32 = 124;

/// What the front tells the user, on standard error.
pub trait Say: Send {
    /// One sentence, now.
    fn notice(&mut self, message: &str);
    /// It could not be started.
    fn failure(&mut self, failure: &Failure);
    /// The program runs.
    fn started(&mut self, pid: i32, mode: &str);
}

enum Event {
    Host(ToFront),
    HostGone,
    Signal { number: i32, from_kernel: bool },
}

/// Runs the debuggee of `launch` to its end and answers the exit status of the front.
///
/// A program that was killed by a signal has the front killed by the same signal, so that shells see what they always
/// see. To be called without other threads.
pub fn run(launch: &Launch, say: &mut dyn Say) -> i32 {
    match try_to_run(launch, say) {
        Ok(status) => status,
        Err(error) => {
            say.failure(&Failure {
                kind: "launch-failed".into(),
                message: "the session host could not be started on this machine".into(),
                help: "try again; if it stays so, check the process limit (ulimit -u) and free memory".into(),
                retryable: true,
                cause: vec![error.to_string()],
            });
            NOT_STARTED
        }
    }
}

fn try_to_run(launch: &Launch, say: &mut dyn Say) -> std::io::Result<i32> {
    let os = std::io::Error::from_raw_os_error;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(os)?;
    let signals = block_signals()?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let (terminal, inside) = match own_terminal(launch, say) {
        Some((terminal, inside)) => (Some(terminal), Some(inside)),
        None => (None, None),
    };
    let mut host = start_host(theirs, inside)?;
    let mut line = serde_json::to_vec(launch)?;
    line.push(b'\n');
    ours.write_all(&line)?;

    let (events_tx, events) = mpsc::channel();
    let from_host = ours.try_clone()?;
    let tx = events_tx.clone();
    std::thread::Builder::new().name("host".into()).spawn(move || {
        for line in BufReader::new(from_host).lines() {
            let Ok(line) = line else { break };
            if let Ok(message) = serde_json::from_str(&line)
                && tx.send(Event::Host(message)).is_err()
            {
                return;
            }
        }
        // The front has left when nobody receives.
        let _ = tx.send(Event::HostGone);
    })?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Some((number, from_kernel)) = next_signal(&signals) {
            if events_tx.send(Event::Signal { number, from_kernel }).is_err() {
                return;
            }
        }
    })?;
    let (status, signal) = attend(&mut ours, &mut host, &events, terminal.as_ref(), say);
    if let Some(terminal) = terminal {
        terminal.drain();
    }
    Ok(signal.map_or(status, die_by))
}

/// A terminal of the program's own, where it is to outlive the editor's and one can be had.
fn own_terminal(launch: &Launch, say: &mut dyn Say) -> Option<(Terminal, OwnedFd)> {
    launch.outlives_editor.then(Terminal::open)?.unwrap_or_else(|error| {
        say.notice(&format!(
            "the program will end with this terminal, as none can be made for it alone: {error}"
        ));
        None
    })
}

/// Passes on what comes until the program has ended; the front's own exit status, or the signal to end by.
fn attend(
    host_socket: &mut UnixStream,
    host: &mut Child,
    events: &mpsc::Receiver<Event>,
    terminal: Option<&Terminal>,
    say: &mut dyn Say,
) -> (i32, Option<i32>) {
    let mut tell = |message: &FromFront| {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            // A host that is gone is noticed by its own event.
            let _ = host_socket.write_all(&line);
        }
    };
    for event in events {
        match event {
            Event::Host(ToFront::Started { pid, mode }) => say.started(pid, &mode),
            Event::Host(ToFront::Notice { message }) => say.notice(&message),
            Event::Host(ToFront::Failed(failure)) => {
                say.failure(&failure);
                // Waits for the host's own cleaning up.
                let _ = host.wait();
                return (NOT_STARTED, None);
            }
            Event::Host(ToFront::Exited { code, signal }) => {
                tell(&FromFront::Goodbye);
                return (code.unwrap_or(1), signal);
            }
            Event::HostGone => {
                sys::kill_descendants();
                say.failure(&Failure {
                    kind: "session-host-lost".into(),
                    message: "the session host on this machine was killed, and the program with it".into(),
                    help: "start it again; the session's host.log may say what happened".into(),
                    retryable: true,
                    cause: vec![],
                });
                return (HOST_LOST, None);
            }
            // The program has a terminal of its own: it is told of the outer one's size, and of its end nothing.
            Event::Signal { number: libc::SIGWINCH | libc::SIGHUP, .. } if terminal.is_some() => {
                terminal.into_iter().for_each(Terminal::resize);
            }
            // Ctrl-Z: the program has it from the terminal; the shell waits for the front to stop too.
            Event::Signal { number: libc::SIGTSTP, from_kernel } => {
                if !from_kernel {
                    tell(&FromFront::Signal { number: libc::SIGTSTP });
                }
                // SAFETY: stops this process until SIGCONT.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
            // From the terminal to the whole process group.
            Event::Signal { from_kernel: true, .. } => {}
            Event::Signal { number, .. } => tell(&FromFront::Signal { number }),
        }
    }
    (HOST_LOST, None)
}

/// Starts the session host; with a terminal of its own in a session of its own.
fn start_host(socket: UnixStream, terminal: Option<OwnedFd>) -> std::io::Result<Child> {
    let fd = socket.into_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mirrord-ide").arg("session-host").arg("--front-fd").arg(fd.to_string());
    let stream = || terminal.as_ref().map_or(Ok(Stdio::inherit()), |fd| fd.try_clone().map(Stdio::from));
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
    let leads = terminal.is_some();
    // SAFETY: only async-signal-safe calls: the descriptor is kept over exec, the signal mask is the default again.
    unsafe {
        command.pre_exec(move || {
            if leads && (libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) != 0) {
                return Err(std::io::Error::last_os_error());
            }
            if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        });
    }
    let child = command.spawn();
    // SAFETY: ours, and not used any more.
    unsafe { libc::close(fd) };
    child
}

/// Signals that are passed on. SIGKILL and SIGSTOP cannot be; SIGCHLD, SIGPIPE and faults are the front's own.
const PASSED: &[i32] = &[
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGCONT,
];

fn block_signals() -> std::io::Result<nix::sys::signalfd::SignalFd> {
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    let mut set = SigSet::empty();
    for number in PASSED {
        set.add(Signal::try_from(*number)?);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

fn next_signal(signals: &nix::sys::signalfd::SignalFd) -> Option<(i32, bool)> {
    loop {
        match signals.read_signal() {
            Ok(Some(info)) => return Some((info.ssi_signo as i32, info.ssi_code == libc::SI_KERNEL)),
            Ok(None) => {
                let mut poll =
                    libc::pollfd { fd: signals.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one pollfd of ours.
                unsafe { libc::poll(&mut poll, 1, -1) };
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Ends this process by `signal`, without a core of its own.
fn die_by(signal: i32) -> i32 {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain calls on this process: no core, default action, unblocked, raised.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
    128 + signal
}
