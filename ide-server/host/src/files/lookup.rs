//! Looking a path up in the pod, once, and judging what was found as the pod's kernel would for the pod's process.
//!
//! The agent may be root where the pod's process is not; so the permission to search, read and execute is decided here,
//! by mode bits. Nothing of an answer outlives the call, but for the entries of a listing ([`super::recent`]) and the files
//! of a resolver ([`super::resolver`]).

use super::attr::Appearance;
use super::recent::Recent;
use super::resolver::Resolver;
use super::{Errno, PodFs, Rights};
use bytes::Bytes;
use protocol::agent::{
    CloseFile, List, Listed, MAX_INLINE, MAX_READ, Read, Response, Stat, Statfs, Step, Walk, Walked,
    request::Op, response::Answer,
};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

/// Who the pod's process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creds {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Creds {
    /// Whether all of `mask` (4 read, 2 write, 1 execute or search) is granted by the mode bits.
    fn may(&self, stat: &Stat, mask: u32) -> bool {
        if self.uid == 0 {
            // Root passes all but executing what nobody may execute.
            let directory = stat.mode & libc::S_IFMT == libc::S_IFDIR;
            return mask & 1 == 0 || directory || stat.mode & 0o111 != 0;
        }
        let shift = match stat {
            _ if stat.uid == self.uid => 6,
            _ if stat.gid == self.gid || self.groups.contains(&stat.gid) => 3,
            _ => 0,
        };
        mask & !(stat.mode >> shift) == 0
    }
}

/// What a walk is to bring beside the stat.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    inline: u32,
    list: bool,
    keep: bool,
}

impl Wanted {
    pub(super) const NOTHING: Self = Self { inline: 0, list: false, keep: false };
    /// The start of a file, or of a listing.
    pub(super) const CONTENT: Self = Self { inline: MAX_INLINE, list: true, keep: true };
    /// A file to read on from: something inline all the same, as a file sent whole is not kept.
    pub(super) const HANDLE: Self = Self { inline: 1, list: false, keep: true };
}

/// A path that leads somewhere.
#[derive(Debug)]
pub(super) struct Found {
    /// Without links, `.` and `..`.
    pub(super) path: Bytes,
    pub(super) stat: Stat,
    /// The text of a link.
    pub(super) link: Bytes,
    /// What was met on the way, the last step too.
    pub(super) steps: Vec<Step>,
    pub(super) content: Bytes,
    pub(super) whole: bool,
    /// A file that the agent keeps open, or 0.
    pub(super) handle: u64,
    pub(super) listed: Option<Listed>,
}

impl Found {
    pub(super) fn kind(&self) -> u32 {
        self.stat.mode & libc::S_IFMT
    }
}

/// The target: how to ask it, who its process is, and how its files appear here.
pub(super) struct Pod {
    fs: Arc<dyn PodFs>,
    /// Files to be closed; the thread behind it ends with the last sender.
    closing: mpsc::Sender<u64>,
    creds: Creds,
    pub(super) look: Appearance,
    pub(super) recent: Recent,
    pub(super) resolver: Resolver,
    /// Why nothing can be written, when something was to be.
    pub(super) refusal: Mutex<Option<String>>,
    /// Counts what was changed by the session.
    pub(super) changes: AtomicU64,
}

