//! What `initialize` carries of ours, and what `$/progress` reports.

use super::target::TargetItem;
use serde::{Deserialize, Serialize};

/// `initializationOptions` of `initialize`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClientOptions {
    /// The client: `vscode`, `intellij`, `cli` …
    pub client: String,
    /// Its version.
    pub client_version: String,
    /// Whether it is an editor, which keeps agents warm for longer and the daemon alive.
    pub editor: bool,
    /// The oldest and the newest protocol it speaks.
    pub protocol: Option<ProtocolRange>,
}

/// The oldest and the newest protocol that one side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// `capabilities.experimental.ide` in the answer to `initialize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DaemonOptions {
    /// The protocol that both use.
    pub protocol: u32,
    /// The daemon's build.
    pub version: String,
    /// Kinds of targets it knows.
    pub target_kinds: Vec<String>,
    /// Methods it serves.
    pub methods: Vec<String>,
}

/// `value` of `$/progress` for the `workDoneToken` of `session/start`; the shape is LSP's work done progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum WorkProgress {
    /// The first one.
    Begin {
        /// What is done.
        title: String,
        /// Whether `$/cancelRequest` works.
        #[serde(default)]
        cancellable: bool,
    },
    /// One step more.
    Report {
        /// The step: `resolving deployment/shop`, `starting the agent on node a` …
        message: String,
    },
    /// The last one.
    End {
        /// How it went.
        #[serde(default)]
        message: Option<String>,
    },
}

/// `value` of `$/progress` for the `partialResultToken` of `target/list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetBatch {
    /// More targets.
    pub items: Vec<TargetItem>,
}

/// `params` of `$/progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressParams<T> {
    /// The token that the request named.
    pub token: serde_json::Value,
    /// What is new.
    pub value: T,
}
