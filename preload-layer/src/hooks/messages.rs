//! Messages on sockets. The filter cannot see whether a message names an address; here it is seen, and those that name
//! none are the kernel's alone, whatever socket it is. (What names one may have to be told another: DNS answers.)
//!
//! These calls may wait, and threads that wait here get cancelled (pthread_cancel(3)). libc arranges for that around
//! its own system call and restarts ours after the signal, so a thread in our call would never end. So ours is only
//! issued where it cannot wait:
//! - the call says MSG_DONTWAIT or the socket is non-blocking: as asked, with the cookie;
//! - receiving on a blocking socket: with the cookie and MSG_DONTWAIT, which takes what is there. If nothing is, or if
//!   all that was asked for must be waited for (MSG_WAITALL), libc's function is called and traps. A blocking stream
//!   socket whose SO_RCVLOWAT was raised may so be told less than that;
//! - sending on a blocking socket: always libc's function, since a part might be sent otherwise.
//!
//! libc's function is jumped to with nothing of ours left on the stack, so that a cancellation unwinds as it always
//! does.

use crate::call::{self, Raw};
use crate::real::{self, Real};
use crate::session::session;
use core::ffi::{c_int, c_long, c_uint};
use libc::{MSG_DONTWAIT, MSG_WAITALL, mmsghdr, msghdr};

/// What a decision answers: in two registers, as the jumps below expect it.
#[repr(C)]
pub struct Decision {
    value: Raw,
    /// 0: jump to libc's function.
    settled: usize,
}

const TO_LIBC: Decision = Decision { value: 0, settled: 0 };

fn settled(result: Raw) -> Decision {
    Decision { value: call::tell(result), settled: 1 }
}

/// Without libc's function there is only the plain call.
fn to_libc(libc: &Real, nr: c_long, args: [usize; 5]) -> Decision {
    if libc.is_known() {
        return TO_LIBC;
    }
    // SAFETY: the hook's caller vouches for its arguments.
    settled(unsafe { call::issue(nr, args, 0) })
}

fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: no memory is named.
    let flags = unsafe { call::issue(libc::SYS_fcntl, [fd as usize, libc::F_GETFL as usize, 0, 0, 0], 0) };
    flags >= 0 && flags & c_long::from(libc::O_NONBLOCK) != 0
}

/// The cookie, if the message is one and names no address.
unsafe fn cookie_for(message: *const msghdr) -> Option<usize> {
    let session = session()?;
    if message.addr() < 4096 || message.addr() >> 56 != 0 {
        return None;
    }
    // SAFETY: the function demands a message there.
    let name = unsafe { (&raw const (*message).msg_name).read_unaligned() };
    name.is_null().then_some(session.cookie)
}

/// The same for a list of them.
unsafe fn cookie_for_all(messages: *const mmsghdr, count: c_uint) -> Option<usize> {
    let mut cookie = None;
    // The kernel looks at no more than these.
    for index in 0..count.min(1024) as usize {
        let message = messages.wrapping_add(index);
        // SAFETY: the function demands that many messages there; the first field of each is a message.
        cookie = Some(unsafe { cookie_for(message.cast()) }?);
    }
    cookie
}

unsafe extern "C" fn receive(fd: c_int, message: *mut msghdr, flags: c_int) -> Decision {
    let args = |flags: c_int| [fd as usize, message.addr(), flags as usize, 0, 0];
    // SAFETY: as this function.
    let Some(cookie) = (unsafe { cookie_for(message) }) else {
        return to_libc(&real::RECVMSG, libc::SYS_recvmsg, args(flags));
    };
    // Whether the socket waits is only asked when that decides.
    if flags & MSG_WAITALL == 0 || flags & MSG_DONTWAIT != 0 || is_nonblocking(fd) {
        // SAFETY: the hook's caller vouches for its arguments.
        let result = unsafe { call::issue(libc::SYS_recvmsg, args(flags | MSG_DONTWAIT), cookie) };
        if result != -Raw::from(libc::EAGAIN) || flags & MSG_DONTWAIT != 0 || is_nonblocking(fd) {
            return settled(result);
        }
    }
    to_libc(&real::RECVMSG, libc::SYS_recvmsg, args(flags))
}

