//! One stream of the link: bytes with credit, or datagrams, in both directions.
//!
//! [`PodReader`] grants credit as its owner takes bytes, [`PodWriter`] waits for credit and for its turn. A stream
//! ends when both sides have said so, or when either resets it. Dropping a writer that has not ended its side
//! resets the stream: a half-written request must not look like a whole one.

use super::connection::Connection;
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{Credit, to_agent};
use protocol::codec::{INITIAL_CREDIT, MAX_CHUNK};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

/// How much payload of one stream waits for its turn at most; what comes on top waits with its sender.
const QUEUED: usize = 128 << 10;
/// How far the window of a stream grows whose reader keeps up: what a far cluster has on its way at full speed.
const MAX_WINDOW: u32 = 4 << 20;
/// Datagrams that wait in one direction of one stream; more are dropped, as a full socket buffer does.
const DATAGRAMS: usize = 256;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A byte stream.
    Bytes,
    /// Datagrams: without credit, dropped when nobody takes them.
    Datagrams,
}

/// What arrives on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Payload; for UDP one datagram.
    Data(Bytes),
    /// The pod's side sends no more.
    End,
    /// The stream is over, both ways.
    Reset(Errno),
}

/// A stream's state, shared by its two halves, the link's reader and the link's writer.
pub(super) struct StreamState {
    id: u64,
    kind: Kind,
    send: Mutex<Send>,
    receive: Mutex<Receive>,
    dropped: AtomicU64,
    /// Halves that their owner still holds.
    held: AtomicU8,
}

#[derive(Default)]
struct Send {
    credit: u64,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Whether the stream stands in the writer's ring.
    scheduled: bool,
    ending: bool,
    ended: bool,
    failed: Option<i32>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Receive {
    queue: VecDeque<Bytes>,
    finish: Option<Finish>,
    waker: Option<Waker>,
    /// What the agent may still send.
    left: u32,
    /// What it may have sent at most, with nothing read.
    window: u32,
    /// Taken by the reader and not granted again yet.
    taken: u32,
    reader_gone: bool,
}

#[derive(Clone, Copy)]
enum Finish {
    End,
    Reset(i32),
}

/// What a stream does with its turn to write.
pub(super) enum Turn {
    /// Sends this; `more` asks for another turn.
    Payload {
        /// One chunk.
        bytes: Bytes,
        /// Whether the stream stays in the ring.
        more: bool,
    },
    /// Sends its end.
    End,
    /// Has nothing to send any more.
    Nothing,
}

/// What the link's reader is to do after it has handed a frame to a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// The stream has ended both ways: forget it.
    Over,
    /// Reset it, with this reason, and forget it.
    Reset(Errno),
}

