//! The session host's end of the agent wire: requests, streams and incoming connections over one link.
//!
//! [`AgentLink`] is the handle that the rest of the host holds, from threads and from tasks alike; it stays the same
//! when the connection below it is lost and made again ([`Supervised`]). What it leaves to others: what the answers
//! mean, and where connections end on this machine ([`pump`] joins one to a socket).

mod cluster;
mod connection;
mod error;
mod finish;
mod handshake;
mod outgoing;
mod port_forward;
mod pump;
mod stream;
mod supervise;
mod transport;

#[cfg(test)]
pub(crate) mod tests;

pub use cluster::{ClusterAccess, client as cluster_client};
pub use error::{LinkError, SubscribeError};
pub use finish::{Finished, finish};
pub use pump::{LocalSocket, Pumped, pump};
pub use stream::{Chunk, PodReader, PodStream, PodWriter};
pub use supervise::Supervised;

use cluster::Clusters;
use connection::{Connection, Outlets, Patience, REQUEST_DEADLINE, Writes};
use handshake::{Identity, Shaken, shake};
use nix::errno::Errno;
use protocol::agent::{
    AgentEvent, Closing, Connected, Incoming, Response, Subscribe, Subscribed, Unsubscribe, Welcome, connect,
    request, response,
};
use protocol::host::{AgentState, Endpoint, Ticket};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use transport::Transport;

/// From the first byte to the welcome.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Connections that wait for somebody to take them; more are left to the pod.
const INCOMING: usize = 1024;
/// Events that a slow listener may fall behind.
const EVENTS: usize = 256;

/// A connection to a subscribed port of the pod.
#[derive(Debug)]
pub struct IncomingConnection {
    /// Who connected to what.
    pub info: Incoming,
    /// The connection. Reset before anything was sent on it, it goes to the pod instead.
    pub stream: PodStream,
    /// Counts it as one that nobody has connected or reset yet; dropped when either is done.
    pub unsettled: Unsettled,
}

/// One connection that waits to be settled: see [`AgentLink::settled`].
#[derive(Debug)]
pub struct Unsettled(Arc<watch::Sender<usize>>);

impl Unsettled {
    fn count(all: &Arc<watch::Sender<usize>>) -> Self {
        all.send_modify(|waiting| *waiting += 1);
        Self(Arc::clone(all))
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Something that a session's event list should show.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// The agent tells of itself or the pod.
    Agent(AgentEvent),
    /// The agent ended the link, with its reason.
    Closing(Closing),
    /// The link changed.
    State {
        /// Now.
        state: AgentState,
        /// One sentence.
        message: String,
    },
    /// A port that was taken over is not any more, after the link came back; it is asked for again.
    PortLost {
        /// The port in the pod.
        port: u16,
        /// Why, in the agent's words.
        message: String,
    },
    /// Such a port is taken over again.
    PortBack {
        /// The port in the pod.
        port: u16,
    },
}

/// Yields connections to subscribed ports, also after the link was made again.
#[derive(Debug)]
pub struct IncomingRx(mpsc::Receiver<IncomingConnection>);

impl IncomingRx {
    /// The next connection; `None` when the link is closed for good.
    pub async fn recv(&mut self) -> Option<IncomingConnection> {
        self.0.recv().await
    }
}

/// The way to the pod. Cheap to clone; the last clone closes the link and resets what is open on it.
#[derive(Clone)]
pub struct AgentLink {
    shared: Arc<Shared>,
    _close: Arc<CloseOnDrop>,
}

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::fmt::Debug for AgentLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentLink").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// What carries requests at the moment.
#[derive(Clone)]
enum Slot {
    Up(Arc<Connection>),
    /// Lost at this time, and being made again.
    Down(Instant),
    /// Lost for good.
    Gone(String),
}

struct Shared {
    runtime: Handle,
    identity: Identity,
    patience: Patience,
    slot: watch::Sender<Slot>,
    state: watch::Sender<AgentState>,
    endpoint: watch::Sender<Endpoint>,
    subscriptions: Mutex<BTreeMap<u16, Subscribe>>,
    outlets: Outlets,
    closed: CancellationToken,
}

impl Shared {
    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<u16, Subscribe>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: LinkEvent) {
        // Without a listener nobody wants to know.
        let _ = self.outlets.events.send(event);
    }

    fn close(&self) {
        self.closed.cancel();
        let before = self.slot.send_replace(Slot::Gone("the session ends".into()));
        if let Slot::Up(connection) = before {
            connection.lose("the session ends");
        }
    }

