//! Reading and writing a caller's memory: paths, addresses, structures.

use crate::sys::{self, Errno};

const PAGE: u64 = 4096;
/// PATH_MAX of Linux, with the NUL.
pub const PATH_MAX: usize = 4096;

/// A NUL-terminated path, without the NUL. Read page by page: a string may end right before an unmapped page.
///
/// # Errors
/// EFAULT for a bad pointer, ENAMETOOLONG beyond PATH_MAX; EPERM and ESRCH as process_vm_readv(2).
pub fn path(tid: u32, address: u64) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::with_capacity(256);
    let mut buffer = [0u8; 512];
    let mut at = address;
    while out.len() < PATH_MAX {
        let room = (PAGE - at % PAGE).min(buffer.len() as u64) as usize;
        let n = sys::read_memory(tid, at, &mut buffer[..room])?;
        if n == 0 {
            return Err(libc::EFAULT);
        }
        if let Some(end) = buffer[..n].iter().position(|byte| *byte == 0) {
            out.extend_from_slice(&buffer[..end]);
            return if out.len() < PATH_MAX { Ok(out) } else { Err(libc::ENAMETOOLONG) };
        }
        out.extend_from_slice(&buffer[..n]);
        at += n as u64;
    }
    Err(libc::ENAMETOOLONG)
}

/// Exactly `length` bytes.
///
/// # Errors
/// EFAULT when not all of them are readable.
pub fn bytes(tid: u32, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut out = vec![0u8; length];
    if length > 0 && sys::read_memory(tid, address, &mut out)? != length {
        return Err(libc::EFAULT);
    }
    Ok(out)
}

/// A `u32` in the machine's own order.
pub fn u32_at(tid: u32, address: u64) -> Result<u32, Errno> {
    let mut out = [0u8; 4];
    if sys::read_memory(tid, address, &mut out)? != out.len() {
        return Err(libc::EFAULT);
    }
    Ok(u32::from_ne_bytes(out))
}

/// A `sockaddr` of the caller's, as long as the caller says; EINVAL beyond what any family has.
pub fn address(tid: u32, address: u64, length: u64) -> Result<Vec<u8>, Errno> {
    if length > 128 {
        return Err(libc::EINVAL);
    }
    bytes(tid, address, length as usize)
}

/// Gives an address back the way accept(2) and getsockname(2) do: cut to the room, the true length told.
///
/// # Errors
/// EINVAL for a negative room; EFAULT, EPERM and ESRCH as process_vm_writev(2).
pub fn put_address(tid: u32, to: u64, length_at: u64, address: &[u8]) -> Result<(), Errno> {
    if to == 0 {
        return Ok(());
    }
    let room = u32_at(tid, length_at)? as i32;
    let room = usize::try_from(room).map_err(|_| libc::EINVAL)?;
    sys::write_memory(tid, to, &address[..room.min(address.len())])?;
    sys::write_memory(tid, length_at, &(address.len() as u32).to_ne_bytes())
}

/// A structure of the kernel's as its bytes.
pub fn structure<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: plain data of the kernel's interface, read as bytes for its own size while borrowed.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
