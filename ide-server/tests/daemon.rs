//! The daemon as a process: one of it, agents shared and kept, starts taken back, its own death.
//!
//! The agents are scripts that say what an agent says, so nothing here needs a namespace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ide_server::rpc::client::Client;
use ide_server::rpc::framing::{Decoder, encode};
use protocol::host::Ticket;
use protocol::ide::{
    ConfigSource, DaemonStatus, Discovery, ErrorData, ErrorKind, ForgetParams, LaunchPlan, ListParams,
    Overrides, PlanAction, PlanAnswer, PlanParams, RedeemParams, SessionForget, SessionList, SessionPlan,
    SessionRedeem, SessionStart, SessionStop, StartParams, Started, Status, StatusParams, StopParams,
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

fn ticket(started: &Started) -> &Ticket {
    started.ticket.as_ref().unwrap()
}

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
    assert_eq!(ticket(&first).endpoint, ticket(&second).endpoint);
    assert_ne!(ticket(&first).key.public(), ticket(&second).key.public());
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
    assert_ne!(ticket(&first).key.public(), ticket(&second).key.public());
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

/// A plan for the target, as an editor asks for one.
fn plan(home: &Home, client: &mut Client, debug: serde_json::Value) -> Result<PlanAnswer, ErrorData> {
    let config = home.params().config;
    client.call::<SessionPlan>(&PlanParams { config, enabled: true, debug, ..PlanParams::default() })
}

fn python() -> serde_json::Value {
    json!({ "type": "debugpy", "request": "launch", "name": "app", "python": "/usr/bin/python3" })
}

#[test]
fn a_plans_session_is_taken_once_and_made_anew_for_a_restart() {
    let home = Home::open(AGENT);
    let (mut editor, mut front) = (home.client(), home.client());
    let planned = plan(&home, &mut editor, python()).unwrap();
    assert_eq!(planned.action, PlanAction::Run);
    let name = planned.plan.unwrap();
    let ready = editor
        .call::<SessionStart>(&StartParams { plan: Some(name.clone()), ..StartParams::default() })
        .unwrap();
    assert!(ready.ticket.is_none(), "the key is not the editor's");
    let redeem = RedeemParams { plan: name.clone(), ..RedeemParams::default() };
    let taken = front.call::<SessionRedeem>(&redeem).unwrap();
    assert_eq!(
        (taken.session.clone(), ticket(&taken).session.clone()),
        (ready.session.clone(), ready.session)
    );
    let again = front.call::<SessionRedeem>(&redeem).unwrap();
    assert_ne!(again.session, taken.session);
    assert!(again.warm && again.ticket.is_some());
    let listed = editor.call::<SessionList>(&ListParams {}).unwrap().sessions;
    assert!(listed.iter().all(|one| one.plan.as_ref() == Some(&name)), "{listed:?}");
}

#[test]
fn a_forgotten_plan_leaves_nothing() {
    let home = Home::open(AGENT);
    let mut editor = home.client();
    let node = json!({ "type": "node", "request": "launch", "name": "app" });
    let name = plan(&home, &mut editor, node).unwrap().plan.unwrap();
    assert_eq!(home.files("plans"), std::slice::from_ref(&name));
    editor.call::<SessionStart>(&StartParams { plan: Some(name.clone()), ..StartParams::default() }).unwrap();
    editor.call::<SessionForget>(&ForgetParams { plan: name.clone() }).unwrap();
    assert!(home.files("plans").is_empty() && home.files("sessions").is_empty());
    let error =
        editor.call::<SessionRedeem>(&RedeemParams { plan: name, ..RedeemParams::default() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchSession);
}

#[test]
fn a_plan_says_when_it_is_off_or_not_possible() {
    let home = Home::open(AGENT);
    let mut editor = home.client();
    let mut params = PlanParams { config: home.params().config, debug: python(), ..PlanParams::default() };
    let mut ask = |params: &PlanParams| editor.call::<SessionPlan>(params);
    assert_eq!(ask(&params).unwrap().action, PlanAction::Off, "the toggle is off");
    params.enabled = true;
    params.mirrord = Some(json!(false));
    assert_eq!(ask(&params).unwrap().action, PlanAction::Off, "the launch configuration says no");
    params.mirrord = None;
    params.debug["request"] = json!("attach");
    let off = ask(&params).unwrap();
    assert!(off.action == PlanAction::Off && off.reason.is_some(), "an attach goes on without us");
    params.mirrord = Some(json!(true));
    assert_eq!(ask(&params).unwrap_err().kind, ErrorKind::UnsupportedDebugType);
    params.debug = json!({ "type": "php", "request": "launch" });
    assert_eq!(ask(&params).unwrap_err().kind, ErrorKind::UnsupportedDebugType);
    params.debug = python();
    params.mirrord = Some(json!({ "tasks": true }));
    assert_eq!(ask(&params).unwrap().action, PlanAction::Run, "what is not the config's does not count");
    params.config.overrides.target = None;
    assert_eq!(ask(&params).unwrap().action, PlanAction::Pick);
    params.target = Some("process/1".to_owned());
    assert_eq!(ask(&params).unwrap().target.as_deref(), Some("process/1"));
}
