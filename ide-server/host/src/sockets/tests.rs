//! What the end of a session does with the pod's connections, against a scripted agent.

use super::{PodFacts, Sockets};
use crate::agent_link::AgentLink;
use crate::agent_link::tests::peer::{SOON, Somewhere, ticket};
use crate::control::Journal;
use protocol::agent::{Incoming, Response, Subscribed, request, response, to_agent, to_client};
use protocol::host::IncomingMode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Enough to be still on their way when the agent's word comes.
const ON_THEIR_WAY: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_as_a_session_ends_is_given_to_the_pod_before_the_goodbye() {
    let place = Somewhere::new();
    let ticket = ticket(place.endpoint());
    let (linked, (mut wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, _, incoming) = linked.unwrap();
    let mut plan = ticket.network.clone();
    plan.incoming.mode = IncomingMode::Steal;
    let runtime = tokio::runtime::Handle::current();
    let journal = Arc::new(Journal::default());
    let sockets =
        Sockets::start(plan, PodFacts::default(), link.clone(), incoming, &runtime, journal, false).unwrap();
    let ending = std::thread::spawn(move || {
        assert!(sockets.subscribe(80, 9));
        sockets.give_all_back(SOON);
        link.leave();
    });
    let subscribed = wire.request().await.id;
    wire.answer(subscribed, response::Answer::Subscribed(Subscribed::default())).await;
    let unsubscribe = wire.request().await;
    assert!(matches!(unsubscribe.op, Some(request::Op::Unsubscribe(_))), "{unsubscribe:?}");
    let streams: BTreeSet<u64> = (1..=ON_THEIR_WAY).map(|number| 2 * number).collect();
    for stream in &streams {
        wire.send(to_client::Body::Incoming(Incoming { stream: *stream, port: 80, ..Incoming::default() }))
            .await;
    }
    wire.send(to_client::Body::Response(Response { id: unsubscribe.id, ..Response::default() })).await;
    let mut reset = BTreeSet::new();
    loop {
        match wire.next().await {
            to_agent::Body::Reset(body) => reset.insert(body.stream),
            to_agent::Body::Goodbye(_) => break,
            other => panic!("neither given back nor left: {other:?}"),
        };
    }
    assert_eq!(reset, streams);
    drop(wire);
    tokio::task::spawn_blocking(|| ending.join()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_is_unsettled_until_it_is_connected_or_reset() {
    let place = Somewhere::new();
    let ticket = ticket(place.endpoint());
    let (linked, (mut wire, _)) = tokio::join!(AgentLink::connect(&ticket, false), place.accept());
    let (link, _, mut incoming) = linked.unwrap();
    wire.send(to_client::Body::Incoming(Incoming { stream: 2, port: 80, ..Incoming::default() })).await;
    let connection = tokio::time::timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), link.settled()).await.is_err());
    drop(connection);
    tokio::time::timeout(SOON, link.settled()).await.unwrap();
}
