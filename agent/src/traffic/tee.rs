//! Copies of a connection for the sessions that mirror its port.
//!
//! A copy never slows the connection: a session that does not keep up loses the rest of that connection, and is told
//! how many it lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use protocol::agent::to_client::Body;
use protocol::agent::{AgentEvent, Incoming};
use tokio::sync::oneshot;

use super::Subscription;
use super::filter::Sieve;
use crate::link::outbox::Outbox;
use crate::link::streams::{Inbound, Receiving, Sending};
use crate::socket::Witness;

/// Payload that may wait for one link before copies are given up.
const MAX_BACKLOG: usize = 8 << 20;
/// Losses that follow closely are told together.
const TOGETHER: Duration = Duration::from_millis(250);

/// How many connections a session lost of one port.
#[derive(Debug)]
pub(super) struct Drops {
    port: u16,
    outbox: Arc<Outbox>,
    count: AtomicU64,
    telling: AtomicBool,
}

impl Drops {
    pub(super) fn new(port: u16, outbox: Arc<Outbox>) -> Self {
        Self { port, outbox, count: AtomicU64::new(0), telling: AtomicBool::new(false) }
    }

    fn add(self: &Arc<Self>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.telling.swap(true, Ordering::Relaxed) {
            return;
        }
        let drops = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(TOGETHER).await;
            drops.telling.store(false, Ordering::Relaxed);
            let count = drops.count.load(Ordering::Relaxed);
            drops.outbox.control(Body::Event(AgentEvent {
                kind: "mirror-dropped".into(),
                message: format!(
                    "{count} connections to port {} are no longer copied: the copies were not read fast enough",
                    drops.port
                ),
                port: u32::from(drops.port),
                count,
            }));
        });
    }
}

/// The copies of one connection.
#[derive(Debug, Default)]
pub(super) struct Tee {
    copies: Vec<Copy>,
    sifted: Vec<Sifted>,
    ended: bool,
}

/// A copy that begins with the first request that its session asked for.
#[derive(Debug)]
struct Sifted {
    sieve: Sieve,
    mirror: Subscription,
    place: (u16, SocketAddr, SocketAddr),
    copy: Option<Copy>,
    lost: bool,
}

#[derive(Debug)]
struct Copy {
    sending: Sending,
    drops: Arc<Drops>,
    /// Dropped with the connection.
    _connection: oneshot::Sender<()>,
}

impl Tee {
    /// Opens a copy for each of `mirrors`.
    pub(super) fn open(mirrors: &[Subscription], port: u16, peer: SocketAddr, original: SocketAddr) -> Self {
        let place = (port, peer, original);
        let mut tee = Self::default();
        for mirror in mirrors {
            match &mirror.filter {
                None => tee.copies.extend(Copy::open(mirror, place)),
                Some(filter) => tee.sifted.push(Sifted {
                    sieve: Sieve::new(filter.clone()),
                    mirror: mirror.clone(),
                    place,
                    copy: None,
                    lost: false,
                }),
            }
        }
        tee
    }

    /// The connection broke off.
    pub(super) fn reset(&mut self, errno: Errno) {
        let sifted = self.sifted.drain(..).filter_map(|sifted| sifted.copy);
        for copy in self.copies.drain(..).chain(sifted) {
            copy.sending.reset(errno);
        }
    }
}

impl Copy {
    fn open(mirror: &Subscription, (port, peer, original): (u16, SocketAddr, SocketAddr)) -> Option<Self> {
        let stream = match mirror.link.streams.open() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, link = mirror.link.id, "a connection is not copied");
                mirror.drops.add();
                return None;
            }
        };
        mirror.link.outbox.control(Body::Incoming(Incoming {
            stream: stream.id,
            port: u32::from(port),
            peer_addr: peer.to_string(),
            pod_addr: original.to_string(),
            mirrored: true,
        }));
        let (connection_tx, connection_rx) = oneshot::channel();
        tokio::spawn(discard(stream.receiving, connection_rx));
        Some(Self { sending: stream.sending, drops: Arc::clone(&mirror.drops), _connection: connection_tx })
    }

    /// Whether it could be kept up.
    fn says(&self, bytes: &Bytes) -> bool {
        let kept = self.sending.backlog() <= MAX_BACKLOG && self.sending.try_data(bytes.clone());
        if !kept {
            self.sending.reset(Errno::ENOBUFS);
            self.drops.add();
        }
        kept
    }
}

impl Sifted {
    fn saw(&mut self, bytes: &Bytes) {
        if self.lost {
            return;
        }
        for part in self.sieve.sift(bytes.clone()) {
            if self.copy.is_none() {
                self.copy = Copy::open(&self.mirror, self.place);
            }
            self.lost = !self.copy.as_ref().is_some_and(|copy| copy.says(&part));
            if self.lost {
                return;
            }
        }
    }
}

impl Witness for Tee {
    fn saw(&mut self, bytes: &Bytes) {
        self.copies.retain(|copy| copy.says(bytes));
        self.sifted.iter_mut().for_each(|sifted| sifted.saw(bytes));
    }

    fn ended(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for copy in self.copies.iter().chain(self.sifted.iter().filter_map(|sifted| sifted.copy.as_ref())) {
            copy.sending.end();
        }
    }
}

/// Drops what a session answers on a copy, until both it and the connection are done.
async fn discard(mut receiving: Receiving, connection: oneshot::Receiver<()>) {
    loop {
        match receiving.next().await {
            Some(Inbound::Data(bytes)) => receiving.passed_on(bytes.len()),
            Some(Inbound::End) => break,
            Some(Inbound::Reset(_)) | None => return,
        }
    }
    // A reset that comes now is seen by the sending half, which then sends nothing more.
    let _ = connection.await;
}
