//! What happens to a session between its start and its end; all of it in the main loop.

use super::{HostLink, Planned, Session, SessionRecord, host_link};
use crate::main_loop::{ClientId, Daemon, Event, answer, send};
use crate::plans::Plan;
use crate::state;
use protocol::host::{AgentState, HostCommand, HostEvent, SessionEvent};
use protocol::ide::{ErrorData, EventParams, News, SessionInfo, SessionNews, SessionState, Started};
use std::time::Duration;

/// How long a session waits for its host when the connection that it belongs to is gone: an editor that reloads starts
/// the host within this time or not at all.
const LEASE: Duration = Duration::from_secs(5);
/// The command line holds its connection until its program has ended; what is still there then answers at once.
const LEASE_WITHOUT_EDITOR: Duration = Duration::from_millis(300);
/// How long an editor may be away from what it started.
pub(crate) const EDITOR_LEASE: Duration = Duration::from_secs(30);
/// How long a program of an editor that has not come back has to end by itself.
const GRACE_MS: u32 = 3000;
/// How long an editor's program may take to come before the user is told.
const PROGRAM: Duration = Duration::from_secs(5);
/// The same where a shell of the user's comes first, which may have much to read before it does what it is told.
const PROGRAM_OF_A_SHELL: Duration = Duration::from_secs(30);
/// How long a session waits for its host at all.
const LONGEST_LEASE: Duration = Duration::from_secs(120);

impl Daemon {
    /// Takes over what an earlier daemon left behind.
    pub(crate) fn adopt(&mut self) {
        self.remove_old_plans();
        self.adopt_agents();
        match SessionRecord::read_all(&self.state) {
            Ok((records, strange)) => {
                for record in records {
                    tracing::info!(session = record.session, "taking over a session");
                    self.adopt_session(record);
                }
                for name in strange {
                    tracing::warn!(name, "a session's folder without a readable record is removed");
                    self.remove_folder(&name);
                }
            }
            Err(error) => tracing::error!(%error, "the sessions of an earlier daemon cannot be read"),
        }
        self.start_idle_times();
    }

    fn adopt_session(&mut self, record: SessionRecord) {
        let name = record.session.clone();
        if let Some(agent) = record.agent.as_ref().and_then(|agent| self.agents.get_mut(agent)) {
            agent.sessions.insert(name.clone());
        }
        let session = Session::new(record, SessionState::Ready, None);
        self.follow_host(&session);
        self.lease(&session, LEASE);
        self.sessions.insert(name, session);
    }

    fn follow_host(&self, session: &Session) {
        let name = session.record.session.clone();
        let socket = self.state.session(&name).join("host.sock");
        host_link::spawn(name, socket, session.seq, self.events.clone(), session.cancel.clone());
    }

