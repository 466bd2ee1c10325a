//! `namespace/list`.

use crate::main_loop::{Ask, answer};
use crate::target;
use protocol::ide::NamespaceList;

pub(crate) fn handle(ask: Ask<NamespaceList>) {
    tokio::spawn(async move {
        let Ask { params, mut reply, .. } = ask;
        let outcome = tokio::select! {
            outcome = target::namespaces(&params) => outcome,
            () = reply.closed() => return,
        };
        answer(reply, outcome);
    });
}
