//! Extended attributes by path; `ls -l` asks for them for every file.

use super::{at, hooks, issue};
use core::ffi::{c_char, c_int, c_void};
use libc::{AT_FDCWD, size_t, ssize_t};

hooks! {
    /// getxattr(2)
    fn getxattr(path: *const c_char, name: *const c_char, to: *mut c_void, room: size_t) -> ssize_t {
        // SAFETY: a C string, says the caller.
        issue!(SYS_getxattr, cookie unsafe { at(AT_FDCWD, path) }, path, name, to, room) as ssize_t
    }

    /// lgetxattr(2)
    fn lgetxattr(path: *const c_char, name: *const c_char, to: *mut c_void, room: size_t) -> ssize_t {
        // SAFETY: a C string, says the caller.
        issue!(SYS_lgetxattr, cookie unsafe { at(AT_FDCWD, path) }, path, name, to, room) as ssize_t
    }

    /// listxattr(2)
    fn listxattr(path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
        // SAFETY: a C string, says the caller.
        issue!(SYS_listxattr, cookie unsafe { at(AT_FDCWD, path) }, path, to, room) as ssize_t
    }

    /// llistxattr(2)
    fn llistxattr(path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
        // SAFETY: a C string, says the caller.
        issue!(SYS_llistxattr, cookie unsafe { at(AT_FDCWD, path) }, path, to, room) as ssize_t
    }

    /// setxattr(2)
    fn setxattr(path: *const c_char, name: *const c_char, value: *const c_void, size: size_t, flags: c_int) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_setxattr, cookie unsafe { at(AT_FDCWD, path) }, path, name, value, size, flags) as c_int
    }

    /// lsetxattr(2)
    fn lsetxattr(path: *const c_char, name: *const c_char, value: *const c_void, size: size_t, flags: c_int) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_lsetxattr, cookie unsafe { at(AT_FDCWD, path) }, path, name, value, size, flags) as c_int
    }

    /// removexattr(2)
    fn removexattr(path: *const c_char, name: *const c_char) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_removexattr, cookie unsafe { at(AT_FDCWD, path) }, path, name) as c_int
    }

    /// lremovexattr(2)
    fn lremovexattr(path: *const c_char, name: *const c_char) -> c_int {
        // SAFETY: a C string, says the caller.
        issue!(SYS_lremovexattr, cookie unsafe { at(AT_FDCWD, path) }, path, name) as c_int
    }
}
