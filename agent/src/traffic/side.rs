//! The two who may answer a request, alike to whoever routes it: the target's program by a socket, a session by a
//! stream.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use protocol::codec::MAX_CHUNK;

use crate::files::errno_of;
use crate::link::streams::{Inbound, Receiving, Sending, Stream};
use crate::socket::Socket;

/// One who answers.
#[derive(Debug)]
pub(super) struct Side<'a> {
    wire: Wire<'a>,
    /// Read, but not yet passed on.
    pub(super) unread: BytesMut,
}

#[derive(Debug)]
enum Wire<'a> {
    Pod { socket: Socket, buffer: BytesMut, _passing: Passing<'a> },
    Session(Stream),
}

/// Counts a connection of ours to the target's program.
#[derive(Debug)]
pub(super) struct Passing<'a>(&'a AtomicUsize);

impl<'a> Passing<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Reset(Errno),
    /// The session's link is gone.
    Gone,
}

/// The way there.
#[derive(Debug)]
pub(super) enum To<'a> {
    Pod(&'a Socket),
    Session(&'a Sending),
}

/// The way back.
#[derive(Debug)]
pub(super) enum From<'a> {
    Pod(&'a Socket, &'a mut BytesMut),
    Session(&'a mut Receiving),
}

impl<'a> Side<'a> {
    pub(super) fn pod(socket: Socket, passing: Passing<'a>) -> Self {
        let wire = Wire::Pod { socket, buffer: BytesMut::new(), _passing: passing };
        Self { wire, unread: BytesMut::new() }
    }

    pub(super) fn session(stream: Stream) -> Self {
        Self { wire: Wire::Session(stream), unread: BytesMut::new() }
    }

    pub(super) fn split(&mut self) -> (To<'_>, From<'_>, &mut BytesMut) {
        match &mut self.wire {
            Wire::Pod { socket, buffer, .. } => {
                (To::Pod(socket), From::Pod(socket, buffer), &mut self.unread)
            }
            Wire::Session(stream) => {
                (To::Session(&stream.sending), From::Session(&mut stream.receiving), &mut self.unread)
            }
        }
    }

    /// Whether it is still there to be asked: a connection that waits may have been closed meanwhile.
    pub(super) fn is_open(&self) -> bool {
        match &self.wire {
            Wire::Pod { socket, .. } => self.unread.is_empty() && socket.is_quiet(),
            Wire::Session(_) => true,
        }
    }

    /// Nothing more is wanted of it.
    pub(super) fn end(self) {
        match self.wire {
            Wire::Pod { socket, .. } => socket.end(),
            Wire::Session(stream) => stream.sending.end(),
        }
    }

    /// Breaks off.
    pub(super) fn abort(self) {
        match self.wire {
            Wire::Pod { socket, .. } => socket.abort(),
            Wire::Session(stream) => stream.sending.reset(Errno::ECONNRESET),
        }
    }
}

impl To<'_> {
    pub(super) async fn send(&self, mut bytes: Bytes) -> Result<(), Errno> {
        match self {
            Self::Pod(socket) => socket.write_all(&bytes).await.map_err(|error| errno_of(&error)),
            Self::Session(sending) => {
                while !bytes.is_empty() {
                    let room = sending.room().await.min(bytes.len());
                    sending.data(bytes.split_to(room)).await;
                }
                Ok(())
            }
        }
    }

    pub(super) fn end(&self) {
        match self {
            Self::Pod(socket) => socket.end(),
            Self::Session(sending) => sending.end(),
        }
    }
}

impl From<'_> {
    /// What comes next; empty at the end.
    pub(super) async fn read(&mut self) -> Result<Bytes, Lost> {
        match self {
            Self::Pod(socket, buffer) => {
                socket.read(buffer, MAX_CHUNK).await.map_err(|error| Lost::Reset(errno_of(&error)))
            }
            Self::Session(receiving) => match receiving.next().await {
                Some(Inbound::Data(bytes)) => Ok(bytes),
                Some(Inbound::End) => Ok(Bytes::new()),
                Some(Inbound::Reset(errno)) => Err(Lost::Reset(errno)),
                None => Err(Lost::Gone),
            },
        }
    }

    /// As much has been passed on.
    pub(super) fn passed_on(&mut self, bytes: usize) {
        if let Self::Session(receiving) = self {
            receiving.passed_on(bytes);
        }
    }
}
