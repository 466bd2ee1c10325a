//! The pod's files as real kernel objects: what the trap handlers call when a path is the pod's.
//!
//! A [`FileServer`] turns paths inside the target into descriptors and `struct stat`s. Its main way is a FUSE mount in
//! a user and mount namespace of its own ([`userns`]), served by [`fuse`]; where user namespaces are barred, a FUSE
//! mount made by `fusermount3` ([`fusermount`]); where that is missing too, sealed memfds and shadow folders
//! ([`memfd`]).
//!
//! What may be changed is for the caller to say, path by path ([`Rights`]): all else gets EROFS. Changes go to the agent
//! at once and are answered when they are done there; memory copies cannot be written to.
//!
//! Every call blocks for at most as long as the [`PodFs`] does, and asks the agent once: [`lookup`] says what for.

mod attr;
mod change;
mod fuse;
mod fusermount;
mod helper;
mod live;
mod lookup;
mod memfd;
mod recent;
mod resolver;
mod source;
mod userns;

#[cfg(test)]
mod testpod;
#[cfg(test)]
mod tests;

use self::attr::Appearance;
use self::lookup::{Opening, Pod, Wanted, check_path};
use bytes::Bytes;
use protocol::agent::{
    HardLink, MAX_INLINE, MakeFolder, MakeLink, Open, Remove, Rename, Response, SetAttributes, request::Op,
};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

pub use self::change::Attributes;
pub use self::lookup::Creds;

/// What a path of the pod may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Reading: the file is shown as it was when it was opened.
    Read,
    /// All that the pod's own program may: the file is shown as it is.
    ReadWrite,
}

/// A Linux error number.
pub type Errno = i32;

/// The agent's side of the files, as this module needs it.
///
/// Implementations must answer, if only with an errno, within [`DEADLINE`]: a trapped thread of the debuggee waits.
pub trait PodFs: Send + Sync {
    /// Asks the agent and waits for the answer.
    ///
    /// # Errors
    /// When there was no answer at all; what the agent refused stands in [`Response::errno`].
    fn request(&self, op: Op) -> Result<Response, Errno>;
}

/// How long an answer may take.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// How files are served, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// FUSE in a user namespace of its own.
    FuseUserns,
    /// FUSE mounted by the system's `fusermount3`.
    FuseMount3,
    /// Whole files in memory, directories as shadow folders.
    Memfd,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FuseUserns => "FUSE",
            Self::FuseMount3 => "FUSE by fusermount3",
            Self::Memfd => "memory copies",
        })
    }
}

/// What was set up while the process still had one thread.
pub struct Prepared {
    userns: Result<userns::Mounted, String>,
    fusermount: Result<fusermount::Undertaker, String>,
}

/// Makes the namespaces and the mount, by a helper process that ends with this one; where that is refused, forks the
/// helper that will undo a mount of `fusermount3`.
///
/// To be called from a thread that lives as long as the session (the first helper dies with it), best before any other
/// thread is started. The helpers are children of this process, and are waited for when the server is dropped.
#[must_use]
pub fn prepare() -> Prepared {
    prepare_only(&[Backend::FuseUserns, Backend::FuseMount3, Backend::Memfd])
}

/// The same with a choice of ways, for tests and for users who know better.
#[must_use]
pub fn prepare_only(allowed: &[Backend]) -> Prepared {
    const NOT_ASKED: &str = "not asked for";
    let userns = match allowed.contains(&Backend::FuseUserns) {
        true => userns::mount(),
        false => Err(NOT_ASKED.into()),
    };
    let fusermount = match userns {
        Err(_) if allowed.contains(&Backend::FuseMount3) => {
            fusermount::Undertaker::hire().map_err(|error| format!("no helper process: {error}"))
        }
        _ => Err(NOT_ASKED.into()),
    };
    Prepared { userns, fusermount }
}

/// Serves the files of one target.
pub struct FileServer {
    pod: Arc<Pod>,
    serving: Serving,
    why_not: String,
}

enum Serving {
    Fuse(fuse::Server),
    Memfd(memfd::Store),
}

