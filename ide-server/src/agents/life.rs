//! What happens to an agent between its first session and its end; all of it in the main loop.

use super::work::{Warmth, fresh_keys, give, own_idle, remove, watch, write};
use super::{Agent, AgentRecord, AgentSpec, Given, NotMade, Order, Phase, Place, Wanted, local, process};
use crate::cluster;
use crate::embedded;
use crate::handlers;
use crate::main_loop::{Daemon, Event, answer, send};
use crate::session::start::Steps;
use crate::state;
use protocol::auth::{PublicKey, SecretKey};
use protocol::host::{HostCommand, SessionEvent};
use protocol::ide::{ErrorData, News};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long an agent stays after its last session, from a terminal and while an editor is connected.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_WITH_EDITOR: Duration = Duration::from_secs(600);
/// An agent that lasted no longer than this did not last.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// So many that did not last, one after the other, are enough: the next would do no better.
const ATTEMPTS: u32 = 3;
/// How often and how long a lost agent is looked after.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 60;

impl Daemon {
    /// A session needs an agent: one that is there, one that is being made, or a fresh one.
    pub(crate) fn agent_wanted(&mut self, wanted: Wanted) {
        if wanted.reply.is_closed() {
            return;
        }
        let keys = wanted.spec.fitting_keys();
        let fitting = self.agents.iter().find(|(_, agent)| keys.contains(&agent.key) && agent.takes_more());
        match fitting.map(|(name, _)| name.clone()) {
            Some(name) => self.join_agent(&name, wanted),
            None => self.make_agent_for(wanted),
        }
    }

