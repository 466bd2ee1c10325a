//! Sees to it that every question of the kernel's is answered in time, whatever the pod does.
//!
//! The asker waits in the kernel, deaf to all but SIGKILL. So what a serving thread has not answered by the deadline is
//! answered with EIO here, and another thread takes the hanging one's place.

use super::{Shared, spawn};
use crate::files::DEADLINE;
use crate::files::lookup::lock;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the list is looked through.
const ROUND: Duration = Duration::from_secs(1);
/// For how long a node's questions get EIO at once after one came too late: the kernel asks again by itself (a failed
/// read-ahead becomes a read), and the asker should not wait twice.
const SUSPENDED: Duration = Duration::from_secs(3);
/// An answer of the pod's own that took this long counts as too late: the adapter has its deadline too.
const LATE: Duration = Duration::from_secs(9);
/// Hanging threads are replaced up to this number; then the pod is past helping.
const MOST_REPLACED: usize = 64;

#[derive(Default)]
pub(super) struct Watchdog {
    /// Requests that are being answered: which node they are about, and since when.
    running: Mutex<HashMap<u64, (u64, Instant)>>,
    /// Nodes that a question came too late for, and when.
    suspended: Mutex<HashMap<u64, Instant>>,
    /// Threads that hang beyond the deadline and were replaced.
    hanging: AtomicUsize,
    /// Threads that should end because the hanging ones came back.
    spare: AtomicUsize,
}

impl Watchdog {
    /// Whether the request may be put to the pod at all.
    pub(super) fn begins(&self, unique: u64, node: u64) -> bool {
        lock(&self.running).insert(unique, (node, Instant::now()));
        let mut suspended = lock(&self.suspended);
        suspended.retain(|_, since| since.elapsed() < SUSPENDED);
        !suspended.contains_key(&node)
    }

    /// Whether the request is still to be answered.
    pub(super) fn ends(&self, unique: u64, failed: bool) -> bool {
        let Some((node, since)) = lock(&self.running).remove(&unique) else {
            self.hanging.fetch_sub(1, Ordering::Relaxed);
            self.spare.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if failed && since.elapsed() >= LATE {
            lock(&self.suspended).insert(node, Instant::now());
        }
        true
    }

    /// Whether there is one serving thread too many; who hears so ends.
    pub(super) fn is_crowded(&self) -> bool {
        self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| spare.checked_sub(1)).is_ok()
    }

    fn take_overdue(&self) -> Vec<u64> {
        let mut running = lock(&self.running);
        let overdue: Vec<u64> = running
            .iter()
            .filter(|(_, (_, since))| since.elapsed() >= DEADLINE)
            .map(|(&unique, _)| unique)
            .collect();
        for unique in &overdue {
            if let Some((node, _)) = running.remove(unique) {
                lock(&self.suspended).insert(node, Instant::now());
            }
        }
        self.hanging.fetch_add(overdue.len(), Ordering::Relaxed);
        overdue
    }
}

/// Watches until the server is gone.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let watched = Arc::downgrade(shared);
    std::thread::Builder::new().name("files-watchdog".into()).stack_size(super::STACK).spawn(move || {
        while let Some(shared) = watched.upgrade() {
            for unique in shared.watchdog.take_overdue() {
                tracing::warn!("the pod did not answer a question about a file in time");
                shared.reply(unique, Err(libc::EIO));
                if shared.watchdog.hanging.load(Ordering::Relaxed) <= MOST_REPLACED
                    && let Err(error) = spawn(&shared)
                {
                    tracing::warn!(%error, "a hanging thread of the file server has no replacement");
                }
            }
            drop(shared);
            std::thread::sleep(ROUND);
        }
    })?;
    Ok(())
}
