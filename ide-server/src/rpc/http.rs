//! The second door: JSON-RPC over HTTP and WebSocket on a Unix socket of its own, for scripts and pages.
//!
//! The methods are those of the one table, with the same errors. A connection is one client, as on the other door: what it
//! asked for is taken back when it ends. Notifications reach a WebSocket that has subscribed to them by
//! `daemon/subscribe`; plain HTTP has none.

use super::connection::{Framing, Outbox};
use super::service;
use crate::main_loop::{Ask, Call, ClientId, Event, EventSender, send};
use jsonrpsee_server::types::{ErrorObjectOwned, Params};
use jsonrpsee_server::{
    BatchRequestConfig, Extensions, PendingSubscriptionSink, RegisterMethodError, RpcModule, Server,
    ServerConfig, StopHandle, SubscriptionMessage, serve_with_graceful_shutdown,
};
use protocol::ide::{ErrorData, ErrorKind, Method};
use serde_json::{Value, json, value::RawValue};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A config's text with room to spare.
const MAX_REQUEST: u32 = 4 << 20;
/// A list of many targets.
const MAX_ANSWER: u32 = 64 << 20;
/// Connections at a time.
pub const MAX_CONNECTIONS: u32 = 128;
/// Requests in one message.
const MAX_BATCH: u32 = 32;
/// Subscribes a WebSocket to the notifications of its own requests.
const SUBSCRIBE: &str = "daemon/subscribe";
const UNSUBSCRIBE: &str = "daemon/unsubscribe";
/// What carries one of them: its method and its parameters.
const NOTIFICATION: &str = "daemon/notification";

/// One client of this door.
#[derive(Debug)]
pub(super) struct Visitor {
    client: ClientId,
    events: EventSender,
    outbox: Outbox,
    /// What is to be told; taken by the subscription.
    told: Mutex<Option<mpsc::Receiver<Vec<u8>>>>,
    /// Whether nobody is there any more.
    gone: CancellationToken,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        send(&self.events, Event::Disconnected { client: self.client, said_goodbye: false });
    }
}

/// Serves one connection until it ends.
pub async fn serve(client: ClientId, stream: UnixStream, events: EventSender, stop: StopHandle) {
    let gone = CancellationToken::new();
    let methods = match methods(client, events, gone.clone()) {
        Ok(methods) => methods,
        Err(error) => return tracing::error!(%error, "two methods share a name"),
    };
    let limits = ServerConfig::builder()
        .max_request_body_size(MAX_REQUEST)
        .max_response_body_size(MAX_ANSWER)
        .set_batch_request_config(BatchRequestConfig::Limit(MAX_BATCH))
        .build();
    let service = Server::builder().set_config(limits).to_service_builder().build(methods, stop.clone());
    let stream = Watched { stream, gone: gone.clone() };
    if let Err(error) = serve_with_graceful_shutdown(stream, service, stop.shutdown()).await {
        tracing::debug!(%error, "a client of the HTTP door left");
    }
    // A WebSocket lives on behind its upgrade.
    gone.cancelled().await;
}

/// The methods for one client.
fn methods(
    client: ClientId,
    events: EventSender,
    gone: CancellationToken,
) -> Result<RpcModule<Visitor>, RegisterMethodError> {
    let (outbox, told) = Outbox::new(Framing::None);
    send(&events, Event::Connected { client, outbox: outbox.clone() });
    let mut module = RpcModule::new(Visitor { client, events, outbox, told: Mutex::new(Some(told)), gone });
    service::register(&mut module)?;
    module.register_method("initialize", |params, visitor, _| {
        let given = params.parse::<Option<Value>>().ok().flatten().unwrap_or_default();
        let options = given.get("initializationOptions").filter(|options| !options.is_null()).cloned();
        let ide = service::introduce(visitor.client, &visitor.events, options).map_err(to_error)?;
        Ok::<Value, ErrorObjectOwned>(json!({
            "capabilities": { "experimental": { "ide": ide } },
            "serverInfo": { "name": "mirrord-ide", "version": protocol::VERSION },
        }))
    })?;
    module.register_subscription(SUBSCRIBE, NOTIFICATION, UNSUBSCRIBE, |_, pending, visitor, _| {
        tell(pending, visitor)
    })?;
    Ok(module)
}

/// Answers one request by the main loop.
pub(super) async fn answer<M>(
    params: Params<'static>,
    visitor: Arc<Visitor>,
    _: Extensions,
) -> Result<Value, ErrorObjectOwned>
where
    M: Method,
    Call: From<Ask<M>>,
{
    let params = params.parse::<Option<Value>>()?.unwrap_or_default();
    tokio::select! {
        answer = service::ask::<M>(visitor.client, &visitor.events, &visitor.outbox, params) => {
            let answer = answer.map_err(to_error)?;
            serde_json::to_value(answer).map_err(|error| {
                let message = format!("the answer of {} cannot be written as JSON", M::NAME);
                to_error(ErrorData::new(ErrorKind::Internal, message, "report this").caused_by(&error))
            })
        }
        // Dropping the question is how work in progress learns that nobody waits for it.
        () = visitor.gone.cancelled() => {
            Err(to_error(ErrorData::new(ErrorKind::Cancelled, "the client has left", "ask again")))
        }
    }
}

/// Hands notifications on to a subscription until either side ends.
async fn tell(pending: PendingSubscriptionSink, visitor: Arc<Visitor>) {
    let told = visitor.told.lock().unwrap_or_else(PoisonError::into_inner).take();
    let gone = visitor.gone.clone();
    // Kept by a subscription, it would never be dropped: its own outbox keeps the subscription open.
    drop(visitor);
    let Some(mut told) = told else {
        let help = "one subscription of a connection tells everything";
        let error = ErrorData::new(ErrorKind::InvalidRequest, "this connection has subscribed already", help);
        return pending.reject(to_error(error)).await;
    };
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let message = tokio::select! {
            message = told.recv() => message,
            () = sink.closed() => return,
            () = gone.cancelled() => return,
        };
        let Some(message) = message else { return };
        let body = String::from_utf8(message).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(body) = body else {
            tracing::error!("a notification is no JSON");
            continue;
        };
        if sink.send(SubscriptionMessage::from(body)).await.is_err() {
            return;
        }
    }
}

fn to_error(data: ErrorData) -> ErrorObjectOwned {
    let code = i32::try_from(data.kind.code()).unwrap_or(-32603);
    ErrorObjectOwned::owned(code, data.message.clone(), Some(data))
}

/// A stream that tells when its other side has closed it, also while requests are at work.
struct Watched {
    stream: UnixStream,
    gone: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, has_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(())) if has_room && buffer.filled().len() == before => self.gone.cancel(),
            Poll::Ready(Err(_)) => self.gone.cancel(),
            _ => {}
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
