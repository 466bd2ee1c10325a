//! Handshake, requests and their answers.

use super::peer::{SOON, Somewhere, Wire};
use crate::agent_link::connection::{REQUEST_DEADLINE, Writes};
use crate::agent_link::{AgentLink, LinkError, Slot};
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{
    Credit, Hello, MAX_READ, PROTOCOL, Read, Request, Welcome, request, response, to_agent, to_client,
};
use std::time::Duration;

fn read(handle: u64) -> request::Op {
    request::Op::Read(Read { handle, offset: 0, length: MAX_READ })
}

fn handle_of(request: &Request) -> u64 {
    match &request.op {
        Some(request::Op::Read(read)) => read.handle,
        other => panic!("not a read: {other:?}"),
    }
}

async fn linked(place: &Somewhere) -> (AgentLink, Wire) {
    let ticket = place.ticket();
    let (linked, (wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, ..) = linked.unwrap();
    (link, wire)
}

#[tokio::test]
async fn a_session_proves_itself_and_is_told_of_the_pod() {
    let place = Somewhere::new();
    let ticket = place.ticket();
    let agent = async {
        let mut wire = place.accept_raw().await;
        let env = vec![Bytes::from_static(b"NAME=\xff")];
        (wire.shake(Welcome { protocol: PROTOCOL, env, ..Welcome::default() }).await, wire)
    };
    let (linked, (hello, _wire)) = tokio::join!(AgentLink::connect(&ticket, true), agent);
    let (_, welcome, _) = linked.unwrap();
    assert_eq!(welcome.env, [Bytes::from_static(b"NAME=\xff")]);
    let Hello { session, user, host, want_env, public_key, .. } = hello;
    assert_eq!(
        (session.as_str(), user.as_str(), host.as_str(), want_env),
        ("s1234567", "ann", "laptop", true)
    );
    assert_eq!(public_key, ticket.key.public().as_bytes()[..]);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_agent_s_words_and_not_tried_again() {
    let place = Somewhere::new();
    let ticket = place.ticket();
    let agent = async {
        let mut wire = place.accept_raw().await;
        wire.challenge(PROTOCOL).await;
        wire.next().await;
        wire.close("unauthorized").await;
    };
    let (linked, ()) = tokio::join!(AgentLink::connect(&ticket, true), agent);
    let error = linked.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { kind, .. } if kind == "unauthorized"), "{error}");
    assert!(!error.retryable());
}

#[tokio::test]
async fn an_agent_too_old_is_named_as_such() {
    let place = Somewhere::new();
    let ticket = place.ticket();
    let agent = async { place.accept_raw().await.challenge(0).await };
    let (linked, ()) = tokio::join!(AgentLink::connect(&ticket, true), agent);
    assert!(matches!(linked, Err(LinkError::Protocol { .. })));
}

#[tokio::test]
async fn a_place_where_nobody_listens_is_unreachable_at_once() {
    let place = Somewhere::new();
    let ticket = place.ticket();
    drop(place);
    let error = AgentLink::connect(&ticket, true).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }) && error.retryable());
}

