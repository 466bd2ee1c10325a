//! Lets a client in: challenge, proof of an admitted key, welcome.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::agent::to_client::Body;
use protocol::agent::{
    Challenge, Closing, Hello, MIN_PROTOCOL, PROTOCOL, ToAgent, ToClient, Welcome, to_agent,
};
use protocol::auth::PublicKey;
use protocol::codec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::outbox::Outbox;
use super::streams::Streams;
use super::{Frames, Link, MAX_CONTENT, MAX_REQUESTS};
use crate::files::Kept;
use crate::serve::Agent;
use crate::traffic::Reach;

const TIME: Duration = Duration::from_secs(5);
/// A stranger may not make us keep more than this.
const MAX_HELLO: usize = 4096;

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("it took longer than {} s", TIME.as_secs())]
    Late,
    #[error("it went away")]
    Gone,
    #[error("its first frame is no hello")]
    NoHello,
    #[error("its key is not admitted, or its proof is wrong")]
    Unauthorized,
    #[error("it speaks protocol {theirs}, this agent {MIN_PROTOCOL} to {PROTOCOL}")]
    Protocol { theirs: u32 },
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the target could not be read")]
    Facts,
}

/// The whole handshake; a client that may not in is told so.
pub(super) async fn admit(
    agent: &Arc<Agent>,
    frames: &mut Frames<impl AsyncRead + Unpin>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Link, Refused> {
    let outcome =
        tokio::time::timeout(TIME, greet(agent, frames, writer)).await.unwrap_or(Err(Refused::Late));
    let refused = match outcome {
        Ok(link) => return Ok(link),
        Err(refused) => refused,
    };
    let kind = match refused {
        Refused::Unauthorized => "unauthorized",
        Refused::Gone | Refused::Connection(_) => return Err(refused),
        _ => "protocol",
    };
    let closing = Closing { kind: kind.into(), message: format!("the client is not let in: {refused}") };
    let farewell = async {
        send(writer, Body::Closing(closing)).await?;
        writer.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), farewell).await {
        tracing::debug!(%error, "a refused client was already gone");
    }
    Err(refused)
}

async fn greet(
    agent: &Arc<Agent>,
    frames: &mut Frames<impl AsyncRead + Unpin>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Link, Refused> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(Refused::Random)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let challenge = Challenge { nonce: Bytes::copy_from_slice(&nonce), protocol: PROTOCOL, version };
    send(writer, Body::Challenge(challenge)).await?;
    let hello = hello(frames).await?;
    let key = PublicKey::from_slice(&hello.public_key).ok_or(Refused::Unauthorized)?;
    if !agent.keys.holds(&key) || !key.verifies(&nonce, &hello.session, &hello.proof) {
        return Err(Refused::Unauthorized);
    }
    let protocol = hello.protocol.min(PROTOCOL);
    if protocol < MIN_PROTOCOL {
        return Err(Refused::Protocol { theirs: hello.protocol });
    }
    let (asking, want_env) = (Arc::clone(agent), hello.want_env);
    let facts = tokio::task::spawn_blocking(move || asking.target.facts(want_env, &asking.files));
    let (facts, actor) = facts.await.map_err(|_| Refused::Facts)?;
    let (incoming, holds, incoming_why) = match agent.traffic.reach() {
        Reach::Redirected => (true, false, String::new()),
        Reach::Held(why) => (true, true, why),
        Reach::None(why) => (false, false, why),
    };
    send(writer, Body::Welcome(Welcome { protocol, incoming, incoming_why, holds, ..facts })).await?;
    let outbox = Arc::new(Outbox::default());
    Ok(Link {
        id: agent.next_link(),
        session: hello.session,
        key,
        owner: format!("{}@{}", hello.user, hello.host),
        streams: Streams::new(Arc::clone(&outbox)),
        outbox,
        kept: Kept::default(),
        actor,
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        content: Arc::new(Semaphore::new(MAX_CONTENT)),
    })
}

async fn hello(frames: &mut Frames<impl AsyncRead + Unpin>) -> Result<Hello, Refused> {
    loop {
        let announced = frames.buffer.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize);
        if announced.is_some_and(|length| length > MAX_HELLO) {
            return Err(Refused::NoHello);
        }
        match codec::decode::<ToAgent>(&mut frames.buffer) {
            Ok(Some(ToAgent { body: Some(to_agent::Body::Hello(hello)) })) => return Ok(hello),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(Refused::NoHello),
        }
        if !frames.fill().await? {
            return Err(Refused::Gone);
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), body: Body) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    codec::encode(&ToClient { body: Some(body) }, &mut bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    writer.write_all(&bytes).await
}
