//! Everything that waits to be written to the agent, and the one task that writes it.
//!
//! Control frames (requests, credit, resets) go first. Streams with payload stand in a ring and give one chunk a
//! turn, so that a bulk transfer delays another stream by at most a batch. What is ready goes out in one write.

use super::stream::{StreamState, Turn};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use protocol::agent::{End, ToAgent, to_agent};
use protocol::codec::{self, FrameError};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// How much one write takes at most, roughly: long enough to be cheap, short enough for a request to get its turn.
const BATCH: usize = 128 << 10;
/// Payload up to this size is copied into the batch; above it is written from where it lies.
const COPY: usize = 2 << 10;
/// The most pieces that one write hands to the kernel.
const PIECES: usize = 64;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Encoded frames.
    control: BytesMut,
    /// Streams that have payload, each at most once.
    ready: VecDeque<Arc<StreamState>>,
}

impl Outgoing {
    /// Queues a control frame.
    pub(super) fn control(&self, body: to_agent::Body) -> Result<(), FrameError> {
        codec::encode(&ToAgent { body: Some(body) }, &mut self.lock().control)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Puts a stream into the ring; the caller has made sure that it is not there yet.
    pub(super) fn ready(&self, stream: Arc<StreamState>) {
        self.lock().ready.push_back(stream);
        self.changed.notify_one();
    }

    /// Drops what waits; for a link that is lost.
    pub(super) fn clear(&self) {
        let mut waiting = self.lock();
        waiting.control.clear();
        waiting.ready.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the transport fails; the caller ends it by dropping the future.
    ///
    /// `wrote` is called after each write, `finished` for each stream whose last frame went out.
    pub(super) async fn write_to(
        &self,
        mut transport: impl AsyncWrite + Unpin,
        wrote: impl Fn(),
        finished: impl Fn(&StreamState),
    ) -> std::io::Result<()> {
        let mut ring = VecDeque::new();
        let mut batch = Batch::default();
        loop {
            {
                let mut waiting = self.lock();
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
                        codec::encode(&ToAgent { body: Some(end) }, &mut batch.head)
                            .map_err(std::io::Error::other)?;
                        finished(&stream);
                    }
                    Turn::Nothing => {}
                }
            }
            batch.seal();
            if !batch.has_remaining() {
                self.changed.notified().await;
                continue;
            }
            transport.write_all_buf(&mut batch).await?;
            transport.flush().await?;
            wrote();
        }
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
    use super::*;
    use protocol::agent::Data;

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
