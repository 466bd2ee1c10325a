//! Serves the mount: answers the kernel's questions about the pod's tree.
//!
//! A server of our own rather than a library's: there the inode number that programs see is also the kernel's handle
//! on the node, and here they differ: the number is the pod's, and two versions of a file are two nodes.
//!
//! OPEN is answered for the sake of files that tell no size (they are read past the page cache), and because it says
//! how long content is held. What may be written to is in [`writing`]; all else is refused with EROFS. Threads that answer here never wait for a thread that opens: no lock is held across a
//! system call on the mount. What a slow pod leaves unanswered is answered with EIO by the watchdog.

mod abi;
mod below;
mod directory;
mod tree;
mod watchdog;
mod writing;

use self::abi::{Out, Request};
use self::below::{KEPT, open_below};
use self::directory::Directory;
use self::tree::{Stale, Tree};
use self::watchdog::Watchdog;
use super::helper::Helper;
use super::live::LiveFile;
use super::lookup::{Found, Pod, Wanted, lock};
use super::source::{Source, Version};
use super::{Backend, Errno, Rights, fusermount, userns};
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Questions to the pod that can be under way at once; the watchdog adds threads when all hang.
const THREADS: usize = 6;
/// As large as the kernel insists on: a write, and what comes before it. Memory is taken as it is used.
const BUFFER: usize = protocol::agent::MAX_WRITE as usize + (4 << 10);
const STACK: usize = 256 << 10;

/// A served mount.
pub(super) struct Server {
    shared: Arc<Shared>,
    root: OwnedFd,
    dev: u64,
    /// Where the mount is seen in this namespace; `None` when it covers a root of its own.
    mountpoint: Option<PathBuf>,
    _mount: Mount,
}

/// Keeps the mount; undone when dropped.
#[expect(dead_code, reason = "held for its drop")]
enum Mount {
    Userns(Helper),
    Fusermount(fusermount::Unmount),
}

/// What the serving threads share with the opening ones.
struct Shared {
    device: File,
    pod: Arc<Pod>,
    tree: Mutex<Tree>,
    handles: Mutex<HashMap<u64, Handle>>,
    last_handle: AtomicU64,
    watchdog: Watchdog,
}

/// What an open descriptor reads from.
#[derive(Clone)]
enum Handle {
    File(Arc<Source>),
    Live(Arc<LiveFile>),
    Directory(Arc<Mutex<Directory>>),
}

impl Server {
    pub(super) fn over_userns(mounted: userns::Mounted, pod: Arc<Pod>) -> io::Result<Self> {
        let userns::Mounted { device, root, dev, helper } = mounted;
        Self::serve(device, root, dev, None, Mount::Userns(helper), pod)
    }

    pub(super) fn over_fusermount(mounted: fusermount::Mounted, pod: Arc<Pod>) -> io::Result<Self> {
        let fusermount::Mounted { device, root, dev, unmount } = mounted;
        let mountpoint = Some(unmount.mountpoint().to_owned());
        Self::serve(device, root, dev, mountpoint, Mount::Fusermount(unmount), pod)
    }

    fn serve(
        device: OwnedFd,
        root: OwnedFd,
        dev: u64,
        mountpoint: Option<PathBuf>,
        mount: Mount,
        pod: Arc<Pod>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            device: File::from(device),
            pod,
            tree: Mutex::new(Tree::new()),
            handles: Mutex::default(),
            last_handle: AtomicU64::new(0),
            watchdog: Watchdog::default(),
        });
        for _ in 0..THREADS {
            spawn(&shared)?;
        }
        watchdog::start(&shared)?;
        Ok(Self { shared, root, dev, mountpoint, _mount: mount })
    }

    pub(super) fn backend(&self) -> Backend {
        match self.mountpoint {
            None => Backend::FuseUserns,
            Some(_) => Backend::FuseMount3,
        }
    }

    pub(super) fn dev(&self) -> u64 {
        self.dev
    }

    pub(super) fn stat(&self, found: &Found, rights: Rights) -> libc::stat {
        let mut stale = Vec::new();
        lock(&self.shared.tree).refresh(found, &mut stale);
        self.shared.take_back(&stale);
        self.shared.pod.look.stat(&found.stat, rights)
    }

    /// Opens what was found: the kernel's questions are answered from `found`, without another to the pod.
    pub(super) fn open(&self, mut found: Found, flags: i32, rights: Rights) -> Result<OwnedFd, Errno> {
        let mut stale = Vec::new();
        let source = (found.kind() == libc::S_IFREG && flags & libc::O_PATH == 0)
            .then(|| Arc::new(Source::new(&self.shared.pod, &mut found)));
        let listed = found.listed.take();
        let chain = {
            let mut tree = lock(&self.shared.tree);
            let chain = tree.seed(&found, rights, &mut stale);
            if let Some(node) = chain.last().and_then(|&id| tree.get_mut(id)) {
                match source {
                    // One kept file for all that have this version open.
                    Some(source) if node.source.is_none() || source.is_sizeless() => {
                        node.source = Some(source);
                    }
                    _ => {}
                }
                node.listed = listed;
            }
            chain
        };
        self.shared.take_back(&stale);
        let opened = open_below(&self.root, &found.path, flags & KEPT);
        lock(&self.shared.tree).unpin(&chain);
        opened
    }

    /// Where the mount is on this machine.
    pub(super) fn mountpoint(&self) -> Option<&Path> {
        self.mountpoint.as_deref()
    }

    /// The pod's path behind a `/proc/PID/fd/N` text.
    pub(super) fn pod_path(&self, dev: u64, link: &[u8]) -> Option<Vec<u8>> {
        if dev != self.dev {
            return None;
        }
        let path = match &self.mountpoint {
            None => link,
            Some(mountpoint) => link.strip_prefix(mountpoint.as_os_str().as_encoded_bytes())?,
        };
        // Of something replaced since; what is there now has the path.
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        match path {
            [] => Some(b"/".to_vec()),
            [b'/', ..] => Some(path.to_vec()),
            _ => None,
        }
    }
}

fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("files-fuse".into()).stack_size(STACK).spawn(move || shared.run())?;
    Ok(())
}

type Answer = Result<Out, Errno>;

impl Shared {
    /// A serving thread's life: until the mount is gone.
    fn run(&self) {
        let mut buffer = vec![0; BUFFER];
        while !self.watchdog.is_crowded() {
            let length = match (&self.device).read(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    // Interrupted, or the request was taken back before it was read.
                    Some(libc::EINTR | libc::EAGAIN | libc::ENOENT) => continue,
                    Some(libc::ENODEV) => return,
                    _ => {
                        tracing::warn!(%error, "the files' mount can no longer be served");
                        return;
                    }
                },
            };
            let Some(request) = buffer.get(..length).and_then(Request::parse) else { continue };
            let (unique, last) = (request.unique, request.opcode == abi::DESTROY);
            let answer = match self.watchdog.begins(unique, request.node) {
                true => self.answer(&request),
                false => self.answer_at_once(&request),
            };
            let failed = matches!(answer, Some(Err(_)));
            // Whoever takes the request off the list answers it.
            if self.watchdog.ends(unique, failed)
                && let Some(answer) = answer
            {
                self.reply(unique, answer);
            }
            if last {
                return;
            }
        }
    }

    fn reply(&self, unique: u64, answer: Answer) {
        let (errno, body) = match answer {
            Ok(out) => (0, out.0),
            Err(errno) => (errno, Vec::new()),
        };
        self.write(-errno, unique, &body);
    }

    fn write(&self, code: i32, unique: u64, body: &[u8]) {
        const HEADER: usize = 16;
        let mut header = Out::default();
        header.u32((HEADER + body.len()) as u32).u32(code as u32).u64(unique);
        match (&self.device).write_vectored(&[IoSlice::new(&header.0), IoSlice::new(body)]) {
            Ok(_) => {}
            // The asker was killed, or the kernel has forgotten what it was to forget.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => tracing::debug!(%error, code, "an answer was not taken"),
        }
    }

    /// Tells the kernel what it may no longer answer by itself. Not with the tree locked: it may wait for a lookup.
    fn take_back(&self, stale: &[Stale]) {
        for stale in stale {
            let mut out = Out::default();
            match stale {
                Stale::Entry { parent, name } => {
                    out.u64(*parent).u32(name.len() as u32).u32(0).0.extend_from_slice(name);
                    out.0.push(0);
                    self.write(abi::NOTIFY_INVAL_ENTRY, 0, &out.0);
                }
                Stale::Attributes { node } => {
                    // A negative offset means: attributes alone, no content.
                    out.u64(*node).u64(-1i64 as u64).u64(0);
                    self.write(abi::NOTIFY_INVAL_INODE, 0, &out.0);
                }
            }
        }
    }

    /// The answer; `None` where the kernel expects none.
    fn answer(&self, request: &Request<'_>) -> Option<Answer> {
        let (node, body) = (request.node, request.body);
        Some(match request.opcode {
            abi::INIT => init(body),
            abi::LOOKUP => self.look_up(node, body.name()),
            abi::GETATTR => self.attributes(node),
            abi::READLINK => self.with_node(node, |node| Ok(Out(node.link.to_vec()))),
            abi::SETATTR => self.set_attributes(node, body),
            abi::OPEN => self.open(node, body),
            abi::OPENDIR => self.open_directory(node),
            abi::READ => self.read(node, body),
            abi::WRITE => self.write_file(body),
            abi::FLUSH | abi::FSYNC => self.sync(request.opcode, body),
            abi::FSYNCDIR => self.sync_folder(node, body),
            abi::READDIR => self.read_directory(body),
            abi::RELEASE | abi::RELEASEDIR => {
                if let Some(handle) = body.u64(0) {
                    lock(&self.handles).remove(&handle);
                    lock(&self.tree).closed(node, handle);
                }
                Ok(Out::default())
            }
            abi::STATFS => self.figures(node),
            abi::GETXATTR => Err(libc::ENODATA),
            // With no room asked for, the length of the list; else the list. Both are nothing.
            abi::LISTXATTR => match body.u32(0) {
                Some(0) => Ok(Out(vec![0; 8])),
                _ => Ok(Out::default()),
            },
            abi::FORGET => {
                lock(&self.tree).forget(node, body.u64(0).unwrap_or(0));
                return None;
            }
            abi::BATCH_FORGET => {
                let mut tree = lock(&self.tree);
                for at in (0..body.u32(0).unwrap_or(0) as usize).map(|index| 8 + 16 * index) {
                    if let (Some(node), Some(count)) = (body.u64(at), body.u64(at + 8)) {
                        tree.forget(node, count);
                    }
                }
                return None;
            }
            abi::INTERRUPT => return None,
            abi::DESTROY => Ok(Out::default()),
            // A trapped call makes and removes names; what comes here has gone by /proc.
            abi::SYMLINK
            | abi::MKNOD
            | abi::MKDIR
            | abi::UNLINK
            | abi::RMDIR
            | abi::RENAME
            | abi::RENAME2
            | abi::LINK
            | abi::CREATE
            | abi::TMPFILE => Err(libc::EROFS),
            abi::SETXATTR | abi::REMOVEXATTR | abi::FALLOCATE => self.refuse(node),
            // Among them ACCESS: the kernel asks once, and never again.
            _ => Err(libc::ENOSYS),
        })
    }

    /// The same for a node whose last question came too late: what needs the pod fails.
    fn answer_at_once(&self, request: &Request<'_>) -> Option<Answer> {
        match request.opcode {
            abi::LOOKUP
            | abi::SETATTR
            | abi::OPEN
            | abi::OPENDIR
            | abi::READ
            | abi::READDIR
            | abi::WRITE
            | abi::FLUSH
            | abi::FSYNC
            | abi::FSYNCDIR
            | abi::STATFS => Some(Err(libc::EIO)),
            abi::GETATTR if lock(&self.tree).get(request.node).is_some_and(tree::Node::is_live) => {
                Some(Err(libc::EIO))
            }
            _ => self.answer(request),
        }
    }

    fn with_node(&self, id: u64, answer: impl FnOnce(&tree::Node) -> Answer) -> Answer {
        lock(&self.tree).get(id).map_or(Err(libc::ESTALE), answer)
    }

    fn look_up(&self, parent: u64, name: &[u8]) -> Answer {
        let seen = |tree: &Tree, id: u64| match tree.get(id) {
            Some(node) => {
                let mut out = Out::default();
                out.entry(id, &self.pod.look, &node.stat, node.rights);
                Ok(out)
            }
            None => Err(libc::ENOENT),
        };
        let mut path = {
            let mut tree = lock(&self.tree);
            if let Some(id) = tree.look_up(parent, name) {
                return seen(&tree, id);
            }
            tree.get(parent).ok_or(libc::ESTALE)?.path.to_vec()
        };
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let found = self.pod.look(&path, false, Wanted::NOTHING)?;
        let mut stale = Vec::new();
        let answer = {
            let mut tree = lock(&self.tree);
            let id = tree.look_up_found(parent, name, &found, &mut stale);
            seen(&tree, id)
        };
        // The parent is locked by this very lookup: only attributes can be taken back from here.
        stale.retain(|stale| matches!(stale, Stale::Attributes { .. }));
        self.take_back(&stale);
        answer
    }

    fn attributes(&self, id: u64) -> Answer {
        if id == abi::ROOT && !lock(&self.tree).root_seen {
            let found = self.pod.look(b"/", true, Wanted::NOTHING)?;
            lock(&self.tree).see_root(&found.stat, &mut Vec::new());
        }
        self.look_at_live(id)?;
        self.with_node(id, |node| Ok(self.shown(node)))
    }

    fn shown(&self, node: &tree::Node) -> Out {
        let mut out = Out::default();
        out.attr_out(&self.pod.look, &node.stat, node.rights);
        out
    }

    fn open(&self, id: u64, body: abi::Body<'_>) -> Answer {
        let flags = body.u32(0).unwrap_or(0) as i32;
        let (seeded, path, version) = {
            let tree = lock(&self.tree);
            let node = tree.get(id).ok_or(libc::ESTALE)?;
            (node.source.clone(), node.path.clone(), node.version())
        };
        if version.is_live() {
            return self.open_live(id, &path, version, flags);
        }
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Err(libc::EROFS);
        }
        let source = match seeded {
            Some(source) => source,
            // Not by a trapped call: by /proc/self/fd, or relative to a folder.
            None => {
                let mut found = self.pod.look(&path, false, Wanted::CONTENT)?;
                if Version::of(&found.stat) != version {
                    self.pod.let_go(&mut found);
                    return Err(libc::ESTALE);
                }
                Arc::new(Source::new(&self.pod, &mut found))
            }
        };
        let flags = if source.is_sizeless() { abi::FOPEN_DIRECT_IO } else { abi::FOPEN_KEEP_CACHE };
        Ok(self.opened(id, Handle::File(source), flags | abi::FOPEN_NOFLUSH))
    }

    fn open_directory(&self, id: u64) -> Answer {
        let (listed, path, stat) = {
            let mut tree = lock(&self.tree);
            let node = tree.get_mut(id).ok_or(libc::ESTALE)?;
            (node.listed.take(), node.path.clone(), node.stat.clone())
        };
        let directory = Directory::new(path, stat, listed, self.pod.changes());
        Ok(self.opened(id, Handle::Directory(Arc::new(Mutex::new(directory))), 0))
    }

    fn opened(&self, id: u64, handle: Handle, flags: u32) -> Out {
        let number = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut tree = lock(&self.tree);
            tree.opened(id);
            if let (Handle::Live(file), Some(node)) = (&handle, tree.get_mut(id)) {
                node.hold(number, Arc::clone(file));
            }
        }
        lock(&self.handles).insert(number, handle);
        let mut out = Out::default();
        out.opened(number, flags);
        out
    }

    fn handle(&self, number: Option<u64>) -> Result<Handle, Errno> {
        number.and_then(|number| lock(&self.handles).get(&number).cloned()).ok_or(libc::EBADF)
    }

    fn read(&self, id: u64, body: abi::Body<'_>) -> Answer {
        let (Some(offset), Some(length)) = (body.u64(8), body.u32(16)) else { return Err(libc::EINVAL) };
        match self.handle(body.u64(0))? {
            Handle::File(source) => source.read(offset, length as usize).map(|bytes| Out(bytes.into())),
            Handle::Live(file) => {
                let seen = lock(&self.tree).get(id).map(|node| Version::of(&node.stat));
                file.read(offset, length as usize, seen).map(|bytes| Out(bytes.into()))
            }
            Handle::Directory(_) => Err(libc::EISDIR),
        }
    }

    fn read_directory(&self, body: abi::Body<'_>) -> Answer {
        let (Some(offset), Some(length)) = (body.u64(8), body.u32(16)) else { return Err(libc::EINVAL) };
        match self.handle(body.u64(0))? {
            Handle::Directory(directory) => lock(&directory).read(&self.pod, offset, length as usize),
            Handle::File(_) | Handle::Live(_) => Err(libc::ENOTDIR),
        }
    }

    fn figures(&self, id: u64) -> Answer {
        let path: Bytes = lock(&self.tree).get(id).ok_or(libc::ESTALE)?.path.clone();
        let figures = self.pod.statfs(&path)?;
        let mut out = Out::default();
        out.u64(figures.f_blocks).u64(figures.f_bfree).u64(figures.f_bavail);
        out.u64(figures.f_files).u64(figures.f_ffree);
        out.u32(figures.f_bsize as u32).u32(figures.f_namelen as u32).u32(figures.f_bsize as u32);
        out.zeroes(28);
        Ok(out)
    }
}

fn init(body: abi::Body<'_>) -> Answer {
    let (Some(major), Some(flags)) = (body.u32(0), body.u32(12)) else { return Err(libc::EPROTO) };
    if major < 7 {
        return Err(libc::EPROTO);
    }
    let mut out = Out::default();
    out.init(flags & abi::INIT_FLAGS);
    Ok(out)
}
