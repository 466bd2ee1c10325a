//! Looks up a path under the target's root, name by name, as the target's own kernel would.
//!
//! No step leaves the root: each name is opened alone (never `..`, never a link followed by our kernel), links are
//! read as text, an absolute one starts again at the root, and `..` stops there. So magic links of `/proc` lead where
//! their text says inside the root, never where our kernel would jump.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{Stat, Step};

use crate::target::Ids;

const MAX_LINKS: usize = 40;
const MAX_PATH: usize = 4096;

/// Whether a symbolic link in the last place is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Follow,
    Keep,
}

/// The way, and what stands at its end.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: Result<Found, Errno>,
    /// Where a file could be made, when all but the last name is there.
    pub(crate) missing: Option<Missing>,
}

/// A name that nothing has.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) folder: Arc<OwnedFd>,
    /// The folder's path.
    pub(crate) place: Bytes,
    pub(crate) name: Vec<u8>,
    /// The name ends with a slash.
    pub(crate) must_be_folder: bool,
}

/// What a path led to, as a path descriptor.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) stat: Stat,
}

/// A folder on the way from the root.
struct Folder {
    name: Vec<u8>,
    fd: Arc<OwnedFd>,
}

pub(crate) fn walk(root: &Arc<OwnedFd>, ids: &Ids, path: &[u8], last: Last) -> Way {
    let mut way = Way { steps: Vec::new(), end: Err(Errno::EIO), missing: None };
    way.end = follow(root, ids, path, last, &mut way.steps, &mut way.missing);
    way
}

/// A folder that was walked to and a name in it, there or not.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: Arc<OwnedFd>,
    /// The folder's path, without links.
    pub(crate) path: Bytes,
    /// With the slashes behind it, which mean something to the kernel.
    pub(crate) name: CString,
}

impl Place {
    /// The name without slashes.
    pub(crate) fn bare(&self) -> Vec<u8> {
        self.name.to_bytes().split(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
    }

    /// The path of a name in the folder.
    pub(crate) fn path_of(&self, name: &[u8]) -> Bytes {
        let folder = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        Bytes::from([folder, b"/", name].concat())
    }
}

/// Walks to all but the last name; `None` for the root, which has none.
pub(crate) fn place(root: &Arc<OwnedFd>, ids: &Ids, path: &[u8]) -> Result<Option<Place>, Errno> {
    if path.first() != Some(&b'/') {
        return Err(Errno::EINVAL);
    }
    if path.len() >= MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let Some(end) = path.iter().rposition(|byte| *byte != b'/') else { return Ok(None) };
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let way = walk(root, ids, &path[..start], Last::Follow);
    let folder = way.end?;
    if folder.stat.mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let name = CString::new(&path[start..]).map_err(|_| Errno::EINVAL)?;
    let path = way.steps.last().map_or_else(|| Bytes::from_static(b"/"), |step| step.path.clone());
    Ok(Some(Place { folder: folder.fd, path, name }))
}

fn follow(
    root: &Arc<OwnedFd>,
    ids: &Ids,
    path: &[u8],
    last: Last,
    steps: &mut Vec<Step>,
    missing: &mut Option<Missing>,
) -> Result<Found, Errno> {
    if path.first() != Some(&b'/') {
        return Err(Errno::EINVAL);
    }
    if path.len() >= MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut stack: Vec<Folder> = Vec::new();
    // What is still to be looked up, the next name last.
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    push_names(&mut ahead, path);
    let mut must_be_folder = ends_as_folder(path);
    let mut links = 0;
    // Whether the last step already shows where we stand.
    let mut shown = false;
    while let Some(name) = ahead.pop() {
        if name == b".." {
            stack.pop();
            shown = false;
            continue;
        }
        let here = stack.last().map_or(root, |folder| &folder.fd);
        let place = join(&stack, &name);
        let name_text = CString::new(name.as_slice()).map_err(|_| Errno::EINVAL)?;
        let opened = open_step(here.as_fd(), &name_text).and_then(|fd| {
            let stat = stat_of(fd.as_fd(), ids)?;
            Ok((fd, stat))
        });
        let (fd, stat) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                steps.push(Step { path: place, stat: None, link: Bytes::new() });
                if errno == Errno::ENOENT && ahead.is_empty() {
                    let (folder, place) = (Arc::clone(here), path_of(&stack));
                    *missing = Some(Missing { folder, place, name, must_be_folder });
                }
                return Err(errno);
            }
        };
        let kind = stat.mode & libc::S_IFMT;
        let at_end = ahead.is_empty();
        if kind == libc::S_IFLNK {
            let text = read_link(fd.as_fd())?;
            steps.push(Step { path: place, stat: Some(stat.clone()), link: Bytes::from(text.clone()) });
            if at_end && last == Last::Keep && !must_be_folder {
                return Ok(Found { fd: Arc::new(fd), stat });
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            if text.is_empty() {
                return Err(Errno::ENOENT);
            }
            if at_end {
                must_be_folder |= ends_as_folder(&text);
            }
            if text.first() == Some(&b'/') {
                stack.clear();
            }
            push_names(&mut ahead, &text);
            shown = false;
            continue;
        }
        steps.push(Step { path: place, stat: Some(stat.clone()), link: Bytes::new() });
        if kind == libc::S_IFDIR {
            stack.push(Folder { name, fd: Arc::new(fd) });
            shown = true;
        } else if at_end && !must_be_folder {
            return Ok(Found { fd: Arc::new(fd), stat });
        } else {
            return Err(Errno::ENOTDIR);
        }
    }
    let fd = Arc::clone(stack.last().map_or(root, |folder| &folder.fd));
    let stat = stat_of(fd.as_fd(), ids)?;
    if !shown {
        steps.push(Step { path: path_of(&stack), stat: Some(stat.clone()), link: Bytes::new() });
    }
    Ok(Found { fd, stat })
}

