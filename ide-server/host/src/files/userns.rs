//! A FUSE mount without root: a helper process makes a user and a mount namespace, mounts there, and hands the device
//! and the mount's root over.
//!
//! The mount covers `/` of the helper's namespace, so that `/proc/PID/fd` shows the pod's own paths for files of it.
//! This process never enters those namespaces: inside them it could neither read the debuggee nor copy its sockets.
//! The helper ([`super::helper`]) holds nothing but the namespaces, and ends with the thread that made it.

use super::attr::device_of;
use super::helper::{Helper, Parent, SOCKET, errno, wait_for_end};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// A mount whose server is to be: nothing in it can be touched before [`super::fuse`] serves the device.
pub(super) struct Mounted {
    pub(super) device: OwnedFd,
    /// The root of the mount, as a path descriptor.
    pub(super) root: OwnedFd,
    pub(super) dev: u64,
    pub(super) helper: Helper,
}

/// What the helper does, in order; the number of the step that failed is what it reports.
const STEPS: [&str; 9] = [
    "make a user namespace",
    "forbid setgroups",
    "map the user",
    "map the group",
    "open /dev/fuse",
    "open the fuse file system (fsopen)",
    "configure the fuse file system (fsconfig)",
    "make the mount (fsmount)",
    "cover the root (move_mount)",
];

/// All that the helper needs, made before the fork: after it nothing may allocate.
struct Plan {
    uid_map: CString,
    gid_map: CString,
    user: CString,
    group: CString,
}

pub(super) fn mount() -> Result<Mounted, String> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let text = |text: String| CString::new(text).map_err(|error| error.to_string());
    let plan = Plan {
        uid_map: text(format!("{uid} {uid} 1"))?,
        gid_map: text(format!("{gid} {gid} 1"))?,
        user: text(uid.to_string())?,
        group: text(gid.to_string())?,
    };
    let helper = Helper::fork(Parent::Needed, || hold(&plan))
        .map_err(|error| format!("no helper process: {error}"))?;
    let Some(socket) = &helper.socket else { return Err("the helper has no socket".into()) };
    let (report, fds) = receive(socket).map_err(|error| format!("the helper process ended: {error}"))?;
    let Some([device, root]) = fds else {
        let [step, errno] = report;
        let step = usize::try_from(step).ok().and_then(|step| STEPS.get(step)).unwrap_or(&"start");
        return Err(format!("cannot {step}: {}", io::Error::from_raw_os_error(errno)));
    };
    let dev = device_of(&root).map_err(|error| format!("the mount cannot be looked at: {error}"))?;
    Ok(Mounted { device, root, dev, helper })
}

/// The helper's life.
fn hold(plan: &Plan) {
    let (report, fds) = match set_up(plan) {
        Ok(fds) => ([0, 0], Some(fds)),
        Err(failed) => (failed, None),
    };
    send(SOCKET, report, fds);
    for fd in fds.into_iter().flatten() {
        // SAFETY: closes descriptors that only this process knows.
        unsafe { libc::close(fd) };
    }
    if fds.is_some() {
        wait_for_end(&mut []);
    }
}

