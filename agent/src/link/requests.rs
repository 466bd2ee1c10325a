//! Gives each request its one answer, from a task of its own.

use std::sync::Arc;

use nix::errno::Errno;
use protocol::agent::request::Op;
use protocol::agent::response::Answer;
use protocol::agent::to_client::Body;
use protocol::agent::{Connect, Connected, Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::Link;
use crate::files::Barred;
use crate::outgoing::{self, Connection};
use crate::serve::Agent;

/// Why a request failed: a number for the program, a sentence for people where that does not say enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    pub(crate) message: String,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno, message: String::new() }
    }
}

impl From<Barred> for Failure {
    fn from(Barred { what, errno }: Barred) -> Self {
        Self { errno, message: format!("the agent may not {what}") }
    }
}

type Outcome = Result<Option<Answer>, Failure>;

/// Starts what answers `request`.
pub(super) fn dispatch(agent: &Arc<Agent>, link: &Arc<Link>, request: Request, tasks: &mut JoinSet<()>) {
    let Request { id, op } = request;
    let Ok(unanswered) = Arc::clone(&link.requests).try_acquire_owned() else {
        let message = "too many requests are unanswered".to_owned();
        return answer(link, id, Err(Failure { errno: Errno::EAGAIN, message }));
    };
    let (agent, link) = (Arc::clone(agent), Arc::clone(link));
    match op {
        None => {
            let message = "this agent does not know the request".to_owned();
            answer(&link, id, Err(Failure { errno: Errno::ENOSYS, message }));
        }
        Some(Op::Finish(_)) => {
            let busy = |why: &str| Failure { errno: Errno::EBUSY, message: why.to_owned() };
            answer(&link, id, agent.finish(link.id, &link.key).map(|()| None).map_err(busy));
        }
        Some(Op::Connect(connect)) => start_connect(agent, link, id, connect, unanswered, tasks),
        Some(Op::Close(close)) => {
            answer(&link, id, link.kept.close(close.handle).map(|()| None).map_err(Into::into))
        }
        Some(Op::Subscribe(subscribe)) => {
            tasks.spawn(async move {
                let outcome = agent.traffic.subscribe(&link, &subscribe).await;
                answer(&link, id, outcome.map(|subscribed| Some(Answer::Subscribed(subscribed))));
                drop(unanswered);
            });
        }
        Some(Op::Unsubscribe(unsubscribe)) => {
            tasks.spawn(async move {
                let outcome = agent.traffic.unsubscribe(&link, &unsubscribe).await;
                answer(&link, id, outcome.map(|()| None));
                drop(unanswered);
            });
        }
        Some(Op::Statfs(statfs)) => {
            let files = agent.files.clone();
            blocking(&agent, link, id, unanswered, tasks, move |_| {
                Ok(Some(Answer::Figures(files.figures(&statfs)?)))
            });
        }
        Some(Op::Walk(walk)) => {
            let files = agent.files.clone();
            blocking(&agent, link, id, unanswered, tasks, move |link| {
                Ok(Some(Answer::Walked(files.walk(&walk, &link.kept))))
            });
        }
        Some(Op::List(list)) => {
            let files = agent.files.clone();
            blocking(&agent, link, id, unanswered, tasks, move |_| {
                Ok(Some(Answer::Listed(files.list(&list)?)))
            });
        }
        Some(
            op @ (Op::Open(_)
            | Op::Write(_)
            | Op::SetAttributes(_)
            | Op::MakeFolder(_)
            | Op::MakeLink(_)
            | Op::HardLink(_)
            | Op::Remove(_)
            | Op::Rename(_)
            | Op::Sync(_)),
        ) => {
            let files = agent.files.clone();
            blocking(&agent, link, id, unanswered, tasks, move |link| {
                Ok(files.act(&link.actor, &op, &link.kept)??)
            });
        }
        Some(Op::Read(read)) => blocking(&agent, link, id, unanswered, tasks, move |link| {
            Ok(Some(Answer::Content(link.kept.read(&read)?)))
        }),
    }
}

/// Runs file work on a blocking thread, within the link's bound on content.
fn blocking(
    agent: &Agent,
    link: Arc<Link>,
    id: u64,
    unanswered: OwnedSemaphorePermit,
    tasks: &mut JoinSet<()>,
    work: impl FnOnce(&Link) -> Outcome + Send + 'static,
) {
    let threads = Arc::clone(&agent.file_work);
    tasks.spawn(async move {
        let Ok(permit) = Arc::clone(&link.content).acquire_owned().await else { return };
        let Ok(thread) = threads.acquire_owned().await else { return };
        let working = Arc::clone(&link);
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = work(&working);
            // Not before the work is done, whatever became of the link meanwhile.
            drop(thread);
            outcome
        });
        let outcome = outcome.await;
        let outcome = outcome.unwrap_or_else(|error| {
            Err(Failure { errno: Errno::EIO, message: format!("the agent failed: {error}") })
        });
        // The permit travels on: a client that does not read its answers is not read for.
        link.outbox.content(response(id, outcome), permit);
        drop(unanswered);
    });
}

fn start_connect(
    agent: Arc<Agent>,
    link: Arc<Link>,
    id: u64,
    connect: Connect,
    unanswered: OwnedSemaphorePermit,
    tasks: &mut JoinSet<()>,
) {
    let Connect { stream, to, timeout_ms } = connect;
    let Some(to) = to else {
        let message = "this agent does not know the kind of destination".to_owned();
        return answer(&link, id, Err(Failure { errno: Errno::EAFNOSUPPORT, message }));
    };
    // Before the connect itself: the client may send on the stream from now on.
    let stream = match link.streams.accept(stream, outgoing::kind(&to)) {
        Ok(stream) => stream,
        Err(errno) => return answer(&link, id, Err(errno.into())),
    };
    tasks.spawn(async move {
        let connection = match outgoing::connect(to, timeout_ms, &agent.files).await {
            Ok(connection) => connection,
            Err(errno) => return answer(&link, id, Err(errno.into())),
        };
        let (Connection::Stream { pod_addr, .. } | Connection::Datagrams { pod_addr, .. }) = &connection;
        answer(&link, id, Ok(Some(Answer::Connected(Connected { pod_addr: pod_addr.clone() }))));
        drop(unanswered);
        outgoing::carry(connection, stream).await;
    });
}

fn answer(link: &Link, id: u64, outcome: Outcome) {
    link.outbox.control(Body::Response(response(id, outcome)));
}

fn response(id: u64, outcome: Outcome) -> Response {
    match outcome {
        Ok(answer) => Response { id, errno: 0, message: String::new(), answer },
        Err(Failure { errno, message }) => Response { id, errno: errno as i32, message, answer: None },
    }
}
