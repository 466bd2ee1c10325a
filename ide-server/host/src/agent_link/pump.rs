//! Joins a socket of this machine to a stream of the pod, both ways, until both have ended.
//!
//! Half-closes are carried over, and resets too: a connection that was reset in the pod is reset here (SO_LINGER 0),
//! and the other way round, so that a debuggee sees ECONNRESET where its pod would.

use super::stream::{Chunk, PodReader, PodStream, PodWriter};
use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use protocol::codec::MAX_CHUNK;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A socket of this machine that a stream of the pod can be joined to.
pub trait LocalSocket: Send {
    /// The two directions.
    fn halves(&mut self) -> (impl AsyncRead + Unpin + Send, impl AsyncWrite + Unpin + Send);

    /// Makes small writes leave at once, where the kind of socket would hold them back.
    fn hurry(&self) -> io::Result<()>;

    /// Makes the close that follows a reset, where the kind of socket knows such a thing.
    fn abort(&self) -> io::Result<()>;
}

impl LocalSocket for TcpStream {
    fn halves(&mut self) -> (impl AsyncRead + Unpin + Send, impl AsyncWrite + Unpin + Send) {
        self.split()
    }

    fn hurry(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn abort(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl LocalSocket for UnixStream {
    fn halves(&mut self) -> (impl AsyncRead + Unpin + Send, impl AsyncWrite + Unpin + Send) {
        self.split()
    }

    fn hurry(&self) -> io::Result<()> {
        Ok(())
    }

    /// Unix sockets have no reset; a close with unread bytes is the nearest.
    fn abort(&self) -> io::Result<()> {
        Ok(())
    }
}

/// How a joined connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes that went to the pod.
    pub to_pod: u64,
    /// Bytes that came from the pod.
    pub from_pod: u64,
    /// What it was reset with, unless both sides ended it.
    pub reset: Option<Errno>,
}

/// Copies both ways until the connection is over.
pub async fn pump<L: LocalSocket>(mut local: L, stream: PodStream) -> Pumped {
    // Nagle's algorithm would hold back an answer for the delayed acknowledgement of the one before it, 40 ms.
    if let Err(error) = local.hurry() {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let (mut reader, mut writer) = stream.split();
    let mut pumped = Pumped { to_pod: 0, from_pod: 0, reset: None };
    let (local_reader, local_writer) = local.halves();
    let up = to_pod(local_reader, &mut writer, &mut pumped.to_pod);
    let down = from_pod(&mut reader, local_writer, &mut pumped.from_pod);
    // The first failure ends both directions; two ends are the good way out.
    let joined = futures::future::try_join(up, down).await;
    if let Err(errno) = joined {
        pumped.reset = Some(errno);
        writer.reset(errno);
        if let Err(error) = local.abort() {
            tracing::debug!(%error, "a connection cannot be reset; it is closed");
        }
    }
    pumped
}

async fn to_pod(
    mut local: impl AsyncRead + Unpin,
    writer: &mut PodWriter,
    count: &mut u64,
) -> Result<(), Errno> {
    let mut buffer = BytesMut::with_capacity(MAX_CHUNK);
    loop {
        // Once the chunks before are on their way, this takes the same memory again.
        if buffer.capacity() < MAX_CHUNK / 8 {
            buffer.reserve(MAX_CHUNK);
        }
        match local.read_buf(&mut buffer).await {
            Ok(0) => {
                writer.end().await;
                return Ok(());
            }
            Ok(read) => {
                *count += read as u64;
                writer.send(buffer.split().freeze()).await?;
            }
            Err(error) => return Err(errno(&error)),
        }
    }
}

async fn from_pod(
    reader: &mut PodReader,
    mut local: impl AsyncWrite + Unpin,
    count: &mut u64,
) -> Result<(), Errno> {
    loop {
        match reader.recv().await {
            Chunk::Data(bytes) => {
                write(&mut local, bytes, count).await.map_err(|error| errno(&error))?;
            }
            Chunk::End => {
                // The other end may be gone already; then there is nobody to tell.
                let _ = local.shutdown().await;
                return Ok(());
            }
            Chunk::Reset(errno) => return Err(errno),
        }
    }
}

async fn write(local: &mut (impl AsyncWrite + Unpin), bytes: Bytes, count: &mut u64) -> io::Result<()> {
    local.write_all(&bytes).await?;
    *count += bytes.len() as u64;
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    // A pod's peer cannot be told "broken pipe" on the wire; what it sees is a reset.
    match error.raw_os_error().map(Errno::from_raw) {
        None | Some(Errno::EPIPE) => Errno::ECONNRESET,
        Some(errno) => errno,
    }
}
