//! How a file of the pod appears here: device, inode number, owner, and the structs that carry them.
//!
//! stat(path), fstat(fd) and the entries of a directory must tell the same story, or `cp` refuses the file. So this is
//! the only place that turns the pod's figures into shown ones, and it shows what the kernel makes of a FUSE answer.

use super::Rights;
use super::lookup::Creds;
use protocol::agent::Stat;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;

/// Turns the pod's figures into shown ones.
pub(super) struct Appearance {
    /// `st_dev` of everything shown.
    dev: u64,
    pod: (u32, u32),
    own: (u32, u32),
    /// What the kernel shows for owners that the mount's namespace does not map; `None` when it maps all.
    overflow: Option<(u32, u32)>,
    /// The pod's devices in the order they were met: all are one device here, so their number goes into the inode's.
    devices: Mutex<Vec<u64>>,
}

impl Appearance {
    /// For a mount of our own user namespace, which knows one user and one group.
    pub(super) fn in_own_namespace(creds: &Creds, dev: u64) -> Self {
        Self::new(creds, dev, Some((overflow_id("uid"), overflow_id("gid"))))
    }

    /// For a mount or folder of the namespace that the debuggee lives in.
    pub(super) fn in_this_namespace(creds: &Creds, dev: u64) -> Self {
        Self::new(creds, dev, None)
    }

    fn new(creds: &Creds, dev: u64, overflow: Option<(u32, u32)>) -> Self {
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Self { dev, pod: (creds.uid, creds.gid), own, overflow, devices: Mutex::default() }
    }

    /// The inode number, unique among all of the pod's devices and the same all session long.
    pub(super) fn ino(&self, stat: &Stat) -> u64 {
        let mut devices = super::lookup::lock(&self.devices);
        let number = devices.iter().position(|&dev| dev == stat.dev).unwrap_or_else(|| {
            devices.push(stat.dev);
            devices.len() - 1
        });
        match stat.ino ^ (number as u64) << 48 {
            // Readers of directories skip entries of number 0.
            0 => 1 << 47,
            ino => ino,
        }
    }

    /// Owner and group: the pod process's become our own, so that "is it mine" gives the pod's answer.
    ///
    /// A file that may be written to has an owner whom the mount's namespace knows, else the kernel itself refuses.
    pub(super) fn owner(&self, stat: &Stat, rights: Rights) -> (u32, u32) {
        let shown = |id: u32, pod: u32, own: u32, overflow: Option<u32>| match overflow {
            _ if id == pod || id == own => own,
            Some(_) if is_live(stat, rights) => own,
            Some(overflow) => overflow,
            None => id,
        };
        (
            shown(stat.uid, self.pod.0, self.own.0, self.overflow.map(|ids| ids.0)),
            shown(stat.gid, self.pod.1, self.own.1, self.overflow.map(|ids| ids.1)),
        )
    }

    /// The same as FUSE is told it: the kernel itself shows what its namespace does not map as the overflow owner.
    pub(super) fn sent_owner(&self, stat: &Stat, rights: Rights) -> (u32, u32) {
        let known = self.overflow.is_some() && is_live(stat, rights);
        let sent = |id: u32, pod: u32, own: u32| if id == pod || known { own } else { id };
        (sent(stat.uid, self.pod.0, self.own.0), sent(stat.gid, self.pod.1, self.own.1))
    }

    /// Owner and group in the pod, of those that are set here.
    pub(super) fn owner_there(&self, uid: Option<u32>, gid: Option<u32>) -> (Option<u32>, Option<u32>) {
        let there = |id: u32, pod: u32, own: u32| if id == own { pod } else { id };
        (uid.map(|id| there(id, self.pod.0, self.own.0)), gid.map(|id| there(id, self.pod.1, self.own.1)))
    }

