//! Done for the caller on this machine: paths that its own kernel would not find, as `/pod/../etc/hostname`, and those
//! that stand for others.

use super::change::{Change, read_times, umask};
use super::{Use, put, stat_of, statx_of};
use crate::sys::{self, Errno};
use crate::traps::notify::Answer;
use crate::traps::{Call, memory};
use protocol::agent::Time;
use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// Answers by what is at `path`, an absolute one; `other` is the second path of a call that has two.
pub(super) fn answer(call: &Call, path: &[u8], other: Option<&[u8]>, what: &Use) -> Result<Answer, Errno> {
    let at = |flags: i32| sys::open_local(path, libc::O_PATH | flags, 0);
    let link = |follow: bool| if follow { 0 } else { libc::O_NOFOLLOW };
    match *what {
        Use::Open { flags, mode, .. } => {
            let mode = if flags & libc::O_CREAT != 0 { mode & !umask(call)? } else { mode };
            let fd = sys::open_local(path, flags, mode)?;
            Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
        }
        Use::Stat { to, follow } => put(call, to, &stat_of(&at(link(follow))?)?),
        Use::Statx { to, mask, follow } => put(call, to, &statx_of(&at(link(follow))?, mask)?),
        Use::Access { mode, .. } => sys::access_local(path, mode).map(|()| Answer::Value(0)),
        Use::Readlink { to, room } => {
            if room == 0 {
                return Err(libc::EINVAL);
            }
            let path: &OsStr = OsStrExt::from_bytes(path);
            let text = std::fs::read_link(path).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
            let text = text.as_os_str().as_encoded_bytes();
            let text = &text[..text.len().min(room)];
            sys::write_memory(call.tid(), to, text)?;
            Ok(Answer::Value(text.len() as i64))
        }
        Use::Statfs { to } => {
            let fd = at(0)?;
            // SAFETY: zero is a value of this plain structure.
            let mut figures: libc::statfs = unsafe { std::mem::zeroed() };
            // SAFETY: the structure is ours.
            checked(unsafe { libc::fstatfs(fd.as_raw_fd(), &mut figures) })?;
            put(call, to, &figures)
        }
        // As for the pod's own paths: none are shown.
        Use::GetAttribute { follow } => at(link(follow)).and(Err(libc::ENODATA)),
        Use::ListAttributes { follow } => at(link(follow)).map(|_| Answer::Value(0)),
        Use::Change(change) => {
            make(call, path, other, change)?;
            Ok(Answer::Value(0))
        }
    }
}

fn make(call: &Call, path: &[u8], other: Option<&[u8]>, change: Change) -> Result<(), Errno> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| libc::ENOENT);
    let path = text(path)?;
    let other = other.map(text).transpose()?;
    let other = || other.as_ref().ok_or(libc::ENOENT);
    let kept = |follow: bool| if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // What has a default of another kind for its last links.
    let followed = |follow: bool| if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
    let result = match change {
        Change::MakeFolder { mode } => {
            let mode = mode & !umask(call)?;
            // SAFETY: the path ends with NUL, as below.
            unsafe { libc::mkdir(path.as_ptr(), mode) }
        }
        Change::MakeNode { mode } => {
            let mode = mode & !umask(call)?;
            // SAFETY: as above. Devices are for those who may make them.
            unsafe { libc::mknod(path.as_ptr(), mode, 0) }
        }
        // SAFETY: as above.
        Change::Remove { folder: true } => unsafe { libc::rmdir(path.as_ptr()) },
        // SAFETY: as above.
        Change::Remove { folder: false } => unsafe { libc::unlink(path.as_ptr()) },
        Change::Rename { flags } => {
            let (here, other) = (libc::AT_FDCWD, other()?);
            // SAFETY: both paths end with NUL.
            unsafe {
                libc::syscall(libc::SYS_renameat2, here, path.as_ptr(), here, other.as_ptr(), flags) as i32
            }
        }
        Change::HardLink { follow } => {
            let (here, other) = (libc::AT_FDCWD, other()?);
            // SAFETY: both paths end with NUL.
            unsafe { libc::linkat(here, path.as_ptr(), here, other.as_ptr(), followed(follow)) }
        }
        Change::Symlink { text: address } => {
            let text = text(&memory::path(call.tid(), address)?)?;
            // SAFETY: both texts end with NUL.
            unsafe { libc::symlink(text.as_ptr(), path.as_ptr()) }
        }
        // SAFETY: as above.
        Change::Mode { mode, follow: true } => unsafe { libc::chmod(path.as_ptr(), mode) },
        Change::Mode { .. } => return Err(libc::EOPNOTSUPP),
        Change::Owner { uid, gid, follow } => {
            // SAFETY: as above.
            unsafe { libc::fchownat(libc::AT_FDCWD, path.as_ptr(), uid, gid, kept(follow)) }
        }
        Change::Times { times, form, follow } => {
            let times = read_times(call.tid(), times, form)?.map(|time| match time {
                None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
                Some(Time { now: true, .. }) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
                Some(time) => libc::timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
            });
            // SAFETY: the path ends with NUL, the array holds two times.
            unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), kept(follow)) }
        }
        Change::Truncate { size } => {
            let size = i64::try_from(size).map_err(|_| libc::EINVAL)?;
            // SAFETY: as above.
            unsafe { libc::truncate(path.as_ptr(), size) }
        }
        Change::ExtendedAttribute => return Err(libc::EOPNOTSUPP),
    };
    checked(result)
}

fn checked(result: i32) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(sys::errno()) }
}