impl FileServer {
    /// Starts to serve by the best way there is. `folder` is the session's own (0700); what is put there goes again
    /// when the server is dropped.
    ///
    /// # Errors
    /// When not even memory copies can be served (the folder is not writable).
    pub fn start(
        prepared: Prepared,
        pod: Arc<dyn PodFs>,
        creds: Creds,
        folder: &Path,
    ) -> io::Result<FileServer> {
        let mut why_not = Vec::new();
        match prepared.userns {
            Ok(mounted) => {
                let look = Appearance::in_own_namespace(&creds, mounted.dev);
                let pod = Arc::new(Pod::new(pod, creds, look)?);
                let server = fuse::Server::over_userns(mounted, Arc::clone(&pod))?;
                return Ok(Self { pod, serving: Serving::Fuse(server), why_not: String::new() });
            }
            Err(reason) => why_not.push(format!("no FUSE in a user namespace: {reason}")),
        }
        match prepared.fusermount.and_then(|undertaker| fusermount::mount(undertaker, folder)) {
            Ok(mounted) => {
                let look = Appearance::in_this_namespace(&creds, mounted.dev);
                let pod = Arc::new(Pod::new(pod, creds, look)?);
                let server = fuse::Server::over_fusermount(mounted, Arc::clone(&pod))?;
                return Ok(Self { pod, serving: Serving::Fuse(server), why_not: why_not.join("; ") });
            }
            Err(reason) => why_not.push(format!("no FUSE by fusermount3: {reason}")),
        }
        let (shadow, dev) = memfd::shadow_folder(folder)?;
        let look = Appearance::in_this_namespace(&creds, dev);
        let pod = Arc::new(Pod::new(pod, creds, look)?);
        let store = memfd::Store::new(Arc::clone(&pod), shadow);
        Ok(Self { pod, serving: Serving::Memfd(store), why_not: why_not.join("; ") })
    }

