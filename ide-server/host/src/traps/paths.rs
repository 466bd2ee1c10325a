//! Trapped calls that name a path: where it lives, and the pod's answer to those that live there.

use super::memory;
use super::notify::Answer;
use super::{Call, Verdict};
use crate::files::{Backend, FileServer};
use crate::places::Places;
use crate::sys::{self, Errno};
use protocol::host::Place;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Files of the session, as the traps need them.
pub struct Paths {
    places: Places,
    files: Arc<FileServer>,
    /// Files of our own making that stand for a path: `/etc/nsswitch.conf`.
    made: HashMap<Vec<u8>, OwnedFd>,
}

/// What a call does with its path.
enum Use {
    Open {
        flags: i32,
        mode: u32,
        resolve: u64,
    },
    Stat {
        to: u64,
        follow: bool,
    },
    Statx {
        to: u64,
        mask: u32,
        follow: bool,
    },
    Access {
        mode: i32,
        follow: bool,
    },
    Readlink {
        to: u64,
        room: usize,
    },
    Statfs {
        to: u64,
    },
    GetAttribute {
        follow: bool,
    },
    ListAttributes {
        follow: bool,
    },
    /// Makes, removes, renames or changes something.
    Change,
}

/// A path of a caller's, found.
struct Located {
    /// Absolute, as the caller spelled it: links and a trailing slash count when it is walked.
    absolute: Vec<u8>,
    /// Without `.`, `..` and double slashes: what rules are about.
    normal: Vec<u8>,
    place: Place,
}

/// A path argument of a call.
struct Named {
    dirfd: i32,
    address: u64,
    what: Use,
    /// A second path that counts too (rename, link), as (dirfd, address).
    other: Option<(i32, u64)>,
}

impl Paths {
    /// Paths of a session: `places` says where, `files` is the pod's side.
    pub fn new(places: Places, files: Arc<FileServer>) -> Self {
        Self { places, files, made: HashMap::new() }
    }

    /// Has `content` stand for `path`.
    ///
    /// # Errors
    /// When the file in memory cannot be made.
    pub fn make(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        self.made.insert(path.as_bytes().to_vec(), sys::sealed_file(c"mirrord-ide", content)?);
        Ok(())
    }

    /// Where paths live.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Decides a call, reading no more than its path.
    pub fn decide(self: &Arc<Self>, call: Call) -> Verdict {
        if !self.places.enabled() {
            return Verdict::CONTINUE;
        }
        let named = match named(&call) {
            Ok(Some(named)) => named,
            Ok(None) => return Verdict::CONTINUE,
            Err(error) => return Verdict::Now(Answer::from_result(Err(error))),
        };
        match self.settle(&call, named) {
            Ok(verdict) => verdict,
            // The kernel gives the caller the same EFAULT or ENAMETOOLONG, in its own order of checks.
            Err(_) => Verdict::CONTINUE,
        }
    }

    fn settle(self: &Arc<Self>, call: &Call, named: Named) -> Result<Verdict, Errno> {
        let raw = memory::path(call.tid(), named.address)?;
        if raw.is_empty() {
            return Ok(Verdict::CONTINUE);
        }
        let Located { absolute, normal, place } = self.locate(call, named.dirfd, &raw)?;
        if let Some((dirfd, address)) = named.other {
            let other = memory::path(call.tid(), address)?;
            let other_place = self.locate(call, dirfd, &other)?.place;
            let is_pod = |place| matches!(place, Place::Remote | Place::RemoteRead);
            if is_pod(other_place) != is_pod(place) {
                return Ok(Verdict::fail(libc::EXDEV));
            }
        }
        if let Some(made) = self.made.get(&normal) {
            return Ok(self.answer_made(call, made, &named.what));
        }
        let changes = match named.what {
            Use::Open { flags, .. } => writes(flags),
            Use::Change => true,
            _ => false,
        };
        match place {
            Place::Local => Ok(self.local(call, &raw, normal, named.what)),
            Place::RemoteReadLocalWrite if changes => Ok(Verdict::CONTINUE),
            Place::Hidden => Ok(Verdict::fail(libc::ENOENT)),
            _ if matches!(named.what, Use::Change) => Ok(Verdict::fail(libc::EROFS)),
            _ => {
                let (call, paths) = (call.clone(), Arc::clone(self));
                Ok(Verdict::later(move || Answer::from_result(paths.remote(&call, &absolute, &named.what))))
            }
        }
    }

