//! The way without FUSE: a file is copied whole into a sealed memfd, a directory becomes a shadow folder with empty
//! entries of the right types in the session's own folder.
//!
//! A memfd has an inode of its own. So a stat answers with the figures of the memfd (or shadow folder) that an open of
//! the same version gives, made for the purpose if need be: then stat and fstat agree. No content is written to disk.

use super::attr::fstat;
use super::lookup::{Found, Pod, lock};
use super::source::{Source, Version};
use super::{Errno, Rights};
use protocol::agent::{Entry, Stat};
use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The largest file that is copied.
const MAX_FILE: u64 = 256 << 20;
/// How many memfds are kept for later stats and opens.
const MAX_KEPT: usize = 256;
/// How much is asked for at once.
const STEP: usize = protocol::agent::MAX_READ as usize;

/// Copies of files and shadows of directories.
pub(super) struct Store {
    pod: Arc<Pod>,
    folder: PathBuf,
    kept: Mutex<Kept>,
    shadows: Mutex<HashMap<Version, Shadow>>,
}

#[derive(Default)]
struct Kept {
    files: HashMap<Version, Arc<Copy>>,
    /// Oldest first.
    order: VecDeque<Version>,
}

/// One version of a file.
struct Copy {
    memfd: File,
    filled: Mutex<bool>,
}

#[derive(Clone)]
struct Shadow {
    folder: PathBuf,
    pod_path: Vec<u8>,
    /// The directory's times when it was filled; `None` before.
    filled: Option<(i64, u32, i64, u32)>,
}

/// Makes the folder that shadows live in; with its device.
pub(super) fn shadow_folder(folder: &Path) -> io::Result<(PathBuf, u64)> {
    let shadow = folder.join("shadow");
    std::fs::create_dir(&shadow)?;
    std::fs::set_permissions(&shadow, std::fs::Permissions::from_mode(0o700))?;
    let dev = fstat(&File::open(&shadow)?)?.st_dev;
    Ok((shadow, dev))
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "shadow folders are left behind");
        }
    }
}

