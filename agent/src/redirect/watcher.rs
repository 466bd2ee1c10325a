//! The process that outlives us to remove our table, where the kernel does not: before Linux 5.12 tables have no owner.

use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd, RawFd};

use super::netlink::{Batch, Socket};

/// The connections that were led to us are reset when we die, and their resets still need the table.
static RESETS_PASS: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Where descriptors cannot be closed in one call (before Linux 5.9), as many are closed one by one.
const MOST_DESCRIPTORS: RawFd = 65_536;

/// Lives as long as its other end is open, in this process alone.
#[derive(Debug)]
pub(super) struct Watcher(#[expect(dead_code, reason = "that it is open is what it is for")] PipeWriter);

impl Watcher {
    /// Starts the process. `farewell` is what it has the kernel do once we are gone, in the network of the caller.
    ///
    /// It is a fork that runs nothing of ours but system calls: an executable would lose the capabilities of a user
    /// that is not root, and may be gone from its path.
    pub(super) fn start(farewell: Batch) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let socket = Socket::open()?;
        let farewell = farewell.whole();
        let keep = [reader.as_raw_fd(), socket.raw_fd()];
        // SAFETY: the child calls nothing but the kernel, allocates nothing and never returns.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => watch(keep, &farewell),
            _ => Ok(Self(writer)),
        }
    }
}

/// Waits for the end of the other process and says farewell for it.
fn watch(keep: [RawFd; 2], farewell: &[u8]) -> ! {
    let [reader, socket] = keep;
    // SAFETY: system calls on plain values and on memory that lives through each of them; this process has one thread.
    unsafe {
        // What ends the agent must not end its watcher before it: a terminal's signals, a stop of its group.
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"agent-watcher".as_ptr());
        // Ports and links of the agent must not live on with us, nor the writing end of our own pipe.
        let (low, high) = (reader.min(socket), reader.max(socket));
        close_range(0, low - 1);
        close_range(low + 1, high - 1);
        close_range(high + 1, RawFd::MAX);
        let mut byte = 0_u8;
        while libc::read(reader, (&raw mut byte).cast(), 1) < 0 && *libc::__errno_location() == libc::EINTR {}
        libc::nanosleep(&raw const RESETS_PASS, std::ptr::null_mut());
        // Connected to nobody it goes to the kernel. Refused means gone: the agent took it away itself.
        libc::send(socket, farewell.as_ptr().cast(), farewell.len(), 0);
        libc::_exit(0)
    }
}

/// Closes the descriptors of a range, its ends among them.
///
/// # Safety
/// Nobody may use them any more.
unsafe fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: takes integers; the caller gives the descriptors up.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            for descriptor in first..=last.min(MOST_DESCRIPTORS) {
                libc::close(descriptor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Redirect, Rule};
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn tables() -> String {
        let listed = Command::new("/usr/sbin/nft").args(["list", "tables"]).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8(listed.stdout).unwrap()
    }

    /// A thread has a network of its own, and what it starts is in that.
    fn in_a_network_of_its_own(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(move || {
            let alone = if nix::unistd::geteuid().is_root() {
                CloneFlags::empty()
            } else {
                CloneFlags::CLONE_NEWUSER
            };
            match unshare(alone | CloneFlags::CLONE_NEWNET) {
                Ok(()) => test(),
                Err(error) => panic!("no network of its own is to be had: {error}"),
            }
        })
        .join()
        .unwrap();
    }

    fn eventually_without_tables() {
        let end = Instant::now() + Duration::from_secs(5);
        while !tables().is_empty() {
            assert!(Instant::now() < end, "a table stays: {}", tables());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn where_tables_have_no_owner_the_watcher_removes_ours_when_we_are_gone() {
        in_a_network_of_its_own(|| {
            let mut redirect = Redirect::new("mirrord_ide_watched".to_owned());
            redirect.on_an_old_kernel();
            redirect.check().unwrap();
            assert_eq!(tables(), "", "a check leaves nothing");
            redirect.set(vec![Rule { port: 80, listener: 4000 }]).unwrap();
            assert!(tables().contains("mirrord_ide_watched"), "{}", tables());
            redirect.set(vec![Rule { port: 81, listener: 4000 }]).unwrap();
            assert!(tables().contains("mirrord_ide_watched"), "{}", tables());
            // What the kernel does to a process that is killed.
            drop(redirect);
            eventually_without_tables();
        });
    }

    #[test]
    fn a_table_that_was_taken_away_can_be_made_again_beside_the_same_watcher() {
        in_a_network_of_its_own(|| {
            let mut redirect = Redirect::new("mirrord_ide_again".to_owned());
            redirect.on_an_old_kernel();
            redirect.check().unwrap();
            for port in [80, 81] {
                redirect.set(vec![Rule { port, listener: 4000 }]).unwrap();
                assert!(tables().contains("mirrord_ide_again"), "{}", tables());
                redirect.remove().unwrap();
                assert_eq!(tables(), "");
            }
            redirect.set(vec![Rule { port: 82, listener: 4000 }]).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            assert!(tables().contains("mirrord_ide_again"), "the watcher of the first table took the second");
            drop(redirect);
            eventually_without_tables();
        });
    }
}
