//! The processes under the filter, by thread id: their descriptors for `pidfd_getfd`, and whether they are skipped.
//!
//! Owned by the one thread that receives calls. Thread ids are reused, so each entry holds a pidfd; a watcher thread
//! reports the dead ones.

use crate::sys::{self, Errno};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// PIDFD_THREAD, Linux 6.9.
const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// One thread that makes trapped calls.
#[derive(Debug)]
pub struct Caller {
    /// Its id, as the traps name it.
    pub tid: u32,
    pidfd: OwnedFd,
    /// Its executable when last looked at.
    pub executable: Arc<str>,
    /// Why it is passed through untouched, if it is.
    pub skipped: Option<&'static str>,
}

impl Caller {
    /// The thread's descriptor `fd`, as our own copy of the same open file.
    ///
    /// # Errors
    /// EBADF when it has none such, EPERM when it may not be looked at, ESRCH when it is gone.
    pub fn descriptor(&self, fd: RawFd) -> Result<OwnedFd, Errno> {
        sys::pidfd_getfd(self.pidfd.as_fd(), fd)
    }

    /// The pidfd.
    pub fn as_pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// What is done with a program, by its path.
pub trait SkipRule: Send {
    /// Why it is passed through, or `None` to cover it.
    fn skip(&self, executable: &str) -> Option<&'static str>;
    /// A program was seen for the first time.
    fn started(&self, tid: u32, executable: &str, skipped: Option<&'static str>);
}

/// The table.
pub struct Callers {
    rule: Box<dyn SkipRule>,
    by_tid: HashMap<u32, Arc<Caller>>,
    dead: Arc<Graveyard>,
    watch: OwnedFd,
}

#[derive(Default)]
struct Graveyard {
    any: AtomicBool,
    tids: Mutex<Vec<u32>>,
}

impl Callers {
    /// An empty table, and its watcher thread.
    pub fn new(rule: Box<dyn SkipRule>) -> std::io::Result<Self> {
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
        let watch = epoll.0.try_clone()?;
        let dead = Arc::new(Graveyard::default());
        let graveyard = Arc::clone(&dead);
        std::thread::Builder::new().name("exits".into()).spawn(move || watch_exits(&epoll, &graveyard))?;
        Ok(Self { rule, by_tid: HashMap::new(), dead, watch })
    }

    /// The caller with this id, looked up on its first call.
    ///
    /// # Errors
    /// ESRCH when it is gone.
    pub fn get(&mut self, tid: u32) -> Result<Arc<Caller>, Errno> {
        if self.dead.any.swap(false, Ordering::Acquire) {
            let tids = std::mem::take(&mut *lock(&self.dead.tids));
            for tid in tids {
                self.by_tid.remove(&tid);
            }
        }
        if let Some(caller) = self.by_tid.get(&tid) {
            return Ok(Arc::clone(caller));
        }
        let caller = Arc::new(self.look_up(tid)?);
        self.by_tid.insert(tid, Arc::clone(&caller));
        Ok(caller)
    }

    /// The thread is about to become another program: look again at its next call.
    pub fn forget(&mut self, tid: u32) {
        self.by_tid.remove(&tid);
        if let Some(leader) = thread_group(tid) {
            self.by_tid.remove(&leader);
        }
    }

    fn look_up(&self, tid: u32) -> Result<Caller, Errno> {
        let pidfd = match sys::pidfd_open(tid, PIDFD_THREAD) {
            Ok(fd) => fd,
            Err(libc::EINVAL) => sys::pidfd_open(thread_group(tid).ok_or(libc::ESRCH)?, 0)?,
            Err(error) => return Err(error),
        };
        let executable = std::fs::read_link(format!("/proc/{tid}/exe"))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_else(|_| "?".into());
        let skipped = self.rule.skip(&executable);
        self.rule.started(tid, &executable, skipped);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: u64::from(tid) };
        // SAFETY: one event of ours; both descriptors live.
        let added = unsafe {
            libc::epoll_ctl(self.watch.as_raw_fd(), libc::EPOLL_CTL_ADD, pidfd.as_raw_fd(), &mut event)
        };
        if added != 0 {
            return Err(sys::errno());
        }
        Ok(Caller { tid, pidfd, executable: executable.into(), skipped })
    }
}

fn watch_exits(epoll: &nix::sys::epoll::Epoll, graveyard: &Graveyard) {
    let mut events = [nix::sys::epoll::EpollEvent::empty(); 64];
    loop {
        let count = match epoll.wait(&mut events, nix::sys::epoll::EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
        };
        lock(&graveyard.tids).extend(events[..count].iter().map(|event| event.data() as u32));
        graveyard.any.store(true, Ordering::Release);
        // An exited thread stays ready until its entry is dropped, which happens at the next trapped call.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn thread_group(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Locks, whether or not another thread died holding it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
