//! What may be written to: files that are open in the pod, and attributes by descriptor.
//!
//! A write goes to the pod before it is answered: the kernel keeps pages for reading, never for writing later. Only what
//! a mapping changed comes when the kernel sees fit, at the latest when the file is closed or synchronised.

use super::abi::{self, Body, Out};
use super::below::{KEPT, open_below};
use super::{Answer, Handle, Server, Shared};
use crate::files::live::{Access, LiveFile};
use crate::files::lookup::{Found, Wanted, lock};
use crate::files::source::Version;
use crate::files::{Attributes, Errno, Rights};
use bytes::Bytes;
use protocol::agent::{Extent, Open, SetAttributes, Step, Sync, Time, request::Op};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What of an open's flags goes to the mount, where it may be for writing.
const KEPT_LIVE: i32 = KEPT | libc::O_ACCMODE | libc::O_SYNC | libc::O_DIRECT;

impl Server {
    /// Opens a regular file that the pod has opened, after so many `changes`.
    pub(in crate::files) fn open_live(
        &self,
        mut found: Found,
        flags: i32,
        changes: u64,
    ) -> Result<OwnedFd, Errno> {
        let file = Arc::new(LiveFile::new(&self.shared.pod, &mut found, Access::of(flags), changes));
        let mut stale = Vec::new();
        let (chain, node) = {
            let mut tree = lock(&self.shared.tree);
            let chain = tree.seed(&found, Rights::ReadWrite, &mut stale);
            let node = chain.last().copied();
            if let Some(node) = node.and_then(|id| tree.get_mut(id)) {
                node.expect_open(Arc::clone(&file));
            }
            (chain, node)
        };
        self.shared.take_back(&stale);
        let opened = open_below(&self.root, &found.path, flags & KEPT_LIVE);
        let mut tree = lock(&self.shared.tree);
        if opened.is_err()
            && let Some(node) = node.and_then(|id| tree.get_mut(id))
        {
            node.give_up(&file);
        }
        tree.unpin(&chain);
        opened
    }

    /// Takes in what a change left behind.
    pub(in crate::files) fn changed(&self, steps: &[Step]) {
        let mut stale = Vec::new();
        lock(&self.shared.tree).changed(steps, &mut stale);
        self.shared.take_back(&stale);
    }
}

impl Shared {
    /// OPEN of a file that may be written to.
    pub(super) fn open_live(&self, id: u64, path: &Bytes, version: Version, flags: i32) -> Answer {
        let access = Access::of(flags);
        let waiting = lock(&self.tree).get_mut(id).and_then(|node| node.take_waiting(access));
        let file = match waiting {
            Some(file) => file,
            // Not by a trapped call: by /proc/self/fd.
            None => {
                let Access { read, write } = access;
                let ask = Open { path: path.clone(), read, write, ..Open::default() };
                let changes = self.pod.changes();
                let mut found = self.pod.open(ask)?;
                if found.handle == 0 || !Version::of(&found.stat).is_same_file(version) {
                    self.pod.let_go(&mut found);
                    return Err(libc::ESTALE);
                }
                Arc::new(LiveFile::new(&self.pod, &mut found, access, changes))
            }
        };
        // Through its pages the kernel sends a write that crosses two of them in two pieces, and what somebody else
        // appends comes between them.
        let is_direct = file.is_sizeless() || flags & libc::O_APPEND != 0;
        let mut flags = if is_direct { abi::FOPEN_DIRECT_IO } else { abi::FOPEN_KEEP_CACHE };
        if !access.write {
            flags |= abi::FOPEN_NOFLUSH;
        }
        Ok(self.opened(id, Handle::Live(file), flags))
    }

    /// Has the pod say how a file that may be written to stands.
    pub(super) fn look_at_live(&self, id: u64) -> Result<(), Errno> {
        let (file, path, version) = {
            let tree = lock(&self.tree);
            let node = tree.get(id).ok_or(libc::ESTALE)?;
            if !node.is_live() {
                return Ok(());
            }
            (node.open_file(), node.path.clone(), node.version())
        };
        let stat = match file {
            Some(file) => file.set(&SetAttributes::default())?,
            None => {
                let found = self.pod.look(&path, false, Wanted::NOTHING)?;
                if !Version::of(&found.stat).is_same_file(version) {
                    return Err(libc::ESTALE);
                }
                found.stat
            }
        };
        lock(&self.tree).tell_stat(id, stat);
        Ok(())
    }

