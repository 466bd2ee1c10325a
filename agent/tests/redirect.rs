//! Incoming traffic, between network namespaces of the test's own joined by a veth pair: one stands for the pod, the
//! other for its clients.
//!
//! Each test runs itself again inside fresh namespaces (as root in a network namespace, else in a user namespace
//! too), so nothing of the machine's own network is touched and nothing stays.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::pod::{POD, Pod, agent_of};
use common::{Agent, Caller, Client, Folder, PATIENCE, incoming, isolated, key};
use protocol::agent::request::Op;
use protocol::agent::response::Answer;
use protocol::agent::to_client::Body;
use protocol::agent::{Capture, Connect, Response, Subscribe, Unsubscribe, connect};

const POD_V6: &str = "[fd09::2]:80";

async fn subscribe(client: &mut Client, capture: Capture) -> Response {
    let subscribe = Subscribe { port: 80, capture: capture as i32, header_filter: String::new() };
    client.call(Op::Subscribe(subscribe)).await
}

async fn subscribed(client: &mut Client, capture: Capture) -> u32 {
    let response = subscribe(client, capture).await;
    match response.answer {
        Some(Answer::Subscribed(subscribed)) => subscribed.established,
        _ => panic!("{response:?}"),
    }
}

async fn unsubscribe(client: &mut Client) {
    let response = client.call(Op::Unsubscribe(Unsubscribe { port: 80 })).await;
    assert_eq!(response.errno, 0, "{response:?}");
}

