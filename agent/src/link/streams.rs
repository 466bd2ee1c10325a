//! One link's streams: numbers, credit both ways, and the way of a frame to the task that serves its stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::to_client::Body;
use protocol::agent::{Credit, Data, End, Reset};
use protocol::codec::{INITIAL_CREDIT, MAX_CHUNK};
use tokio::sync::{Semaphore, mpsc};

use super::outbox::Outbox;
use crate::sync::lock;

/// As many as a busy program may have sockets.
const MAX_STREAMS: usize = 4096;
/// Frames of one stream that may wait to be written.
const SLOTS: usize = 4;
/// Datagrams of one stream that may wait, in either direction; more are dropped, as a network would.
const MAX_DATAGRAMS: usize = 256;
/// No honest client grants more than this at once.
const MAX_CREDIT: usize = 1 << 30;
/// How far the window of a stream grows that is taken as fast as it comes: what a far laptop has on its way at full speed.
const MAX_WINDOW: u32 = 4 << 20;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes, with credit.
    Bytes,
    /// Datagrams, without.
    Datagrams,
}

/// What comes from the client on a stream.
#[derive(Debug)]
pub(crate) enum Inbound {
    Data(Bytes),
    End,
    /// With the client's reason.
    Reset(Errno),
}

/// All streams of a link.
#[derive(Debug)]
pub(crate) struct Streams {
    open: Mutex<HashMap<u64, Entry>>,
    next_even: AtomicU64,
    outbox: Arc<Outbox>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    inbox: mpsc::UnboundedSender<Inbound>,
    waiting: Arc<AtomicUsize>,
    credit: Arc<Semaphore>,
    over: Arc<AtomicBool>,
    /// What the client may still send.
    window: u32,
}

/// One stream, for the task that serves it. Dropped, the stream's number is no longer known.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u64,
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
}

/// The way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    id: u64,
    outbox: Arc<Outbox>,
    credit: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    over: Arc<AtomicBool>,
}

/// The way from the client.
#[derive(Debug)]
pub(crate) struct Receiving {
    id: u64,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    waiting: Arc<AtomicUsize>,
    streams: Arc<Streams>,
    /// What the client may have on its way.
    window: u32,
    /// Taken in, not yet granted anew.
    taken: u32,
}

impl Streams {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), next_even: AtomicU64::new(2), outbox })
    }

    /// Opens a stream that the client has numbered.
    pub(crate) fn accept(self: &Arc<Self>, id: u64, kind: Kind) -> Result<Stream, Errno> {
        if id.is_multiple_of(2) { Err(Errno::EINVAL) } else { self.add(id, kind) }
    }

    /// Opens a stream of bytes of our own.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Stream, Errno> {
        self.add(self.next_even.fetch_add(2, Ordering::Relaxed), Kind::Bytes)
    }

    fn add(self: &Arc<Self>, id: u64, kind: Kind) -> Result<Stream, Errno> {
        let mut open = lock(&self.open);
        if open.len() >= MAX_STREAMS {
            return Err(Errno::EMFILE);
        }
        if open.contains_key(&id) {
            return Err(Errno::EEXIST);
        }
        let (inbox_tx, inbox_rx) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let credit = Arc::new(Semaphore::new(INITIAL_CREDIT as usize));
        let over = Arc::new(AtomicBool::new(false));
        let slots = match kind {
            Kind::Bytes => SLOTS,
            Kind::Datagrams => MAX_DATAGRAMS,
        };
        let entry = Entry {
            kind,
            inbox: inbox_tx,
            waiting: Arc::clone(&waiting),
            credit: Arc::clone(&credit),
            over: Arc::clone(&over),
            window: INITIAL_CREDIT,
        };
        open.insert(id, entry);
        let outbox = Arc::clone(&self.outbox);
        let sending = Sending { id, outbox, credit, slots: Arc::new(Semaphore::new(slots)), over };
        let receiving = Receiving {
            id,
            inbox: inbox_rx,
            waiting,
            streams: Arc::clone(self),
            window: INITIAL_CREDIT,
            taken: 0,
        };
        Ok(Stream { id, sending, receiving })
    }

    /// Payload from the client; what comes for a stream that is over is dropped.
    pub(crate) fn data(&self, Data { stream, bytes }: Data) {
        let mut open = lock(&self.open);
        let Some(entry) = open.get_mut(&stream) else { return };
        match entry.kind {
            Kind::Bytes => {
                let Some(left) = entry.window.checked_sub(bytes.len() as u32) else {
                    tracing::warn!(stream, "the client sent more than it was granted");
                    drop(open);
                    self.outbox.stream(stream, Body::Reset(Reset { stream, errno: libc::EPROTO }), None);
                    self.over(stream, Errno::EPROTO);
                    return;
                };
                entry.window = left;
            }
            Kind::Datagrams if entry.waiting.load(Ordering::Relaxed) >= MAX_DATAGRAMS => return,
            Kind::Datagrams => {
                entry.waiting.fetch_add(1, Ordering::Relaxed);
            }
        }
        // The stream's task may have just ended; its entry goes with it.
        let _ = entry.inbox.send(Inbound::Data(bytes));
    }

    pub(crate) fn credit(&self, Credit { stream, bytes }: Credit) {
        if let Some(entry) = lock(&self.open).get(&stream) {
            let room = MAX_CREDIT.saturating_sub(entry.credit.available_permits());
            entry.credit.add_permits(room.min(bytes as usize));
        }
    }

    pub(crate) fn end(&self, End { stream }: End) {
        if let Some(entry) = lock(&self.open).get(&stream) {
            let _ = entry.inbox.send(Inbound::End);
        }
    }

    pub(crate) fn reset(&self, Reset { stream, errno }: Reset) {
        self.outbox.forget(stream);
        self.over(stream, Errno::from_raw(errno));
    }

    fn over(&self, stream: u64, errno: Errno) {
        if let Some(entry) = lock(&self.open).remove(&stream) {
            entry.over.store(true, Ordering::Relaxed);
            let _ = entry.inbox.send(Inbound::Reset(errno));
        }
    }

    /// The link is gone: every stream's task sees the end of its inbox.
    pub(crate) fn clear(&self) {
        for entry in std::mem::take(&mut *lock(&self.open)).into_values() {
            entry.over.store(true, Ordering::Relaxed);
        }
    }

    fn grant(&self, stream: u64, bytes: u32) {
        if let Some(entry) = lock(&self.open).get_mut(&stream) {
            entry.window += bytes;
            self.outbox.control(Body::Credit(Credit { stream, bytes }));
        }
    }
}

