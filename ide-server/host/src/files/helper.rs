//! Small processes of our own that outlive what they look after: forked, never exec'ed, holding nothing but a socket.
//!
//! After the fork a helper makes system calls only: another thread of this process may have held the allocator's lock.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where a helper finds its end of the socket.
pub(super) const SOCKET: RawFd = 3;

/// What becomes of a helper when the thread that forked it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// It ends as well.
    Needed,
    /// It has something left to do.
    Outlived,
}

/// A helper; it hears of the end by its socket, and is waited for.
pub(super) struct Helper {
    pid: libc::pid_t,
    pub(super) socket: Option<UnixStream>,
}

impl Helper {
    /// Forks; `life` is the child's and ends it. It must neither allocate nor lock.
    pub(super) fn fork(parent: Parent, life: impl FnOnce()) -> io::Result<Self> {
        let (own, helpers) = UnixStream::pair()?;
        // SAFETY: takes nothing and cannot fail.
        let own_pid = unsafe { libc::getpid() };
        // SAFETY: the child makes system calls only, on memory made before the fork, and leaves by _exit: it needs no
        // lock that another thread of this process may have held at the fork.
        let pid = unsafe { libc::fork() };
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            0 => {
                settle(parent, own_pid, helpers.as_raw_fd());
                life();
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self { pid, socket: Some(own) }),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            // The child that becomes the program may have a copy of this end until it does.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        // Somebody else may have reaped the child, and its number may be another's by now: so never wait for long.
        for _ in 0..1000 {
            // SAFETY: waitpid with a null status touches no memory of ours.
            if unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Makes the child independent of all but its socket.
fn settle(parent: Parent, parent_pid: libc::pid_t, socket: RawFd) {
    // SAFETY: system calls on constants. What fails is either harmless (a signal not ignored) or shows as end of file
    // on the socket.
    unsafe {
        if parent == Parent::Needed {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent_pid {
                libc::_exit(1);
            }
        }
        libc::prctl(libc::PR_SET_NAME, c"ide-files".as_ptr());
        // Out of the terminal's reach: Ctrl-C is for the debuggee.
        libc::setsid();
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_IGN);
        }
        // Nothing else of the parent's is held open: pipes and sockets must be able to end.
        if libc::dup2(socket, SOCKET) < 0 {
            libc::_exit(1);
        }
        libc::fcntl(SOCKET, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::syscall(libc::SYS_close_range, SOCKET + 1, u32::MAX, 0);
        for standard in 0..SOCKET {
            libc::close(standard);
        }
        for _ in 0..SOCKET {
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
    }
}

/// Waits for the parent to close its end; what it sent until then is put into `buffer`, cut to its length.
pub(super) fn wait_for_end(buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    let mut rest = [0u8; 64];
    loop {
        let place = match &mut buffer[filled..] {
            [] => &mut rest[..],
            place => place,
        };
        // SAFETY: the buffer is ours and as long as is said.
        let got = unsafe { libc::read(SOCKET, place.as_mut_ptr().cast(), place.len()) };
        match got {
            1.. => filled = buffer.len().min(filled + got as usize),
            0 => return filled,
            _ if errno() == libc::EINTR => {}
            _ => return filled,
        }
    }
}

pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_ends_at_once_though_another_process_has_a_copy_of_its_socket() {
        let helper = Helper::fork(Parent::Outlived, || {
            wait_for_end(&mut []);
        })
        .unwrap();
        let copy = helper.socket.as_ref().unwrap().try_clone().unwrap();
        let began = std::time::Instant::now();
        drop(helper);
        assert!(began.elapsed() < Duration::from_secs(1), "waited {:?}", began.elapsed());
        drop(copy);
    }
}
