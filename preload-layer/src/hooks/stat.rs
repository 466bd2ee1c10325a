//! Looking at files.

use super::{at, hooks, issue};
use crate::call;
use core::ffi::{c_char, c_int, c_uint, c_void};
use libc::{AT_EACCESS, AT_FDCWD, AT_SYMLINK_NOFOLLOW, size_t, ssize_t};

// The kernel's structure is glibc's own on x86_64 and aarch64.
unsafe fn stat_at(dirfd: c_int, path: *const c_char, to: *mut c_void, flags: c_int) -> c_int {
    // SAFETY: a C string, says the caller.
    issue!(SYS_newfstatat, cookie unsafe { at(dirfd, path) }, dirfd, path, to, flags) as c_int
}

/// Programs linked before glibc 2.33 say which structure they mean; there is only one here.
unsafe fn stat_versioned(
    version: c_int,
    dirfd: c_int,
    path: *const c_char,
    to: *mut c_void,
    flags: c_int,
) -> c_int {
    if !(0..=1).contains(&version) {
        return call::fail(libc::EINVAL);
    }
    // SAFETY: as this function.
    unsafe { stat_at(dirfd, path, to, flags) }
}

unsafe fn access_at(dirfd: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
    // SAFETY: a C string, says the caller.
    let cookie = unsafe { at(dirfd, path) };
    if flags == 0 {
        issue!(SYS_faccessat, cookie cookie, dirfd, path, mode) as c_int
    } else {
        // Newer than what libc falls back from, older than the filter's own needs.
        issue!(SYS_faccessat2, cookie cookie, dirfd, path, mode, flags) as c_int
    }
}

unsafe fn readlink_at(dirfd: c_int, path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
    // SAFETY: a C string, says the caller.
    issue!(SYS_readlinkat, cookie unsafe { at(dirfd, path) }, dirfd, path, to, room) as ssize_t
}

fn check(room: size_t, there_is: size_t) {
    if room > there_is {
        // SAFETY: takes nothing, never returns; libc ends such a program too.
        unsafe { libc::abort() }
    }
}

/// Hooks on a path and a structure.
macro_rules! stats {
    ($($name:ident $flags:expr;)*) => {hooks! {$(
        /// stat(2) or lstat(2)
        fn $name(path: *const c_char, to: *mut c_void) -> c_int {
            // SAFETY: as this hook.
            unsafe { stat_at(AT_FDCWD, path, to, $flags) }
        }
    )*}};
}

/// The same for old programs.
macro_rules! versioned_stats {
    ($($name:ident $flags:expr;)*) => {hooks! {$(
        /// stat(2) or lstat(2), as old programs call it
        fn $name(version: c_int, path: *const c_char, to: *mut c_void) -> c_int {
            // SAFETY: as this hook.
            unsafe { stat_versioned(version, AT_FDCWD, path, to, $flags) }
        }
    )*}};
}

stats! {
    stat 0;
    stat64 0;
    lstat AT_SYMLINK_NOFOLLOW;
    lstat64 AT_SYMLINK_NOFOLLOW;
}

versioned_stats! {
    __xstat 0;
    __xstat64 0;
    __lxstat AT_SYMLINK_NOFOLLOW;
    __lxstat64 AT_SYMLINK_NOFOLLOW;
}

hooks! {
    /// fstatat(2)
    fn fstatat(dirfd: c_int, path: *const c_char, to: *mut c_void, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { stat_at(dirfd, path, to, flags) }
    }

    /// fstatat(2)
    fn fstatat64(dirfd: c_int, path: *const c_char, to: *mut c_void, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { stat_at(dirfd, path, to, flags) }
    }

    /// fstatat(2), as old programs call it
    fn __fxstatat(version: c_int, dirfd: c_int, path: *const c_char, to: *mut c_void, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { stat_versioned(version, dirfd, path, to, flags) }
    }

    /// fstatat(2), as old programs call it
    fn __fxstatat64(version: c_int, dirfd: c_int, path: *const c_char, to: *mut c_void, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { stat_versioned(version, dirfd, path, to, flags) }
    }

    /// statx(2)
    fn statx(dirfd: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_statx, cookie unsafe { at(dirfd, path) }, dirfd, path, flags, mask, to) as c_int
    }

    /// access(2)
    fn access(path: *const c_char, mode: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { access_at(AT_FDCWD, path, mode, 0) }
    }

    /// faccessat(2)
    fn faccessat(dirfd: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { access_at(dirfd, path, mode, flags) }
    }

    /// eaccess(3)
    fn eaccess(path: *const c_char, mode: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { access_at(AT_FDCWD, path, mode, AT_EACCESS) }
    }

    /// euidaccess(3)
    fn euidaccess(path: *const c_char, mode: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { access_at(AT_FDCWD, path, mode, AT_EACCESS) }
    }

    /// readlink(2)
    fn readlink(path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
        // SAFETY: as this hook.
        unsafe { readlink_at(AT_FDCWD, path, to, room) }
    }

    /// readlinkat(2)
    fn readlinkat(dirfd: c_int, path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
        // SAFETY: as this hook.
        unsafe { readlink_at(dirfd, path, to, room) }
    }

    /// readlink(2), checked
    fn __readlink_chk(path: *const c_char, to: *mut c_char, room: size_t, there_is: size_t) -> ssize_t {
        check(room, there_is);
        // SAFETY: as this hook.
        unsafe { readlink_at(AT_FDCWD, path, to, room) }
    }

    /// readlinkat(2), checked
    fn __readlinkat_chk(dirfd: c_int, path: *const c_char, to: *mut c_char, room: size_t, there_is: size_t) -> ssize_t {
        check(room, there_is);
        // SAFETY: as this hook.
        unsafe { readlink_at(dirfd, path, to, room) }
    }

    /// statfs(2)
    fn statfs(path: *const c_char, to: *mut c_void) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_statfs, cookie unsafe { at(AT_FDCWD, path) }, path, to) as c_int
    }

    /// statfs(2)
    fn statfs64(path: *const c_char, to: *mut c_void) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_statfs, cookie unsafe { at(AT_FDCWD, path) }, path, to) as c_int
    }
}