impl Sending {
    /// Waits for credit; how much may be sent now, at most one chunk.
    pub(crate) async fn room(&self) -> usize {
        // Closed is what these semaphores never are; 0 would only stop this stream.
        let Ok(one) = self.credit.acquire().await else { return 0 };
        drop(one);
        self.credit.available_permits().min(MAX_CHUNK)
    }

    /// Sends within the room given, waiting until the writer keeps up.
    pub(crate) async fn data(&self, bytes: Bytes) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
        if self.spend(bytes.len()) && !self.over.load(Ordering::Relaxed) {
            self.outbox.stream(self.id, Body::Data(Data { stream: self.id, bytes }), Some(slot));
        }
    }

    /// Sends at once; false where there is not enough credit. For copies, which may be given up.
    pub(crate) fn try_data(&self, mut bytes: Bytes) -> bool {
        if !self.spend(bytes.len()) {
            return false;
        }
        while !bytes.is_empty() && !self.over.load(Ordering::Relaxed) {
            let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK));
            self.outbox.stream(self.id, Body::Data(Data { stream: self.id, bytes: chunk }), None);
        }
        true
    }

    /// Sends a datagram, or drops it when too many wait.
    pub(crate) fn datagram(&self, bytes: Bytes) {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
            && !self.over.load(Ordering::Relaxed)
        {
            self.outbox.stream(self.id, Body::Data(Data { stream: self.id, bytes }), Some(slot));
        }
    }

    pub(crate) fn end(&self) {
        if !self.over.load(Ordering::Relaxed) {
            self.outbox.stream(self.id, Body::End(End { stream: self.id }), None);
        }
    }

    pub(crate) fn reset(&self, errno: Errno) {
        if !self.over.swap(true, Ordering::Relaxed) {
            let reset = Reset { stream: self.id, errno: errno as i32 };
            self.outbox.stream(self.id, Body::Reset(reset), None);
        }
    }

    /// Payload bytes of the whole link that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.queued()
    }

    fn spend(&self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        self.credit.try_acquire_many(bytes).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }
}

impl Receiving {
    /// What comes next; `None` when the link is gone.
    pub(crate) async fn next(&mut self) -> Option<Inbound> {
        let inbound = self.inbox.recv().await;
        if matches!(inbound, Some(Inbound::Data(_))) {
            // Counted for datagrams only; for bytes it stays at zero.
            let _ =
                self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        }
        inbound
    }

