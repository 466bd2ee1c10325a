//! The half of a relay that outlives its client: has the adapter as its child, and lets one client at a time speak to it.

use super::SOCKET;
use super::child::{self, Adapter, MAX_MESSAGE, Said, Words};
use super::connections::{Connection, Heard, Incoming, accept};
use super::relay::{Out, Relay};
use super::tail::Tail;
use super::terminal::{self, Terminal};
use super::wire::{Kind, Role, Welcome};
use crate::rpc::framing::Decoder;
use crate::session::EDITOR_LEASE;
use crate::state;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

/// There while the holder waits for a client.
pub(super) const WAITING: &str = "adapter.waiting";
/// How long each step of the end may take: by the adapter's own protocol, after its input is closed, by a signal.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an adapter has to go by itself once it has said its last.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long what an ended adapter has written may take to come.
const REST: Duration = Duration::from_millis(300);
/// How long a terminal may be gone before its debugger: then its user has closed it.
const TERMINAL_FIRST: Duration = Duration::from_secs(2);
/// What waits to be written to clients before the adapter is read no more.
const LIMIT: usize = 4 << 20;
/// Raw output kept while no client is there, in bytes.
const KEPT: usize = 256 << 10;
/// Messages that wait in one queue.
const QUEUE: usize = 64;

/// What happens when the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// No client came.
    Lease,
    /// The adapter hears the last.
    Hurry,
    /// It is told to end by a signal.
    Terminate,
    /// It is killed.
    Kill,
    /// What it wrote has come or will not.
    Rest,
}

struct Holder {
    folder: PathBuf,
    relay: Relay,
    adapter: Adapter,
    is_ready: bool,
    /// The adapter's exit status.
    status: Option<i32>,
    client: Option<(Connection, Decoder)>,
    /// Those that wait for our end.
    visitors: Vec<Connection>,
    /// Counts clients.
    visit: u64,
    kept: Tail<(Kind, Vec<u8>)>,
    terminals: BTreeMap<u32, Terminal>,
    due: Option<(Instant, Step)>,
    has_socket: bool,
    said: mpsc::Sender<Said>,
    heard: mpsc::Sender<Heard>,
}

/// Runs until the adapter and all its terminals have ended.
pub(super) async fn run(folder: &Path, listener: UnixListener, terminal_words: Vec<String>, words: Words) {
    let (said_tx, mut said) = mpsc::channel(QUEUE);
    let (heard_tx, mut heard) = mpsc::channel(QUEUE);
    let drained = Arc::new(Notify::new());
    let writers = TaskTracker::new();
    let accepting = tokio::spawn(accept(listener, heard_tx.clone(), writers.clone(), Arc::clone(&drained)));
    let adapter = match child::start(words, said_tx.clone()).await {
        Ok(adapter) => adapter,
        Err(error) => {
            refuse(folder, &mut heard, &error).await;
            return finish(&accepting, heard, &writers).await;
        }
    };
    tracing::info!(pid = adapter.pid, "the adapter is started");
    let mut terminals = BTreeMap::new();
    if let Some(master) = adapter.terminal.clone() {
        terminals.insert(0, Terminal::of_adapter(master));
    }
    let mut holder = Holder {
        folder: folder.to_owned(),
        relay: Relay::new(terminal_words),
        adapter,
        is_ready: false,
        status: None,
        client: None,
        visitors: Vec::new(),
        visit: 0,
        kept: Tail::new(KEPT),
        terminals,
        // The front that started us comes at once.
        due: Some((Instant::now() + PATIENCE, Step::Lease)),
        has_socket: true,
        said: said_tx,
        heard: heard_tx,
    };
    while !holder.is_over() {
        let has_room = holder.queued() < LIMIT;
        let due = holder.due;
        tokio::select! {
            Some(heard) = heard.recv() => holder.hear(heard).await,
            Some(said) = said.recv(), if has_room => holder.adapter_said(said),
            () = drained.notified(), if !has_room => {}
            () = async { if let Some((when, _)) = due { sleep_until(when).await } }, if due.is_some() => {
                holder.due = None;
                if let Some((_, step)) = due {
                    holder.step(step);
                }
            }
        }
    }
    tracing::info!(status = holder.status, "the adapter and its terminals have ended");
    holder.forget_socket();
    drop(holder);
    finish(&accepting, heard, &writers).await;
}

