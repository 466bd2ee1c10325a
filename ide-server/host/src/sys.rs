//! The few kernel calls that no library wraps, each behind a safe function that answers `Result<_, Errno>`.
//!
//! All `unsafe` of the traps and sockets lives here; callers pass slices and owned descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// A Linux error number, as errno(3) names it.
pub type Errno = i32;

/// The error of the last call in this thread.
pub fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = check(result)? as RawFd;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads another process's memory; short when the range runs into an unmapped page.
pub fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: buffer.len() };
    // SAFETY: `local` is the caller's own buffer; the kernel checks the remote range.
    let n = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    match check(n as libc::c_long) {
        Err(refusal @ (libc::EPERM | libc::ENOSYS)) => {
            memory_file(pid, refusal, |file| file.read_at(buffer, address))
        }
        result => result.map(|n| n as usize),
    }
}

/// Writes another process's memory, whole or not at all as far as one page allows.
pub fn write_memory(pid: u32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    if bytes.is_empty() {
        return Ok(());
    }
    let local = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
    // SAFETY: the kernel only reads `local`, and checks the remote range.
    let n = unsafe { libc::process_vm_writev(pid as i32, &local, 1, &remote, 1, 0) };
    let n = match check(n as libc::c_long) {
        Err(refusal @ (libc::EPERM | libc::ENOSYS)) => {
            memory_file(pid, refusal, |file| file.write_at(bytes, address))?
        }
        result => result? as usize,
    };
    if n == bytes.len() { Ok(()) } else { Err(libc::EFAULT) }
}

/// Memory by way of /proc, for containers that refuse the calls made for it; what the kernel itself refuses stays
/// refused.
fn memory_file(
    pid: u32,
    refusal: Errno,
    work: impl FnOnce(std::fs::File) -> std::io::Result<usize>,
) -> Result<usize, Errno> {
    let file = std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
    // An address that is not mapped is EIO here.
    work(file.map_err(|_| refusal)?).map_err(|_| libc::EFAULT)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: u32, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })
}

/// pidfd_getfd(2): another process's descriptor, close-on-exec here.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// socket(2), close-on-exec here whatever `kind` says.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// The inode number of an open file.
pub fn inode(fd: &impl AsRawFd) -> Result<u64, Errno> {
    // SAFETY: zero is a value of this plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) }.into()).map(|_| stat.st_ino)
}

