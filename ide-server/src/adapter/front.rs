//! The half of a relay that the editor starts and ends: finds the holder or starts one, and moves bytes.

use super::screen::{End, Screen};
use super::wire::{self, Hello, Kind, Role, VERSION, Welcome};
use super::words::{Door, address};
use super::{LOCK, LOG, SOCKET, peer};
use crate::state;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::unistd::ForkResult;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a holder that is ending may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long connection and terminal may end one after the other.
const REST: Duration = Duration::from_millis(500);
/// The terminal in which the adapter itself runs.
const OF_ADAPTER: u32 = 0;
/// The holder's listener has a number that no adapter's log has.
pub(super) const FIRST_FREE: i32 = 100;

/// What an editor has started.
#[derive(Debug)]
pub(super) struct Front {
    /// The words of a holder for it, without those that only the front knows.
    pub(super) holder: Vec<OsString>,
    pub(super) door: Door,
    pub(super) log: Option<i32>,
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Front {
    /// Runs until the editor or the adapter has ended; the exit status. To be called without other threads.
    pub(super) fn run(self, folder: &Path) -> io::Result<i32> {
        let log = self.log.and_then(|number| own(number).ok());
        let in_terminal = matches!(self.door, Door::Dial(_)) && io::stdin().is_terminal();
        let mut words = self.holder;
        if in_terminal {
            words.insert(0, "--in-terminal".into());
        }
        let listener = match &self.door {
            Door::Listen(at) => Some(std::net::TcpListener::bind(address(at))?),
            _ => None,
        };
        let stream = join(folder, &words)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let status = runtime.block_on(async {
            let screen = if in_terminal { Some(Screen::open(folder, OF_ADAPTER, None).await?) } else { None };
            let pumped = pump(self.door, listener, stream, log.map(File::from));
            match screen {
                Some(screen) => both(pumped, screen.run()).await,
                None => pumped.await,
            }
        });
        // A read of standard input that waits does not hold the end up.
        runtime.shutdown_background();
        status
    }
}

/// The adapter's connection and its terminal's end one after the other, each with the last of what there is to pass on.
async fn both(
    pumped: impl Future<Output = io::Result<i32>>,
    shown: impl Future<Output = io::Result<End>>,
) -> io::Result<i32> {
    tokio::pin!(pumped, shown);
    tokio::select! {
        status = &mut pumped => {
            let status = status?;
            // Without an answer there was nothing more to show.
            let _ = timeout(REST, shown).await;
            Ok(status)
        }
        end = &mut shown => match end? {
            End::Program(status) => timeout(REST, pumped).await.unwrap_or(Ok(status)),
            End::Signal(signal) => Ok(End::Signal(signal).status()),
        }
    }
}

/// A copy of the descriptor `number` that only this process has.
fn own(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the number is only looked up; one that is not open gives an error.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fd.try_clone_to_owned()
}

/// The connection to the holder of `folder`, which is started if none can be joined.
fn join(folder: &Path, words: &[OsString]) -> io::Result<UnixStream> {
    let path = folder.join(SOCKET);
    loop {
        // Two that find no holder must not start two.
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join(LOCK))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) =>
            {
                state::remove(&path)?;
                let listener = UnixListener::bind(&path)?;
                std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                start(folder, &listener, words)?;
                UnixStream::connect(&path)?
            }
            Err(error) => return Err(error),
        };
        drop(lock);
        let hello = Hello { version: VERSION, role: Role::Adapter };
        stream.write_all(&wire::json_frame(Kind::Hello, &hello)?)?;
        match welcome(&mut stream)? {
            Welcome::Joined => return Ok(stream),
            Welcome::Ending => wait_for_end(&mut stream)?,
            Welcome::OtherVersion => {
                let message = "the debug adapter is held by another version of mirrord-ide: stop its session";
                return Err(io::Error::other(message));
            }
        }
    }
}

