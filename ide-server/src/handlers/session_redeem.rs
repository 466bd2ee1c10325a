//! `session/redeem`: what waits for the plan is handed out; else a session is started for it.

use super::{no_such_plan, session_start};
use crate::launch;
use crate::main_loop::{Ask, Daemon, answer};
use protocol::ide::{SessionRedeem, StartParams};

pub(crate) fn handle(daemon: &mut Daemon, ask: Ask<SessionRedeem>) {
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
