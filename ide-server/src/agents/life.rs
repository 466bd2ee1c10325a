//! What happens to an agent between its first session and its end; all of it in the main loop.

use super::{Agent, AgentRecord, AgentSpec, Given, Phase, Place, Wanted, local, process};
use crate::cluster;
use crate::main_loop::{Daemon, Event, EventSender, answer, send};
use crate::state::StateFolder;
use protocol::ide::{ErrorData, ErrorKind};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Seconds an agent stays after its last session, from a terminal and while an editor is connected.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_WITH_EDITOR: Duration = Duration::from_secs(600);
/// An agent ends by itself a little after the daemon would have removed it.
const MARGIN: Duration = Duration::from_secs(5);

impl Daemon {
    /// A session needs an agent: one that is there, one that is being made, or a fresh one.
    pub(crate) fn agent_wanted(&mut self, wanted: Wanted) {
        if wanted.reply.is_closed() {
            return;
        }
        let key = wanted.spec.key();
        let fits = |agent: &&mut Agent| agent.key == key && !matches!(agent.phase, Phase::Leaving(_));
        let Some((name, agent)) = self
            .agents
            .iter_mut()
            .find_map(|(name, agent)| Some((name.clone(), agent)).filter(|(_, agent)| fits(agent)))
        else {
            self.make_agent(wanted);
            return;
        };
        agent.sessions.insert(wanted.session.clone());
        match &mut agent.phase {
            Phase::Starting { waiting, .. } => waiting.push(wanted),
            Phase::Ready(record) => admit(&self.events, name, record.clone(), wanted),
            Phase::Leaving(_) => unreachable!("left out above"),
        }
    }

    fn make_agent(&mut self, wanted: Wanted) {
        let name = match crate::state::fresh_name() {
            Ok(name) => name,
            Err(error) => return answer(wanted.reply, Err(error)),
        };
        let idle = wanted.idle.unwrap_or(if self.has_editor() { IDLE_WITH_EDITOR } else { IDLE });
        let (spec, key, steps) = (wanted.spec.clone(), wanted.key, wanted.steps.clone());
        let cancel = CancellationToken::new();
        let agent = Agent {
            key: spec.key(),
            target: spec.target(),
            idle,
            sessions: BTreeSet::from([wanted.session.clone()]),
            phase: Phase::Starting { cancel: cancel.clone(), waiting: vec![wanted] },
            period: 0,
        };
        self.agents.insert(name.clone(), agent);
        let (state, events) = (self.state.clone(), self.events.clone());
        tokio::spawn(async move {
            // The agent must not leave while a session is still on its way to it.
            let own_idle = (idle + MARGIN).max(Duration::from_secs(15));
            let result = match &spec {
                AgentSpec::Local(spec) => local::create(&state, &name, spec, key, own_idle, &cancel).await,
                AgentSpec::Job(spec) => {
                    cluster::agent::create(&name, spec, key, own_idle, &steps, &cancel).await
                }
            };
            send(&events, Event::AgentMade { agent: name, result });
        });
    }