    /// How files are served.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.serving {
            Serving::Fuse(server) => server.backend(),
            Serving::Memfd(_) => Backend::Memfd,
        }
    }

    /// Why not in a better way; empty for the best.
    #[must_use]
    pub fn why_not(&self) -> &str {
        &self.why_not
    }

    /// open(2) of an absolute path of the pod, with the `resolve` flags of openat2(2); `mode` is less the umask.
    ///
    /// The descriptor is close-on-exec here whatever `flags` say; who hands it on sets what the caller asked for.
    ///
    /// # Errors
    /// As open(2); EROFS for all that would write without the right to.
    pub fn open(
        &self,
        path: &[u8],
        flags: i32,
        mode: u32,
        resolve: u64,
        rights: Rights,
    ) -> Result<OwnedFd, Errno> {
        let opening = Opening { flags, resolve };
        let folder_only = opening.path_only() || opening.has(libc::O_DIRECTORY);
        let mut shown = rights;
        if rights == Rights::ReadWrite && !folder_only {
            match self.open_in_pod(path, &opening, mode) {
                // What only reads is served as everywhere.
                Err(libc::EROFS) if !opening.changes() => shown = Rights::Read,
                opened => return opened,
            }
        }
        if rights == Rights::ReadWrite && opening.has(libc::O_TMPFILE) {
            return Err(libc::EOPNOTSUPP);
        }
        let wanted = if flags & libc::O_PATH != 0 { Wanted::NOTHING } else { Wanted::CONTENT };
        let mut found = self
            .pod
            .look(path, opening.follows(), wanted)
            .map_err(|errno| opening.failure(&self.pod, path, errno))?;
        if let Err(errno) = opening.check(&self.pod, path, &found) {
            self.pod.let_go(&mut found);
            return Err(errno);
        }
        match &self.serving {
            Serving::Fuse(server) => server.open(found, flags, shown),
            Serving::Memfd(store) => store.open(found, flags),
        }
    }

    /// What stands for a path as an O_PATH descriptor does, which cannot itself be handed to another process: one for
    /// reading, behind which nothing is opened in the pod before it is read.
    ///
    /// # Errors
    /// As open(2); EOPNOTSUPP for what is neither file nor folder.
    pub fn handle(&self, path: &[u8], flags: i32, resolve: u64, rights: Rights) -> Result<OwnedFd, Errno> {
        let opening = Opening { flags, resolve };
        let found = self.pod.look(path, opening.follows(), Wanted::NOTHING)?;
        opening.check(&self.pod, path, &found)?;
        let flags = flags & (libc::O_DIRECTORY | libc::O_NOFOLLOW) | libc::O_RDONLY;
        match (&self.serving, found.kind()) {
            (_, kind) if kind != libc::S_IFREG && kind != libc::S_IFDIR => Err(libc::EOPNOTSUPP),
            (Serving::Fuse(server), libc::S_IFREG) if rights == Rights::ReadWrite => {
                server.open_live(found, flags, self.pod.changes())
            }
            (Serving::Fuse(server), _) => server.open(found, flags, rights),
            (Serving::Memfd(store), _) => store.open(found, flags),
        }
    }

    /// Has the pod itself open, by which it judges and makes.
    fn open_in_pod(&self, path: &[u8], opening: &Opening, mode: u32) -> Result<OwnedFd, Errno> {
        check_path(path)?;
        let Serving::Fuse(server) = &self.serving else {
            let why = format!("files served as {} cannot be written to: {}", self.backend(), self.why_not);
            return Err(if opening.changes() { self.pod.refuse(why) } else { libc::EROFS });
        };
        if opening.resolve != 0 {
            // Before anything is made or emptied.
            match self.pod.look(path, opening.follows(), Wanted::NOTHING) {
                Ok(found) => opening.check_way(path, &found)?,
                Err(libc::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        let access = live::Access::of(opening.flags);
        let changes = self.pod.changes();
        let mut found = self.pod.open(Open {
            path: Bytes::copy_from_slice(path),
            follow: opening.follows(),
            read: access.read,
            write: access.write,
            create: opening.has(libc::O_CREAT),
            exclusive: opening.has(libc::O_EXCL),
            truncate: opening.has(libc::O_TRUNC),
            mode,
            inline: MAX_INLINE,
            list: true,
        })?;
        match opening.check_kind(found.kind()) {
            Ok(()) if found.kind() == libc::S_IFDIR => server.open(found, opening.flags, Rights::ReadWrite),
            Ok(()) if found.handle == 0 => Err(libc::EIO),
            Ok(()) => server.open_live(found, opening.flags, changes),
            Err(errno) => {
                self.pod.let_go(&mut found);
                Err(errno)
            }
        }
    }

    /// Why nothing could be written although it may be, once.
    #[must_use]
    pub fn take_refusal(&self) -> Option<String> {
        lookup::lock(&self.pod.refusal).take()
    }

    /// mkdir(2); `mode` is less the umask.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make_folder(&self, path: &[u8], mode: u32) -> Result<(), Errno> {
        let path = asked(path)?;
        self.change(Op::MakeFolder(MakeFolder { path, mode }))
    }

    /// mknod(2) of a regular file; `mode` is less the umask.
    ///
    /// # Errors
    /// As mknod(2).
    pub fn make_file(&self, path: &[u8], mode: u32) -> Result<(), Errno> {
        let path = asked(path)?;
        let ask = Open { path, write: true, create: true, exclusive: true, mode, ..Open::default() };
        self.pod.open(ask).map(|mut found| self.pod.let_go(&mut found))
    }

    /// symlink(2).
    ///
    /// # Errors
    /// As symlink(2).
    pub fn make_link(&self, path: &[u8], text: &[u8]) -> Result<(), Errno> {
        let path = asked(path)?;
        self.change(Op::MakeLink(MakeLink { path, text: Bytes::copy_from_slice(text) }))
    }

    /// linkat(2).
    ///
    /// # Errors
    /// As linkat(2).
    pub fn hard_link(&self, from: &[u8], follow: bool, to: &[u8]) -> Result<(), Errno> {
        let (from, to) = (asked(from)?, asked(to)?);
        self.change(Op::HardLink(HardLink { from, follow, to }))
    }

    /// unlink(2), or rmdir(2) of a `folder`.
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, path: &[u8], folder: bool) -> Result<(), Errno> {
        let path = asked(path)?;
        self.change(Op::Remove(Remove { path, folder }))
    }

    /// renameat2(2).
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn rename(&self, from: &[u8], to: &[u8], flags: u32) -> Result<(), Errno> {
        let (from, to) = (asked(from)?, asked(to)?);
        self.change(Op::Rename(Rename { from, to, flags }))
    }

    /// chmod(2), chown(2), utimensat(2), truncate(2).
    ///
    /// # Errors
    /// As there.
    pub fn set_attributes(&self, path: &[u8], follow: bool, attributes: &Attributes) -> Result<(), Errno> {
        let path = asked(path)?;
        self.change(Op::SetAttributes(SetAttributes { path, follow, ..self.pod.asked(attributes) }))
    }

    fn change(&self, op: Op) -> Result<(), Errno> {
        let steps = self.pod.changed(op)?;
        if let Serving::Fuse(server) = &self.serving {
            server.changed(&steps);
        }
        Ok(())
    }

    /// stat(2), or lstat(2) without `follow`.
    ///
    /// # Errors
    /// As stat(2).
    pub fn stat(&self, path: &[u8], follow: bool, rights: Rights) -> Result<libc::stat, Errno> {
        let found = self.pod.look_recently(path, follow)?;
        match &self.serving {
            Serving::Fuse(server) => Ok(server.stat(&found, rights)),
            Serving::Memfd(store) => store.stat(&found),
        }
    }

    /// statx(2) with the basic fields, whatever `mask` asks beyond them.
    ///
    /// # Errors
    /// As statx(2).
    pub fn statx(&self, path: &[u8], follow: bool, mask: u32, rights: Rights) -> Result<libc::statx, Errno> {
        if mask & 0x8000_0000 != 0 {
            return Err(libc::EINVAL);
        }
        self.stat(path, follow, rights).map(|stat| attr::statx_of(&stat))
    }

    /// access(2), by the mode bits and what the pod's process is.
    ///
    /// # Errors
    /// As access(2); EROFS for `W_OK` without the right to write.
    pub fn access(&self, path: &[u8], mode: i32, follow: bool, rights: Rights) -> Result<(), Errno> {
        if mode & !(libc::R_OK | libc::W_OK | libc::X_OK) != 0 {
            return Err(libc::EINVAL);
        }
        let found = self.pod.look_recently(path, follow)?;
        self.pod.access(&found.stat, mode, rights)
    }

    /// readlink(2), uncut.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn readlink(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.pod.look_recently(path, false)?;
        if found.stat.mode & libc::S_IFMT != libc::S_IFLNK {
            return Err(libc::EINVAL);
        }
        Ok(found.link.to_vec())
    }

    /// statfs(2): the pod's figures.
    ///
    /// # Errors
    /// As statfs(2).
    pub fn statfs(&self, path: &[u8]) -> Result<libc::statfs, Errno> {
        self.pod.statfs(path)
    }

    /// getxattr(2), or lgetxattr(2) without `follow`: no attribute is shown. Asks the pod only about a path that nobody
    /// has looked at just before, as `ls -l` does.
    ///
    /// # Errors
    /// ENODATA, or why the path leads nowhere.
    pub fn getxattr(&self, path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
        self.pod.is_there(path, follow).and(Err(libc::ENODATA))
    }

    /// listxattr(2), or llistxattr(2) without `follow`: an empty list.
    ///
    /// # Errors
    /// As listxattr(2).
    pub fn listxattr(&self, path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
        self.pod.is_there(path, follow).map(|()| Vec::new())
    }

    /// Whether a descriptor with this `st_dev` is one of ours. Always false for memory copies: see
    /// [`FileServer::pod_path`].
    #[must_use]
    pub fn owns(&self, dev: u64) -> bool {
        match &self.serving {
            Serving::Fuse(server) => server.dev() == dev,
            Serving::Memfd(_) => false,
        }
    }

    /// The folder of this machine in which descriptors of ours lie; `None` where they lie nowhere on it.
    #[must_use]
    pub fn view(&self) -> Option<&Path> {
        match &self.serving {
            Serving::Fuse(server) => server.mountpoint(),
            Serving::Memfd(store) => Some(store.folder()),
        }
    }

    /// The pod's path of one in [`FileServer::view`].
    #[must_use]
    pub fn pod_path_in_view(&self, path: &[u8]) -> Option<Vec<u8>> {
        match &self.serving {
            Serving::Fuse(server) => server.mountpoint().and_then(|_| server.pod_path(server.dev(), path)),
            Serving::Memfd(store) => store.pod_path(path),
        }
    }

    /// The pod's path of a descriptor of ours, from its `st_dev` and its `/proc/PID/fd/N` text: what a path relative
    /// to it starts from.
    #[must_use]
    pub fn pod_path(&self, dev: u64, link: &[u8]) -> Option<Vec<u8>> {
        match &self.serving {
            Serving::Fuse(server) => server.pod_path(dev, link),
            Serving::Memfd(store) => store.pod_path(link),
        }
    }
}

/// A path as the agent is asked for it; what slashes at its end mean is the pod's to say.
fn asked(path: &[u8]) -> Result<Bytes, Errno> {
    check_path(path)?;
    Ok(Bytes::copy_from_slice(path))
}
