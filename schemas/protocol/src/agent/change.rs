//! What changes the target's files: opening for writing, writing, names and attributes.
//!
//! The agent does each with the user, groups and capabilities of the target's program, so permissions and owners are the
//! pod's own. It knows nothing of who asks: the umask of the caller is taken off every mode beforehand. What a request
//! changed comes back as [`Changed`]. None of these is sent twice by itself: one whose answer was lost may be done.

use super::Step;
use bytes::Bytes;

/// The most that one [`Write`] carries, in bytes.
pub const MAX_WRITE: u32 = 256 << 10;

/// Opens a path as the target's program would; answered by [`super::Walked`].
///
/// A regular file is kept, even where its content was sent whole. A folder is looked up as by [`super::Walk`]; what is
/// neither is not opened.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Open {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Follow a symbolic link in the last place.
    #[prost(bool, tag = "2")]
    pub follow: bool,
    /// For reading.
    #[prost(bool, tag = "3")]
    pub read: bool,
    /// For writing.
    #[prost(bool, tag = "4")]
    pub write: bool,
    /// Make the file if it is not there.
    #[prost(bool, tag = "5")]
    pub create: bool,
    /// With `create`: EEXIST if it is there.
    #[prost(bool, tag = "6")]
    pub exclusive: bool,
    /// Empty it.
    #[prost(bool, tag = "7")]
    pub truncate: bool,
    /// Permissions of a file that is made.
    #[prost(uint32, tag = "8")]
    pub mode: u32,
    /// Send up to this many bytes of its content; at most [`super::MAX_INLINE`].
    #[prost(uint32, tag = "9")]
    pub inline: u32,
    /// Send the first batch of entries when it is a folder.
    #[prost(bool, tag = "10")]
    pub list: bool,
}

/// Writes to a kept file that was opened for it; answered by [`Written`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// The file's number.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// From this byte on.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// At the end of the file instead, whoever else writes there.
    #[prost(bool, tag = "3")]
    pub append: bool,
    /// At most [`MAX_WRITE`].
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
}

/// How much of a [`Write`] was taken: less than all when the disk became full on the way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Written {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub count: u64,
}

/// Sees to it that what was written is where it should be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sync {
    /// A kept file, or 0 for `path`.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// A folder.
    #[prost(bytes = "bytes", tag = "2")]
    pub path: Bytes,
    /// How far.
    #[prost(enumeration = "Extent", tag = "3")]
    pub extent: i32,
}

/// How far a [`Sync`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Extent {
    /// As close(2) does: what the file system was still to refuse, it refuses now.
    Close = 0,
    /// As fdatasync(2).
    Data = 1,
    /// As fsync(2).
    All = 2,
}

/// Changes attributes, in one go as far as the kernel can; answered by [`Changed`]. With none set it is fstat(2).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttributes {
    /// A kept file, or 0 for `path`.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "2")]
    pub path: Bytes,
    /// Follow a symbolic link in the last place.
    #[prost(bool, tag = "3")]
    pub follow: bool,
    /// Permissions.
    #[prost(uint32, optional, tag = "4")]
    pub mode: Option<u32>,
    /// Owner, as the target's user namespace numbers users.
    #[prost(uint32, optional, tag = "5")]
    pub uid: Option<u32>,
    /// Group.
    #[prost(uint32, optional, tag = "6")]
    pub gid: Option<u32>,
    /// Length in bytes.
    #[prost(uint64, optional, tag = "7")]
    pub size: Option<u64>,
    /// Last access.
    #[prost(message, optional, tag = "8")]
    pub atime: Option<Time>,
    /// Last change of content.
    #[prost(message, optional, tag = "9")]
    pub mtime: Option<Time>,
}

/// A time to be set.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Time {
    /// The target's own present, whatever the other fields say.
    #[prost(bool, tag = "1")]
    pub now: bool,
    /// Seconds since 1970.
    #[prost(int64, tag = "2")]
    pub seconds: i64,
    /// Below a second.
    #[prost(uint32, tag = "3")]
    pub nanoseconds: u32,
}

/// mkdir(2); answered by [`Changed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeFolder {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Permissions.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
}

/// symlink(2); answered by [`Changed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeLink {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What the link says.
    #[prost(bytes = "bytes", tag = "2")]
    pub text: Bytes,
}

/// linkat(2); answered by [`Changed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct HardLink {
    /// The file that gets another name.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// Follow a symbolic link in the last place of `from`.
    #[prost(bool, tag = "2")]
    pub follow: bool,
    /// The name.
    #[prost(bytes = "bytes", tag = "3")]
    pub to: Bytes,
}

/// unlink(2) or rmdir(2); answered by [`Changed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remove {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Whether it is to be a folder.
    #[prost(bool, tag = "2")]
    pub folder: bool,
}

/// renameat2(2); answered by [`Changed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rename {
    /// From where.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// To where.
    #[prost(bytes = "bytes", tag = "2")]
    pub to: Bytes,
    /// RENAME_… of Linux, which numbers them alike everywhere.
    #[prost(uint32, tag = "3")]
    pub flags: u32,
}

/// How things stand after a change: first the folders that a name was made in or taken from, then what the names lead
/// to now. After a change by a kept file's number: one step without a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Changed {
    /// Each with its path as in [`super::Walked`].
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<Step>,
}
