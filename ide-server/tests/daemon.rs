//! The daemon as a process: one of it, agents shared and kept, starts taken back, its own death.
//!
//! The agents are scripts that say what an agent says, so nothing here needs a namespace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ide_server::rpc::client::Client;
use ide_server::rpc::framing::{Decoder, encode};
use protocol::ide::{
    ConfigSource, DaemonStatus, Discovery, ErrorData, ErrorKind, LaunchPlan, ListParams, Overrides,
    SessionList, SessionStart, SessionStop, StartParams, Started, Status, StatusParams, StopParams,
};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Says that it is ready, and stays.
const AGENT: &str = "#!/bin/sh\n[ \"$1\" = admit ] && exit 0\necho ready\nexec sleep 600\n";
/// Never says so.
const SILENT_AGENT: &str = "#!/bin/sh\nexec sleep 600\n";
/// Fails with a reason.
const FAILING_AGENT: &str = "#!/bin/sh\necho 'error: cannot join the network namespace' >&2\nexit 1\n";

/// A state folder, an agent and a target.
struct Home {
    folder: PathBuf,
    target: Child,
}

impl Home {
    fn open(agent: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("mide-daemon-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("work")).unwrap();
        fs::write(folder.join("agent"), agent).unwrap();
        fs::set_permissions(folder.join("agent"), fs::Permissions::from_mode(0o755)).unwrap();
        let target = Command::new("sleep").arg("600").spawn().unwrap();
        Self { folder, target }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirrord-ide"));
        command
            .args(args)
            .env("MIRRORD_IDE_STATE_DIR", self.folder.join("state"))
            .env("MIRRORD_IDE_AGENT", self.folder.join("agent"))
            .env_remove("MIRRORD_IDE_LAYER")
            .stdin(Stdio::null());
        command
    }

    fn ensure(&self) -> Discovery {
        let output = self.command(&["serve", "--ensure"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(self.ensure().socket.as_ref()).unwrap()
    }

    fn params(&self) -> StartParams {
        let target = Some(format!("process/{}", self.target.id()));
        let folder = self.folder.join("work").display().to_string();
        let overrides = Overrides { target, ..Overrides::default() };
        StartParams {
            config: ConfigSource { folder, overrides, ..ConfigSource::default() },
            launch: LaunchPlan { command: vec!["true".to_owned()], ..LaunchPlan::default() },
            ..StartParams::default()
        }
    }

    fn start(&self, client: &mut Client) -> Result<Started, ErrorData> {
        client.call::<SessionStart>(&self.params())
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("state").join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn kill_daemon(&self) {
        let pid = i32::try_from(self.ensure().pid).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let output = self.command(&["stop", "--all"]).output().unwrap();
        self.target.kill().unwrap();
        self.target.wait().unwrap();
        if !std::thread::panicking() {
            assert!(output.status.success(), "{output:?}");
            assert_eq!((self.files("sessions"), self.files("agents")), (vec![], vec![]), "left behind");
            eventually("the daemon has ended", || !self.folder.join("state/ide-v1.sock").exists());
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn status(client: &mut Client) -> Status {
    client.call::<DaemonStatus>(&StatusParams {}).unwrap()
}

/// Waits for something that has no event of its own to be waited for from outside.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_sessions_on_a_target_share_an_agent_and_have_keys_of_their_own() {
    let home = Home::open(AGENT);
    let (mut one, mut two) = (home.client(), home.client());
    let (first, second) = (home.start(&mut one).unwrap(), home.start(&mut two).unwrap());
    assert!(!first.warm && second.warm);
    assert_eq!(first.ticket.endpoint, second.ticket.endpoint);
    assert_ne!(first.ticket.key.public(), second.ticket.key.public());
    let status = status(&mut one);
    let [agent] = status.agents.as_slice() else { panic!("{status:?}") };
    let mut sessions = vec![first.session, second.session];
    sessions.sort();
    assert_eq!(agent.sessions, sessions);
}

#[test]
fn more_sessions_than_an_agent_has_keys_for_are_let_in_by_its_admin_socket() {
    let home = Home::open(AGENT);
    let mut client = home.client();
    for _ in 0..14 {
        home.start(&mut client).unwrap();
    }
    assert_eq!(status(&mut client).agents.len(), 1);
}

#[test]
fn a_start_that_is_taken_back_leaves_neither_session_nor_agent() {
    let home = Home::open(SILENT_AGENT);
    let mut watcher = home.client();
    let mut client = home.client();
    std::thread::scope(|scope| {
        let params = home.params();
        let starting = scope.spawn(move || {
            // The connection's end takes it back, as Ctrl-C does.
            client.set_read_timeout(Some(Duration::from_millis(300)));
            client.call::<SessionStart>(&params).unwrap_err()
        });
        eventually("an agent is being started", || {
            status(&mut watcher).agents.first().is_some_and(|agent| agent.state == "starting")
        });
        assert_eq!(starting.join().unwrap().kind, ErrorKind::DaemonUnreachable);
    });
    eventually("session and agent are gone", || {
        let status = status(&mut watcher);
        status.sessions == 0 && status.agents.is_empty()
    });
    assert_eq!((home.files("sessions"), home.files("agents")), (vec![], vec![]));
}

#[test]
fn a_cancelled_request_is_answered_so_and_leaves_nothing() {
    let home = Home::open(SILENT_AGENT);
    let mut watcher = home.client();
    let mut stream = UnixStream::connect(home.ensure().socket).unwrap();
    let mut decoder = Decoder::default();
    let send = |stream: &mut UnixStream, message: serde_json::Value| {
        stream.write_all(&encode(message.to_string().as_bytes())).unwrap();
    };
    let mut receive = |stream: &mut UnixStream| -> serde_json::Value {
        let mut chunk = [0; 4096];
        loop {
            if let Some(body) = decoder.pop().unwrap() {
                return serde_json::from_slice(&body).unwrap();
            }
            let count = stream.read(&mut chunk).unwrap();
            decoder.push(&chunk[..count]);
        }
    };
    send(
        &mut stream,
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}}),
    );
    assert_eq!(receive(&mut stream)["id"], 1);
    send(&mut stream, json!({"jsonrpc": "2.0", "id": 2, "method": "session/start", "params": home.params()}));
    eventually("an agent is being started", || !status(&mut watcher).agents.is_empty());
    send(&mut stream, json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 2}}));
    let answer = receive(&mut stream);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(2), &json!(-32800)), "{answer}");
    eventually("session and agent are gone", || {
        let status = status(&mut watcher);
        status.sessions == 0 && status.agents.is_empty()
    });
}

