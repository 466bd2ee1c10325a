//! One connection to an agent, from handshake to loss: who waits for which answer, which streams are open, and the
//! tasks that read, write and watch. It never comes back to life; `supervise` makes the next one.

use super::error::LinkError;
use super::handshake;
use super::outgoing::{Outgoing, Owner};
use super::stream::{Kind, PodStream, StreamState, Verdict};
use super::transport::ReadHalf;
use super::{IncomingConnection, LinkEvent, Unsettled};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use nix::errno::Errno;
use protocol::agent::{
    Connect, Connected, Goodbye, Incoming, Ping, Request, Reset, Response, ToClient, connect, request,
    response, to_agent, to_client,
};
use protocol::codec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long any request but a connect may take.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// What a connect gets on top of the agent's own time for it.
const CONNECT_SLACK: Duration = Duration::from_secs(2);
/// The kernel's own patience with a connect (tcp_syn_retries 6), for connects that name no time.
const KERNEL_CONNECT: Duration = Duration::from_secs(135);
/// How long a stream may stay half-closed after its owner has let go of it, as tcp_fin_timeout.
const ORPHAN: Duration = Duration::from_secs(60);
/// How long the agent may take to hear a goodbye.
const FAREWELL: Duration = Duration::from_millis(300);
/// Read from the transport at once. Payload is handed on in slices of this buffer, not copied.
const READ_BUFFER: usize = 128 << 10;
/// Payload below this is copied out: a few bytes that nobody reads must not hold a whole buffer.
const COPY_OUT: usize = 1 << 10;

/// When the other side's silence means something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A ping after this much silence.
    pub(super) ping: Duration,
    /// The link is lost after this much.
    pub(super) dead: Duration,
    /// How long a request waits for a link that is being made again.
    pub(super) link: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { ping: Duration::from_secs(10), dead: Duration::from_secs(30), link: Duration::from_secs(5) }
    }
}

/// Who writes a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Writes {
    /// The connection's writer, together with what else is ready.
    Writer,
    /// Who asks: a thread of its own, which has nothing better to do.
    Asker,
}

/// Where a connection hands on what is not an answer.
#[derive(Clone)]
pub(super) struct Outlets {
    pub(super) incoming: mpsc::Sender<IncomingConnection>,
    /// How many of them nobody has settled yet.
    pub(super) unsettled: Arc<watch::Sender<usize>>,
    pub(super) events: broadcast::Sender<LinkEvent>,
}

impl Outlets {
    /// `kept`: how many events a slow listener may fall behind.
    pub(super) fn new(incoming: mpsc::Sender<IncomingConnection>, kept: usize) -> Self {
        Self { incoming, unsettled: Arc::new(watch::Sender::new(0)), events: broadcast::Sender::new(kept) }
    }
}

/// See the module.
pub(super) struct Connection {
    generation: u64,
    outgoing: Outgoing,
    waiting: Mutex<Waiting>,
    streams: Mutex<Streams>,
    next_request: AtomicU64,
    next_stream: AtomicU64,
    started: Instant,
    received_at: AtomicU64,
    written_at: AtomicU64,
    left: AtomicBool,
    lost: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, Waiter>,
    /// Set once, when the connection is lost.
    lost: Option<String>,
}

enum Waiter {
    Here(oneshot::Sender<Response>),
    /// Nobody waits any more for a connect's answer; should it work after all, its stream is reset.
    Abandoned(u64),
}

#[derive(Default)]
struct Streams {
    open: HashMap<u64, Arc<StreamState>>,
    orphans: HashMap<u64, Instant>,
    lost: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Starts the tasks of a connection whose handshake is done.
    pub(super) fn start(
        generation: u64,
        shaken: handshake::Shaken,
        outlets: Outlets,
        patience: Patience,
    ) -> Arc<Self> {
        let connection = Arc::new(Self {
            generation,
            outgoing: Outgoing::new(shaken.writer),
            waiting: Mutex::default(),
            streams: Mutex::default(),
            next_request: AtomicU64::new(1),
            next_stream: AtomicU64::new(1),
            started: Instant::now(),
            received_at: AtomicU64::new(0),
            written_at: AtomicU64::new(0),
            left: AtomicBool::new(false),
            lost: CancellationToken::new(),
        });
        tokio::spawn(connection.clone().read(shaken.reader, shaken.buffer, outlets));
        tokio::spawn(connection.clone().write());
        tokio::spawn(connection.clone().watch(patience));
        connection
    }

    /// Counts the connections of one link from 1.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Completes when the connection is of no further use.
    pub(super) async fn until_lost(&self) {
        self.lost.cancelled().await;
    }

    /// Why it was lost.
    pub(super) fn loss(&self) -> Option<String> {
        lock(&self.waiting).lost.clone()
    }

