//! syscall(2), by which programs make calls that their libc does not name: libuv asks for statx in this way.
//!
//! Declared with all seven arguments: they arrive in the same places however many were given. What was not given is
//! whatever lay there before, an old cookie of ours perhaps, so no cookie is ever taken from a caller.

use super::{at, hooks};
use crate::call;
use crate::session::session;
use core::ffi::{c_char, c_int, c_long};
use core::ptr;

hooks! {
    /// syscall(2)
    fn syscall(
        nr: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize
    ) -> c_long {
        let sixth = match nr {
            libc::SYS_statx | libc::SYS_openat | libc::SYS_newfstatat => {
                // SAFETY: the second argument of these is a C string.
                unsafe { at(a as c_int, ptr::with_exposed_provenance::<c_char>(b)) }
            }
            _ if session().is_some_and(|session| session.cookie == f) => 0,
            _ => f,
        };
        // SAFETY: whatever the caller asks for.
        call::tell(unsafe { call::issue(nr, [a, b, c, d, e], sixth) })
    }
}
