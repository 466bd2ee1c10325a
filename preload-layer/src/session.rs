//! The session that this process belongs to, read from its environment by the library's constructor.
//!
//! Written once, then published by one pointer: whoever sees the pointer sees the whole. Until then, and in a process
//! that was given no session, there is none, and hooks mark nothing.

use crate::plan::Places;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use policy::PathView;

/// These three names are the protocol's, which this crate may not depend on; a test compares them.
pub(crate) const COOKIE_VAR: &CStr = c"MIRRORD_IDE_COOKIE";
pub(crate) const POLICY_VAR: &CStr = c"MIRRORD_IDE_POLICY";

/// What a process was told of its session.
pub(crate) struct Session {
    /// Lets a call pass the filter. Never 0.
    pub(crate) cookie: usize,
    /// Which paths are this machine's; `None` when the table does not fit in here.
    pub(crate) places: Option<Places<'static>>,
}

/// The session, once the constructor has run.
#[inline]
pub(crate) fn session() -> Option<&'static Session> {
    // SAFETY: null, or the session that the constructor wrote before it published the pointer and nobody changes.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }
}

static SESSION: AtomicPtr<Session> = AtomicPtr::new(ptr::null_mut());

/// Memory that the constructor writes before anyone reads it.
struct Once<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Once<T> {
    /// Zeros take no room in the file, and no memory until they are written to.
    const fn zeroed() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }
}

// SAFETY: written by one thread, the loader's, before `SESSION` is published; read only through that.
unsafe impl<T> Sync for Once<T> {}

static TABLE: Once<[u8; 64 * 1024]> = Once::zeroed();
static PLACE: Once<Session> = Once::zeroed();

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

/// Reads the environment. Only glibc passes it as an argument, so it is looked up.
#[cfg_attr(test, expect(dead_code, reason = "the test binary is no layer"))]
extern "C" fn start() {
    let Some(cookie) = variable(COOKIE_VAR).and_then(cookie) else { return };
    crate::real::find();
    // SAFETY: the loader calls this once, so nobody else has this memory; zeros are a value of it.
    let table = unsafe { (*TABLE.0.get()).assume_init_mut() };
    let places = variable(POLICY_VAR)
        .and_then(|text| policy::from_text(text, table))
        .and_then(PathView::from_bytes)
        .map(Places::new);
    // SAFETY: as above.
    let session = unsafe { (*PLACE.0.get()).write(Session { cookie, places }) };
    SESSION.store(session, Ordering::Release);
}

fn cookie(text: &[u8]) -> Option<usize> {
    let mut bytes = [0; 8];
    let bytes: &[u8; 8] = policy::from_text(text, &mut bytes)?.try_into().ok()?;
    // Read as a number of sixteen digits. Zero is what calls without a cookie carry.
    usize::try_from(u64::from_be_bytes(*bytes)).ok().filter(|cookie| *cookie != 0)
}

fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: libc's getenv only reads, and nobody changes the environment while the loader runs constructors.
    let value: *const c_char = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: the value ends with NUL. It is read before this constructor returns and not kept.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_called_what_the_protocol_calls_them() {
        let protocol = include_str!("../../schemas/protocol/src/layer.rs");
        for (constant, name) in [("COOKIE_VAR", COOKIE_VAR), ("POLICY_VAR", POLICY_VAR)] {
            let declared = format!("pub const {constant}: &str = \"{}\";", name.to_str().unwrap());
            assert!(protocol.contains(&declared), "{declared}");
        }
    }

    #[test]
    fn a_cookie_is_sixteen_digits_and_not_zero() {
        assert_eq!(cookie(b"00000000000000ff"), Some(255));
        assert_eq!(cookie(b"1122334455667788"), Some(0x1122_3344_5566_7788));
        for bad in ["", "0000000000000000", "ff", "00000000000000ff00", "00000000000000fg"] {
            assert_eq!(cookie(bad.as_bytes()), None, "{bad}");
        }
    }
}
