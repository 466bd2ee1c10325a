//! The next library's own functions, for calls that must stay cancellation points: looked up by the constructor, so
//! that no hook enters the loader.
//!
//! dlsym(3) is called in its old version, which libc has had from the start on some systems and took over from libdl
//! in 2.34: a reference to the new one would keep the layer from loading on anything older. Where neither is there, the
//! function stays unknown and the hook issues the plain call.

use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A function by another name than ours: the next one that the loader finds.
pub(crate) struct Real(AtomicPtr<c_void>);

impl Real {
    const fn unknown() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Whether it was found.
    pub(crate) fn is_known(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    fn find(&self, dlsym: Dlsym, name: &CStr) {
        // SAFETY: the name ends with NUL; RTLD_NEXT means the libraries behind the one that this call is in.
        self.0.store(unsafe { dlsym(libc::RTLD_NEXT, name.as_ptr()) }, Ordering::Relaxed);
    }
}

pub(crate) static RECVMSG: Real = Real::unknown();
pub(crate) static SENDMSG: Real = Real::unknown();
pub(crate) static RECVMMSG: Real = Real::unknown();
pub(crate) static SENDMMSG: Real = Real::unknown();

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// Looks all of them up.
pub(crate) fn find() {
    // SAFETY: takes nothing and answers an address, or null.
    let Some(dlsym) = (unsafe { mirrord_ide_dlsym() }) else { return };
    RECVMSG.find(dlsym, c"recvmsg");
    SENDMSG.find(dlsym, c"sendmsg");
    RECVMMSG.find(dlsym, c"recvmmsg");
    SENDMMSG.find(dlsym, c"sendmmsg");
}

unsafe extern "C" {
    fn mirrord_ide_dlsym() -> Option<Dlsym>;
}

// The reference must be weak and of a given version, neither of which Rust can say.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.mirrord_ide_dlsym, \"ax\", @progbits",
    ".symver dlsym, dlsym@GLIBC_2.2.5",
    ".weak dlsym",
    ".hidden mirrord_ide_dlsym",
    ".globl mirrord_ide_dlsym",
    ".type mirrord_ide_dlsym, @function",
    "mirrord_ide_dlsym:",
    "mov rax, qword ptr [rip + dlsym@GOTPCREL]",
    "ret",
    ".size mirrord_ide_dlsym, . - mirrord_ide_dlsym",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .text.mirrord_ide_dlsym, \"ax\", @progbits",
    ".symver dlsym, dlsym@GLIBC_2.17",
    ".weak dlsym",
    ".hidden mirrord_ide_dlsym",
    ".globl mirrord_ide_dlsym",
    ".type mirrord_ide_dlsym, @function",
    "mirrord_ide_dlsym:",
    "adrp x0, :got:dlsym",
    "ldr x0, [x0, :got_lo12:dlsym]",
    "ret",
    ".size mirrord_ide_dlsym, . - mirrord_ide_dlsym",
    ".popsection",
);
