//! What is written of a session, so that the next daemon finds it: no key, no value of the pod's.

use crate::state::{self, StateFolder};
use protocol::host::TargetSummary;
use serde::{Deserialize, Serialize};
use std::io;

/// `session.json` in a session's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session's name.
    pub session: String,
    /// Milliseconds since 1970 of its start.
    pub started_at: u64,
    /// What is impersonated.
    pub target: TargetSummary,
    /// The public half of its key, to be let into another agent.
    pub public_key: String,
    /// Its agent's name.
    #[serde(default)]
    pub agent: Option<String>,
    /// Program and arguments as the request named them.
    #[serde(default)]
    pub command: Vec<String>,
}

impl SessionRecord {
    /// Writes it into its session's folder.
    pub fn write(&self, state: &StateFolder) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        state::write_private(&state.session(&self.session).join("session.json"), &text)
    }

    /// All records in the state folder; a folder without a readable one is named in the second list.
    pub fn read_all(state: &StateFolder) -> io::Result<(Vec<Self>, Vec<String>)> {
        let (mut records, mut strange) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(state.sessions())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let text = std::fs::read(state.session(&name).join("session.json"));
            match text.ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok()) {
                Some(record) if record.session == name => records.push(record),
                _ => strange.push(name),
            }
        }
        Ok((records, strange))
    }
}
