//! `session/stop`: answers when all that was asked for is gone.

use super::no_such_session;
use crate::main_loop::{Answer, Ask, Daemon, answer};
use protocol::ide::{ErrorData, ErrorKind, SessionStop, Stopped};
use std::collections::BTreeSet;
use tokio::sync::oneshot;

/// How long a program has to end by itself when the request does not say.
const GRACE_MS: u32 = 3000;

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Pending {
    sessions: BTreeSet<String>,
    agents: BTreeSet<String>,
    stopped: Stopped,
    all: bool,
    reply: oneshot::Sender<Answer<Stopped>>,
}

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionStop>) {
    let params = ask.params;
    let sessions: BTreeSet<String> = match (&params.session, params.all) {
        (None, true) => daemon.sessions.keys().cloned().collect(),
        (Some(session), false) if daemon.sessions.contains_key(session) => BTreeSet::from([session.clone()]),
        (Some(session), false) => return answer(ask.reply, Err(no_such_session(session))),
        (Some(_), true) | (None, false) => {
            let help = "name a session, or say all";
            let error =
                ErrorData::new(ErrorKind::InvalidRequest, "it is not clear which session is meant", help);
            return answer(ask.reply, Err(error));
        }
    };
    let grace = params.grace_ms.unwrap_or(GRACE_MS);
    daemon.stops.push(Pending {
        sessions: sessions.clone(),
        agents: BTreeSet::new(),
        stopped: Stopped::default(),
        all: params.all,
        reply: ask.reply,
    });
    for session in sessions {
        daemon.stop_session(&session, grace);
    }
    daemon.look_at_stops();
}

impl Daemon {
    pub(crate) fn note_end_of_session(&mut self, session: &str) {
        for stop in &mut self.stops {
            if stop.sessions.remove(session) {
                stop.stopped.ended.push(session.to_owned());
            }
        }
        self.look_at_stops();
    }

    /// An agent is gone, or `left` says what of it is not.
    pub(crate) fn note_end_of_agent(&mut self, agent: &str, left: Option<String>) {
        for stop in &mut self.stops {
            if stop.agents.remove(agent) {
                match &left {
                    None => stop.stopped.agents.push(agent.to_owned()),
                    Some(left) => stop.stopped.left.push(left.clone()),
                }
            }
        }
        self.look_at_stops();
    }

    /// Sends the agents after the last session where all was asked for, and answers what is complete.
    fn look_at_stops(&mut self) {
        let mut leaving: Vec<String> = Vec::new();
        for stop in self.stops.iter_mut().filter(|stop| stop.all && stop.sessions.is_empty()) {
            stop.all = false;
            // A session that was started meanwhile keeps its agent.
            let unused = self.agents.iter().filter(|(_, agent)| agent.sessions.is_empty());
            stop.agents = unused.map(|(name, _)| name.clone()).collect();
            leaving.extend(stop.agents.iter().cloned());
        }
        let (complete, waiting) = std::mem::take(&mut self.stops)
            .into_iter()
            .partition(|stop: &Pending| !stop.all && stop.sessions.is_empty() && stop.agents.is_empty());
        self.stops = waiting;
        for Pending { stopped, reply, .. } in complete {
            answer(reply, Ok(stopped));
        }
        for agent in leaving {
            self.remove_agent(&agent);
        }
    }
}
