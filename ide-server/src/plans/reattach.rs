//! How the debugger of an editor that was reloaded gets hold of a plan's program again: the program ran on meanwhile.

use crate::adapter::holder_waits;
use serde_json::{Value, json};
use session_host::sockets::table::{LISTEN, Row, inode_in};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an inspector may take to say what it is; it has a thread of its own, which no breakpoint holds.
const PATIENCE: Duration = Duration::from_secs(1);
/// What an inspector says of itself is a few lines.
const LONGEST: u64 = 16 << 10;

/// Whose debugger is to come back, and to what.
#[derive(Debug)]
pub(crate) struct Program {
    /// The debug configuration's type.
    pub(crate) kind: String,
    /// The plan's folder.
    pub(crate) folder: std::path::PathBuf,
    /// The debuggee's process.
    pub(crate) pid: i32,
    /// Ports of this machine on which it serves the pod's traffic: none of them is a debugger's.
    pub(crate) served: BTreeSet<u16>,
}

impl Program {
    /// The merge patch on the debug configuration, or why there is none.
    pub(crate) async fn patch(self) -> Result<Value, String> {
        match self.kind.as_str() {
            "node" | "pwa-node" => match inspector(self.pid, self.served).await {
                Some(addr) => Ok(node(addr)),
                None => Err("no process of the program has an inspector open any more".to_owned()),
            },
            "debugpy" | "python" | "go" | "lldb-dap" if holder_waits(&self.folder) => Ok(json!({})),
            other => Err(format!("the debugger of type {other} went with the window")),
        }
    }
}

/// Turns a launch by js-debug into an attach: what only a launch takes is removed.
fn node(inspector: SocketAddr) -> Value {
    let mut patch = json!({
        "request": "attach",
        "address": inspector.ip().to_string(),
        "port": inspector.port(),
    });
    let launching = [
        "program",
        "args",
        "env",
        "envFile",
        "console",
        "outputCapture",
        "stopOnEntry",
        "runtimeExecutable",
        "runtimeArgs",
        "runtimeVersion",
        "profileStartup",
        "attachSimplePort",
        "killBehavior",
        "restart",
        "experimentalNetworking",
    ];
    for field in launching {
        patch[field] = Value::Null;
    }
    patch
}

/// Where the first process of a program's tree that is Node's has its inspector.
async fn inspector(pid: i32, served: BTreeSet<u16>) -> Option<SocketAddr> {
    let found = tokio::task::spawn_blocking(move || {
        let mut tree = vec![pid];
        tree.extend(session_host::sys::descendants(pid));
        tree.into_iter().flat_map(listeners).filter(|addr| !served.contains(&addr.port())).collect::<Vec<_>>()
    });
    for addr in found.await.ok()? {
        if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, is_inspector(addr)).await {
            return Some(addr);
        }
    }
    None
}

/// Where a process listens on this machine's loopback: an inspector is nowhere else unless its user says so.
fn listeners(pid: i32) -> Vec<SocketAddr> {
    let mut by_inode = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let rows = text.lines().filter_map(Row::read);
        let listening = rows.filter(|row| row.state == LISTEN && row.local.ip().is_loopback());
        by_inode.extend(listening.map(|row| (row.inode, row.local)));
    }
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let sockets = entries.flatten().filter_map(|entry| inode_in(&std::fs::read_link(entry.path()).ok()?));
    sockets.filter_map(|inode| by_inode.get(&inode).copied()).collect()
}

/// Whether what listens at `addr` says that it is Node's inspector.
async fn is_inspector(addr: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    let ask = format!("GET /json/version HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut said = Vec::new();
    let mut limited = stream.take(LONGEST);
    // Read to where it is understood: not every version closes at the end.
    while limited.read_buf(&mut said).await? > 0 {
        let body = said.windows(4).position(|part| part == b"\r\n\r\n").map(|at| &said[at + 4..]);
        if let Some(Ok(told)) = body.map(serde_json::from_slice::<Value>) {
            return Ok(told["Browser"].as_str().is_some_and(|name| name.starts_with("node.js/")));
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_line_of_either_table_is_read() {
        let read = |line: &str| Row::read(line).map(|row| (row.state, row.inode, row.local));
        let line = "   3: 0100007F:240D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
        assert_eq!(read(line), Some((LISTEN, 4711, "127.0.0.1:9229".parse().unwrap())));
        let line = "   3: 00000000000000000000000001000000:240D 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000  1000        0 4712 1";
        assert_eq!(read(line), Some((LISTEN, 4712, "[::1]:9229".parse().unwrap())));
        let connected =
            "   3: 0100007F:240D 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000 0 4711 1";
        assert!(read(connected).is_some_and(|(state, ..)| state != LISTEN));
        assert_eq!(read("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
    }

    /// Serves one answer on loopback and gives its address.
    fn serve(answer: &'static str) -> SocketAddr {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{answer}").as_bytes()).unwrap();
            }
        });
        addr
    }

    #[tokio::test]
    async fn the_inspector_is_found_among_a_programs_listeners() {
        let pid = i32::try_from(std::process::id()).unwrap();
        serve("a server of the program's own");
        let held = serve(r#"{"Browser": "node.js/v20.1.0"}"#);
        assert_eq!(
            inspector(pid, BTreeSet::from([held.port()])).await,
            None,
            "what it serves for the pod is left alone"
        );
        assert_eq!(inspector(pid, BTreeSet::new()).await, Some(held));
    }

    #[tokio::test]
    async fn each_debug_type_has_its_way_back_or_a_reason() {
        let program = |kind: &str, folder: &std::path::Path| Program {
            kind: kind.to_owned(),
            folder: folder.to_owned(),
            pid: i32::MAX,
            served: BTreeSet::new(),
        };
        let folder = std::env::temp_dir().join(format!("mirrord-ide-holder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(program("node", &folder).patch().await.unwrap_err().contains("inspector"));
        assert!(program("go", &folder).patch().await.unwrap_err().contains("type go"));
        let holder = std::os::unix::net::UnixListener::bind(folder.join("adapter.sock")).unwrap();
        assert!(program("go", &folder).patch().await.is_err(), "its editor is still there");
        std::fs::write(folder.join("adapter.waiting"), []).unwrap();
        assert_eq!(program("go", &folder).patch().await, Ok(json!({})));
        assert!(program("java", &folder).patch().await.is_err(), "no holder keeps this one");
        drop(holder);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_attach_takes_nothing_of_the_launch() {
        let patch = node("127.0.0.1:9229".parse().unwrap());
        assert_eq!((&patch["request"], &patch["port"]), (&json!("attach"), &json!(9229)));
        assert!(patch["program"].is_null() && patch.as_object().unwrap().contains_key("program"));
    }
}
