//! Streams: credit, fairness, half-close, reset, datagrams.

use super::peer::{SOON, Somewhere, Wire};
use crate::agent_link::{AgentLink, Chunk, IncomingRx, PodStream, Slot};
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{Connected, Credit, Incoming, Reset, connect, response, to_agent, to_client};
use protocol::codec::{INITIAL_CREDIT, MAX_CHUNK};
use std::time::Duration;
use tokio::time::timeout;

/// What an agent sends at once here: so many make the credit exactly.
const PIECE: usize = INITIAL_CREDIT as usize / 32;

fn somewhere() -> connect::To {
    connect::To::Tcp("10.0.0.9:80".into())
}

async fn linked(place: &Somewhere) -> (AgentLink, IncomingRx, Wire) {
    let ticket = place.ticket();
    let (linked, (wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, _, incoming) = linked.unwrap();
    (link, incoming, wire)
}

async fn open(link: &AgentLink, wire: &mut Wire) -> (u64, PodStream) {
    let (connected, id) = tokio::join!(link.connect_stream(somewhere(), SOON), wire.accept_connect());
    let (connected, stream) = connected.unwrap();
    assert_eq!(connected.pod_addr, "10.0.0.7:40000");
    assert_eq!(id % 2, 1);
    (id, stream)
}

fn open_streams(link: &AgentLink) -> usize {
    match &*link.shared.slot.borrow() {
        Slot::Up(connection) => connection.open_streams(),
        _ => 0,
    }
}

/// Bytes that differ from place to place and stream to stream.
fn pattern(seed: u8, from: usize, length: usize) -> Bytes {
    (from..from + length)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 13) as u8) ^ seed)
        .collect()
}

#[tokio::test]
async fn a_refused_connect_fails_with_the_pod_s_errno_and_leaves_nothing() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (connected, ()) = tokio::join!(link.connect_stream(somewhere(), SOON), async {
        let request = wire.request().await;
        wire.refuse(request.id, Errno::ECONNREFUSED, "").await;
    });
    assert_eq!(connected.unwrap_err(), Errno::ECONNREFUSED);
    assert_eq!(open_streams(&link), 0);
    // The next frame is the next connect: nothing was said of the stream that never was.
    open(&link, &mut wire).await;
}

#[tokio::test]
async fn a_connect_that_nobody_waits_for_any_more_is_reset_before_and_after_it_worked() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let request = tokio::select! {
        _ = link.connect_stream(somewhere(), SOON) => panic!("not answered"),
        request = wire.request() => request,
    };
    let reset = wire.next().await;
    let to_agent::Body::Reset(Reset { stream, .. }) = reset else { panic!("not a reset: {reset:?}") };
    wire.answer(request.id, response::Answer::Connected(Connected::default())).await;
    let again = wire.next().await;
    assert!(matches!(again, to_agent::Body::Reset(reset) if reset.stream == stream));
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn a_stream_without_credit_waits_and_delays_no_other() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (stalled_id, stalled) = open(&link, &mut wire).await;
    let (other_id, mut other) = open(&link, &mut wire).await;
    let (_reader, mut writer) = stalled.split();
    let sent = pattern(1, 0, INITIAL_CREDIT as usize + 1000);
    let task = {
        let sent = sent.clone();
        tokio::spawn(async move { writer.send(sent).await.map(|()| writer) })
    };
    let mut received = Vec::new();
    while received.len() < INITIAL_CREDIT as usize {
        let to_agent::Body::Data(data) = wire.next().await else { panic!("not data") };
        assert_eq!(data.stream, stalled_id);
        assert!(data.bytes.len() <= MAX_CHUNK);
        received.extend_from_slice(&data.bytes);
    }
    assert_eq!(received.len(), INITIAL_CREDIT as usize);
    other.send(Bytes::from_static(b"I have credit")).await.unwrap();
    let to_agent::Body::Data(data) = wire.next().await else { panic!("not data") };
    assert_eq!((data.stream, &data.bytes[..]), (other_id, &b"I have credit"[..]));
    for part in [1, 999] {
        wire.send(to_client::Body::Credit(Credit { stream: stalled_id, bytes: part })).await;
        let to_agent::Body::Data(data) = wire.next().await else { panic!("not data") };
        assert_eq!((data.stream, data.bytes.len()), (stalled_id, part as usize));
        received.extend_from_slice(&data.bytes);
    }
    assert!(received == sent);
    timeout(SOON, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn credit_is_granted_in_halves_as_the_reader_takes_and_more_once_it_waits() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, mut stream) = open(&link, &mut wire).await;
    let whole = INITIAL_CREDIT as usize;
    let half = whole / 2;
    for at in (0..whole).step_by(PIECE) {
        wire.data(id, pattern(0, at, PIECE)).await;
    }
    // Nothing is granted for what nobody has read: the first frame comes after the first half was.
    assert!(timeout(Duration::from_millis(100), wire.try_next()).await.is_err());
    let mut taken = 0;
    // The second grant is for a reader that has taken all and waits: its window is twice as large from then on.
    for grant in [half, half + whole] {
        let until = taken + half;
        while taken < until {
            let Chunk::Data(bytes) = stream.recv().await else { panic!("no data") };
            assert!(bytes == pattern(0, taken, bytes.len()));
            taken += bytes.len();
        }
        let granted = wire.next().await;
        assert_eq!(granted, to_agent::Body::Credit(Credit { stream: id, bytes: grant as u32 }));
    }
    // All that was granted may be sent, and not a byte more.
    for at in (0..2 * whole).step_by(PIECE) {
        wire.data(id, pattern(0, at, PIECE)).await;
    }
    assert!(timeout(Duration::from_millis(100), wire.try_next()).await.is_err());
    wire.data(id, Bytes::from_static(b"!")).await;
    assert!(matches!(wire.next().await, to_agent::Body::Reset(reset) if reset.errno == Errno::EPROTO as i32));
}

