//! A FUSE mount by the system's setuid helper, for systems that bar user namespaces from mounting.
//!
//! The mount is in the session's folder. Whatever ends this process, a helper forked beforehand unmounts: the program's
//! own `auto_unmount` leaves the dead mounts of ordinary users alone before libfuse 3.15.

use super::attr::device_of;
use super::helper::{Helper, Parent, wait_for_end};
use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mount whose server is to be.
pub(super) struct Mounted {
    pub(super) device: OwnedFd,
    pub(super) root: OwnedFd,
    pub(super) dev: u64,
    pub(super) unmount: Unmount,
}

/// Undoes the mount when dropped, or when this process ends.
pub(super) struct Unmount {
    mountpoint: PathBuf,
    undertaker: Option<Undertaker>,
}

impl Unmount {
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(self.undertaker.take());
        if self.mountpoint.symlink_metadata().is_ok() {
            tracing::warn!(mountpoint = %self.mountpoint.display(), "the files' mount is left behind");
        }
    }
}

/// The process that unmounts at the end. Forked before it is known whether it will be needed, for then there is one
/// thread still.
pub(super) struct Undertaker(Helper);

impl Undertaker {
    pub(super) fn hire() -> io::Result<Self> {
        Helper::fork(Parent::Outlived, unmount_at_the_end).map(Self)
    }

    /// Tells where the mount is going to be.
    fn look_after(&self, mountpoint: &Path) -> io::Result<()> {
        match &self.0.socket {
            Some(socket) => (&mut &*socket).write_all(mountpoint.as_os_str().as_encoded_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The undertaker's life.
fn unmount_at_the_end() {
    let mut path = [0u8; libc::PATH_MAX as usize];
    let room = path.len() - 1;
    if wait_for_end(&mut path[..room]) == 0 {
        return;
    }
    let path = path.as_ptr().cast();
    for program in PROGRAMS {
        // Lazily: descriptors of the debuggee stay good until they are closed.
        let arguments = [
            program.as_ptr(),
            c"-u".as_ptr(),
            c"-z".as_ptr(),
            c"-q".as_ptr(),
            c"--".as_ptr(),
            path,
            std::ptr::null(),
        ];
        // SAFETY: this process has one thread; the strings are constants or a local buffer that ends with NUL.
        unsafe {
            match libc::fork() {
                0 => {
                    libc::execvp(program.as_ptr(), arguments.as_ptr());
                    libc::_exit(127);
                }
                child => {
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
            }
        }
    }
    // SAFETY: the path ends with NUL. It is gone already where the parent had time for it.
    unsafe { libc::rmdir(path) };
}

pub(super) fn mount(undertaker: Undertaker, folder: &Path) -> Result<Mounted, String> {
    let mountpoint = folder.join("pod");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&mountpoint)
        .map_err(|error| format!("no folder for the mount: {error}"))?;
    let mountpoint = std::fs::canonicalize(&mountpoint)
        .map_err(|error| format!("the folder for the mount has no path: {error}"))?;
    // From here on the folder goes too, whatever happens.
    undertaker.look_after(&mountpoint).map_err(|error| format!("no helper process: {error}"))?;
    let unmount = Unmount { mountpoint, undertaker: Some(undertaker) };
    for program in PROGRAMS.iter().filter_map(|program| program.to_str().ok()) {
        match run(program, &unmount.mountpoint) {
            Ok((device, root, dev)) => return Ok(Mounted { device, root, dev, unmount }),
            Err(Refused::NotThere) => {}
            Err(Refused::Because(reason)) => return Err(format!("{program} refused: {reason}")),
        }
    }
    Err("neither fusermount3 nor fusermount is installed (package fuse3)".into())
}

const PROGRAMS: [&CStr; 2] = [c"fusermount3", c"fusermount"];

enum Refused {
    NotThere,
    Because(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Because(error.to_string())
    }
}

fn run(program: &str, mountpoint: &Path) -> Result<(OwnedFd, OwnedFd, u64), Refused> {
    /// Where the program finds its end of the socket.
    const COMM: RawFd = 3;
    const OPTIONS: &str = "nosuid,nodev,noatime,max_read=262144,fsname=pod,subtype=mirrord-ide";
    let (own, helpers) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.args(["-o", OPTIONS, "--"]).arg(mountpoint);
    command.env("_FUSE_COMMFD", COMM.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let given = helpers.as_raw_fd();
    // SAFETY: between fork and exec only system calls are made, on numbers: the helper's end gets the number it was
    // told, and stays open over exec.
    unsafe {
        command.pre_exec(move || match given {
            COMM => match libc::fcntl(COMM, libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
            given => match libc::dup2(given, COMM) {
                COMM => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        });
    }
    let child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::NotThere),
        child => child?,
    };
    drop(helpers);
    let device = receive(&own)?;
    let output = child.wait_with_output()?;
    let Some(device) = device else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Refused::Because(if said.is_empty() { "it gave no reason".into() } else { said }));
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = OpenOptions::new().read(true).custom_flags(flags).open(mountpoint)?;
    let root = OwnedFd::from(root);
    let dev = device_of(&root)?;
    Ok((device, root, dev))
}

/// The device, or `None` when the helper closed without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            message => break message?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds[..]
        {
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(None)
}
