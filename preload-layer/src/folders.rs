//! Which open folders lie outside of everything that is not local, remembered by what they are rather than by
//! descriptor: descriptors are closed, copied and inherited in ways that no hook sees.
//!
//! Asking the kernel for the path of a descriptor costs three times the call that is to be decided; asking for device
//! and inode costs a quarter of it. A folder that was found outside is taken to stay there. It is wrong only for a
//! folder that is moved, by a rename or mount of one above it, to where the table has a tree of the pod's.
//!
//! Each slot is one word that is read and written whole, so that threads, signal handlers and the child of vfork may
//! meet here: the worst they do is forget.

use crate::call;
use core::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 256;
static OUTSIDE: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// What a folder is, as one word that is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64);

impl Identity {
    /// Of an open folder; `None` if the kernel does not say.
    pub(crate) fn of(fd: libc::c_int) -> Option<Self> {
        let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel writes one structure, which is ours.
        let result =
            unsafe { call::issue(libc::SYS_fstat, [fd as usize, stat.as_mut_ptr().addr(), 0, 0, 0], 0) };
        if result != 0 {
            return None;
        }
        // SAFETY: the kernel filled it.
        let stat = unsafe { stat.assume_init() };
        Some(Self::mix(stat.st_dev, stat.st_ino))
    }

    /// Every step can be undone for a given device, so two inodes of one device never become one word.
    const fn mix(device: u64, inode: u64) -> Self {
        let word = (inode ^ device.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(if word == 0 { 1 } else { word })
    }

    fn slot(self) -> Option<&'static AtomicU64> {
        OUTSIDE.get((self.0 >> 32) as usize % SLOTS)
    }

    /// Whether it was found outside before.
    pub(crate) fn is_outside(self) -> bool {
        self.slot().is_some_and(|slot| slot.load(Ordering::Relaxed) == self.0)
    }

    /// Remembers that it is outside.
    pub(crate) fn set_outside(self) {
        if let Some(slot) = self.slot() {
            slot.store(self.0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_remembered_until_another_takes_its_slot() {
        let first = Identity::mix(7, 1000);
        assert!(!first.is_outside());
        first.set_outside();
        assert!(first.is_outside());
        assert!(!Identity::mix(8, 1000).is_outside(), "the same inode of another device");
        let other = (0..)
            .map(|inode| Identity::mix(9, inode))
            .find(|other| (other.0 >> 32) as usize % SLOTS == (first.0 >> 32) as usize % SLOTS);
        other.unwrap().set_outside();
        assert!(!first.is_outside());
    }

    #[test]
    fn a_descriptor_tells_what_it_is() {
        let identity =
            |path| Identity::of(std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open(path).unwrap()));
        assert_eq!(identity("/"), identity("/"));
        assert_ne!(identity("/"), identity("/proc"));
        assert_eq!(Identity::of(-1), None);
    }
}
