//! The program's sockets where they cannot be copied, as in a container with Docker's default profile, which refuses
//! pidfd_getfd(2).
//!
//! There the session host answers socket(2) itself: it makes the socket, gives it to the program, and keeps a copy for
//! as long as it may have to connect it or to listen on it. So the program's socket is its own from the start, with all
//! options and epoll registrations that it will ever have.
//!
//! A copy would keep open what the program has closed. That of a connection therefore goes before the program is told
//! of the connection; the others go once no process of the session has the socket, which is looked at every [`PERIOD`],
//! before a port is bound and before a connection is handed in. Sockets are known by their inode numbers here, which
//! the kernel gives out anew after four thousand million others.

use super::table::inode_in;
use crate::sys::{self, Errno};
use crate::traps::Call;
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use std::collections::{HashMap, HashSet};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often copies are looked through. What the program has closed may be open for this much longer.
pub(super) const PERIOD: Duration = Duration::from_millis(200);
/// How long a socket may be on its way to the program.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// The copies.
pub(super) struct Made {
    /// `/proc/self/ns/net`: a program in another network makes its own sockets.
    network: PathBuf,
    copies: Mutex<HashMap<u64, Copy>>,
}

struct Copy {
    socket: Arc<OwnedFd>,
    made: Instant,
    /// A thread that had it, under which number.
    seen: Option<(u32, RawFd)>,
}

impl Made {
    pub(super) fn new() -> std::io::Result<Self> {
        // A copy for each of the program's sockets must not meet our own limit before the program meets its.
        sys::raise_file_limit().map_err(std::io::Error::from_raw_os_error)?;
        Ok(Self { network: std::fs::read_link("/proc/self/ns/net")?, copies: Mutex::default() })
    }

    /// socket(2). What is not made is the kernel's to make, or to refuse; else the inode number comes with the answer.
    pub(super) fn make(&self, call: &Call) -> Option<(u64, Answer)> {
        let (domain, kind, protocol) = (call.int(0), call.int(1), call.int(2));
        let made_here = match kind & 0xf {
            libc::SOCK_STREAM => true,
            libc::SOCK_DGRAM => domain != libc::AF_UNIX,
            _ => false,
        };
        let network = std::fs::read_link(format!("/proc/{}/ns/net", call.tid())).ok()?;
        if !made_here || network != self.network {
            return None;
        }
        let socket = sys::socket(domain, kind, protocol).ok()?;
        let inode = sys::inode(&socket).ok()?;
        let fd = socket.try_clone().ok()?;
        let copy = Copy { socket: Arc::new(socket), made: Instant::now(), seen: None };
        lock(&self.copies).insert(inode, copy);
        Some((inode, Answer::Descriptor { fd, close_on_exec: kind & libc::SOCK_CLOEXEC != 0 }))
    }

    /// The copy of a thread's socket, if there still is one, and its inode number.
    ///
    /// # Errors
    /// EPERM for what is no socket, EBADF for what is not open.
    pub(super) fn find(&self, tid: u32, fd: RawFd) -> Result<(u64, Option<Arc<OwnedFd>>), Errno> {
        let inode = inode_of(tid, fd)?;
        let mut copies = lock(&self.copies);
        let socket = copies.get_mut(&inode).map(|copy| {
            copy.seen = Some((tid, fd));
            Arc::clone(&copy.socket)
        });
        Ok((inode, socket))
    }

    /// Lets go of the copy of a socket that is connected.
    pub(super) fn let_go(&self, inode: u64) {
        lock(&self.copies).remove(&inode);
    }

    /// Lets go of the copies of sockets that no process of the session has any more; of one alone, if it is named.
    pub(super) fn let_go_of_closed(&self, only: Option<u64>) {
        let doubtful: HashSet<u64> = lock(&self.copies)
            .iter()
            .filter(|(inode, _)| only.is_none_or(|only| only == **inode))
            .filter(|(inode, copy)| match copy.seen {
                Some((tid, fd)) => inode_of(tid, fd) != Ok(**inode),
                None => copy.made.elapsed() > ON_ITS_WAY,
            })
            .map(|(inode, _)| *inode)
            .collect();
        if doubtful.is_empty() {
            return;
        }
        let holders = holders(&doubtful);
        let mut copies = lock(&self.copies);
        for inode in doubtful {
            match (holders.get(&inode), copies.get_mut(&inode)) {
                (Some(holder), Some(copy)) => copy.seen = Some(*holder),
                (None, Some(_)) => drop(copies.remove(&inode)),
                (_, None) => {}
            }
        }
    }
}

/// The inode number of a thread's socket.
fn inode_of(tid: u32, fd: RawFd) -> Result<u64, Errno> {
    let link = std::fs::read_link(format!("/proc/{tid}/fd/{fd}")).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound { libc::EBADF } else { libc::EPERM }
    })?;
    inode_in(&link).ok_or(libc::EPERM)
}

/// Who has these sockets, among the processes below this one.
fn holders(inodes: &HashSet<u64>) -> HashMap<u64, (u32, RawFd)> {
    let mut found = HashMap::new();
    let mut look = |id: u32| -> bool {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return false };
        let mut any = false;
        for entry in entries.flatten() {
            any = true;
            if let Ok(link) = std::fs::read_link(entry.path())
                && let Some(inode) = inode_in(&link)
                && inodes.contains(&inode)
                && let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                found.insert(inode, (id, fd));
            }
        }
        any
    };
    for pid in sys::descendants(std::process::id() as i32) {
        // A process whose first thread has ended shows its files by the others.
        if !look(pid as u32)
            && let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task"))
        {
            let mut ids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
            ids.any(&mut look);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_socket_is_known_by_its_link_in_proc() {
        assert_eq!(inode_in(Path::new("socket:[4026]")), Some(4026));
        assert_eq!(inode_in(Path::new("pipe:[4026]")), None);
        assert_eq!(inode_in(Path::new("/tmp/socket:[1]")), None);
    }
}