    /// Opens a connection and starts its tasks; does not put it into the slot.
    async fn dial(
        &self,
        endpoint: &Endpoint,
        clusters: &mut Clusters,
        generation: u64,
        want_env: bool,
    ) -> Result<(Arc<Connection>, Welcome), LinkError> {
        let (shaken, welcome) = reach(endpoint, clusters, &self.identity, want_env).await?;
        Ok((Connection::start(generation, shaken, self.outlets.clone(), self.patience), welcome))
    }
}

/// Opens a transport to the agent and shakes hands on it, within [`CONNECT_DEADLINE`].
async fn reach(
    endpoint: &Endpoint,
    clusters: &mut Clusters,
    identity: &Identity,
    want_env: bool,
) -> Result<(Shaken, Welcome), LinkError> {
    let reached = async {
        let transport = Transport::open(endpoint, clusters).await?;
        shake(transport, identity, want_env).await
    };
    tokio::time::timeout(CONNECT_DEADLINE, reached).await.unwrap_or_else(|_| {
        Err(LinkError::ConnectTimeout { place: transport::place(endpoint), after: CONNECT_DEADLINE })
    })
}

impl AgentLink {
    /// Connects to the ticket's agent, once: a lost link stays lost. See [`Supervised`] for one that comes back.
    ///
    /// # Errors
    /// Nothing answers, the cluster refuses, or the agent does.
    pub async fn connect(
        ticket: &Ticket,
        want_env: bool,
    ) -> Result<(AgentLink, Welcome, IncomingRx), LinkError> {
        let (link, incoming, _) = Self::prepare(ticket, Patience::default());
        let endpoint = ticket.endpoint.clone();
        let (connection, welcome) =
            link.shared.dial(&endpoint, &mut Clusters::default(), 1, want_env).await?;
        link.shared.slot.send_replace(Slot::Up(connection.clone()));
        link.shared.state.send_replace(AgentState::Connected);
        let shared = Arc::downgrade(&link.shared);
        tokio::spawn(async move {
            connection.until_lost().await;
            let Some(shared) = shared.upgrade() else { return };
            let message = connection.loss().unwrap_or_default();
            shared.slot.send_replace(Slot::Gone(message.clone()));
            shared.state.send_replace(AgentState::Lost);
            shared.event(LinkEvent::State { state: AgentState::Lost, message });
        });
        Ok((link, welcome, incoming))
    }

    fn prepare(ticket: &Ticket, patience: Patience) -> (AgentLink, IncomingRx, Arc<Shared>) {
        let (incoming_tx, incoming_rx) = mpsc::channel(INCOMING);
        let outlets = Outlets::new(incoming_tx, EVENTS);
        let shared = Arc::new(Shared {
            runtime: Handle::current(),
            identity: Identity::of(ticket),
            patience,
            slot: watch::Sender::new(Slot::Down(Instant::now())),
            state: watch::Sender::new(AgentState::Reconnecting),
            endpoint: watch::Sender::new(ticket.endpoint.clone()),
            subscriptions: Mutex::default(),
            outlets,
            closed: CancellationToken::new(),
        });
        let close = Arc::new(CloseOnDrop(shared.clone()));
        (AgentLink { shared: shared.clone(), _close: close }, IncomingRx(incoming_rx), shared)
    }

    /// The connection that carries requests now; waits a little for one that is being made.
    ///
    /// The time counts from the loss: a program with many calls waits once, not at each of them.
    async fn connection(&self) -> Result<Arc<Connection>, LinkError> {
        let mut slots = self.shared.slot.subscribe();
        let waited = match &*slots.borrow() {
            Slot::Down(since) => since.elapsed(),
            Slot::Up(_) | Slot::Gone(_) => Duration::ZERO,
        };
        let patience = self.shared.patience.link.saturating_sub(waited);
        let up = slots.wait_for(|slot| !matches!(slot, Slot::Down(_)));
        let lost = |detail: &str| LinkError::Lost { detail: detail.to_owned() };
        match tokio::time::timeout(patience, up).await {
            Ok(Ok(slot)) => match &*slot {
                Slot::Up(connection) => Ok(connection.clone()),
                Slot::Gone(detail) => Err(lost(detail)),
                Slot::Down(_) => Err(lost("the link is down")),
            },
            Ok(Err(_)) => Err(lost("the link is closed")),
            Err(_) => Err(lost("the link did not come back in time")),
        }
    }

    /// Asks the agent. The answer's own errno is the caller's to look at.
    ///
    /// # Errors
    /// The link was lost (after waiting a little for it to come back), or no answer came in 10 s.
    pub async fn request(&self, op: request::Op) -> Result<Response, LinkError> {
        self.connection().await?.request(op, REQUEST_DEADLINE, Writes::Writer).await
    }

