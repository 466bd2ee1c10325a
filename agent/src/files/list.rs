//! Folder listings in batches that fit a frame, each entry with its stat and, for a link, its text.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use bytes::Bytes;
use nix::errno::Errno;
use prost::Message;
use protocol::agent::{Entry, Listed};

use super::walk::{self, Found};
use crate::target::Ids;

const MAX_ENTRIES: usize = 1024;
/// Leaves room in a frame for the steps of a walk, and one entry more.
const MAX_BYTES: usize = 512 << 10;
const BUFFER: usize = 32 << 10;
/// `struct linux_dirent64`: inode, offset, length of the record, type, then the name.
const NAME_AT: usize = 19;

/// The entries after the position `from`, which an earlier batch gave (0: from the start).
pub(super) fn list(folder: &Found, ids: &Ids, from: u64) -> Result<Listed, Errno> {
    if folder.stat.mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let fd = walk::reopen(folder.fd.as_fd(), libc::O_DIRECTORY)?;
    if from != 0 {
        // SAFETY: lseek(2) takes integers only; the descriptor is open.
        Errno::result(unsafe { libc::lseek(fd.as_raw_fd(), from as libc::off_t, libc::SEEK_SET) })?;
    }
    let mut listed = Listed::default();
    let mut bytes = 0;
    let mut position = from;
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        // SAFETY: `buffer` has the length given and lives through the call.
        let filled = Errno::result(unsafe {
            libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        })?;
        if filled == 0 {
            return Ok(listed);
        }
        let mut rest = &buffer[..filled as usize];
        while let Some((record, after)) = split_record(rest) {
            rest = after;
            if listed.entries.len() >= MAX_ENTRIES || bytes >= MAX_BYTES {
                listed.next = position;
                return Ok(listed);
            }
            position = record.next;
            if record.name.to_bytes() == b"." || record.name.to_bytes() == b".." {
                continue;
            }
            let entry = entry(&fd, record.name, ids);
            bytes += entry.encoded_len() + 8;
            listed.entries.push(entry);
        }
    }
}

struct Record<'a> {
    next: u64,
    name: &'a CStr,
}

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let next = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let length = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?);
    let record = bytes.get(..length as usize)?;
    let name = CStr::from_bytes_until_nul(record.get(NAME_AT..)?).ok()?;
    Some((Record { next, name }, &bytes[length as usize..]))
}

fn entry(folder: &impl AsFd, name: &CStr, ids: &Ids) -> Entry {
    let folder = folder.as_fd();
    let stat = walk::stat_in(folder, name, ids).ok();
    let is_link = stat.as_ref().is_some_and(|stat| stat.mode & libc::S_IFMT == libc::S_IFLNK);
    // A link that went away meanwhile is shown as one without text.
    let link = if is_link { walk::read_link_at(folder, name).unwrap_or_default() } else { Vec::new() };
    Entry { name: Bytes::copy_from_slice(name.to_bytes()), stat, link: Bytes::from(link) }
}