#[tokio::test]
async fn an_agent_that_sends_beyond_its_credit_loses_the_stream() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, mut stream) = open(&link, &mut wire).await;
    for _ in 0..INITIAL_CREDIT as usize / PIECE {
        wire.data(id, pattern(0, 0, PIECE)).await;
    }
    wire.data(id, Bytes::from_static(b"!")).await;
    assert!(matches!(wire.next().await, to_agent::Body::Reset(reset) if reset.errno == Errno::EPROTO as i32));
    assert_eq!(stream.recv().await, Chunk::Reset(Errno::EPROTO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_echo_64_mib_each_at_once() {
    const TOTAL: usize = 64 << 20;
    let place = Somewhere::new();
    let (link, _, wire) = linked(&place).await;
    tokio::spawn(wire.echo());
    let run = async |seed: u8| {
        let (_, stream) = link.connect_stream(somewhere(), SOON).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let up = tokio::spawn(async move {
            for at in (0..TOTAL).step_by(48_000) {
                writer.send(pattern(seed, at, 48_000.min(TOTAL - at))).await.unwrap();
            }
            writer.end().await;
            writer
        });
        let down = tokio::spawn(async move {
            let mut at = 0;
            loop {
                match reader.recv().await {
                    Chunk::Data(bytes) => {
                        assert!(bytes == pattern(seed, at, bytes.len()), "stream {seed} differs at {at}");
                        at += bytes.len();
                    }
                    Chunk::End => return at,
                    Chunk::Reset(errno) => panic!("reset: {errno}"),
                }
            }
        });
        assert_eq!(down.await.unwrap(), TOTAL);
        up.await.unwrap();
    };
    timeout(Duration::from_secs(120), futures::future::join(run(1), run(2))).await.unwrap();
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn a_half_close_ends_one_direction_only() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, stream) = open(&link, &mut wire).await;
    let (mut reader, mut writer) = stream.split();
    writer.send(Bytes::from_static(b"question")).await.unwrap();
    writer.end().await;
    assert!(matches!(wire.next().await, to_agent::Body::Data(data) if data.bytes == "question"));
    assert!(matches!(wire.next().await, to_agent::Body::End(end) if end.stream == id));
    assert_eq!(writer.send(Bytes::from_static(b"more")).await, Err(Errno::EPIPE));
    wire.data(id, Bytes::from_static(b"answer")).await;
    assert_eq!(reader.recv().await, Chunk::Data(Bytes::from_static(b"answer")));
    assert_eq!(open_streams(&link), 1);
    wire.end(id).await;
    assert_eq!(reader.recv().await, Chunk::End);
    assert_eq!(reader.recv().await, Chunk::End);
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn the_agent_s_half_close_leaves_ours_open() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, stream) = open(&link, &mut wire).await;
    let (mut reader, mut writer) = stream.split();
    wire.data(id, Bytes::from_static(b"last words")).await;
    wire.end(id).await;
    assert_eq!(reader.recv().await, Chunk::Data(Bytes::from_static(b"last words")));
    assert_eq!(reader.recv().await, Chunk::End);
    drop(reader);
    writer.send(Bytes::from_static(b"still here")).await.unwrap();
    assert!(matches!(wire.next().await, to_agent::Body::Data(data) if data.bytes == "still here"));
    writer.end().await;
    assert!(matches!(wire.next().await, to_agent::Body::End(_)));
    drop(writer);
    let (next, _) = open(&link, &mut wire).await;
    assert_ne!(next, id);
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn a_reset_wakes_reader_and_sender_with_its_errno() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, stream) = open(&link, &mut wire).await;
    let (mut reader, mut writer) = stream.split();
    let sender = tokio::spawn(async move { writer.send(pattern(0, 0, INITIAL_CREDIT as usize * 2)).await });
    let mut received = 0;
    while received < INITIAL_CREDIT as usize {
        let to_agent::Body::Data(data) = wire.next().await else { panic!("not data") };
        received += data.bytes.len();
    }
    wire.reset(id, Errno::ETIMEDOUT).await;
    assert_eq!(reader.recv().await, Chunk::Reset(Errno::ETIMEDOUT));
    assert_eq!(timeout(SOON, sender).await.unwrap().unwrap(), Err(Errno::ETIMEDOUT));
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn dropping_a_stream_resets_it_in_the_pod_once() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, mut stream) = open(&link, &mut wire).await;
    stream.reset(Errno::ECONNABORTED);
    drop(stream);
    let errno = Errno::ECONNABORTED as i32;
    assert_eq!(wire.next().await, to_agent::Body::Reset(Reset { stream: id, errno }));
    let (id, stream) = open(&link, &mut wire).await;
    drop(stream);
    let errno = Errno::ECONNRESET as i32;
    assert_eq!(wire.next().await, to_agent::Body::Reset(Reset { stream: id, errno }));
    // What crossed the reset on the wire is skipped.
    wire.data(id, Bytes::from_static(b"too late")).await;
    open(&link, &mut wire).await;
}

