//! A socket of this machine joined to a stream of the pod.

use super::peer::{SOON, Somewhere, Wire};
use crate::agent_link::{AgentLink, PodStream, Pumped, pump};
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{connect, to_agent};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

async fn opened(place: &Somewhere) -> (AgentLink, Wire, u64, PodStream) {
    let ticket = place.ticket();
    let (linked, (mut wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, ..) = linked.unwrap();
    let to = connect::To::Tcp("10.0.0.9:80".into());
    let (connected, id) = tokio::join!(link.connect_stream(to, SOON), wire.accept_connect());
    let (_, stream) = connected.unwrap();
    (link, wire, id, stream)
}

/// A local program's socket, and the pump behind it.
async fn program(stream: PodStream) -> (TcpStream, JoinHandle<Pumped>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (program, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (program.unwrap(), tokio::spawn(pump(accepted.unwrap().0, stream)))
}

async fn done(pumped: JoinHandle<Pumped>) -> Pumped {
    timeout(SOON, pumped).await.expect("the pump goes on").unwrap()
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways() {
    let place = Somewhere::new();
    let (_link, mut wire, id, stream) = opened(&place).await;
    let (mut program, pumped) = program(stream).await;
    program.write_all(b"question").await.unwrap();
    assert!(matches!(wire.next().await, to_agent::Body::Data(data) if data.bytes == "question"));
    program.shutdown().await.unwrap();
    assert!(matches!(wire.next().await, to_agent::Body::End(_)));
    wire.data(id, Bytes::from_static(b"answer")).await;
    wire.end(id).await;
    let mut answer = String::new();
    program.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(done(pumped).await, Pumped { to_pod: 8, from_pod: 6, reset: None });
}

#[tokio::test]
async fn the_pod_s_half_close_lets_the_program_go_on_sending() {
    let place = Somewhere::new();
    let (_link, mut wire, id, stream) = opened(&place).await;
    let (mut program, pumped) = program(stream).await;
    wire.end(id).await;
    assert_eq!(program.read(&mut [0; 8]).await.unwrap(), 0);
    program.write_all(b"still here").await.unwrap();
    assert!(matches!(wire.next().await, to_agent::Body::Data(data) if data.bytes == "still here"));
    drop(program);
    assert!(matches!(wire.next().await, to_agent::Body::End(_)));
    assert_eq!(done(pumped).await, Pumped { to_pod: 10, from_pod: 0, reset: None });
}

#[tokio::test]
async fn a_reset_in_the_pod_is_a_reset_here() {
    let place = Somewhere::new();
    let (_link, mut wire, id, stream) = opened(&place).await;
    let (mut program, pumped) = program(stream).await;
    wire.reset(id, Errno::ECONNRESET).await;
    let error = timeout(SOON, program.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(done(pumped).await.reset, Some(Errno::ECONNRESET));
}

#[tokio::test]
async fn a_reset_here_is_a_reset_in_the_pod() {
    let place = Somewhere::new();
    let (_link, mut wire, id, stream) = opened(&place).await;
    let (program, pumped) = program(stream).await;
    program.set_zero_linger().unwrap();
    drop(program);
    let reset = wire.next().await;
    let to_agent::Body::Reset(reset) = reset else { panic!("not a reset: {reset:?}") };
    assert_eq!((reset.stream, reset.errno), (id, Errno::ECONNRESET as i32));
    assert_eq!(done(pumped).await.reset, Some(Errno::ECONNRESET));
}

#[tokio::test]
async fn the_link_s_loss_is_a_reset_here() {
    let place = Somewhere::new();
    let (_link, wire, _, stream) = opened(&place).await;
    let (mut program, pumped) = program(stream).await;
    drop(wire);
    let error = timeout(SOON, program.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(done(pumped).await.reset, Some(Errno::ECONNRESET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_pass_unchanged_through_a_real_socket() {
    const TOTAL: usize = 16 << 20;
    let place = Somewhere::new();
    let ticket = place.ticket();
    let (linked, (wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, ..) = linked.unwrap();
    tokio::spawn(wire.echo());
    let (_, stream) = link.connect_stream(connect::To::Tcp("10.0.0.9:80".into()), SOON).await.unwrap();
    let (program, pumped) = program(stream).await;
    let (mut reader, mut writer) = program.into_split();
    let sent: Vec<u8> = (0..TOTAL).map(|at| (at as u8) ^ ((at >> 12) as u8)).collect();
    let expected = sent.clone();
    let up = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    timeout(SOON * 3, reader.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received == expected, "the echo differs");
    up.await.unwrap();
    let whole = TOTAL as u64;
    assert_eq!(done(pumped).await, Pumped { to_pod: whole, from_pod: whole, reset: None });
}
