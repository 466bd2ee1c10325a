//! The pieces of work on one agent that [`super::life`] sends out: keys, letting in, watching, removing.

use super::{AgentRecord, AgentSpec, Given, Place, Wanted, local, process};
use crate::cluster;
use crate::main_loop::{Event, EventSender, answer, send};
use crate::state::{self, StateFolder};
use protocol::auth::SecretKey;
use protocol::ide::{ErrorData, ErrorKind};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An agent ends by itself a little after the daemon would have removed it.
const MARGIN: Duration = Duration::from_secs(5);
/// Keys made with an agent for the sessions after the first: joining a warm agent then asks nobody.
const SPARE_KEYS: usize = 12;

/// Whether a session joins an agent that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warmth {
    Cold,
    Warm,
}

/// The daemon's own key, and those for sessions.
pub(super) fn fresh_keys() -> Result<(SecretKey, Vec<SecretKey>), ErrorData> {
    let mut keys = Vec::with_capacity(SPARE_KEYS);
    for _ in 0..SPARE_KEYS {
        keys.push(fresh_key()?);
    }
    Ok((fresh_key()?, keys))
}

fn fresh_key() -> Result<SecretKey, ErrorData> {
    let mut bytes = [0; 32];
    state::fill_random(&mut bytes)?;
    Ok(SecretKey::from_random(bytes))
}

/// The agent must not leave while a session is still on its way to it, nor before the daemon's own time.
pub(super) fn own_idle(idle: Duration) -> Duration {
    (idle + MARGIN).max(Duration::from_secs(15))
}

pub(super) fn write(state: &StateFolder, record: &AgentRecord) {
    if let Err(error) = record.write(state) {
        let agent = &record.agent;
        tracing::error!(agent, %error, "an agent's record cannot be written; it ends by itself when idle");
    }
}

/// Gives a session one of the agent's spare keys, or has the agent admit a fresh one.
pub(super) fn give(
    events: &EventSender,
    state: &StateFolder,
    name: &str,
    record: &mut AgentRecord,
    wanted: Wanted,
    warmth: Warmth,
) {
    record.endpoint = wanted.spec.way_to(&record.endpoint);
    if let Some(key) = record.spare.pop() {
        // Written first: a daemon that takes over must not give the same key to another session.
        write(state, record);
        let warm = warmth == Warmth::Warm;
        let given = Given { agent: name.to_owned(), endpoint: record.endpoint.clone(), key, warm };
        return answer(wanted.reply, Ok(given));
    }
    let (events, agent, record) = (events.clone(), name.to_owned(), record.clone());
    tokio::spawn(async move {
        let result = match (fresh_key(), &record.place) {
            (Err(error), _) => Err(error),
            (Ok(key), Place::Process { admin, .. }) => local::admit(admin, key.public()).await.map(|()| key),
            (Ok(key), Place::Job { .. }) => cluster::admit_more(&record, key.public()).await.map(|()| key),
            (Ok(_), Place::Container { .. }) => {
                let help = "start it again: another agent is made for it";
                Err(ErrorData::new(ErrorKind::TargetBusy, "the agent has no key left for a session", help))
            }
        };
        send(&events, Event::AgentAdmitted { agent, wanted, result });
    });
}

/// Reports the end of an agent of this machine, and in a cluster the leaving of the pod that it looks at; the end of an
/// agent's own pod is seen by the session hosts that use it. Dropped, it reports nothing any more.
pub(super) fn watch(events: &EventSender, agent: String, record: &AgentRecord) -> DropGuard {
    let (events, record, cancel) = (events.clone(), record.clone(), CancellationToken::new());
    let guard = cancel.clone().drop_guard();
    tokio::spawn(async move {
        let ended = async {
            match (&record.place, &record.spec) {
                (Place::Process { pid, start_time, .. }, _) => {
                    if process::lives(*pid, *start_time) {
                        process::wait_for_end(*pid).await;
                    }
                }
                (Place::Job { .. } | Place::Container { .. }, Some(AgentSpec::Cluster(spec))) => {
                    let mut spec = spec.clone();
                    spec.access = cluster::agent::way_of(&record.endpoint).unwrap_or_default();
                    cluster::until_target_leaves(&spec).await;
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended => send(&events, Event::AgentGone { agent }),
            () = cancel.cancelled() => {}
        }
    });
    guard
}

pub(super) async fn remove(state: &StateFolder, record: &AgentRecord) -> Result<(), ErrorData> {
    match &record.place {
        Place::Process { pid, start_time, .. } => {
            local::remove(state, &record.agent, *pid, *start_time).await;
            Ok(())
        }
        Place::Job { .. } | Place::Container { .. } => {
            cluster::agent::remove(record).await?;
            state::remove(&state.agent(&record.agent, "json")).map_err(|error| {
                ErrorData::new(
                    ErrorKind::Internal,
                    "an agent's record cannot be removed",
                    "remove it by hand",
                )
                .caused_by(&error)
            })
        }
    }
}