#[test]
fn an_agent_that_fails_says_why_and_is_cleared_away() {
    let home = Home::open(FAILING_AGENT);
    let mut client = home.client();
    let error = home.start(&mut client).unwrap_err();
    assert_eq!(error.kind, ErrorKind::AgentFailed);
    assert!(error.message.contains("cannot join the network namespace"), "{error}");
    assert_eq!(home.files("agents"), [""; 0]);
}

#[test]
fn a_session_whose_program_never_comes_ends_with_its_connection_and_the_agent_stays_warm() {
    let home = Home::open(AGENT);
    let mut watcher = home.client();
    let mut client = home.client();
    home.start(&mut client).unwrap();
    assert_eq!(watcher.call::<SessionList>(&ListParams {}).unwrap().sessions.len(), 1);
    drop(client);
    eventually("the session ended", || {
        watcher.call::<SessionList>(&ListParams {}).unwrap().sessions.is_empty()
    });
    assert_eq!(status(&mut watcher).agents.len(), 1);
    let mut next = home.client();
    assert!(home.start(&mut next).unwrap().warm);
}

#[test]
fn a_killed_daemon_is_followed_by_one_that_knows_its_agents_and_gives_no_key_twice() {
    let home = Home::open(AGENT);
    let mut client = home.client();
    let first = home.start(&mut client).unwrap();
    home.kill_daemon();
    let mut client = home.client();
    let agents = status(&mut client).agents;
    assert_eq!(agents.len(), 1, "{agents:?}");
    let second = home.start(&mut client).unwrap();
    assert!(second.warm, "the agent of the killed daemon was not used");
    assert_ne!(first.ticket.key.public(), second.ticket.key.public());
}

#[test]
fn an_agent_that_is_killed_is_forgotten_and_a_fresh_one_made() {
    let home = Home::open(AGENT);
    let mut client = home.client();
    let first = home.start(&mut client).unwrap();
    let params = StopParams { session: Some(first.session), ..StopParams::default() };
    client.call::<SessionStop>(&params).unwrap();
    let place = status(&mut client).agents[0].place.clone();
    let pid = place.strip_prefix("pid ").unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the agent is forgotten", || status(&mut client).agents.is_empty());
    assert!(!home.start(&mut client).unwrap().warm);
}

#[test]
fn an_agent_lost_after_the_daemon_is_made_again_by_the_next_one() {
    let home = Home::open(AGENT);
    let mut client = home.client();
    let session = home.start(&mut client).unwrap().session;
    home.kill_daemon();
    // The session has no host and the next daemon gives it a lease of 5 s; until then it holds its agent.
    let mut client = home.client();
    let before = status(&mut client).agents;
    let [agent] = before.as_slice() else { panic!("{before:?}") };
    assert_eq!(agent.sessions, [session]);
    let pid = agent.place.strip_prefix("pid ").unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("another agent serves the session", || {
        let agents = status(&mut client).agents;
        agents.iter().any(|other| {
            other.agent != agent.agent && other.state == "ready" && other.sessions == agent.sessions
        })
    });
}

#[test]
fn many_that_ensure_at_once_find_one_daemon() {
    let home = Home::open(AGENT);
    let mut pids: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| home.ensure().pid)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    pids.dedup();
    assert_eq!(pids.len(), 1);
}

#[test]
fn a_daemon_that_nobody_needs_ends() {
    let home = Home::open(AGENT);
    let began = Instant::now();
    let output = home.command(&["serve", "--idle-exit", "1"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!((1..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(!home.folder.join("state/ide-v1.sock").exists());
}

#[test]
fn the_command_line_ends_by_kind_of_error_and_keeps_standard_output_clean() {
    let home = Home::open(AGENT);
    let cases = [
        (vec!["exec", "-t", "process/2147483000", "--", "true"], 66, "[target-not-found]"),
        (vec!["exec", "-t", "nonsense", "--", "true"], 65, "[config-invalid]"),
        (vec!["exec", "-f", "/nowhere.json", "--", "true"], 65, "[config-not-found]"),
        (
            vec!["exec", "-t", "pod/x", "--kubeconfig", "/nowhere", "-i", "x", "--", "true"],
            67,
            "[kubeconfig-invalid]",
        ),
        (vec!["stop", "nobody"], 72, "[no-such-session]"),
        (vec!["stop"], 2, "required"),
    ];
    for (args, code, word) in cases {
        let output = home.command(&args).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && stdout.is_empty(), "{args:?}: {stdout}{stderr}");
        if code != 2 {
            assert_eq!(stderr.lines().count(), 2, "what failed, and what to do: {stderr}");
        }
    }
}
