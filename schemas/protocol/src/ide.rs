//! The wire between editors, the command line and the daemon: JSON-RPC 2.0 with LSP framing on a Unix socket.
//!
//! A method is declared once, here, beside its meaning; `docs/protocol-ide.md` is generated from these comments and
//! compared by a test. Fields are camelCase, unknown fields are skipped, absent ones have defaults, so that an editor
//! of another version still understands. The standard LSP methods (`initialize`, `shutdown`, `exit`,
//! `$/cancelRequest`, `$/progress`) keep their meaning and are not declared again.

mod config;
mod daemon;
mod error;
mod explain;
mod plan;
mod progress;
mod session;
mod target;

pub use config::*;
pub use daemon::*;
pub use error::*;
pub use explain::*;
pub use plan::*;
pub use progress::*;
pub use session::*;
pub use target::*;

use serde::{Serialize, de::DeserializeOwned};

/// The protocol that this build speaks on the editor's wire; it stands in the socket's name.
pub const IDE_PROTOCOL: u32 = 1;

/// A request and its answer.
pub trait Method {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// What is sent.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What comes back.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// A message without an answer.
pub trait Notice {
    /// The notification's name on the wire.
    const NAME: &'static str;
    /// What is sent.
    type Params: Serialize + DeserializeOwned + Send + Sync + 'static;
}
