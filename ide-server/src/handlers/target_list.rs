//! `target/list`: a task asks the cluster and sends batches as they come.

use crate::main_loop::{Ask, Daemon, answer};
use crate::target;
use protocol::ide::{TargetBatch, TargetItem, TargetList};

pub(crate) fn handle(daemon: &Daemon, ask: Ask<TargetList>) {
    let in_use: Vec<(String, String)> = daemon
        .sessions
        .values()
        .map(|session| (session.record.target.path.clone(), session.record.session.clone()))
        .collect();
    tokio::spawn(async move {
        let Ask { params, outbox, mut reply, .. } = ask;
        let token = params.partial_result_token.clone();
        let mut kept: Vec<TargetItem> = Vec::new();
        let mut on_batch = |mut items: Vec<TargetItem>| {
            for item in &mut items {
                let users = in_use.iter().filter(|(path, _)| *path == item.path);
                item.in_use_by = users.map(|(_, session)| session.clone()).collect();
            }
            let sent = token.as_ref().is_some_and(|token| {
                let batch = TargetBatch { items: items.clone() };
                outbox.progress(token, &batch)
            });
            // What a slow client's queue had no room for comes with the answer.
            if !sent {
                kept.append(&mut items);
            }
        };
        let listing = target::list(&params, &mut on_batch);
        let outcome = tokio::select! {
            outcome = listing => outcome,
            () = reply.closed() => return,
        };
        answer(reply, outcome.map(|targets| protocol::ide::Targets { items: kept, ..targets }));
    });
}