    fn join_agent(&mut self, name: &str, wanted: Wanted) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.sessions.insert(wanted.session.clone());
        match &mut agent.phase {
            Phase::Starting { waiting, .. } => waiting.push(wanted),
            Phase::Ready(record) => {
                // Should it be lost, the latest login is the one to make another by, which does for all its sessions.
                agent.spec = Some(wanted.spec.clone().covering(agent.spec.as_ref()));
                let (events, state) = (self.events.clone(), &self.state);
                give(&events, state, name, record, wanted, Warmth::Warm);
            }
            Phase::Leaving(_) => self.make_agent_for(wanted),
        }
    }

    fn make_agent_for(&mut self, wanted: Wanted) {
        let idle = wanted.idle.unwrap_or(if self.has_editor() { IDLE_WITH_EDITOR } else { IDLE });
        let (spec, steps, session) = (wanted.spec.clone(), wanted.steps.clone(), wanted.session.clone());
        let prepared = state::fresh_name().and_then(|name| Ok((name, fresh_keys()?)));
        let (name, (own, spare)) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return answer(wanted.reply, Err(error)),
        };
        let keys = [&own].into_iter().chain(&spare).map(SecretKey::public).collect();
        let cancel = CancellationToken::new();
        let idle_itself = own_idle(idle);
        let order =
            Order { agent: name.clone(), session, again: false, own, keys, idle: idle_itself, steps, cancel };
        let phase =
            Phase::Starting { cancel: order.cancel.clone(), waiting: Vec::new(), spare, moving: Vec::new() };
        self.make_agent(name.clone(), spec, idle, phase, order);
        self.join_agent(&name, wanted);
    }

    fn make_agent(&mut self, name: String, spec: AgentSpec, idle: Duration, phase: Phase, order: Order) {
        let agent = Agent {
            key: spec.key(),
            target: spec.target(),
            spec: Some(spec.clone()),
            idle,
            phase,
            sessions: BTreeSet::new(),
            period: 0,
            since: Instant::now(),
            short_lived: 0,
            watched: None,
        };
        self.agents.insert(name.clone(), agent);
        let (state, events) = (self.state.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = match &spec {
                AgentSpec::Local(spec) => local::create(&state, spec, &order).await.map_err(Into::into),
                AgentSpec::Cluster(spec) if order.again => {
                    let renewed = tokio::select! {
                        renewed = cluster::renew(spec) => renewed,
                        () = order.cancel.cancelled() => Err(handlers::not_wanted()),
                    };
                    match renewed {
                        Ok(spec) => cluster::agent::create(&state, &spec, &order).await,
                        Err(error) => Err(error.into()),
                    }
                }
                AgentSpec::Cluster(spec) => cluster::agent::create(&state, spec, &order).await,
            };
            send(&events, Event::AgentMade { agent: name, result });
            embedded::give_memory_back();
        });
    }

    pub(crate) fn agent_made(&mut self, name: &str, result: Result<AgentRecord, NotMade>) {
        let mut record = match result {
            Ok(record) => record,
            Err(not_made) => return self.agent_not_made(name, not_made),
        };
        let Some(agent) = self.agents.get_mut(name) else { return };
        record.idle_seconds = agent.idle.as_secs();
        tracing::info!(
            agent = name,
            place = record.place_text(),
            target = record.target,
            "an agent is ready"
        );
        agent.watched = Some(watch(&self.events, name.to_owned(), &record));
        let Phase::Starting { waiting, cancel, spare, moving } =
            std::mem::replace(&mut agent.phase, Phase::Leaving(record.clone()))
        else {
            return;
        };
        record.spare = spare;
        record.ready = true;
        agent.key.clone_from(&record.key);
        agent.target.clone_from(&record.target);
        agent.spec.clone_from(&record.spec);
        write(&self.state, &record);
        let mut warmth = match record.place {
            Place::Job { joined: true, .. } => Warmth::Warm,
            _ => Warmth::Cold,
        };
        for wanted in waiting {
            if wanted.reply.is_closed() {
                agent.sessions.remove(&wanted.session);
            } else {
                give(&self.events, &self.state, name, &mut record, wanted, warmth);
                warmth = Warmth::Warm;
            }
        }
        let (endpoint, target) = (record.endpoint.clone(), record.target.clone());
        agent.phase = Phase::Ready(record);
        for session in moving {
            let message = format!("another agent serves the session, on {target}");
            let event = SessionEvent::Warning { code: "agent-moved".to_owned(), message };
            self.publish(&session, state::now(), News::Happened { happened: event });
            let Some(session) = self.sessions.get_mut(&session) else { continue };
            session.record.agent = Some(name.to_owned());
            if let Err(error) = session.record.write(&self.state) {
                tracing::error!(%error, "a session's record cannot be written");
            }
            if let Some(host) = &session.host {
                host.command(HostCommand::MoveAgent { endpoint: endpoint.clone() });
            }
        }
        let unused = self.agents.get(name).is_some_and(|agent| agent.sessions.is_empty());
        if cancel.is_cancelled() && unused {
            self.remove_agent(name);
        } else {
            self.start_idle_time(name);
        }
    }

    fn agent_not_made(&mut self, name: &str, NotMade { error, left }: NotMade) {
        let Some(mut agent) = self.agents.remove(name) else { return };
        if let Phase::Starting { waiting, moving, .. } = agent.phase {
            for wanted in waiting {
                answer(wanted.reply, Err(error.clone()));
            }
            for session in moving {
                let message = format!("there is no agent any more: {error}");
                let event = SessionEvent::Warning { code: error.kind.word().to_owned(), message };
                self.publish(&session, state::now(), News::Happened { happened: event });
            }
        }
        match left {
            Some(record) => {
                agent.sessions.clear();
                agent.phase = Phase::Ready(*record);
                self.agents.insert(name.to_owned(), agent);
                self.remove_agent(name);
            }
            None => self.note_end_of_agent(name, None),
        }
    }

    pub(crate) fn agent_admitted(
        &mut self,
        name: &str,
        wanted: Wanted,
        result: Result<SecretKey, ErrorData>,
    ) {
        let record = self.agents.get(name).and_then(|agent| match &agent.phase {
            Phase::Ready(record) => Some(record),
            _ => None,
        });
        match (result, record) {
            (Ok(key), Some(record)) => {
                let endpoint = record.endpoint.clone();
                answer(wanted.reply, Ok(Given { agent: name.to_owned(), endpoint, key, warm: true }));
            }
            (result, _) => {
                // An agent that lets nobody in is as good as gone: it is removed and a fresh one made.
                if let Err(error) = result {
                    tracing::warn!(agent = name, %error, "a warm agent did not let a session in");
                }
                self.remove_agent(name);
                self.make_agent_for(wanted);
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

    /// An agent ended by itself or was ended by somebody. Its sessions get another one where that can be had.
    pub(crate) fn agent_gone(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !matches!(agent.phase, Phase::Ready(_)) {
            return;
        }
        let sessions = std::mem::take(&mut agent.sessions);
        let short_lived = if agent.since.elapsed() > SHORT_LIFE { 0 } else { agent.short_lived + 1 };
        let (spec, idle) = (agent.spec.clone().filter(|_| short_lived < ATTEMPTS), agent.idle);
        self.remove_agent(name);
        if sessions.is_empty() {
            tracing::info!(agent = name, "an agent ended");
            return;
        }
        tracing::warn!(agent = name, ?sessions, "an agent is lost");
        match spec {
            Some(spec) => self.replace_agent(spec, idle, sessions, short_lived),
            None => {
                let message = "the agent ended and is not made again";
                for session in sessions {
                    let event =
                        SessionEvent::Warning { code: "agent-lost".to_owned(), message: message.to_owned() };
                    self.publish(&session, state::now(), News::Happened { happened: event });
                }
            }
        }
    }

    fn replace_agent(
        &mut self,
        spec: AgentSpec,
        idle: Duration,
        sessions: BTreeSet<String>,
        short_lived: u32,
    ) {
        let public_key = |session: &String| -> Option<PublicKey> {
            self.sessions.get(session)?.record.public_key.parse().ok()
        };
        let mut keys: Vec<PublicKey> = sessions.iter().filter_map(public_key).collect();
        let (name, (own, spare)) = match state::fresh_name().and_then(|name| Ok((name, fresh_keys()?))) {
            Ok(prepared) => prepared,
            Err(error) => return tracing::error!(%error, "a lost agent cannot be made again"),
        };
        keys.extend([&own].into_iter().chain(&spare).map(SecretKey::public));
        let cancel = CancellationToken::new();
        let moving: Vec<String> = sessions.iter().cloned().collect();
        let order = Order {
            agent: name.clone(),
            session: moving.join("-"),
            again: true,
            own,
            keys,
            idle: own_idle(idle),
            steps: Steps::to_nobody(),
            cancel: cancel.clone(),
        };
        let phase = Phase::Starting { cancel, waiting: Vec::new(), spare, moving };
        self.make_agent(name.clone(), spec, idle, phase, order);
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.sessions = sessions;
            agent.short_lived = short_lived;
        }
    }

    pub(crate) fn agent_removed(&mut self, name: &str, result: Result<(), ErrorData>) {
        let place = self.agents.remove(name).and_then(|agent| Some(agent.record()?.place_text()));
        let left = match result {
            Ok(()) => {
                tracing::info!(agent = name, "an agent is removed");
                None
            }
            Err(error) => {
                tracing::error!(
                    agent = name,
                    kind = error.kind.word(),
                    "an agent cannot be removed: {error}"
                );
                Some(format!("{} is left: {error}", place.unwrap_or_else(|| format!("agent {name}"))))
            }
        };
        self.note_end_of_agent(name, left);
    }

    /// A session host has lost its agent. While the agent lives the host finds it again by itself.
    pub(crate) fn agent_lost_by(&mut self, session: &str) {
        let Some(name) = self.sessions.get(session).and_then(|session| session.record.agent.clone()) else {
            return;
        };
        let Some(Agent { phase: Phase::Ready(record), .. }) = self.agents.get(&name) else { return };
        let (record, events) = (record.clone(), self.events.clone());
        tokio::spawn(async move {
            // The API tells of a pod's end some time after it.
            for _ in 0..LOOKS {
                let is_gone = match &record.place {
                    Place::Process { pid, start_time, .. } => !process::lives(*pid, *start_time),
                    Place::Job { .. } | Place::Container { .. } => cluster::agent::is_gone(&record).await,
                };
                if is_gone {
                    send(&events, Event::AgentGone { agent: name });
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
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
            // The earlier daemon ended while it was made: nobody holds a key to it.
            let is_whole = record.ready;
            let watched = Some(watch(&self.events, name.clone(), &record));
            let agent = Agent {
                watched,
                key: record.key.clone(),
                target: record.target.clone(),
                spec: record.spec.clone().map(|spec| spec.reached_by(&record.endpoint)),
                idle: Duration::from_secs(record.idle_seconds),
                sessions: BTreeSet::new(),
                phase: Phase::Ready(record),
                period: 0,
                since: Instant::now(),
                short_lived: 0,
            };
            self.agents.insert(name.clone(), agent);
            if !is_whole {
                self.remove_agent(&name);
            }
        }
    }
}

impl Agent {
    /// Whether one more session could join.
    fn takes_more(&self) -> bool {
        match &self.phase {
            Phase::Starting { waiting, spare, cancel, .. } => {
                waiting.len() < spare.len() && !cancel.is_cancelled()
            }
            Phase::Ready(record) => {
                !record.spare.is_empty() || !matches!(record.place, Place::Container { .. })
            }
            Phase::Leaving(_) => false,
        }
    }
}