    fn lease(&self, session: &Session, time: Duration) {
        let (events, cancel) = (self.events.clone(), session.cancel.clone());
        let session = session.record.session.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => send(&events, Event::LeaseOver { session }),
                () = cancel.cancelled() => {}
            }
        });
    }

    /// The start task has an answer: the session waits for its host now, or is forgotten.
    pub(crate) fn session_planned(&mut self, name: &str, result: Result<Box<Planned>, ErrorData>) {
        let planned = match result {
            Ok(planned) => planned,
            Err(error) => {
                tracing::info!(session = name, kind = error.kind.word(), "a session did not start: {error}");
                self.end_session(name, "it could not be started");
                return;
            }
        };
        let Planned { record, started, reply } = *planned;
        let Some(session) = self.sessions.get_mut(name).filter(|_| !reply.is_closed()) else {
            self.end_session(name, "its request was taken back");
            return;
        };
        session.record = record;
        if let Err(error) = session.record.write(&self.state) {
            let error = start_failed(&error);
            answer(reply, Err(error));
            self.end_session(name, "its record could not be written");
            return;
        }
        let keeps_ticket = session.keeps_ticket;
        let plan = session.plan.clone();
        let answered =
            match plan.as_deref().filter(|_| keeps_ticket).and_then(|plan| self.plans.get_mut(plan)) {
                Some(plan) => {
                    plan.ready = Some(started.clone());
                    Started { ticket: None, ..started }
                }
                None => started,
            };
        answer(reply, Ok(answered));
        self.set_state(name, SessionState::Ready, "waiting for the program");
        if plan.is_some() {
            self.expect_program(name);
        }
        if let Some(session) = self.sessions.get(name) {
            self.follow_host(session);
            self.lease(session, LONGEST_LEASE);
        }
    }

    /// A session for people and editors, as it is now.
    pub(crate) fn info(&self, session: &Session) -> SessionInfo {
        let plan = session.plan.as_ref().and_then(|plan| self.plans.get(plan));
        session.info(plan.is_some_and(|plan| plan.client.is_some()))
    }

    /// The connection that a session belongs to is gone: without a host it has little time left.
    pub(crate) fn client_left(&mut self, client: ClientId, is_editor: bool, said_goodbye: bool) {
        let mut orphans = Vec::new();
        for (name, session) in &mut self.sessions {
            session.followers.remove(&client);
            if session.owner == Some(client) {
                session.owner = None;
                orphans.push(name.clone());
            }
        }
        for (name, plan) in self.plans.iter_mut().filter(|(_, plan)| plan.client == Some(client)) {
            plan.client = None;
            plan.broke_off = !said_goodbye;
            plan.absences += 1;
            let absence = plan.absences;
            let (events, plan) = (self.events.clone(), name.clone());
            tokio::spawn(async move {
                tokio::time::sleep(EDITOR_LEASE).await;
                send(&events, Event::PlanLeaseOver { plan, absence });
            });
        }
        let lease = if is_editor { LEASE } else { LEASE_WITHOUT_EDITOR };
        for session in orphans.iter().filter_map(|name| self.sessions.get(name)) {
            self.lease(session, lease);
        }
    }

    /// Has the editor told when no program came under a session in time.
    fn expect_program(&self, name: &str) {
        let Some(session) = self.sessions.get(name) else { return };
        let plan = session.plan.as_ref().and_then(|plan| self.plans.get(plan));
        let time = if plan.is_some_and(|plan| plan.in_terminal) { PROGRAM_OF_A_SHELL } else { PROGRAM };
        let (events, cancel, session) = (self.events.clone(), session.cancel.clone(), name.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => send(&events, Event::ProgramDue { session }),
                () = cancel.cancelled() => {}
            }
        });
    }

    pub(crate) fn program_due(&mut self, name: &str) {
        let Some(session) = self.sessions.get(name) else { return };
        if session.host.is_none() {
            let plan = session.plan.as_ref().and_then(|plan| self.plans.get(plan));
            let fields = plan.map(|plan| plan.fields.join(" and ")).unwrap_or_default();
            let message = if plan.is_some_and(|plan| plan.in_terminal) {
                let seconds = PROGRAM_OF_A_SHELL.as_secs();
                format!(
                    "no shell came under the session within {seconds} s; see what its terminal says, and open it again"
                )
            } else {
                let seconds = PROGRAM.as_secs();
                format!(
                    "no process came under the session within {seconds} s: the debugger does not start its program by \
                     what mirrord-ide has set in the launch configuration ({fields}); update the debugger's extension, \
                     or start the program by `mirrord-ide exec` and attach to it"
                )
            };
            let happened = SessionEvent::Warning { code: "not-covered".to_owned(), message };
            self.publish(name, state::now(), News::Happened { happened });
        }
    }

    /// The editor of a plan has not come back: what it debugged has nobody who would look at it.
    pub(crate) fn plan_lease_over(&mut self, name: &str, absence: u64) {
        let came_back = |plan: &Plan| plan.client.is_some() || plan.absences != absence;
        if self.plans.get(name).is_none_or(came_back) {
            return;
        }
        let of_plan = |session: &&Session| session.plan.as_deref() == Some(name);
        let sessions: Vec<String> =
            self.sessions.values().filter(of_plan).map(|session| session.record.session.clone()).collect();
        if sessions.is_empty() {
            self.remove_plan(name);
        }
        for session in sessions {
            tracing::info!(session, "its editor has not come back");
            self.stop_session(&session, GRACE_MS);
        }
    }

    pub(crate) fn lease_over(&mut self, name: &str) {
        let waiting = |session: &&Session| session.host.is_none() && session.state != SessionState::Starting;
        if self.sessions.get(name).filter(waiting).is_some() {
            self.end_session(name, "its program never came");
        }
    }

    pub(crate) fn host_up(&mut self, name: &str, link: HostLink) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        session.owner = None;
        let stopping = session.state == SessionState::Ending;
        if stopping {
            link.command(HostCommand::Stop { grace_ms: 0 });
        }
        session.host = Some(link);
        if !stopping {
            self.set_state(name, SessionState::Running, "the program runs");
        }
    }

    pub(crate) fn host_said(&mut self, name: &str, event: HostEvent) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        match event {
            HostEvent::Status(status) => session.status = Some(status),
            HostEvent::Happened { number, at, event } => {
                session.seq = number;
                note(session, &event);
                let lost = matches!(
                    event,
                    SessionEvent::Agent { state: AgentState::Reconnecting | AgentState::Lost, .. }
                );
                let news = News::Happened { happened: event };
                self.publish(name, at, news);
                if lost {
                    self.agent_lost_by(name);
                }
            }
            HostEvent::Explained { .. } => {}
            HostEvent::Refused(failure) => {
                tracing::warn!(
                    session = name,
                    kind = failure.kind,
                    "a session host refused: {}",
                    failure.message
                );
                let event = SessionEvent::Warning { code: failure.kind, message: failure.message };
                self.publish(name, state::now(), News::Happened { happened: event });
            }
        }
    }

    pub(crate) fn host_gone(&mut self, name: &str, reason: &str) {
        self.end_session(name, reason);
    }

    /// Begins the end of a session; `host_gone` completes it where there is a host.
    pub(crate) fn stop_session(&mut self, name: &str, grace_ms: u32) {
        let Some(session) = self.sessions.get(name) else { return };
        let Some(link) = session.host.clone() else {
            self.end_session(name, "it was stopped");
            return;
        };
        link.command(HostCommand::Stop { grace_ms });
        let cancel = session.cancel.clone();
        self.set_state(name, SessionState::Ending, "it is being stopped");
        // A host that does not end by itself is killed: what it holds are kernel objects that go with it.
        tokio::spawn(async move {
            let patience = Duration::from_millis(u64::from(grace_ms)) + Duration::from_secs(3);
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = cancel.cancelled() => return,
            }
            if let Some(pid) = link.pid {
                tracing::warn!(pid, "a session host did not end in time and is killed");
                crate::agents::process::kill(pid);
            }
        });
    }

    /// The end: tasks, folder, the agent's lease, and those who wait for it.
    pub(crate) fn end_session(&mut self, name: &str, reason: &str) {
        self.set_state(name, SessionState::Ended, reason);
        let Some(session) = self.sessions.remove(name) else { return };
        tracing::info!(session = name, reason, "a session ended");
        session.cancel.cancel();
        if let Some(plan) = session.plan.as_ref().and_then(|plan| self.plans.get_mut(plan)) {
            plan.ready.take_if(|ready| ready.session == name);
        }
        self.forget_lonely_plans();
        self.remove_folder(name);
        self.release_agents_of(name);
        self.note_end_of_session(name);
        self.redeem_after(name);
    }

    fn remove_folder(&self, name: &str) {
        if let Err(error) = state::remove(&self.state.session(name)) {
            tracing::error!(session = name, %error, "a session's folder cannot be removed");
        }
    }

    fn set_state(&mut self, name: &str, state: SessionState, message: &str) {
        if let Some(session) = self.sessions.get_mut(name)
            && session.state != state
        {
            session.state = state;
            self.publish(name, state::now(), News::State { state, message: message.to_owned() });
        }
    }

    /// Keeps an event of a session and sends it to its followers.
    pub(crate) fn publish(&mut self, name: &str, at: u64, event: News) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        let params = EventParams {
            session: name.to_owned(),
            plan: session.plan.clone(),
            seq: session.seq,
            at,
            missed: 0,
            event,
        };
        for (client, missed) in &mut session.followers {
            let Some(client) = self.clients.get(client) else { continue };
            let sent =
                client.outbox.notify::<SessionNews>(&EventParams { missed: *missed, ..params.clone() });
            *missed = if sent { 0 } else { *missed + 1 };
        }
        session.keep(params);
    }
}

/// Keeps the status true to the events, so that a list needs no question to the host.
fn note(session: &mut Session, event: &SessionEvent) {
    let Some(status) = &mut session.status else { return };
    match event {
        SessionEvent::Port(port) => {
            status.ports.retain(|known| known.pod_port != port.pod_port);
            status.ports.push(port.clone());
        }
        SessionEvent::PortClosed { pod_port } => status.ports.retain(|known| known.pod_port != *pod_port),
        SessionEvent::Connection { pod_port, .. } => {
            for port in status.ports.iter_mut().filter(|port| port.pod_port == *pod_port) {
                port.connections += 1;
            }
        }
        SessionEvent::Agent { state, .. } => status.agent = *state,
        SessionEvent::Process { .. } | SessionEvent::Warning { .. } | SessionEvent::Ended { .. } => {}
    }
}

fn start_failed(error: &std::io::Error) -> ErrorData {
    ErrorData::new(
        protocol::ide::ErrorKind::Internal,
        "the session's record cannot be written",
        "make room in the state folder that `mirrord-ide status` names",
    )
    .caused_by(error)
}
