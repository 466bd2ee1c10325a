//! Everything that waits to be written to the agent, and the one task that writes it.
//!
//! Control frames (requests, credit, resets) go first. Streams with payload stand in a ring and give one chunk a
//! turn, so that a bulk transfer delays another stream by at most a batch. What is ready goes out in one write.
//! A thread that waits for its answer anyway may write its request itself ([`Outgoing::control_now`]).

use super::stream::{StreamState, Turn};
use super::transport::WriteHalf;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use protocol::agent::{End, ToAgent, to_agent};
use protocol::codec::{self, FrameError};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// How much one write takes at most, roughly: long enough to be cheap, short enough for a request to get its turn.
const BATCH: usize = 128 << 10;
/// Payload up to this size is copied into the batch; above it is written from where it lies.
const COPY: usize = 2 << 10;
/// The most pieces that one write hands to the kernel.
const PIECES: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the writer tells the connection.
pub(super) trait Owner {
    /// Something went out.
    fn wrote(&self);
    /// A stream's last frame is among what goes out next.
    fn finished(&self, stream: &StreamState);
}

/// What waits to be written, and where it goes.
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    changed: Notify,
    pipe: Mutex<Pipe>,
}

#[derive(Default)]
struct Waiting {
    /// Encoded frames.
    control: BytesMut,
    /// Streams that have payload, each at most once.
    ready: VecDeque<Arc<StreamState>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.ready.is_empty()
    }
}

/// What a turn at the transport came to.
enum Written {
    Batch,
    Nothing,
}

/// The transport with what was taken to be written.
struct Pipe {
    transport: WriteHalf,
    ring: VecDeque<Arc<StreamState>>,
    batch: Batch,
    flushed: bool,
}

impl Outgoing {
    pub(super) fn new(transport: WriteHalf) -> Self {
        let pipe = Pipe { transport, ring: VecDeque::new(), batch: Batch::default(), flushed: true };
        Self { waiting: Mutex::default(), changed: Notify::new(), pipe: Mutex::new(pipe) }
    }

    /// Queues a control frame.
    pub(super) fn control(&self, body: to_agent::Body) -> Result<(), FrameError> {
        codec::encode(&ToAgent { body: Some(body) }, &mut lock(&self.waiting).control)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Queues a control frame and writes it right here, unless the writer is at work.
    ///
    /// For threads outside the runtime: it saves them the way over the writer's thread.
    pub(super) fn control_now(&self, body: to_agent::Body, owner: &impl Owner) -> Result<(), FrameError> {
        codec::encode(&ToAgent { body: Some(body) }, &mut lock(&self.waiting).control)?;
        if let Ok(mut pipe) = self.pipe.try_lock()
            // Otherwise the writer waits for the transport, and a poll of ours would take its waker away.
            && pipe.flushed
            && !pipe.batch.has_remaining()
            && let Poll::Ready(Ok(_)) = self.poll_batch(&mut pipe, &mut Context::from_waker(Waker::noop()), owner)
            && pipe.ring.is_empty()
            && lock(&self.waiting).is_empty()
        {
            return Ok(());
        }
        // The writer goes on where this ended; an obstacle it meets again, and waits for it or reports it.
        self.changed.notify_one();
        Ok(())
    }

    /// Puts a stream into the ring; the caller has made sure that it is not there yet.
    pub(super) fn ready(&self, stream: Arc<StreamState>) {
        lock(&self.waiting).ready.push_back(stream);
        self.changed.notify_one();
    }

    /// Drops what waits; for a link that is lost.
    pub(super) fn clear(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.control.clear();
        waiting.ready.clear();
    }

    /// Writes until the transport fails; the caller ends it by dropping the future.
    pub(super) async fn run(&self, owner: &impl Owner) -> io::Error {
        loop {
            let written = poll_fn(|context| self.poll_batch(&mut lock(&self.pipe), context, owner)).await;
            match written {
                Ok(Written::Batch) => {}
                Ok(Written::Nothing) => self.changed.notified().await,
                Err(error) => return error,
            }
        }
    }

    /// Writes one batch of what waits.
    fn poll_batch(
        &self,
        pipe: &mut Pipe,
        context: &mut Context<'_>,
        owner: &impl Owner,
    ) -> Poll<io::Result<Written>> {
        if !pipe.batch.has_remaining() && pipe.flushed {
            self.take(pipe, owner)?;
            if !pipe.batch.has_remaining() {
                return Poll::Ready(Ok(Written::Nothing));
            }
        }
        pipe.flushed = false;
        while pipe.batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = pipe.batch.chunks_vectored(&mut slices);
            let written = Pin::new(&mut pipe.transport).poll_write_vectored(context, &slices[..count]);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => pipe.batch.advance(written),
            }
        }
        ready!(Pin::new(&mut pipe.transport).poll_flush(context))?;
        pipe.flushed = true;
        owner.wrote();
        Poll::Ready(Ok(Written::Batch))
    }

    /// Takes the next batch.
    fn take(&self, pipe: &mut Pipe, owner: &impl Owner) -> io::Result<()> {
        let Pipe { ring, batch, .. } = pipe;
        {
            let mut waiting = lock(&self.waiting);
            batch.head.extend_from_slice(&waiting.control);
            waiting.control.clear();
            if waiting.control.capacity() > BATCH {
                waiting.control = BytesMut::new();
            }
            ring.append(&mut waiting.ready);
        }
        while batch.remaining() < BATCH && batch.pieces.len() < PIECES - 2 {
            let Some(stream) = ring.pop_front() else { break };
            match stream.turn() {
                Turn::Payload { bytes, more } => {
                    batch.payload(stream.id(), bytes);
                    if more {
                        ring.push_back(stream);
                    }
                }
                Turn::End => {
                    let end = to_agent::Body::End(End { stream: stream.id() });
                    codec::encode(&ToAgent { body: Some(end) }, &mut batch.head).map_err(io::Error::other)?;
                    owner.finished(&stream);
                }
                Turn::Nothing => {}
            }
        }
        batch.seal();
        Ok(())
    }
}