/// Everybody is told what there is to tell.
async fn finish(accepting: &JoinHandle<()>, heard: mpsc::Receiver<Heard>, writers: &TaskTracker) {
    accepting.abort();
    drop(heard);
    writers.close();
    if timeout(PATIENCE, writers.wait()).await.is_err() {
        tracing::warn!("a front does not read what it is told");
    }
}

/// Tells the front that has started us why there is no adapter.
async fn refuse(folder: &Path, heard: &mut mpsc::Receiver<Heard>, error: &io::Error) {
    tracing::error!(%error, "the adapter cannot be started");
    remove(&folder.join(SOCKET));
    if let Ok(Some(Heard::Arrived(Incoming { connection, .. }))) = timeout(PATIENCE, heard.recv()).await {
        connection.welcome(Welcome::Joined);
        connection.send(Kind::Stderr, format!("the debug adapter cannot be started: {error}\n").as_bytes());
        connection.send(Kind::Exit, &127_i32.to_le_bytes());
    }
}

impl Holder {
    fn is_over(&self) -> bool {
        self.status.is_some() && self.due.is_none() && self.terminals.is_empty() && self.client.is_none()
    }

    fn queued(&self) -> usize {
        let terminals = self.terminals.values().filter_map(|terminal| terminal.viewer.as_ref());
        self.client.iter().map(|(client, _)| client).chain(terminals).map(Connection::queued).sum()
    }

