//! One client's connection: reads requests, runs them side by side, and writes everything in one order.
//!
//! All that is written, answers and notifications alike, goes through one [`Outbox`]: a report of progress never comes
//! after the answer that it belongs to. A client that does not read gets its notifications dropped and counted; it
//! never slows another client or the main loop.

use super::framing::{Decoder, encode};
use super::service;
use crate::main_loop::{ClientId, Event, EventSender};
use futures::{SinkExt, StreamExt};
use protocol::ide::Notice;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower_lsp_server::jsonrpc::{Request, Response};
use tower_service::Service;

/// Messages that wait to be written before notifications are dropped.
const QUEUE: usize = 512;

/// Where messages for one client go.
#[derive(Clone, Debug)]
pub struct Outbox {
    messages: mpsc::Sender<Vec<u8>>,
    framing: Framing,
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By a header with their length.
    Lsp,
    /// By the wire below.
    None,
}

impl Outbox {
    /// An outbox and what comes of it; more than [`QUEUE`] messages do not wait.
    pub(super) fn new(framing: Framing) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (messages, written) = mpsc::channel(QUEUE);
        (Self { messages, framing }, written)
    }

    /// Sends a notification unless the client is too slow or gone; says whether it was taken.
    pub fn notify<N: Notice>(&self, params: &N::Params) -> bool {
        self.notify_as(N::NAME, params)
    }

    /// Sends `$/progress` for `token`.
    pub fn progress<T: serde::Serialize>(&self, token: &serde_json::Value, value: &T) -> bool {
        self.notify_as("$/progress", &serde_json::json!({ "token": token, "value": value }))
    }

    fn notify_as<T: serde::Serialize>(&self, method: &str, params: &T) -> bool {
        let message = serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let body = message.to_string().into_bytes();
        let message = match self.framing {
            Framing::Lsp => encode(&body),
            Framing::None => body,
        };
        self.messages.try_send(message).is_ok()
    }
}

/// Serves one client until it leaves or says `exit`. Requests that are still at work then are dropped.
pub async fn serve<R, W>(client: ClientId, reader: R, writer: W, events: EventSender)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (outbox, queue) = Outbox::new(Framing::Lsp);
    if events.send(Event::Connected { client, outbox: outbox.clone() }).is_err() {
        return;
    }
    let reading = read(client, reader, events.clone(), outbox);
    // Whichever ends first ends the other: a client that cannot be written to is gone as well.
    let said_goodbye = tokio::select! {
        said_goodbye = reading => said_goodbye,
        () = write(writer, queue) => false,
    };
    // A closed channel means that the daemon is ending and needs no notice.
    let _ = events.send(Event::Disconnected { client, said_goodbye });
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = writer.write_all(&message).await {
            tracing::debug!(%error, "a client left while it was written to");
            return;
        }
        if queue.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
}

/// Reads until the client is gone; whether it said `exit` before.
async fn read<R: AsyncRead + Unpin>(
    client: ClientId,
    mut reader: R,
    events: EventSender,
    outbox: Outbox,
) -> bool {
    let (mut service, socket) = service::for_client(client, events, outbox.clone());
    let (mut to_client, mut from_client) = socket.split();
    let mut tasks = JoinSet::new();
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            read = reader.read(&mut chunk) => match read {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => { tracing::debug!(%error, "a client left"); return false }
            },
            Some(request) = to_client.next() => {
                send(&outbox, &request).await;
                continue;
            }
            Some(_) = tasks.join_next() => continue,
        };
        decoder.push(&chunk[..count]);
        loop {
            let body = match decoder.pop() {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a client does not speak our protocol");
                    return false;
                }
            };
            match Incoming::parse(&body) {
                Incoming::Request(request) => {
                    let exit = request.method() == "exit";
                    if futures::future::poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
                        return false;
                    }
                    let answer = service.call(request);
                    let outbox = outbox.clone();
                    if exit {
                        return true;
                    }
                    tasks.spawn(async move {
                        if let Ok(Some(response)) = answer.await {
                            send(&outbox, &response).await;
                        }
                    });
                }
                Incoming::Response(response) => {
                    if from_client.send(response).await.is_err() {
                        return false;
                    }
                }
                Incoming::Nonsense(response) => send(&outbox, &response).await,
            }
        }
    }
}

async fn send<T: serde::Serialize>(outbox: &Outbox, message: &T) {
    match serde_json::to_vec(message) {
        // The receiver is only gone when the connection is.
        Ok(body) => drop(outbox.messages.send(encode(&body)).await),
        Err(error) => tracing::error!(%error, "a message cannot be written as JSON"),
    }
}

enum Incoming {
    Request(Request),
    Response(Response),
    Nonsense(serde_json::Value),
}

impl Incoming {
    fn parse(body: &[u8]) -> Self {
        let nonsense = |code: i64, message: &str| {
            Self::Nonsense(serde_json::json!({
                "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message },
            }))
        };
        let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) else {
            return nonsense(-32700, "this is not JSON");
        };
        if value.get("method").is_some() {
            // Every method of ours takes an object and none needs one: an absent one is an empty one.
            let ours = value["method"].as_str().is_some_and(|name| {
                !name.starts_with('$') && name.contains('/') && value.get("params").is_none()
            });
            if ours {
                value["params"] = serde_json::json!({});
            }
            return serde_json::from_value(value)
                .map_or_else(|_| nonsense(-32600, "this is not a request"), Self::Request);
        }
        serde_json::from_value(value)
            .map_or_else(|_| nonsense(-32600, "this is not a message"), Self::Response)
    }
}
