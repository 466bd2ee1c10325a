//! `config/verify`, and how requests name a config.

use super::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A place in a text; lines and characters count from 0, characters in UTF-16 as in LSP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TextPosition {
    /// The line.
    pub line: u32,
    /// The character in it.
    pub character: u32,
}

/// From a place up to, not including, another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TextRange {
    /// The first character.
    pub start: TextPosition,
    /// Behind the last one.
    pub end: TextPosition,
}

/// Which config a request means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigSource {
    /// The folder in which the program starts: relative paths and the search for a config begin here.
    pub folder: String,
    /// A config file. Without one: `MIRRORD_CONFIG_FILE` of `env`, else `.mirrord/mirrord.{json,toml,yaml}` or
    /// `mirrord.json` of the folder or its parents up to the repository, else defaults.
    pub file: Option<String>,
    /// A config's text in place of a file's (an unsaved buffer, standard input); `file` still gives its name.
    pub text: Option<String>,
    /// What stands over the config.
    pub overrides: Overrides,
    /// The client's environment. Templates and `MIRRORD_…` variables read it, and from it comes what decides about the
    /// cluster: `KUBECONFIG`, `PATH`, `HOME`, proxies, cloud profiles.
    pub env: BTreeMap<String, String>,
}

/// What the command line or a launch configuration sets over the config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Overrides {
    /// The target, as in the config.
    pub target: Option<String>,
    /// The target's namespace.
    pub namespace: Option<String>,
    /// The kubeconfig context.
    pub context: Option<String>,
    /// Kubeconfig files, separated by colons.
    pub kubeconfig: Option<String>,
    /// The agent's namespace.
    pub agent_namespace: Option<String>,
    /// The agent's log level.
    pub agent_log_level: Option<String>,
    /// The agent's image.
    pub agent_image: Option<String>,
    /// Seconds after which the API server removes a finished agent.
    pub agent_ttl: Option<u32>,
    /// The agent as an ephemeral container.
    pub ephemeral: Option<bool>,
    /// The file mode.
    pub fs_mode: Option<String>,
    /// Patterns of variables to take, separated by `;`.
    pub env_include: Option<String>,
    /// Patterns of variables to leave, separated by `;`.
    pub env_exclude: Option<String>,
    /// A dotenv file.
    pub env_file: Option<String>,
    /// No outgoing traffic through the target.
    pub no_outgoing: bool,
    /// No outgoing TCP through the target.
    pub no_tcp_outgoing: bool,
    /// No outgoing UDP through the target.
    pub no_udp_outgoing: bool,
    /// Names are resolved on this machine.
    pub no_remote_dns: bool,
    /// Programs that are passed through, separated by `;`.
    pub skip_processes: Option<String>,
    /// The API server's certificate goes unchecked.
    pub accept_invalid_certificates: bool,
    /// `steal`, `mirror` or `off`.
    pub incoming: Option<String>,
}

/// Reads a config and says all that is wrong with it, without touching a cluster.
///
/// A config with errors is an answer, not an error: the request only fails when there is nothing to read.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConfigVerify {}

impl Method for ConfigVerify {
    const NAME: &'static str = "config/verify";
    type Params = ConfigSource;
    type Answer = Verified;
}

/// The answer of `config/verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Whether a session could start with it.
    pub ok: bool,
    /// The file that was read; absent for defaults.
    pub uri: Option<String>,
    /// Every problem, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// The target it names.
    pub target: Option<String>,
    /// The namespace it names.
    pub namespace: Option<String>,
}

/// One problem of a config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// Where.
    pub range: TextRange,
    /// How bad.
    pub severity: Severity,
    /// A stable word: `unknown-key`, `wrong-type` …
    pub code: String,
    /// What is wrong, and what is meant.
    pub message: String,
    /// The key's path: `feature.network.outgoing`.
    pub path: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No session starts with it.
    Error,
    /// A session starts, and does something else than one may think.
    Warning,
}
