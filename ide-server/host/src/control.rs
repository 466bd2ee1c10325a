//! `host.sock`: what daemons ask of a running session host, and the list of what has happened in it.
//!
//! Any daemon of the user's may come and go: events are numbered and the latest are kept, so that one which was
//! restarted asks for those it missed.

use crate::traps::process::lock;
use protocol::host::{HostCommand, HostEvent, SessionEvent};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

/// How many events are kept for a daemon that comes back.
const KEPT: usize = 1000;

/// The list of what has happened.
#[derive(Debug)]
pub struct Journal {
    kept: Mutex<Kept>,
    live: broadcast::Sender<HostEvent>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<HostEvent>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Mutex::default(), live: broadcast::channel(KEPT).0 }
    }
}

impl Journal {
    /// Adds an event.
    pub fn note(&self, event: SessionEvent) {
        let mut kept = lock(&self.kept);
        kept.last += 1;
        let happened = HostEvent::Happened { number: kept.last, at: now(), event };
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(happened.clone());
        // Nobody may be listening.
        let _ = self.live.send(happened);
    }

    /// Adds a warning: the debuggee now behaves unlike the pod.
    pub fn warn(&self, code: &str, message: String) {
        tracing::warn!(code, "{message}");
        self.note(SessionEvent::Warning { code: code.into(), message });
    }

    /// What happens from now on.
    pub fn follow(&self) -> broadcast::Receiver<HostEvent> {
        self.live.subscribe()
    }

    fn since(&self, from: u64) -> (Vec<HostEvent>, broadcast::Receiver<HostEvent>) {
        let kept = lock(&self.kept);
        let newer =
            |event: &&HostEvent| matches!(event, HostEvent::Happened { number, .. } if *number > from);
        (kept.events.iter().filter(newer).cloned().collect(), self.live.subscribe())
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// What the host does when it is told to.
pub trait Commands: Send + Sync + 'static {
    /// Carries out any command but `Attach`; `None` where success says all.
    fn carry_out(&self, command: HostCommand) -> impl Future<Output = Option<HostEvent>> + Send;
    /// The host's state now.
    fn status(&self) -> HostEvent;
}

/// Serves daemons until the runtime ends.
pub async fn serve<C: Commands>(listener: UnixListener, journal: Arc<Journal>, commands: Arc<C>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (journal, commands) = (Arc::clone(&journal), Arc::clone(&commands));
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, &journal, &*commands).await {
                        tracing::debug!(%error, "a daemon's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "host.sock does not accept");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn talk<C: Commands>(stream: UnixStream, journal: &Journal, commands: &C) -> std::io::Result<()> {
    let own = nix::unistd::Uid::effective().as_raw();
    let peer = stream.peer_cred()?.uid();
    if peer != own && peer != 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut live: Option<broadcast::Receiver<HostEvent>> = None;
    loop {
        let next = async {
            match &mut live {
                Some(receiver) => receiver.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                match serde_json::from_str(&line) {
                    Ok(HostCommand::Attach { from }) => {
                        send(&mut write, &commands.status()).await?;
                        let (missed, receiver) = journal.since(from);
                        for event in missed {
                            send(&mut write, &event).await?;
                        }
                        live = Some(receiver);
                    }
                    Ok(command) => {
                        if let Some(answer) = commands.carry_out(command).await {
                            send(&mut write, &answer).await?;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a command of another version was left out"),
                }
            }
            event = next => match event {
                Ok(event) => send(&mut write, &event).await?,
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(count, "a slow daemon missed events");
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, event: &HostEvent) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    write.write_all(&line).await
}
