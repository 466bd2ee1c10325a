//! Processes of this machine by id, without mistaking one for another: pidfds, start times.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A pidfd of a process; `None` when there is no such process.
pub fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and reads no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The start time of a process in clock ticks since boot; with the id it names one process for ever.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; the start time is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether this very process lives. A zombie does not.
pub fn lives(pid: i32, since: u64) -> bool {
    start_time(pid) == Some(since) && !is_zombie(pid)
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(true)
}

/// Waits until a process has ended; at once if there is none.
pub async fn wait_for_end(pid: i32) {
    let Some(fd) = open(pid) else { return };
    // SAFETY: the descriptor is owned by the value that is registered, and nobody takes it out.
    let registered = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
    match registered {
        // A pidfd is readable when its process has ended, and never before; an error says the same.
        Ok(fd) => drop(fd.readable().await),
        Err(error) => {
            tracing::warn!(pid, %error, "the end of a process cannot be awaited and is polled for");
            while start_time(pid).is_some() && !is_zombie(pid) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Kills a process, if there is one.
pub fn kill(pid: i32) {
    signal(pid, nix::sys::signal::Signal::SIGKILL);
}

/// Asks a process to end.
pub fn terminate(pid: i32) {
    signal(pid, nix::sys::signal::Signal::SIGTERM);
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pid, %signal, %error, "a process cannot be signalled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_and_another_of_its_id_is_not_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let since = start_time(pid).unwrap();
        assert!(lives(pid, since) && !lives(pid, since + 1));
        kill(pid);
        tokio::time::timeout(Duration::from_secs(5), wait_for_end(pid)).await.unwrap();
        assert!(!lives(pid, since));
        child.wait().unwrap();
        assert!(start_time(pid).is_none());
    }
}
