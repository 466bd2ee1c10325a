//! A connection to a port that sessions have by a filter: each HTTP/1.1 request goes to the session that asked for
//! it, or to the target's program.
//!
//! One request and its answer are finished before the next one is routed, so answers keep the order of their requests
//! also where these come all at once. What is not HTTP/1.x, and what could be read in two ways, is the target's
//! program's from there on, byte for byte. Who asks for nothing at first may wait for the program to speak: then it
//! is dialled, and whoever speaks first decides.
//!
//! The program has one connection as long as the client has; a session gets one stream a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use protocol::agent::Incoming;
use protocol::agent::to_client::Body as Frame;
use protocol::codec::MAX_CHUNK;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Door, MAX_REPLAY, dial_program, refuse};
use super::http::{self, MAX_HEAD, Parsed, RequestHead, ResponseKind};
use super::side::{From, Lost, Passing, Side, To};
use super::tee::Tee;
use super::{Subscription, Traffic};
use crate::files::errno_of;
use crate::socket::{Socket, Witness};

/// After this long without a word of the client, the target's program may have the first one.
const SILENCE: Duration = Duration::from_millis(50);
/// A request's first line must be whole within this.
const FIRST_LINE: Duration = Duration::from_secs(2);
/// A client that has not read its last answer yet is waited for this long.
const LINGER: Duration = Duration::from_secs(2);

/// Where a connection belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) traffic: &'a Traffic,
    pub(super) number: u16,
    pub(super) door: Door,
    pub(super) peer: SocketAddr,
    pub(super) original: SocketAddr,
    pub(super) passing: &'a AtomicUsize,
}

/// The client, and what it has said that nobody has been given yet.
struct Client {
    socket: Socket,
    buffer: BytesMut,
    pending: BytesMut,
    ended: bool,
    tee: Tee,
    replay: Replay,
}

/// What a session has been given of a request: to be said again to the target's program should it refuse.
#[derive(Default)]
struct Replay {
    said: Vec<Bytes>,
    length: usize,
}

impl Replay {
    fn note(&mut self, bytes: &Bytes) {
        self.length += bytes.len();
        if self.length <= MAX_REPLAY {
            self.said.push(bytes.clone());
        } else {
            self.said = Vec::new();
        }
    }
}

/// What comes next on a connection that nobody is answering on.
enum Next {
    Request(RequestHead),
    /// The target's program has it from here on.
    Program,
    Over,
    /// The client or the program broke off.
    Broken(Errno),
}

/// How a request ended.
enum Exchanged {
    Answered {
        closes: bool,
    },
    /// No HTTP/1.x from here on.
    Switched,
    ClientLost(Errno),
    /// The answer did not come whole; `began`: some of it did.
    SideLost {
        why: Lack,
        began: bool,
    },
}

/// What a side did instead of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Ended,
    Lost(Lost),
}