    fn after(&mut self, time: Duration, step: Step) {
        self.due = Some((Instant::now() + time, step));
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Arrived(Incoming { connection, role: Role::Adapter }) => self.client_arrived(connection),
            Heard::Arrived(Incoming { connection, role: Role::Terminal { number, start } }) => {
                self.terminal_arrived(connection, number, start);
            }
            Heard::Frame { from, kind: Kind::Dap, body } => self.client_said(from, &body),
            Heard::Frame { from, kind, body } => {
                let mut terminals = self.terminals.values();
                if let Some(terminal) = terminals.find(|terminal| terminal.is_viewed_by(from)) {
                    terminal.typed(kind, &body).await;
                }
            }
            Heard::Left { from } => self.left(from),
            Heard::TerminalAway { number, from } => {
                // Its debugger is still there: the user has closed the terminal, as before a window ends.
                if let Some(terminal) = self.terminals.get_mut(&number)
                    && terminal.left_by(from) == Some(self.visit)
                    && self.client.is_some()
                {
                    tracing::info!(number, "a terminal was closed");
                    terminal.hang_up();
                }
            }
        }
    }

    fn client_arrived(&mut self, connection: Connection) {
        if !self.has_socket || !self.relay.can_be_joined() {
            // It waits for our end, and has a holder of its own then.
            connection.welcome(Welcome::Ending);
            return self.visitors.push(connection);
        }
        if self.client.is_some() {
            tracing::info!("a newer client takes the place of the one that is there");
            let out = self.relay.client_gone();
            self.act(out);
        }
        self.visit += 1;
        self.due = None;
        remove(&self.folder.join(WAITING));
        connection.welcome(Welcome::Joined);
        if self.is_ready {
            connection.send(Kind::Ready, &[]);
        }
        self.relay.joined();
        let (dropped, kept) = self.kept.take();
        if dropped > 0 {
            connection.send(
                Kind::Stderr,
                b"mirrord: earlier output came while no window was there and was dropped\n",
            );
        }
        for (kind, bytes) in kept {
            connection.send(kind, &bytes);
        }
        tracing::info!(visit = self.visit, "a client is there");
        self.client = Some((connection, Decoder::new(MAX_MESSAGE)));
    }

    fn client_said(&mut self, from: u64, body: &[u8]) {
        let Some((client, decoder)) = &mut self.client else { return };
        if client.number != from {
            return;
        }
        decoder.push(body);
        loop {
            let Some((_, decoder)) = &mut self.client else { return };
            let message = match decoder.pop() {
                Ok(Some(body)) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
                Ok(None) => return,
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(message) => {
                    let out = self.relay.client_says(message);
                    self.act(out);
                }
                Err(error) => {
                    tracing::error!(error, "the client says what is no message");
                    self.client_gone();
                }
            }
        }
    }

    fn left(&mut self, from: u64) {
        if self.client.as_ref().is_some_and(|(client, _)| client.number == from) {
            return self.client_gone();
        }
        for (number, terminal) in &mut self.terminals {
            if !terminal.is_viewed_by(from) {
                continue;
            }
            terminal.viewer = None;
            let (heard, number) = (self.heard.clone(), *number);
            tokio::spawn(async move {
                tokio::time::sleep(TERMINAL_FIRST).await;
                let _ = heard.send(Heard::TerminalAway { number, from }).await;
            });
        }
        if self.status.is_some() {
            self.end_terminals();
        }
    }

    fn client_gone(&mut self) {
        self.client = None;
        let out = self.relay.client_gone();
        self.act(out);
    }

    fn adapter_said(&mut self, said: Said) {
        match said {
            Said::Ready => {
                self.is_ready = true;
                if let Some((client, _)) = &self.client {
                    client.send(Kind::Ready, &[]);
                }
            }
            Said::Message(message) => {
                let out = self.relay.adapter_says(message);
                self.act(out);
                if self.relay.said_goodbye() && matches!(self.due, Some((_, Step::Hurry))) {
                    self.after(FAREWELL, Step::Terminate);
                }
            }
            Said::Bytes(kind, bytes) => match &self.client {
                Some((client, _)) => client.send(kind, &bytes),
                None => self.kept.push(bytes.len(), (kind, bytes)),
            },
            Said::StreamEnded => self.stream_ended(),
            Said::Closed => {
                self.forget_socket();
                if self.status.is_none() {
                    self.after(PATIENCE, Step::Terminate);
                }
                self.stream_ended();
            }
            Said::Exited(status) => {
                tracing::info!(status, "the adapter has ended");
                self.forget_socket();
                self.status = Some(status);
                self.after(REST, Step::Rest);
                if self.adapter.streams == 0 {
                    self.adapter_ended();
                }
            }
            Said::Shown(number, bytes) => {
                if let Some(terminal) = self.terminals.get_mut(&number) {
                    terminal.show(bytes);
                }
            }
            Said::TerminalEnded(number, status) => {
                if let Some(viewer) = self.terminals.remove(&number).and_then(|terminal| terminal.viewer) {
                    viewer.send(Kind::Exit, &status.to_le_bytes());
                }
            }
        }
    }

    fn stream_ended(&mut self) {
        self.adapter.streams = self.adapter.streams.saturating_sub(1);
        if self.status.is_some() && self.adapter.streams == 0 {
            self.adapter_ended();
        }
    }

    fn act(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Client(message) => {
                    if let Some((client, _)) = &self.client {
                        client.send(Kind::Dap, &child::bytes_of(&message));
                    }
                }
                Out::Adapter(message) => {
                    if let Some(messages) = &self.adapter.messages {
                        // An adapter that has gone is noticed by its end.
                        let _ = messages.send(child::bytes_of(&message));
                    }
                }
                Out::Waits => {
                    tracing::info!("the client has left without a word: another one may come");
                    if let Some((client, _)) = self.client.take() {
                        client.send(Kind::Exit, &0_i32.to_le_bytes());
                    }
                    if let Err(error) = std::fs::write(self.folder.join(WAITING), []) {
                        tracing::error!(%error, "the daemon cannot be told that a client is waited for");
                    }
                    self.after(EDITOR_LEASE, Step::Lease);
                }
                Out::Ends => self.forget_socket(),
                Out::Last => {
                    if self.status.is_none() {
                        self.after(PATIENCE, Step::Hurry);
                    }
                    if self.relay.said_goodbye() {
                        self.after(FAREWELL, Step::Terminate);
                    }
                }
                Out::Greeted => self.show_terminals_again(),
            }
        }
    }

    /// Terminals that went with the last window.
    fn show_terminals_again(&mut self) {
        let unseen = self.terminals.iter().filter(|(_, terminal)| terminal.viewer.is_none());
        let numbers: Vec<u32> = unseen.map(|(number, _)| *number).collect();
        let out = numbers.into_iter().filter_map(|number| self.relay.show_again(number)).collect();
        self.act(out);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Lease => {
                tracing::info!("nobody has come: the debug session is ended");
                let out = self.relay.end();
                self.act(out);
            }
            Step::Hurry => {
                let out = self.relay.hurry();
                self.act(out);
                self.after(PATIENCE, Step::Terminate);
            }
            Step::Terminate => {
                self.adapter.messages = None;
                if !self.relay.leaves_program() {
                    self.signal(libc::SIGTERM);
                }
                self.after(PATIENCE, Step::Kill);
            }
            Step::Kill => {
                if self.relay.leaves_program() {
                    tracing::info!("the adapter stays with the program that was left to itself");
                    self.status = Some(0);
                    self.adapter_ended();
                } else {
                    tracing::warn!("the adapter did not end in time and is killed");
                    self.signal(libc::SIGKILL);
                }
            }
            Step::Rest => self.adapter_ended(),
        }
    }

    fn signal(&self, signal: i32) {
        if let Some(pid) = self.adapter.pid.filter(|_| self.status.is_none()) {
            // SAFETY: plain kill(2) on a child that has not been waited for.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// It has ended and all that it wrote is here.
    fn adapter_ended(&mut self) {
        self.due = None;
        let status = self.status.unwrap_or(1).to_le_bytes();
        if let Some((client, _)) = self.client.take() {
            client.send(Kind::Exit, &status);
        }
        if let Some(viewer) = self.terminals.remove(&0).and_then(|terminal| terminal.viewer) {
            viewer.send(Kind::Exit, &status);
        }
        self.end_terminals();
    }

    /// A terminal that nobody sees ends with its debugger.
    fn end_terminals(&mut self) {
        for terminal in self.terminals.values_mut().filter(|terminal| terminal.viewer.is_none()) {
            terminal.end(PATIENCE);
        }
    }

    fn terminal_arrived(&mut self, connection: Connection, number: u32, start: Option<super::wire::Start>) {
        if let Some(start) = start {
            let is_asked_for = (1..=self.relay.terminals()).contains(&number);
            if !is_asked_for || self.terminals.contains_key(&number) {
                return connection.refuse("the terminal's program was not asked for");
            }
            match terminal::start(number, start, self.said.clone()) {
                Ok(made) => self.terminals.insert(number, made),
                Err(error) => return connection.refuse(&format!("the program cannot be started: {error}")),
            };
        }
        let Some(terminal) = self.terminals.get_mut(&number) else {
            return connection.refuse("the terminal's program has ended");
        };
        connection.welcome(Welcome::Joined);
        terminal.seen_by(connection, self.visit);
    }

    /// Nobody finds us any more; what is at the path then is another holder's.
    fn forget_socket(&mut self) {
        if std::mem::take(&mut self.has_socket) {
            remove(&self.folder.join(SOCKET));
            remove(&self.folder.join(WAITING));
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = state::remove(path) {
        tracing::error!(path = %path.display(), %error, "cannot be removed");
    }
}
