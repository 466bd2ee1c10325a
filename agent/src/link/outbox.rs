//! What waits to be written to one client, and the one task that writes it.
//!
//! Fair by construction: small frames (answers, credit, events) go first, then each lane that has something sends one
//! frame in turn. A lane is one stream, or the answers that carry file content. Frames that are ready together
//! leave in one write. Senders hold back by the permits that travel with their frames until these are written.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Mutex;

use bytes::BytesMut;
use protocol::agent::to_client::Body;
use protocol::agent::{Closing, Response, ToClient};
use protocol::codec;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::sync::lock;

/// About how much leaves in one write.
const BATCH: usize = 2 * codec::MAX_CHUNK;
/// A write buffer that has grown beyond this is given back.
const KEEP_BUFFER: usize = 128 << 10;

/// Frames in order of their writing.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    control: VecDeque<Body>,
    lanes: HashMap<Lane, VecDeque<Waiting>>,
    /// The lanes that have something, in turn.
    turn: VecDeque<Lane>,
    /// Payload bytes of the streams' lanes.
    queued: usize,
    last: Option<Closing>,
    finishing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Content,
    Stream(u64),
}

#[derive(Debug)]
struct Waiting {
    body: Body,
    permit: Option<OwnedSemaphorePermit>,
}

impl Outbox {
    /// A small frame: goes before all payload.
    pub(crate) fn control(&self, body: Body) {
        lock(&self.state).control.push_back(body);
        self.wake.notify_one();
    }

    /// An answer with content; `permit` comes back once it is written.
    pub(crate) fn content(&self, response: Response, permit: OwnedSemaphorePermit) {
        self.queue(Lane::Content, Body::Response(response), Some(permit));
    }

    /// A frame of a stream, in order with the stream's other frames.
    pub(crate) fn stream(&self, stream: u64, body: Body, permit: Option<OwnedSemaphorePermit>) {
        self.queue(Lane::Stream(stream), body, permit);
    }

    /// Drops what waits of a stream that is over.
    pub(crate) fn forget(&self, stream: u64) {
        let mut state = lock(&self.state);
        if let Some(lane) = state.lanes.remove(&Lane::Stream(stream)) {
            state.queued -= lane.iter().map(|waiting| payload(&waiting.body)).sum::<usize>();
            state.turn.retain(|lane| *lane != Lane::Stream(stream));
        }
    }

