//! Keeps a link alive: dials again when the connection is lost, at another place when told so, and takes the
//! session's ports again.

use super::cluster::Clusters;
use super::connection::{Connection, Patience, REQUEST_DEADLINE, Writes};
use super::error::{LinkError, SubscribeError};
use super::{AgentLink, IncomingRx, LinkEvent, Shared, Slot, subscribed};
use nix::errno::Errno;
use protocol::agent::{Welcome, request};
use protocol::host::{AgentState, Endpoint, Ticket};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause between attempts; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// After this long the agent counts as lost; it is looked for all the same.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Between attempts to take a port again that another link (perhaps our own former one) still holds.
const PORT_PAUSE: Duration = Duration::from_secs(1);

/// A link that comes back.
#[derive(Clone, Debug)]
pub struct Supervised {
    link: AgentLink,
}

impl Supervised {
    /// Connects to the ticket's agent, and from then on keeps the link alive until its last handle is dropped.
    ///
    /// # Errors
    /// The first connection could not be made.
    pub async fn connect(
        ticket: &Ticket,
        want_env: bool,
    ) -> Result<(Supervised, Welcome, IncomingRx), LinkError> {
        Self::connect_patiently(ticket, want_env, Patience::default()).await
    }

    pub(super) async fn connect_patiently(
        ticket: &Ticket,
        want_env: bool,
        patience: Patience,
    ) -> Result<(Supervised, Welcome, IncomingRx), LinkError> {
        let (link, incoming, shared) = AgentLink::prepare(ticket, patience);
        let mut clusters = Clusters::default();
        let (connection, welcome) = shared.dial(&ticket.endpoint, &mut clusters, 1, want_env).await?;
        shared.slot.send_replace(Slot::Up(connection.clone()));
        shared.state.send_replace(AgentState::Connected);
        tokio::spawn(Keeper { shared, clusters, endpoint: ticket.endpoint.clone() }.keep(connection));
        Ok((Supervised { link }, welcome, incoming))
    }

    /// The handle for requests and streams.
    pub fn link(&self) -> &AgentLink {
        &self.link
    }

    /// The agent is at another place now: the present connection, if any, is given up for it.
    pub fn move_to(&self, endpoint: Endpoint) {
        self.link.shared.endpoint.send_replace(endpoint);
    }
}

struct Keeper {
    shared: Arc<Shared>,
    clusters: Clusters,
    /// Where `connection` leads.
    endpoint: Endpoint,
}

impl Keeper {
    async fn keep(mut self, mut connection: Arc<Connection>) {
        let closed = self.shared.closed.clone();
        let mut moves = self.shared.endpoint.subscribe();
        loop {
            tokio::select! {
                () = closed.cancelled() => return connection.lose("the session ends"),
                () = connection.until_lost() => {
                    if connection.is_left() {
                        return;
                    }
                }
                // The sender lives in `shared`, so a change is the only way out of this wait.
                _ = moves.wait_for(|endpoint| *endpoint != self.endpoint) => {
                    connection.lose("the agent moved");
                }
            }
            let why = connection.loss().unwrap_or_default();
            tracing::warn!(why, "the link to the agent is lost");
            // Should the session have been closed meanwhile, its word stands.
            self.shared.slot.send_if_modified(|slot| {
                let ours = matches!(slot, Slot::Up(_));
                if ours {
                    *slot = Slot::Down(std::time::Instant::now());
                }
                ours
            });
            self.tell(AgentState::Reconnecting, why);
            let found = tokio::select! {
                () = closed.cancelled() => return,
                found = self.find(connection.generation() + 1) => found,
            };
            connection = found;
            let mut kept = false;
            self.shared.slot.send_if_modified(|slot| {
                kept = !matches!(slot, Slot::Gone(_));
                if kept {
                    *slot = Slot::Up(connection.clone());
                }
                kept
            });
            if !kept {
                return connection.lose("the session ends");
            }
            self.tell(AgentState::Connected, "the link to the agent stands again".into());
            tokio::spawn(take_again(self.shared.clone(), connection.clone()));
        }
    }

    /// Dials until it works.
    async fn find(&mut self, generation: u64) -> Arc<Connection> {
        let began = Instant::now();
        let mut moves = self.shared.endpoint.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            self.endpoint = moves.borrow_and_update().clone();
            let dialled = tokio::select! {
                dialled = self.shared.dial(&self.endpoint, &mut self.clusters, generation, false) => dialled,
                // A dial to the old place may hang until its deadline.
                _ = moves.changed() => {
                    pause = FIRST_PAUSE;
                    continue;
                }
            };
            let error = match dialled {
                Ok((connection, _)) => return connection,
                Err(error) => error,
            };
            tracing::debug!(%error, "the agent cannot be reached yet");
            if (began.elapsed() >= GIVE_UP || !error.retryable())
                && *self.shared.state.borrow() != AgentState::Lost
            {
                self.tell(AgentState::Lost, in_full(&error));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                _ = moves.changed() => pause = FIRST_PAUSE,
            }
        }
    }

    fn tell(&self, state: AgentState, message: String) {
        self.shared.state.send_replace(state);
        self.shared.event(LinkEvent::State { state, message });
    }
}

/// An error with its reason, in one line: that a login ran out is the reason why a port is not forwarded.
fn in_full(error: &LinkError) -> String {
    if let LinkError::PortForward { source, .. } = error
        && let kube::Error::Api(status) = source.as_ref()
    {
        let advice = if status.code == 401 { "; log in again (the token may have run out)" } else { "" };
        return format!("{error}: {}{advice}", status.message);
    }
    error.words().into_iter().fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        told if told.contains(&cause) => text,
        told => format!("{told}: {cause}"),
    })
}

/// Takes the session's ports on a new connection, again and again while another link holds them.
async fn take_again(shared: Arc<Shared>, connection: Arc<Connection>) {
    let ports: Vec<u16> = shared.subscriptions().keys().copied().collect();
    for port in ports {
        tokio::spawn(take_one_again(shared.clone(), connection.clone(), port));
    }
}

async fn take_one_again(shared: Arc<Shared>, connection: Arc<Connection>, port: u16) {
    let mut told = false;
    loop {
        let Some(subscribe) = shared.subscriptions().get(&port).cloned() else { return };
        let asked =
            connection.request(request::Op::Subscribe(subscribe), REQUEST_DEADLINE, Writes::Writer).await;
        let refused = match asked {
            Ok(response) => match subscribed(port, response) {
                Ok(_) if told => return shared.event(LinkEvent::PortBack { port }),
                Ok(_) => return,
                Err(refused) => refused,
            },
            Err(LinkError::Lost { .. }) => return,
            Err(source) => SubscribeError::Link { port, source },
        };
        if !std::mem::replace(&mut told, true) {
            shared.event(LinkEvent::PortLost { port, message: refused.to_string() });
        }
        let again = match refused {
            SubscribeError::Refused { errno, .. } => errno == Errno::EBUSY,
            SubscribeError::Link { .. } => true,
        };
        if !again {
            return;
        }
        tokio::select! {
            () = connection.until_lost() => return,
            () = tokio::time::sleep(PORT_PAUSE) => {}
        }
    }
}
