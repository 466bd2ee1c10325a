//! Opening a file as the target's program, to keep it; and what is done with a kept file.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{Extent, MAX_INLINE, Open, Step, Sync, Walked, Write};

use super::walk::{self, Found, Last, Missing, Way};
use super::{Files, Kept, errno_of, list};

/// How often somebody else may make and remove the file under our hands.
const TRIES: usize = 8;

impl Files {
    /// Opens; to be called while acting as the target's program.
    pub(super) fn open_as(&self, ask: &Open, kept: &Kept) -> Walked {
        let mut walked = Walked::default();
        if let Err(errno) = self.open_into(ask, kept, &mut walked) {
            walked.errno = errno as i32;
        }
        walked
    }

    fn open_into(&self, ask: &Open, kept: &Kept, walked: &mut Walked) -> Result<(), Errno> {
        let exclusive = ask.create && ask.exclusive;
        let last = if ask.follow && !exclusive { Last::Follow } else { Last::Keep };
        for _ in 0..TRIES {
            let Way { steps, end, missing } = walk::walk(&self.root, &self.ids, &ask.path, last);
            walked.steps = steps;
            match (end, missing) {
                (Ok(_), _) if exclusive => return Err(Errno::EEXIST),
                (Ok(found), _) => return self.open_found(&found, ask, kept, walked),
                (Err(Errno::ENOENT), Some(missing)) if ask.create => {
                    match self.create(&missing, ask, kept, walked) {
                        // Somebody else made it meanwhile.
                        Err(Errno::EEXIST) if !exclusive => {}
                        made => return made,
                    }
                }
                (Err(errno), _) => return Err(errno),
            }
        }
        Err(Errno::EAGAIN)
    }

    fn open_found(&self, found: &Found, ask: &Open, kept: &Kept, walked: &mut Walked) -> Result<(), Errno> {
        match found.stat.mode & libc::S_IFMT {
            libc::S_IFREG => {
                let file = File::from(walk::reopen_for(found.fd.as_fd(), access(ask))?);
                if ask.truncate {
                    let stat = walk::stat_of(file.as_fd(), &self.ids)?;
                    if let Some(step) = walked.steps.last_mut() {
                        step.stat = Some(stat);
                    }
                }
                if ask.read && ask.inline > 0 && !ask.truncate {
                    let wanted = ask.inline.min(MAX_INLINE) as usize;
                    let likely = usize::try_from(found.stat.size).unwrap_or(usize::MAX).saturating_add(1);
                    let mut content = vec![0; likely.min(wanted)];
                    let filled = super::read_at(&file, &mut content, 0)?;
                    content.truncate(filled);
                    walked.content = Bytes::from(content);
                }
                walked.handle = kept.add(file)?;
            }
            libc::S_IFDIR if ask.list && !ask.write => walked.listed = Some(list::list(found, &self.ids, 0)?),
            _ => {}
        }
        Ok(())
    }

    fn create(&self, missing: &Missing, ask: &Open, kept: &Kept, walked: &mut Walked) -> Result<(), Errno> {
        if missing.must_be_folder {
            return Err(Errno::EISDIR);
        }
        let name = CString::new(missing.name.as_slice()).map_err(|_| Errno::EINVAL)?;
        let flags = access(ask) | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: `name` ends with NUL and lives through the call.
        let fd = Errno::result(unsafe {
            libc::openat(missing.folder.as_raw_fd(), name.as_ptr(), flags, ask.mode & 0o7777)
        })?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // The folder has other times now than when it was passed.
        let folder = walk::stat_of(missing.folder.as_fd(), &self.ids)?;
        let stat = walk::stat_of(file.as_fd(), &self.ids)?;
        let made = match walked.steps.pop() {
            Some(step) => Step { stat: Some(stat), ..step },
            None => return Err(Errno::EIO),
        };
        if let Some(step) = walked.steps.iter_mut().rev().find(|step| step.path == missing.place) {
            step.stat = Some(folder);
        } else {
            walked.steps.push(Step { path: missing.place.clone(), stat: Some(folder), link: Bytes::new() });
        }
        walked.steps.push(made);
        walked.whole = true;
        walked.handle = kept.add(file)?;
        Ok(())
    }
}

fn access(ask: &Open) -> i32 {
    let access = match (ask.read, ask.write) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    access | if ask.truncate { libc::O_TRUNC } else { 0 }
}

impl Kept {
    /// Writes all that it can; to be called while acting as the target's program.
    pub(super) fn write(&self, ask: &Write) -> Result<u64, Errno> {
        let file = self.get(ask.handle)?;
        let mut written = 0;
        while written < ask.bytes.len() {
            let rest = &ask.bytes[written..];
            let offset = ask.offset.checked_add(written as u64).ok_or(Errno::EFBIG)?;
            match write_once(&file, rest, offset, ask.append) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::EINTR) => {}
                // What was taken counts; the error shows again at the next write.
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(written as u64)
    }

    pub(super) fn sync(&self, ask: &Sync) -> Result<(), Errno> {
        sync(&*self.get(ask.handle)?, ask.extent())
    }
}

/// pwritev2(2): a plain pwrite(2) could not append.
fn write_once(file: &File, bytes: &[u8], offset: u64, append: bool) -> Result<usize, Errno> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let flags = if append { libc::RWF_APPEND } else { 0 };
    // SAFETY: the one part is `bytes`, which is only read and outlives the call.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, offset, flags) };
    Errno::result(written).map(|count| count as usize)
}

/// Brings what was written to a descriptor to where it belongs.
pub(super) fn sync(fd: &impl AsFd, extent: Extent) -> Result<(), Errno> {
    let fd = fd.as_fd();
    match extent {
        Extent::Close => {
            // SAFETY: duplicates a descriptor that is open; the copy is nobody else's.
            let copy = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) })?;
            // SAFETY: closes that copy. Whatever it answers, the copy is gone.
            Errno::result(unsafe { libc::close(copy) }).map(drop)
        }
        // SAFETY: takes an open descriptor.
        Extent::Data => Errno::result(unsafe { libc::fdatasync(fd.as_raw_fd()) }).map(drop),
        // SAFETY: the same.
        Extent::All => Errno::result(unsafe { libc::fsync(fd.as_raw_fd()) }).map(drop),
    }
}

impl Files {
    /// fsync(2) of a folder.
    pub(super) fn sync_folder(&self, ask: &Sync) -> Result<(), Errno> {
        let found = self.find(&ask.path)?;
        if found.stat.mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let folder = walk::reopen(found.fd.as_fd(), libc::O_DIRECTORY)?;
        sync(&folder, ask.extent())
    }
}

/// An error of the library's file functions as a number.
pub(super) fn numbered<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno_of(&error))
}
