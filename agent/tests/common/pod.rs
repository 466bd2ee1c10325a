//! The pod of the network tests, and its agent.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::{Agent, Folder, answer_lines, key, run};

pub const POD: &str = "10.9.0.2:80";

/// The pod: a process in a network namespace of its own, with a server on port 80 that answers each line.
pub struct Pod {
    pub process: Child,
    served: Arc<AtomicUsize>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pod {
    pub fn start() -> Self {
        Self::serving(answer_lines)
    }

    /// `serve` has each connection.
    pub fn serving(serve: fn(TcpStream)) -> Self {
        let mut process = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec sleep 300"])
            .env("OF_THE_POD", "yes")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = process.id();
        run(&format!(
            "ip link set lo up
            ip link add c0 type veth peer name p0 netns {pid}
            ip addr add 10.9.0.1/24 dev c0; ip addr add fd09::1/64 dev c0 nodad; ip link set c0 up
            nsenter --net=/proc/{pid}/ns/net sh -ec '
                ip link set lo up
                ip addr add 10.9.0.2/24 dev p0; ip addr add fd09::2/64 dev p0 nodad; ip link set p0 up'"
        ));
        let pod = Self { process, served: Arc::default() };
        let listener = pod.inside(|| TcpListener::bind("[::]:80").unwrap());
        let served = Arc::clone(&pod.served);
        thread::spawn(move || {
            for stream in listener.incoming() {
                served.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
        pod
    }

    /// Runs `work` in the pod's network; sockets made by it stay there.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.process.id())).unwrap();
        thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
        .join()
        .unwrap()
    }

    pub fn tables(&self) -> String {
        let namespace = format!("--net=/proc/{}/ns/net", self.process.id());
        let output = Command::new("nsenter").args([&namespace, "nft", "list", "ruleset"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// A folder for the agent's socket, and the agent of a pod.
pub fn agent_of(pod: &Pod, folder: &Folder, more: &[&str]) -> Agent {
    let (pid, listen) = (format!("pid:{}", pod.process.id()), format!("unix:{}", folder.path("agent.sock")));
    let (one, two) = (key(1).public().to_string(), key(2).public().to_string());
    let fixed = ["--listen", &listen, "--admit", &one, "--admit", &two, "--target", &pid, "--log", "warn"];
    Agent::start(&[&fixed, more].concat())
}
