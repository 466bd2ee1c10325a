//! `session/redeem`: what waits for the plan is handed out; else a session is started for it.

use super::{no_such_plan, session_start};
use crate::launch;
use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{SessionRedeem, StartParams};
use std::collections::BTreeSet;

/// How long a plan's former program has to end by itself.
const GRACE_MS: u32 = 3000;

/// A request that waits for the plan's former program to end.
#[derive(Debug)]
pub(crate) struct Pending {
    former: BTreeSet<String>,
    ask: Ask<SessionRedeem>,
}

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionRedeem>) {
    let Some(plan) = daemon.plans.get(&ask.params.plan) else {
        let error = no_such_plan(&ask.params.plan);
        return answer(ask.reply, Err(error));
    };
    // Nobody else ends a program that its debugger leaves alone, and the next one wants its port.
    let former: BTreeSet<String> = daemon
        .sessions
        .values()
        .filter(|session| plan.editor_stops && session.plan.as_ref() == Some(&ask.params.plan))
        .filter(|session| session.host.is_some())
        .map(|session| session.record.session.clone())
        .collect();
    if former.is_empty() {
        return redeem(daemon, ask);
    }
    for session in &former {
        tracing::info!(session, "its plan is run anew");
        daemon.stop_session(session, GRACE_MS);
    }
    daemon.redeems.push(Pending { former, ask });
}

impl Daemon {
    /// A session has ended: the plans that waited for it go on.
    pub(crate) fn redeem_after(&mut self, session: &str) {
        for pending in &mut self.redeems {
            pending.former.remove(session);
        }
        let (free, waiting) =
            std::mem::take(&mut self.redeems).into_iter().partition(|pending| pending.former.is_empty());
        self.redeems = waiting;
        for Pending { ask, .. } in free {
            redeem(self, ask);
        }
    }
}

fn redeem(daemon: &mut Daemon, ask: Ask<SessionRedeem>) {
    let Ask { client, outbox, params, reply } = ask;
    let Some(plan) = daemon.plans.get_mut(&params.plan) else {
        return answer(reply, Err(no_such_plan(&params.plan)));
    };
    if let Some(mut started) = plan.ready.take() {
        if let Some(ticket) = &mut started.ticket {
            ticket.network.incoming.debugger_ports.extend(launch::debugger_ports(&params.launch));
        }
        // From here on the session is the front's: it ends with that connection until its host listens.
        if let Some(session) = daemon.sessions.get_mut(&started.session) {
            session.owner = Some(client);
        }
        return answer(reply, Ok(started));
    }
    let start = StartParams {
        config: plan.config.clone(),
        launch: params.launch,
        events: false,
        plan: Some(params.plan),
        work_done_token: params.work_done_token,
    };
    session_start::start(
        daemon,
        Ask { client, outbox, params: start, reply },
        session_start::Ticket::HandOut,
    );
}