    /// Payload bytes that wait, of all streams together.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.state).queued
    }

    /// Lets the writer end after the small frames and `closing`.
    pub(crate) fn finish(&self, closing: Closing) {
        let mut state = lock(&self.state);
        state.finishing = true;
        state.last.get_or_insert(closing);
        drop(state);
        self.wake.notify_one();
    }

    fn queue(&self, lane: Lane, body: Body, permit: Option<OwnedSemaphorePermit>) {
        let mut state = lock(&self.state);
        state.queued += payload(&body);
        let waiting = state.lanes.entry(lane).or_default();
        let was_empty = waiting.is_empty();
        waiting.push_back(Waiting { body, permit });
        if was_empty {
            state.turn.push_back(lane);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Writes what comes until [`Self::finish`] or an error.
    pub(crate) async fn run(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut batch = BytesMut::new();
        let mut permits = Vec::new();
        loop {
            let finished = self.fill(&mut batch, &mut permits);
            if batch.is_empty() {
                if finished {
                    return writer.shutdown().await;
                }
                self.wake.notified().await;
                continue;
            }
            writer.write_all(&batch).await?;
            permits.clear();
            if batch.capacity() > KEEP_BUFFER {
                batch = BytesMut::new();
            } else {
                batch.clear();
            }
        }
    }

    /// Takes a batch; true when nothing will come after it.
    fn fill(&self, batch: &mut BytesMut, permits: &mut Vec<OwnedSemaphorePermit>) -> bool {
        let mut state = lock(&self.state);
        while batch.len() < BATCH
            && let Some(body) = state.control.pop_front()
        {
            put(body, batch);
        }
        if state.finishing {
            if state.control.is_empty()
                && let Some(closing) = state.last.take()
            {
                put(Body::Closing(closing), batch);
            }
            return state.control.is_empty();
        }
        // At least one payload frame a batch: a flood of small ones must not starve the streams.
        while let Some(lane) = state.turn.pop_front() {
            let Some(waiting) = state.lanes.get_mut(&lane) else { continue };
            let next = waiting.pop_front();
            if waiting.is_empty() {
                state.lanes.remove(&lane);
            } else {
                state.turn.push_back(lane);
            }
            if let Some(Waiting { body, permit }) = next {
                state.queued -= payload(&body);
                put(body, batch);
                permits.extend(permit);
            }
            if batch.len() >= BATCH {
                break;
            }
        }
        false
    }
}

fn payload(body: &Body) -> usize {
    match body {
        Body::Data(data) => data.bytes.len(),
        _ => 0,
    }
}

fn put(body: Body, batch: &mut BytesMut) {
    let frame = ToClient { body: Some(body) };
    let Err(error) = codec::encode(&frame, batch) else { return };
    let Some(Body::Response(Response { id, .. })) = frame.body else {
        tracing::error!(%error, "a frame was left out");
        return;
    };
    // A walk of thousands of names through thousands of folders: every request still has its answer.
    let response = Response { id, errno: libc::EOVERFLOW, message: error.to_string(), answer: None };
    if let Err(error) = codec::encode(&ToClient { body: Some(Body::Response(response)) }, batch) {
        tracing::error!(%error, "a response was left out");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::agent::{Data, Ping, Walked, response};
    use tokio::io::AsyncReadExt;

    use super::*;

    fn data(stream: u64, length: usize) -> Body {
        Body::Data(Data { stream, bytes: Bytes::from(vec![0; length]) })
    }

    async fn written(outbox: &Outbox) -> Vec<Body> {
        outbox.finish(Closing { kind: "idle".into(), message: String::new() });
        let (near, mut far) = tokio::io::duplex(16 << 20);
        outbox.run(near).await.unwrap();
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        let mut bytes = BytesMut::from(&bytes[..]);
        std::iter::from_fn(|| codec::decode::<ToClient>(&mut bytes).unwrap())
            .filter_map(|frame| frame.body)
            .collect()
    }

    fn order(batch: &[u8]) -> Vec<String> {
        let mut bytes = BytesMut::from(batch);
        std::iter::from_fn(|| codec::decode::<ToClient>(&mut bytes).unwrap())
            .map(|frame| match frame.body.unwrap() {
                Body::Data(data) => data.stream.to_string(),
                Body::Pong(_) => "pong".into(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn small_frames_go_first_and_streams_take_turns() {
        let outbox = Outbox::default();
        for stream in [1, 1, 1, 3, 5] {
            outbox.stream(stream, data(stream, 10), None);
        }
        outbox.control(Body::Pong(Ping { number: 1 }));
        let mut batch = BytesMut::new();
        outbox.fill(&mut batch, &mut Vec::new());
        assert_eq!(order(&batch), ["pong", "1", "3", "5", "1", "1"]);
        assert_eq!(outbox.queued(), 0);
    }

    #[tokio::test]
    async fn one_batch_is_bounded_and_a_forgotten_stream_is_not_written() {
        let outbox = Outbox::default();
        for _ in 0..10 {
            outbox.stream(1, data(1, codec::MAX_CHUNK), None);
            outbox.stream(3, data(3, codec::MAX_CHUNK), None);
        }
        outbox.forget(1);
        assert_eq!(outbox.queued(), 10 * codec::MAX_CHUNK);
        let mut batch = BytesMut::new();
        outbox.fill(&mut batch, &mut Vec::new());
        assert_eq!(order(&batch), ["3", "3"]);
    }

    #[tokio::test]
    async fn an_answer_that_exceeds_a_frame_becomes_an_error_of_the_same_request() {
        let outbox = Outbox::default();
        let walked = Walked { content: Bytes::from(vec![0; codec::MAX_FRAME]), ..Walked::default() };
        let answer = Some(response::Answer::Walked(walked));
        outbox.control(Body::Response(Response { id: 9, errno: 0, message: String::new(), answer }));
        let bodies = written(&outbox).await;
        let [Body::Response(response), Body::Closing(_)] = bodies.as_slice() else { panic!("{bodies:?}") };
        assert_eq!((response.id, response.errno), (9, libc::EOVERFLOW));
    }
}