#[test]
fn a_stolen_port_is_the_sessions_and_the_pods_again_afterwards() {
    isolated("a_stolen_port_is_the_sessions_and_the_pods_again_afterwards", async {
        let (pod, folder) = (Pod::start(), Folder::new("steal"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
        assert_eq!((welcome.incoming, welcome.incoming_why.as_str()), (true, ""));
        assert_eq!(welcome.listening, [80]);
        assert_eq!(welcome.addresses, ["10.9.0.2", "fd09::2"]);
        assert_eq!(common::variables(&welcome)["OF_THE_POD"], "yes");
        // Opened before, used all through.
        let mut before = Caller::call(POD);
        assert_eq!(before.ask("1").await, "pod: 1");
        assert!(!pod.tables().contains("mirrord_ide"), "an agent without a subscription leaves no trace");
        assert_eq!(subscribed(&mut client, Capture::Steal).await, 1);
        assert!(pod.tables().contains("flags owner"), "{}", pod.tables());
        assert_eq!(before.ask("2").await, "pod: 2");
        for (address, peer) in [(POD, "10.9.0.1:"), (POD_V6, "[fd09::1]:")] {
            let mut caller = Caller::call(address);
            caller.say("hello\n");
            let stolen = incoming(&mut client).await;
            assert!(stolen.peer_addr.starts_with(peer), "{stolen:?}");
            assert_eq!((stolen.pod_addr.as_str(), stolen.port, stolen.mirrored), (address, 80, false));
            assert_eq!(client.read(stolen.stream, 6).await, b"hello\n");
            client.data(stolen.stream, "stolen\n").await;
            assert_eq!(caller.line().await, "stolen");
            caller.end();
            client.ended(stolen.stream).await;
            client.data(stolen.stream, "last words\n").await;
            client.end(stolen.stream).await;
            assert_eq!(caller.line().await, "last words");
            assert_eq!(caller.line().await, "");
        }
        assert_eq!(pod.served(), 1);
        // A stolen connection outlives the subscription, and so does the table that it needs.
        let mut during = Caller::call(POD);
        let stolen = incoming(&mut client).await;
        unsubscribe(&mut client).await;
        assert_eq!(before.ask("3").await, "pod: 3");
        let mut after = Caller::call(POD);
        assert_eq!(after.ask("new").await, "pod: new");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        during.say("still here\n");
        assert_eq!(client.read(stolen.stream, 11).await, b"still here\n");
        client.data(stolen.stream, "yes\n").await;
        assert_eq!(during.line().await, "yes");
        client.end(stolen.stream).await;
        during.end();
        client.ended(stolen.stream).await;
        let since = Instant::now();
        while pod.tables().contains("mirrord_ide") {
            assert!(since.elapsed() < PATIENCE, "{}", pod.tables());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(before.ask("4").await, "pod: 4");
        assert_eq!(after.ask("5").await, "pod: 5");
    });
}

#[test]
fn what_a_session_gives_back_reaches_the_pod_whole() {
    isolated("what_a_session_gives_back_reaches_the_pod_whole", async {
        let (pod, folder) = (Pod::start(), Folder::new("pass"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal).await;
        let mut caller = Caller::call(POD);
        caller.say("said before\nhalf a l");
        let stolen = incoming(&mut client).await;
        client.read(stolen.stream, 20).await;
        client.reset(stolen.stream).await;
        assert_eq!(caller.line().await, "pod: said before");
        assert_eq!(caller.ask("ine").await, "pod: half a line");
        // Also one that has said all already.
        let mut caller = Caller::call(POD);
        caller.say("all\n");
        caller.end();
        let stolen = incoming(&mut client).await;
        client.ended(stolen.stream).await;
        client.reset(stolen.stream).await;
        assert_eq!(caller.line().await, "pod: all");
        assert_eq!(caller.line().await, "");
        // Once the session has answered, a reset is a reset.
        let mut caller = Caller::call(POD);
        let stolen = incoming(&mut client).await;
        client.data(stolen.stream, "mine\n").await;
        assert_eq!(caller.line().await, "mine");
        client.reset(stolen.stream).await;
        assert_eq!(caller.line().await, "connection reset");
    });
}

#[test]
fn callers_inside_the_pod_are_stolen_too_but_never_the_agents_own() {
    isolated("callers_inside_the_pod_are_stolen_too_but_never_the_agents_own", async {
        let (pod, folder) = (Pod::start(), Folder::new("sidecar"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal).await;
        for address in ["127.0.0.1:80", "[::1]:80", POD] {
            let mut sidecar = Caller::of(pod.inside(move || TcpStream::connect(address).unwrap()));
            let stolen = incoming(&mut client).await;
            assert_eq!(stolen.pod_addr, address);
            client.data(stolen.stream, "stolen\n").await;
            assert_eq!(sidecar.line().await, "stolen");
        }
        for (stream, address) in [(1, "127.0.0.1:80"), (3, POD)] {
            let to = Some(connect::To::Tcp(address.into()));
            assert_eq!(client.call(Op::Connect(Connect { stream, to, timeout_ms: 5000 })).await.errno, 0);
            client.data(stream, "own\n").await;
            assert_eq!(client.read(stream, 9).await, b"pod: own\n");
        }
        // The listener dialled directly: closed, not passed round in circles.
        let listening = std::fs::read_to_string(format!("/proc/{}/net/tcp6", pod.process.id())).unwrap();
        let own = listening.lines().filter(|line| line.contains(" 0A ")).find_map(|line| {
            let port = line.split_whitespace().nth(1)?.rsplit_once(':')?.1;
            u16::from_str_radix(port, 16).ok().filter(|port| *port != 80)
        });
        let mut direct = Caller::call(&format!("10.9.0.2:{}", own.unwrap()));
        assert_eq!(direct.line().await, "");
    });
}

#[test]
fn a_mirror_copies_what_the_pod_answers() {
    isolated("a_mirror_copies_what_the_pod_answers", async {
        let (pod, folder) = (Pod::start(), Folder::new("mirror"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        let mut before = Caller::call(POD);
        assert_eq!(before.ask("1").await, "pod: 1");
        subscribed(&mut client, Capture::Mirror).await;
        assert_eq!(before.ask("2").await, "pod: 2");
        let mut caller = Caller::call(POD);
        assert_eq!(caller.ask("one").await, "pod: one");
        let copy = incoming(&mut client).await;
        assert!(copy.mirrored && copy.pod_addr == POD && copy.peer_addr.starts_with("10.9.0.1:"), "{copy:?}");
        assert_eq!(client.read(copy.stream, 4).await, b"one\n");
        client.data(copy.stream, "nobody hears this\n").await;
        assert_eq!(caller.ask("two").await, "pod: two");
        assert_eq!(client.read(copy.stream, 4).await, b"two\n");
        caller.end();
        client.ended(copy.stream).await;
        assert_eq!(caller.line().await, "");
        // The end of a session that copies does not touch the pod's connections.
        let mut caller = Caller::call(POD);
        assert_eq!(caller.ask("one").await, "pod: one");
        drop(client);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(caller.ask("two").await, "pod: two");
        assert_eq!(before.ask("3").await, "pod: 3");
        assert_eq!(Caller::call(POD).ask("new").await, "pod: new");
    });
}

#[test]
fn a_mirror_that_does_not_keep_up_is_dropped_and_told() {
    isolated("a_mirror_that_does_not_keep_up_is_dropped_and_told", async {
        let (pod, folder) = (Pod::start(), Folder::new("slow"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Mirror).await;
        let mut caller = Caller::call(POD);
        // More than the credit, which this client never renews.
        let lines = caller
            .with(|stream| {
                let line = format!("{}\n", "x".repeat(1023));
                let mut writer = stream.get_ref().try_clone().unwrap();
                let writing =
                    thread::spawn(move || (0..3000).for_each(|_| writer.write_all(line.as_bytes()).unwrap()));
                let lines = stream
                    .by_ref()
                    .lines()
                    .take(3000)
                    .filter(|line| line.as_ref().unwrap().len() == 1028)
                    .count();
                writing.join().unwrap();
                lines
            })
            .await;
        assert_eq!(lines, 3000, "the pod's own connection is whole");
        let copy = incoming(&mut client).await;
        assert_eq!(client.was_reset(copy.stream).await, libc::ENOBUFS);
        let event = client
            .expect(|body| match body {
                Body::Event(event) => Some(event.clone()),
                _ => None,
            })
            .await;
        assert_eq!((event.kind.as_str(), event.port, event.count), ("mirror-dropped", 80, 1));
    });
}

#[test]
fn one_session_steals_and_others_mirror() {
    isolated("one_session_steals_and_others_mirror", async {
        let (pod, folder) = (Pod::start(), Folder::new("sharing"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut thief, _) = Client::connect(&agent.address, &key(1), "thief").await;
        let (mut other, _) = Client::connect(&agent.address, &key(2), "other").await;
        subscribed(&mut thief, Capture::Steal).await;
        let refused = subscribe(&mut other, Capture::Steal).await;
        assert_eq!(refused.errno, libc::EBUSY);
        assert!(
            refused.message.contains("tester@laptop") && refused.message.contains("thief"),
            "{refused:?}"
        );
        subscribed(&mut other, Capture::Mirror).await;
        let mut caller = Caller::call(POD);
        caller.say("both\n");
        let (stolen, copy) = (incoming(&mut thief).await, incoming(&mut other).await);
        assert!(!stolen.mirrored && copy.mirrored);
        assert_eq!(thief.read(stolen.stream, 5).await, b"both\n");
        assert_eq!(other.read(copy.stream, 5).await, b"both\n");
        thief.data(stolen.stream, "stolen\n").await;
        assert_eq!(caller.line().await, "stolen");
        assert_eq!(pod.served(), 0);
        // The same session on a new link has not lost its port.
        let (mut again, _) = Client::connect(&agent.address, &key(1), "thief").await;
        subscribed(&mut again, Capture::Steal).await;
        let mut caller = Caller::call(POD);
        incoming(&mut again).await;
        // An unanswered connection of a session that goes is reset; the next one is the pod's.
        drop(again);
        assert_eq!(caller.line().await, "connection reset");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(Caller::call(POD).ask("new").await, "pod: new");
        subscribed(&mut other, Capture::Steal).await;
        Caller::call(POD);
        // Two copies were left from before.
        let kinds = [incoming(&mut other).await, incoming(&mut other).await, incoming(&mut other).await];
        assert_eq!(kinds.map(|incoming| incoming.mirrored), [true, true, false]);
    });
}

#[test]
fn a_killed_agent_leaves_the_port_to_the_pod() {
    isolated("a_killed_agent_leaves_the_port_to_the_pod", async {
        let (pod, folder) = (Pod::start(), Folder::new("killed"));
        let mut agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        let mut before = Caller::call(POD);
        assert_eq!(before.ask("1").await, "pod: 1");
        subscribed(&mut client, Capture::Steal).await;
        let mut stolen = Caller::call(POD);
        incoming(&mut client).await;
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        let since = Instant::now();
        assert!(["", "connection reset"].contains(&stolen.line().await.as_str()));
        while TcpStream::connect(POD).is_err() {
            assert!(since.elapsed() < Duration::from_secs(1));
        }
        assert_eq!(Caller::call(POD).ask("new").await, "pod: new");
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        assert_eq!(before.ask("2").await, "pod: 2");
        assert!(!pod.tables().contains("mirrord_ide"), "{}", pod.tables());
        // A new agent takes over where the old one was.
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal).await;
        let _caller = Caller::call(POD);
        incoming(&mut client).await;
        assert_eq!(before.ask("3").await, "pod: 3");
    });
}

/// The kernel takes connections for an agent that is about to be killed, and must still tell their peers.
#[test]
fn connections_that_wait_for_an_agent_that_is_killed_are_reset() {
    isolated("connections_that_wait_for_an_agent_that_is_killed_are_reset", async {
        let (pod, folder) = (Pod::start(), Folder::new("waiting"));
        let mut agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal).await;
        let mut taken = Caller::call(POD);
        incoming(&mut client).await;
        let pid = nix::unistd::Pid::from_raw(agent.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let mut waiting = [Caller::call(POD), Caller::call(POD)];
        waiting.iter_mut().for_each(|caller| caller.say("hello\n"));
        taken.say("hello\n");
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        let since = Instant::now();
        for caller in waiting.iter_mut().chain([&mut taken]) {
            assert!(["", "connection reset"].contains(&caller.line().await.as_str()));
        }
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    });
}

/// As `examples/demo` has it: nobody is root, the target is a process in namespaces that its user has made.
#[test]
fn an_ordinary_user_serves_a_process_in_a_user_namespace_of_their_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = Folder::new("ordinary");
    let as_user = |program: &str| {
        if !nix::unistd::geteuid().is_root() {
            return Command::new(program);
        }
        std::os::unix::fs::chown(&folder.0, Some(65534), Some(65534)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--", program]);
        command
    };
    let mut pod = as_user("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--uts", "sh", "-ec"])
        .arg("hostname pod-7; ip link set lo up; echo here; exec sleep 300")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(pod.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    let (pid, listen) = (pod.id().to_string(), format!("unix:{}", folder.path("agent.sock")));
    let target = format!("pid:{pid}");
    let mut command = as_user(env!("CARGO_BIN_EXE_agent"));
    command.args([
        "serve",
        "--listen",
        &listen,
        "--admit",
        &key(1).public().to_string(),
        "--target",
        &target,
    ]);
    let agent = Agent::spawn(command);
    runtime.block_on(async {
        let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
        assert_eq!((welcome.incoming, welcome.incoming_why.as_str()), (true, ""));
        assert_eq!((welcome.hostname.as_str(), welcome.uid, welcome.gid), ("pod-7", 0, 0));
        subscribed(&mut client, Capture::Steal).await;
        let caller = Command::new("nsenter")
            .args(["--user", "--net", "--preserve-credentials", "-t", &pid, "bash", "-ec"])
            .arg("exec 3<>/dev/tcp/127.0.0.1/80; echo question >&3; head -n 1 <&3")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stolen = incoming(&mut client).await;
        assert_eq!(client.read(stolen.stream, 9).await, b"question\n");
        client.data(stolen.stream, "answer\n").await;
        client.end(stolen.stream).await;
        assert_eq!(caller.wait_with_output().unwrap().stdout, b"answer\n");
    });
    pod.kill().unwrap();
    pod.wait().unwrap();
}

/// A target whose network the agent may not change: everything else works, and the reason is told.
#[test]
fn without_the_capability_the_reason_is_told() {
    let folder = Folder::new("powerless");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    if nix::unistd::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin,-net_raw", "--", env!("CARGO_BIN_EXE_agent")]);
    }
    let listen = format!("unix:{}", folder.path("agent.sock"));
    command.args(["serve", "--listen", &listen, "--admit", &key(1).public().to_string(), "--target", "self"]);
    let agent = Agent::spawn(command);
    runtime.block_on(async {
        let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
        assert!(!welcome.incoming);
        assert!(welcome.incoming_why.contains("CAP_NET_ADMIN"), "{}", welcome.incoming_why);
        let response = subscribe(&mut client, Capture::Steal).await;
        assert_eq!((response.errno, response.message), (libc::EPERM, welcome.incoming_why));
    });
}