    pub(crate) fn agent_made(&mut self, name: &str, result: Result<AgentRecord, ErrorData>) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let record = match result {
            Ok(record) => record,
            Err(error) => {
                let agent = self.agents.remove(name);
                if let Some(Agent { phase: Phase::Starting { waiting, .. }, .. }) = agent {
                    for wanted in waiting {
                        answer(wanted.reply, Err(error.clone()));
                    }
                }
                self.note_end_of_agent(name);
                return;
            }
        };
        if let Err(error) = record.write(&self.state) {
            tracing::error!(agent = name, %error, "an agent's record cannot be written; it ends by itself when idle");
        }
        tracing::info!(
            agent = name,
            place = record.place_text(),
            target = record.target,
            "an agent is ready"
        );
        let record = AgentRecord { idle_seconds: agent.idle.as_secs(), ..record };
        let phase = std::mem::replace(&mut agent.phase, Phase::Ready(record.clone()));
        let Phase::Starting { waiting, cancel } = phase else { return };
        watch(&self.events, name.to_owned(), &record);
        for (index, wanted) in waiting.into_iter().enumerate() {
            if wanted.reply.is_closed() {
                agent.sessions.remove(&wanted.session);
            } else if index == 0 {
                let given = Given { agent: name.to_owned(), endpoint: record.endpoint.clone(), warm: false };
                answer(wanted.reply, Ok(given));
            } else {
                admit(&self.events, name.to_owned(), record.clone(), wanted);
            }
        }
        if cancel.is_cancelled() && agent.sessions.is_empty() {
            self.remove_agent(name);
        } else {
            self.start_idle_time(name);
        }
    }

    pub(crate) fn agent_admitted(&mut self, name: &str, wanted: Wanted, result: Result<(), ErrorData>) {
        let record = self.agents.get(name).and_then(|agent| match &agent.phase {
            Phase::Ready(record) => Some(record.clone()),
            _ => None,
        });
        match (result, record) {
            (Ok(()), Some(record)) => {
                let given = Given { agent: name.to_owned(), endpoint: record.endpoint, warm: true };
                answer(wanted.reply, Ok(given));
            }
            (result, _) => {
                // An agent that lets nobody in is as good as gone: it is removed and a fresh one made.
                if let Err(error) = result {
                    tracing::warn!(agent = name, %error, "a warm agent let a session not in");
                }
                self.remove_agent(name);
                self.make_agent(wanted);
            }
        }
    }

    /// The sessions of an agent have changed: without any its idle time begins.
    fn start_idle_time(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !agent.sessions.is_empty() || !matches!(agent.phase, Phase::Ready(_)) {
            return;
        }
        agent.period += 1;
        if agent.idle.is_zero() {
            self.remove_agent(name);
            return;
        }
        let (idle, period, events, agent) = (agent.idle, agent.period, self.events.clone(), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(idle).await;
            send(&events, Event::AgentIdle { agent, period });
        });
    }

    pub(crate) fn start_idle_times(&mut self) {
        let names: Vec<String> = self.agents.keys().cloned().collect();
        for name in names {
            self.start_idle_time(&name);
        }
    }

    pub(crate) fn agent_idle(&mut self, name: &str, period: u64) {
        if self.agents.get(name).is_some_and(|agent| agent.period == period && agent.sessions.is_empty()) {
            self.remove_agent(name);
        }
    }

    /// A session holds no agent any more.
    pub(crate) fn release_agents_of(&mut self, session: &str) {
        let held: Vec<String> = self
            .agents
            .iter_mut()
            .filter_map(|(name, agent)| agent.sessions.remove(session).then(|| name.clone()))
            .collect();
        for name in held {
            let Some(agent) = self.agents.get(&name) else { continue };
            match &agent.phase {
                Phase::Starting { cancel, .. } if agent.sessions.is_empty() => cancel.cancel(),
                _ => self.start_idle_time(&name),
            }
        }
    }

    /// Begins the removal of an agent; `agent_removed` completes it.
    pub(crate) fn remove_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let record = match &agent.phase {
            Phase::Starting { cancel, .. } => return cancel.cancel(),
            Phase::Leaving(_) => return,
            Phase::Ready(record) => record.clone(),
        };
        agent.phase = Phase::Leaving(record.clone());
        let (state, events) = (self.state.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = remove(&state, &record).await;
            send(&events, Event::AgentRemoved { agent: record.agent, result });
        });
    }

    /// An agent of this machine ended by itself, or an agent's pod is gone.
    pub(crate) fn agent_gone(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        if matches!(agent.phase, Phase::Ready(_)) {
            if agent.sessions.is_empty() {
                tracing::info!(agent = name, "an agent ended");
            } else {
                tracing::warn!(agent = name, sessions = ?agent.sessions, "an agent is lost");
            }
            self.remove_agent(name);
        }
    }

    pub(crate) fn agent_removed(&mut self, name: &str, result: Result<(), ErrorData>) {
        if let Err(error) = result {
            tracing::error!(agent = name, kind = error.kind.word(), "an agent could not be removed: {error}");
        } else {
            tracing::info!(agent = name, "an agent is removed");
        }
        self.agents.remove(name);
        self.note_end_of_agent(name);
    }

    /// A session host has lost its agent. While the agent lives the host finds it again by itself; else the sessions
    /// that held it learn that there is none, and why.
    pub(crate) fn agent_lost_by(&mut self, session: &str) {
        let Some(agent) = self.sessions.get(session).and_then(|session| session.record.agent.clone()) else {
            return;
        };
        let Some(Agent { phase: Phase::Ready(record), .. }) = self.agents.get(&agent) else { return };
        if let Place::Process { pid, start_time, .. } = record.place
            && !process::lives(pid, start_time)
        {
            self.agent_gone(&agent);
        }
    }

    pub(crate) fn adopt_agents(&mut self) {
        let records = match AgentRecord::read_all(&self.state) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "the agents of an earlier daemon cannot be read");
                return;
            }
        };
        for record in records {
            let name = record.agent.clone();
            tracing::info!(agent = name, place = record.place_text(), "taking over an agent");
            watch(&self.events, name.clone(), &record);
            let agent = Agent {
                key: record.key.clone(),
                target: record.target.clone(),
                idle: Duration::from_secs(record.idle_seconds),
                sessions: BTreeSet::new(),
                phase: Phase::Ready(record),
                period: 0,
            };
            self.agents.insert(name, agent);
        }
    }
}

fn admit(events: &EventSender, agent: String, record: AgentRecord, wanted: Wanted) {
    let events = events.clone();
    tokio::spawn(async move {
        let result = match &record.place {
            Place::Process { admin, .. } => local::admit(admin, wanted.key).await,
            Place::Job { namespace, pod, .. } => {
                cluster::agent::admit(&record.endpoint, namespace, pod, wanted.key).await
            }
        };
        send(&events, Event::AgentAdmitted { agent, wanted, result });
    });
}

/// Reports the end of an agent of this machine. The end of one in a cluster is seen by the session hosts that use it.
fn watch(events: &EventSender, agent: String, record: &AgentRecord) {
    if let Place::Process { pid, start_time, .. } = record.place {
        let events = events.clone();
        tokio::spawn(async move {
            if process::lives(pid, start_time) {
                process::wait_for_end(pid).await;
            }
            send(&events, Event::AgentGone { agent });
        });
    }
}

async fn remove(state: &StateFolder, record: &AgentRecord) -> Result<(), ErrorData> {
    match &record.place {
        Place::Process { pid, start_time, .. } => {
            local::remove(state, &record.agent, *pid, *start_time).await;
            Ok(())
        }
        Place::Job { namespace, name, uid, .. } => {
            cluster::agent::remove(&record.endpoint, namespace, name, uid).await?;
            crate::state::remove(&state.agent(&record.agent, "json")).map_err(|error| {
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
