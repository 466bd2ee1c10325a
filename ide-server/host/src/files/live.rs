//! A file as it is in the pod right now, open there: what descriptors of places that may be written to stand for.
//!
//! Where a [`super::source::Source`] shows the one version that was opened, this shows what others write meanwhile, and
//! takes writes. Each write is in the pod before it is answered.

use super::Errno;
use super::lookup::{Found, Pod, lock};
use super::source::Version;
use bytes::{Bytes, BytesMut};
use protocol::agent::{Extent, MAX_READ, MAX_WRITE, Open, SetAttributes, Stat, Sync, Write, request::Op};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For how long what came with the opening is the file's content. Short: the file may change.
const HEAD_VALID: Duration = Duration::from_secs(1);

/// How a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Access {
    /// Of the flags of open(2).
    pub(super) fn of(flags: i32) -> Self {
        let mode = flags & libc::O_ACCMODE;
        Self { read: mode != libc::O_WRONLY, write: mode != libc::O_RDONLY }
    }
}

/// The start of a file as it came with its opening. Nothing of it holds once the session has changed something, or
/// the file was seen to be another version.
struct Head {
    at: Instant,
    changes: u64,
    version: Version,
    bytes: Bytes,
    /// The file ends with it.
    whole: bool,
}

/// One open file of the pod.
pub(super) struct LiveFile {
    pod: Arc<Pod>,
    path: Bytes,
    /// Device and inode there.
    file: (u64, u64),
    pub(super) access: Access,
    /// The agent's number of it.
    handle: Mutex<u64>,
    head: Mutex<Option<Head>>,
    sizeless: bool,
    /// Something was written since it was last closed or synchronised.
    written: AtomicBool,
}

impl LiveFile {
    /// Takes over what was opened; `changes` is how many there had been when it was asked for.
    pub(super) fn new(pod: &Arc<Pod>, found: &mut Found, access: Access, changes: u64) -> Self {
        let (bytes, handle) = (std::mem::take(&mut found.content), std::mem::take(&mut found.handle));
        let whole = (bytes.len() as u64) >= found.stat.size;
        let sizeless = found.stat.size == 0 && !bytes.is_empty();
        let version = Version::of(&found.stat);
        // A file that was only looked up brought no content.
        let head = Head { at: Instant::now(), changes, version, bytes, whole };
        Self {
            pod: Arc::clone(pod),
            path: found.path.clone(),
            file: (found.stat.dev, found.stat.ino),
            access,
            handle: Mutex::new(handle),
            head: Mutex::new((access.read && !sizeless && handle != 0).then_some(head)),
            sizeless,
            written: AtomicBool::new(false),
        }
    }

    /// Whether the pod has it open already: what stands for a path alone is opened when it is read.
    pub(super) fn is_open(&self) -> bool {
        *lock(&self.handle) != 0
    }

    /// Whether the file tells no size and has content all the same, as in `/proc`.
    pub(super) fn is_sizeless(&self) -> bool {
        self.sizeless
    }

    /// `length` bytes from `offset`; fewer only at the end. `seen` is the version that the file was last seen to be.
    pub(super) fn read(&self, offset: u64, length: usize, seen: Option<Version>) -> Result<Bytes, Errno> {
        let head = lock(&self.head).take().filter(|head| {
            let is_now = head.changes == self.pod.changes() && Some(head.version) == seen;
            offset == 0 && is_now && head.at.elapsed() < HEAD_VALID
        });
        let mut all = BytesMut::new();
        if let Some(Head { bytes, whole, .. }) = head {
            if whole || bytes.len() >= length {
                return Ok(bytes.slice(..bytes.len().min(length)));
            }
            all.extend_from_slice(&bytes);
        }
        while all.len() < length {
            let most = u32::try_from(length - all.len()).unwrap_or(MAX_READ).min(MAX_READ);
            let part = self.with_handle(|handle| self.pod.read(handle, offset + all.len() as u64, most))?;
            all.extend_from_slice(&part);
            if part.len() < most as usize {
                break;
            }
        }
        Ok(all.freeze())
    }

    /// Writes; answers how much was taken.
    pub(super) fn write(&self, offset: u64, append: bool, bytes: &[u8]) -> Result<u64, Errno> {
        lock(&self.head).take();
        self.written.store(true, Ordering::Relaxed);
        let mut taken = 0;
        for part in bytes.chunks(MAX_WRITE as usize) {
            let write = |handle| {
                let (offset, bytes) = (offset + taken, Bytes::copy_from_slice(part));
                self.pod.write(Write { handle, offset, append, bytes })
            };
            match self.with_handle(write) {
                Ok(count) => {
                    taken += count;
                    if count < part.len() as u64 {
                        break;
                    }
                }
                Err(_) if taken > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(taken)
    }

    /// Tells what a write behind our back failed with; nothing to ask where nothing was written.
    pub(super) fn sync(&self, extent: Extent) -> Result<(), Errno> {
        if extent == Extent::Close && !self.written.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.with_handle(|handle| {
            self.pod.change(Op::Sync(Sync { handle, path: Bytes::new(), extent: extent as i32 })).map(drop)
        })
    }

    /// Sets attributes of the open file, whatever its name is now; answers how they stand.
    pub(super) fn set(&self, ask: &SetAttributes) -> Result<Stat, Errno> {
        if ask.size.is_some() {
            lock(&self.head).take();
        }
        let step = self.with_handle(|handle| {
            self.pod.changed(Op::SetAttributes(SetAttributes { handle, ..ask.clone() }))
        })?;
        step.into_iter().next_back().and_then(|step| step.stat).ok_or(libc::EIO)
    }

    fn with_handle<T>(&self, ask: impl Fn(u64) -> Result<T, Errno>) -> Result<T, Errno> {
        let handle = *lock(&self.handle);
        match if handle == 0 { Err(libc::EBADF) } else { ask(handle) } {
            // The agent does not know the file (any more): another agent took over, or none was asked to open it.
            Err(libc::EBADF) => ask(self.find_again(handle)?),
            answer => answer,
        }
    }

    /// Opens the same file once more; EIO when its name leads to another one.
    fn find_again(&self, lost: u64) -> Result<u64, Errno> {
        let mut handle = lock(&self.handle);
        if *handle != lost {
            return Ok(*handle);
        }
        let Access { read, write } = self.access;
        let path = self.path.clone();
        let mut found = self.pod.open(Open { path, read, write, ..Open::default() })?;
        if (found.stat.dev, found.stat.ino) != self.file || found.handle == 0 {
            self.pod.let_go(&mut found);
            return Err(libc::EIO);
        }
        *handle = found.handle;
        Ok(found.handle)
    }
}

impl Drop for LiveFile {
    fn drop(&mut self) {
        self.pod.close_later(*lock(&self.handle));
    }
}
