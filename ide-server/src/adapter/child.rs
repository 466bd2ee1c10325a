//! Starts the real adapter, and moves what it says to the holder.

use super::pty::{self, Master};
use super::wire::Kind;
use super::{peer, words};
use crate::rpc::framing::{Decoder, encode};
use serde_json::Value;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// The longest message of the debug adapter protocol.
pub(super) const MAX_MESSAGE: usize = 1 << 28;

/// How the holder speaks to its adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Over its standard input and output.
    Stdio,
    /// It dials a listener of ours, as dlv does.
    Dials,
}

/// What is started.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) words: Vec<OsString>,
    /// Its name for itself, where that is not the first word.
    pub(super) arg0: Option<OsString>,
    pub(super) speaks: Speaks,
    /// It runs in a terminal.
    pub(super) in_terminal: bool,
    /// Where it writes its log: a descriptor that it has inherited, and where that comes out.
    pub(super) log: Option<Log>,
}

/// A descriptor of this process that the adapter inherits, and its other end.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) writer: OwnedFd,
    pub(super) reader: OwnedFd,
}

/// What comes from the adapter and from terminals.
#[derive(Debug)]
pub(super) enum Said {
    /// It can be spoken to.
    Ready,
    /// A message of the protocol.
    Message(Value),
    /// Bytes of one of its streams.
    Bytes(Kind, Vec<u8>),
    /// One of its streams has ended.
    StreamEnded,
    /// No message will come any more.
    Closed,
    /// It has ended, with this status.
    Exited(i32),
    /// What a terminal shows.
    Shown(u32, Vec<u8>),
    /// The program of a terminal has ended.
    TerminalEnded(u32, i32),
}

/// The adapter, as the holder has it.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) pid: Option<i32>,
    /// Messages for it, framed. Dropped to close its input.
    pub(super) messages: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// How many streams are to end after it.
    pub(super) streams: u32,
    /// Its terminal.
    pub(super) terminal: Option<Master>,
}

/// Starts it; what it says goes to `said`.
pub(super) async fn start(what: Words, said: mpsc::Sender<Said>) -> io::Result<Adapter> {
    let mut words = what.words.into_iter();
    let program = words.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(words);
    if let Some(name) = what.arg0 {
        command.arg0(name);
    }
    let listener = match what.speaks {
        Speaks::Stdio => None,
        Speaks::Dials => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            command.arg(format!("{}{}", words::CLIENT, listener.local_addr()?));
            Some(listener)
        }
    };
    let terminal = if what.in_terminal {
        Some(pty::make(&mut command)?)
    } else {
        let input = if listener.is_some() { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    let mut child = command.spawn()?;
    // The terminal's other side lives in the command, the log's in us: both are to end with the adapter.
    drop(command);
    let mut adapter = Adapter {
        pid: child.id().and_then(|pid| i32::try_from(pid).ok()),
        messages: None,
        // The protocol's.
        streams: 1,
        terminal: terminal.clone(),
    };
    let (messages, queue) = mpsc::unbounded_channel();
    adapter.messages = Some(messages);
    if let Some(stderr) = child.stderr.take() {
        adapter.streams += 1;
        tokio::spawn(copy(stderr, Kind::Stderr, said.clone()));
    }
    if let Some(Log { writer, reader }) = what.log {
        drop(writer);
        adapter.streams += 1;
        tokio::spawn(copy(tokio::net::unix::pipe::Receiver::from_owned_fd(reader)?, Kind::Log, said.clone()));
    }
    if let Some(terminal) = terminal {
        adapter.streams += 1;
        tokio::spawn(show(terminal, said.clone()));
    }
    match (listener, child.stdin.take(), child.stdout.take()) {
        (None, Some(stdin), Some(stdout)) => {
            tokio::spawn(write(stdin, queue));
            tokio::spawn(listen(stdout, said.clone()));
        }
        (Some(listener), _, stdout) => {
            if let Some(stdout) = stdout {
                adapter.streams += 1;
                tokio::spawn(copy(stdout, Kind::Stdout, said.clone()));
            }
            tokio::spawn(meet(listener, queue, said.clone()));
        }
        (None, ..) => return Err(io::ErrorKind::BrokenPipe.into()),
    }
    tokio::spawn(wait(child, said));
    Ok(adapter)
}

/// Lets the adapter in that this user started; others are turned away.
async fn meet(listener: TcpListener, queue: mpsc::UnboundedReceiver<Vec<u8>>, said: mpsc::Sender<Said>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the adapter cannot be let in");
                return;
            }
        };
        if !peer::is_ours(&stream) {
            tracing::warn!("another user's connection is refused");
            continue;
        }
        // Messages are small and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let (reader, writer) = stream.into_split();
        tokio::spawn(write(writer, queue));
        return listen(reader, said).await;
    }
}

/// The holder outlives all that sends to it, so a failure to send means its end.
async fn listen<R: AsyncRead + Unpin>(mut reader: R, said: mpsc::Sender<Said>) {
    if said.send(Said::Ready).await.is_err() {
        return;
    }
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let mut chunk = vec![0; 64 << 10];
    'reading: while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        decoder.push(&chunk[..count]);
        loop {
            let message = match decoder.pop() {
                Ok(Some(body)) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
                Ok(None) => break,
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(message) => {
                    if said.send(Said::Message(message)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(error, "the adapter says what is no message");
                    break 'reading;
                }
            }
        }
    }
    let _ = said.send(Said::Closed).await;
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = writer.write_all(&message).await {
            tracing::debug!(%error, "the adapter takes no messages any more");
            return;
        }
    }
    let _ = writer.shutdown().await;
}

async fn copy<R: AsyncRead + Unpin>(mut reader: R, kind: Kind, said: mpsc::Sender<Said>) {
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        if said.send(Said::Bytes(kind, chunk[..count].to_vec())).await.is_err() {
            return;
        }
    }
    let _ = said.send(Said::StreamEnded).await;
}

async fn show(terminal: Master, said: mpsc::Sender<Said>) {
    let mut chunk = vec![0; 16 << 10];
    while let count @ 1.. = terminal.read(&mut chunk).await {
        if said.send(Said::Shown(0, chunk[..count].to_vec())).await.is_err() {
            return;
        }
    }
    let _ = said.send(Said::StreamEnded).await;
}

async fn wait(mut child: Child, said: mpsc::Sender<Said>) {
    let status = child.wait().await.map_or(1, status_of);
    let _ = said.send(Said::Exited(status)).await;
}

/// As a shell has it.
pub(super) fn status_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A message's bytes.
pub(super) fn bytes_of(message: &Value) -> Vec<u8> {
    encode(message.to_string().as_bytes())
}
