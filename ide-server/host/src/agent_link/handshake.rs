//! The first three frames of a connection: the agent's challenge, our hello, its welcome.

use super::error::LinkError;
use super::transport::{ReadHalf, Transport, WriteHalf};
use bytes::{Bytes, BytesMut};
use protocol::agent::{Hello, MIN_PROTOCOL, PROTOCOL, ToAgent, ToClient, Welcome, to_agent, to_client};
use protocol::auth::SecretKey;
use protocol::codec;
use protocol::host::Ticket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Who we are, for the agent.
#[derive(Clone)]
pub(super) struct Identity {
    session: String,
    key: SecretKey,
    user: String,
    host: String,
}

impl Identity {
    /// Nobody's session, but the holder of a key.
    pub(super) fn new(name: &str, key: SecretKey) -> Self {
        Self { session: name.to_owned(), key, user: String::new(), host: String::new() }
    }

    pub(super) fn of(ticket: &Ticket) -> Self {
        let Ticket { session, key, user, host, .. } = ticket;
        Self { session: session.clone(), key: key.clone(), user: user.clone(), host: host.clone() }
    }
}

/// A transport behind its handshake, with what was already read of the frames that follow.
pub(super) struct Shaken {
    pub(super) reader: ReadHalf,
    pub(super) writer: WriteHalf,
    pub(super) buffer: BytesMut,
}

/// Proves the session to the agent.
pub(super) async fn shake(
    transport: Transport,
    identity: &Identity,
    want_env: bool,
) -> Result<(Shaken, Welcome), LinkError> {
    let Transport { mut reader, mut writer } = transport;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    let challenge = match next(&mut reader, &mut buffer).await? {
        to_client::Body::Challenge(challenge) => challenge,
        to_client::Body::Closing(closing) => {
            return Err(LinkError::Refused { kind: closing.kind, message: closing.message });
        }
        other => return Err(unexpected("a challenge", &other)),
    };
    if challenge.protocol < MIN_PROTOCOL {
        let detail = format!(
            "agent {} speaks protocol {} at most, {MIN_PROTOCOL} is the oldest of ours",
            challenge.version, challenge.protocol
        );
        return Err(LinkError::Protocol { detail });
    }
    let hello = Hello {
        session: identity.session.clone(),
        public_key: Bytes::copy_from_slice(identity.key.public().as_bytes()),
        proof: identity.key.prove(&challenge.nonce, &identity.session).into(),
        protocol: PROTOCOL,
        user: identity.user.clone(),
        host: identity.host.clone(),
        want_env,
    };
    let mut frame = BytesMut::new();
    codec::encode(&ToAgent { body: Some(to_agent::Body::Hello(hello)) }, &mut frame)?;
    let wrote = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    wrote.await.map_err(|error| LinkError::Lost { detail: format!("cannot write: {error}") })?;
    match next(&mut reader, &mut buffer).await? {
        to_client::Body::Welcome(welcome) if (MIN_PROTOCOL..=PROTOCOL).contains(&welcome.protocol) => {
            Ok((Shaken { reader, writer, buffer }, welcome))
        }
        to_client::Body::Welcome(welcome) => Err(LinkError::Protocol {
            detail: format!("the agent chose protocol {}, which was not offered", welcome.protocol),
        }),
        to_client::Body::Closing(closing) => {
            Err(LinkError::Refused { kind: closing.kind, message: closing.message })
        }
        other => Err(unexpected("a welcome", &other)),
    }
}

async fn next(reader: &mut ReadHalf, buffer: &mut BytesMut) -> Result<to_client::Body, LinkError> {
    loop {
        let frame = codec::decode::<ToClient>(buffer)
            .map_err(|error| LinkError::Protocol { detail: error.to_string() })?;
        match frame {
            Some(ToClient { body: Some(body) }) => return Ok(body),
            Some(ToClient { body: None }) => {}
            None => match reader.read_buf(buffer).await {
                Ok(0) => return Err(LinkError::Lost { detail: "the agent closed the connection".into() }),
                Ok(_) => {}
                Err(error) => return Err(LinkError::Lost { detail: format!("cannot read: {error}") }),
            },
        }
    }
}

fn unexpected(wanted: &str, body: &to_client::Body) -> LinkError {
    use to_client::Body;
    // The frame's name only: a welcome holds the environment.
    let met = match body {
        Body::Challenge(_) => "a challenge",
        Body::Welcome(_) => "a welcome",
        Body::Response(_) => "a response",
        Body::Data(_) | Body::Credit(_) | Body::End(_) | Body::Reset(_) | Body::Incoming(_) => {
            "a stream's frame"
        }
        Body::Pong(_) => "a pong",
        Body::Event(_) => "an event",
        Body::Closing(_) => "a closing",
    };
    LinkError::Protocol { detail: format!("{met} came where {wanted} belongs") }
}
