//! The agent's wire without a target's namespaces: who is let in, files, outgoing connections, its end.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Agent, Client, Folder, key, variables};
use protocol::agent::request::Op;
use protocol::agent::response::Answer;
use protocol::agent::to_client::Body;
use protocol::agent::{Connect, Credit, Finish, Ping, Walk, connect, to_agent};
use protocol::auth::SecretKey;
use protocol::codec::{INITIAL_CREDIT, MAX_CHUNK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

fn started(more: &[&str]) -> Agent {
    let admitted = key(1).public().to_string();
    let arguments =
        [&["--listen", "tcp:127.0.0.1:0", "--admit", &admitted, "--target", "self", "--log", "warn"], more]
            .concat();
    Agent::start(&arguments)
}

fn tcp(stream: u64, address: impl ToString) -> Op {
    Op::Connect(Connect { stream, to: Some(connect::To::Tcp(address.to_string())), timeout_ms: 0 })
}

#[tokio::test]
async fn only_an_admitted_key_with_a_fresh_proof_is_let_in() {
    let agent = started(&[]);
    let refused = Client::dial(&agent.address).await.greet(&key(2), "s").await.unwrap_err();
    assert_eq!(refused.kind, "unauthorized");
    // A proof made for another nonce.
    let mut client = Client::dial(&agent.address).await;
    let Some(Body::Challenge(challenge)) = client.frame().await else { panic!() };
    assert_eq!(challenge.nonce.len(), 32);
    let hello = protocol::agent::Hello {
        session: "s".into(),
        public_key: Bytes::copy_from_slice(key(1).public().as_bytes()),
        proof: key(1).prove(&[0; 32], "s").into(),
        protocol: 1,
        ..Default::default()
    };
    client.send(to_agent::Body::Hello(hello)).await;
    let Some(Body::Closing(closing)) = client.frame().await else { panic!() };
    assert_eq!(closing.kind, "unauthorized");
    assert_eq!(client.frame().await, None);
    // A request instead of a hello.
    let mut client = Client::dial(&agent.address).await;
    client.frame().await;
    client.send(to_agent::Body::Ping(Ping { number: 1 })).await;
    assert!(matches!(client.frame().await, Some(Body::Closing(_))));
    let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
    assert_eq!(welcome.protocol, 1);
    client.send(to_agent::Body::Ping(Ping { number: 7 })).await;
    assert_eq!(client.frame().await, Some(Body::Pong(Ping { number: 7 })));
}

#[tokio::test]
async fn a_second_key_is_admitted_through_the_admin_socket() {
    let folder = Folder::new("admin");
    let admin = folder.path("admin.sock");
    let agent = started(&["--admin", &admin]);
    assert_eq!(std::fs::metadata(&admin).unwrap().permissions().mode() & 0o777, 0o600);
    Client::dial(&agent.address).await.greet(&key(2), "s").await.unwrap_err();
    let status = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["admit", "--socket", &admin, &key(2).public().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    Client::connect(&agent.address, &key(2), "s").await;
}

#[tokio::test]
async fn the_last_one_out_ends_the_agent() {
    let folder = Folder::new("finish");
    let admin = folder.path("admin.sock");
    let program = folder.path("agent");
    let mut agent = started(&["--admin", &admin, "--link-program", &program]);
    // Let in together: its sessions do not stand in the way of each other, nor of its owner.
    let (_own, _) = Client::connect(&agent.address, &key(1), "own").await;
    let admitted = |keys: &[SecretKey]| {
        let keys: Vec<String> = keys.iter().map(|key| key.public().to_string()).collect();
        let status = Command::new(&program).args(["admit", "--socket", &admin]).args(keys).status();
        assert!(status.unwrap().success());
    };
    admitted(&[key(2), key(3)]);
    let (mut owner, _) = Client::connect(&agent.address, &key(1), "owner").await;
    let refused = owner.call(Op::Finish(Finish {})).await;
    assert_eq!((refused.errno, refused.message.contains("on its way")), (libc::EBUSY, true));
    let (guest, _) = Client::connect(&agent.address, &key(2), "guest").await;
    let refused = owner.call(Op::Finish(Finish {})).await;
    assert_eq!((refused.errno, refused.message.contains("is on the agent")), (libc::EBUSY, true));
    drop((guest, owner, _own));
    let (mut guest, _) = Client::connect(&agent.address, &key(3), "guest's daemon").await;
    // The owner's links are gone once the agent has read their end.
    let mut errno = libc::EBUSY;
    for _ in 0..100 {
        errno = guest.call(Op::Finish(Finish {})).await.errno;
        if errno == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(errno, 0);
    assert!(agent.child.wait().unwrap().success());
}

#[tokio::test]
async fn a_process_gives_its_environment_and_the_agent_ends_with_it() {
    let folder = Folder::new("process");
    let mut target =
        Command::new("sleep").arg("60").env("ONLY_THERE", "a=b").current_dir("/").spawn().unwrap();
    let (pid, listen) = (format!("pid:{}", target.id()), format!("unix:{}", folder.path("agent.sock")));
    let admitted = key(1).public().to_string();
    let mut agent =
        Agent::start(&["--listen", &listen, "--admit", &admitted, "--target", &pid, "--log", "warn"]);
    let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
    assert_eq!(variables(&welcome)["ONLY_THERE"], "a=b");
    assert_eq!((welcome.cwd.as_str(), &welcome.command[..]), ("/", &b"sleep\x0060\0"[..]));
    target.kill().unwrap();
    target.wait().unwrap();
    let Some(Body::Event(event)) = client.frame().await else { panic!() };
    assert_eq!(event.kind, "target-exited");
    let Some(Body::Closing(closing)) = client.frame().await else { panic!() };
    assert_eq!(closing.kind, "target-exited");
    assert!(agent.child.wait().unwrap().success());
    assert!(!std::path::Path::new(&folder.path("agent.sock")).exists());
}

#[tokio::test]
async fn a_file_comes_in_one_answer_and_a_pending_connect_delays_nobody() {
    let folder = Folder::new("file");
    std::fs::write(folder.path("value"), "content").unwrap();
    let agent = started(&[]);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    // A listener whose queue is full answers no further SYN: this connect stays pending.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    // SAFETY: listen(2) takes integers only; the descriptor is open.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&full), 0) }, 0);
    let _taken: Vec<_> = (0..2)
        .map_while(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
        .collect();
    let to = Some(connect::To::Tcp(address.to_string()));
    let pending = client.ask(Op::Connect(Connect { stream: 1, to, timeout_ms: 700 })).await;
    let path = Bytes::from(folder.path("value").into_bytes());
    let walk = Walk { path, follow: true, inline: 4096, list: false, keep: true };
    let response = client.call(Op::Walk(walk)).await;
    let Some(Answer::Walked(walked)) = response.answer else { panic!("{response:?}") };
    assert_eq!((walked.errno, walked.whole, &walked.content[..]), (0, true, &b"content"[..]));
    assert!(client.waiting.is_empty(), "the connect answered first: {:?}", client.waiting);
    assert_eq!(client.response(pending).await.errno, libc::ETIMEDOUT);
}

#[tokio::test]
async fn tcp_is_carried_with_credit_both_ways_and_each_end_half_closed() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = started(&[]);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let response = client.call(tcp(1, server.local_addr().unwrap())).await;
    let Some(Answer::Connected(connected)) = response.answer else { panic!("{response:?}") };
    let (mut accepted, peer) = server.accept().await.unwrap();
    assert_eq!(connected.pod_addr, peer.to_string());
    client.data(1, "hello").await;
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    // The pod sends more than the client has granted.
    let total = INITIAL_CREDIT as usize + 300_000;
    let sent: Vec<u8> = (0..total).map(|number| (number / 7) as u8).collect();
    let sending = sent.clone();
    let mut accepted = tokio::spawn(async move {
        accepted.write_all(&sending).await.unwrap();
        accepted.shutdown().await.unwrap();
        accepted
    });
    let first = client.read(1, INITIAL_CREDIT as usize).await;
    assert_eq!(first, sent[..INITIAL_CREDIT as usize]);
    client.send(to_agent::Body::Ping(Ping { number: 1 })).await;
    // Nothing but the pong: without credit there is no more payload.
    assert_eq!(client.frame().await, Some(Body::Pong(Ping { number: 1 })));
    client.send(to_agent::Body::Credit(Credit { stream: 1, bytes: 300_000 })).await;
    assert_eq!(client.read(1, 300_000).await, sent[INITIAL_CREDIT as usize..]);
    client.ended(1).await;
    // The other direction still works, and gets its credit back.
    let mut accepted = (&mut accepted).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    let chunks = INITIAL_CREDIT as usize / MAX_CHUNK;
    for _ in 0..chunks {
        client.data(1, vec![1; MAX_CHUNK]).await;
    }
    let granted = client.expect(|body| match body {
        Body::Credit(credit) if credit.stream == 1 => Some(credit.bytes),
        _ => None,
    });
    assert!(granted.await >= MAX_CHUNK as u32);
    client.end(1).await;
    assert_eq!(reading.await.unwrap(), chunks * MAX_CHUNK);
}

#[tokio::test]
async fn a_refused_connect_and_a_reset_keep_their_errno() {
    let agent = started(&[]);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(client.call(tcp(1, closed)).await.errno, libc::ECONNREFUSED);
    assert_eq!(client.call(tcp(3, "no address")).await.errno, libc::EINVAL);
    assert_eq!(client.call(tcp(2, closed)).await.errno, libc::EINVAL);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.call(tcp(5, server.local_addr().unwrap())).await;
    let (accepted, _) = server.accept().await.unwrap();
    accepted.set_zero_linger().unwrap();
    drop(accepted);
    assert_eq!(client.was_reset(5).await, libc::ECONNRESET);
    // And the other way round.
    client.call(tcp(7, server.local_addr().unwrap())).await;
    let (mut accepted, _) = server.accept().await.unwrap();
    client.reset(7).await;
    let error = accepted.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn udp_carries_datagrams_and_a_refusal() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let agent = started(&[]);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let udp = |stream, address: std::net::SocketAddr| {
        let to = Some(connect::To::Udp(address.to_string()));
        Op::Connect(Connect { stream, to, timeout_ms: 0 })
    };
    assert_eq!(client.call(udp(1, server.local_addr().unwrap())).await.errno, 0);
    client.data(1, "one").await;
    client.data(1, "").await;
    let mut buffer = [0; 100];
    let (length, peer) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"one");
    assert_eq!(server.recv_from(&mut buffer).await.unwrap().0, 0);
    server.send_to(b"answer", peer).await.unwrap();
    assert_eq!(client.read(1, 6).await, b"answer");
    drop(server);
    client.data(1, "nobody there").await;
    assert_eq!(client.was_reset(1).await, libc::ECONNREFUSED);
}

#[tokio::test]
async fn unix_sockets_by_a_long_path_through_a_link_and_by_abstract_name() {
    let folder = Folder::new("unix");
    let long = folder.path(&"x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let server = {
        // Binding has the limit on lengths that connecting through the agent has not.
        let short = folder.path("short.sock");
        let server = UnixListener::bind(&short).unwrap();
        std::fs::rename(&short, format!("{long}/s.sock")).unwrap();
        std::os::unix::fs::symlink(format!("{long}/s.sock"), folder.path("link")).unwrap();
        server
    };
    let agent = started(&[]);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let to = Some(connect::To::UnixPath(Bytes::from(folder.path("link").into_bytes())));
    let response = client.call(Op::Connect(Connect { stream: 1, to, timeout_ms: 0 })).await;
    assert_eq!(response.errno, 0, "{response:?}");
    let (mut accepted, _) = server.accept().await.unwrap();
    accepted.write_all(b"by path").await.unwrap();
    assert_eq!(client.read(1, 7).await, b"by path");

    let name = format!("agent-test-{}", std::process::id());
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let server = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let to = Some(connect::To::UnixAbstract(Bytes::from(name.into_bytes())));
    assert_eq!(client.call(Op::Connect(Connect { stream: 3, to, timeout_ms: 0 })).await.errno, 0);
    use std::io::Write;
    server.accept().unwrap().0.write_all(b"by name").unwrap();
    assert_eq!(client.read(3, 7).await, b"by name");
    let to = Some(connect::To::UnixPath(Bytes::from(folder.path("none").into_bytes())));
    assert_eq!(client.call(Op::Connect(Connect { stream: 5, to, timeout_ms: 0 })).await.errno, libc::ENOENT);
}

#[tokio::test]
async fn without_idle_time_the_agent_ends_with_its_last_session() {
    let mut agent = started(&["--idle-seconds", "0"]);
    let (first, _) = Client::connect(&agent.address, &key(1), "a").await;
    let (second, _) = Client::connect(&agent.address, &key(1), "b").await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agent.child.try_wait().unwrap().is_none());
    drop(second);
    let since = Instant::now();
    assert!(agent.child.wait().unwrap().success());
    assert!(since.elapsed() < Duration::from_secs(3));
}

/// As in a pod: nobody else takes leave of orphans, and signals without a handler are not heard.
#[tokio::test]
async fn as_a_containers_first_process_it_reaps_orphans_and_ends_when_told_to() {
    let folder = Folder::new("first");
    let listen = format!("unix:{}", folder.path("agent.sock"));
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_agent"), "serve"]);
    command.args(["--listen", &listen, "--admit", &key(1).public().to_string(), "--target", "self"]);
    let mut agent = Agent::spawn(command);
    let starter = agent.child.id();
    let children = std::fs::read_to_string(format!("/proc/{starter}/task/{starter}/children")).unwrap();
    let first: i32 = children.trim().parse().unwrap();
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    // The shell ends before what it started, which then is the agent's.
    let inside = format!("/proc/{first}/ns/pid");
    let status = Command::new("nsenter")
        .args(if nix::unistd::geteuid().is_root() { [].as_slice() } else { &["--user"] })
        .args(["--pid", "--mount", "--target", &first.to_string()])
        .args(["sh", "-c", "sleep 0.3 & test $(readlink /proc/self/ns/pid) = \"$0\""])
        .arg(std::fs::read_link(&inside).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let orphans = || std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    assert!(!orphans().trim().is_empty(), "the orphan is the agent's child");
    let since = Instant::now();
    while !orphans().trim().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(5), "a zombie stays: {}", orphans());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGTERM).unwrap();
    let closing = client
        .expect(|body| match body {
            Body::Closing(closing) => Some(closing.clone()),
            _ => None,
        })
        .await;
    assert_eq!(closing.kind, "shutting-down");
    assert!(agent.child.wait().unwrap().success());
}
