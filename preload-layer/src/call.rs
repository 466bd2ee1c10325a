//! Issuing system calls, with or without the cookie.
//!
//! The register of the sixth argument is cleared again after each call. libc sets only the registers that a call uses:
//! a cookie left behind would let libc's own next call pass the filter, whatever its path.

use core::ffi::{c_int, c_long};

/// A result as the kernel gives it: an errno is negative.
pub(crate) type Raw = c_long;

const LAST_ERRNO: Raw = -4095;

/// Issues a system call. The sixth argument is the cookie, or 0.
///
/// # Safety
/// As the system call itself: the caller of the hook vouches for what the arguments point to.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn issue(nr: c_long, args: [usize; 5], sixth: usize) -> Raw {
    let result;
    // SAFETY: the kernel keeps every register but rax, rcx and r11; what the call does to memory is the caller's wish.
    unsafe {
        core::arch::asm!(
            "syscall",
            "xor r9d, r9d",
            inlateout("rax") nr => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            inlateout("r9") sixth => _,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Issues a system call. The sixth argument is the cookie, or 0.
///
/// # Safety
/// As the system call itself: the caller of the hook vouches for what the arguments point to.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn issue(nr: c_long, args: [usize; 5], sixth: usize) -> Raw {
    let result;
    // SAFETY: the kernel keeps every register but x0; what the call does to memory is the caller's wish.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "mov x5, xzr",
            in("x8") nr,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            inlateout("x5") sixth => _,
            options(nostack),
        );
    }
    result
}

/// Tells a result the way libc does: -1 and errno, or the value with errno untouched.
pub(crate) fn tell(result: Raw) -> Raw {
    if (LAST_ERRNO..0).contains(&result) { fail(-result as c_int).into() } else { result }
}

/// Sets errno and answers -1.
pub(crate) fn fail(errno: c_int) -> c_int {
    // SAFETY: libc's own pointer to the calling thread's errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}