    /// The path a caller means, and where it lives.
    fn locate(&self, call: &Call, dirfd: i32, raw: &[u8]) -> Result<Located, Errno> {
        let absolute = if raw.first() == Some(&b'/') {
            raw.to_vec()
        } else {
            let mut joined = self.folder(call, dirfd)?;
            joined.push(b'/');
            joined.extend_from_slice(raw);
            joined
        };
        let mut buffer = vec![0; absolute.len() + 1];
        let normal = policy::normalize(&absolute, &mut buffer).ok_or(libc::ENOENT)?.to_vec();
        // As readlink(2) of a descriptor may have told it.
        if let Some(path) = self.files.pod_path_in_view(&normal) {
            let place = self.places.of(&path);
            return Ok(Located { absolute: path.clone(), normal: path, place });
        }
        let place = self.places.of(&normal);
        Ok(Located { absolute, normal, place })
    }

    /// What a relative path starts from.
    fn folder(&self, call: &Call, dirfd: i32) -> Result<Vec<u8>, Errno> {
        let tid = call.tid();
        let link = if dirfd == libc::AT_FDCWD {
            format!("/proc/{tid}/cwd")
        } else {
            format!("/proc/{tid}/fd/{dirfd}")
        };
        let text = std::fs::read_link(&link).map_err(|e| e.raw_os_error().unwrap_or(libc::EBADF))?;
        let text = std::os::unix::ffi::OsStringExt::into_vec(text.into_os_string());
        // Only the mount of our own namespace shows the pod's path as it is, and only while it is there.
        let plain = self.files.backend() == Backend::FuseUserns && !text.ends_with(b" (deleted)");
        if plain || dirfd == libc::AT_FDCWD {
            return Ok(text);
        }
        // By /proc and not by a copy of the descriptor, which containers refuse.
        let dev = std::fs::metadata(link).map_err(|e| e.raw_os_error().unwrap_or(libc::EBADF))?.dev();
        Ok(self.files.pod_path(dev, &text).unwrap_or(text))
    }

    /// A local path is the kernel's to walk, unless only its normal form exists here: `/pod/../etc/hostname`.
    fn local(self: &Arc<Self>, call: &Call, raw: &[u8], path: Vec<u8>, what: Use) -> Verdict {
        let dots = raw.split(|byte| *byte == b'/').any(|name| name == b"..");
        if !dots || !raw.starts_with(b"/") || !self.passes_through_pod(raw) {
            return Verdict::CONTINUE;
        }
        let (call, paths) = (call.clone(), Arc::clone(self));
        Verdict::later(move || {
            // Above a volume there may be a folder that only the pod has: `ls -la` looks at `..` there.
            Answer::from_result(match on_this_machine(&call, &path, &what) {
                Err(libc::ENOENT) => paths.remote(&call, &path, &what),
                result => result,
            })
        })
    }