unsafe extern "C" fn send(fd: c_int, message: *const msghdr, flags: c_int) -> Decision {
    let args = [fd as usize, message.addr(), flags as usize, 0, 0];
    // SAFETY: as this function.
    match unsafe { cookie_for(message) } {
        Some(cookie) if flags & MSG_DONTWAIT != 0 || is_nonblocking(fd) => {
            // SAFETY: the hook's caller vouches for its arguments.
            settled(unsafe { call::issue(libc::SYS_sendmsg, args, cookie) })
        }
        _ => to_libc(&real::SENDMSG, libc::SYS_sendmsg, args),
    }
}

unsafe extern "C" fn receive_all(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> Decision {
    let args = [fd as usize, messages.addr(), count as usize, flags as usize, timeout.addr()];
    // SAFETY: as this function.
    match unsafe { cookie_for_all(messages, count) } {
        Some(cookie) if flags & MSG_DONTWAIT != 0 || is_nonblocking(fd) => {
            // SAFETY: the hook's caller vouches for its arguments.
            settled(unsafe { call::issue(libc::SYS_recvmmsg, args, cookie) })
        }
        _ => to_libc(&real::RECVMMSG, libc::SYS_recvmmsg, args),
    }
}

unsafe extern "C" fn send_all(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> Decision {
    let args = [fd as usize, messages.addr(), count as usize, flags as usize, 0];
    // SAFETY: as this function.
    match unsafe { cookie_for_all(messages, count) } {
        Some(cookie) if flags & MSG_DONTWAIT != 0 || is_nonblocking(fd) => {
            // SAFETY: the hook's caller vouches for its arguments.
            settled(unsafe { call::issue(libc::SYS_sendmmsg, args, cookie) })
        }
        _ => to_libc(&real::SENDMMSG, libc::SYS_sendmmsg, args),
    }
}

/// A hook that decides, then returns or jumps to libc's function with the caller's own arguments and stack.
macro_rules! jump {
    ($($(#[$doc:meta])* $name:ident: $decide:path, or $real:path;)*) => {$(
        $(#[$doc])*
        ///
        /// Its arguments are those of libc's function, five at most.
        ///
        /// # Safety
        /// As libc's function.
        #[cfg(target_arch = "x86_64")]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "call {decide}",
                "test rdx, rdx",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jz 2f",
                "ret",
                "2:",
                "jmp qword ptr [rip + {real}]",
                decide = sym $decide,
                real = sym $real,
            )
        }

        $(#[$doc])*
        ///
        /// Its arguments are those of libc's function, five at most.
        ///
        /// # Safety
        /// As libc's function.
        #[cfg(target_arch = "aarch64")]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "stp x0, x1, [sp, #-48]!",
                "stp x2, x3, [sp, #16]",
                "stp x4, x30, [sp, #32]",
                "bl {decide}",
                "mov x16, x0",
                "mov x17, x1",
                "ldp x4, x30, [sp, #32]",
                "ldp x2, x3, [sp, #16]",
                "ldp x0, x1, [sp], #48",
                "cbz x17, 2f",
                "mov x0, x16",
                "ret",
                "2:",
                "adrp x16, {real}",
                "ldr x16, [x16, :lo12:{real}]",
                "br x16",
                decide = sym $decide,
                real = sym $real,
            )
        }
    )*};
}

jump! {
    /// recvmsg(2)
    recvmsg: receive, or real::RECVMSG;
    /// sendmsg(2)
    sendmsg: send, or real::SENDMSG;
    /// recvmmsg(2)
    recvmmsg: receive_all, or real::RECVMMSG;
    /// sendmmsg(2)
    sendmmsg: send_all, or real::SENDMMSG;
}