/// The answer to a hello.
fn welcome(stream: &mut UnixStream) -> io::Result<Welcome> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [a, b, c, d, kind] = head;
    if kind != Kind::Welcome as u8 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; u32::from_le_bytes([a, b, c, d]).min(1024) as usize];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn wait_for_end(stream: &mut UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other("the debug adapter of the run before does not end"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Starts a holder that is nobody's child and of a session of its own: what ends the editor's processes by their
/// parents, or with their terminal, does not find it.
fn start(folder: &Path, listener: &UnixListener, words: &[OsString]) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(LOG))?;
    let number = fcntl(listener, FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("adapter-holder")
        .arg("--folder")
        .arg(folder)
        .args(["--listener", &number.to_string()])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // SAFETY: between fork and exec only fork(2), _exit(2), setsid(2) and fcntl(2) are called, which are
    // async-signal-safe, and this process has no other thread.
    unsafe {
        command.pre_exec(move || match nix::unistd::fork() {
            Ok(ForkResult::Parent { .. }) => libc::_exit(0),
            Ok(ForkResult::Child) => {
                nix::unistd::setsid()?;
                let listener = BorrowedFd::borrow_raw(number);
                fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        });
    }
    let status = command.spawn()?.wait()?;
    nix::unistd::close(number)?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the holder did not start: {status}")))
    }
}

/// Where what the adapter writes beside its protocol goes.
struct Shown {
    log: Option<File>,
}

impl Shown {
    /// Shows a frame that is to be shown; gives the exit status if it was the last one. An editor that no longer
    /// reads what is shown is no reason to end its debugger.
    fn frame(&mut self, kind: Kind, body: &[u8]) -> Option<i32> {
        let shown = match kind {
            Kind::Stdout => write_all(&mut io::stdout(), body),
            Kind::Stderr => write_all(&mut io::stderr(), body),
            Kind::Log => match &mut self.log {
                Some(log) => write_all(log, body),
                None => write_all(&mut io::stderr(), body),
            },
            Kind::Exit => {
                return Some(body.try_into().map_or(1, i32::from_le_bytes));
            }
            _ => Ok(()),
        };
        drop(shown);
        None
    }
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Moves bytes between the door and the holder; the exit status.
async fn pump(
    door: Door,
    listener: Option<std::net::TcpListener>,
    stream: UnixStream,
    log: Option<File>,
) -> io::Result<i32> {
    let mut shown = Shown { log };
    let (mut frames, mut to_holder) = frames_of(stream)?;
    loop {
        match frames.recv().await {
            Some((Kind::Ready, _)) => break,
            Some((kind, body)) => {
                if let Some(status) = shown.frame(kind, &body) {
                    return Ok(status);
                }
            }
            None => return Err(lost()),
        }
    }
    let (mut from_editor, mut to_editor) = match (door, listener) {
        (Door::Dial(at), _) => split(TcpStream::connect(address(&at)).await?)?,
        (_, Some(listener)) => {
            let listening = format!("DAP server listening at: {}\n", listener.local_addr()?);
            let place = if shown.log.is_some() { Kind::Log } else { Kind::Stdout };
            shown.frame(place, listening.as_bytes());
            listener.set_nonblocking(true)?;
            let editor = editor(TcpListener::from_std(listener)?);
            tokio::pin!(editor);
            loop {
                tokio::select! {
                    stream = &mut editor => break split(stream?)?,
                    frame = frames.recv() => {
                        let (kind, body) = frame.ok_or_else(lost)?;
                        if let Some(status) = shown.frame(kind, &body) {
                            return Ok(status);
                        }
                    }
                }
            }
        }
        _ => (Box::new(tokio::io::stdin()) as Reader, Box::new(tokio::io::stdout()) as Writer),
    };
    let typing = async {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_editor.read(&mut chunk).await {
            if to_holder.write_all(&wire::frame(Kind::Dap, &chunk[..count])).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(typing);
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some((Kind::Dap, body)) => {
                    if to_editor.write_all(&body).await.is_err() || to_editor.flush().await.is_err() {
                        return Ok(0);
                    }
                }
                Some((kind, body)) => if let Some(status) = shown.frame(kind, &body) {
                    return Ok(status);
                },
                None => return Err(lost()),
            },
            // The editor is gone; so is this process then, which is how the holder knows.
            () = &mut typing => return Ok(0),
        }
    }
}

/// The first connection of this user's.
async fn editor(listener: TcpListener) -> io::Result<TcpStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        if peer::is_ours(&stream) {
            return Ok(stream);
        }
    }
}

fn split(stream: TcpStream) -> io::Result<(Reader, Writer)> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok((Box::new(reader), Box::new(writer)))
}

pub(super) fn lost() -> io::Error {
    io::Error::other("the process that held the debug adapter was killed, and the program with it")
}

/// Frames of the holder's.
pub(super) type Frames = mpsc::Receiver<(Kind, Vec<u8>)>;

/// What a holder sends, and the way to it.
pub(super) fn frames_of(stream: UnixStream) -> io::Result<(Frames, OwnedWriteHalf)> {
    stream.set_nonblocking(true)?;
    let (reader, writer) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let (tx, frames) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        while let Ok(Some(frame)) = wire::read(&mut reader).await {
            if tx.send(frame).await.is_err() {
                return;
            }
        }
    });
    Ok((frames, writer))
}
