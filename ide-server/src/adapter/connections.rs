//! Who is connected to a holder: fronts of the editor's, of this user, each with what it is for.

use super::wire::{self, Hello, Kind, Role, VERSION, Welcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// How long who connects may take to say what for.
const HELLO: Duration = Duration::from_secs(5);

/// The way to one front. Dropped, it is closed once all is written.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

/// A front that has said what it is.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) connection: Connection,
    pub(super) role: Role,
}

/// What comes from fronts.
#[derive(Debug)]
pub(super) enum Heard {
    Arrived(Incoming),
    Frame {
        from: u64,
        kind: Kind,
        body: Vec<u8>,
    },
    Left {
        from: u64,
    },
    /// A while ago the terminal `number` was left by this connection.
    TerminalAway {
        number: u32,
        from: u64,
    },
}

impl Connection {
    /// Sends one frame, in its turn.
    pub(super) fn send(&self, kind: Kind, body: &[u8]) {
        let bytes = wire::frame(kind, body);
        self.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        // One that is gone is noticed where it is read.
        let _ = self.frames.send(bytes);
    }

    pub(super) fn welcome(&self, welcome: Welcome) {
        match serde_json::to_vec(&welcome) {
            Ok(body) => self.send(Kind::Welcome, &body),
            Err(error) => tracing::error!(%error, "a welcome cannot be written"),
        }
    }

    /// Ends a front with a reason.
    pub(super) fn refuse(self, reason: &str) {
        self.welcome(Welcome::Joined);
        self.send(Kind::Stderr, format!("{reason}\n").as_bytes());
        self.send(Kind::Exit, &1_i32.to_le_bytes());
    }

    /// Bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// Lets this user's connections in, for ever.
pub(super) async fn accept(
    listener: UnixListener,
    heard: mpsc::Sender<Heard>,
    writers: TaskTracker,
    drained: Arc<Notify>,
) {
    let me = nix::unistd::geteuid().as_raw();
    let mut number = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a client cannot be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me) {
            tracing::warn!("another user's connection is refused");
            continue;
        }
        number += 1;
        let (reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let connection = Connection { number, frames, queued: Arc::new(AtomicUsize::new(0)) };
        writers.spawn(write(writer, queue, Arc::clone(&connection.queued), Arc::clone(&drained)));
        tokio::spawn(serve(connection, reader, heard.clone()));
    }
}

async fn serve(connection: Connection, reader: OwnedReadHalf, heard: mpsc::Sender<Heard>) {
    let number = connection.number;
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let Ok(Ok(Some((Kind::Hello, body)))) = timeout(HELLO, wire::read(&mut reader)).await else { return };
    let Ok(hello) = serde_json::from_slice::<Hello>(&body) else { return };
    if hello.version != VERSION {
        return connection.welcome(Welcome::OtherVersion);
    }
    if heard.send(Heard::Arrived(Incoming { connection, role: hello.role })).await.is_err() {
        return;
    }
    read(number, reader, &heard).await;
    let _ = heard.send(Heard::Left { from: number }).await;
}

async fn read(number: u64, mut reader: BufReader<OwnedReadHalf>, heard: &mpsc::Sender<Heard>) {
    loop {
        match wire::read(&mut reader).await {
            Ok(Some((kind, body))) => {
                if heard.send(Heard::Frame { from: number, kind, body }).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "a front is gone"),
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    drained: Arc<Notify>,
) {
    while let Some(frame) = queue.recv().await {
        let written = writer.write_all(&frame).await;
        queued.fetch_sub(frame.len(), Ordering::Relaxed);
        drained.notify_one();
        if written.is_err() {
            break;
        }
    }
    // What cannot be written any more waits for nothing.
    queue.close();
    while let Some(frame) = queue.recv().await {
        queued.fetch_sub(frame.len(), Ordering::Relaxed);
    }
    drained.notify_one();
}