/// An integer socket option.
pub fn socket_option(fd: &impl AsRawFd, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` and `length` are ours and agree.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut length) };
    check(result.into()).map(|_| value)
}

/// The socket's identity for as long as it lives, whoever holds it (SO_COOKIE).
pub fn socket_cookie(fd: &impl AsRawFd) -> Result<u64, Errno> {
    let mut value = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `value` and `length` are ours and agree.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut value).cast(),
            &mut length,
        )
    };
    check(result.into()).map(|_| value)
}

type NameCall = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn name_of(call: NameCall, fd: &impl AsRawFd) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 128];
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the buffer has `length` writable bytes.
    let result = unsafe { call(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), &mut length) };
    check(result.into())?;
    buffer.truncate(length as usize);
    Ok(buffer)
}

/// getsockname(2) as raw bytes.
pub fn local_name(fd: &impl AsRawFd) -> Result<Vec<u8>, Errno> {
    name_of(libc::getsockname, fd)
}

/// getpeername(2) as raw bytes.
pub fn peer_name(fd: &impl AsRawFd) -> Result<Vec<u8>, Errno> {
    name_of(libc::getpeername, fd)
}

/// connect(2) to a raw address.
pub fn connect(fd: &impl AsRawFd, address: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is readable for its length.
    let result =
        unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// bind(2) to a raw address.
pub fn bind(fd: &impl AsRawFd, address: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is readable for its length.
    let result =
        unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// listen(2).
pub fn listen(fd: &impl AsRawFd, backlog: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }.into()).map(drop)
}

/// accept4(2), close-on-exec here; `flags` may add SOCK_NONBLOCK.
pub fn accept(fd: &impl AsRawFd, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: null pointers ask for no address.
    owned(
        unsafe {
            libc::accept4(
                fd.as_raw_fd(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                flags | libc::SOCK_CLOEXEC,
            )
        }
        .into(),
    )
}

/// sendto(2) to a raw address.
pub fn send_to(fd: &impl AsRawFd, bytes: &[u8], flags: i32, address: &[u8]) -> Result<usize, Errno> {
    // SAFETY: both slices are readable for their lengths.
    let n = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            address.as_ptr().cast(),
            address.len() as libc::socklen_t,
        )
    };
    check(n as libc::c_long).map(|n| n as usize)
}

/// recvfrom(2): the length (by MSG_TRUNC of the whole datagram) and the raw source address.
pub fn receive_from(fd: &impl AsRawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, Vec<u8>), Errno> {
    let mut address = vec![0u8; 128];
    let mut length = address.len() as libc::socklen_t;
    // SAFETY: buffer and address are writable for their lengths.
    let n = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            address.as_mut_ptr().cast(),
            &mut length,
        )
    };
    let n = check(n as libc::c_long)? as usize;
    address.truncate(length as usize);
    Ok((n, address))
}

/// Whether O_NONBLOCK is set.
pub fn is_nonblocking(fd: &impl AsRawFd) -> bool {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK != 0
}

/// Whether a read or accept would find something now.
pub fn is_readable(fd: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd of ours.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// Opens a path of this machine, close-on-exec.
pub fn open_local(path: &[u8], flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let path = std::ffi::CString::new(path).map_err(|_| libc::EINVAL)?;
    // SAFETY: the string ends with NUL.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) }.into())
}

/// The device of what a path leads to, without a question to whoever serves it: that may be ourselves.
pub fn device_of(path: &str) -> Result<u64, Errno> {
    let path = std::ffi::CString::new(path).map_err(|_| libc::EINVAL)?;
    // SAFETY: zero is a value of this plain structure.
    let mut shown: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL, the structure is ours.
    let result =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), libc::AT_STATX_DONT_SYNC, 0, &mut shown) };
    check(result.into())?;
    Ok(libc::makedev(shown.stx_dev_major, shown.stx_dev_minor))
}

/// access(2) by the effective ids.
pub fn access_local(path: &[u8], mode: i32) -> Result<(), Errno> {
    let path = std::ffi::CString::new(path).map_err(|_| libc::EINVAL)?;
    // SAFETY: the string ends with NUL.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    check(result.into()).map(drop)
}

/// A sealed, read-only file in memory; each caller reopens it for an offset of its own.
pub fn sealed_file(name: &std::ffi::CStr, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    use std::io::Write;
    // SAFETY: the name ends with NUL.
    let fd = owned(
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) }.into(),
    )?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(file.into())
}

/// Opens an own descriptor once more, with an offset of its own.
pub fn reopen(fd: &impl AsRawFd, flags: i32) -> Result<OwnedFd, Errno> {
    open_local(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes(), flags, 0)
}

/// Raises this process's own limit of open files to what it may be raised to. Its children of before keep theirs.
pub fn raise_file_limit() -> Result<(), Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }.into())?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the structure is ours.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }.into()).map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// prctl(2) with one integer argument.
pub fn prctl(option: i32, argument: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the options used take integers.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(drop)
}

/// Names this process as ps(1) shows it.
pub fn name_process(name: &std::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: the string ends with NUL; the kernel copies 16 bytes at most.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }.into()).map(drop)
}

/// Lets a terminal's or a process group's signals pass this process by.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN is no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Ids of all living descendants of `pid`, from /proc; the nearest first.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut queue = vec![pid];
    while let Some(parent) = queue.pop() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for task in tasks.flatten() {
            let Ok(children) = std::fs::read_to_string(task.path().join("children")) else { continue };
            for child in children.split_ascii_whitespace().filter_map(|word| word.parse().ok()) {
                found.push(child);
                queue.push(child);
            }
        }
    }
    found
}

/// Kills all descendants of this process and reaps them, until none is left or two seconds are over.
pub fn kill_descendants() {
    let own = std::process::id() as i32;
    for _ in 0..100 {
        let all = descendants(own);
        for pid in &all {
            // A process that has just gone is what we want.
            let _ = kill(*pid, libc::SIGKILL);
        }
        // SAFETY: null asks for no status.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        if all.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
