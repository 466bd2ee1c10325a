//! The seccomp notification interface of the kernel (seccomp_unotify(2)): receive a trapped call, answer it.

use crate::sys::{Errno, errno};
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct seccomp_data`: the call as the CPU made it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CallData {
    /// System call number.
    pub nr: i32,
    /// AUDIT_ARCH_… of the ABI.
    pub arch: u32,
    /// Where the call instruction stands.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification {
    /// Names this call until it is answered or its thread is gone.
    pub id: u64,
    /// The calling *thread's* id.
    pub tid: u32,
    flags: u32,
    /// The call.
    pub data: CallData,
}

#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}

const fn request(direction: u64, number: u64, size: usize) -> libc::c_ulong {
    (direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number) as libc::c_ulong
}
const NOTIF_RECV: libc::c_ulong = request(3, 0, size_of::<Notification>());
const NOTIF_SEND: libc::c_ulong = request(3, 1, size_of::<Response>());
const NOTIF_ID_VALID: libc::c_ulong = request(1, 2, size_of::<u64>());
const NOTIF_ADDFD: libc::c_ulong = request(1, 3, size_of::<AddFd>());
const NOTIF_SET_FLAGS: libc::c_ulong = request(1, 4, size_of::<u64>());
const FLAG_CONTINUE: u32 = 1;
const ADDFD_SEND: u32 = 2;
const FD_SYNC_WAKE_UP: u64 = 1;

/// What the trapped call returns.
#[derive(Debug)]
pub enum Answer {
    /// The kernel is to do it, with the caller's own arguments.
    Continue,
    /// This value.
    Value(i64),
    /// This failure.
    Fail(Errno),
    /// This descriptor, made the caller's own.
    Descriptor {
        /// What the caller gets a copy of.
        fd: OwnedFd,
        /// Whether the copy is close-on-exec.
        close_on_exec: bool,
    },
}

/// The listening end of the filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes the descriptor that seccomp(2) made.
    pub fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        // Linux 6.6: wakes the receiver on the caller's CPU. Older kernels refuse it, and all works without.
        // SAFETY: the request takes an integer.
        unsafe { libc::ioctl(listener.0.as_raw_fd(), NOTIF_SET_FLAGS as _, FD_SYNC_WAKE_UP) };
        listener
    }

    /// Whether descriptors can be given to callers.
    ///
    /// # Errors
    /// Why not: an outer filter's EPERM or ENOSYS, say.
    pub fn check_giving(listener: &OwnedFd) -> Result<(), Errno> {
        // No call has this id: the kernel gets as far as to look for it.
        let add =
            AddFd { id: 0, flags: ADDFD_SEND, srcfd: listener.as_raw_fd() as u32, newfd: 0, newfd_flags: 0 };
        // SAFETY: the structure is the kernel's.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD as _, &add) };
        match errno() {
            _ if result >= 0 => Ok(()),
            libc::ENOENT => Ok(()),
            refusal => Err(refusal),
        }
    }

    /// Waits for the next call. `None` once no process is left under the filter.
    pub fn receive(&self) -> Result<Option<Notification>, Errno> {
        loop {
            let mut call = Notification::default();
            // SAFETY: the structure is the kernel's, and zeroed as it asks for.
            if unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_RECV as _, &mut call) } == 0 {
                return Ok(Some(call));
            }
            match errno() {
                libc::EINTR => {}
                // The caller was killed before we looked, or nobody is left.
                libc::ENOENT => {
                    let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                    // SAFETY: one pollfd of ours.
                    unsafe { libc::poll(&mut poll, 1, -1) };
                    if poll.revents & libc::POLLHUP != 0 {
                        return Ok(None);
                    }
                }
                error => return Err(error),
            }
        }
    }

    /// Whether the caller still waits: to be asked after reading and before writing its memory, since thread ids are
    /// reused.
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the request reads one u64.
        unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ID_VALID as _, &id) == 0 }
    }

    /// Answers a call. A caller that is gone meanwhile is no error.
    pub fn answer(&self, id: u64, answer: Answer) {
        let response = match answer {
            Answer::Continue => Response { id, val: 0, error: 0, flags: FLAG_CONTINUE },
            Answer::Value(val) => Response { id, val, error: 0, flags: 0 },
            Answer::Fail(error) => Response { id, val: 0, error: -error, flags: 0 },
            Answer::Descriptor { fd, close_on_exec } => {
                let add = AddFd {
                    id,
                    flags: ADDFD_SEND,
                    srcfd: fd.as_raw_fd() as u32,
                    newfd: 0,
                    newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
                };
                // SAFETY: the structure is the kernel's.
                let result = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ADDFD as _, &add) };
                if result >= 0 || errno() == libc::ENOENT {
                    return;
                }
                // EMFILE and the like are the caller's own limits.
                Response { id, val: 0, error: -errno(), flags: 0 }
            }
        };
        // SAFETY: the structure is the kernel's.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_SEND as _, &response) } != 0
            && errno() != libc::ENOENT
        {
            tracing::error!(id, errno = errno(), "a trapped call could not be answered");
        }
    }
}