    /// Grants anew what has been passed on, in quarters of the window.
    pub(crate) fn passed_on(&mut self, bytes: usize) {
        self.taken += bytes as u32;
        if self.taken < self.window / 4 {
            return;
        }
        let mut grant = std::mem::take(&mut self.taken);
        // With nothing waiting it is the way, not the reader, that holds the stream up: twice as much may be on it.
        if self.inbox.is_empty() && self.window < MAX_WINDOW {
            grant += self.window;
            self.window *= 2;
        }
        self.streams.grant(self.id, grant);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        lock(&self.streams.open).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Arc<Streams> {
        Streams::new(Arc::new(Outbox::default()))
    }

    fn data(stream: u64, length: usize) -> Data {
        Data { stream, bytes: Bytes::from(vec![0; length]) }
    }

    #[tokio::test]
    async fn sending_stops_at_the_credit_and_goes_on_with_more() {
        let streams = streams();
        let stream = streams.accept(1, Kind::Bytes).unwrap();
        assert!(stream.sending.try_data(Bytes::from(vec![0; INITIAL_CREDIT as usize - 10])));
        assert_eq!(stream.sending.room().await, 10);
        assert!(!stream.sending.try_data(Bytes::from(vec![0; 11])));
        assert!(stream.sending.try_data(Bytes::from(vec![0; 10])));
        let room = stream.sending.room();
        tokio::pin!(room);
        assert!(futures_poll(&mut room).is_none());
        streams.credit(Credit { stream: 1, bytes: 5 });
        assert_eq!(room.await, 5);
        // An absurd grant is cut, not fatal.
        streams.credit(Credit { stream: 1, bytes: u32::MAX });
        streams.credit(Credit { stream: 1, bytes: u32::MAX });
        assert_eq!(stream.sending.room().await, MAX_CHUNK);
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_beyond_its_credit_loses_the_stream() {
        let streams = streams();
        let mut stream = streams.accept(1, Kind::Bytes).unwrap();
        streams.data(data(1, INITIAL_CREDIT as usize));
        assert!(matches!(stream.receiving.next().await, Some(Inbound::Data(_))));
        // Taken at once, so twice as much may come.
        stream.receiving.passed_on(INITIAL_CREDIT as usize);
        streams.data(data(1, 2 * INITIAL_CREDIT as usize));
        assert!(matches!(stream.receiving.next().await, Some(Inbound::Data(_))));
        streams.data(data(1, 1));
        assert!(matches!(stream.receiving.next().await, Some(Inbound::Reset(Errno::EPROTO))));
    }

    #[tokio::test]
    async fn a_window_grows_with_a_reader_that_keeps_up_and_with_no_other() {
        let streams = streams();
        let (mut quick, mut slow) =
            (streams.accept(1, Kind::Bytes).unwrap(), streams.accept(3, Kind::Bytes).unwrap());
        let half = INITIAL_CREDIT as usize / 2;
        for _ in 0..20 {
            streams.data(data(1, half));
            quick.receiving.next().await.unwrap();
            quick.receiving.passed_on(half);
        }
        assert_eq!(quick.receiving.window, MAX_WINDOW);
        streams.data(data(3, half));
        streams.data(data(3, half));
        slow.receiving.next().await.unwrap();
        slow.receiving.passed_on(half);
        assert_eq!(slow.receiving.window, INITIAL_CREDIT);
    }

    #[tokio::test]
    async fn numbers_are_odd_unique_and_free_again_with_the_stream() {
        let streams = streams();
        assert_eq!(streams.accept(2, Kind::Bytes).unwrap_err(), Errno::EINVAL);
        let stream = streams.accept(1, Kind::Bytes).unwrap();
        assert_eq!(streams.accept(1, Kind::Bytes).unwrap_err(), Errno::EEXIST);
        drop(stream);
        assert!(streams.accept(1, Kind::Bytes).is_ok());
        assert_eq!((streams.open().unwrap().id, streams.open().unwrap().id), (2, 4));
    }

    #[tokio::test]
    async fn a_lost_link_ends_every_stream() {
        let streams = streams();
        let mut stream = streams.open().unwrap();
        streams.data(data(2, 3));
        streams.clear();
        assert!(matches!(stream.receiving.next().await, Some(Inbound::Data(_))));
        assert!(stream.receiving.next().await.is_none());
    }

    #[tokio::test]
    async fn datagrams_need_no_credit_and_are_dropped_when_too_many_wait() {
        let streams = streams();
        let mut stream = streams.accept(1, Kind::Datagrams).unwrap();
        for _ in 0..MAX_DATAGRAMS + 50 {
            streams.data(data(1, 30_000));
        }
        for _ in 0..MAX_DATAGRAMS {
            assert!(matches!(stream.receiving.next().await, Some(Inbound::Data(_))));
        }
        streams.end(End { stream: 1 });
        assert!(matches!(stream.receiving.next().await, Some(Inbound::End)));
    }
}
