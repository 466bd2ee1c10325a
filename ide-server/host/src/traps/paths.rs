//! Trapped calls that name a path: where it lives, and the pod's answer to those that live there.

mod change;
mod here;

use self::change::{Change, TimesForm, umask};
use super::memory;
use super::notify::Answer;
use super::{Call, Verdict};
use crate::control::Journal;
use crate::files::{Backend, FileServer, Rights};
use crate::places::Places;
use crate::sys::{self, Errno};
use protocol::host::Place;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The `resolve` flags of openat2(2).
const KNOWN_RESOLVE: u64 = libc::RESOLVE_NO_XDEV
    | libc::RESOLVE_NO_MAGICLINKS
    | libc::RESOLVE_NO_SYMLINKS
    | libc::RESOLVE_BENEATH
    | libc::RESOLVE_IN_ROOT
    | libc::RESOLVE_CACHED;

/// Files of the session, as the traps need them.
pub struct Paths {
    places: Places,
    files: Arc<FileServer>,
    journal: Arc<Journal>,
    /// Files of our own making that stand for a path: `/etc/nsswitch.conf`.
    made: HashMap<Vec<u8>, OwnedFd>,
    /// It was told that files cannot be written.
    told: AtomicBool,
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
    Change(Change),
}

/// A path of a caller's, found.
struct Located {
    /// Absolute, as the caller spelled it: links and a trailing slash count when it is walked.
    absolute: Vec<u8>,
    /// Without `.`, `..` and double slashes: what rules are about.
    normal: Vec<u8>,
    place: Place,
    /// Another path than the caller's, by the config's mapping.
    mapped: bool,
    /// Relative to a folder of the pod's.
    from_pod: bool,
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
    pub fn new(places: Places, files: Arc<FileServer>, journal: Arc<Journal>) -> Self {
        Self { places, files, journal, made: HashMap::new(), told: AtomicBool::new(false) }
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
        if call.nr == libc::SYS_getcwd {
            return Verdict::Now(self.working_folder(&call).unwrap_or(Answer::Continue));
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
        let Located { absolute, normal, place, mut mapped, from_pod } =
            self.locate(call, named.dirfd, &raw)?;
        if let Use::Open { resolve, .. } = named.what
            && resolve & (libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT) != 0
            && climbs(&raw)
            && self.folder(call, named.dirfd).is_ok_and(|folder| self.places.of(&folder) == Place::Local)
        {
            return Ok(Verdict::CONTINUE); // what may not leave a folder of this machine
        }
        let mut other = None;
        if let Some((dirfd, address)) = named.other {
            let raw = memory::path(call.tid(), address)?;
            let located = self.locate(call, dirfd, &raw)?;
            // Each is a file system of its own: this machine's, the pod's, and what of the pod's is only read.
            let side = |place| match place {
                Place::Remote => 2,
                Place::RemoteRead => 1,
                Place::Local | Place::RemoteReadLocalWrite | Place::Hidden => 0,
            };
            if side(located.place) != side(place) {
                return Ok(Verdict::fail(libc::EXDEV));
            }
            mapped |= located.mapped || from_pod || located.from_pod;
            other = Some(located.absolute).filter(|_| !raw.is_empty());
        }
        if let Some(made) = self.made.get(&normal) {
            return Ok(self.answer_made(call, made, &named.what));
        }
        let changes = match named.what {
            Use::Open { flags, .. } => writes(flags),
            Use::Change(_) => true,
            _ => false,
        };
        match place {
            Place::Local | Place::RemoteReadLocalWrite if mapped && (changes || place == Place::Local) => {
                let call = call.clone();
                Ok(Verdict::later(move || {
                    Answer::from_result(here::answer(&call, &absolute, other.as_deref(), &named.what))
                }))
            }
            Place::Local if from_pod || self.climbs_out_of_pod(&raw) => {
                let (call, paths) = (call.clone(), Arc::clone(self));
                Ok(Verdict::later(move || {
                    Answer::from_result(match here::answer(&call, &normal, None, &named.what) {
                        // Above a volume there may be a folder that only the pod has: `ls -la` looks at `..` there.
                        Err(libc::ENOENT) if !changes => {
                            paths.remote(&call, &normal, &named.what, Rights::Read)
                        }
                        result => result,
                    })
                }))
            }
            Place::Local => Ok(Verdict::CONTINUE),
            Place::RemoteReadLocalWrite if changes => Ok(Verdict::CONTINUE),
            Place::Hidden => Ok(Verdict::fail(libc::ENOENT)),
            Place::RemoteRead if matches!(named.what, Use::Change(_)) => Ok(Verdict::fail(libc::EROFS)),
            Place::Remote => {
                let (call, paths) = (call.clone(), Arc::clone(self));
                Ok(Verdict::later(move || {
                    let result = match named.what {
                        Use::Change(change) => paths.change(&call, &absolute, other.as_deref(), change),
                        ref what => paths.remote(&call, &absolute, what, Rights::ReadWrite),
                    };
                    if changes && matches!(result, Err(libc::EROFS) | Ok(Answer::Fail(libc::EROFS))) {
                        paths.tell_refusal();
                    }
                    Answer::from_result(result)
                }))
            }
            Place::RemoteRead | Place::RemoteReadLocalWrite => {
                let (call, paths) = (call.clone(), Arc::clone(self));
                let answer = move || paths.remote(&call, &absolute, &named.what, Rights::Read);
                Ok(Verdict::later(move || Answer::from_result(answer())))
            }
        }
    }

    /// Tells the user why the pod's files cannot be written although the config says so.
    fn tell_refusal(&self) {
        if let Some(why) = self.files.take_refusal()
            && !self.told.swap(true, Ordering::Relaxed)
        {
            self.journal.warn("files-read-only", format!("files of the pod cannot be written: {why}"));
        }
    }

    /// The path a caller means, and where it lives.
    fn locate(&self, call: &Call, dirfd: i32, raw: &[u8]) -> Result<Located, Errno> {
        let mut from_pod = false;
        let absolute = if raw.first() == Some(&b'/') {
            raw.to_vec()
        } else {
            let folder = self.folder(call, dirfd)?;
            from_pod = self.places.of(&folder) != Place::Local;
            if from_pod { [&folder, &b"/"[..], raw].concat() } else { join(folder, raw) }
        };
        let mut buffer = vec![0; absolute.len() + 1];
        let normal = policy::normalize(&absolute, &mut buffer).ok_or(libc::ENOENT)?.to_vec();
        // As readlink(2) of a descriptor may have told it.
        if let Some(path) = self.files.pod_path_in_view(&normal) {
            let place = self.places.of(&path);
            return Ok(Located { absolute: path.clone(), normal: path, place, mapped: false, from_pod });
        }
        if let Some(path) = self.places.mapped(&normal) {
            let place = self.places.of(&path);
            return Ok(Located { absolute: path.clone(), normal: path, place, mapped: true, from_pod });
        }
        let place = self.places.of(&normal);
        Ok(Located { absolute, normal, place, mapped: false, from_pod })
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
        if plain {
            return Ok(text);
        }
        // By /proc and not by a copy of the descriptor, which containers refuse.
        Ok(self.files.pod_path(sys::device_of(&link)?, &text).unwrap_or(text))
    }

    /// getcwd(2) in a folder of the pod's; `None` for the kernel to answer.
    fn working_folder(&self, call: &Call) -> Option<Answer> {
        let link = format!("/proc/{}/cwd", call.tid());
        let text = std::fs::read_link(&link).ok()?;
        let text = std::os::unix::ffi::OsStringExt::into_vec(text.into_os_string());
        if text.ends_with(b" (deleted)") {
            return None;
        }
        let mut path = self.files.pod_path(sys::device_of(&link).ok()?, &text)?;
        path.push(0);
        if path.len() > call.args[1] as usize {
            return Some(Answer::Fail(libc::ERANGE));
        }
        let written = sys::write_memory(call.tid(), call.args[0], &path);
        Some(Answer::from_result(written.map(|()| Answer::Value(path.len() as i64))))
    }

    /// Whether only the normal form of a path exists here: `/pod/../etc/hostname`.
    fn climbs_out_of_pod(&self, raw: &[u8]) -> bool {
        if !raw.starts_with(b"/") || !climbs(raw) {
            return false;
        }
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
            Use::Change(_) => Err(libc::EROFS),
            Use::Statfs { .. } => Ok(Answer::Continue),
        }))
    }

    fn remote(&self, call: &Call, path: &[u8], what: &Use, rights: Rights) -> Result<Answer, Errno> {
        match *what {
            Use::Open { flags, mode, resolve } => {
                let makes = flags & libc::O_CREAT != 0 && rights == Rights::ReadWrite;
                let mode = if makes { mode & 0o7777 & !umask(call)? } else { 0 };
                // The pod may refuse with EPERM, which is no reason to look on this machine.
                let opened = match flags & libc::O_PATH {
                    0 => self.files.open(path, flags, mode, resolve, rights),
                    _ => self.files.handle(path, flags, resolve, rights),
                };
                let fd = match opened {
                    Err(errno) => return Ok(Answer::Fail(errno)),
                    Ok(fd) => fd,
                };
                Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
            }
            Use::Stat { to, follow } => put(call, to, &self.files.stat(path, follow, rights)?),
            Use::Statx { to, mask, follow } => put(call, to, &self.files.statx(path, follow, mask, rights)?),
            Use::Access { mode, follow } => {
                self.files.access(path, mode, follow, rights).map(|()| Answer::Value(0))
            }
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
            Use::Change(_) => Err(libc::EROFS),
        }
    }
}

