//! Going into a folder.
//!
//! Only the process itself can change its working folder. So the session host opens a folder of the pod's, and the
//! process goes into what it was given; getcwd(2) is trapped, and tells the pod's path.

use super::{at, hooks};
use crate::call;
use crate::session::session;
use core::ffi::{c_char, c_int};
use libc::{AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH};

hooks! {
    /// chdir(2)
    fn chdir(path: *const c_char) -> c_int {
        let plain = [path.addr(), 0, 0, 0, 0];
        // SAFETY: a C string, says the caller.
        if session().is_none() || unsafe { at(AT_FDCWD, path) } != 0 {
            // SAFETY: as this hook.
            return call::tell(unsafe { call::issue(libc::SYS_chdir, plain, 0) }) as c_int;
        }
        let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
        let args = [AT_FDCWD as usize, path.addr(), flags as usize, 0, 0];
        // SAFETY: as this hook.
        let folder = unsafe { call::issue(libc::SYS_openat, args, 0) };
        if folder < 0 {
            if matches!(-folder as c_int, libc::EMFILE | libc::ENFILE) {
                // chdir(2) needs no descriptor: on this machine it works without.
                // SAFETY: as this hook.
                return call::tell(unsafe { call::issue(libc::SYS_chdir, plain, 0) }) as c_int;
            }
            return call::tell(folder) as c_int;
        }
        // SAFETY: takes an open descriptor of ours.
        let gone = unsafe { call::issue(libc::SYS_fchdir, [folder as usize, 0, 0, 0, 0], 0) };
        // SAFETY: the same; its own failure is not told, as nothing was written.
        unsafe { call::issue(libc::SYS_close, [folder as usize, 0, 0, 0, 0], 0) };
        call::tell(gone) as c_int
    }
}
