//! Locking without poison: a panic in one session's task must not end the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever became of the last holder: every holder here leaves its value whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
