//! The agent's side of the wire, scripted by each test.

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use protocol::agent::{
    Challenge, Closing, Connected, Credit, Data, End, Hello, PROTOCOL, Request, Reset, Response, ToAgent,
    ToClient, Welcome, request, response, to_agent, to_client,
};
use protocol::auth::{PublicKey, SecretKey};
use protocol::codec::{self, INITIAL_CREDIT};
use protocol::host::{Endpoint, EnvPlan, FilePlan, IncomingPlan, NetworkPlan, Place, TargetSummary, Ticket};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub(crate) const NONCE: &[u8] = b"a nonce of thirty-two bytes ....";
/// Long enough for a slow machine; no test waits it out unless it fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A place where a scripted agent listens.
pub(crate) struct Somewhere {
    listener: UnixListener,
    path: PathBuf,
}

impl Somewhere {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("link-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix { path: self.path.to_str().unwrap().into() }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        ticket(self.endpoint())
    }

    /// The next connection, before its handshake.
    pub(crate) async fn accept_raw(&self) -> Wire {
        let accepted = tokio::time::timeout(SOON, self.listener.accept()).await;
        let (stream, _) = accepted.expect("nobody connects").unwrap();
        Wire { stream, buffer: BytesMut::new() }
    }

    /// The next connection, behind its handshake.
    pub(crate) async fn accept(&self) -> (Wire, Hello) {
        let mut wire = self.accept_raw().await;
        let hello =
            wire.shake(Welcome { protocol: PROTOCOL, hostname: "pod".into(), ..Welcome::default() }).await;
        (wire, hello)
    }
}

impl Drop for Somewhere {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn ticket(endpoint: Endpoint) -> Ticket {
    Ticket {
        session: "s1234567".into(),
        folder: String::new(),
        endpoint,
        key: SecretKey::from_random([7; 32]),
        target: TargetSummary::default(),
        env: EnvPlan::default(),
        files: FilePlan {
            enabled: false,
            mapping: vec![],
            rules: vec![],
            fallback: Place::Local,
            discovered_mounts: false,
        },
        network: NetworkPlan {
            outgoing_tcp: true,
            outgoing_udp: true,
            dns: true,
            outgoing_ignore_localhost: false,
            unix_streams: vec![],
            incoming: IncomingPlan::default(),
        },
        hostname: true,
        skip_processes: vec![],
        user: "ann".into(),
        host: "laptop".into(),
        layer: None,
    }
}

/// One connection of a client.
pub(crate) struct Wire {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Wire {
    /// The bare connection, to write what is no frame.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    pub(crate) async fn challenge(&mut self, protocol: u32) {
        let nonce = Bytes::from_static(NONCE);
        self.send(to_client::Body::Challenge(Challenge { nonce, protocol, version: "0".into() })).await;
    }

    /// Lets the client in, once its proof holds.
    pub(crate) async fn shake(&mut self, welcome: Welcome) -> Hello {
        self.challenge(PROTOCOL).await;
        let to_agent::Body::Hello(hello) = self.next().await else { panic!("no hello") };
        let key = PublicKey::from_slice(&hello.public_key).unwrap();
        assert!(key.verifies(NONCE, &hello.session, &hello.proof));
        self.send(to_client::Body::Welcome(welcome)).await;
        hello
    }

    pub(crate) async fn send(&mut self, body: to_client::Body) {
        let mut frame = BytesMut::new();
        codec::encode(&ToClient { body: Some(body) }, &mut frame).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The client's next frame; `None` when it has closed.
    pub(crate) async fn try_next(&mut self) -> Option<to_agent::Body> {
        loop {
            if let Some(frame) = codec::decode::<ToAgent>(&mut self.buffer).unwrap() {
                return Some(frame.body.unwrap());
            }
            self.buffer.reserve(64 << 10);
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> to_agent::Body {
        let next = tokio::time::timeout(SOON, self.try_next()).await;
        next.expect("no frame comes").expect("the client closed")
    }

    /// The next frame, which is a request.
    pub(crate) async fn request(&mut self) -> Request {
        match self.next().await {
            to_agent::Body::Request(request) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    /// Answers the next request, which is a connect; the stream's number.
    pub(crate) async fn accept_connect(&mut self) -> u64 {
        let Request { id, op: Some(request::Op::Connect(connect)) } = self.request().await else {
            panic!("no connect")
        };
        let answer = response::Answer::Connected(Connected { pod_addr: "10.0.0.7:40000".into() });
        self.answer(id, answer).await;
        connect.stream
    }

    pub(crate) async fn answer(&mut self, id: u64, answer: response::Answer) {
        let response = Response { id, answer: Some(answer), ..Response::default() };
        self.send(to_client::Body::Response(response)).await;
    }

    pub(crate) async fn refuse(&mut self, id: u64, errno: Errno, message: &str) {
        let response = Response { id, errno: errno as i32, message: message.into(), answer: None };
        self.send(to_client::Body::Response(response)).await;
    }

    pub(crate) async fn data(&mut self, stream: u64, bytes: impl Into<Bytes>) {
        self.send(to_client::Body::Data(Data { stream, bytes: bytes.into() })).await;
    }

    pub(crate) async fn end(&mut self, stream: u64) {
        self.send(to_client::Body::End(End { stream })).await;
    }

    pub(crate) async fn reset(&mut self, stream: u64, errno: Errno) {
        self.send(to_client::Body::Reset(Reset { stream, errno: errno as i32 })).await;
    }

    pub(crate) async fn close(&mut self, kind: &str) {
        let message = "for the test".into();
        self.send(to_client::Body::Closing(Closing { kind: kind.into(), message })).await;
    }

    /// Echoes every stream within its credit, ends what the client ends, until the client closes.
    pub(crate) async fn echo(mut self) {
        struct Echoed {
            credit: u64,
            waiting: VecDeque<Bytes>,
            ending: bool,
        }
        let mut streams: HashMap<u64, Echoed> = HashMap::new();
        while let Some(body) = self.try_next().await {
            let id = match body {
                to_agent::Body::Request(Request { id, op: Some(request::Op::Connect(connect)) }) => {
                    let fresh =
                        Echoed { credit: INITIAL_CREDIT.into(), waiting: VecDeque::new(), ending: false };
                    streams.insert(connect.stream, fresh);
                    self.answer(id, response::Answer::Connected(Connected::default())).await;
                    connect.stream
                }
                to_agent::Body::Data(data) => {
                    streams.get_mut(&data.stream).unwrap().waiting.push_back(data.bytes);
                    data.stream
                }
                to_agent::Body::Credit(credit) => {
                    // Credit and our end may cross on the wire.
                    let Some(echoed) = streams.get_mut(&credit.stream) else { continue };
                    echoed.credit += u64::from(credit.bytes);
                    credit.stream
                }
                to_agent::Body::End(end) => {
                    streams.get_mut(&end.stream).unwrap().ending = true;
                    end.stream
                }
                _ => continue,
            };
            let echoed = streams.get_mut(&id).unwrap();
            let mut out = Vec::new();
            while let Some(bytes) = echoed.waiting.pop_front_if(|bytes| bytes.len() as u64 <= echoed.credit) {
                echoed.credit -= bytes.len() as u64;
                out.push(bytes);
            }
            let ended = echoed.ending && echoed.waiting.is_empty();
            for bytes in out {
                let grant = Credit { stream: id, bytes: bytes.len() as u32 };
                self.data(id, bytes).await;
                self.send(to_client::Body::Credit(grant)).await;
            }
            if ended {
                streams.remove(&id);
                self.end(id).await;
            }
        }
    }
}