/// Makes the namespaces and the mount: the device and the mount's root, or the step and its errno.
fn set_up(plan: &Plan) -> Result<[RawFd; 2], [i32; 2]> {
    fn checked(step: i32, result: i64) -> Result<RawFd, [i32; 2]> {
        if result < 0 { Err([step, errno()]) } else { Ok(result as RawFd) }
    }
    const SET_STRING: u32 = 1;
    const CREATE: u32 = 6;
    // No setuid programs, no devices, no access times. What may be written to is for the server to say.
    const ATTRIBUTES: u32 = 0x2 | 0x4 | 0x10;
    // SAFETY: system calls on constants, on the plan's C strings and on a local buffer, all alive through the call.
    unsafe {
        checked(0, libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).into())?;
        checked(1, put(c"/proc/self/setgroups", c"deny").into())?;
        checked(2, put(c"/proc/self/uid_map", &plan.uid_map).into())?;
        checked(3, put(c"/proc/self/gid_map", &plan.gid_map).into())?;
        // Of the namespace that mounts, else the kernel refuses it.
        let device = libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        let device = checked(4, device.into())?;
        let context = checked(5, libc::syscall(libc::SYS_fsopen, c"fuse".as_ptr(), 1u32))?;
        let mut digits = [0u8; 12];
        let options: [(&CStr, &CStr); 7] = [
            (c"source", c"pod"),
            (c"fd", decimal(device, &mut digits)),
            (c"rootmode", c"40000"),
            (c"user_id", &plan.user),
            (c"group_id", &plan.group),
            (c"max_read", c"262144"),
            (c"subtype", c"mirrord-ide"),
        ];
        for (key, value) in options {
            let set = libc::syscall(libc::SYS_fsconfig, context, SET_STRING, key.as_ptr(), value.as_ptr(), 0);
            checked(6, set)?;
        }
        let none = std::ptr::null::<u8>();
        checked(6, libc::syscall(libc::SYS_fsconfig, context, CREATE, none, none, 0))?;
        let root = checked(7, libc::syscall(libc::SYS_fsmount, context, 1u32, ATTRIBUTES))?;
        libc::close(context);
        const FROM_FD_ITSELF: u32 = 4;
        let moved = libc::syscall(
            libc::SYS_move_mount,
            root,
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/".as_ptr(),
            FROM_FD_ITSELF,
        );
        checked(8, moved)?;
        Ok([device, root])
    }
}

/// Writes a small file of /proc; negative when it failed.
fn put(path: &CStr, text: &CStr) -> i32 {
    // SAFETY: both are C strings alive through the calls; the length is the text's own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return -1;
        }
        let written = libc::write(fd, text.as_ptr().cast(), text.to_bytes().len());
        let failed = errno();
        libc::close(fd);
        *libc::__errno_location() = failed;
        if written < 0 { -1 } else { 0 }
    }
}

/// The number as text, without an allocation.
fn decimal(number: RawFd, digits: &mut [u8; 12]) -> &CStr {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len() - 1;
    digits[start] = 0;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return CStr::from_bytes_until_nul(&digits[start..]).unwrap_or(c"");
        }
    }
}

const FDS: usize = 2 * size_of::<RawFd>();
/// Room for a control message of two descriptors.
#[repr(align(8))]
struct Control([u8; 64]);

fn message<'a>(
    report: &'a mut [i32; 2],
    part: &'a mut libc::iovec,
    control: &'a mut Control,
) -> libc::msghdr {
    *part = libc::iovec { iov_base: report.as_mut_ptr().cast(), iov_len: size_of_val(report) };
    // SAFETY: struct msghdr is integers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: computes a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(FDS as u32) } as _;
    message
}

/// Helper's side: no allocation here.
fn send(socket: RawFd, mut report: [i32; 2], fds: Option<[RawFd; 2]>) {
    let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut control = Control([0; 64]);
    let mut message = message(&mut report, &mut part, &mut control);
    match fds {
        // SAFETY: the control buffer is aligned and longer than CMSG_SPACE of two descriptors.
        Some(fds) => unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(FDS as u32) as _;
            libc::CMSG_DATA(header).cast::<[RawFd; 2]>().write_unaligned(fds);
        },
        None => message.msg_controllen = 0,
    }
    // SAFETY: the message points to buffers that live through the call. If it fails the parent sees end of file.
    unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
}

type Received = ([i32; 2], Option<[OwnedFd; 2]>);

fn receive(socket: &UnixStream) -> io::Result<Received> {
    let mut report = [0; 2];
    let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut control = Control([0; 64]);
    let mut message = message(&mut report, &mut part, &mut control);
    let received = loop {
        // SAFETY: the message points to buffers that live through the call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if received >= 0 || errno() != libc::EINTR {
            break received;
        }
    };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer; a header it made is valid, and the descriptors in it are ours.
    let fds = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let right = !header.is_null()
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize == libc::CMSG_LEN(FDS as u32) as usize;
        right.then(|| {
            let fds = libc::CMSG_DATA(header).cast::<[RawFd; 2]>().read_unaligned();
            fds.map(|fd| OwnedFd::from_raw_fd(fd))
        })
    };
    if received as usize != size_of_val(&report) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((report, fds))
}