/// Routes a connection's requests until it is over.
pub(super) async fn route(place: Place<'_>, socket: Socket, tee: Tee) {
    let mut client = Client {
        socket,
        buffer: BytesMut::new(),
        pending: BytesMut::new(),
        ended: false,
        tee,
        replay: Replay::default(),
    };
    let mut pod: Option<Side<'_>> = None;
    // Who answered last; nobody at first.
    let mut by_session = None;
    loop {
        let request = match client.next(place, &mut pod, by_session).await {
            Next::Request(request) => request,
            Next::Program => {
                let side = match pod.take() {
                    Some(side) => side,
                    None => match dial(place).await {
                        Ok(side) => side,
                        Err(errno) => return client.abort(errno, place.number),
                    },
                };
                return client.raw(side).await;
            }
            Next::Over => {
                if let Some(side) = pod {
                    return client.raw(side).await;
                }
                return client.close().await;
            }
            Next::Broken(errno) => {
                pod.into_iter().for_each(Side::abort);
                return client.abort(errno, place.number);
            }
        };
        let wanted = place.traffic.takers(place.number).stealers.into_iter().find(|one| one.wants(&request));
        let offered = match wanted.as_ref().and_then(|taker| open(place, taker)) {
            Some(side) => client.offer(side, &request, wanted.as_ref()).await,
            None => Offered::Refused,
        };
        let closes = match offered {
            Offered::Answered { closes } => {
                by_session = Some(true);
                closes
            }
            Offered::Over => {
                pod.into_iter().for_each(Side::end);
                return;
            }
            Offered::Refused => {
                by_session = Some(false);
                let mut side = match pod.take().filter(Side::is_open) {
                    Some(side) => side,
                    None => match dial(place).await {
                        Ok(side) => side,
                        Err(errno) => return client.abort(errno, place.number),
                    },
                };
                match client.exchange(&mut side, &request).await {
                    Exchanged::Answered { closes } => {
                        pod = Some(side);
                        closes
                    }
                    Exchanged::Switched => return client.raw(side).await,
                    // As the client would have seen it without us.
                    Exchanged::SideLost { why: Lack::Ended, .. } => {
                        let part = side.unread.split();
                        if let Err(error) = client.socket.write_all(&part).await {
                            return client.abort(errno_of(&error), place.number);
                        }
                        true
                    }
                    Exchanged::ClientLost(errno)
                    | Exchanged::SideLost { why: Lack::Lost(Lost::Reset(errno)), .. } => {
                        side.abort();
                        return client.abort(errno, place.number);
                    }
                    Exchanged::SideLost { why: Lack::Lost(Lost::Gone), .. } => {
                        return client.abort(Errno::ECONNRESET, place.number);
                    }
                }
            }
        };
        if closes || request.closes {
            pod.into_iter().for_each(Side::end);
            return client.close().await;
        }
    }
}

async fn dial(place: Place<'_>) -> Result<Side<'_>, Errno> {
    let socket = dial_program(place.original, place.door).await?;
    Ok(Side::pod(Socket::Tcp(socket), Passing::new(place.passing)))
}

fn open<'a>(place: Place<'a>, taker: &Subscription) -> Option<Side<'a>> {
    let stream = match taker.link.streams.open() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, link = taker.link.id, "a request goes to the target's program instead");
            return None;
        }
    };
    taker.link.outbox.control(Frame::Incoming(Incoming {
        stream: stream.id,
        port: u32::from(place.number),
        peer_addr: place.peer.to_string(),
        pod_addr: place.original.to_string(),
        mirrored: false,
    }));
    Some(Side::session(stream))
}

/// What became of a request that a session was offered.
enum Offered {
    Answered {
        closes: bool,
    },
    /// It did not take it, and nothing of it was lost.
    Refused,
    /// The whole connection is.
    Over,
}

