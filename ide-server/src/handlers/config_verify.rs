//! `config/verify`.

use crate::config;
use crate::main_loop::{Ask, answer};
use protocol::ide::ConfigVerify;

pub(crate) fn handle(ask: Ask<ConfigVerify>) {
    // Reading and checking takes well under a millisecond, but the file may lie on a network share.
    tokio::task::spawn_blocking(move || answer(ask.reply, config::verify(&ask.params)));
}
