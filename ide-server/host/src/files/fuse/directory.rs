//! One open directory: its entries in the order and with the positions that this descriptor was shown.

use super::abi::Out;
use crate::files::Errno;
use crate::files::lookup::Pod;
use bytes::Bytes;
use protocol::agent::{Entry, Listed, Stat};

/// Position 0 is `.`, 1 is `..`, then the entries.
const DOTS: u64 = 2;

pub(super) struct Directory {
    path: Bytes,
    stat: Stat,
    entries: Vec<Entry>,
    /// Where the next batch starts; `None` when all entries are here.
    next: Option<u64>,
    /// Whether a reader has gone past the start, so that coming back means rewinddir(3).
    moved: bool,
    /// How often the session had changed something when this was listed.
    changes: u64,
}

impl Directory {
    pub(super) fn new(path: Bytes, stat: Stat, listed: Option<Listed>, changes: u64) -> Self {
        let mut directory = Self { path, stat, entries: Vec::new(), next: Some(0), moved: false, changes };
        if let Some(listed) = listed {
            directory.take(listed);
        }
        directory
    }

    fn take(&mut self, mut listed: Listed) {
        self.entries.append(&mut listed.entries);
        self.next = (listed.next != 0).then_some(listed.next);
    }

    /// Entries from a position on, as many as there is room for.
    pub(super) fn read(&mut self, pod: &Pod, from: u64, room: usize) -> Result<Out, Errno> {
        if from == 0 && (self.moved || self.changes != pod.changes()) {
            // Who rewinds wants to see what came since, and who made something that it is there.
            *self = Self::new(self.path.clone(), self.stat.clone(), None, pod.changes());
        }
        self.moved |= from > 0;
        let mut out = Out::default();
        let own = pod.look.ino(&self.stat);
        for (position, name) in [(0, &b"."[..]), (1, b"..")] {
            // The parent's number is anybody's guess; no program but the oldest looks at it.
            if from <= position && !out.dirent((own, position + 1, libc::S_IFDIR, name), room) {
                return Ok(out);
            }
        }
        let mut index = usize::try_from(from.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        loop {
            while index >= self.entries.len() {
                let Some(next) = self.next else { return Ok(out) };
                if !out.0.is_empty() {
                    // Enough for now: what is here need not wait for the pod.
                    return Ok(out);
                }
                let listed = pod.list(&self.path, &self.stat, next)?;
                if listed.entries.is_empty() && listed.next != 0 {
                    return Err(libc::EIO);
                }
                self.take(listed);
            }
            let Some(entry) = self.entries.get(index) else { return Ok(out) };
            index += 1;
            let Some(stat) = &entry.stat else { continue };
            let position = index as u64 + DOTS;
            if !out.dirent((pod.look.ino(stat), position, stat.mode, &entry.name), room) {
                return Ok(out);
            }
        }
    }
}
