//! What is written of an agent, so that the next daemon finds and removes it.

use super::AgentSpec;
use crate::cluster::access::may_be_written;
use crate::state::{self, StateFolder};
use protocol::auth::SecretKey;
use protocol::host::Endpoint;
use serde::{Deserialize, Serialize};
use std::io;

/// `agents/<agent>.json`, for the user's eyes only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its name.
    pub agent: String,
    /// Equal for sessions that can share it.
    pub key: String,
    /// What it looks at, for people.
    pub target: String,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How long it stays after its last session, in seconds.
    pub idle_seconds: u64,
    /// What it is, to be removed.
    pub place: Place,
    /// The daemon's own key, which no session is given: it ends the agent.
    #[serde(default)]
    pub own: Option<SecretKey>,
    /// Whether it was made to its end.
    #[serde(default)]
    pub ready: bool,
    /// Keys that it knows from its start and that no session has yet: the next sessions join without asking it.
    #[serde(default)]
    pub spare: Vec<SecretKey>,
    /// What it was made from, to make it again.
    #[serde(default)]
    pub spec: Option<AgentSpec>,
}

/// What an agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Place {
    /// A process of this machine.
    Process {
        /// Its id.
        pid: i32,
        /// Its start time in clock ticks since boot, so that another process of that id is left alone.
        start_time: u64,
        /// Where it takes more keys.
        admin: String,
    },
    /// A Job of a cluster.
    Job {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid, so that another Job of that name is left alone.
        uid: String,
        /// The pod of it.
        pod: String,
        /// Whether a ConfigMap of the same name brought the agent.
        #[serde(default)]
        delivered: bool,
        /// Whether somebody else made it, and let us in.
        #[serde(default)]
        joined: bool,
    },
    /// An ephemeral container of the target's pod.
    Container {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container's name.
        name: String,
    },
}

impl AgentRecord {
    /// Where it is, for people.
    pub fn place_text(&self) -> String {
        match &self.place {
            Place::Process { pid, .. } => format!("pid {pid}"),
            Place::Job { namespace, name, .. } => format!("job {namespace}/{name}"),
            Place::Container { namespace, pod, name } => format!("container {name} of pod {namespace}/{pod}"),
        }
    }

    /// Writes it.
    pub fn write(&self, state: &StateFolder) -> io::Result<()> {
        let mut written = self.clone();
        if let Endpoint::PortForward { env, .. } = &mut written.endpoint {
            env.retain(|name, _| may_be_written(name));
        }
        state::write_private(&state.agent(&self.agent, "json"), &serde_json::to_vec_pretty(&written)?)
    }

    /// All records in the state folder; files that are none are skipped.
    pub fn read_all(state: &StateFolder) -> io::Result<Vec<Self>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(state.agents())? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match serde_json::from_slice::<Self>(&std::fs::read(&path)?) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an agent's record is not understood")
                }
            }
        }
        Ok(records)
    }
}