/// Puts the names of `path` in front of what is ahead.
fn push_names(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    ahead.extend(names.rev().map(<[u8]>::to_vec));
}

/// `a/`, `a/.` and `a/..` can only be folders.
fn ends_as_folder(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"."
}

/// Where we stand.
fn path_of(stack: &[Folder]) -> Bytes {
    match stack.split_last() {
        Some((folder, above)) => join(above, &folder.name),
        None => Bytes::from_static(b"/"),
    }
}

fn join(above: &[Folder], name: &[u8]) -> Bytes {
    let mut place = Vec::new();
    for part in above.iter().map(|folder| folder.name.as_slice()).chain([name]) {
        place.push(b'/');
        place.extend_from_slice(part);
    }
    Bytes::from(place)
}

fn open_step(here: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `name` ends with NUL and lives through the call; openat(2) only reads it.
    let fd = Errno::result(unsafe { libc::openat(here.as_raw_fd(), name.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The text of the symbolic link behind a path descriptor.
pub(crate) fn read_link(link: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    read_link_at(link, c"")
}

/// The text of the symbolic link `name` in a folder.
pub(crate) fn read_link_at(folder: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut text = vec![0; MAX_PATH];
    // SAFETY: `name` ends with NUL and `text` has the length given; both live through the call.
    let length = Errno::result(unsafe {
        libc::readlinkat(folder.as_raw_fd(), name.as_ptr(), text.as_mut_ptr().cast(), text.len())
    })?;
    text.truncate(length as usize);
    Ok(text)
}

/// The stat of what a descriptor stands for.
pub(crate) fn stat_of(fd: BorrowedFd<'_>, ids: &Ids) -> Result<Stat, Errno> {
    stat_at(fd, c"", libc::AT_EMPTY_PATH, ids)
}

/// The stat of `name` in a folder, a link not followed.
pub(crate) fn stat_in(folder: BorrowedFd<'_>, name: &CStr, ids: &Ids) -> Result<Stat, Errno> {
    stat_at(folder, name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT, ids)
}

fn stat_at(folder: BorrowedFd<'_>, name: &CStr, flags: i32, ids: &Ids) -> Result<Stat, Errno> {
    // SAFETY: all-zero is a value of this plain structure.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends with NUL; `raw` is ours to be written through the call.
    Errno::result(unsafe { libc::fstatat(folder.as_raw_fd(), name.as_ptr(), &mut raw, flags) })?;
    Ok(Stat {
        ino: raw.st_ino,
        dev: raw.st_dev,
        mode: raw.st_mode,
        nlink: raw.st_nlink as u32,
        uid: ids.user(raw.st_uid),
        gid: ids.group(raw.st_gid),
        rdev: raw.st_rdev,
        size: raw.st_size as u64,
        blksize: raw.st_blksize as u32,
        blocks: raw.st_blocks as u64,
        atime: raw.st_atime as i64,
        atime_nsec: raw.st_atime_nsec as u32,
        mtime: raw.st_mtime as i64,
        mtime_nsec: raw.st_mtime_nsec as u32,
        ctime: raw.st_ctime as i64,
        ctime_nsec: raw.st_ctime_nsec as u32,
    })
}

/// Opens what a path descriptor stands for: reading only, and without ever waiting or becoming our terminal.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd, Errno> {
    reopen_for(fd, flags | libc::O_RDONLY)
}

/// The same for any access.
pub(crate) fn reopen_for(fd: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd, Errno> {
    let path = through_proc(fd).map_err(|_| Errno::EIO)?;
    let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: `path` ends with NUL and lives through the call; open(2) only reads it.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path by which calls that take paths reach what a descriptor stands for.
pub(crate) fn through_proc(fd: BorrowedFd<'_>) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
}
