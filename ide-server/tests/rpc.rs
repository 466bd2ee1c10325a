//! The daemon's wire, spoken by a client in memory that insists on hearing nothing but what it asked for.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use ide_server::main_loop::{ClientId, Daemon, Event, EventSender};
use ide_server::rpc::connection;
use ide_server::rpc::framing::{Decoder, encode};
use ide_server::state::StateFolder;
use protocol::ide::Discovery;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A daemon in this process, with a state folder of its own.
struct Home {
    root: PathBuf,
    events: EventSender,
}

impl Home {
    fn open() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("mide-rpc-{}-{number}", std::process::id()));
        let state = StateFolder::open(root.clone()).unwrap();
        let (events, inbox) = mpsc::unbounded_channel();
        let discovery = Discovery {
            pid: std::process::id(),
            version: protocol::VERSION.to_owned(),
            protocols: vec![1],
            socket: "in memory".to_owned(),
            http_socket: String::new(),
            started_at: 0,
        };
        tokio::spawn(Daemon::new(state, events.clone(), discovery, None).run(inbox));
        Self { root, events }
    }

    async fn client(&self) -> Client {
        let mut client = self.stranger();
        let welcome = client.ask("initialize", json!({ "capabilities": {} })).await;
        assert_eq!(welcome["result"]["capabilities"]["experimental"]["ide"]["protocol"], 1);
        client.notify("initialized", json!({})).await;
        client
    }

    /// A client that has not said who it is.
    fn stranger(&self) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(theirs);
        let id = ClientId(NEXT.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(connection::serve(id, reader, writer, self.events.clone()));
        Client { stream: ours, decoder: Decoder::default(), next: 0, goodbye: false }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The daemon may have ended by itself.
        let _ = self.events.send(Event::Terminate);
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

struct Client {
    stream: DuplexStream,
    decoder: Decoder,
    next: i64,
    goodbye: bool,
}

impl Client {
    async fn send(&mut self, message: Value) {
        self.stream.write_all(&encode(message.to_string().as_bytes())).await.unwrap();
    }

    async fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    async fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.next += 1;
        let id = self.next;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        id
    }

    /// The next message, whatever it is.
    async fn next(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                if let Some(body) = self.decoder.pop().unwrap() {
                    return serde_json::from_slice(&body).unwrap();
                }
                let mut chunk = [0; 4096];
                let count = self.stream.read(&mut chunk).await.unwrap();
                assert!(count > 0, "the daemon hung up");
                self.decoder.push(&chunk[..count]);
            }
        })
        .await
        .expect("the daemon is silent")
    }

    /// The answer to one request; anything else before it is a failure.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        let message = self.next().await;
        assert_eq!(message["id"], id, "not the answer to {method}: {message}");
        message
    }

    async fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn error(&mut self, method: &str, params: Value) -> (i64, Value) {
        let answer = self.ask(method, params).await;
        (answer["error"]["code"].as_i64().expect("an error"), answer["error"]["data"].clone())
    }

    /// Says goodbye and makes sure that nothing unexpected had arrived.
    async fn leave(mut self) {
        let answer = self.ask("shutdown", Value::Null).await;
        assert_eq!(answer["result"], Value::Null, "{answer}");
        self.goodbye = true;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        assert!(self.goodbye || std::thread::panicking(), "a client went without a goodbye");
    }
}

fn start(folder: &str, target: &str) -> Value {
    json!({
        "config": { "folder": folder, "overrides": { "target": target }, "env": { "KUBECONFIG": "/nowhere" } },
        "launch": { "command": ["true"] },
        "workDoneToken": "w",
    })
}

#[tokio::test]
async fn a_fresh_daemon_has_a_client_and_nothing_else() {
    let home = Home::open();
    let mut client = home.client().await;
    let status = client.result("daemon/status", json!({})).await;
    assert_eq!((&status["clients"], &status["sessions"]), (&json!(1), &json!(0)));
    assert_eq!(client.result("session/list", json!({})).await, json!({ "sessions": [] }));
    client.leave().await;
}

#[tokio::test]
async fn parameters_may_be_absent_where_none_are_needed() {
    let home = Home::open();
    let mut client = home.client().await;
    client.send(json!({ "jsonrpc": "2.0", "id": 77, "method": "session/list" })).await;
    assert_eq!(client.next().await["result"], json!({ "sessions": [] }));
    client.leave().await;
}

#[tokio::test]
async fn nothing_is_answered_before_initialize() {
    let home = Home::open();
    let mut client = home.stranger();
    let (code, _) = client.error("session/list", json!({})).await;
    assert_eq!(code, -32002);
    client.goodbye = true;
}

#[tokio::test]
async fn a_client_of_another_protocol_is_told_so() {
    let home = Home::open();
    let mut client = home.stranger();
    let params =
        json!({ "capabilities": {}, "initializationOptions": { "protocol": { "min": 7, "max": 9 } } });
    let (code, data) = client.error("initialize", params).await;
    assert_eq!((code, &data["kind"]), (-32060, &json!("protocol-mismatch")));
    client.goodbye = true;
}