    /// Asks, and waits for the answer.
    pub(super) async fn request(
        &self,
        op: request::Op,
        deadline: Duration,
        writes: Writes,
    ) -> Result<Response, LinkError> {
        self.ask(op, deadline, None, writes).await
    }

    async fn ask(
        &self,
        op: request::Op,
        deadline: Duration,
        stream: Option<u64>,
        writes: Writes,
    ) -> Result<Response, LinkError> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (answer_tx, answer_rx) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(detail) = &waiting.lost {
                return Err(LinkError::Lost { detail: detail.clone() });
            }
            waiting.answers.insert(id, Waiter::Here(answer_tx));
        }
        let asked = Asked { connection: self, id, stream };
        let body = to_agent::Body::Request(Request { id, op: Some(op) });
        match writes {
            Writes::Writer => self.outgoing.control(body)?,
            Writes::Asker => self.outgoing.control_now(body, self)?,
        }
        let answer = tokio::time::timeout(deadline, answer_rx).await;
        match answer {
            Ok(Ok(response)) => {
                std::mem::forget(asked);
                Ok(response)
            }
            Ok(Err(_)) => Err(LinkError::Lost { detail: self.loss().unwrap_or_default() }),
            Err(_) => Err(LinkError::Deadline { after: deadline }),
        }
    }

    /// Connects from the pod's network.
    pub(super) async fn connect(
        self: &Arc<Self>,
        to: connect::To,
        timeout: Duration,
        writes: Writes,
    ) -> Result<(Connected, PodStream), Errno> {
        let kind = match to {
            connect::To::Udp(_) => Kind::Datagrams,
            _ => Kind::Bytes,
        };
        // From here on, giving up (also by dropping this future) resets the stream.
        let (id, state, stream) = self.new_stream(kind)?;
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let deadline = if timeout.is_zero() { KERNEL_CONNECT } else { timeout } + CONNECT_SLACK;
        let op = request::Op::Connect(Connect { stream: id, to: Some(to), timeout_ms });
        let refused = match self.ask(op, deadline, Some(id), writes).await {
            Ok(Response { errno: 0, answer: Some(response::Answer::Connected(connected)), .. }) => {
                return Ok((connected, stream));
            }
            Ok(Response { errno: 0, .. }) => {
                drop(stream);
                return Err(Errno::EPROTO);
            }
            Ok(Response { errno, .. }) => Errno::from_raw(errno),
            Err(LinkError::Lost { .. }) => Errno::ECONNRESET,
            Err(LinkError::TooLong(_)) => Errno::EINVAL,
            Err(_) => {
                drop(stream);
                return Err(Errno::ETIMEDOUT);
            }
        };
        // The agent has no such stream: forget it without a word on the wire.
        self.forget(id);
        state.reset(refused);
        Err(refused)
    }

    /// Opens a way for datagrams without waiting for the agent's word: what is sent meanwhile follows the question on
    /// the wire, so that a look-up of a name is one round trip. A refusal shows as a reset.
    pub(super) fn connect_unheard(self: &Arc<Self>, to: String) -> Result<PodStream, Errno> {
        let (id, state, stream) = self.new_stream(Kind::Datagrams)?;
        let to = Some(connect::To::Udp(to));
        let timeout_ms = u32::try_from(KERNEL_CONNECT.as_millis()).unwrap_or(u32::MAX);
        let op = request::Op::Connect(Connect { stream: id, to, timeout_ms });
        let connection = self.clone();
        let mut asking = Box::pin(async move {
            let refused = match connection.ask(op, KERNEL_CONNECT, Some(id), Writes::Writer).await {
                Ok(Response { errno: 0, .. }) => return,
                Ok(Response { errno, .. }) => Errno::from_raw(errno),
                Err(LinkError::Lost { .. }) => Errno::ECONNRESET,
                Err(_) => Errno::ETIMEDOUT,
            };
            connection.forget(id);
            state.reset(refused);
        });
        // The first poll queues the question, in front of all that is sent on the stream.
        if asking.as_mut().now_or_never().is_none() {
            tokio::spawn(asking);
        }
        Ok(stream)
    }

    /// A stream that the agent does not know of yet. Dropping the last of its three resets it.
    fn new_stream(self: &Arc<Self>, kind: Kind) -> Result<(u64, Arc<StreamState>, PodStream), Errno> {
        let id = self.next_stream.fetch_add(2, Ordering::Relaxed);
        let state = Arc::new(StreamState::new(id, kind));
        {
            let mut streams = lock(&self.streams);
            if streams.lost {
                return Err(Errno::ECONNRESET);
            }
            streams.open.insert(id, state.clone());
        }
        let stream = PodStream::new(state.clone(), self.clone());
        Ok((id, state, stream))
    }

    /// Queues a control frame. On a lost connection it goes nowhere, as everything else.
    pub(super) fn control(&self, body: to_agent::Body) {
        if self.lost.is_cancelled() {
            return;
        }
        if let Err(error) = self.outgoing.control(body) {
            self.lose(&format!("a control frame cannot be encoded: {error}"));
        }
    }

    /// Puts a stream into the writer's ring.
    pub(super) fn ready(&self, stream: Arc<StreamState>) {
        if !self.lost.is_cancelled() {
            self.outgoing.ready(stream);
        }
    }

    /// Resets a stream from this side, once.
    pub(super) fn reset_stream(&self, state: &StreamState, errno: Errno) {
        state.reset(errno);
        if self.forget(state.id()) {
            self.control(to_agent::Body::Reset(Reset { stream: state.id(), errno: errno as i32 }));
        }
    }

    /// Nobody holds the stream any more; half open it may stay for a while only.
    pub(super) fn orphaned(&self, state: &StreamState, now: Instant) {
        let mut streams = lock(&self.streams);
        if streams.open.contains_key(&state.id()) {
            streams.orphans.insert(state.id(), now);
        }
    }

    /// Whether the stream was still open.
    fn forget(&self, id: u64) -> bool {
        let mut streams = lock(&self.streams);
        streams.orphans.remove(&id);
        streams.open.remove(&id).is_some()
    }

    fn stream(&self, id: u64) -> Option<Arc<StreamState>> {
        lock(&self.streams).open.get(&id).cloned()
    }

    /// How many streams are open.
    #[cfg(test)]
    pub(super) fn open_streams(&self) -> usize {
        lock(&self.streams).open.len()
    }

    /// Whether it was left for good: it is not to be made again.
    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Tells the agent that nobody comes back, and waits a little until it has heard.
    pub(super) async fn say_goodbye(&self) {
        self.left.store(true, Ordering::Relaxed);
        if self.outgoing.control(to_agent::Body::Goodbye(Goodbye {})).is_ok() {
            // An agent that does not answer finds out by itself.
            let _ = tokio::time::timeout(FAREWELL, self.until_lost()).await;
        }
    }

    /// Ends the connection: every waiting request fails, every stream is reset.
    pub(super) fn lose(&self, detail: &str) {
        let answers = {
            let mut waiting = lock(&self.waiting);
            if waiting.lost.is_some() {
                return;
            }
            waiting.lost = Some(detail.to_owned());
            std::mem::take(&mut waiting.answers)
        };
        let streams = {
            let mut streams = lock(&self.streams);
            streams.lost = true;
            streams.orphans.clear();
            std::mem::take(&mut streams.open)
        };
        self.lost.cancel();
        self.outgoing.clear();
        drop(answers);
        for stream in streams.values() {
            stream.reset(Errno::ECONNRESET);
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn write(self: Arc<Self>) {
        tokio::select! {
            () = self.lost.cancelled() => {}
            error = self.outgoing.run(&*self) => self.lose(&format!("cannot write: {error}")),
        }
    }

    async fn read(self: Arc<Self>, mut reader: ReadHalf, mut buffer: BytesMut, outlets: Outlets) {
        loop {
            loop {
                match codec::decode::<ToClient>(&mut buffer) {
                    Ok(Some(frame)) => self.dispatch(frame, &outlets),
                    Ok(None) => break,
                    Err(error) => return self.lose(&error.to_string()),
                }
            }
            if buffer.capacity() - buffer.len() < READ_BUFFER / 4 {
                buffer.reserve(READ_BUFFER);
            }
            let read = tokio::select! {
                () = self.lost.cancelled() => return,
                read = reader.read_buf(&mut buffer) => read,
            };
            match read {
                Ok(0) => return self.lose("the agent closed the connection"),
                Ok(_) => self.received_at.store(self.now(), Ordering::Relaxed),
                Err(error) => return self.lose(&format!("cannot read: {error}")),
            }
        }
    }

    fn dispatch(self: &Arc<Self>, frame: ToClient, outlets: &Outlets) {
        use to_client::Body;
        match frame.body {
            Some(Body::Data(data)) => {
                // A stream that we have forgotten: its frames crossed our reset.
                let Some(stream) = self.stream(data.stream) else { return };
                let small = data.bytes.len() < COPY_OUT;
                let bytes = if small { Bytes::copy_from_slice(&data.bytes) } else { data.bytes };
                self.obey(&stream, stream.data(bytes));
            }
            Some(Body::Credit(credit)) => {
                if let Some(stream) = self.stream(credit.stream) {
                    stream.grant(credit.bytes);
                }
            }
            Some(Body::End(end)) => {
                if let Some(stream) = self.stream(end.stream) {
                    self.obey(&stream, stream.end());
                }
            }
            Some(Body::Reset(reset)) => {
                if let Some(stream) = self.stream(reset.stream) {
                    self.forget(reset.stream);
                    let errno = if reset.errno == 0 { Errno::ECONNRESET as i32 } else { reset.errno };
                    stream.reset(Errno::from_raw(errno));
                }
            }
            Some(Body::Response(response)) => self.answer(response),
            Some(Body::Incoming(info)) => self.incoming(info, outlets),
            Some(Body::Event(event)) => {
                // Without a subscriber nobody wants to know.
                let _ = outlets.events.send(LinkEvent::Agent(event));
            }
            Some(Body::Closing(closing)) => {
                let detail = format!("the agent ends the link ({}): {}", closing.kind, closing.message);
                let _ = outlets.events.send(LinkEvent::Closing(closing));
                self.lose(&detail);
            }
            // Signs of life, and bodies of later versions.
            Some(Body::Pong(_) | Body::Challenge(_) | Body::Welcome(_)) | None => {}
        }
    }

    fn obey(&self, stream: &StreamState, verdict: Verdict) {
        match verdict {
            Verdict::Fine => {}
            Verdict::Over => {
                self.forget(stream.id());
            }
            Verdict::Reset(errno) => self.reset_stream(stream, errno),
        }
    }

    fn answer(&self, response: Response) {
        let waiter = lock(&self.waiting).answers.remove(&response.id);
        match waiter {
            Some(Waiter::Here(answer_tx)) => {
                // Who gave up a moment ago does not want it.
                let _ = answer_tx.send(response);
            }
            Some(Waiter::Abandoned(stream)) if response.errno == 0 => {
                self.control(to_agent::Body::Reset(Reset { stream, errno: Errno::ECONNRESET as i32 }));
            }
            Some(Waiter::Abandoned(_)) => {}
            None => tracing::debug!(id = response.id, "an answer that nobody waits for"),
        }
    }

    fn incoming(self: &Arc<Self>, info: Incoming, outlets: &Outlets) {
        let id = info.stream;
        let state = Arc::new(StreamState::new(id, Kind::Bytes));
        {
            let mut streams = lock(&self.streams);
            if streams.lost {
                return;
            }
            if id == 0 || id % 2 == 1 || streams.open.contains_key(&id) {
                drop(streams);
                return self.lose(&format!("the agent opened stream {id}, which is not its to open"));
            }
            streams.open.insert(id, state.clone());
        }
        let stream = PodStream::new(state, self.clone());
        let unsettled = Unsettled::count(&outlets.unsettled);
        if let Err(refused) = outlets.incoming.try_send(IncomingConnection { info, stream, unsettled }) {
            tracing::warn!(
                port = refused.into_inner().info.port,
                "too many connections wait; given to the pod"
            );
        }
    }

    /// Pings into silence, and ends the connection when nothing comes back.
    async fn watch(self: Arc<Self>, patience: Patience) {
        let mut ticks = tokio::time::interval(patience.ping / 10);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (ping, dead) = (patience.ping.as_millis() as u64, patience.dead.as_millis() as u64);
        let mut pinged_at = 0;
        let mut number = 0;
        loop {
            tokio::select! {
                () = self.lost.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = self.now();
            let silence = now.saturating_sub(self.received_at.load(Ordering::Relaxed));
            let ours = now.saturating_sub(self.written_at.load(Ordering::Relaxed));
            if silence >= dead {
                return self.lose(&format!("no sign of life from the agent for {} s", silence / 1000));
            }
            if silence.max(ours) >= ping && now - pinged_at >= ping {
                number += 1;
                pinged_at = now;
                self.control(to_agent::Body::Ping(Ping { number }));
            }
            self.sweep();
        }
    }

    fn sweep(&self) {
        let mut old = Vec::new();
        {
            let mut streams = lock(&self.streams);
            let streams = &mut *streams;
            streams.orphans.retain(|id, since| {
                let keep = since.elapsed() < ORPHAN;
                if !keep {
                    old.extend(streams.open.get(id).cloned());
                }
                keep
            });
        }
        for stream in old {
            self.reset_stream(&stream, Errno::ETIMEDOUT);
        }
    }
}

impl Owner for Connection {
    fn wrote(&self) {
        self.written_at.store(self.now(), Ordering::Relaxed);
    }

    fn finished(&self, stream: &StreamState) {
        if stream.over() {
            self.forget(stream.id());
        }
    }
}

/// Takes care of a question whose asker goes away before the answer.
struct Asked<'a> {
    connection: &'a Connection,
    id: u64,
    stream: Option<u64>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.connection.waiting);
        if let Some(waiter) = waiting.answers.remove(&self.id)
            && let (Waiter::Here(_), Some(stream)) = (waiter, self.stream)
        {
            waiting.answers.insert(self.id, Waiter::Abandoned(stream));
        }
    }
}
