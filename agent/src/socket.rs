//! The agent's sockets in the target's network, and the pump between one of them and a stream.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, setsockopt, shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::files::errno_of;
use crate::link::streams::{Inbound, Receiving, Sending, Stream};
use protocol::codec::MAX_CHUNK;

/// Marks the agent's own sockets, so that its redirect leaves them out.
pub(crate) const MARK: u32 = 0x6d69;

/// A connected stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Socket {
    /// Reads some bytes, at most `room`; empty at the end. The buffer is only made once there is something.
    pub(crate) async fn read(&self, buffer: &mut BytesMut, room: usize) -> io::Result<Bytes> {
        loop {
            match self {
                Self::Tcp(socket) => socket.readable().await?,
                Self::Unix(socket) => socket.readable().await?,
            }
            if buffer.capacity() < room.min(4096) {
                *buffer = BytesMut::with_capacity(MAX_CHUNK);
            }
            let mut limited = bytes::BufMut::limit(&mut *buffer, room);
            let outcome = match self {
                Self::Tcp(socket) => socket.try_read_buf(&mut limited),
                Self::Unix(socket) => socket.try_read_buf(&mut limited),
            };
            match outcome {
                Ok(_) => return Ok(buffer.split().freeze()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the peer has said all and everything is read; for ever while something is left to be read.
    async fn drained(&self) -> io::Result<()> {
        let peek =
            || Ok(recv(self.as_fd().as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?);
        loop {
            let peeked = match self {
                Self::Tcp(socket) => {
                    socket.readable().await?;
                    socket.try_io(Interest::READABLE, peek)
                }
                Self::Unix(socket) => {
                    socket.readable().await?;
                    socket.try_io(Interest::READABLE, peek)
                }
            };
            match peeked {
                Ok(0) => return Ok(()),
                Ok(_) => std::future::pending().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let outcome = match self {
                Self::Tcp(socket) => {
                    socket.writable().await?;
                    socket.try_write(bytes)
                }
                Self::Unix(socket) => {
                    socket.writable().await?;
                    socket.try_write(bytes)
                }
            };
            match outcome {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// No more from us: the peer reads the end.
    pub(crate) fn end(&self) {
        if let Err(error) = shutdown(self.as_fd().as_raw_fd(), Shutdown::Write) {
            tracing::trace!(%error, "the peer was gone before the end");
        }
    }

    /// Whether the peer has neither ended nor said anything that is not read yet.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.as_fd().as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }

    /// Closes so that the peer sees a reset rather than an end.
    pub(crate) fn abort(self) {
        self.reset_on_close();
    }

    /// Once it closes, the peer is to see a reset rather than an end.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tcp(socket) = self
            && let Err(error) = setsockopt(socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })
        {
            tracing::debug!(%error, "a connection ends without a reset");
        }
    }
}

/// How a pump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Both sides have said all.
    Ended,
    /// One side broke off.
    Aborted,
    /// The client reset the stream before it sent anything.
    GivenBack,
    /// The link is gone.
    Gone,
}

/// Sees what one side of a connection says, before it is passed on.
pub(crate) trait Witness {
    fn saw(&mut self, bytes: &Bytes);
    fn ended(&mut self);
}

/// Nobody watches.
impl Witness for () {
    fn saw(&mut self, _bytes: &Bytes) {}
    fn ended(&mut self) {}
}

/// Carries bytes between a socket and a stream until both are done. `witness` sees what the socket's peer sends;
/// `answered` becomes true with the first that the client sends.
pub(crate) async fn pump(
    socket: &Socket,
    stream: Stream,
    answered: &AtomicBool,
    witness: &mut (dyn Witness + Send),
) -> Pumped {
    let Stream { sending, mut receiving, .. } = stream;
    let client = ClientSide::default();
    let upwards = upwards(socket, &sending, witness);
    let downwards = downwards(socket, &mut receiving, &client, answered);
    tokio::pin!(upwards, downwards);
    let mut peer_ended = false;
    let mut client_ended = false;
    while !(peer_ended && client_ended) {
        tokio::select! {
            read = &mut upwards, if !peer_ended => match (read, client.write_error.load(Ordering::Relaxed)) {
                (Ok(()), 0) => {
                    sending.end();
                    peer_ended = true;
                }
                (Ok(()), errno) => {
                    sending.reset(Errno::from_raw(errno));
                    return Pumped::Aborted;
                }
                (Err(errno), _) => {
                    sending.reset(errno);
                    return Pumped::Aborted;
                }
            },
            () = client.ended.notified(), if !client_ended => match client.write_error.load(Ordering::Relaxed) {
                errno if errno != 0 && peer_ended => {
                    sending.reset(Errno::from_raw(errno));
                    return Pumped::Aborted;
                }
                _ => client_ended = true,
            },
            down = &mut downwards => return match down {
                Down::Reset => Pumped::Aborted,
                Down::Refused => Pumped::GivenBack,
                Down::Gone => Pumped::Gone,
            },
        }
    }
    Pumped::Ended
}

/// What the task's two halves know of the client's side.
#[derive(Default)]
struct ClientSide {
    /// The errno of a failed write: what the peer sent before it broke off is still read and passed on.
    write_error: AtomicI32,
    /// Nothing more will be written to the socket.
    ended: Notify,
}

async fn upwards(
    socket: &Socket,
    sending: &Sending,
    witness: &mut (dyn Witness + Send),
) -> Result<(), Errno> {
    let mut buffer = BytesMut::new();
    loop {
        // The end, or a reset, needs no credit.
        let room = tokio::select! {
            biased;
            room = sending.room() => room,
            drained = socket.drained() => {
                drained.map_err(|error| errno_of(&error))?;
                witness.ended();
                return Ok(());
            }
        };
        let bytes = socket.read(&mut buffer, room).await.map_err(|error| errno_of(&error))?;
        if bytes.is_empty() {
            witness.ended();
            return Ok(());
        }
        witness.saw(&bytes);
        sending.data(bytes).await;
    }
}

enum Down {
    Reset,
    /// Reset before anything was sent.
    Refused,
    Gone,
}

/// Goes on after the client's end: a reset, or the loss of the link, still ends the whole connection.
async fn downwards(
    socket: &Socket,
    receiving: &mut Receiving,
    client: &ClientSide,
    answered: &AtomicBool,
) -> Down {
    while let Some(inbound) = receiving.next().await {
        match inbound {
            Inbound::Data(bytes) => {
                answered.store(true, Ordering::Relaxed);
                if client.write_error.load(Ordering::Relaxed) != 0 {
                    continue;
                }
                if let Err(error) = socket.write_all(&bytes).await {
                    client.write_error.store(errno_of(&error) as i32, Ordering::Relaxed);
                    client.ended.notify_one();
                }
                receiving.passed_on(bytes.len());
            }
            Inbound::End => {
                answered.store(true, Ordering::Relaxed);
                socket.end();
                client.ended.notify_one();
            }
            Inbound::Reset(_) if answered.load(Ordering::Relaxed) => return Down::Reset,
            Inbound::Reset(_) => return Down::Refused,
        }
    }
    Down::Gone
}
