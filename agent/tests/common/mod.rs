//! An agent's process and a small client of its wire, for the tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod pod;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::agent::request::Op;
use protocol::agent::to_client::Body;
use protocol::agent::{
    Closing, Data, End, Hello, Incoming, PROTOCOL, Request, Reset, Response, ToAgent, ToClient, Welcome,
    to_agent,
};
use protocol::auth::SecretKey;
use protocol::codec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const INSIDE: &str = "AGENT_TEST_INSIDE";

pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn key(byte: u8) -> SecretKey {
    SecretKey::from_random([byte; 32])
}

/// A running agent; killed when dropped.
pub struct Agent {
    pub child: Child,
    pub address: String,
}

impl Agent {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command.arg("serve").args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that goes with the test.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("agent-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Wire for T {}

/// One link.
pub struct Client {
    wire: Box<dyn Wire>,
    buffer: BytesMut,
    /// Frames that nobody has asked for yet.
    pub waiting: Vec<Body>,
    last_request: u64,
}

impl Client {
    pub async fn dial(address: &str) -> Self {
        let wire: Box<dyn Wire> = match address.split_once(':') {
            Some(("unix", path)) => Box::new(UnixStream::connect(path).await.unwrap()),
            Some(("tcp", address)) => Box::new(tokio::net::TcpStream::connect(address).await.unwrap()),
            _ => panic!("{address}"),
        };
        Self { wire, buffer: BytesMut::new(), waiting: Vec::new(), last_request: 0 }
    }

    /// Shows the key and says hello; the agent's answer.
    pub async fn greet(&mut self, key: &SecretKey, session: &str) -> Result<Welcome, Closing> {
        let Some(Body::Challenge(challenge)) = self.frame().await else { panic!("no challenge") };
        self.send(to_agent::Body::Hello(Hello {
            session: session.into(),
            public_key: Bytes::copy_from_slice(key.public().as_bytes()),
            proof: key.prove(&challenge.nonce, session).into(),
            protocol: PROTOCOL,
            user: "tester".into(),
            host: "laptop".into(),
            want_env: true,
        }))
        .await;
        match self.frame().await {
            Some(Body::Welcome(welcome)) => Ok(welcome),
            Some(Body::Closing(closing)) => Err(closing),
            other => panic!("{other:?}"),
        }
    }

    pub async fn connect(address: &str, key: &SecretKey, session: &str) -> (Self, Welcome) {
        let mut client = Self::dial(address).await;
        let welcome = client.greet(key, session).await.unwrap();
        (client, welcome)
    }

    pub async fn send(&mut self, body: to_agent::Body) {
        let mut bytes = BytesMut::new();
        codec::encode(&ToAgent { body: Some(body) }, &mut bytes).unwrap();
        self.wire.write_all(&bytes).await.unwrap();
    }

    /// The next frame off the wire; `None` at its end.
    pub async fn frame(&mut self) -> Option<Body> {
        let reading = async {
            loop {
                if let Some(frame) = codec::decode::<ToClient>(&mut self.buffer).unwrap() {
                    return frame.body;
                }
                match self.wire.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a frame in time")
    }

    /// The first frame that `wanted` takes; others wait for their turn.
    pub async fn expect<T>(&mut self, mut wanted: impl FnMut(&Body) -> Option<T>) -> T {
        if let Some((at, found)) =
            self.waiting.iter().enumerate().find_map(|(at, body)| Some((at, wanted(body)?)))
        {
            self.waiting.remove(at);
            return found;
        }
        loop {
            let body = self.frame().await.expect("the link is up");
            match wanted(&body) {
                Some(found) => return found,
                None => self.waiting.push(body),
            }
        }
    }

    pub async fn ask(&mut self, op: Op) -> u64 {
        self.last_request += 1;
        let id = self.last_request;
        self.send(to_agent::Body::Request(Request { id, op: Some(op) })).await;
        id
    }

    pub async fn response(&mut self, id: u64) -> Response {
        self.expect(|body| match body {
            Body::Response(response) if response.id == id => Some(response.clone()),
            _ => None,
        })
        .await
    }

    pub async fn call(&mut self, op: Op) -> Response {
        let id = self.ask(op).await;
        self.response(id).await
    }

    pub async fn data(&mut self, stream: u64, bytes: impl Into<Bytes>) {
        self.send(to_agent::Body::Data(Data { stream, bytes: bytes.into() })).await;
    }

    pub async fn end(&mut self, stream: u64) {
        self.send(to_agent::Body::End(End { stream })).await;
    }

    pub async fn reset(&mut self, stream: u64) {
        self.send(to_agent::Body::Reset(Reset { stream, errno: libc::ECONNRESET })).await;
    }

    /// Reads `length` bytes of a stream.
    pub async fn read(&mut self, stream: u64, length: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < length {
            let bytes = self
                .expect(|body| match body {
                    Body::Data(data) if data.stream == stream => Some(data.bytes.clone()),
                    Body::End(end) if end.stream == stream => panic!("the stream ended"),
                    Body::Reset(reset) if reset.stream == stream => panic!("the stream was reset: {reset:?}"),
                    _ => None,
                })
                .await;
            read.extend_from_slice(&bytes);
        }
        assert_eq!(read.len(), length);
        read
    }

    pub async fn ended(&mut self, stream: u64) {
        self.expect(|body| matches!(body, Body::End(end) if end.stream == stream).then_some(())).await;
    }

    pub async fn was_reset(&mut self, stream: u64) -> i32 {
        self.expect(|body| match body {
            Body::Reset(reset) if reset.stream == stream => Some(reset.errno),
            _ => None,
        })
        .await
    }
}

/// `NAME=value` pairs by name.
pub fn variables(welcome: &Welcome) -> HashMap<String, String> {
    welcome
        .env
        .iter()
        .filter_map(|variable| {
            let text = String::from_utf8_lossy(variable).into_owned();
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Runs a test's body in namespaces of its own.
pub fn isolated(name: &str, body: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(body);
    }
    let root = nix::unistd::geteuid().is_root();
    let status = Command::new("unshare")
        .args(if root { ["--net", "--mount"].as_slice() } else { &["--net", "--mount", "--map-root-user"] })
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed inside its namespaces");
}

pub fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// `pod: LINE` for each line, and nothing more at its end.
pub fn answer_lines(stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if writer.write_all(format!("pod: {line}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Someone who talks to the pod, on threads of their own so that the test's runtime goes on.
pub struct Caller(Option<BufReader<TcpStream>>);

impl Caller {
    pub async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut BufReader<TcpStream>) -> T + Send + 'static,
    ) -> T {
        let mut stream = self.0.take().unwrap();
        let (stream, outcome) = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut stream);
            (stream, outcome)
        })
        .await
        .unwrap();
        self.0 = Some(stream);
        outcome
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(Some(BufReader::new(stream)))
    }

    pub fn call(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        Self::of(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    pub fn say(&mut self, text: &str) {
        self.0.as_mut().unwrap().get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub async fn line(&mut self) -> String {
        self.with(|stream| {
            let mut line = String::new();
            stream
                .read_line(&mut line)
                .map(|_| line.trim_end().to_owned())
                .unwrap_or_else(|error| error.kind().to_string())
        })
        .await
    }

    /// Says a line and hears the answer.
    pub async fn ask(&mut self, text: &str) -> String {
        self.say(&format!("{text}\n"));
        self.line().await
    }

    pub fn end(&mut self) {
        self.0.as_mut().unwrap().get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }
}

pub async fn incoming(client: &mut Client) -> Incoming {
    client
        .expect(|body| match body {
            Body::Incoming(incoming) => Some(incoming.clone()),
            _ => None,
        })
        .await
}