/// Bytes of one write: frames as they were encoded, and large payloads where they lie.
#[derive(Default)]
struct Batch {
    pieces: VecDeque<Bytes>,
    sealed: usize,
    head: BytesMut,
}

impl Batch {
    /// Appends a [`protocol::agent::Data`] frame without copying a large payload.
    fn payload(&mut self, stream: u64, bytes: Bytes) {
        const BODY: u32 = 3;
        let field =
            key_len(1) + encoded_len_varint(stream) + key_len(2) + encoded_len_varint(bytes.len() as u64);
        let data = field + bytes.len();
        let frame = key_len(BODY) + encoded_len_varint(data as u64) + data;
        self.head.put_u32(frame as u32);
        encode_key(BODY, WireType::LengthDelimited, &mut self.head);
        encode_varint(data as u64, &mut self.head);
        encode_key(1, WireType::Varint, &mut self.head);
        encode_varint(stream, &mut self.head);
        encode_key(2, WireType::LengthDelimited, &mut self.head);
        encode_varint(bytes.len() as u64, &mut self.head);
        if bytes.len() <= COPY {
            self.head.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.sealed += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    fn seal(&mut self) {
        if !self.head.is_empty() {
            self.sealed += self.head.len();
            self.pieces.push_back(self.head.split().freeze());
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.sealed + self.head.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.head[..], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = count.min(piece.len());
            piece.advance(step);
            self.sealed -= step;
            count -= step;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            if count == 0 {
                return;
            }
        }
        self.head.advance(count);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        if filled < slices.len() && !self.head.is_empty() {
            slices[filled] = IoSlice::new(&self.head);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Kind;
    use super::*;
    use protocol::agent::{Data, Ping};
    use tokio::io::AsyncReadExt;

    struct Nobody;

    impl Owner for Nobody {
        fn wrote(&self) {}
        fn finished(&self, _: &StreamState) {}
    }

    #[tokio::test]
    async fn control_goes_first_and_streams_take_turns() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let outgoing = Outgoing::new(Box::new(ours));
        for id in [1, 3, 5] {
            let stream = Arc::new(StreamState::new(id, Kind::Bytes));
            // Above and below the size that is copied.
            stream.load([COPY + 1, 10, COPY + 1].map(|length| Bytes::from(vec![id as u8; length])));
            outgoing.ready(stream);
        }
        outgoing.control(to_agent::Body::Ping(Ping { number: 7 })).unwrap();
        let mut buffer = BytesMut::new();
        let read = async {
            let mut order = Vec::new();
            while order.len() < 10 {
                theirs.read_buf(&mut buffer).await.unwrap();
                while let Some(frame) = codec::decode::<ToAgent>(&mut buffer).unwrap() {
                    order.push(match frame.body.unwrap() {
                        to_agent::Body::Data(data) => {
                            assert!(data.bytes.iter().all(|byte| u64::from(*byte) == data.stream));
                            data.stream
                        }
                        to_agent::Body::Ping(_) => 0,
                        other => panic!("not expected: {other:?}"),
                    });
                }
            }
            order
        };
        let order = tokio::select! {
            order = read => order,
            error = outgoing.run(&Nobody) => panic!("{error}"),
        };
        assert_eq!(order, [0, 1, 3, 5, 1, 3, 5, 1, 3, 5]);
    }

    #[test]
    fn a_payload_is_encoded_as_the_codec_would_at_every_size_that_changes_a_length() {
        for (stream, length) in
            [(1, 0), (127, 1), (128, 127), (129, 128), (1 << 40, COPY), (3, COPY + 1), (5, 32 << 10)]
        {
            let bytes = Bytes::from(vec![b'x'; length]);
            let mut batch = Batch::default();
            batch.payload(stream, bytes.clone());
            batch.seal();
            let mut expected = BytesMut::new();
            codec::encode(
                &ToAgent { body: Some(to_agent::Body::Data(Data { stream, bytes })) },
                &mut expected,
            )
            .unwrap();
            let written = batch.copy_to_bytes(batch.remaining());
            let decoded = codec::decode::<ToAgent>(&mut BytesMut::from(&written[..])).unwrap();
            assert_eq!(decoded, codec::decode::<ToAgent>(&mut expected).unwrap(), "{length} bytes");
        }
    }
}
