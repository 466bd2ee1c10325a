//! Entries of directories that were just listed.
//!
//! `ls -l` and `find` list a directory and then ask for each entry by path. The listing brought their stats along, so
//! each entry answers the first question about it, for a moment; the second goes to the pod, as a file may change.

use super::lookup::{Found, lock};
use bytes::Bytes;
use protocol::agent::{Entry, Stat};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Long enough for a tool that goes through thousands of entries, short enough for nobody to wait for.
const VALID: Duration = Duration::from_secs(2);
/// Beyond this the oldest knowledge is not worth its memory.
const MOST: usize = 20_000;
const MOST_THERE: usize = 256;

struct Seen {
    at: Instant,
    stat: Stat,
    link: Bytes,
}

#[derive(Default)]
pub(super) struct Recent {
    entries: Mutex<HashMap<Vec<u8>, Seen>>,
    /// Paths that led somewhere, for who only asks whether they do.
    there: Mutex<HashMap<Vec<u8>, Instant>>,
}

impl Recent {
    /// Notes the entries of the directory with this path.
    pub(super) fn listed(&self, directory: &[u8], entries: &[Entry]) {
        let mut seen = lock(&self.entries);
        let at = Instant::now();
        if seen.len() + entries.len() > MOST {
            seen.retain(|_, seen| at.duration_since(seen.at) < VALID);
        }
        for entry in entries.iter().take(MOST.saturating_sub(seen.len())) {
            let Some(stat) = entry.stat.clone() else { continue };
            let mut path = directory.strip_suffix(b"/").unwrap_or(directory).to_vec();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            seen.insert(path, Seen { at, stat, link: entry.link.clone() });
        }
    }

    /// What a listing said of this path, once.
    pub(super) fn take(&self, path: &[u8], follow: bool) -> Option<Found> {
        let mut all = lock(&self.entries);
        if all.is_empty() {
            return None;
        }
        let seen = all.remove(path)?;
        let link = seen.stat.mode & libc::S_IFMT == libc::S_IFLNK;
        if seen.at.elapsed() >= VALID || link && follow {
            return None;
        }
        Some(Found {
            path: Bytes::copy_from_slice(path),
            stat: seen.stat,
            link: seen.link,
            steps: Vec::new(),
            content: Bytes::new(),
            whole: false,
            handle: 0,
            listed: None,
        })
    }

    /// Something was changed: nothing is known any more.
    pub(super) fn clear(&self) {
        lock(&self.entries).clear();
        lock(&self.there).clear();
    }

    /// Notes that a path led somewhere.
    pub(super) fn found(&self, path: &[u8]) {
        let mut there = lock(&self.there);
        if there.len() >= MOST_THERE {
            there.retain(|_, at| at.elapsed() < VALID);
        }
        if there.len() < MOST_THERE {
            there.insert(path.to_vec(), Instant::now());
        }
    }

    /// Whether a path led somewhere a moment ago.
    pub(super) fn was_there(&self, path: &[u8]) -> bool {
        lock(&self.there).get(path).is_some_and(|at| at.elapsed() < VALID)
    }
}
