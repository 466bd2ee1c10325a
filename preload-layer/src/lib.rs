//! The fast path of a session: a shared object that dynamic programs preload.
//!
//! The session host's filter traps every call that could be the pod's. This layer stands in front of libc's functions
//! and marks the calls that are surely this machine's with the session's cookie, in the sixth argument, which the
//! kernel does not use there and the filter lets pass. It answers nothing itself: what is the pod's, or not certain,
//! is issued without the cookie and answered by the session host. So it holds nothing that would have to survive fork
//! or exec, and a program that loses it is slower and nothing else.
//!
//! Inside any libc call of any program there is little that may be done. Hooks do not allocate, lock, print, panic or
//! start threads; they issue raw system calls, so neither the loader nor another preloaded library (an allocator, say)
//! is entered; errno is written only where libc would write it. They work before this library's constructor has run
//! (other libraries' constructors come first): then nothing is marked. They work in signal handlers, after fork and in
//! the child of vfork: all state is written once, before it is published, but for [`folders`].
//!
//! Known differences from libc, all of them small:
//! - open(2) is no cancellation point here. A thread that waits in open(2) for the other end of a fifo is cancelled
//!   after the open has returned. Calls that really are waited in by threads that get cancelled (`recvmsg`, `sendmsg`)
//!   go through libc whenever they may wait, see [`hooks::messages`].
//! - a path pointer to memory that is not there ends the program instead of failing with EFAULT, unless it is null,
//!   in the first page, or no address of user space.
//!
//! Std is not linked into the product (profile `embedded`, panics abort). Other profiles link it because tests run on
//! it and because without it a crate cannot be built for unwinding.

#![cfg_attr(all(not(test), panic = "abort"), no_std)]

mod call;
mod folders;
pub mod hooks;
mod path;
mod plan;
mod real;
mod session;

/// There is nothing here that panics; a panic would leave the program in a state that nobody knows.
#[cfg(all(not(test), panic = "abort"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: takes nothing, never returns.
    unsafe { libc::abort() }
}