impl Client {
    /// Waits for the next request.
    async fn next<'a>(
        &mut self,
        place: Place<'a>,
        pod: &mut Option<Side<'a>>,
        by_session: Option<bool>,
    ) -> Next {
        if pod.as_ref().is_some_and(|side| !side.unread.is_empty()) {
            return Next::Program;
        }
        let silence = Instant::now() + SILENCE;
        let mut first_line = None;
        let mut is_reachable = true;
        loop {
            match http::request(&self.pending) {
                Parsed::Whole(request) => return Next::Request(request),
                Parsed::Other => return Next::Program,
                Parsed::Partial if self.ended && self.pending.is_empty() => return Next::Over,
                Parsed::Partial if self.ended => return Next::Program,
                Parsed::Partial => {}
            }
            let has_line = self.pending.trim_ascii_start().contains(&b'\n');
            if !self.pending.is_empty() {
                first_line.get_or_insert(Instant::now() + FIRST_LINE);
            }
            let may_speak = by_session.is_none() && pod.is_none() && is_reachable && self.pending.is_empty();
            let room = MAX_HEAD - self.pending.len();
            tokio::select! {
                biased;
                read = self.socket.read(&mut self.buffer, room) => match read {
                    Ok(bytes) => self.heard(bytes),
                    Err(error) => return Next::Broken(errno_of(&error)),
                },
                spoke = unasked(pod), if pod.is_some() => match spoke {
                    Ok(bytes) if !bytes.is_empty() => {
                        if let Some(side) = pod {
                            side.unread.extend_from_slice(&bytes);
                        }
                        return Next::Program;
                    }
                    // Its client goes with it, unless that last spoke to a session.
                    Ok(_) if by_session != Some(true) => return Next::Program,
                    Err(Lost::Reset(errno)) if by_session != Some(true) => return Next::Broken(errno),
                    Ok(_) | Err(_) => *pod = None,
                },
                () = sleep_until(silence), if may_speak => match dial(place).await {
                    Ok(side) => *pod = Some(side),
                    // The first request may be a session's all the same.
                    Err(errno) => {
                        tracing::debug!(%errno, port = place.number, "the target's program cannot be asked whether it speaks first");
                        is_reachable = false;
                    }
                },
                () = sleep_until(first_line.unwrap_or(silence)), if first_line.is_some() && !has_line => {
                    return Next::Program;
                }
            }
        }
    }

    fn heard(&mut self, bytes: Bytes) {
        heard(&bytes, &mut self.pending, &mut self.ended, &mut self.tee);
    }

    /// Has a session answer; ends the connection itself where that is all that is left to do.
    async fn offer(
        &mut self,
        mut side: Side<'_>,
        request: &RequestHead,
        taker: Option<&Subscription>,
    ) -> Offered {
        match self.exchange(&mut side, request).await {
            Exchanged::Answered { closes } => {
                side.end();
                Offered::Answered { closes }
            }
            Exchanged::Switched => {
                self.carry(side).await;
                Offered::Over
            }
            Exchanged::ClientLost(errno) => {
                side.abort();
                self.broken(errno);
                Offered::Over
            }
            Exchanged::SideLost { began: false, why: Lack::Lost(Lost::Reset(Errno::ECONNREFUSED)) }
                if self.replay.length <= MAX_REPLAY =>
            {
                let said = self.replay.said.concat();
                let later = std::mem::replace(&mut self.pending, BytesMut::from(&said[..]));
                self.pending.unsplit(later);
                Offered::Refused
            }
            Exchanged::SideLost { began, why } => {
                side.abort();
                if began {
                    self.broken(Errno::ECONNRESET);
                } else {
                    let owner = taker.map_or("a session", |taker| taker.link.owner.as_str());
                    self.apologise(request, owner, why).await;
                }
                Offered::Over
            }
        }
    }

    /// One request, from its head on, and its answer.
    async fn exchange(&mut self, side: &mut Side<'_>, request: &RequestHead) -> Exchanged {
        self.replay = Replay::default();
        let (to, mut from, unread) = side.split();
        let (said_all, heard_any, began) = (Notify::new(), AtomicBool::new(false), AtomicBool::new(false));
        let Self { socket, buffer, pending, ended, tee, replay } = self;
        let socket: &Socket = socket;
        let saying = Saying { socket, buffer, pending, ended, tee, replay };
        let saying = saying.say(request, &to, &said_all);
        let answering = async {
            let answer = answer(socket, &mut from, unread, request, &heard_any, &began).await?;
            match answer {
                Answer::Whole { closes: true } => {}
                // The next request begins where this one ends.
                Answer::Whole { closes: false } => tokio::select! {
                    biased;
                    () = said_all.notified() => {}
                    _ = from.read() => return Ok(Answer::Whole { closes: true }),
                },
                // Cut in the middle of what is being said, bytes would be lost.
                Answer::Switched if timeout(LINGER, said_all.notified()).await.is_err() => {
                    return Err(Unanswered::ClientLost(Errno::EPROTO));
                }
                Answer::Switched => {}
            }
            Ok(answer)
        };
        tokio::pin!(saying, answering);
        let answered = tokio::select! {
            biased;
            answered = &mut answering => answered,
            unsaid = &mut saying => match unsaid {
                Unsaid::ClientLost(errno) => return Exchanged::ClientLost(errno),
                Unsaid::Switched => return Exchanged::Switched,
                // It may have answered before it closed.
                Unsaid::SideLost => answering.await,
            },
        };
        match answered {
            Ok(Answer::Whole { closes }) => Exchanged::Answered { closes },
            Ok(Answer::Switched) => Exchanged::Switched,
            Err(Unanswered::ClientLost(errno)) => Exchanged::ClientLost(errno),
            Err(Unanswered::SideLost(why)) => {
                let refused = why == Lack::Lost(Lost::Reset(Errno::ECONNREFUSED));
                let began = if refused { &heard_any } else { &began };
                Exchanged::SideLost { why, began: began.load(Ordering::Relaxed) }
            }
        }
    }

    /// Carries bytes both ways until both sides are done.
    async fn raw(mut self, side: Side<'_>) {
        self.carry(side).await;
    }

    async fn carry(&mut self, mut side: Side<'_>) {
        let (to, mut from, unread) = side.split();
        let Self { socket, buffer, pending, ended, tee, .. } = self;
        let socket: &Socket = socket;
        let upwards = async {
            to.send(pending.split().freeze()).await?;
            while !*ended {
                let bytes = socket.read(buffer, MAX_CHUNK).await.map_err(|error| errno_of(&error))?;
                *ended = bytes.is_empty();
                if !*ended {
                    tee.saw(&bytes);
                    to.send(bytes).await?;
                }
            }
            tee.ended();
            to.end();
            Ok(())
        };
        let downwards = async {
            let mut bytes = unread.split().freeze();
            loop {
                socket.write_all(&bytes).await.map_err(|error| errno_of(&error))?;
                from.passed_on(bytes.len());
                bytes = match from.read().await {
                    Ok(bytes) => bytes,
                    Err(Lost::Reset(errno)) => return Err(errno),
                    Err(Lost::Gone) => return Err(Errno::ECONNRESET),
                };
                if bytes.is_empty() {
                    socket.end();
                    return Ok(());
                }
            }
        };
        if let Err(errno) = tokio::try_join!(upwards, downwards) {
            side.abort();
            self.broken(errno);
        }
    }

    /// Says that a session gave no answer.
    async fn apologise(&mut self, request: &RequestHead, owner: &str, why: Lack) {
        let why = match why {
            Lack::Ended => "closed the connection without an answer".to_owned(),
            Lack::Lost(Lost::Gone) => "is gone".to_owned(),
            Lack::Lost(Lost::Reset(errno)) => format!("broke off the connection ({})", errno.desc()),
        };
        let text = format!("mirrord-ide: the program of {owner}, which this request was for, {why}\n");
        let body = if request.is_head { "" } else { text.as_str() };
        let answer = format!(
            "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            text.len()
        );
        match self.socket.write_all(answer.as_bytes()).await {
            Ok(()) => self.finish().await,
            Err(error) => self.broken(errno_of(&error)),
        }
    }

    /// The last answer has been given.
    async fn close(mut self) {
        self.finish().await;
    }

    /// What the client still says is read, else it would lose its answer to a reset.
    async fn finish(&mut self) {
        self.socket.end();
        let Self { socket, buffer, ended, .. } = self;
        let rest = async {
            while !*ended {
                *ended = !matches!(socket.read(buffer, MAX_CHUNK).await, Ok(bytes) if !bytes.is_empty());
            }
        };
        // Whoever goes on talking has had its time.
        let _ = timeout(LINGER, rest).await;
        self.tee.ended();
    }

    fn broken(&mut self, errno: Errno) {
        self.tee.reset(errno);
        self.socket.reset_on_close();
    }

    fn abort(mut self, errno: Errno, number: u16) {
        self.tee.reset(errno);
        refuse(self.socket, number, errno);
    }
}

