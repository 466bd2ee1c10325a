//! A FUSE mount by the system's setuid helper, for systems that bar user namespaces from mounting.
//!
//! The mount is in the session's folder. `auto_unmount` has the helper stay and unmount when our end of its socket
//! closes, so that a killed session leaves no dead mount behind.

use super::attr::device_of;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut, Read};
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

/// Undoes the mount when dropped.
pub(super) struct Unmount {
    mountpoint: PathBuf,
    program: &'static str,
    mounted: bool,
    /// While it is open the helper leaves the mount alone.
    _held: Option<UnixStream>,
}

impl Unmount {
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for Unmount {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: descriptors of the debuggee stay good until they are closed.
            let done = Command::new(self.program)
                .args(["-u", "-z", "-q", "--"])
                .arg(&self.mountpoint)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
                tracing::warn!(mountpoint = %self.mountpoint.display(), ?done, "the files' mount was not undone");
            }
        }
        if let Err(error) = std::fs::remove_dir(&self.mountpoint) {
            tracing::warn!(mountpoint = %self.mountpoint.display(), %error, "the mount's folder is left behind");
        }
    }
}

pub(super) fn mount(folder: &Path) -> Result<Mounted, String> {
    let mountpoint = folder.join("pod");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&mountpoint)
        .map_err(|error| format!("no folder for the mount: {error}"))?;
    let mountpoint = std::fs::canonicalize(&mountpoint).unwrap_or(mountpoint);
    let mut missing = String::new();
    for program in ["fusermount3", "fusermount"] {
        let mut unmount = Unmount { mountpoint: mountpoint.clone(), program, mounted: false, _held: None };
        match run(&mut unmount) {
            Ok((device, root, dev)) => return Ok(Mounted { device, root, dev, unmount }),
            Err(Refused::NotThere) => {
                missing = "neither fusermount3 nor fusermount is installed (package fuse3)".to_owned();
                // The folder goes with `unmount`; the next program needs it again.
                drop(unmount);
                if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&mountpoint) {
                    return Err(format!("no folder for the mount: {error}"));
                }
            }
            Err(Refused::Because(reason)) => return Err(format!("{program} refused: {reason}")),
        }
    }
    if let Err(error) = std::fs::remove_dir(&mountpoint) {
        tracing::warn!(%error, "the mount's folder is left behind");
    }
    Err(missing)
}

enum Refused {
    NotThere,
    Because(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Because(error.to_string())
    }
}

fn run(unmount: &mut Unmount) -> Result<(OwnedFd, OwnedFd, u64), Refused> {
    /// Where the helper finds its end of the socket.
    const COMM: RawFd = 3;
    let (own, helpers) = UnixStream::pair()?;
    let mut options = OsString::from("ro,nosuid,nodev,noatime,auto_unmount,max_read=262144");
    options.push(",fsname=pod,subtype=mirrord-ide");
    let mut command = Command::new(unmount.program);
    command.arg("-o").arg(options).arg("--").arg(&unmount.mountpoint);
    command.env("_FUSE_COMMFD", COMM.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Ctrl-C is for the debuggee.
    command.process_group(0);
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
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::NotThere),
        child => child?,
    };
    drop(helpers);
    let device = receive(&own)?;
    // With auto_unmount the program leaves a child of its own behind, which holds no pipe of ours.
    let Some(device) = device else {
        let mut said = String::new();
        if let Some(stderr) = child.stderr.as_mut() {
            stderr.take(4096).read_to_string(&mut said)?;
        }
        child.wait()?;
        let said = said.trim();
        let said = if said.is_empty() { "it gave no reason" } else { said };
        return Err(Refused::Because(said.to_owned()));
    };
    unmount.mounted = true;
    reap(child);
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = OpenOptions::new().read(true).custom_flags(flags).open(&unmount.mountpoint)?;
    let root = OwnedFd::from(root);
    let dev = device_of(&root)?;
    unmount._held = Some(own);
    Ok((device, root, dev))
}

/// Some versions stay as the watcher, some leave one behind: either way nobody waits here.
fn reap(mut child: std::process::Child) {
    let reaper = std::thread::Builder::new().name("files-reaper".into()).stack_size(128 << 10);
    let spawned = reaper.spawn(move || {
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "the mount helper was reaped by another");
        }
    });
    if let Err(error) = spawned {
        tracing::debug!(%error, "the mount helper stays as a zombie until the end");
    }
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