fn climbs(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|name| name == b"..")
}

/// A relative path from a folder of this machine.
///
/// The folder is known by its real path, so what climbs out of it first is settled by the text: a folder of this machine
/// need not exist in the pod for `../../srv/pod` to be walked there.
fn join(folder: Vec<u8>, relative: &[u8]) -> Vec<u8> {
    let (mut joined, mut rest) = (folder, relative);
    loop {
        let (name, after) = match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => (&rest[..slash], &rest[slash + 1..]),
            None => (rest, &[][..]),
        };
        match name {
            b".." => joined.truncate(joined.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            b"." | b"" if !after.is_empty() => {}
            _ => break,
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    joined.push(b'/');
    joined.extend_from_slice(rest);
    joined
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
    let owner = |uid: u64, gid: u64, follow| Change::Owner { uid: uid as u32, gid: gid as u32, follow };
    let times = |times, form| Use::Change(Change::Times { times, form, follow: true });
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
            // What the kernel does not know it refuses, whatever the path.
            if word(0) > u64::from(u32::MAX) || word(2) & !KNOWN_RESOLVE != 0 {
                return Ok(None);
            }
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
        libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_removexattr | libc::SYS_lremovexattr => {
            cwd(Use::Change(Change::ExtendedAttribute))
        }
        libc::SYS_truncate => cwd(Use::Change(Change::Truncate { size: a[1] })),
        libc::SYS_mkdirat => at(0, Use::Change(Change::MakeFolder { mode: a[2] as u32 })),
        libc::SYS_mknodat => at(0, Use::Change(Change::MakeNode { mode: a[2] as u32 })),
        libc::SYS_unlinkat => at(0, Use::Change(Change::Remove { folder: int(2) & libc::AT_REMOVEDIR != 0 })),
        libc::SYS_fchmodat => at(0, Use::Change(Change::Mode { mode: a[2] as u32, follow: true })),
        libc::SYS_fchmodat2 => at(0, Use::Change(Change::Mode { mode: a[2] as u32, follow: follow(int(3)) })),
        libc::SYS_fchownat => at(0, Use::Change(owner(a[2], a[3], follow(int(4))))),
        libc::SYS_utimensat => {
            let (times, form, follow) = (a[2], TimesForm::Timespec, follow(int(3)));
            at(0, Use::Change(Change::Times { times, form, follow }))
        }
        libc::SYS_renameat | libc::SYS_renameat2 => {
            let flags = if call.nr == libc::SYS_renameat2 { a[4] as u32 } else { 0 };
            Named { other: Some((int(2), a[3])), ..at(0, Use::Change(Change::Rename { flags })) }
        }
        libc::SYS_linkat => {
            let follow = int(4) & libc::AT_SYMLINK_FOLLOW != 0;
            Named { other: Some((int(2), a[3])), ..at(0, Use::Change(Change::HardLink { follow })) }
        }
        // symlink(2)'s first argument is only text.
        libc::SYS_symlinkat => at(1, Use::Change(Change::Symlink { text: a[0] })),
        #[cfg(target_arch = "x86_64")]
        nr => match nr {
            libc::SYS_open => cwd(open(int(1), a[2])),
            libc::SYS_creat => cwd(open(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, a[1])),
            libc::SYS_stat => cwd(Use::Stat { to: a[1], follow: true }),
            libc::SYS_lstat => cwd(Use::Stat { to: a[1], follow: false }),
            libc::SYS_access => cwd(Use::Access { mode: int(1), follow: true }),
            libc::SYS_readlink => cwd(Use::Readlink { to: a[1], room: a[2] as usize }),
            libc::SYS_mkdir => cwd(Use::Change(Change::MakeFolder { mode: a[1] as u32 })),
            libc::SYS_mknod => cwd(Use::Change(Change::MakeNode { mode: a[1] as u32 })),
            libc::SYS_rmdir => cwd(Use::Change(Change::Remove { folder: true })),
            libc::SYS_unlink => cwd(Use::Change(Change::Remove { folder: false })),
            libc::SYS_chmod => cwd(Use::Change(Change::Mode { mode: a[1] as u32, follow: true })),
            libc::SYS_chown => cwd(Use::Change(owner(a[1], a[2], true))),
            libc::SYS_lchown => cwd(Use::Change(owner(a[1], a[2], false))),
            libc::SYS_utime => cwd(times(a[1], TimesForm::Utimbuf)),
            libc::SYS_utimes => cwd(times(a[1], TimesForm::Timeval)),
            libc::SYS_futimesat => at(0, times(a[2], TimesForm::Timeval)),
            libc::SYS_rename => {
                Named { other: Some((libc::AT_FDCWD, a[1])), ..cwd(Use::Change(Change::Rename { flags: 0 })) }
            }
            libc::SYS_link => Named {
                other: Some((libc::AT_FDCWD, a[1])),
                ..cwd(Use::Change(Change::HardLink { follow: false }))
            },
            libc::SYS_symlink => Named { address: a[1], ..cwd(Use::Change(Change::Symlink { text: a[0] })) },
            _ => return Ok(None),
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => return Ok(None),
    };
    Ok(Some(named))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_climbs_out_of_a_folder_does_not_go_through_it() {
        let join = |folder: &str, path: &str| {
            String::from_utf8(super::join(folder.into(), path.as_bytes())).unwrap()
        };
        assert_eq!(join("/home/me/app", "../../../srv/pod/x"), "/srv/pod/x");
        assert_eq!(join("/home/me", "./../../../../srv/../etc"), "/srv/../etc");
        assert_eq!(join("/srv/pod", "link/../x"), "/srv/pod/link/../x");
        assert_eq!(join("/srv/pod", "x/"), "/srv/pod/x/");
        assert_eq!(join("/srv/pod", ".//x"), "/srv/pod/x");
        assert_eq!(join("/srv/pod", ".."), "/srv/");
        assert_eq!(join("/srv/pod", "."), "/srv/pod/.");
        assert_eq!(join("/srv", ".."), "/");
        assert_eq!(join("/", "etc"), "//etc");
    }
}
