//! The target's files: lookups with stat, content and listing in one answer, kept files, figures; and what changes them.
//!
//! Everything here blocks, on slow disks for long: callers run it on the blocking threads. `walk` finds, this file
//! reads, `open` and `change` do what needs the rights of the target's program ([`Actor`]). Only regular files and folders are ever opened; a pipe or a device is shown by its stat alone.

mod actor;
mod change;
mod list;
mod open;
mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::request::Op;
use protocol::agent::response::Answer;
use protocol::agent::{Figures, List, Listed, MAX_INLINE, MAX_READ, Read, Statfs, Walk, Walked, Written};

use crate::sync::lock;
use crate::target::Ids;
use walk::{Found, Last, Way};

pub(crate) use actor::{Actor, Barred};

/// A link's kept files: as many as a program may usually open.
const MAX_KEPT: usize = 1024;
/// The most that [`Files::small`] reads.
const SMALL: u64 = 64 << 10;

/// The target's file tree.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: Arc<OwnedFd>,
    ids: Ids,
}

/// The files that one link keeps open; closed with it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    files: Mutex<HashMap<u64, Arc<File>>>,
    last: AtomicU64,
}

impl Kept {
    fn add(&self, file: File) -> Result<u64, Errno> {
        let mut files = lock(&self.files);
        if files.len() >= MAX_KEPT {
            return Err(Errno::EMFILE);
        }
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        files.insert(handle, Arc::new(file));
        Ok(handle)
    }

    fn get(&self, handle: u64) -> Result<Arc<File>, Errno> {
        lock(&self.files).get(&handle).cloned().ok_or(Errno::EBADF)
    }

    /// Lets go of a file.
    pub(crate) fn close(&self, handle: u64) -> Result<(), Errno> {
        lock(&self.files).remove(&handle).map(drop).ok_or(Errno::EBADF)
    }

    /// Reads until `length` bytes or the end of the file.
    pub(crate) fn read(&self, read: &Read) -> Result<Bytes, Errno> {
        let file = self.get(read.handle)?;
        let mut content = vec![0; read.length.min(MAX_READ) as usize];
        let filled = read_at(&file, &mut content, read.offset)?;
        content.truncate(filled);
        Ok(Bytes::from(content))
    }
}

/// Fills `content` from `offset` on, as far as the file goes; answers how far.
fn read_at(file: &File, content: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < content.len() {
        let offset = offset.checked_add(filled as u64).ok_or(Errno::EINVAL)?;
        match file.read_at(&mut content[filled..], offset) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // What is there comes first; the error shows again at the next read.
            Err(_) if filled > 0 => break,
            Err(error) => return Err(errno_of(&error)),
        }
    }
    Ok(filled)
}

impl Files {
    pub(crate) fn new(root: OwnedFd, ids: Ids) -> Self {
        Self { root: Arc::new(root), ids }
    }

    /// Looks up a path, with content or listing as asked.
    pub(crate) fn walk(&self, ask: &Walk, kept: &Kept) -> Walked {
        let last = if ask.follow { Last::Follow } else { Last::Keep };
        let Way { steps, end, .. } = walk::walk(&self.root, &self.ids, &ask.path, last);
        let mut walked = Walked { steps, ..Walked::default() };
        let filled = end.and_then(|found| match found.stat.mode & libc::S_IFMT {
            libc::S_IFREG if ask.inline > 0 || ask.keep => content(&found, ask, kept, &mut walked),
            libc::S_IFDIR if ask.list => {
                walked.listed = Some(list::list(&found, &self.ids, 0)?);
                Ok(())
            }
            _ => Ok(()),
        });
        if let Err(errno) = filled {
            walked.errno = errno as i32;
        }
        walked
    }

