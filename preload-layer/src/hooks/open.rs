//! Opening files and folders.
//!
//! fopen(3) and its like open inside libc and are trapped; what they cost beside the trap makes it small.

use super::{at, hooks, issue};
use crate::call;
use core::ffi::{c_char, c_int};
use libc::{AT_FDCWD, O_CREAT, O_TMPFILE, mode_t};

const fn makes(flags: c_int) -> bool {
    flags & O_CREAT != 0 || flags & O_TMPFILE == O_TMPFILE
}

unsafe fn open_at(dirfd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // Without these flags there is no third argument, and what is in its register means nothing.
    let mode = if makes(flags) { mode } else { 0 };
    // SAFETY: a C string, says the caller.
    issue!(SYS_openat, cookie unsafe { at(dirfd, path) }, dirfd, path, flags, mode) as c_int
}

/// What the compiler calls when it was told to check: it must not be used to make files, having no mode.
unsafe fn open_checked(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    if makes(flags) {
        // SAFETY: takes nothing, never returns; libc ends such a program too.
        unsafe { libc::abort() }
    }
    // SAFETY: a C string, says the caller.
    unsafe { open_at(dirfd, path, flags, 0) }
}

hooks! {
    /// open(2)
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(AT_FDCWD, path, flags, mode) }
    }

    /// open(2)
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(AT_FDCWD, path, flags, mode) }
    }

    /// openat(2)
    fn openat(dirfd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(dirfd, path, flags, mode) }
    }

    /// openat(2)
    fn openat64(dirfd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(dirfd, path, flags, mode) }
    }

    /// creat(2)
    fn creat(path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(AT_FDCWD, path, O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
    }

    /// creat(2)
    fn creat64(path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_at(AT_FDCWD, path, O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
    }

    /// open(2), checked
    fn __open_2(path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_checked(AT_FDCWD, path, flags) }
    }

    /// open(2), checked
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_checked(AT_FDCWD, path, flags) }
    }

    /// openat(2), checked
    fn __openat_2(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_checked(dirfd, path, flags) }
    }

    /// openat(2), checked
    fn __openat64_2(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { open_checked(dirfd, path, flags) }
    }

    /// opendir(3): libc opens the folder in the same way and allocates in the same place.
    fn opendir(path: *const c_char) -> *mut libc::DIR {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: as this hook.
        let fd = unsafe { open_at(AT_FDCWD, path, flags, 0) };
        if fd < 0 {
            return core::ptr::null_mut();
        }
        // SAFETY: the descriptor is ours to give away.
        let folder = unsafe { libc::fdopendir(fd) };
        if folder.is_null() {
            // SAFETY: not given away, then. Its own failure is not told, as errno says why there is no folder.
            unsafe { call::issue(libc::SYS_close, [fd as usize, 0, 0, 0, 0], 0) };
        }
        folder
    }
}
