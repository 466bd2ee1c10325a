//! The seccomp filter: which calls are trapped, and under which condition, as classic BPF.
//!
//! Everything a filter can see without reading memory is decided here, in the kernel: calls that carry the session's
//! cookie in their unused sixth argument pass, as do calls whose address or path argument is null.

use crate::sys::{Errno, errno};
use std::os::fd::{FromRawFd, OwnedFd};

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
/// x32 calls share the architecture and carry this bit.
const X32_BIT: u32 = 0x4000_0000;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const fn low(argument: u32) -> u32 {
    16 + argument * 8
}
const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

/// When a call of this number is trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Unless it carries the cookie.
    Always,
    /// When this argument is not null.
    NotNull(u32),
    /// Unless this flag is set in this argument: `fstat` by way of AT_EMPTY_PATH.
    Without(u32, u32),
    /// When this argument is one of these.
    OneOf(u32, &'static [u32]),
    /// Whatever the cookie says.
    EvenWithCookie,
}

/// One trapped call.
pub type Trap = (libc::c_long, When);

/// The traps of files, by path.
pub fn file_traps() -> Vec<Trap> {
    use When::{Always, NotNull, Without};
    let mut traps = vec![
        (libc::SYS_openat, Always),
        (libc::SYS_openat2, Always),
        (libc::SYS_newfstatat, Without(3, libc::AT_EMPTY_PATH as u32)),
        (libc::SYS_statx, Without(2, libc::AT_EMPTY_PATH as u32)),
        (libc::SYS_faccessat, Always),
        (libc::SYS_faccessat2, Always),
        (libc::SYS_readlinkat, Always),
        (libc::SYS_statfs, Always),
        (libc::SYS_getxattr, Always),
        (libc::SYS_lgetxattr, Always),
        (libc::SYS_listxattr, Always),
        (libc::SYS_llistxattr, Always),
        (libc::SYS_setxattr, Always),
        (libc::SYS_lsetxattr, Always),
        (libc::SYS_removexattr, Always),
        (libc::SYS_lremovexattr, Always),
        (libc::SYS_mkdirat, Always),
        (libc::SYS_mknodat, Always),
        (libc::SYS_unlinkat, Always),
        (libc::SYS_renameat2, Always),
        (libc::SYS_linkat, Always),
        (libc::SYS_symlinkat, Always),
        (libc::SYS_fchmodat, Always),
        (libc::SYS_fchmodat2, Always),
        (libc::SYS_fchownat, Always),
        (libc::SYS_utimensat, NotNull(1)),
        (libc::SYS_truncate, Always),
        (libc::SYS_renameat, Always),
        (libc::SYS_getcwd, Always),
    ];
    #[cfg(target_arch = "x86_64")]
    traps.extend([
        (libc::SYS_open, Always),
        (libc::SYS_creat, Always),
        (libc::SYS_stat, Always),
        (libc::SYS_lstat, Always),
        (libc::SYS_access, Always),
        (libc::SYS_readlink, Always),
        (libc::SYS_mkdir, Always),
        (libc::SYS_mknod, Always),
        (libc::SYS_rmdir, Always),
        (libc::SYS_unlink, Always),
        (libc::SYS_rename, Always),
        (libc::SYS_link, Always),
        (libc::SYS_symlink, Always),
        (libc::SYS_chmod, Always),
        (libc::SYS_chown, Always),
        (libc::SYS_lchown, Always),
        (libc::SYS_utime, Always),
        (libc::SYS_utimes, Always),
        (libc::SYS_futimesat, NotNull(1)),
    ]);
    traps
}

/// The traps of sockets.
pub fn socket_traps() -> Vec<Trap> {
    use When::{Always, NotNull};
    vec![
        (libc::SYS_connect, Always),
        (libc::SYS_bind, Always),
        (libc::SYS_listen, Always),
        (libc::SYS_accept, NotNull(1)),
        (libc::SYS_accept4, NotNull(1)),
        (libc::SYS_getsockname, Always),
        (libc::SYS_getpeername, Always),
        (libc::SYS_sendto, NotNull(4)),
        (libc::SYS_recvfrom, NotNull(4)),
        (libc::SYS_sendmsg, Always),
        (libc::SYS_recvmsg, Always),
        (libc::SYS_sendmmsg, Always),
        (libc::SYS_recvmmsg, Always),
    ]
}

