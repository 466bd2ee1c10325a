//! Ports that cannot be redirected: the agent listens in front of them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Agent, Caller, Client, Folder, answer_lines, incoming, isolated, key};
use protocol::agent::request::Op;
use protocol::agent::response::Answer;
use protocol::agent::{Capture, Subscribe, Subscribed, Unsubscribe};

/// A plain process, and a server in its network (which is ours) that answers each line.
struct Plain {
    process: Child,
    port: u16,
    served: Arc<AtomicUsize>,
}

impl Plain {
    fn start(address: &str) -> Self {
        let process = Command::new("sleep").arg("300").env("OF_THE_PROCESS", "yes").spawn().unwrap();
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || answer_lines(stream.unwrap()));
            }
        });
        Self { process, port, served }
    }

    fn agent(&self, folder: &Folder) -> Agent {
        Agent::start(&arguments(folder, &format!("pid:{}", self.process.id())).each_ref().map(String::as_str))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn arguments(folder: &Folder, target: &str) -> [String; 9] {
    let (listen, key) = (format!("unix:{}", folder.path("agent.sock")), key(1).public().to_string());
    ["--listen", &listen, "--admit", &key, "--target", target, "--hold", "--log", "warn"].map(str::to_owned)
}

async fn subscribed(client: &mut Client, port: u16, capture: Capture) -> Subscribed {
    let subscribe = Subscribe { port: port.into(), capture: capture as i32, header_filter: String::new() };
    let response = client.call(Op::Subscribe(subscribe)).await;
    match response.answer {
        Some(Answer::Subscribed(subscribed)) => subscribed,
        _ => panic!("{response:?}"),
    }
}

async fn unsubscribe(client: &mut Client, port: u16) {
    let response = client.call(Op::Unsubscribe(Unsubscribe { port: port.into() })).await;
    assert_eq!(response.errno, 0, "{response:?}");
}

fn nft() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_port_in_a_shared_network_is_held_in_front_and_the_network_left_as_it_is() {
    // Where the agent could redirect: it must not.
    isolated("a_port_in_a_shared_network_is_held_in_front_and_the_network_left_as_it_is", async {
        common::run("ip link set lo up");
        let (plain, folder) = (Plain::start("127.0.0.1"), Folder::new("hold"));
        let agent = plain.agent(&folder);
        let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
        assert!(welcome.incoming && welcome.holds, "{welcome:?}");
        assert_eq!(welcome.incoming_why, "the target has no network of its own");
        assert_eq!(common::variables(&welcome)["OF_THE_PROCESS"], "yes");
        let held = subscribed(&mut client, plain.port, Capture::Steal).await.held_addr;
        let at: SocketAddr = held.parse().unwrap();
        assert!(at.ip().is_loopback() && at.port() != plain.port, "{held}");
        assert!(!nft().contains("mirrord_ide"), "{}", nft());
        // The port itself is the program's all the time.
        let own = format!("127.0.0.1:{}", plain.port);
        assert_eq!(Caller::call(&own).ask("own").await, "pod: own");
        let mut caller = Caller::call(&held);
        caller.say("hello\n");
        let stolen = incoming(&mut client).await;
        assert_eq!((stolen.pod_addr.as_str(), stolen.port), (own.as_str(), u32::from(plain.port)));
        assert!(stolen.peer_addr.starts_with("127.0.0.1:") && !stolen.mirrored, "{stolen:?}");
        assert_eq!(client.read(stolen.stream, 6).await, b"hello\n");
        client.data(stolen.stream, "stolen\n").await;
        client.end(stolen.stream).await;
        assert_eq!(caller.line().await, "stolen");
        assert_eq!(plain.served.load(Ordering::Relaxed), 1);
        // Given back before an answer: the program's.
        let mut caller = Caller::call(&held);
        caller.say("not mine\n");
        let stolen = incoming(&mut client).await;
        client.reset(stolen.stream).await;
        assert_eq!(caller.line().await, "pod: not mine");
        // It goes on after the steal and after the session, and a later one finds it where it was.
        unsubscribe(&mut client, plain.port).await;
        assert_eq!(Caller::call(&held).ask("free").await, "pod: free");
        drop(client);
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        assert_eq!(Caller::call(&held).ask("alone").await, "pod: alone");
        let (mut client, _) = Client::connect(&agent.address, &key(1), "t").await;
        assert_eq!(subscribed(&mut client, plain.port, Capture::Steal).await.held_addr, held);
        let mut caller = Caller::call(&held);
        let stolen = incoming(&mut client).await;
        client.data(stolen.stream, "again\n").await;
        assert_eq!(caller.line().await, "again");
    });
}

#[tokio::test]
async fn a_held_port_is_mirrored_too() {
    // The program has the other loopback address: who dials in front of the port does not say which.
    let (plain, folder) = (Plain::start("::1"), Folder::new("hold-mirror"));
    let agent = plain.agent(&folder);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let held = subscribed(&mut client, plain.port, Capture::Mirror).await.held_addr;
    let mut caller = Caller::call(&held);
    assert_eq!(caller.ask("one").await, "pod: one");
    let copy = incoming(&mut client).await;
    assert!(copy.mirrored, "{copy:?}");
    assert_eq!(client.read(copy.stream, 4).await, b"one\n");
    client.data(copy.stream, "nobody hears this\n").await;
    assert_eq!(caller.ask("two").await, "pod: two");
}

#[tokio::test]
async fn a_held_port_whose_program_is_gone_refuses() {
    let (plain, folder) = (Plain::start("127.0.0.1"), Folder::new("hold-gone"));
    let agent = plain.agent(&folder);
    let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let held = subscribed(&mut client, unused, Capture::Mirror).await.held_addr;
    assert_eq!(Caller::call(&held).line().await, "connection reset");
}

#[test]
fn a_port_in_a_network_that_may_not_be_changed_is_held_there() {
    isolated("a_port_in_a_network_that_may_not_be_changed_is_held_there", async {
        let folder = Folder::new("hold-there");
        let mut pod = Command::new("unshare")
            .args(["--net", "sh", "-ec", "ip link set lo up; echo here; exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(pod.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin,-net_raw", "--", env!("CARGO_BIN_EXE_agent"), "serve"]);
        command.args(arguments(&folder, &format!("pid:{}", pod.id())));
        let agent = Agent::spawn(command);
        let (mut client, welcome) = Client::connect(&agent.address, &key(1), "s").await;
        assert!(welcome.incoming && welcome.holds, "{welcome:?}");
        assert!(welcome.incoming_why.contains("CAP_NET_ADMIN"), "{}", welcome.incoming_why);
        let held = subscribed(&mut client, 80, Capture::Steal).await.held_addr;
        let caller = Command::new("nsenter")
            .args([&format!("--net=/proc/{}/ns/net", pod.id()), "bash", "-ec"])
            .arg(format!("exec 3<>/dev/tcp/{}; echo question >&3; head -n 1 <&3", held.replace(':', "/")))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stolen = incoming(&mut client).await;
        assert_eq!(client.read(stolen.stream, 9).await, b"question\n");
        client.data(stolen.stream, "answer\n").await;
        client.end(stolen.stream).await;
        assert_eq!(caller.wait_with_output().unwrap().stdout, b"answer\n");
        pod.kill().unwrap();
        pod.wait().unwrap();
    });
}

#[test]
fn only_the_ports_of_a_process_of_this_machine_are_held() {
    let folder = Folder::new("hold-self");
    let output = Command::new(env!("CARGO_BIN_EXE_agent"))
        .arg("serve")
        .args(arguments(&folder, "self"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--hold goes with --target pid:N"), "{said}");
}
