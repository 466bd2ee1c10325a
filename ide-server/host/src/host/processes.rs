//! The processes below the host: ending them all, and taking note of those that end.

use super::Event;
use crate::sys;
use std::sync::mpsc;
use std::time::Duration;

/// Asks all descendants to end, then ends them.
pub(super) fn end_all(grace: Duration, helpers: &[i32]) {
    let own = std::process::id() as i32;
    let others =
        || sys::descendants(own).into_iter().filter(|pid| !helpers.contains(pid)).collect::<Vec<_>>();
    for pid in others() {
        let _ = sys::kill(pid, libc::SIGTERM);
    }
    let deadline = std::time::Instant::now() + grace;
    while std::time::Instant::now() < deadline && !others().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..50 {
        let left = others();
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reaps what ends below this process, and tells of the program.
pub(super) fn reap(program: i32, events: &mpsc::Sender<Event>) {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
        if pid < 0 {
            if sys::errno() == libc::EINTR {
                continue;
            }
            return;
        }
        if pid == program {
            let (code, signal) = if libc::WIFEXITED(status) {
                (Some(libc::WEXITSTATUS(status)), None)
            } else {
                (None, Some(libc::WTERMSIG(status)))
            };
            if events.send(Event::ProgramEnded { code, signal }).is_err() {
                return;
            }
        }
    }
}