/// The trap of making sockets, for where those of the program cannot be copied; `unix` for Unix sockets too.
pub fn making_traps(unix: bool) -> Vec<Trap> {
    const INET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];
    const ALL: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_UNIX as u32];
    vec![(libc::SYS_socket, When::OneOf(0, if unix { ALL } else { INET }))]
}

/// The traps that are always set: programs are watched as they start.
pub fn process_traps() -> Vec<Trap> {
    vec![(libc::SYS_execve, When::EvenWithCookie), (libc::SYS_execveat, When::EvenWithCookie)]
}

/// The trap that tells the pod's host name.
pub fn hostname_traps() -> Vec<Trap> {
    vec![(libc::SYS_uname, When::Always)]
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}
fn give(value: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}
fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k }
}

/// Writes the program that traps `traps` and lets `cookie` pass.
pub fn program(traps: &[Trap], cookie: u64) -> Vec<libc::sock_filter> {
    let mut code = vec![
        load(OFFSET_ARCH),
        jump(libc::BPF_JEQ, AUDIT_ARCH, 1, 0),
        give(RET_ALLOW),
        load(OFFSET_NR),
        jump(libc::BPF_JSET, X32_BIT, 0, 1),
        give(RET_ALLOW),
        // io_uring would do file and network work past the filter; programs fall back without it.
        jump(libc::BPF_JEQ, libc::SYS_io_uring_setup as u32, 0, 1),
        give(RET_ERRNO | libc::ENOSYS as u32),
    ];
    // Conditional traps first, each a block of its own that decides; A is reloaded where it does not match.
    for &(nr, when) in traps {
        let block: Vec<libc::sock_filter> = match when {
            When::Always => continue,
            When::EvenWithCookie => vec![give(RET_NOTIFY)],
            When::NotNull(argument) => {
                let mut block = vec![
                    load(low(argument)),
                    jump(libc::BPF_JEQ, 0, 0, 3),
                    load(high(argument)),
                    jump(libc::BPF_JEQ, 0, 0, 1),
                    give(RET_ALLOW),
                ];
                block.extend(unless_cookie(cookie));
                block
            }
            When::OneOf(argument, values) => {
                let mut block = vec![load(low(argument))];
                for (index, value) in values.iter().enumerate() {
                    // Over the rest of the list and the ALLOW behind it.
                    block.push(jump(libc::BPF_JEQ, *value, (values.len() - index) as u8, 0));
                }
                block.push(give(RET_ALLOW));
                block.extend(unless_cookie(cookie));
                block
            }
            When::Without(argument, flag) => {
                let mut block = vec![load(low(argument)), jump(libc::BPF_JSET, flag, 0, 1), give(RET_ALLOW)];
                block.extend(unless_cookie(cookie));
                block
            }
        };
        code.push(jump(libc::BPF_JEQ, nr as u32, 0, block.len() as u8));
        code.extend(block);
    }
    let plain: Vec<u32> =
        traps.iter().filter(|(_, when)| *when == When::Always).map(|(nr, _)| *nr as u32).collect();
    for (index, nr) in plain.iter().enumerate() {
        // Over the rest of the list and the ALLOW behind it.
        code.push(jump(libc::BPF_JEQ, *nr, (plain.len() - index) as u8, 0));
    }
    code.push(give(RET_ALLOW));
    code.extend(unless_cookie(cookie));
    code
}

fn unless_cookie(cookie: u64) -> [libc::sock_filter; 6] {
    [
        load(low(5)),
        jump(libc::BPF_JEQ, cookie as u32, 0, 3),
        load(high(5)),
        jump(libc::BPF_JEQ, (cookie >> 32) as u32, 0, 1),
        give(RET_ALLOW),
        give(RET_NOTIFY),
    ]
}

