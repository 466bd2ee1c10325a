//! The same link against the agent that ships: `MIRRORD_IDE_AGENT`, or the one built beside this test.
//!
//! All traffic stays on loopback.

use super::peer::{SOON, ticket};
use crate::agent_link::{Chunk, LinkError, Supervised, pump};
use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::{Read, Walk, connect, request, response};
use protocol::auth::SecretKey;
use protocol::host::{AgentState, Endpoint, Ticket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::time::timeout;

fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MIRRORD_IDE_AGENT") {
        return Some(path.into());
    }
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("agent");
    beside.exists().then_some(beside)
}

/// A folder of the test's own, with an agent's socket and a file; removed with it.
struct Scene {
    folder: PathBuf,
    program: PathBuf,
    key: SecretKey,
}

impl Scene {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program =
            binary().expect("build the agent first: cargo build -p agent, or name one by MIRRORD_IDE_AGENT");
        let name = format!("link-agent-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self { folder, program, key: SecretKey::from_random([7; 32]) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn ticket(&self) -> Ticket {
        ticket(Endpoint::Unix { path: text(&self.path("agent.sock")) })
    }

    /// An agent that is ready: it says where it listens.
    async fn agent(&self, name: &str) -> Child {
        let mut child = Command::new(&self.program)
            .args(["serve", "--target", "self", "--log", "error", "--idle-seconds", "30"])
            .arg("--admit")
            .arg(self.key.public().to_string())
            .arg("--listen")
            .arg(format!("unix:{}", text(&self.path(name))))
            .env("ONLY_THE_POD_HAS", "made up")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        timeout(SOON, said.next_line())
            .await
            .expect("the agent says nothing")
            .unwrap()
            .expect("the agent ended");
        child
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_environment_files_and_connections() {
    let scene = Scene::new();
    let mut agent = scene.agent("agent.sock").await;
    let (supervised, welcome, _incoming) = Supervised::connect(&scene.ticket(), true).await.unwrap();
    let link = supervised.link().clone();
    assert!(welcome.env.iter().any(|entry| entry == "ONLY_THE_POD_HAS=made up"));

    let content: Vec<u8> = (0..200_000_u32).map(|at| (at ^ (at >> 8)) as u8).collect();
    std::fs::write(scene.path("file"), &content).unwrap();
    let path = Bytes::from(text(&scene.path("file")));
    let walk = Walk { path, follow: true, inline: 4096, list: false, keep: true };
    let response = link.request(request::Op::Walk(walk)).await.unwrap();
    let Some(response::Answer::Walked(walked)) = response.answer else { panic!("not walked: {response:?}") };
    assert_eq!((walked.errno, walked.whole, &walked.content[..]), (0, false, &content[..4096]));
    let read = Read { handle: walked.handle, offset: 100_000, length: 100_000 };
    let response = link.request(request::Op::Read(read)).await.unwrap();
    assert!(response.answer == Some(response::Answer::Content(content[100_000..].to_vec().into())));

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = link.connect_stream(connect::To::Tcp(nobody.to_string()), SOON).await;
    assert_eq!(refused.unwrap_err(), Errno::ECONNREFUSED);

    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = resolver.local_addr().unwrap().to_string();
    let answer = async {
        let mut datagram = [0; 64];
        let (length, from) = resolver.recv_from(&mut datagram).await.unwrap();
        resolver.send_to(&datagram[..length], from).await.unwrap();
    };
    let exchange = async {
        let mut stream = link.datagrams(address).await.unwrap();
        stream.send(Bytes::from_static(b"who?")).await.unwrap();
        timeout(SOON, stream.recv()).await.unwrap()
    };
    let (exchanged, ()) = tokio::join!(exchange, answer);
    assert_eq!(exchanged, Chunk::Data(Bytes::from_static(b"who?")));

    // 32 MiB there and back on two connections at once, through real sockets on both sides.
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = pod.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = pod.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = connection.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.shutdown().await.unwrap();
            });
        }
    });
    let echo = async |seed: u8| {
        let (_, stream) = link.connect_stream(connect::To::Tcp(to.clone()), SOON).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (program, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let pumped = tokio::spawn(pump(accepted.unwrap().0, stream));
        let (mut reader, mut writer) = program.unwrap().into_split();
        let sent: Vec<u8> = (0..32 << 20_usize).map(|at| (at ^ (at >> 13)) as u8 ^ seed).collect();
        let up = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(reader.read_to_end(&mut received), up);
        read.unwrap();
        assert!(received == sent, "echo {seed} differs");
        assert_eq!(pumped.await.unwrap().reset, None);
    };
    timeout(SOON * 4, futures::future::join(echo(1), echo(2))).await.unwrap();
    agent.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_resets_streams_and_another_takes_its_place() {
    let scene = Scene::new();
    let mut first = scene.agent("agent.sock").await;
    let (supervised, _, _incoming) = Supervised::connect(&scene.ticket(), false).await.unwrap();
    let link = supervised.link().clone();
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = connect::To::Tcp(pod.local_addr().unwrap().to_string());
    let (_, mut stream) = link.connect_stream(to, SOON).await.unwrap();
    first.kill().await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(timeout(SOON, stream.recv()).await.unwrap(), Chunk::Reset(Errno::ECONNRESET));
    assert!(began.elapsed() < Duration::from_secs(1));
    let _second = scene.agent("other.sock").await;
    supervised.move_to(Endpoint::Unix { path: text(&scene.path("other.sock")) });
    let mut states = link.states();
    timeout(SOON, states.wait_for(|state| *state == AgentState::Connected)).await.unwrap().unwrap();
    let walk = Walk { path: "/".into(), ..Walk::default() };
    assert_eq!(link.request(request::Op::Walk(walk)).await.unwrap().errno, 0);
}

#[tokio::test]
async fn it_lets_in_only_whom_it_was_told_of() {
    let scene = Scene::new();
    let _agent = scene.agent("agent.sock").await;
    let mut stranger = scene.ticket();
    stranger.key = SecretKey::from_random([8; 32]);
    let error = Supervised::connect(&stranger, true).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { kind, .. } if kind == "unauthorized"), "{error}");
}
