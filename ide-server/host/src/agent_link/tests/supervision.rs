//! Signs of life, loss, and the way back.

use super::peer::{SOON, Somewhere, Wire};
use crate::agent_link::connection::Patience;
use crate::agent_link::{Chunk, IncomingRx, LinkEvent, SubscribeError, Supervised};
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{
    Capture, Hello, Incoming, Read, Request, Response, Subscribe, Subscribed, connect, request, response,
    to_agent, to_client,
};
use protocol::host::AgentState;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const BRIEF: Patience = Patience {
    ping: Duration::from_millis(200),
    dead: Duration::from_millis(1000),
    link: Duration::from_millis(600),
};

async fn linked(place: &Somewhere, patience: Patience) -> (Supervised, IncomingRx, Wire) {
    let ticket = place.ticket();
    let connect = Supervised::connect_patiently(&ticket, true, patience);
    let (linked, (wire, _)) = tokio::join!(connect, place.accept());
    let (link, _, incoming) = linked.unwrap();
    (link, incoming, wire)
}

fn subscription(port: u32) -> Subscribe {
    Subscribe { port, capture: Capture::Steal as i32, header_filter: "x: y".into() }
}

async fn asked_for(wire: &mut Wire) -> (u64, Subscribe) {
    match wire.request().await {
        Request { id, op: Some(request::Op::Subscribe(subscribe)) } => (id, subscribe),
        other => panic!("not a subscription: {other:?}"),
    }
}

async fn grant(wire: &mut Wire) -> Subscribe {
    let (id, subscribe) = asked_for(wire).await;
    wire.answer(id, response::Answer::Subscribed(Subscribed { established: 3, ..Subscribed::default() }))
        .await;
    subscribe
}

fn read() -> request::Op {
    request::Op::Read(Read { handle: 1, offset: 0, length: 1 })
}

async fn answered(wire: &mut Wire) {
    let request = wire.request().await;
    wire.answer(request.id, response::Answer::Content(Bytes::from_static(b"x"))).await;
}

async fn wait_for(link: &Supervised, state: AgentState) {
    timeout(SOON, link.link().states().wait_for(|now| *now == state)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_subscription_names_the_holder_and_is_not_asked_for_again() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place, Patience::default()).await;
    let (asked, ()) = tokio::join!(link.link().subscribe(subscription(8080)), async {
        let (id, _) = asked_for(&mut wire).await;
        wire.refuse(id, Errno::EBUSY, "bob on desk has it").await;
    });
    match asked {
        Err(SubscribeError::Refused { port: 8080, errno: Errno::EBUSY, message }) => {
            assert_eq!(message, "bob on desk has it");
        }
        other => panic!("not refused: {other:?}"),
    }
    drop(wire);
    let (mut wire, _) = place.accept().await;
    // The first request on the new connection is this one.
    let (asked, ()) = tokio::join!(link.link().request(read()), answered(&mut wire));
    asked.unwrap();
}