    fn passes_through_pod(&self, raw: &[u8]) -> bool {
        let mut buffer = vec![0; raw.len() + 1];
        raw.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0).any(|(at, _)| {
            policy::normalize(&raw[..at], &mut buffer)
                .is_some_and(|prefix| self.places.of(prefix) != Place::Local)
        })
    }

    fn answer_made(&self, call: &Call, made: &OwnedFd, what: &Use) -> Verdict {
        Verdict::Now(Answer::from_result(match what {
            Use::Open { flags, .. } if writes(*flags) => Err(libc::EROFS),
            Use::Open { flags, .. } => sys::reopen(made, libc::O_RDONLY)
                .map(|fd| Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 }),
            Use::Stat { to, .. } => stat_of(made).and_then(|stat| put(call, *to, &stat)),
            Use::Statx { to, mask, .. } => statx_of(made, *mask).and_then(|stat| put(call, *to, &stat)),
            Use::Access { mode, .. } if mode & (libc::W_OK | libc::X_OK) != 0 => Err(libc::EACCES),
            Use::Access { .. } => Ok(Answer::Value(0)),
            Use::Readlink { .. } => Err(libc::EINVAL),
            Use::GetAttribute { .. } => Err(libc::ENODATA),
            Use::ListAttributes { .. } => Ok(Answer::Value(0)),
            Use::Change => Err(libc::EROFS),
            Use::Statfs { .. } => Ok(Answer::Continue),
        }))
    }

    fn remote(&self, call: &Call, path: &[u8], what: &Use) -> Result<Answer, Errno> {
        match *what {
            Use::Open { flags, mode, resolve } => {
                let fd = self.files.open(path, flags, mode, resolve)?;
                Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
            }
            Use::Stat { to, follow } => put(call, to, &self.files.stat(path, follow)?),
            Use::Statx { to, mask, follow } => put(call, to, &self.files.statx(path, follow, mask)?),
            Use::Access { mode, follow } => self.files.access(path, mode, follow).map(|()| Answer::Value(0)),
            Use::Readlink { to, room } => {
                if room == 0 {
                    return Err(libc::EINVAL);
                }
                let link = self.files.readlink(path)?;
                let link = &link[..link.len().min(room)];
                sys::write_memory(call.tid(), to, link)?;
                Ok(Answer::Value(link.len() as i64))
            }
            Use::Statfs { to } => put(call, to, &self.files.statfs(path)?),
            // The pod's extended attributes are not carried over: none is a true answer for what is shown here.
            Use::GetAttribute { follow } => self.files.getxattr(path, follow).map(|_| Answer::Value(0)),
            Use::ListAttributes { follow } => self.files.listxattr(path, follow).map(|_| Answer::Value(0)),
            Use::Change => Err(libc::EROFS),
        }
    }
}

/// Does for the caller, on the normal form of its path, what the kernel could not walk to.
fn on_this_machine(call: &Call, path: &[u8], what: &Use) -> Result<Answer, Errno> {
    let at = |flags: i32| sys::open_local(path, libc::O_PATH | flags, 0);
    let link = |follow: bool| if follow { 0 } else { libc::O_NOFOLLOW };
    match *what {
        Use::Open { flags, mode, .. } => {
            let fd = sys::open_local(path, flags, mode)?;
            Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
        }
        Use::Stat { to, follow } => put(call, to, &stat_of(&at(link(follow))?)?),
        Use::Statx { to, mask, follow } => put(call, to, &statx_of(&at(link(follow))?, mask)?),
        Use::Access { mode, .. } => sys::access_local(path, mode).map(|()| Answer::Value(0)),
        // As for the pod's own paths: none are shown.
        Use::GetAttribute { follow } => at(link(follow)).and(Err(libc::ENODATA)),
        Use::ListAttributes { follow } => at(link(follow)).map(|_| Answer::Value(0)),
        _ => Ok(Answer::Continue),
    }
}

fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
        || flags & (libc::O_CREAT | libc::O_TRUNC) != 0
        || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

fn put<T: Copy>(call: &Call, to: u64, value: &T) -> Result<Answer, Errno> {
    sys::write_memory(call.tid(), to, memory::structure(value))?;
    Ok(Answer::Value(0))
}

fn stat_of(fd: &OwnedFd) -> Result<libc::stat, Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: zero is a value of this plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } != 0 {
        return Err(sys::errno());
    }
    Ok(stat)
}

fn statx_of(fd: &OwnedFd, mask: u32) -> Result<libc::statx, Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: zero is a value of this plain structure.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours, the path is empty.
    let result = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &mut stat) };
    if result != 0 {
        return Err(sys::errno());
    }
    Ok(stat)
}