impl StreamState {
    pub(super) fn new(id: u64, kind: Kind) -> Self {
        let send = Send { credit: INITIAL_CREDIT.into(), ..Send::default() };
        let receive = Receive { left: INITIAL_CREDIT, window: INITIAL_CREDIT, ..Receive::default() };
        Self {
            id,
            kind,
            send: Mutex::new(send),
            receive: Mutex::new(receive),
            dropped: AtomicU64::new(0),
            held: AtomicU8::new(2),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn send(&self) -> MutexGuard<'_, Send> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self) -> MutexGuard<'_, Receive> {
        self.receive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues chunks as a sender would that has credit for them.
    #[cfg(test)]
    pub(super) fn load(&self, chunks: impl IntoIterator<Item = Bytes>) {
        let mut send = self.send();
        for chunk in chunks {
            send.queued += chunk.len();
            send.queue.push_back(chunk);
        }
        send.scheduled = true;
    }

    /// The writer asks for one chunk.
    pub(super) fn turn(&self) -> Turn {
        let mut send = self.send();
        let Some(bytes) = send.queue.pop_front() else {
            send.scheduled = false;
            if send.ending && !send.ended && send.failed.is_none() {
                send.ended = true;
                return Turn::End;
            }
            return Turn::Nothing;
        };
        send.queued -= bytes.len();
        let more = !send.queue.is_empty() || send.ending;
        send.scheduled = more;
        let waker = if send.queued <= QUEUED / 2 { send.waker.take() } else { None };
        drop(send);
        if let Some(waker) = waker {
            waker.wake();
        }
        Turn::Payload { bytes, more }
    }

    /// Payload from the agent.
    pub(super) fn data(&self, bytes: Bytes) -> Verdict {
        let mut receive = self.receive();
        if receive.finish.is_some() {
            return Verdict::Reset(Errno::EPROTO);
        }
        if receive.reader_gone {
            return Verdict::Reset(Errno::EPIPE);
        }
        match self.kind {
            Kind::Datagrams if receive.queue.len() >= DATAGRAMS => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return Verdict::Fine;
            }
            Kind::Datagrams => {}
            Kind::Bytes => match receive.left.checked_sub(bytes.len() as u32) {
                Some(left) => receive.left = left,
                None => return Verdict::Reset(Errno::EPROTO),
            },
        }
        if self.kind == Kind::Datagrams || !bytes.is_empty() {
            receive.queue.push_back(bytes);
        }
        let waker = receive.waker.take();
        drop(receive);
        if let Some(waker) = waker {
            waker.wake();
        }
        Verdict::Fine
    }

    /// The agent has said that it sends no more.
    pub(super) fn end(&self) -> Verdict {
        self.finish(Finish::End);
        if self.send().ended { Verdict::Over } else { Verdict::Fine }
    }

    /// Over, both ways: waiting senders fail, the reader learns of it at once.
    pub(super) fn reset(&self, errno: Errno) {
        let waker = {
            let mut send = self.send();
            send.failed.get_or_insert(errno as i32);
            send.queue.clear();
            send.queued = 0;
            send.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.finish(Finish::Reset(errno as i32));
    }

    fn finish(&self, finish: Finish) {
        let mut receive = self.receive();
        match (receive.finish, finish) {
            (None, Finish::Reset(_)) => {
                receive.queue.clear();
                receive.finish = Some(finish);
            }
            (None, Finish::End) => receive.finish = Some(finish),
            // What was received whole before its end stays readable.
            (Some(_), _) => {}
        }
        let waker = receive.waker.take();
        drop(receive);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// More payload may be sent.
    pub(super) fn grant(&self, bytes: u32) {
        let mut send = self.send();
        send.credit = send.credit.saturating_add(bytes.into());
        let waker = send.waker.take();
        drop(send);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Both sides have ended.
    pub(super) fn over(&self) -> bool {
        let ended = self.send().ended;
        ended && self.receive().finish.is_some()
    }
}

/// A connection of the pod's network, or one that was made to the pod.
pub struct PodStream {
    reader: PodReader,
    writer: PodWriter,
}

impl PodStream {
    pub(super) fn new(state: Arc<StreamState>, link: Arc<Connection>) -> Self {
        let reader = PodReader { state: state.clone(), link: link.clone() };
        Self { reader, writer: PodWriter { state, link } }
    }

    /// The two directions, to be used from different tasks.
    pub fn split(self) -> (PodReader, PodWriter) {
        (self.reader, self.writer)
    }

    /// See [`PodReader::recv`].
    pub async fn recv(&mut self) -> Chunk {
        self.reader.recv().await
    }

    /// See [`PodWriter::send`].
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Errno> {
        self.writer.send(bytes).await
    }

    /// Ends the stream at once, both ways. Before anything was sent on an incoming connection, this gives it to
    /// the pod.
    pub fn reset(&mut self, errno: Errno) {
        self.writer.reset(errno);
    }

    /// Datagrams that were dropped so far because a queue was full.
    pub fn dropped(&self) -> u64 {
        self.reader.state.dropped.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for PodStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodStream").field("id", &self.reader.state.id).finish_non_exhaustive()
    }
}

/// The direction from the pod.
pub struct PodReader {
    state: Arc<StreamState>,
    link: Arc<Connection>,
}

impl PodReader {
    /// Waits for what comes next. After [`Chunk::End`] or [`Chunk::Reset`] it answers the same again. Cancel safe.
    pub async fn recv(&mut self) -> Chunk {
        poll_fn(|context| {
            let mut receive = self.state.receive();
            if let Some(bytes) = receive.queue.pop_front() {
                let grant = self.state.take(&mut receive, bytes.len());
                drop(receive);
                self.grant(grant);
                return Poll::Ready(Chunk::Data(bytes));
            }
            match receive.finish {
                Some(Finish::End) => Poll::Ready(Chunk::End),
                Some(Finish::Reset(errno)) => Poll::Ready(Chunk::Reset(Errno::from_raw(errno))),
                None => {
                    receive.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes what has arrived already, without waiting.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        let mut receive = self.state.receive();
        let bytes = receive.queue.pop_front()?;
        let grant = self.state.take(&mut receive, bytes.len());
        drop(receive);
        self.grant(grant);
        Some(bytes)
    }

    fn grant(&self, bytes: Option<u32>) {
        if let Some(bytes) = bytes {
            self.link.control(to_agent::Body::Credit(Credit { stream: self.state.id, bytes }));
        }
    }
}

impl StreamState {
    /// One half is dropped; with the last of them, what is half open may stay so for a while only.
    fn let_go(&self, link: &Connection) {
        if self.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            link.orphaned(self, Instant::now());
        }
    }

    /// Accounts for what the reader took; answers what is to be granted, in halves of the window.
    fn take(&self, receive: &mut Receive, length: usize) -> Option<u32> {
        if self.kind == Kind::Datagrams {
            return None;
        }
        receive.taken += length as u32;
        if receive.taken < receive.window / 2 || receive.finish.is_some() {
            return None;
        }
        let mut grant = std::mem::take(&mut receive.taken);
        // With nothing waiting it is the way, not the reader, that holds the stream up: twice as much may be on it.
        if receive.queue.is_empty() && receive.window < MAX_WINDOW {
            grant += receive.window;
            receive.window *= 2;
        }
        receive.left += grant;
        Some(grant)
    }
}

impl Drop for PodReader {
    fn drop(&mut self) {
        let unread = {
            let mut receive = self.state.receive();
            receive.reader_gone = true;
            let unread = !receive.queue.is_empty();
            receive.queue.clear();
            unread
        };
        // As close(2) does: payload that nobody will read is an error for its sender, not a success.
        if unread {
            self.link.reset_stream(&self.state, Errno::EPIPE);
        }
        self.state.let_go(&self.link);
    }
}

/// The direction to the pod.
pub struct PodWriter {
    state: Arc<StreamState>,
    link: Arc<Connection>,
}

impl PodWriter {
    /// Sends bytes, or one datagram; waits for credit and for the queue.
    ///
    /// # Errors
    /// What the stream was reset with; EPIPE after [`PodWriter::end`]; EMSGSIZE for a datagram that no frame holds.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Errno> {
        if self.state.kind == Kind::Datagrams {
            return self.send_datagram(bytes);
        }
        while !bytes.is_empty() {
            let schedule = poll_fn(|context| {
                let mut send = self.state.send();
                if let Some(errno) = send.failed {
                    return Poll::Ready(Err(Errno::from_raw(errno)));
                }
                if send.ending {
                    return Poll::Ready(Err(Errno::EPIPE));
                }
                if send.credit == 0 || send.queued >= QUEUED {
                    send.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                let part = bytes.len().min(MAX_CHUNK).min(send.credit as usize);
                send.credit -= part as u64;
                send.queued += part;
                send.queue.push_back(bytes.split_to(part));
                Poll::Ready(Ok(!std::mem::replace(&mut send.scheduled, true)))
            })
            .await?;
            if schedule {
                self.link.ready(self.state.clone());
            }
        }
        Ok(())
    }

    fn send_datagram(&mut self, bytes: Bytes) -> Result<(), Errno> {
        if bytes.len() > MAX_CHUNK {
            return Err(Errno::EMSGSIZE);
        }
        let mut send = self.state.send();
        if let Some(errno) = send.failed {
            return Err(Errno::from_raw(errno));
        }
        if send.ending {
            return Err(Errno::EPIPE);
        }
        if send.queue.len() >= DATAGRAMS {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        send.queued += bytes.len();
        send.queue.push_back(bytes);
        let schedule = !std::mem::replace(&mut send.scheduled, true);
        drop(send);
        if schedule {
            self.link.ready(self.state.clone());
        }
        Ok(())
    }

    /// Says that no more is sent, after all that was.
    pub async fn end(&mut self) {
        self.end_now();
    }

    /// What [`PodWriter::end`] does; it never has to wait.
    pub(super) fn end_now(&mut self) {
        let mut send = self.state.send();
        if send.ending || send.failed.is_some() {
            return;
        }
        send.ending = true;
        let schedule = !std::mem::replace(&mut send.scheduled, true);
        drop(send);
        if schedule {
            self.link.ready(self.state.clone());
        }
    }

    /// Ends the stream at once, both ways, dropping what waits.
    pub fn reset(&mut self, errno: Errno) {
        self.link.reset_stream(&self.state, errno);
    }
}

impl Drop for PodWriter {
    fn drop(&mut self) {
        let unfinished = {
            let send = self.state.send();
            !send.ending && send.failed.is_none()
        };
        if unfinished {
            self.link.reset_stream(&self.state, Errno::ECONNRESET);
        }
        self.state.let_go(&self.link);
    }
}