#[tokio::test]
async fn after_a_loss_the_link_comes_back_with_its_ports_and_its_incoming_connections() {
    let place = Somewhere::new();
    let (link, mut incoming, mut wire) = linked(&place, Patience::default()).await;
    let mut events = link.link().events();
    let (one, ()) = tokio::join!(link.link().subscribe(subscription(8080)), async {
        grant(&mut wire).await;
    });
    assert_eq!(one.unwrap().established, 3);
    let (two, ()) = tokio::join!(link.link().subscribe(subscription(9090)), async {
        grant(&mut wire).await;
    });
    two.unwrap();
    let (given_back, ()) = tokio::join!(link.link().unsubscribe(9090), async {
        let request = wire.request().await;
        wire.send(to_client::Body::Response(Response { id: request.id, ..Response::default() })).await;
    });
    given_back.unwrap();
    let to = connect::To::Tcp("10.0.0.9:80".into());
    let (connected, _) = tokio::join!(link.link().connect_stream(to, SOON), wire.accept_connect());
    let (_, mut stream) = connected.unwrap();
    let (asked, ()) = tokio::join!(link.link().request(read()), async {
        wire.request().await;
        drop(wire);
    });
    assert_eq!(asked.unwrap_err().errno(), Errno::EIO);
    assert_eq!(stream.recv().await, Chunk::Reset(Errno::ECONNRESET));

    let (mut wire, hello) = place.accept().await;
    let Hello { want_env, session, .. } = hello;
    assert_eq!((want_env, session.as_str()), (false, "s1234567"));
    // Still held by what the agent takes for another link; asked for again until it is free.
    let (id, again) = asked_for(&mut wire).await;
    assert_eq!(again, subscription(8080));
    wire.refuse(id, Errno::EBUSY, "held").await;
    assert_eq!(grant(&mut wire).await, subscription(8080));
    wire.send(to_client::Body::Incoming(Incoming { stream: 2, port: 8080, ..Incoming::default() })).await;
    let connection = timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    assert_eq!(connection.info.port, 8080);
    let (asked, ()) = tokio::join!(link.link().request(read()), answered(&mut wire));
    asked.unwrap();
    assert_eq!(link.link().generation(), 2);

    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(match event {
            LinkEvent::State { state, .. } => format!("{state:?}"),
            LinkEvent::PortLost { port, message } => {
                assert!(message.contains("held"), "{message}");
                format!("lost {port}")
            }
            LinkEvent::PortBack { port } => format!("back {port}"),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["Reconnecting", "Connected", "lost 8080", "back 8080"]);
}

#[tokio::test]
async fn a_request_without_a_link_waits_for_it() {
    let place = Somewhere::new();
    let (link, _, wire) = linked(&place, Patience::default()).await;
    drop(wire);
    wait_for(&link, AgentState::Reconnecting).await;
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.link().request(read()).await.map(|response| response.errno) }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asked.is_finished());
    let (mut wire, _) = place.accept().await;
    answered(&mut wire).await;
    assert_eq!(timeout(SOON, asked).await.unwrap().unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_request_without_a_link_fails_once_it_has_waited_long_enough() {
    let place = Somewhere::new();
    let (link, _, wire) = linked(&place, BRIEF).await;
    drop((wire, place));
    wait_for(&link, AgentState::Reconnecting).await;
    let began = Instant::now();
    let error = link.link().request(read()).await.unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    assert!(began.elapsed() >= BRIEF.link);
    let connected = link.link().connect_stream(connect::To::Tcp("10.0.0.9:80".into()), SOON).await;
    assert_eq!(connected.unwrap_err(), Errno::ECONNRESET);
}

#[tokio::test]
async fn a_new_place_is_dialled_at_once_and_the_old_one_given_up() {
    let (old, new) = (Somewhere::new(), Somewhere::new());
    let (link, _, mut wire) = linked(&old, Patience::default()).await;
    link.move_to(new.endpoint());
    let (mut moved, _) = new.accept().await;
    assert_eq!(timeout(SOON, wire.try_next()).await.unwrap(), None);
    wait_for(&link, AgentState::Connected).await;
    let (asked, ()) = tokio::join!(link.link().request(read()), answered(&mut moved));
    asked.unwrap();
    assert_eq!(link.link().endpoint(), new.endpoint());
}

#[tokio::test]
async fn a_move_does_not_wait_for_a_place_that_takes_connections_and_says_nothing() {
    let (old, mute, new) = (Somewhere::new(), Somewhere::new(), Somewhere::new());
    let (link, _, _wire) = linked(&old, Patience::default()).await;
    link.move_to(mute.endpoint());
    let _silent = mute.accept_raw().await;
    let began = Instant::now();
    link.move_to(new.endpoint());
    let (mut moved, _) = new.accept().await;
    let (asked, ()) = tokio::join!(link.link().request(read()), answered(&mut moved));
    asked.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_agent_that_ends_the_link_is_heard_and_one_that_bars_the_session_counts_as_lost() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place, Patience::default()).await;
    let mut events = link.link().events();
    wire.close("target-exited").await;
    let first = timeout(SOON, events.recv()).await.unwrap().unwrap();
    assert!(matches!(first, LinkEvent::Closing(closing) if closing.kind == "target-exited"));
    let mut barred = place.accept_raw().await;
    barred.close("unauthorized").await;
    wait_for(&link, AgentState::Lost).await;
    // It is looked for all the same: the daemon may have let the session in meanwhile.
    let (mut wire, _) = place.accept().await;
    wait_for(&link, AgentState::Connected).await;
    let (asked, ()) = tokio::join!(link.link().request(read()), answered(&mut wire));
    asked.unwrap();
}

#[tokio::test]
async fn silence_is_pinged_into_and_a_pong_keeps_the_link() {
    let place = Somewhere::new();
    let (link, _, mut wire) = linked(&place, BRIEF).await;
    let began = Instant::now();
    while began.elapsed() < BRIEF.dead * 2 {
        let to_agent::Body::Ping(ping) = wire.next().await else { panic!("not a ping") };
        wire.send(to_client::Body::Pong(ping)).await;
    }
    assert_eq!(link.link().generation(), 1);
}

#[tokio::test]
async fn a_link_without_a_sign_of_life_is_lost_and_made_again() {
    let place = Somewhere::new();
    let (link, _, _silent) = linked(&place, BRIEF).await;
    let (asked, _wire) = tokio::join!(link.link().request(read()), place.accept());
    assert_eq!(asked.unwrap_err().errno(), Errno::EIO);
    wait_for(&link, AgentState::Connected).await;
    assert_eq!(link.link().generation(), 2);
}

#[tokio::test]
async fn the_last_handle_ends_the_supervision() {
    let place = Somewhere::new();
    let (link, mut incoming, mut wire) = linked(&place, Patience::default()).await;
    drop(link);
    assert_eq!(timeout(SOON, wire.try_next()).await.unwrap(), None);
    assert!(timeout(SOON, incoming.recv()).await.unwrap().is_none());
}