/// Reads which path a call names and what for, from its arguments. `None` is no call of ours.
fn named(call: &Call) -> Result<Option<Named>, Errno> {
    let a = call.args;
    let int = |index: usize| a[index] as i32;
    let at = |dirfd: usize, what: Use| Named { dirfd: int(dirfd), address: a[dirfd + 1], what, other: None };
    let cwd = |what: Use| Named { dirfd: libc::AT_FDCWD, address: a[0], what, other: None };
    let follow = |flags: i32| flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let large = if cfg!(target_pointer_width = "64") { 0 } else { libc::O_LARGEFILE };
    let open = |flags: i32, mode: u64| Use::Open { flags: flags | large, mode: mode as u32, resolve: 0 };
    let named = match call.nr {
        libc::SYS_openat => at(0, open(int(2), a[3])),
        libc::SYS_openat2 => {
            if a[3] < 24 {
                return Ok(None);
            }
            let how = memory::bytes(call.tid(), a[2], 24)?;
            let word = |index: usize| {
                let mut bytes = [0u8; 8];
                bytes.copy_from_slice(&how[index * 8..index * 8 + 8]);
                u64::from_ne_bytes(bytes)
            };
            at(0, Use::Open { flags: word(0) as i32, mode: word(1) as u32, resolve: word(2) })
        }
        libc::SYS_newfstatat => at(0, Use::Stat { to: a[2], follow: follow(int(3)) }),
        libc::SYS_statx => at(0, Use::Statx { to: a[4], mask: a[3] as u32, follow: follow(int(2)) }),
        libc::SYS_faccessat => at(0, Use::Access { mode: int(2), follow: true }),
        libc::SYS_faccessat2 => at(0, Use::Access { mode: int(2), follow: follow(int(3)) }),
        libc::SYS_readlinkat => at(0, Use::Readlink { to: a[2], room: a[3] as usize }),
        libc::SYS_statfs => cwd(Use::Statfs { to: a[1] }),
        libc::SYS_getxattr => cwd(Use::GetAttribute { follow: true }),
        libc::SYS_lgetxattr => cwd(Use::GetAttribute { follow: false }),
        libc::SYS_listxattr => cwd(Use::ListAttributes { follow: true }),
        libc::SYS_llistxattr => cwd(Use::ListAttributes { follow: false }),
        libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr
        | libc::SYS_truncate => cwd(Use::Change),
        libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_unlinkat
        | libc::SYS_fchmodat
        | libc::SYS_fchmodat2
        | libc::SYS_fchownat
        | libc::SYS_utimensat => at(0, Use::Change),
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
            Named { other: Some((int(2), a[3])), ..at(0, Use::Change) }
        }
        // symlink(2)'s first argument is only text.
        libc::SYS_symlinkat => at(1, Use::Change),
        #[cfg(target_arch = "x86_64")]
        nr => match nr {
            libc::SYS_open => cwd(open(int(1), a[2])),
            libc::SYS_creat => cwd(open(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, a[1])),
            libc::SYS_stat => cwd(Use::Stat { to: a[1], follow: true }),
            libc::SYS_lstat => cwd(Use::Stat { to: a[1], follow: false }),
            libc::SYS_access => cwd(Use::Access { mode: int(1), follow: true }),
            libc::SYS_readlink => cwd(Use::Readlink { to: a[1], room: a[2] as usize }),
            libc::SYS_mkdir
            | libc::SYS_mknod
            | libc::SYS_rmdir
            | libc::SYS_unlink
            | libc::SYS_chmod
            | libc::SYS_chown
            | libc::SYS_lchown
            | libc::SYS_utime
            | libc::SYS_utimes => cwd(Use::Change),
            libc::SYS_futimesat => at(0, Use::Change),
            libc::SYS_rename | libc::SYS_link => {
                Named { other: Some((libc::AT_FDCWD, a[1])), ..cwd(Use::Change) }
            }
            libc::SYS_symlink => Named { address: a[1], ..cwd(Use::Change) },
            _ => return Ok(None),
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => return Ok(None),
    };
    Ok(Some(named))
}
