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
/// Hanging threads are replaced up to this number; then the pod is past helping.
const MOST_REPLACED: usize = 64;

#[derive(Default)]
pub(super) struct Watchdog {
    /// Requests that are being answered, and since when.
    running: Mutex<HashMap<u64, Instant>>,
    /// Threads that hang beyond the deadline and were replaced.
    hanging: AtomicUsize,
    /// Threads that should end because the hanging ones came back.
    spare: AtomicUsize,
}

impl Watchdog {
    pub(super) fn begins(&self, unique: u64) {
        lock(&self.running).insert(unique, Instant::now());
    }

    /// Whether the request is still to be answered.
    pub(super) fn ends(&self, unique: u64) -> bool {
        let on_time = lock(&self.running).remove(&unique).is_some();
        if !on_time {
            self.hanging.fetch_sub(1, Ordering::Relaxed);
            self.spare.fetch_add(1, Ordering::Relaxed);
        }
        on_time
    }

    /// Whether there is one serving thread too many; who hears so ends.
    pub(super) fn is_crowded(&self) -> bool {
        self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| spare.checked_sub(1)).is_ok()
    }

    fn take_overdue(&self) -> Vec<u64> {
        let mut running = lock(&self.running);
        let overdue: Vec<u64> = running
            .iter()
            .filter(|(_, since)| since.elapsed() >= DEADLINE)
            .map(|(&unique, _)| unique)
            .collect();
        for unique in &overdue {
            running.remove(unique);
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