#[tokio::test]
async fn errors_have_code_kind_sentence_and_help() {
    let home = Home::open();
    let mut client = home.client().await;
    let cases = [
        ("session/stop", json!({ "session": "none" }), -32050, "no-such-session"),
        ("session/attach", json!({ "session": "none" }), -32050, "no-such-session"),
        (
            "session/subscribe",
            json!({ "session": "none", "podPort": 1, "localPort": 1 }),
            -32050,
            "no-such-session",
        ),
        ("session/stop", json!({}), -32602, "invalid-request"),
        ("session/stop", json!({ "all": "yes" }), -32602, "invalid-request"),
        ("config/verify", json!({ "folder": "/nowhere" }), -32010, "config-not-found"),
        (
            "target/list",
            json!({ "config": { "env": { "KUBECONFIG": "/nowhere" } } }),
            -32020,
            "kubeconfig-invalid",
        ),
    ];
    for (method, params, code, kind) in cases {
        let (found, data) = client.error(method, params.clone()).await;
        assert_eq!((found, &data["kind"]), (code, &json!(kind)), "{method} {params}");
        assert!(!data["message"].as_str().unwrap().is_empty() && !data["help"].as_str().unwrap().is_empty());
    }
    client.leave().await;
}

#[tokio::test]
async fn a_config_with_errors_is_an_answer_with_their_places() {
    let home = Home::open();
    let mut client = home.client().await;
    let text =
        "{\n  \"feature\": {\"network\": {\"incoming\": {\"mode\": \"steal\", \"outgoing\": true}}}\n}\n";
    let params = json!({ "folder": "/nowhere", "file": "mirrord.json", "text": text });
    let verified = client.result("config/verify", params).await;
    assert_eq!(verified["ok"], false);
    let [problem] = verified["diagnostics"].as_array().unwrap().as_slice() else { panic!("{verified}") };
    assert_eq!(problem["range"]["start"]["line"], 1);
    assert!(problem["message"].as_str().unwrap().contains("feature.network.outgoing"), "{problem}");
    client.leave().await;
}

#[tokio::test]
async fn a_start_that_fails_tells_its_steps_before_its_answer_and_leaves_nothing() {
    let home = Home::open();
    let mut client = home.client().await;
    let id = client.begin("session/start", start("/nowhere", "process/2147483000")).await;
    let begin = client.next().await;
    assert_eq!(
        (&begin["method"], &begin["params"]["value"]["kind"]),
        (&json!("$/progress"), &json!("begin"))
    );
    let end = client.next().await;
    assert_eq!((&end["params"]["token"], &end["params"]["value"]["kind"]), (&json!("w"), &json!("end")));
    let answer = client.next().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32012)), "{answer}");
    assert_eq!(answer["error"]["data"]["target"], "process/2147483000");
    while client.result("session/list", json!({})).await != json!({ "sessions": [] }) {}
    client.leave().await;
    assert_eq!(std::fs::read_dir(home.root.join("sessions")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_without_a_target_says_how_to_name_one() {
    let home = Home::open();
    let mut client = home.client().await;
    let mut params = start("/nowhere", "");
    params["config"]["overrides"] = json!({});
    params["workDoneToken"] = Value::Null;
    let (code, data) = client.error("session/start", params).await;
    assert_eq!((code, &data["kind"]), (-32013, &json!("target-ambiguous")));
    assert!(data["help"].as_str().unwrap().contains("--target"), "{data}");
    client.leave().await;
}

#[tokio::test]
async fn nonsense_is_answered_and_disturbs_nobody() {
    let home = Home::open();
    let (mut one, mut other) = (home.client().await, home.client().await);
    one.stream.write_all(&encode(b"{]")).await.unwrap();
    assert_eq!(one.next().await["error"]["code"], -32700);
    one.send(json!({ "jsonrpc": "2.0", "id": 5, "method": "no/such" })).await;
    assert_eq!(one.next().await["error"]["code"], -32601);
    assert_eq!(other.result("daemon/status", json!({})).await["clients"], 2);
    one.leave().await;
    other.leave().await;
}

#[tokio::test]
async fn a_client_that_breaks_the_framing_loses_its_connection_alone() {
    let home = Home::open();
    let mut other = home.client().await;
    let mut broken = home.stranger();
    broken.stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    broken.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    broken.goodbye = true;
    other.result("daemon/status", json!({})).await;
    other.leave().await;
}

#[tokio::test]
async fn stop_all_answers_when_nothing_runs() {
    let home = Home::open();
    let mut client = home.client().await;
    let stopped = client.result("session/stop", json!({ "all": true })).await;
    assert_eq!(stopped, json!({ "ended": [], "agents": [] }));
    client.leave().await;
}

#[tokio::test]
async fn a_session_of_an_earlier_daemon_whose_program_is_gone_is_cleared_away() {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("mide-rpc-{}-{number}", std::process::id()));
    let state = StateFolder::open(root.clone()).unwrap();
    let folder = state.session("abcdefgh");
    std::fs::create_dir(&folder).unwrap();
    let record = json!({
        "session": "abcdefgh", "started_at": 1, "public_key": "00", "command": ["sleep"],
        "target": { "path": "process/1", "instance": "", "container": null, "namespace": null, "context": null },
    });
    std::fs::write(folder.join("session.json"), record.to_string()).unwrap();
    std::fs::create_dir(state.session("nonsense")).unwrap();
    let (events, inbox) = mpsc::unbounded_channel();
    let discovery = Discovery {
        pid: 1,
        version: protocol::VERSION.to_owned(),
        protocols: vec![1],
        socket: "in memory".to_owned(),
        http_socket: String::new(),
        started_at: 0,
    };
    tokio::spawn(Daemon::new(state, events.clone(), discovery, None).run(inbox));
    let home = Home { root, events };
    let mut client = home.client().await;
    let listed = client.result("session/list", json!({})).await;
    assert_eq!(listed["sessions"][0]["session"], "abcdefgh", "{listed}");
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    let stopped = client.result("session/stop", json!({ "session": "abcdefgh" })).await;
    assert_eq!(stopped["ended"], json!(["abcdefgh"]));
    client.leave().await;
    assert_eq!(std::fs::read_dir(home.root.join("sessions")).unwrap().count(), 0);
}