    /// See [`AgentLink::request`]; for threads outside the runtime.
    ///
    /// # Errors
    /// As there.
    pub fn request_blocking(&self, op: request::Op) -> Result<Response, LinkError> {
        let asked = async { self.connection().await?.request(op, REQUEST_DEADLINE, Writes::Asker).await };
        self.block_on(asked)
    }

    /// Connects from the pod's network. With no `timeout` (zero) the pod's kernel decides when to give up.
    ///
    /// # Errors
    /// What the connect failed with in the pod; ECONNRESET when the link is lost.
    pub async fn connect_stream(
        &self,
        to: connect::To,
        timeout: Duration,
    ) -> Result<(Connected, PodStream), Errno> {
        let connection = self.connection().await.map_err(|_| Errno::ECONNRESET)?;
        connection.connect(to, timeout, Writes::Writer).await
    }

    /// Opens a way for datagrams from the pod to `to` (`address:port`), at once: a refusal shows as a reset.
    ///
    /// # Errors
    /// ECONNRESET when the link is lost.
    pub async fn datagrams(&self, to: String) -> Result<PodStream, Errno> {
        let connection = self.connection().await.map_err(|_| Errno::ECONNRESET)?;
        connection.connect_unheard(to)
    }

    /// Takes a port of the pod; on a supervised link it is taken again after each reconnect.
    ///
    /// # Errors
    /// The agent's refusal with errno and words (EBUSY: who holds the port), or the link's loss.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscribed, SubscribeError> {
        let port = subscribe.port as u16;
        let asked = self.request(request::Op::Subscribe(subscribe.clone())).await;
        let response = asked.map_err(|source| SubscribeError::Link { port, source })?;
        let subscribed = subscribed(port, response)?;
        self.shared.subscriptions().insert(port, subscribe);
        Ok(subscribed)
    }

    /// Gives a port back. Connections already taken go on.
    ///
    /// # Errors
    /// The link's loss; the port is not taken again then either.
    pub async fn unsubscribe(&self, port: u16) -> Result<(), SubscribeError> {
        self.shared.subscriptions().remove(&port);
        let op = request::Op::Unsubscribe(Unsubscribe { port: port.into() });
        match self.request(op).await {
            Ok(Response { errno: 0, .. }) => Ok(()),
            Ok(Response { errno, message, .. }) => {
                Err(SubscribeError::Refused { port, errno: Errno::from_raw(errno), message })
            }
            Err(source) => Err(SubscribeError::Link { port, source }),
        }
    }

    /// Waits until each connection that the agent has handed in is connected to the program or reset.
    pub async fn settled(&self) {
        // The sender lives in the link.
        let _ = self.shared.outlets.unsettled.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.shared.outlets.events.subscribe()
    }

    /// Whether the link stands.
    pub fn state(&self) -> AgentState {
        *self.shared.state.borrow()
    }

    /// Follows whether the link stands.
    pub fn states(&self) -> watch::Receiver<AgentState> {
        self.shared.state.subscribe()
    }

    /// Which connection this is, counted from 1; kept files of an earlier one are void. 0 while there is none.
    pub fn generation(&self) -> u64 {
        match &*self.shared.slot.borrow() {
            Slot::Up(connection) => connection.generation(),
            Slot::Down(_) | Slot::Gone(_) => 0,
        }
    }

    /// Where the agent is.
    pub fn endpoint(&self) -> Endpoint {
        self.shared.endpoint.borrow().clone()
    }

    /// The runtime that the link lives on: pumps and waiting tasks belong there.
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Runs a future of this link to its end; for threads outside the runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.shared.runtime.block_on(future)
    }

    /// Takes leave of the agent and ends the link, for all its clones; for threads outside the runtime.
    pub fn leave(&self) {
        let connection = match &*self.shared.slot.borrow() {
            Slot::Up(connection) => Some(connection.clone()),
            Slot::Down(_) | Slot::Gone(_) => None,
        };
        if let Some(connection) = connection {
            self.block_on(connection.say_goodbye());
        }
        self.close();
    }

    /// Ends the link now, for all its clones.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// Reads the answer to a subscription.
fn subscribed(port: u16, response: Response) -> Result<Subscribed, SubscribeError> {
    match response {
        Response { errno: 0, answer: Some(response::Answer::Subscribed(subscribed)), .. } => Ok(subscribed),
        // Success says all there is to say for an agent that counts nothing.
        Response { errno: 0, .. } => Ok(Subscribed::default()),
        Response { errno, message, .. } => {
            Err(SubscribeError::Refused { port, errno: Errno::from_raw(errno), message })
        }
    }
}
