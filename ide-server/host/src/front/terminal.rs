//! A terminal of the program's own inside the editor's: VS Code closes its debug terminals when it reloads a window, and
//! a terminal that is closed ends what runs in it.
//!
//! The outer terminal is raw meanwhile: every key goes to the inner one, whose line discipline makes signals of them.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::termios::{self, SetArg, SpecialCharacterIndices, Termios};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

/// How long the outer terminal may take for what the program wrote last.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// As much as a terminal holds.
const CHUNK: usize = 4 << 10;
/// A character that is typed by no key: termios(3) takes zero for none.
const NO_KEY: u8 = 0;

/// The inner terminal; its outer one is as it was when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    inner: OwnedFd,
    /// How the outer terminal was set.
    before: Termios,
    /// Closed when all that was written inside is outside.
    written: mpsc::Receiver<()>,
}

impl Terminal {
    /// A terminal inside the one that this process has as all three of its standard streams, and the program's side of
    /// it; nothing where they are something else.
    pub(super) fn open() -> std::io::Result<Option<(Self, OwnedFd)>> {
        let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        if !(streams.0.is_terminal() && streams.1.is_terminal() && streams.2.is_terminal()) {
            return Ok(None);
        }
        let before = termios::tcgetattr(&streams.0)?;
        let mut settings = before.clone();
        // What is stopped in here is out of the shell's sight: nobody could have it go on.
        settings.control_chars[SpecialCharacterIndices::VSUSP as usize] = NO_KEY;
        let pair = nix::pty::openpty(&size(streams.0.as_fd())?, &settings)?;
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        let (reading, writing) = (pair.master.try_clone()?, pair.master.try_clone()?);
        let (done, written) = mpsc::channel();
        termios::tcsetattr(&streams.0, SetArg::TCSANOW, &raw)?;
        let terminal = Self { inner: pair.master, before, written };
        thread("keys", move || {
            let stdin = std::io::stdin();
            // It ends with the outer terminal; the inner one stays.
            let _ = std::io::copy(&mut Unbuffered(stdin.as_fd()), &mut File::from(writing));
        })?;
        thread("screen", move || {
            show(File::from(reading));
            drop(done);
        })?;
        Ok(Some((terminal, pair.slave)))
    }

    /// The outer terminal has another size: the inner one tells the program.
    pub(super) fn resize(&self) {
        if let Ok(size) = size(std::io::stdin().as_fd()) {
            // SAFETY: TIOCSWINSZ reads one structure, ours.
            unsafe { libc::ioctl(self.inner.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        }
    }

    /// Waits until all that the program wrote is outside. What it left running may write on, and does not count.
    pub(super) fn drain(&self) {
        let mut waiting: libc::c_int = 1;
        let deadline = std::time::Instant::now() + LAST_WORDS;
        while waiting > 0 && std::time::Instant::now() < deadline {
            // Its last other end is closed with the program, unless that has left something running.
            if self.written.recv_timeout(Duration::from_millis(10))
                == Err(mpsc::RecvTimeoutError::Disconnected)
            {
                return;
            }
            // SAFETY: FIONREAD writes one integer, ours.
            unsafe { libc::ioctl(self.inner.as_raw_fd(), libc::FIONREAD, &mut waiting) };
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // An outer terminal that is gone needs no settings.
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Shows what is written inside as long as anybody looks at it; afterwards it is dropped.
fn show(mut inner: File) {
    let mut outer = Some(std::io::stdout());
    let mut chunk = vec![0; CHUNK];
    // EIO: nobody has the inner terminal open any more.
    while let Ok(count @ 1..) = inner.read(&mut chunk) {
        let shown = |outer: &mut std::io::Stdout| {
            outer.write_all(&chunk[..count]).and_then(|()| outer.flush()).is_ok()
        };
        if !outer.as_mut().is_some_and(shown) {
            outer = None;
        }
    }
}

/// Reads a descriptor without taking more than is asked for.
struct Unbuffered<'a>(BorrowedFd<'a>);

impl Read for Unbuffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(nix::unistd::read(self.0, buffer)?)
    }
}

fn size(terminal: BorrowedFd<'_>) -> std::io::Result<libc::winsize> {
    // SAFETY: zero is a value of this plain structure, which the kernel fills.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one structure, ours.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &mut size) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(size)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}
