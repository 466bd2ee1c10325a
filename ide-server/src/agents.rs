//! Agents as the daemon sees them: one a target, shared by its sessions, warm for a while after the last one.
//!
//! Making, letting in and removing take time and run as tasks ([`local`] on this machine, [`crate::cluster::agent`] in a
//! cluster); [`life`] keeps the books. An agent also ends by itself when no session has spoken to it for its idle time,
//! so a daemon that dies leaves nothing that stays.

mod life;
pub mod local;
pub mod process;
mod record;
mod work;

pub use record::{AgentRecord, Place};

use crate::cluster::{self, spec::ClusterSpec};
use crate::session::start::Steps;
use protocol::auth::{PublicKey, SecretKey};
use protocol::host::Endpoint;
use protocol::ide::ErrorData;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What an agent is to be.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AgentSpec {
    /// A process of this machine.
    Local(local::LocalSpec),
    /// A Job beside the target's pod, or a container in it.
    Cluster(Box<ClusterSpec>),
}

impl AgentSpec {
    /// Equal for sessions that can share an agent.
    pub fn key(&self) -> String {
        match self {
            Self::Local(spec) => spec.key(),
            Self::Cluster(spec) => spec.key(),
        }
    }

    /// The keys of agents that do for this session: one that may take ports over or write files need not.
    pub fn fitting_keys(&self) -> BTreeSet<String> {
        match self {
            Self::Cluster(spec) => [(false, false), (true, false), (false, true), (true, true)]
                .map(|(incoming, writing)| spec.with(incoming, writing).key())
                .into(),
            Self::Local(_) => [self.key()].into(),
        }
    }

    /// This spec, made to do all that an agent of `other` does.
    pub(crate) fn covering(self, other: Option<&Self>) -> Self {
        match (self, other) {
            (Self::Cluster(spec), Some(Self::Cluster(other))) => {
                Self::Cluster(Box::new(spec.with(other.incoming, other.writing)))
            }
            (spec, _) => spec,
        }
    }

    /// The spec as it was written, with the way into the cluster that the agent's endpoint holds.
    pub(crate) fn reached_by(mut self, endpoint: &Endpoint) -> Self {
        if let Self::Cluster(spec) = &mut self {
            spec.access = cluster::agent::way_of(endpoint).unwrap_or_default();
        }
        self
    }

    /// An agent's place with the way into the cluster that this spec has: the latest login is the one that works.
    pub(crate) fn way_to(&self, endpoint: &Endpoint) -> Endpoint {
        match (self, endpoint) {
            (Self::Cluster(spec), Endpoint::PortForward { pod, port, .. }) => spec.endpoint(pod, *port),
            _ => endpoint.clone(),
        }
    }

    /// The target, for people.
    pub fn target(&self) -> String {
        match self {
            Self::Local(spec) => format!("process/{}", spec.pid),
            Self::Cluster(spec) => spec.target_text(),
        }
    }
}

/// A session's task asks for an agent.
#[derive(Debug)]
pub struct Wanted {
    /// The session.
    pub session: String,
    /// What the agent is to be.
    pub spec: AgentSpec,
    /// How long it stays after its last session; `None` leaves it to the daemon, which knows of editors.
    pub idle: Option<Duration>,
    /// Where steps are told.
    pub steps: Steps,
    /// Closed when the session is not wanted any more.
    pub reply: oneshot::Sender<Result<Given, ErrorData>>,
}

/// An agent that lets the session in.
#[derive(Clone, Debug)]
pub struct Given {
    /// The agent's name.
    pub agent: String,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The session's own key; the agent knows its public half.
    pub key: SecretKey,
    /// Whether it was there already.
    pub warm: bool,
}

/// What a task needs to make an agent.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The agent's name.
    pub(crate) agent: String,
    /// The session that it is made for, as annotations tell it.
    pub(crate) session: String,
    /// Whether it takes the place of one that was lost, perhaps with its pod.
    pub(crate) again: bool,
    /// The daemon's own key.
    pub(crate) own: SecretKey,
    /// The keys that it lets in from its start, that one's among them.
    pub(crate) keys: Vec<PublicKey>,
    /// How long it waits for sessions before it ends by itself.
    pub(crate) idle: Duration,
    /// Where steps are told.
    pub(crate) steps: Steps,
    /// Takes back what was made so far.
    pub(crate) cancel: CancellationToken,
}

/// An agent that could not be made.
#[derive(Debug)]
pub struct NotMade {
    /// Why.
    pub error: ErrorData,
    /// What is left of it and is to be removed.
    pub left: Option<Box<AgentRecord>>,
}

impl From<ErrorData> for NotMade {
    fn from(error: ErrorData) -> Self {
        Self { error, left: None }
    }
}

/// One agent.
#[derive(Debug)]
pub struct Agent {
    /// Equal for sessions that can share it.
    pub(crate) key: String,
    /// What it looks at, for people.
    pub(crate) target: String,
    /// What it is to be, to make it again; unknown of an agent of a version that did not write it.
    pub(crate) spec: Option<AgentSpec>,
    /// How long it stays after its last session.
    pub(crate) idle: Duration,
    /// How far it is.
    pub(crate) phase: Phase,
    /// The sessions that hold it.
    pub(crate) sessions: BTreeSet<String>,
    /// Counts the periods without a session.
    pub(crate) period: u64,
    /// When it was ordered or taken over.
    pub(crate) since: std::time::Instant,
    /// How many before it, one after the other, did not last.
    pub(crate) short_lived: u32,
    /// Its end, or its target's, is watched for as long as this is kept.
    pub(crate) watched: Option<DropGuard>,
}

/// How far an agent is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// A task makes it.
    Starting {
        /// Takes back what was made so far.
        cancel: CancellationToken,
        /// Who waits for it.
        waiting: Vec<Wanted>,
        /// Keys that it knows from its start and that no session has yet.
        spare: Vec<SecretKey>,
        /// Sessions that move to it from an agent that was lost.
        moving: Vec<String>,
    },
    /// It serves.
    Ready(AgentRecord),
    /// A task removes it.
    Leaving(AgentRecord),
}

impl Agent {
    pub(crate) fn record(&self) -> Option<&AgentRecord> {
        match &self.phase {
            Phase::Starting { .. } => None,
            Phase::Ready(record) | Phase::Leaving(record) => Some(record),
        }
    }
}
