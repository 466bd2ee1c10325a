//! What `host.sock` answers for: the state of the session, and the commands of a daemon.

use super::Event;
use super::explain::explain;
use super::failure::failure;
use crate::agent_link::{AgentLink, Supervised};
use crate::control::Commands;
use crate::sockets::Sockets;
use crate::traps::paths::Paths;
use protocol::host::{HostCommand, HostEvent, HostStatus, Ticket};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What `host.sock` answers for.
pub(super) struct Running {
    pub(super) ticket: Ticket,
    pub(super) command: Vec<String>,
    pub(super) mode: String,
    pub(super) started_at: u64,
    pub(super) pid: i32,
    pub(super) link: AgentLink,
    pub(super) supervised: Supervised,
    pub(super) sockets: Arc<Sockets>,
    pub(super) paths: Arc<Paths>,
    pub(super) events: std::sync::Mutex<mpsc::Sender<Event>>,
}

impl Commands for Running {
    async fn carry_out(&self, command: HostCommand) -> Option<HostEvent> {
        match command {
            HostCommand::Attach { .. } => Some(self.status()),
            HostCommand::Stop { grace_ms } => {
                let stop = Event::Stop { grace: Duration::from_millis(grace_ms.into()) };
                // A host that ends by itself needs no telling.
                let _ = crate::traps::process::lock(&self.events).send(stop);
                None
            }
            HostCommand::MoveAgent { endpoint } => {
                self.supervised.move_to(endpoint);
                None
            }
            HostCommand::Subscribe { pod_port, local_port } => {
                let sockets = Arc::clone(&self.sockets);
                let taken =
                    tokio::task::spawn_blocking(move || sockets.subscribe(pod_port, local_port)).await;
                match taken {
                    Ok(true) => Some(self.status()),
                    _ => Some(HostEvent::Refused(*failure(
                        "port-refused",
                        format!("port {pod_port} of the pod is not taken over"),
                        "the session's events say why",
                    ))),
                }
            }
            HostCommand::Explain { what } => Some(explain(self.paths.places(), &self.sockets, &what)),
        }
    }

    fn status(&self) -> HostEvent {
        HostEvent::Status(HostStatus {
            session: self.ticket.session.clone(),
            host_pid: std::process::id() as i32,
            debuggee_pid: self.pid,
            target: self.ticket.target.clone(),
            mode: self.mode.clone(),
            agent: self.link.state(),
            endpoint: self.link.endpoint(),
            ports: self.sockets.ports(),
            command: self.command.clone(),
            started_at: self.started_at,
        })
    }
}