    /// `struct stat`, as the kernel will give it for a descriptor.
    pub(super) fn stat(&self, stat: &Stat, rights: Rights) -> libc::stat {
        let (uid, gid) = self.owner(stat, rights);
        // SAFETY: struct stat is plain integers, for which all zeroes is a value.
        let mut shown: libc::stat = unsafe { std::mem::zeroed() };
        shown.st_dev = self.dev;
        shown.st_ino = self.ino(stat);
        shown.st_mode = stat.mode;
        shown.st_nlink = stat.nlink.into();
        shown.st_uid = uid;
        shown.st_gid = gid;
        shown.st_rdev = stat.rdev;
        shown.st_size = i64::try_from(stat.size).unwrap_or(i64::MAX);
        shown.st_blksize = i64::from(blksize(stat)) as _;
        shown.st_blocks = i64::try_from(stat.blocks).unwrap_or(i64::MAX);
        (shown.st_atime, shown.st_atime_nsec) = (stat.atime, stat.atime_nsec.into());
        (shown.st_mtime, shown.st_mtime_nsec) = (stat.mtime, stat.mtime_nsec.into());
        (shown.st_ctime, shown.st_ctime_nsec) = (stat.ctime, stat.ctime_nsec.into());
        shown
    }
}

/// Whether a file is shown as it is now, and can be written to.
pub(super) fn is_live(stat: &Stat, rights: Rights) -> bool {
    rights == Rights::ReadWrite && stat.mode & libc::S_IFMT == libc::S_IFREG
}

/// The block size as FUSE keeps it: a power of two.
pub(super) fn blksize(stat: &Stat) -> u32 {
    1 << stat.blksize.checked_ilog2().unwrap_or(12)
}

/// statx(2)'s basic fields of a `struct stat`.
pub(super) fn statx_of(stat: &libc::stat) -> libc::statx {
    // SAFETY: struct statx is plain integers, for which all zeroes is a value.
    let mut shown: libc::statx = unsafe { std::mem::zeroed() };
    shown.stx_mask = libc::STATX_BASIC_STATS;
    shown.stx_blksize = stat.st_blksize as u32;
    shown.stx_nlink = stat.st_nlink as u32;
    shown.stx_uid = stat.st_uid;
    shown.stx_gid = stat.st_gid;
    shown.stx_mode = stat.st_mode as u16;
    shown.stx_ino = stat.st_ino;
    shown.stx_size = stat.st_size as u64;
    shown.stx_blocks = stat.st_blocks as u64;
    shown.stx_dev_major = libc::major(stat.st_dev);
    shown.stx_dev_minor = libc::minor(stat.st_dev);
    shown.stx_rdev_major = libc::major(stat.st_rdev);
    shown.stx_rdev_minor = libc::minor(stat.st_rdev);
    (shown.stx_atime.tv_sec, shown.stx_atime.tv_nsec) = (stat.st_atime, stat.st_atime_nsec as u32);
    (shown.stx_mtime.tv_sec, shown.stx_mtime.tv_nsec) = (stat.st_mtime, stat.st_mtime_nsec as u32);
    (shown.stx_ctime.tv_sec, shown.stx_ctime.tv_nsec) = (stat.st_ctime, stat.st_ctime_nsec as u32);
    shown
}

/// fstat(2), also of descriptors made with `O_PATH`.
pub(super) fn fstat(fd: &impl AsRawFd) -> io::Result<libc::stat> {
    // SAFETY: struct stat is plain integers, for which all zeroes is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open as long as it is borrowed, and the struct is ours to be written.
    if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat)
}

/// The device of a mount, without a question to whoever serves it: nobody may yet.
pub(super) fn device_of(fd: &OwnedFd) -> io::Result<u64> {
    // SAFETY: struct statx is plain integers, for which all zeroes is a value.
    let mut shown: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is a constant C string, the struct is ours to be written.
    if unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, 0, &raw mut shown) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::makedev(shown.stx_dev_major, shown.stx_dev_minor))
}

fn overflow_id(kind: &str) -> u32 {
    // 65534 is the kernel's own default, for systems that hide the file.
    std::fs::read_to_string(format!("/proc/sys/kernel/overflow{kind}"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65534)
}
