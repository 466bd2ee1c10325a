//! A terminal of the holder's own, which outlives the editor's that shows it.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// The side that sees what the programs write. When the last clone is dropped they are hung up.
#[derive(Clone, Debug)]
pub(super) struct Master(Arc<AsyncFd<OwnedFd>>);

/// Makes a terminal; `command` is to run in it as a session of its own.
pub(super) fn make(command: &mut Command) -> io::Result<Master> {
    let pty = openpty(None, None)?;
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    command
        .stdin(Stdio::from(pty.slave.try_clone()?))
        .stdout(Stdio::from(pty.slave.try_clone()?))
        .stderr(Stdio::from(pty.slave));
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    // SAFETY: the descriptor is owned by what is made, and closed with it alone.
    let master = unsafe { AsyncFd::register(pty.master) }?;
    Ok(Master(Arc::new(master)))
}

impl Master {
    /// What was written next; nothing once the last program has closed the terminal.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return 0 };
            let read = ready.try_io(|fd| nix::unistd::read(fd.get_ref(), buffer).map_err(io::Error::from));
            match read {
                Ok(Ok(count)) => return count,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: nobody holds the other side.
                Ok(Err(_)) => return 0,
                Err(_) => {}
            }
        }
    }

    /// Types all of it.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Tells the programs how large it is shown.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: one winsize of ours. A terminal that cannot be resized keeps its size.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }
}

/// Rows and columns of the terminal behind `fd`.
pub(super) fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: one winsize of ours.
    let asked = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}