    pub(super) fn write_file(&self, body: Body<'_>) -> Answer {
        let (Some(offset), Some(size), Some(how), Some(flags)) =
            (body.u64(8), body.u32(16), body.u32(20), body.u32(32))
        else {
            return Err(libc::EINVAL);
        };
        let bytes = body.0.get(abi::WRITE_DATA..abi::WRITE_DATA + size as usize).ok_or(libc::EINVAL)?;
        let Handle::Live(file) = self.handle(body.u64(0))? else { return Err(libc::EROFS) };
        let append = flags as i32 & libc::O_APPEND != 0 && how & abi::WRITE_CACHE == 0;
        let count = file.write(offset, append, bytes)?;
        let mut out = Out::default();
        out.u32(count as u32).u32(0);
        Ok(out)
    }

    /// FLUSH, at each close(2), and FSYNC.
    pub(super) fn sync(&self, opcode: u32, body: Body<'_>) -> Answer {
        let extent = match opcode {
            abi::FLUSH => Extent::Close,
            _ if body.u32(8).unwrap_or(0) & abi::FSYNC_DATA != 0 => Extent::Data,
            _ => Extent::All,
        };
        match self.handle(body.u64(0))? {
            Handle::Live(file) => file.sync(extent)?,
            Handle::File(_) | Handle::Directory(_) => {}
        }
        Ok(Out::default())
    }

    pub(super) fn sync_folder(&self, id: u64, body: Body<'_>) -> Answer {
        let (path, rights) = {
            let tree = lock(&self.tree);
            let node = tree.get(id).ok_or(libc::ESTALE)?;
            (node.path.clone(), node.rights)
        };
        if rights == Rights::ReadWrite {
            let data = body.u32(8).unwrap_or(0) & abi::FSYNC_DATA != 0;
            let extent = if data { Extent::Data } else { Extent::All };
            self.pod.change(Op::Sync(Sync { handle: 0, path, extent: extent as i32 }))?;
        }
        Ok(Out::default())
    }

    /// SETATTR: fchmod(2), fchown(2), ftruncate(2), futimens(3).
    pub(super) fn set_attributes(&self, id: u64, body: Body<'_>) -> Answer {
        let wanted = attributes(body).ok_or(libc::EINVAL)?;
        let (path, rights, open) = {
            let tree = lock(&self.tree);
            let node = tree.get(id).ok_or(libc::ESTALE)?;
            (node.path.clone(), node.rights, node.open_file())
        };
        if rights == Rights::Read {
            return Err(libc::EROFS);
        }
        let named = body.u32(0).unwrap_or(0) & abi::SET_HANDLE != 0;
        let open = match named.then(|| self.handle(body.u64(8))).transpose()? {
            Some(Handle::Live(file)) => Some(file),
            _ => open,
        };
        let ask = self.pod.asked(&wanted);
        let stat = match open {
            Some(file) => file.set(&ask)?,
            None => {
                let steps = self.pod.changed(Op::SetAttributes(SetAttributes { path, ..ask }))?;
                steps.into_iter().next_back().and_then(|step| step.stat).ok_or(libc::EIO)?
            }
        };
        lock(&self.tree).tell_stat(id, stat);
        self.with_node(id, |node| Ok(self.shown(node)))
    }

    /// What is not carried over to the pod.
    pub(super) fn refuse(&self, id: u64) -> Answer {
        self.with_node(id, |node| match node.rights {
            Rights::Read => Err(libc::EROFS),
            Rights::ReadWrite => Err(libc::EOPNOTSUPP),
        })
    }
}

/// `struct fuse_setattr_in`.
fn attributes(body: Body<'_>) -> Option<Attributes> {
    let valid = body.u32(0)?;
    let has = |flag: u32| valid & flag != 0;
    let time = |set: u32, now: u32, seconds: usize, nanoseconds: usize| -> Option<Option<Time>> {
        Some(match (has(set), has(now)) {
            (false, _) => None,
            (true, true) => Some(Time { now: true, ..Time::default() }),
            (true, false) => Some(Time {
                now: false,
                seconds: body.u64(seconds)? as i64,
                nanoseconds: body.u32(nanoseconds)?,
            }),
        })
    };
    Some(Attributes {
        mode: has(abi::SET_MODE).then(|| body.u32(68)).flatten().map(|mode| mode & 0o7777),
        uid: has(abi::SET_UID).then(|| body.u32(76)).flatten(),
        gid: has(abi::SET_GID).then(|| body.u32(80)).flatten(),
        size: has(abi::SET_SIZE).then(|| body.u64(16)).flatten(),
        atime: time(abi::SET_ATIME, abi::SET_ATIME_NOW, 32, 56)?,
        mtime: time(abi::SET_MTIME, abi::SET_MTIME_NOW, 40, 60)?,
    })
}
