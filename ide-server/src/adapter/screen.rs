//! The editor's terminal as a view of one that the holder keeps.

use super::front::{Frames, frames_of, lost};
use super::wire::{self, Hello, Kind, Role, Start, VERSION};
use super::{SOCKET, pty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};

/// A terminal of the holder's, shown on this process's.
#[derive(Debug)]
pub(super) struct Screen {
    frames: Frames,
    to_holder: OwnedWriteHalf,
}

/// Why a terminal is shown no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its program has ended, with this status.
    Program(i32),
    /// This process was told to end by this signal, as by a terminal that is closed.
    Signal(i32),
}

impl End {
    /// What this process ends with.
    pub(super) fn status(self) -> i32 {
        match self {
            Self::Program(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// This process's terminal while it passes every key on.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    /// `None` where standard input is no terminal.
    fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // One that is gone has nothing to restore.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

impl Screen {
    /// Shows the terminal `number` of the holder in `folder`, with what is to be started in it.
    pub(super) async fn open(folder: &Path, number: u32, start: Option<Start>) -> io::Result<Self> {
        let stream = UnixStream::connect(folder.join(SOCKET))?;
        let (frames, mut to_holder) = frames_of(stream)?;
        let hello = Hello { version: VERSION, role: Role::Terminal { number, start } };
        to_holder.write_all(&wire::json_frame(Kind::Hello, &hello)?).await?;
        Ok(Self { frames, to_holder })
    }

    /// Until the program has ended, or nobody sees it any more.
    pub(super) async fn run(mut self) -> io::Result<End> {
        let raw = Raw::begin();
        let mut resized = signal(SignalKind::window_change())?;
        let mut ended = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let mut stdin = tokio::io::stdin();
        let mut keys = vec![0; 4 << 10];
        let mut can_type = true;
        self.tell_size().await?;
        let end = loop {
            tokio::select! {
                frame = self.frames.recv() => match frame {
                    Some((Kind::Stdout, bytes)) => show(&mut io::stdout(), &bytes)?,
                    Some((Kind::Stderr, bytes)) => show(&mut io::stderr(), &bytes)?,
                    Some((Kind::Exit, status)) => {
                        break End::Program(status.as_slice().try_into().map_or(1, i32::from_le_bytes));
                    }
                    Some(_) => {}
                    None => {
                        drop(raw);
                        return Err(lost());
                    }
                },
                count = stdin.read(&mut keys), if can_type => match count {
                    Ok(count @ 1..) => self.to_holder.write_all(&wire::frame(Kind::Input, &keys[..count])).await?,
                    _ => can_type = false,
                },
                _ = resized.recv() => self.tell_size().await?,
                _ = ended.recv() => break End::Signal(libc::SIGTERM),
                _ = hung_up.recv() => break End::Signal(libc::SIGHUP),
            }
        };
        drop(raw);
        Ok(end)
    }

    async fn tell_size(&mut self) -> io::Result<()> {
        let Some((rows, columns)) = pty::size(io::stdout()) else { return Ok(()) };
        let body = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
        self.to_holder.write_all(&wire::frame(Kind::Size, &body)).await
    }
}

fn show(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
