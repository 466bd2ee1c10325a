//! A program in a terminal of the holder's, and the editor's terminal that shows it.

use super::child::{Said, status_of};
use super::connections::Connection;
use super::pty::{self, Master};
use super::tail::Tail;
use super::wire::{Kind, Start};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What the next terminal shows of what was shown before, in bytes.
const SCREEN: usize = 64 << 10;
/// How long what an ended program has written may take to come.
const REST: Duration = Duration::from_millis(50);

/// One terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    master: Master,
    /// The session of its program; the adapter's own has none of its own end.
    session: Option<Pid>,
    shown: Tail<Vec<u8>>,
    pub(super) viewer: Option<Connection>,
    /// The connection and the client's visit that the last viewer came with.
    last: Option<(u64, u64)>,
}

/// Starts the program of a terminal.
pub(super) fn start(number: u32, start: Start, said: mpsc::Sender<Said>) -> io::Result<Terminal> {
    let mut words = start.words.into_iter();
    let program = words.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(start.env).current_dir(start.folder);
    let master = pty::make(&mut command)?;
    let child = command.spawn()?;
    drop(command);
    let session = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    tokio::spawn(attend(number, master.clone(), child, said));
    Ok(Terminal { master, session, shown: Tail::new(SCREEN), viewer: None, last: None })
}

async fn attend(number: u32, master: Master, mut child: Child, said: mpsc::Sender<Said>) {
    let mut chunk = vec![0; 16 << 10];
    let mut status = None;
    loop {
        let count = match status {
            None => tokio::select! {
                count = master.read(&mut chunk) => count,
                ended = child.wait() => {
                    status = Some(ended.map_or(1, status_of));
                    continue;
                }
            },
            // What it left in the background may write for ever.
            Some(_) => timeout(REST, master.read(&mut chunk)).await.unwrap_or(0),
        };
        if count == 0 || said.send(Said::Shown(number, chunk[..count].to_vec())).await.is_err() {
            break;
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().await.map_or(1, status_of),
    };
    let _ = said.send(Said::TerminalEnded(number, status)).await;
}

impl Terminal {
    /// The terminal in which the adapter itself runs.
    pub(super) fn of_adapter(master: Master) -> Self {
        Self { master, session: None, shown: Tail::new(SCREEN), viewer: None, last: None }
    }

    /// A terminal of the editor's shows it from here on.
    pub(super) fn seen_by(&mut self, viewer: Connection, visit: u64) {
        for bytes in self.shown.pieces() {
            viewer.send(Kind::Stdout, bytes);
        }
        self.last = Some((viewer.number, visit));
        self.viewer = Some(viewer);
    }

    pub(super) fn is_viewed_by(&self, connection: u64) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.number == connection)
    }

    /// The visit in which `connection`, the last one that showed it, came; nothing if another one came after.
    pub(super) fn left_by(&self, connection: u64) -> Option<u64> {
        self.last.filter(|(last, _)| *last == connection && self.viewer.is_none()).map(|(_, visit)| visit)
    }

    /// What the program wrote.
    pub(super) fn show(&mut self, bytes: Vec<u8>) {
        if let Some(viewer) = &self.viewer {
            viewer.send(Kind::Stdout, &bytes);
        }
        self.shown.push(bytes.len(), bytes);
    }

    /// What the viewer sent.
    pub(super) async fn typed(&self, kind: Kind, body: &[u8]) {
        match (kind, body) {
            (Kind::Input, bytes) => {
                // A program that reads nothing does not stop the debugger.
                if !matches!(timeout(REST, self.master.write(bytes)).await, Ok(Ok(()))) {
                    tracing::debug!("what was typed is not taken");
                }
            }
            (Kind::Size, &[a, b, c, d]) => {
                self.master.resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            }
            _ => tracing::debug!(?kind, "a terminal sends what it should not"),
        }
    }

    /// As a terminal that is closed.
    pub(super) fn hang_up(&self) {
        signal(self.session, Signal::SIGHUP);
    }

    /// The same, and no patience without end.
    pub(super) fn end(&self, patience: Duration) {
        self.hang_up();
        let session = self.session;
        tokio::spawn(async move {
            sleep(patience).await;
            signal(session, Signal::SIGKILL);
        });
    }
}

fn signal(session: Option<Pid>, signal: Signal) {
    if let Some(session) = session
        && let Err(error) = killpg(session, signal)
    {
        tracing::debug!(%error, %signal, "a terminal's program has ended already");
    }
}