/// Puts the filter on the calling thread and all that it will start; answers the listener.
///
/// # Errors
/// EBUSY when a listener is already there, EINVAL before Linux 5.19 (no WAIT_KILLABLE_RECV), EPERM or ENOSYS where an
/// outer filter refuses.
pub fn install(program: &[libc::sock_filter]) -> Result<OwnedFd, Errno> {
    const SET_MODE_FILTER: libc::c_long = 1;
    const SPEC_ALLOW: libc::c_long = 1 << 2;
    const NEW_LISTENER: libc::c_long = 1 << 3;
    const WAIT_KILLABLE_RECV: libc::c_long = 1 << 5;
    let prog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr() as *mut _ };
    // SAFETY: the option takes integers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(errno());
    }
    // SAFETY: the program is readable for its length; the kernel checks it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            SPEC_ALLOW | NEW_LISTENER | WAIT_KILLABLE_RECV,
            &prog,
        )
    };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, on `seccomp_data`.
    fn run(code: &[libc::sock_filter], nr: i64, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(nr as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&AUDIT_ARCH.to_ne_bytes());
        for (index, value) in args.iter().enumerate() {
            data[16 + index * 8..24 + index * 8].copy_from_slice(&value.to_ne_bytes());
        }
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let step = code[at];
            let class = u32::from(step.code) & 7;
            at += 1;
            if class == libc::BPF_LD {
                let k = step.k as usize;
                a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
            } else if class == libc::BPF_RET {
                return step.k;
            } else {
                let holds = match u32::from(step.code) & 0xf0 {
                    libc::BPF_JEQ => a == step.k,
                    libc::BPF_JSET => a & step.k != 0,
                    other => panic!("no such jump {other}"),
                };
                at += usize::from(if holds { step.jt } else { step.jf });
            }
        }
    }

    fn all() -> Vec<Trap> {
        [file_traps(), socket_traps(), process_traps(), hostname_traps()].concat()
    }

    #[test]
    fn every_trap_is_notified_without_the_cookie_and_allowed_with_it() {
        let code = program(&all(), 0x1122_3344_5566_7788);
        for (nr, when) in all() {
            let mut args = [7, 7, 0, 0, 7, 0];
            assert_eq!(run(&code, nr, args), RET_NOTIFY, "call {nr}");
            args[5] = 0x1122_3344_5566_7788;
            let expected = if when == When::EvenWithCookie { RET_NOTIFY } else { RET_ALLOW };
            assert_eq!(run(&code, nr, args), expected, "call {nr} with the cookie");
            args[5] = 0x1122_3344_0000_0000;
            assert_eq!(run(&code, nr, args), RET_NOTIFY, "call {nr} with half the cookie");
        }
    }

    #[test]
    fn calls_without_an_address_or_path_stay_in_the_kernel() {
        let code = program(&all(), 1);
        for nr in [libc::SYS_sendto, libc::SYS_recvfrom] {
            assert_eq!(run(&code, nr, [3, 9, 9, 9, 0, 0]), RET_ALLOW);
            assert_eq!(run(&code, nr, [3, 9, 9, 9, 1 << 32, 0]), RET_NOTIFY, "only the high half set");
        }
        let empty_path = libc::AT_EMPTY_PATH as u64;
        assert_eq!(run(&code, libc::SYS_newfstatat, [3, 9, 9, empty_path, 0, 0]), RET_ALLOW);
        assert_eq!(run(&code, libc::SYS_statx, [3, 9, empty_path, 0, 0, 0]), RET_ALLOW);
        assert_eq!(run(&code, libc::SYS_read, [3, 9, 9, 0, 0, 0]), RET_ALLOW);
        assert_eq!(run(&code, libc::SYS_io_uring_setup, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
    }

    #[test]
    fn only_sockets_of_the_domains_named_are_made_for_the_program() {
        for unix in [false, true] {
            let mut traps = all();
            traps.extend(making_traps(unix));
            let code = program(&traps, 1);
            let of = |domain: i32| run(&code, libc::SYS_socket, [domain as u64, 1, 0, 0, 0, 0]);
            assert_eq!(of(libc::AF_INET), RET_NOTIFY);
            assert_eq!(of(libc::AF_INET6), RET_NOTIFY);
            assert_eq!(of(libc::AF_UNIX), if unix { RET_NOTIFY } else { RET_ALLOW });
            assert_eq!(of(libc::AF_NETLINK), RET_ALLOW);
        }
    }

    #[test]
    fn no_jump_is_longer_than_classic_bpf_can_say() {
        let plain = all().iter().filter(|(_, when)| *when == When::Always).count();
        assert!(plain < 255);
        assert!(program(&all(), 1).len() < 4096);
    }
}
