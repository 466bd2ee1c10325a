//! Names and attributes: made, removed, renamed, set, as the target's program would.
//!
//! Only the last name of a path is given to the kernel, under a folder that was walked to: none of these calls follows
//! it, so nothing leads out of the target's root.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{
    Changed, HardLink, MakeFolder, MakeLink, Remove, Rename, SetAttributes, Stat, Step, Time,
};

use super::open::numbered;
use super::walk::{self, Last, Place};
use super::{Files, Kept};

impl Files {
    pub(super) fn make_folder(&self, ask: &MakeFolder) -> Result<Changed, Errno> {
        let place = self.place(&ask.path, Errno::EEXIST)?;
        // SAFETY: the name ends with NUL and lives through the call.
        Errno::result(unsafe {
            libc::mkdirat(place.folder.as_raw_fd(), place.name.as_ptr(), ask.mode & 0o7777)
        })?;
        self.changed(&[place])
    }

    pub(super) fn make_link(&self, ask: &MakeLink) -> Result<Changed, Errno> {
        let place = self.place(&ask.path, Errno::EEXIST)?;
        let text = CString::new(&ask.text[..]).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both texts end with NUL and live through the call.
        Errno::result(unsafe {
            libc::symlinkat(text.as_ptr(), place.folder.as_raw_fd(), place.name.as_ptr())
        })?;
        self.changed(&[place])
    }

    pub(super) fn hard_link(&self, ask: &HardLink) -> Result<Changed, Errno> {
        let last = if ask.follow { Last::Follow } else { Last::Keep };
        let from = walk::walk(&self.root, &self.ids, &ask.from, last).end?;
        let place = self.place(&ask.to, Errno::EEXIST)?;
        let source = numbered(walk::through_proc(from.fd.as_fd()))?;
        // SAFETY: both paths end with NUL and live through the call.
        Errno::result(unsafe {
            libc::linkat(
                libc::AT_FDCWD,
                source.as_ptr(),
                place.folder.as_raw_fd(),
                place.name.as_ptr(),
                libc::AT_SYMLINK_FOLLOW,
            )
        })?;
        self.changed(&[place])
    }

    pub(super) fn remove(&self, ask: &Remove) -> Result<Changed, Errno> {
        let place = self.place(&ask.path, if ask.folder { Errno::EBUSY } else { Errno::EISDIR })?;
        let flags = if ask.folder { libc::AT_REMOVEDIR } else { 0 };
        // SAFETY: the name ends with NUL and lives through the call.
        Errno::result(unsafe { libc::unlinkat(place.folder.as_raw_fd(), place.name.as_ptr(), flags) })?;
        self.changed(&[place])
    }

    pub(super) fn rename(&self, ask: &Rename) -> Result<Changed, Errno> {
        let from = self.place(&ask.from, Errno::EBUSY)?;
        let to = self.place(&ask.to, Errno::EBUSY)?;
        // SAFETY: both names end with NUL and live through the call.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                from.folder.as_raw_fd(),
                from.name.as_ptr(),
                to.folder.as_raw_fd(),
                to.name.as_ptr(),
                ask.flags,
            )
        })?;
        self.changed(&[from, to])
    }

    pub(super) fn set_attributes(&self, ask: &SetAttributes, kept: &Kept) -> Result<Changed, Errno> {
        let set = |fd: BorrowedFd<'_>, path: &CString| -> Result<Stat, Errno> {
            // First what may be refused for the lack of a right, before anything is done.
            if let Some(size) = ask.size {
                let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
                // SAFETY: the path ends with NUL and lives through the call.
                let mut cut = unsafe { libc::truncate(path.as_ptr(), size) };
                if cut != 0 && ask.handle != 0 {
                    // A file opened for writing may be cut whatever its permissions are now.
                    // SAFETY: takes an open descriptor.
                    cut = unsafe { libc::ftruncate(fd.as_raw_fd(), size) };
                }
                Errno::result(cut)?;
            }
            if ask.uid.is_some() || ask.gid.is_some() {
                let (uid, gid) = (
                    ask.uid.map_or(Ok(u32::MAX), |id| self.ids.user_outside(id)),
                    ask.gid.map_or(Ok(u32::MAX), |id| self.ids.group_outside(id)),
                );
                // SAFETY: the path is empty: it is the descriptor that counts.
                Errno::result(unsafe {
                    libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid?, gid?, libc::AT_EMPTY_PATH)
                })?;
            }
            if let Some(mode) = ask.mode {
                // SAFETY: the path ends with NUL and lives through the call.
                Errno::result(unsafe { libc::chmod(path.as_ptr(), mode & 0o7777) })?;
            }
            if ask.atime.is_some() || ask.mtime.is_some() {
                let times = [timespec(ask.atime), timespec(ask.mtime)];
                // SAFETY: the path ends with NUL, the array holds the two times that are read.
                Errno::result(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) })?;
            }
            walk::stat_of(fd, &self.ids)
        };
        let step = if ask.handle != 0 {
            let file = kept.get(ask.handle)?;
            let stat = set(file.as_fd(), &numbered(walk::through_proc(file.as_fd()))?)?;
            Step { path: Bytes::new(), stat: Some(stat), link: Bytes::new() }
        } else {
            let last = if ask.follow { Last::Follow } else { Last::Keep };
            let way = walk::walk(&self.root, &self.ids, &ask.path, last);
            let found = way.end?;
            if ask.mode.is_some() && found.stat.mode & libc::S_IFMT == libc::S_IFLNK {
                return Err(Errno::EOPNOTSUPP);
            }
            let stat = set(found.fd.as_fd(), &numbered(walk::through_proc(found.fd.as_fd()))?)?;
            let path = way.steps.last().map_or_else(Bytes::new, |step| step.path.clone());
            Step { path, stat: Some(stat), link: Bytes::new() }
        };
        Ok(Changed { steps: vec![step] })
    }

    /// The folder and name of a path; `root` is what the root itself is refused with.
    fn place(&self, path: &[u8], root: Errno) -> Result<Place, Errno> {
        walk::place(&self.root, &self.ids, path)?.ok_or(root)
    }

    /// How things stand at these places.
    fn changed(&self, places: &[Place]) -> Result<Changed, Errno> {
        let folders = places.iter().map(|place| {
            let stat = walk::stat_of(place.folder.as_fd(), &self.ids)?;
            Ok(Step { path: place.path.clone(), stat: Some(stat), link: Bytes::new() })
        });
        let names = places.iter().map(|place| Ok(self.look(place)));
        Ok(Changed { steps: folders.chain(names).collect::<Result<_, Errno>>()? })
    }

    fn look(&self, place: &Place) -> Step {
        let bare = place.bare();
        let path = place.path_of(&bare);
        let stat = CString::new(bare)
            .ok()
            .and_then(|name| Some((walk::stat_in(place.folder.as_fd(), &name, &self.ids).ok()?, name)));
        let link = match &stat {
            Some((stat, name)) if stat.mode & libc::S_IFMT == libc::S_IFLNK => {
                walk::read_link_at(place.folder.as_fd(), name).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Step { path, stat: stat.map(|(stat, _)| stat), link: Bytes::from(link) }
    }
}

fn timespec(time: Option<Time>) -> libc::timespec {
    match time {
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        Some(Time { now: true, .. }) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        Some(Time { seconds, nanoseconds, .. }) => {
            libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds.min(999_999_999).into() }
        }
    }
}
