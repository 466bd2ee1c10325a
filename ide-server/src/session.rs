//! Sessions as the daemon sees them: from the request to the end of the session host.
//!
//! The daemon carries no traffic; it knows a session by its folder, by the link to the session host in it, and by what
//! the host tells. All of it can be found again by the next daemon (see [`record`]).

mod host_link;
mod life;
pub mod plan;
mod record;
pub mod start;

pub use host_link::HostLink;
pub(crate) use life::EDITOR_LEASE;
pub use record::SessionRecord;
pub use start::Planned;

use crate::main_loop::ClientId;
use protocol::host::HostStatus;
use protocol::ide::{EventParams, SessionInfo, SessionState};
use std::collections::{BTreeMap, VecDeque};
use tokio_util::sync::CancellationToken;

/// Events kept for those who attach later.
const KEPT_EVENTS: usize = 512;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// What is also in its folder.
    pub(crate) record: SessionRecord,
    /// The plan that it runs by.
    pub(crate) plan: Option<String>,
    /// Whether its ticket waits for who redeems the plan.
    pub(crate) keeps_ticket: bool,
    /// How far it is.
    pub(crate) state: SessionState,
    /// The connection that it belongs to until its host listens.
    pub(crate) owner: Option<ClientId>,
    /// Ends the tasks that work for it.
    pub(crate) cancel: CancellationToken,
    /// The link to its host.
    pub(crate) host: Option<HostLink>,
    /// What its host told of itself last.
    pub(crate) status: Option<HostStatus>,
    /// Who wants its events, with how many each has missed.
    pub(crate) followers: BTreeMap<ClientId, u64>,
    /// The last events.
    pub(crate) kept: VecDeque<EventParams>,
    /// The number of the host's last event.
    pub(crate) seq: u64,
}

impl Session {
    pub(crate) fn new(record: SessionRecord, state: SessionState, owner: Option<ClientId>) -> Self {
        Self {
            record,
            plan: None,
            keeps_ticket: false,
            state,
            owner,
            cancel: CancellationToken::new(),
            host: None,
            status: None,
            followers: BTreeMap::new(),
            kept: VecDeque::new(),
            seq: 0,
        }
    }

    fn info(&self, attended: bool) -> SessionInfo {
        let status = self.status.as_ref();
        SessionInfo {
            session: self.record.session.clone(),
            plan: self.plan.clone(),
            state: self.state,
            target: self.record.target.clone(),
            started_at: self.record.started_at,
            command: status.map_or_else(|| self.record.command.clone(), |status| status.command.clone()),
            agent: status.map(|status| status.agent),
            host: self.status.clone(),
            attended,
        }
    }

    fn keep(&mut self, event: EventParams) {
        if self.kept.len() == KEPT_EVENTS {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }
}
