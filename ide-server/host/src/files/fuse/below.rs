//! Opening below the mount's own root: what becomes the descriptor of the debuggee.

use crate::files::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What of an open's flags goes to the mount, where it is only for reading.
pub(super) const KEPT: i32 =
    libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_APPEND;

/// openat2(2) below the mount's root, in which links cannot lead out.
pub(super) fn open_below(root: &OwnedFd, path: &[u8], flags: i32) -> Result<OwnedFd, Errno> {
    let relative = match path.strip_prefix(b"/").unwrap_or(path) {
        b"" => &b"."[..],
        path => path,
    };
    let relative = CString::new(relative).map_err(|_| libc::ENOENT)?;
    // SAFETY: struct open_how is plain integers, for which all zeroes is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // The path is without links; a link that took a name's place meanwhile is another file than was found.
    how.flags = (flags | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u32 as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is a C string and the struct has the size given; both outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            relative.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
