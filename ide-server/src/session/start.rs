//! The task behind `session/start`: config, target, agent, ticket, in this order, with each step told.

use super::plan;
use super::record::SessionRecord;
use crate::agents::{Given, Wanted};
use crate::config::{self, Resolved};
use crate::embedded;
use crate::main_loop::{Answer, Ask, Event, EventSender, answer, send};
use crate::rpc::connection::Outbox;
use crate::state::StateFolder;
use crate::target::{self, Chosen};
use protocol::host::Ticket;
use protocol::ide::{ErrorData, ErrorKind, SessionStart, StartParams, Started, WorkProgress};
use std::os::unix::fs::DirBuilderExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What the task is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) state: StateFolder,
    pub(crate) events: EventSender,
    pub(crate) record: SessionRecord,
    pub(crate) cancel: CancellationToken,
    pub(crate) ask: Ask<SessionStart>,
}

/// A session that is ready for its program.
#[derive(Debug)]
pub struct Planned {
    /// What is written of it.
    pub(crate) record: SessionRecord,
    /// The answer.
    pub(crate) started: Started,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Answer<Started>>,
}

/// Tells the steps of a start to whoever asked for it.
#[derive(Clone, Debug)]
pub struct Steps {
    to: Option<(Outbox, serde_json::Value)>,
}

impl Steps {
    /// Steps under a request's `workDoneToken`; without one they are told to nobody.
    pub fn new(outbox: Outbox, token: Option<serde_json::Value>) -> Self {
        Self { to: token.map(|token| (outbox, token)) }
    }

    /// Steps that nobody asked for.
    pub fn to_nobody() -> Self {
        Self { to: None }
    }

    /// Tells one step.
    pub fn report(&self, message: impl Into<String>) {
        self.send(&WorkProgress::Report { message: message.into() });
    }

    fn send(&self, value: &WorkProgress) {
        if let Some((outbox, token)) = &self.to
            && !outbox.progress(token, value)
        {
            tracing::debug!("a client is too slow for the steps of its start");
        }
    }
}

/// Starts the task. It ends with exactly one `SessionPlanned`.
pub(crate) fn spawn(context: Context) {
    tokio::spawn(async move {
        let Context { state, events, record, cancel, ask } = context;
        let Ask { params, outbox, mut reply, .. } = ask;
        let steps = Steps::new(outbox, params.work_done_token.clone());
        steps.send(&WorkProgress::Begin { title: "Starting a session".to_owned(), cancellable: true });
        let name = record.session.clone();
        let outcome = tokio::select! {
            outcome = prepare(&state, &events, record, &params, &steps) => outcome,
            () = reply.closed() => Err(taken_back()),
            () = cancel.cancelled() => Err(taken_back()),
        };
        let message = outcome.as_ref().err().map(|error| error.message.clone());
        steps.send(&WorkProgress::End { message });
        let result = match outcome {
            Ok((record, started)) => Ok(Box::new(Planned { record, started, reply })),
            Err(error) => {
                answer(reply, Err(error.clone()));
                Err(error)
            }
        };
        send(&events, Event::SessionPlanned { session: name, result });
    });
}

fn taken_back() -> ErrorData {
    ErrorData::new(ErrorKind::Cancelled, "the session was taken back while it started", "start it again")
}

async fn prepare(
    state: &StateFolder,
    events: &EventSender,
    mut record: SessionRecord,
    params: &StartParams,
    steps: &Steps,
) -> Result<(SessionRecord, Started), ErrorData> {
    let resolved = config::resolve_aside(&params.config).await?;
    let chosen = target::choose(&resolved, steps).await?;
    let layer = embedded::layer()?;

    steps.report(format!("preparing the agent for {}", chosen.summary.path));
    let given = agent_for(events, &record, &resolved, &chosen, steps).await?;

    let folder = state.session(&record.session);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| internal("the session's folder cannot be made").caused_by(&error))?;
    record.target = chosen.summary.clone();
    record.public_key = given.key.public().to_string();
    record.agent = Some(given.agent);

    let mut notices = resolved.notices.clone();
    notices.extend(chosen.notices.iter().cloned());
    let network = plan::network(&resolved, &chosen, &params.launch);
    let mode = plan::mode_word(network.incoming.mode).to_owned();
    let ticket = Ticket {
        session: record.session.clone(),
        folder: folder.display().to_string(),
        endpoint: given.endpoint,
        key: given.key,
        target: chosen.summary.clone(),
        env: plan::env(&resolved, &chosen)?,
        files: plan::files(&resolved, &chosen),
        network,
        hostname: resolved.config.hostname(),
        skip_processes: resolved.skip_processes(),
        user: user_name(),
        host: host_name(),
        layer: layer.map(|path| path.display().to_string()),
    };
    let started = Started {
        session: record.session.clone(),
        target: chosen.summary.clone(),
        folder: folder.display().to_string(),
        ticket: Some(ticket),
        config: resolved.file.as_ref().map(|file| file.display().to_string()),
        mode,
        identity: chosen.identity.clone(),
        notices,
        warm: given.warm,
    };
    Ok((record, started))
}

async fn agent_for(
    events: &EventSender,
    record: &SessionRecord,
    resolved: &Resolved,
    chosen: &Chosen,
    steps: &Steps,
) -> Result<Given, ErrorData> {
    let (reply, given) = oneshot::channel();
    let wanted = Wanted {
        session: record.session.clone(),
        spec: chosen.agent.clone(),
        idle: resolved.config.agent().idle.map(std::time::Duration::from_secs),
        steps: steps.clone(),
        reply,
    };
    send(events, Event::AgentWanted(wanted));
    given.await.map_err(|_| crate::handlers::shutting_down())?
}

fn internal(message: &str) -> ErrorData {
    ErrorData::new(ErrorKind::Internal, message, "see daemon.log in the state folder")
}

/// The user's name, for "held by".
pub(crate) fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The laptop's host name.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}
