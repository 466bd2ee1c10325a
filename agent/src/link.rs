//! One client's connection: let in by its key, then requests answered and streams carried until it goes.
//!
//! Each request has a task of its own, so none waits for another; file work runs on the blocking threads, with a bound
//! on how many answers with content one link may have at once.

mod handshake;
pub(crate) mod outbox;
pub(crate) mod requests;
pub(crate) mod streams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;
use protocol::agent::to_agent;
use protocol::agent::to_client::Body;
use protocol::agent::{AgentEvent, Closing, ToAgent};
use protocol::auth::PublicKey;
use protocol::codec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::files::{Actor, Kept};
use crate::serve::Agent;
use outbox::Outbox;
use streams::Streams;

/// A client shows a sign of life every 10 s; after this long without one it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// What the client is told last must be written within this.
const FAREWELL: Duration = Duration::from_secs(1);
/// Unanswered requests of one link; a connect into the void can stay unanswered for minutes.
const MAX_REQUESTS: usize = 1024;
/// Requests of one link that may hold file content at once.
const MAX_CONTENT: usize = 16;

/// A client that has been let in.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) session: String,
    pub(crate) key: PublicKey,
    /// User and host, for "who holds this port".
    pub(crate) owner: String,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) streams: Arc<Streams>,
    kept: Kept,
    /// As whom files are changed.
    actor: Actor,
    requests: Arc<Semaphore>,
    content: Arc<Semaphore>,
}

/// Read from a connection at once.
const READ_BUFFER: usize = 128 << 10;

/// The last words to every client, once the agent ends.
#[derive(Clone, Debug)]
pub(crate) struct LastWords {
    pub(crate) event: Option<AgentEvent>,
    pub(crate) closing: Closing,
}

/// Reads frames off a connection.
struct Frames<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end of the connection.
    async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            match codec::decode(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < READ_BUFFER / 4 {
            self.buffer.reserve(READ_BUFFER);
        }
        Ok(self.reader.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Serves one connection from its first byte to its last.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    handshaking: tokio::sync::OwnedSemaphorePermit,
) {
    let mut frames = Frames::new(reader);
    let link = match handshake::admit(&agent, &mut frames, &mut writer).await {
        Ok(link) => Arc::new(link),
        Err(error) => return tracing::info!(%error, "a client was not let in"),
    };
    drop(handshaking);
    let lease = agent.lease(link.id, link.key);
    tracing::info!(link = link.id, session = link.session, owner = link.owner, "a session is here");
    let why = talk(&agent, &link, frames, writer).await;
    agent.traffic.leave(&link);
    link.streams.clear();
    drop(lease);
    tracing::info!(link = link.id, session = link.session, why, "a session is gone");
}

async fn talk(
    agent: &Arc<Agent>,
    link: &Arc<Link>,
    mut frames: Frames<impl AsyncRead + Unpin>,
    writer: impl AsyncWrite + Unpin,
) -> String {
    let writing = link.outbox.run(writer);
    tokio::pin!(writing);
    let mut last_words = agent.last_words();
    let why = tokio::select! {
        why = listen(agent, link, &mut frames) => why,
        written = &mut writing => return match written {
            Ok(()) => "the agent closed it".to_owned(),
            Err(error) => error.to_string(),
        },
        words = said(&mut last_words) => {
            if let Some(event) = words.event {
                link.outbox.control(Body::Event(event));
            }
            link.outbox.finish(words.closing);
            "the agent ends".to_owned()
        }
    };
    link.outbox.finish(Closing { kind: "protocol".into(), message: why.clone() });
    // A client that does not read its farewell has gone.
    let _ = tokio::time::timeout(FAREWELL, writing).await;
    why
}

async fn said(last_words: &mut watch::Receiver<Option<LastWords>>) -> LastWords {
    match last_words.wait_for(Option::is_some).await.map(|words| words.clone()) {
        Ok(Some(words)) => words,
        // The sender lives as long as the agent.
        _ => std::future::pending().await,
    }
}

/// Takes the client's frames until there are no more; says why.
async fn listen(agent: &Arc<Agent>, link: &Arc<Link>, frames: &mut Frames<impl AsyncRead + Unpin>) -> String {
    // Dropped with this function: what is still at work for the client ends with the link.
    let mut tasks = JoinSet::new();
    loop {
        let frame: ToAgent = match tokio::time::timeout(SILENCE, frames.next()).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return "the client closed it".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no sign of life for {} s", SILENCE.as_secs()),
        };
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(link = link.id, %error, "a request's task failed");
            }
        }
        match frame.body {
            Some(to_agent::Body::Request(request)) => requests::dispatch(agent, link, request, &mut tasks),
            Some(to_agent::Body::Data(data)) => link.streams.data(data),
            Some(to_agent::Body::Credit(credit)) => link.streams.credit(credit),
            Some(to_agent::Body::End(end)) => link.streams.end(end),
            Some(to_agent::Body::Reset(reset)) => link.streams.reset(reset),
            Some(to_agent::Body::Ping(ping)) => link.outbox.control(Body::Pong(ping)),
            Some(to_agent::Body::Goodbye(_)) => return "the client said goodbye".to_owned(),
            Some(to_agent::Body::Hello(_)) => return "a second hello".to_owned(),
            None => {}
        }
    }
}