#[tokio::test]
async fn answers_in_any_order_find_their_askers() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let agent = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(wire.request().await);
        }
        for request in asked.iter().rev() {
            let content = Bytes::from(format!("content of {}", handle_of(request)));
            wire.answer(request.id, response::Answer::Content(content)).await;
        }
    };
    let ask = async |handle| match link.request(read(handle)).await.unwrap().answer {
        Some(response::Answer::Content(content)) => content,
        other => panic!("not content: {other:?}"),
    };
    let (one, two, three, ()) = tokio::join!(ask(1), ask(2), ask(3), agent);
    assert_eq!([one, two, three], ["content of 1", "content of 2", "content of 3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_outside_the_runtime_asks_too() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let thread = std::thread::spawn(move || link.request_blocking(read(5)).map(|response| response.errno));
    let request = wire.request().await;
    wire.refuse(request.id, Errno::EBADF, "").await;
    assert_eq!(thread.join().unwrap().unwrap(), Errno::EBADF as i32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_ask_at_once_beside_a_busy_stream() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let to = protocol::agent::connect::To::Tcp("10.0.0.9:80".into());
    let (connected, _) = tokio::join!(link.connect_stream(to, SOON), wire.accept_connect());
    let (_, stream) = connected.unwrap();
    let (_reader, mut writer) = stream.split();
    let busy = tokio::spawn(async move { while writer.send(Bytes::from(vec![0; 9000])).await.is_ok() {} });
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let link = link.clone();
            std::thread::spawn(move || {
                for at in 0..200 {
                    let handle = thread * 1000 + at;
                    let answer = link.request_blocking(read(handle)).unwrap().answer;
                    let expected = Bytes::from(handle.to_string());
                    assert_eq!(answer, Some(response::Answer::Content(expected)));
                }
            })
        })
        .collect();
    for _ in 0..8 * 200 {
        let request = loop {
            match wire.next().await {
                to_agent::Body::Request(request) => break request,
                to_agent::Body::Data(data) => {
                    let credit = Credit { stream: data.stream, bytes: data.bytes.len() as u32 };
                    wire.send(to_client::Body::Credit(credit)).await;
                }
                other => panic!("not expected: {other:?}"),
            }
        };
        let content = Bytes::from(handle_of(&request).to_string());
        wire.answer(request.id, response::Answer::Content(content)).await;
    }
    for thread in threads {
        thread.join().unwrap();
    }
    drop(wire);
    tokio::time::timeout(SOON, busy).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_late_answer_is_nobody_s_and_the_link_goes_on() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let Slot::Up(connection) = link.shared.slot.borrow().clone() else { panic!("not up") };
    let short = Duration::from_millis(50);
    let (asked, late) = tokio::join!(connection.request(read(1), short, Writes::Writer), wire.request());
    assert!(matches!(asked, Err(LinkError::Deadline { .. })));
    wire.answer(late.id, response::Answer::Content(Bytes::from_static(b"late"))).await;
    let agent = async {
        let request = wire.request().await;
        wire.answer(request.id, response::Answer::Content(Bytes::from_static(b"in time"))).await;
    };
    let (asked, ()) = tokio::join!(connection.request(read(2), REQUEST_DEADLINE, Writes::Writer), agent);
    assert_eq!(asked.unwrap().answer, Some(response::Answer::Content(Bytes::from_static(b"in time"))));
}

#[tokio::test]
async fn a_request_that_no_frame_holds_is_an_error_of_its_own() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let path = Bytes::from(vec![b'x'; 2 << 20]);
    let op = request::Op::List(protocol::agent::List { path, from: 0 });
    let error = link.request(op).await.unwrap_err();
    assert_eq!(error.errno(), Errno::ENAMETOOLONG);
    let (asked, ()) = tokio::join!(link.request(read(1)), async {
        let request = wire.request().await;
        wire.refuse(request.id, Errno::EBADF, "").await;
    });
    assert_eq!(asked.unwrap().errno, Errno::EBADF as i32);
}

#[tokio::test]
async fn with_the_link_go_its_requests() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let (asked, ()) = tokio::join!(link.request(read(1)), async {
        wire.request().await;
        drop(wire);
    });
    let error = asked.unwrap_err();
    assert!(matches!(error, LinkError::Lost { .. }));
    assert_eq!(error.errno(), Errno::EIO);
    let asked = tokio::time::timeout(SOON, link.request(read(1))).await.unwrap();
    assert!(matches!(asked, Err(LinkError::Lost { .. })));
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_link_instead_of_being_buffered() {
    use tokio::io::AsyncWriteExt;
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let (asked, ()) = tokio::join!(link.request(read(1)), async {
        wire.request().await;
        wire.stream().write_all(&[0xff; 4]).await.unwrap();
    });
    assert!(matches!(asked, Err(LinkError::Lost { detail }) if detail.contains("limit")));
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let place = Somewhere::new();
    let (link, mut wire) = linked(&place).await;
    let other = link.clone();
    drop(link);
    let (asked, ()) = tokio::join!(other.request(read(1)), async {
        let request = wire.request().await;
        wire.refuse(request.id, Errno::EBADF, "").await;
    });
    assert!(asked.is_ok());
    drop(other);
    assert_eq!(tokio::time::timeout(SOON, wire.try_next()).await.unwrap(), None);
}