    /// Does what needs the rights of the target's program, as `actor`. `None` where success says all; ENOSYS for what
    /// is nothing of the kind.
    pub(crate) fn act(
        &self,
        actor: &Actor,
        op: &Op,
        kept: &Kept,
    ) -> Result<Result<Option<Answer>, Errno>, Barred> {
        actor.act(|| {
            let changed = match op {
                Op::Open(ask) => return Ok(Some(Answer::Walked(self.open_as(ask, kept)))),
                Op::Write(ask) => return Ok(Some(Answer::Written(Written { count: kept.write(ask)? }))),
                Op::Sync(ask) if ask.handle != 0 => return kept.sync(ask).map(|()| None),
                Op::Sync(ask) => return self.sync_folder(ask).map(|()| None),
                Op::SetAttributes(ask) => self.set_attributes(ask, kept),
                Op::MakeFolder(ask) => self.make_folder(ask),
                Op::MakeLink(ask) => self.make_link(ask),
                Op::HardLink(ask) => self.hard_link(ask),
                Op::Remove(ask) => self.remove(ask),
                Op::Rename(ask) => self.rename(ask),
                _ => Err(Errno::ENOSYS),
            };
            changed.map(|changed| Some(Answer::Changed(changed)))
        })
    }

    /// One more batch of a folder's entries.
    pub(crate) fn list(&self, ask: &List) -> Result<Listed, Errno> {
        list::list(&self.find(&ask.path)?, &self.ids, ask.from)
    }

    /// The figures of the file system that holds a path.
    pub(crate) fn figures(&self, ask: &Statfs) -> Result<Figures, Errno> {
        let found = self.find(&ask.path)?;
        // SAFETY: all-zero is a value of this plain structure.
        let mut raw: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: `raw` is ours to be written through the call; the descriptor is open.
        Errno::result(unsafe { libc::fstatfs(found.fd.as_raw_fd(), &mut raw) })?;
        Ok(Figures {
            kind: raw.f_type as u64,
            bsize: raw.f_bsize as u64,
            blocks: raw.f_blocks as u64,
            bfree: raw.f_bfree as u64,
            bavail: raw.f_bavail as u64,
            files: raw.f_files as u64,
            ffree: raw.f_ffree as u64,
            namelen: raw.f_namelen as u64,
        })
    }

    /// A path descriptor of what a path leads to, links followed.
    pub(crate) fn locate(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        self.find(path).map(|found| found.fd)
    }

    /// The text of a small file that a session is told of; `None` where there is none to be read.
    pub(crate) fn small(&self, path: &str) -> Option<String> {
        let found = self.find(path.as_bytes()).ok()?;
        if found.stat.mode & libc::S_IFMT != libc::S_IFREG {
            return None;
        }
        let file = File::from(walk::reopen(found.fd.as_fd(), 0).ok()?);
        let mut bytes = Vec::new();
        file.take(SMALL).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn find(&self, path: &[u8]) -> Result<Found, Errno> {
        walk::walk(&self.root, &self.ids, path, Last::Follow).end
    }
}

/// Reads the start of a regular file into `walked`, and keeps it when more is left.
///
/// A file of size 0 may still have content (`/proc`, `/sys`): only its end says that it is whole.
fn content(found: &Found, ask: &Walk, kept: &Kept, walked: &mut Walked) -> Result<(), Errno> {
    let mut file = File::from(walk::reopen(found.fd.as_fd(), 0)?);
    let wanted = ask.inline.min(MAX_INLINE) as usize;
    if wanted > 0 {
        // One byte more than the size: its absence shows the end in the same read.
        let likely = usize::try_from(found.stat.size).unwrap_or(usize::MAX).saturating_add(1);
        let mut bytes = Vec::with_capacity(if found.stat.size == 0 { 4096 } else { likely.min(wanted + 1) });
        let limit = wanted as u64 + 1;
        std::io::Read::by_ref(&mut file)
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| errno_of(&error))?;
        walked.whole = bytes.len() <= wanted;
        bytes.truncate(wanted);
        walked.content = Bytes::from(bytes);
    }
    if ask.keep && !walked.whole {
        walked.handle = kept.add(file)?;
    }
    Ok(())
}

/// The number of an error of the kernel's; EIO for one of the library's own.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