/// Locks a mutex; one that a panicking thread left behind holds nothing that could be half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pod {
    pub(super) fn new(fs: Arc<dyn PodFs>, creds: Creds, look: Appearance) -> io::Result<Self> {
        let (closing, closed) = mpsc::channel();
        let closer = Arc::clone(&fs);
        std::thread::Builder::new().name("files-close".into()).stack_size(256 << 10).spawn(move || {
            for handle in closed {
                close(&*closer, handle);
            }
        })?;
        Ok(Self {
            fs,
            closing,
            creds,
            look,
            recent: Recent::default(),
            resolver: Resolver::default(),
            refusal: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }

    /// Looks up; one round trip.
    pub(super) fn look(&self, path: &[u8], follow: bool, wanted: Wanted) -> Result<Found, Errno> {
        let asked = Asked::read(path, follow)?;
        let known = match asked.follow {
            true => self.resolver.walked(&*self.fs, asked.path),
            false => None,
        };
        let walked = match known {
            Some(walked) => walked,
            None => self.walk(&asked, wanted)?,
        };
        let mut found = self.judge(walked)?;
        if asked.directory && found.kind() != libc::S_IFDIR {
            self.let_go(&mut found);
            return Err(libc::ENOTDIR);
        }
        // Who may list a directory but not search it can stat none of its entries.
        if let Some(listed) = found.listed.as_ref().filter(|_| self.creds.may(&found.stat, 1)) {
            self.recent.listed(&found.path, &listed.entries);
            if asked.path != &found.path[..] {
                self.recent.listed(asked.path, &listed.entries);
            }
        }
        Ok(found)
    }

    fn walk(&self, asked: &Asked<'_>, wanted: Wanted) -> Result<Walked, Errno> {
        let op = Op::Walk(Walk {
            path: Bytes::copy_from_slice(asked.path),
            follow: asked.follow,
            inline: wanted.inline,
            list: wanted.list,
            keep: wanted.keep,
        });
        match self.ask(op)?.answer {
            Some(Answer::Walked(walked)) => Ok(walked),
            _ => Err(libc::EIO),
        }
    }

    /// Looks up what may just have been listed: then without a round trip, once an entry.
    pub(super) fn look_recently(&self, path: &[u8], follow: bool) -> Result<Found, Errno> {
        let found = match self.recent.take(path, follow) {
            Some(found) => found,
            None => self.look(path, follow, Wanted::NOTHING)?,
        };
        self.recent.found(path);
        Ok(found)
    }

    /// Whether a path leads somewhere; of what was just looked at that is known.
    pub(super) fn is_there(&self, path: &[u8], follow: bool) -> Result<(), Errno> {
        if self.recent.was_there(path) {
            return Ok(());
        }
        self.look_recently(path, follow).map(drop)
    }

    fn judge(&self, mut walked: Walked) -> Result<Found, Errno> {
        let on_the_way = &walked.steps[..walked.steps.len().saturating_sub(1)];
        let barred = on_the_way
            .iter()
            .filter_map(|step| step.stat.as_ref())
            .any(|stat| stat.mode & libc::S_IFMT == libc::S_IFDIR && !self.creds.may(stat, 1));
        if barred {
            walked.errno = libc::EACCES;
        }
        self.found(walked)
    }

    /// What a walk led to, by the pod's own judgement.
    pub(super) fn found(&self, walked: Walked) -> Result<Found, Errno> {
        let Walked { steps, errno, content, whole, handle, listed } = walked;
        let errno = match (errno, steps.last()) {
            (0, Some(Step { stat: Some(stat), path, link })) => {
                let (stat, path, link) = (stat.clone(), path.clone(), link.clone());
                return Ok(Found { path, stat, link, steps, content, whole, handle, listed });
            }
            (0, _) => libc::ENOENT,
            (errno, _) => errno,
        };
        self.close_later(handle);
        Err(errno)
    }

    /// Whether the pod's process may; by mode bits.
    pub(super) fn access(&self, stat: &Stat, mode: i32, rights: Rights) -> Result<(), Errno> {
        let in_file_system =
            matches!(stat.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK);
        if mode & libc::W_OK != 0 && in_file_system && rights == Rights::Read {
            return Err(libc::EROFS);
        }
        if self.creds.may(stat, mode as u32) { Ok(()) } else { Err(libc::EACCES) }
    }

    pub(super) fn statfs(&self, path: &[u8]) -> Result<libc::statfs, Errno> {
        let asked = Asked::read(path, true)?;
        let op = Op::Statfs(Statfs { path: Bytes::copy_from_slice(asked.path) });
        let Some(Answer::Figures(figures)) = self.ask(op)?.answer else { return Err(libc::EIO) };
        // SAFETY: struct statfs is plain integers, for which all zeroes is a value.
        let mut shown: libc::statfs = unsafe { std::mem::zeroed() };
        shown.f_type = figures.kind as _;
        shown.f_bsize = figures.bsize as _;
        shown.f_frsize = figures.bsize as _;
        shown.f_blocks = figures.blocks as _;
        shown.f_bfree = figures.bfree as _;
        shown.f_bavail = figures.bavail as _;
        shown.f_files = figures.files as _;
        shown.f_ffree = figures.ffree as _;
        shown.f_namelen = figures.namelen as _;
        Ok(shown)
    }

    /// More of a directory.
    pub(super) fn list(&self, path: &Bytes, stat: &Stat, from: u64) -> Result<Listed, Errno> {
        let op = Op::List(List { path: path.clone(), from });
        let Some(Answer::Listed(listed)) = self.ask(op)?.answer else { return Err(libc::EIO) };
        if self.creds.may(stat, 1) {
            self.recent.listed(path, &listed.entries);
        }
        Ok(listed)
    }

    /// Up to `length` bytes of a kept file; fewer only at its end.
    pub(super) fn read(&self, handle: u64, offset: u64, length: u32) -> Result<Bytes, Errno> {
        let op = Op::Read(Read { handle, offset, length: length.min(MAX_READ) });
        match self.ask(op)?.answer {
            Some(Answer::Content(content)) if content.len() <= length as usize => Ok(content),
            // An empty answer is an absent one.
            None => Ok(Bytes::new()),
            _ => Err(libc::EIO),
        }
    }

    /// Lets go of what a walk kept open.
    pub(super) fn let_go(&self, found: &mut Found) {
        self.close_later(std::mem::take(&mut found.handle));
    }

    /// Lets go of a kept file, without waiting for it.
    pub(super) fn close_later(&self, handle: u64) {
        if handle != 0 && self.closing.send(handle).is_err() {
            tracing::warn!(handle, "a kept file stays open in the agent: the closing thread ended");
        }
    }

    /// The answer, whatever it is.
    pub(super) fn put(&self, op: Op) -> Result<Response, Errno> {
        // No file system of the pod's would say that it took too long.
        self.fs.request(op).map_err(|errno| match errno {
            libc::ENAMETOOLONG => errno,
            _ => libc::EIO,
        })
    }

    fn ask(&self, op: Op) -> Result<Response, Errno> {
        let response = self.put(op)?;
        if response.errno == 0 {
            return Ok(response);
        }
        if !response.message.is_empty() {
            tracing::debug!(errno = response.errno, message = %response.message, "the agent refused");
        }
        Err(response.errno)
    }
}

/// Lets go of a kept file.
fn close(fs: &dyn PodFs, handle: u64) {
    match fs.request(Op::Close(CloseFile { handle })) {
        Ok(response) if response.errno == 0 => {}
        // The agent that kept it is gone, and its open files with it.
        refused => tracing::debug!(handle, ?refused, "a kept file could not be closed"),
    }
}

/// A path as the agent is asked for it: what a trailing slash means is settled here.
struct Asked<'a> {
    path: &'a [u8],
    follow: bool,
    directory: bool,
}