/// What the program says without having been asked.
async fn unasked(pod: &mut Option<Side<'_>>) -> Result<Bytes, Lost> {
    match pod {
        Some(side) => side.split().1.read().await,
        None => std::future::pending().await,
    }
}

fn heard(bytes: &Bytes, pending: &mut BytesMut, ended: &mut bool, tee: &mut Tee) {
    if bytes.is_empty() {
        *ended = true;
        tee.ended();
    } else {
        tee.saw(bytes);
        pending.extend_from_slice(bytes);
    }
}

/// Why a request was not said to its end, or nothing more needs saying.
enum Unsaid {
    ClientLost(Errno),
    SideLost,
    /// Its body has no end that we understand.
    Switched,
}

/// The half of a client that says a request.
struct Saying<'a> {
    socket: &'a Socket,
    buffer: &'a mut BytesMut,
    pending: &'a mut BytesMut,
    ended: &'a mut bool,
    tee: &'a mut Tee,
    replay: &'a mut Replay,
}

impl Saying<'_> {
    /// Says the request, then reads ahead: its client's end is the side's to know.
    async fn say(mut self, request: &RequestHead, to: &To<'_>, said_all: &Notify) -> Unsaid {
        let head = self.pending.split_to(request.length).freeze();
        if self.send(head, to).await.is_err() {
            return Unsaid::SideLost;
        }
        let mut body = request.body.clone();
        while !body.is_over() {
            if self.pending.is_empty() {
                if *self.ended {
                    to.end();
                    return Unsaid::SideLost;
                }
                if let Err(errno) = self.read(MAX_CHUNK).await {
                    return Unsaid::ClientLost(errno);
                }
                continue;
            }
            let Ok(length) = body.take(self.pending) else { return Unsaid::Switched };
            let part = self.pending.split_to(length).freeze();
            if self.send(part, to).await.is_err() {
                return Unsaid::SideLost;
            }
        }
        said_all.notify_one();
        while !*self.ended {
            let room = MAX_HEAD.saturating_sub(self.pending.len());
            if room == 0 {
                break;
            }
            if let Err(errno) = self.read(room).await {
                return Unsaid::ClientLost(errno);
            }
        }
        if *self.ended && self.pending.is_empty() {
            to.end();
        }
        std::future::pending().await
    }

    async fn send(&mut self, bytes: Bytes, to: &To<'_>) -> Result<(), Errno> {
        if let To::Session(_) = to {
            self.replay.note(&bytes);
        }
        to.send(bytes).await
    }

    async fn read(&mut self, room: usize) -> Result<(), Errno> {
        let bytes = self.socket.read(self.buffer, room).await.map_err(|error| errno_of(&error))?;
        heard(&bytes, self.pending, self.ended, self.tee);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Whole { closes: bool },
    Switched,
}

