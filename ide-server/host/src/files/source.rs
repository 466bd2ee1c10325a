//! Where the bytes of one opened file come from: what the walk brought along, then the file that the agent keeps open.

use super::attr::is_live;
use super::lookup::{Found, Pod, Wanted, lock};
use super::{Errno, Rights};
use bytes::{Bytes, BytesMut};
use protocol::agent::{MAX_READ, Stat};
use std::sync::{Arc, Mutex};

/// What makes two looks at a file the same file with the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    dev: u64,
    ino: u64,
    kind: u32,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Content {
    /// A directory, which stays itself while its entries change.
    Entries,
    /// This one, by size and times.
    Of(u64, i64, u32, i64, u32),
    /// Whatever it is now.
    Live,
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        let kind = stat.mode & libc::S_IFMT;
        let content = match kind {
            libc::S_IFDIR => Content::Entries,
            _ => Content::Of(stat.size, stat.mtime, stat.mtime_nsec, stat.ctime, stat.ctime_nsec),
        };
        Self { dev: stat.dev, ino: stat.ino, kind, content }
    }

    /// The same for what is to be known with `rights`: a file that may be written to is one whatever is in it.
    pub(super) fn with(stat: &Stat, rights: Rights) -> Self {
        match is_live(stat, rights) {
            true => Self { content: Content::Live, ..Self::of(stat) },
            false => Self::of(stat),
        }
    }

    pub(super) fn is_live(self) -> bool {
        self.content == Content::Live
    }

    /// Whether both are the same file, whatever is in it.
    pub(super) fn is_same_file(self, other: Self) -> bool {
        (self.dev, self.ino, self.kind) == (other.dev, other.ino, other.kind)
    }
}

/// The content of one version of a file.
pub(super) struct Source {
    pod: Arc<Pod>,
    path: Bytes,
    version: Version,
    /// From the start.
    head: Bytes,
    /// Whether `head` is all there is.
    whole: bool,
    /// The file that the agent keeps open, or 0.
    handle: Mutex<u64>,
}

impl Source {
    /// Takes over what the walk brought.
    pub(super) fn new(pod: &Arc<Pod>, found: &mut Found) -> Self {
        Self {
            pod: Arc::clone(pod),
            path: found.path.clone(),
            version: Version::of(&found.stat),
            head: std::mem::take(&mut found.content),
            whole: found.whole,
            handle: Mutex::new(std::mem::take(&mut found.handle)),
        }
    }

    /// Whether the file tells no size and has content all the same, as in `/proc`.
    pub(super) fn is_sizeless(&self) -> bool {
        matches!(self.version.content, Content::Of(0, ..)) && !(self.head.is_empty() && self.whole)
    }

    /// `length` bytes from `offset`; fewer only at the end.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes, Errno> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.head.len());
        let head = self.head.slice(start..self.head.len().min(start.saturating_add(length)));
        if self.whole || head.len() == length {
            return Ok(head);
        }
        let mut all = BytesMut::from(&head[..]);
        while all.len() < length {
            let most = u32::try_from(length - all.len()).unwrap_or(MAX_READ).min(MAX_READ);
            let part = self.read_kept(offset + all.len() as u64, most)?;
            all.extend_from_slice(&part);
            if part.len() < most as usize {
                break;
            }
        }
        Ok(all.freeze())
    }

    fn read_kept(&self, offset: u64, length: u32) -> Result<Bytes, Errno> {
        let handle = *lock(&self.handle);
        match self.pod.read(handle, offset, length) {
            // The agent does not know the file (any more): another agent took over, or none was kept.
            Err(libc::EBADF | libc::ENOENT | libc::ESTALE) => {
                self.pod.read(self.find_again(handle)?, offset, length)
            }
            answer => answer,
        }
    }

    /// A new handle for the same version; EIO when that version is gone.
    fn find_again(&self, lost: u64) -> Result<u64, Errno> {
        let mut handle = lock(&self.handle);
        if *handle != lost {
            return Ok(*handle);
        }
        // The agent keeps only what it does not send whole, so little is asked for inline.
        let mut found = self.pod.look(&self.path, false, Wanted::HANDLE)?;
        if Version::of(&found.stat) != self.version || found.handle == 0 {
            self.pod.let_go(&mut found);
            return Err(libc::EIO);
        }
        *handle = found.handle;
        Ok(found.handle)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.pod.close_later(*lock(&self.handle));
    }
}