/// Whether a path can be asked for at all.
pub(super) fn check_path(path: &[u8]) -> Result<(), Errno> {
    if path.len() >= libc::PATH_MAX as usize {
        return Err(libc::ENAMETOOLONG);
    }
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(libc::ENOENT);
    }
    Ok(())
}

impl<'a> Asked<'a> {
    fn read(path: &'a [u8], follow: bool) -> Result<Self, Errno> {
        check_path(path)?;
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
        let (path, slash) = (&path[..end], end < path.len());
        let dots = path.ends_with(b"/.") || path.ends_with(b"/..");
        Ok(Self { path, follow: follow || slash || dots, directory: slash })
    }
}

/// The rules of open(2) and openat2(2) where nothing can be written, or before anything is.
pub(super) struct Opening {
    pub(super) flags: i32,
    pub(super) resolve: u64,
}

impl Opening {
    pub(super) fn has(&self, flag: i32) -> bool {
        self.flags & flag == flag
    }

    /// O_PATH drops all flags but these.
    pub(super) fn path_only(&self) -> bool {
        self.has(libc::O_PATH)
    }

    pub(super) fn follows(&self) -> bool {
        let exclusive = !self.path_only() && self.has(libc::O_CREAT | libc::O_EXCL);
        !self.has(libc::O_NOFOLLOW) && !exclusive
    }

