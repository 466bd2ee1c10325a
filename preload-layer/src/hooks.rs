//! The functions of libc that the layer stands in front of, a file a family.
//!
//! A hook is written as its declaration and the system call that it is; whether that call carries the cookie is
//! decided in [`at`]. Functions with an optional last argument (`open`) are declared with it fixed: x86_64 and aarch64
//! Linux pass it in the same register either way.

pub mod attributes;
pub mod change;
pub mod folder;
pub mod messages;
pub mod open;
pub mod raw;
pub mod stat;

use crate::call;
use crate::folders::Identity;
use crate::path::Path;
use crate::plan::Places;
use crate::session::session;
use core::ffi::{CStr, c_char, c_int};

/// Declares hooks: exported under the name of libc's function, except from test binaries, which need libc's own.
macro_rules! hooks {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty $body:block)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As libc's function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $answer $body
    )*};
}
use hooks;

/// Issues the call and answers as libc would; arguments are given in their order, up to five.
macro_rules! issue {
    ($nr:ident, cookie $cookie:expr, $($argument:expr),+) => {{
        let cookie = $cookie;
        let mut args = [0usize; 5];
        let given = [$($argument as usize),+];
        let (taken, _) = args.split_at_mut(given.len());
        taken.copy_from_slice(&given);
        // SAFETY: the hook's caller vouches for its arguments, as for libc's function.
        $crate::call::tell(unsafe { $crate::call::issue(libc::$nr, args, cookie) })
    }};
}
use issue;

/// Room for a folder's path with another below it. Small, since signal handlers may run on small stacks; what is longer
/// is left to the session host.
const ROOM: usize = 1024;

/// The cookie for a call on a path, or 0 if it is not surely local.
///
/// # Safety
/// `path` is null or a C string, as the hooked function demands.
pub(crate) unsafe fn at(dirfd: c_int, path: *const c_char) -> usize {
    let Some(session) = session() else { return 0 };
    let Some(places) = &session.places else { return 0 };
    // Addresses that can be no string are the kernel's to refuse.
    if path.addr() < 4096 || path.addr() >> 56 != 0 {
        return 0;
    }
    // SAFETY: a C string, says the caller.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_bytes());
    let local = if path.text.is_empty() {
        // The kernel fails it, or means the descriptor.
        true
    } else if path.is_absolute() && path.normal {
        places.is_local(&path, &mut [])
    } else {
        is_local_slowly(places, dirfd, &path)
    };
    if local { session.cookie } else { 0 }
}

/// The cookie for a call on two paths.
///
/// # Safety
/// As [`at`], for both.
pub(crate) unsafe fn at_both(
    dirfd: c_int,
    path: *const c_char,
    other_dirfd: c_int,
    other: *const c_char,
) -> usize {
    // SAFETY: as said.
    if unsafe { at(dirfd, path) } == 0 {
        return 0;
    }
    // SAFETY: as said.
    unsafe { at(other_dirfd, other) }
}

/// Apart from `at`, so that the common case has no large stack frame.
#[inline(never)]
fn is_local_slowly(places: &Places<'_>, dirfd: c_int, path: &Path<'_>) -> bool {
    let mut room = [0; ROOM];
    if path.is_absolute() {
        return places.is_local(path, &mut room);
    }
    if path.climbs {
        return false;
    }
    if dirfd == libc::AT_FDCWD {
        let Some(session) = session() else { return false };
        let args = [room.as_mut_ptr().addr(), ROOM, 0, 0, 0];
        // SAFETY: the kernel writes no more than it is told there is room for.
        let length = unsafe { call::issue(libc::SYS_getcwd, args, session.cookie) };
        // The length counts the NUL. A folder of the pod's begins with "(unreachable)".
        return length > 1 && places.is_local_below(path, &mut room, length as usize - 1);
    }
    let alone = places.is_local_outside(path);
    let identity = if alone { Identity::of(dirfd) } else { None };
    if identity.is_some_and(Identity::is_outside) {
        return true;
    }
    let Some(length) = path_of(dirfd, &mut room) else { return false };
    if let Some(identity) = identity
        && room.get(..length).is_some_and(|folder| places.is_outside(folder))
    {
        identity.set_outside();
        return true;
    }
    places.is_local_below(path, &mut room, length)
}

/// Writes the path of an open folder and tells its length.
fn path_of(fd: c_int, room: &mut [u8; ROOM]) -> Option<usize> {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    let mut number = u32::try_from(fd).ok()?;
    let mut link = [0u8; 32];
    link.get_mut(..PREFIX.len())?.copy_from_slice(PREFIX);
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    for digit in link.get_mut(PREFIX.len()..PREFIX.len() + digits)?.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let cookie = session()?.cookie;
    // SAFETY: the link's name ends with NUL; the kernel writes no more than it is told there is room for.
    let length = unsafe {
        let args = [libc::AT_FDCWD as usize, link.as_ptr().addr(), room.as_mut_ptr().addr(), ROOM, 0];
        call::issue(libc::SYS_readlinkat, args, cookie)
    };
    // A path that fills the room may be cut.
    usize::try_from(length).ok().filter(|length| (1..ROOM).contains(length))
}
