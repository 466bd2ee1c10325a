//! The kernel's FUSE messages, as far as this server needs them (`linux/fuse.h`, protocol 7.31).

use crate::files::Rights;
use crate::files::attr::{Appearance, blksize, is_live};
use protocol::agent::{MAX_WRITE, Stat};

pub(super) const ROOT: u64 = 1;

pub(super) const LOOKUP: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const GETATTR: u32 = 3;
pub(super) const SETATTR: u32 = 4;
pub(super) const READLINK: u32 = 5;
pub(super) const SYMLINK: u32 = 6;
pub(super) const MKNOD: u32 = 8;
pub(super) const MKDIR: u32 = 9;
pub(super) const UNLINK: u32 = 10;
pub(super) const RMDIR: u32 = 11;
pub(super) const RENAME: u32 = 12;
pub(super) const LINK: u32 = 13;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const WRITE: u32 = 16;
pub(super) const STATFS: u32 = 17;
pub(super) const RELEASE: u32 = 18;
pub(super) const FSYNC: u32 = 20;
pub(super) const SETXATTR: u32 = 21;
pub(super) const GETXATTR: u32 = 22;
pub(super) const LISTXATTR: u32 = 23;
pub(super) const REMOVEXATTR: u32 = 24;
pub(super) const FLUSH: u32 = 25;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const RELEASEDIR: u32 = 29;
pub(super) const FSYNCDIR: u32 = 30;
pub(super) const CREATE: u32 = 35;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const DESTROY: u32 = 38;
pub(super) const BATCH_FORGET: u32 = 42;
pub(super) const FALLOCATE: u32 = 43;
pub(super) const RENAME2: u32 = 45;
pub(super) const TMPFILE: u32 = 51;

pub(super) const FOPEN_DIRECT_IO: u32 = 1;
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
pub(super) const FOPEN_NOFLUSH: u32 = 1 << 5;

/// Where the bytes of a WRITE begin.
pub(super) const WRITE_DATA: usize = 40;
/// The write comes out of a mapping, at a place of its own.
pub(super) const WRITE_CACHE: u32 = 1;
pub(super) const FSYNC_DATA: u32 = 1;

pub(super) const SET_MODE: u32 = 1;
pub(super) const SET_UID: u32 = 1 << 1;
pub(super) const SET_GID: u32 = 1 << 2;
pub(super) const SET_SIZE: u32 = 1 << 3;
pub(super) const SET_ATIME: u32 = 1 << 4;
pub(super) const SET_MTIME: u32 = 1 << 5;
pub(super) const SET_HANDLE: u32 = 1 << 6;
pub(super) const SET_ATIME_NOW: u32 = 1 << 7;
pub(super) const SET_MTIME_NOW: u32 = 1 << 8;

pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
pub(super) const NOTIFY_INVAL_ENTRY: i32 = 3;

/// The kernel's header before each request.
const IN_HEADER: usize = 40;

/// One request of the kernel's.
pub(super) struct Request<'a> {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) body: Body<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = Body(bytes.get(..IN_HEADER)?);
        Some(Self {
            opcode: header.u32(4)?,
            unique: header.u64(8)?,
            node: header.u64(16)?,
            body: Body(bytes.get(IN_HEADER..)?),
        })
    }
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn u32(self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    pub(super) fn u64(self, at: usize) -> Option<u64> {
        self.0.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// A name that ends with a NUL.
    pub(super) fn name(self) -> &'a [u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or(self.0)
    }
}

/// An answer in the making.
#[derive(Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn zeroes(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `struct fuse_attr`.
    pub(super) fn attr(&mut self, look: &Appearance, stat: &Stat, rights: Rights) -> &mut Self {
        let (uid, gid) = look.sent_owner(stat, rights);
        let (major, minor) = (libc::major(stat.rdev), libc::minor(stat.rdev));
        let rdev = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        self.u64(look.ino(stat)).u64(stat.size).u64(stat.blocks);
        self.u64(stat.atime as u64).u64(stat.mtime as u64).u64(stat.ctime as u64);
        self.u32(stat.atime_nsec).u32(stat.mtime_nsec).u32(stat.ctime_nsec);
        self.u32(stat.mode).u32(stat.nlink).u32(uid).u32(gid).u32(rdev);
        self.u32(blksize(stat)).u32(0)
    }

    /// `struct fuse_entry_out`: the kernel may keep it until told otherwise. Of a file that may be written to it asks
    /// again at each open, and so hears of the size that an append starts from.
    pub(super) fn entry(&mut self, node: u64, look: &Appearance, stat: &Stat, rights: Rights) -> &mut Self {
        let valid = if is_live(stat, rights) { 0 } else { FOREVER };
        self.u64(node).u64(0).u64(valid).u64(kept(stat, rights)).u32(0).u32(0).attr(look, stat, rights)
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attr_out(&mut self, look: &Appearance, stat: &Stat, rights: Rights) -> &mut Self {
        self.u64(kept(stat, rights)).u32(0).u32(0).attr(look, stat, rights)
    }

    /// `struct fuse_open_out`.
    pub(super) fn opened(&mut self, handle: u64, flags: u32) -> &mut Self {
        self.u64(handle).u32(flags).u32(0)
    }

    /// `struct fuse_init_out`.
    pub(super) fn init(&mut self, flags: u32) -> &mut Self {
        const MAX_BACKGROUND: u16 = 16;
        self.u32(7).u32(31).u32(MAX_READAHEAD).u32(flags);
        self.u16(MAX_BACKGROUND).u16(MAX_BACKGROUND * 3 / 4);
        // Times to the nanosecond.
        self.u32(MAX_WRITE).u32(1);
        self.u16(64).u16(0).u32(0).zeroes(28)
    }

    /// `struct fuse_dirent`, or nothing when `room` is too small for it.
    pub(super) fn dirent(&mut self, entry: (u64, u64, u32, &[u8]), room: usize) -> bool {
        let (ino, next, mode, name) = entry;
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() + length > room {
            return false;
        }
        let end = self.0.len() + length;
        self.u64(ino).u64(next).u32(name.len() as u32).u32((mode & libc::S_IFMT) >> 12);
        self.0.extend_from_slice(name);
        self.0.resize(end, 0);
        true
    }
}

/// Seconds for which an answer holds: told otherwise is what ends it.
const FOREVER: u64 = 1 << 40;
/// What the kernel reads ahead at most; one request to the agent.
const MAX_READAHEAD: u32 = 256 << 10;

/// Seconds for which attributes of a file that others write to may be old.
const LIVE: u64 = 1;

fn kept(stat: &Stat, rights: Rights) -> u64 {
    if is_live(stat, rights) { LIVE } else { FOREVER }
}

/// INIT flags that are asked for: several reads and lookups at once, large reads and writes; and that pages are dropped
/// when size or time of a file turn out to have changed.
pub(super) const INIT_FLAGS: u32 = 1 | 1 << 5 | 1 << 12 | 1 << 18 | 1 << 22;