    /// What a failed lookup means when a file was to be made.
    pub(super) fn failure(&self, pod: &Pod, path: &[u8], errno: Errno) -> Errno {
        if errno != libc::ENOENT || self.path_only() || !self.has(libc::O_CREAT) {
            return errno;
        }
        let parent = match path.iter().rposition(|&byte| byte == b'/') {
            Some(0) | None => &b"/"[..],
            Some(slash) => &path[..slash],
        };
        match pod.look(parent, true, Wanted::NOTHING) {
            Ok(parent) if parent.kind() == libc::S_IFDIR => libc::EROFS,
            _ => libc::ENOENT,
        }
    }

    /// In the order in which the kernel complains.
    pub(super) fn check(&self, pod: &Pod, path: &[u8], found: &Found) -> Result<(), Errno> {
        self.check_way(path, found)?;
        let kind = found.kind();
        let directory = kind == libc::S_IFDIR;
        if self.path_only() {
            let refused = self.has(libc::O_DIRECTORY) && !directory;
            return if refused { Err(libc::ENOTDIR) } else { Ok(()) };
        }
        let writes = self.writes();
        if self.has(libc::O_TMPFILE) {
            return Err(match (writes, directory) {
                (false, _) => libc::EINVAL,
                (true, false) => libc::ENOTDIR,
                (true, true) => libc::EROFS,
            });
        }
        if self.has(libc::O_CREAT) {
            if self.has(libc::O_EXCL) {
                return Err(libc::EEXIST);
            }
            if directory {
                return Err(libc::EISDIR);
            }
        }
        if self.has(libc::O_DIRECTORY) && !directory {
            return Err(libc::ENOTDIR);
        }
        self.check_kind(kind)?;
        let read = if self.flags & libc::O_ACCMODE == libc::O_WRONLY { 0 } else { libc::R_OK };
        pod.access(&found.stat, read | if writes { libc::W_OK } else { 0 }, Rights::Read)
    }

    /// Whether it can only succeed where something may be changed.
    pub(super) fn changes(&self) -> bool {
        self.writes() || self.has(libc::O_CREAT)
    }

    fn writes(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY || self.has(libc::O_TRUNC)
    }

    /// Whether a thing of this kind can be opened, by who may write.
    pub(super) fn check_kind(&self, kind: u32) -> Result<(), Errno> {
        match kind {
            libc::S_IFLNK => Err(libc::ELOOP),
            libc::S_IFDIR if self.writes() || self.has(libc::O_CREAT) => Err(libc::EISDIR),
            libc::S_IFDIR | libc::S_IFREG => Ok(()),
            // As on a file system mounted `nodev`.
            libc::S_IFBLK | libc::S_IFCHR => Err(libc::EACCES),
            // The other end of a socket or pipe is in the pod; opening one here would wait forever.
            _ => Err(libc::ENXIO),
        }
    }

    /// The `resolve` flags. The path is absolute here, what it was relative to is not known; so a walk that may have
    /// left its start is refused.
    pub(super) fn check_way(&self, path: &[u8], found: &Found) -> Result<(), Errno> {
        let links = |steps: &[Step]| steps.iter().any(|step| !step.link.is_empty());
        let last_counts =
            if self.follows() { found.steps.len() } else { found.steps.len().saturating_sub(1) };
        let followed = links(&found.steps[..last_counts]);
        if self.resolve & libc::RESOLVE_NO_SYMLINKS != 0 && followed {
            return Err(libc::ELOOP);
        }
        if self.resolve & libc::RESOLVE_CACHED != 0 {
            return Err(libc::EAGAIN);
        }
        if self.resolve & libc::RESOLVE_NO_XDEV != 0 {
            let mut devices = found.steps.iter().filter_map(|step| Some(step.stat.as_ref()?.dev));
            let first = devices.next();
            if devices.any(|dev| Some(dev) != first) {
                return Err(libc::EXDEV);
            }
        }
        let confined = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT;
        let climbs = path.split(|&byte| byte == b'/').any(|name| name == b"..");
        if self.resolve & confined != 0 && (followed || climbs) {
            return Err(libc::EXDEV);
        }
        Ok(())
    }
}
