//! Making, removing, renaming and changing files.
//!
//! Left to the trap: functions that libc builds out of several calls (`fchmodat` with flags, `mkfifo`, `utimes`), and
//! `mknod`, whose device numbers libc checks.

use super::{at, at_both, hooks, issue};
use crate::call;
use core::ffi::{c_char, c_int, c_uint, c_void};
use libc::{AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, gid_t, mode_t, off_t, uid_t};

unsafe fn unlink_at(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: a C string, says the caller.
    issue!(SYS_unlinkat, cookie unsafe { at(dirfd, path) }, dirfd, path, flags) as c_int
}

unsafe fn mkdir_at(dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: a C string, says the caller.
    issue!(SYS_mkdirat, cookie unsafe { at(dirfd, path) }, dirfd, path, mode) as c_int
}

unsafe fn rename_at(
    from_fd: c_int,
    from: *const c_char,
    to_fd: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: both are C strings, says the caller.
    let cookie = unsafe { at_both(from_fd, from, to_fd, to) };
    issue!(SYS_renameat2, cookie cookie, from_fd, from, to_fd, to, flags) as c_int
}

unsafe fn link_at(
    from_fd: c_int,
    from: *const c_char,
    to_fd: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: both are C strings, says the caller.
    let cookie = unsafe { at_both(from_fd, from, to_fd, to) };
    issue!(SYS_linkat, cookie cookie, from_fd, from, to_fd, to, flags) as c_int
}

unsafe fn symlink_at(text: *const c_char, dirfd: c_int, path: *const c_char) -> c_int {
    // What the link says is text, not a path that is walked.
    // SAFETY: a C string, says the caller.
    issue!(SYS_symlinkat, cookie unsafe { at(dirfd, path) }, text, dirfd, path) as c_int
}

unsafe fn chown_at(dirfd: c_int, path: *const c_char, owner: uid_t, group: gid_t, flags: c_int) -> c_int {
    // SAFETY: a C string, says the caller.
    issue!(SYS_fchownat, cookie unsafe { at(dirfd, path) }, dirfd, path, owner, group, flags) as c_int
}

hooks! {
    /// mkdir(2)
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { mkdir_at(AT_FDCWD, path, mode) }
    }

    /// mkdirat(2)
    fn mkdirat(dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { mkdir_at(dirfd, path, mode) }
    }

    /// unlink(2)
    fn unlink(path: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { unlink_at(AT_FDCWD, path, 0) }
    }

    /// rmdir(2)
    fn rmdir(path: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { unlink_at(AT_FDCWD, path, AT_REMOVEDIR) }
    }

    /// unlinkat(2)
    fn unlinkat(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { unlink_at(dirfd, path, flags) }
    }

    /// rename(2)
    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { rename_at(AT_FDCWD, from, AT_FDCWD, to, 0) }
    }

    /// renameat(2)
    fn renameat(from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { rename_at(from_fd, from, to_fd, to, 0) }
    }

    /// renameat2(2)
    fn renameat2(from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char, flags: c_uint) -> c_int {
        // SAFETY: as this hook.
        unsafe { rename_at(from_fd, from, to_fd, to, flags) }
    }

    /// link(2)
    fn link(from: *const c_char, to: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { link_at(AT_FDCWD, from, AT_FDCWD, to, 0) }
    }

    /// linkat(2)
    fn linkat(from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { link_at(from_fd, from, to_fd, to, flags) }
    }

    /// symlink(2)
    fn symlink(text: *const c_char, path: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { symlink_at(text, AT_FDCWD, path) }
    }

    /// symlinkat(2)
    fn symlinkat(text: *const c_char, dirfd: c_int, path: *const c_char) -> c_int {
        // SAFETY: as this hook.
        unsafe { symlink_at(text, dirfd, path) }
    }

    /// chmod(2)
    fn chmod(path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_fchmodat, cookie unsafe { at(AT_FDCWD, path) }, AT_FDCWD, path, mode) as c_int
    }

    /// chown(2)
    fn chown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { chown_at(AT_FDCWD, path, owner, group, 0) }
    }

    /// lchown(2)
    fn lchown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int {
        // SAFETY: as this hook.
        unsafe { chown_at(AT_FDCWD, path, owner, group, AT_SYMLINK_NOFOLLOW) }
    }

    /// fchownat(2)
    fn fchownat(dirfd: c_int, path: *const c_char, owner: uid_t, group: gid_t, flags: c_int) -> c_int {
        // SAFETY: as this hook.
        unsafe { chown_at(dirfd, path, owner, group, flags) }
    }

    /// utimensat(2)
    fn utimensat(dirfd: c_int, path: *const c_char, times: *const c_void, flags: c_int) -> c_int {
        // The kernel would take the descriptor itself to be meant.
        if path.is_null() {
            return call::fail(libc::EINVAL);
        }
        // SAFETY: a C string, says the caller.
        issue!(SYS_utimensat, cookie unsafe { at(dirfd, path) }, dirfd, path, times, flags) as c_int
    }

    /// truncate(2)
    fn truncate(path: *const c_char, length: off_t) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_truncate, cookie unsafe { at(AT_FDCWD, path) }, path, length) as c_int
    }

    /// truncate(2)
    fn truncate64(path: *const c_char, length: off_t) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_truncate, cookie unsafe { at(AT_FDCWD, path) }, path, length) as c_int
    }
}