impl Store {
    pub(super) fn new(pod: Arc<Pod>, folder: PathBuf) -> Self {
        Self { pod, folder, kept: Mutex::default(), shadows: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn open(&self, mut found: Found, flags: i32) -> Result<OwnedFd, Errno> {
        match found.kind() {
            libc::S_IFREG if flags & libc::O_PATH == 0 => {
                let copy = self.copy(&found.stat).inspect_err(|_| self.pod.let_go(&mut found))?;
                self.fill(&copy, found)?;
                reopen(copy.memfd.as_raw_fd(), flags)
            }
            libc::S_IFREG => reopen(self.copy(&found.stat)?.memfd.as_raw_fd(), flags),
            libc::S_IFDIR => {
                let shadow = self.shadow(&found)?;
                self.fill_shadow(&shadow, found)?;
                open_shadow(&shadow.folder, flags)
            }
            // A handle on a link or a pipe of the pod: nothing here can stand for it.
            _ => Err(libc::EOPNOTSUPP),
        }
    }

    pub(super) fn stat(&self, found: &Found) -> Result<libc::stat, Errno> {
        let object = match found.kind() {
            libc::S_IFREG => fstat(&self.copy(&found.stat)?.memfd),
            libc::S_IFDIR => File::open(self.shadow(found)?.folder).and_then(|folder| fstat(&folder)),
            _ => return Ok(self.pod.look.stat(&found.stat, Rights::Read)),
        };
        object.map_err(|error| errno_of(&error))
    }

    /// The pod's path of a shadow folder, or of something in it.
    pub(super) fn pod_path(&self, link: &[u8]) -> Option<Vec<u8>> {
        let below = Path::new(OsStr::from_bytes(link)).strip_prefix(&self.folder).ok()?;
        let mut names = below.components();
        let folder = self.folder.join(names.next()?);
        let shadows = lock(&self.shadows);
        let shadow = shadows.values().find(|shadow| shadow.folder == folder)?;
        let path = Path::new(OsStr::from_bytes(&shadow.pod_path)).join(names.as_path());
        let path = path.into_os_string().into_encoded_bytes();
        Some(if path.len() > 1 { path.strip_suffix(b"/").unwrap_or(&path).to_vec() } else { path })
    }

    /// The memfd of this version, empty at first.
    fn copy(&self, stat: &Stat) -> Result<Arc<Copy>, Errno> {
        let version = Version::of(stat);
        let mut kept = lock(&self.kept);
        if let Some(copy) = kept.files.get(&version) {
            return Ok(Arc::clone(copy));
        }
        let memfd = memfd().map_err(|error| errno_of(&error))?;
        let times = [(stat.atime, stat.atime_nsec), (stat.mtime, stat.mtime_nsec)];
        // The size is promised without memory behind it; filling brings the memory.
        (memfd.set_len(stat.size.min(MAX_FILE)))
            .and_then(|()| memfd.set_permissions(std::fs::Permissions::from_mode(own_mode(stat, 0o400))))
            .and_then(|()| set_times(memfd.as_raw_fd(), times))
            .map_err(|error| errno_of(&error))?;
        let copy = Arc::new(Copy { memfd, filled: Mutex::new(false) });
        kept.files.insert(version, Arc::clone(&copy));
        kept.order.push_back(version);
        if kept.order.len() > MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.files.remove(&oldest);
        }
        Ok(copy)
    }

    fn fill(&self, copy: &Copy, mut found: Found) -> Result<(), Errno> {
        let mut filled = lock(&copy.filled);
        // What tells no size may have other content at each look, and is small: it is copied anew.
        let source = Source::new(&self.pod, &mut found);
        if *filled && !source.is_sizeless() {
            return Ok(());
        }
        if found.stat.size > MAX_FILE {
            tracing::warn!(
                path = %String::from_utf8_lossy(&found.path),
                size = found.stat.size,
                "too large to be copied into memory; a system with FUSE serves it piece by piece"
            );
            return Err(libc::EFBIG);
        }
        let failed = |error: io::Error| errno_of(&error);
        let mut offset = 0;
        loop {
            let part = source.read(offset, STEP)?;
            pwrite_all(&copy.memfd, &part, offset).map_err(failed)?;
            offset += part.len() as u64;
            if offset > MAX_FILE {
                return Err(libc::EFBIG);
            }
            if part.len() < STEP {
                break;
            }
        }
        copy.memfd.set_len(offset).map_err(failed)?;
        let stat = &found.stat;
        let times = [(stat.atime, stat.atime_nsec), (stat.mtime, stat.mtime_nsec)];
        set_times(copy.memfd.as_raw_fd(), times).map_err(failed)?;
        if !source.is_sizeless() {
            seal(&copy.memfd).map_err(failed)?;
        }
        *filled = true;
        Ok(())
    }

    /// The shadow folder of this directory, empty at first.
    fn shadow(&self, found: &Found) -> Result<Shadow, Errno> {
        let mut shadows = lock(&self.shadows);
        let number = shadows.len();
        let version = Version::of(&found.stat);
        if let Some(shadow) = shadows.get(&version) {
            return Ok(shadow.clone());
        }
        let shadow = Shadow {
            folder: self.folder.join(number.to_string()),
            pod_path: found.path.to_vec(),
            filled: None,
        };
        (std::fs::create_dir(&shadow.folder))
            .and_then(|()| dress(&shadow.folder, &found.stat))
            .map_err(|error| errno_of(&error))?;
        shadows.insert(version, shadow.clone());
        Ok(shadow)
    }

    fn fill_shadow(&self, shadow: &Shadow, mut found: Found) -> Result<(), Errno> {
        let stat = &found.stat;
        let times = (stat.mtime, stat.mtime_nsec, stat.ctime, stat.ctime_nsec);
        if shadow.filled == Some(times) {
            return Ok(());
        }
        let mut listed = match found.listed.take() {
            Some(listed) => listed,
            None => self.pod.list(&found.path, stat, 0)?,
        };
        let mut entries = std::mem::take(&mut listed.entries);
        while listed.next != 0 {
            listed = self.pod.list(&found.path, stat, listed.next)?;
            entries.append(&mut listed.entries);
        }
        (fill_folder(&shadow.folder, &entries))
            .and_then(|()| dress(&shadow.folder, stat))
            .map_err(|error| errno_of(&error))?;
        if let Some(shadow) = lock(&self.shadows).get_mut(&Version::of(stat)) {
            shadow.filled = Some(times);
        }
        Ok(())
    }
}

/// The pod's permissions, with what we need ourselves.
fn own_mode(stat: &Stat, needed: u32) -> u32 {
    stat.mode & 0o777 | needed
}

fn dress(folder: &Path, stat: &Stat) -> io::Result<()> {
    let opened = File::open(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(own_mode(stat, 0o700)))?;
    set_times(opened.as_raw_fd(), [(stat.atime, stat.atime_nsec), (stat.mtime, stat.mtime_nsec)])
}

/// Makes the folder's entries these: names and types only.
fn fill_folder(folder: &Path, entries: &[Entry]) -> io::Result<()> {
    let wanted: std::collections::HashSet<&[u8]> = entries.iter().map(|entry| &entry.name[..]).collect();
    for present in std::fs::read_dir(folder)? {
        let present = present?;
        if !wanted.contains(present.file_name().as_bytes()) {
            match present.file_type()?.is_dir() {
                true => std::fs::remove_dir(present.path())?,
                false => std::fs::remove_file(present.path())?,
            }
        }
    }
    for entry in entries {
        // A name with a slash would leave the folder; no file system has one.
        if entry.name.contains(&b'/') || matches!(&entry.name[..], b"" | b"." | b"..") {
            continue;
        }
        let path = folder.join(OsStr::from_bytes(&entry.name));
        let made = match entry.stat.as_ref().map_or(0, |stat| stat.mode & libc::S_IFMT) {
            libc::S_IFDIR => std::fs::create_dir(&path),
            libc::S_IFLNK => symlink(OsStr::from_bytes(&entry.link), &path),
            libc::S_IFIFO => {
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).map_err(io::Error::from)
            }
            _ => std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path).map(drop),
        };
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn memfd() -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string that outlives the call; nothing else is passed.
    let fd = unsafe { libc::memfd_create(c"pod-file".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else knows of it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn pwrite_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with F_ADD_SEALS takes an integer and touches no memory of ours.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_times(fd: RawFd, times: [(i64, u32); 2]) -> io::Result<()> {
    let times = times.map(|(tv_sec, nsec)| libc::timespec { tv_sec, tv_nsec: nsec.into() });
    // SAFETY: futimens reads two timespecs, which is what the array holds.
    if unsafe { libc::futimens(fd, times.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor of its own, with an offset of its own.
fn reopen(fd: RawFd, flags: i32) -> Result<OwnedFd, Errno> {
    let kept = flags & (libc::O_PATH | libc::O_NONBLOCK | libc::O_APPEND);
    open_path(Path::new(&format!("/proc/self/fd/{fd}")), kept)
}

fn open_shadow(folder: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    let kept = flags & (libc::O_PATH | libc::O_NONBLOCK);
    open_path(folder, kept | libc::O_DIRECTORY)
}

fn open_path(path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::ENOENT)?;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(errno_of(&io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The errno of a failure of our own; it says nothing of the pod.
fn errno_of(error: &io::Error) -> Errno {
    tracing::warn!(%error, "a copy of a pod's file could not be made");
    error.raw_os_error().unwrap_or(libc::EIO)
}
