//! `session/attach`.

use super::no_such_session;
use crate::main_loop::{Answer, Ask, Daemon, Event, answer, send};
use crate::plans::reattach::Program;
use protocol::ide::{Attached, SessionAttach, SessionNews};
use serde_json::Value;
use tokio::sync::oneshot;

/// A request whose program was looked for.
#[derive(Debug)]
pub struct Found {
    session: String,
    /// The patch, or why there is none.
    patch: Result<Value, String>,
    reply: oneshot::Sender<Answer<Attached>>,
}

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionAttach>) {
    let program = ask.params.reattach.then(|| program(daemon, &ask));
    let Some(session) = daemon.sessions.get_mut(&ask.params.session) else {
        answer(ask.reply, Err(no_such_session(&ask.params.session)));
        return;
    };
    let mut missed = 0;
    for event in session.kept.iter().filter(|event| event.seq > ask.params.from_seq) {
        if !ask.outbox.notify::<SessionNews>(event) {
            missed += 1;
        }
    }
    session.followers.insert(ask.client, missed);
    // A window that was reloaded follows its plans' next sessions too.
    if let Some(plan) = session.plan.as_ref().and_then(|plan| daemon.plans.get_mut(plan)) {
        plan.client.get_or_insert(ask.client);
    }
    let (session, reply) = (ask.params.session, ask.reply);
    match program {
        None => attached(daemon, &session, None, reply),
        Some(Err(reason)) => attached(daemon, &session, Some(Err(reason)), reply),
        Some(Ok(program)) => {
            let events = daemon.events.clone();
            tokio::spawn(async move {
                let patch = program.patch().await;
                send(&events, Event::ProgramFound(Found { session, patch, reply }));
            });
        }
    }
}

/// What a debugger is to get hold of again, or why it is not to.
fn program(daemon: &Daemon, ask: &Ask<SessionAttach>) -> Result<Program, String> {
    let session = daemon.sessions.get(&ask.params.session).ok_or("it has ended")?;
    let (name, plan) = session
        .plan
        .as_ref()
        .and_then(|name| daemon.plans.get_key_value(name))
        .ok_or("the daemon that started it was replaced")?;
    if plan.client.is_some_and(|client| client != ask.client) {
        return Err("another window debugs it".to_owned());
    }
    if plan.broke_off {
        return Err("its editor crashed".to_owned());
    }
    let status = session.status.as_ref().ok_or("its program does not run yet")?;
    Ok(Program {
        kind: plan.kind.clone(),
        folder: daemon.state.plan(name),
        pid: status.debuggee_pid,
        served: status.ports.iter().map(|port| port.local_port).collect(),
    })
}

pub(crate) fn found(daemon: &Daemon, found: Found) {
    let Found { session, patch, reply } = found;
    attached(daemon, &session, Some(patch), reply);
}

/// Answers with the session as it is by now.
fn attached(
    daemon: &Daemon,
    session: &str,
    reattach: Option<Result<Value, String>>,
    reply: oneshot::Sender<Answer<Attached>>,
) {
    let (reattach, reattach_refused) = match reattach {
        None => (None, None),
        Some(Ok(patch)) => (Some(patch), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    let session = daemon.sessions.get(session).ok_or_else(|| no_such_session(session));
    let info = session.map(|session| daemon.info(session));
    answer(reply, info.map(|info| Attached { info, reattach, reattach_refused }));
}
