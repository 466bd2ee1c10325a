//! The host's own standard streams and inherited descriptors: the terminal and the pipes are the program's.

use crate::sys;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The terminal is the program's: the host leaves its process group and writes to its log alone.
pub(super) fn leave_terminal(folder: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    for signal in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTOU,
        libc::SIGTTIN,
        libc::SIGHUP,
        libc::SIGPIPE,
    ] {
        sys::ignore_signal(signal);
    }
    if !leads_session() {
        nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))?;
    }
    let log =
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("host.log"))?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for (from, to) in [(null.as_raw_fd(), 0), (null.as_raw_fd(), 1), (log.as_raw_fd(), 2)] {
        // SAFETY: replaces this process's own standard streams.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let level = std::env::var("MIRRORD_IDE_LOG").unwrap_or_else(|_| "info".into());
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_else(|_| "info".into());
    // A second subscriber in one process is a test's; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    Ok(())
}

/// Whether this process was given a terminal of the program's own, in a session that it leads.
fn leads_session() -> bool {
    nix::unistd::getsid(None) == Ok(nix::unistd::getpid())
}

/// Puts the program in the foreground of its own terminal, where it has one: keys are its own then, and not the host's.
pub(super) fn put_in_foreground(program: i32) -> std::io::Result<()> {
    if leads_session() {
        let program = nix::unistd::Pid::from_raw(program);
        nix::unistd::setpgid(program, program)?;
        nix::unistd::tcsetpgrp(std::io::stdin(), program)?;
    }
    Ok(())
}

/// Lets go of descriptors that were the program's to inherit: pipes end when the program ends, not when the host does.
pub(super) fn close_inherited(front: &UnixStream) {
    use std::os::fd::AsRawFd;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in numbers {
        if fd <= 2 || fd == front.as_raw_fd() {
            continue;
        }
        // Whatever was not made by us is not close-on-exec, and all that we make is.
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: inherited, so nothing of ours owns it.
            unsafe { libc::close(fd) };
        }
    }
}