#[tokio::test]
async fn what_the_agent_had_said_before_its_end_is_read_whole() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (id, mut stream) = open(&link, &mut wire).await;
    wire.data(id, Bytes::from_static(b"one")).await;
    wire.data(id, pattern(0, 0, 5000)).await;
    wire.end(id).await;
    drop(wire);
    assert_eq!(stream.recv().await, Chunk::Data(Bytes::from_static(b"one")));
    assert_eq!(stream.recv().await, Chunk::Data(pattern(0, 0, 5000)));
    assert_eq!(stream.recv().await, Chunk::End);
}

#[tokio::test]
async fn with_the_link_every_stream_is_reset() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let (_, mut stream) = open(&link, &mut wire).await;
    drop(wire);
    assert_eq!(timeout(SOON, stream.recv()).await.unwrap(), Chunk::Reset(Errno::ECONNRESET));
    assert_eq!(stream.send(Bytes::from_static(b"?")).await, Err(Errno::ECONNRESET));
}

#[tokio::test]
async fn a_datagram_follows_its_question_without_waiting_and_a_refusal_resets() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let mut stream = link.datagrams("10.0.0.10:53".into()).await.unwrap();
    stream.send(Bytes::from_static(b"who?")).await.unwrap();
    // Nothing has been answered yet: both are on the wire, in this order.
    let request = wire.request().await;
    let to_agent::Body::Data(data) = wire.next().await else { panic!("no datagram behind its question") };
    assert_eq!(data.bytes, "who?");
    wire.refuse(request.id, Errno::ENETUNREACH, "").await;
    assert_eq!(stream.recv().await, Chunk::Reset(Errno::ENETUNREACH));
    assert_eq!(open_streams(&link), 0);
}

#[tokio::test]
async fn datagrams_keep_their_bounds_need_no_credit_and_are_dropped_when_nobody_reads() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place).await;
    let to = connect::To::Udp("10.0.0.10:53".into());
    let (connected, id) = tokio::join!(link.connect_stream(to, SOON), wire.accept_connect());
    let (_, mut stream) = connected.unwrap();
    for text in ["one", ""] {
        stream.send(Bytes::from_static(text.as_bytes())).await.unwrap();
        assert!(matches!(wire.next().await, to_agent::Body::Data(data) if data.bytes == text));
    }
    assert_eq!(stream.send(pattern(0, 0, MAX_CHUNK + 1)).await, Err(Errno::EMSGSIZE));
    // More than the credit of a byte stream, and more than the queue holds.
    for number in 0..300_u32 {
        wire.data(id, pattern(number as u8, 0, 8000)).await;
    }
    wire.end(id).await;
    let mut received = 0_u32;
    while stream.dropped() < 300 - 256 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    loop {
        match timeout(SOON, stream.recv()).await.unwrap() {
            Chunk::Data(bytes) => {
                assert!(bytes == pattern(received as u8, 0, 8000), "datagram {received} differs");
                received += 1;
            }
            Chunk::End => break,
            Chunk::Reset(errno) => panic!("reset: {errno}"),
        }
    }
    assert_eq!((received, stream.dropped()), (256, 44));
}

#[tokio::test]
async fn an_incoming_connection_is_handed_on_with_its_facts_and_speaks_both_ways() {
    let place = Somewhere::new();
    let (_link, mut incoming, mut wire) = linked(&place).await;
    let peer_addr = "10.0.0.3:5555".to_owned();
    let info = Incoming { stream: 2, port: 80, peer_addr, ..Incoming::default() };
    wire.send(to_client::Body::Incoming(info.clone())).await;
    wire.data(2, Bytes::from_static(b"GET /")).await;
    let mut connection = timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    assert_eq!(connection.info, info);
    assert_eq!(connection.stream.recv().await, Chunk::Data(Bytes::from_static(b"GET /")));
    connection.stream.send(Bytes::from_static(b"200")).await.unwrap();
    assert!(
        matches!(wire.next().await, to_agent::Body::Data(data) if data.stream == 2 && data.bytes == "200")
    );
}

#[tokio::test]
async fn a_connection_that_nobody_takes_goes_back_to_the_pod() {
    let place = Somewhere::new();
    let (_link, incoming, mut wire) = linked(&place).await;
    drop(incoming);
    wire.send(to_client::Body::Incoming(Incoming { stream: 2, port: 80, ..Incoming::default() })).await;
    assert!(matches!(wire.next().await, to_agent::Body::Reset(reset) if reset.stream == 2));
}