enum Unanswered {
    ClientLost(Errno),
    SideLost(Lack),
}

/// Passes one answer on, whole.
async fn answer(
    client: &Socket,
    from: &mut From<'_>,
    unread: &mut BytesMut,
    asked: &RequestHead,
    heard_any: &AtomicBool,
    began: &AtomicBool,
) -> Result<Answer, Unanswered> {
    let head = loop {
        match http::response(unread, asked) {
            Parsed::Partial => {
                let bytes = from.read().await.map_err(|lost| Unanswered::SideLost(Lack::Lost(lost)))?;
                if bytes.is_empty() {
                    return Err(Unanswered::SideLost(Lack::Ended));
                }
                heard_any.store(true, Ordering::Relaxed);
                unread.extend_from_slice(&bytes);
            }
            Parsed::Other => return Ok(Answer::Switched),
            Parsed::Whole(head) => {
                // What has been written in part is not taken back.
                began.fetch_or(head.kind != ResponseKind::Interim, Ordering::Relaxed);
                pass(client, from, unread, head.length).await?;
                if head.kind != ResponseKind::Interim {
                    break head;
                }
            }
        }
    };
    let ResponseKind::Final(mut body) = head.kind else { return Ok(Answer::Switched) };
    while !body.is_over() {
        if unread.is_empty() {
            let bytes = from.read().await.map_err(|lost| Unanswered::SideLost(Lack::Lost(lost)))?;
            if bytes.is_empty() {
                // The end of the body, or of a program: the client sees what it would have seen.
                return Ok(Answer::Whole { closes: true });
            }
            unread.extend_from_slice(&bytes);
            continue;
        }
        let Ok(length) = body.take(unread) else { return Ok(Answer::Switched) };
        pass(client, from, unread, length).await?;
    }
    Ok(Answer::Whole { closes: head.closes })
}

async fn pass(
    client: &Socket,
    from: &mut From<'_>,
    unread: &mut BytesMut,
    length: usize,
) -> Result<(), Unanswered> {
    let part = unread.split_to(length);
    client.write_all(&part).await.map_err(|error| Unanswered::ClientLost(errno_of(&error)))?;
    from.passed_on(length);
    Ok(())
}
