//! The methods by which an editor's debugger starts programs.

use super::Method;
use super::config::ConfigSource;
use super::session::{Done, LaunchPlan, Started};
use serde::{Deserialize, Serialize};

/// Says how a debug configuration is launched: whether in a pod's world, and what changes in it for that.
///
/// Nothing happens in the cluster. `session/start` with the plan's name makes the session ready; what the patch has the
/// debugger run, `mirrord-ide exec --plan NAME -- COMMAND`, takes it.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionPlan {}

impl Method for SessionPlan {
    const NAME: &'static str = "session/plan";
    type Params = PlanParams;
    type Answer = PlanAnswer;
}

/// What is to be planned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PlanParams {
    /// Where the config is searched, and whose environment decides about the cluster.
    pub config: ConfigSource,
    /// The launch configuration's `mirrord`: a boolean, a config's path or its content; without one `enabled` decides.
    pub mirrord: Option<serde_json::Value>,
    /// Whether the editor's toggle is on.
    pub enabled: bool,
    /// The debug configuration, its variables substituted.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub debug: serde_json::Value,
    /// The editor: `vscode`, `intellij`.
    pub editor: String,
    /// Where the editor's extension that knows the debug configuration's type is installed.
    pub debugger_folder: Option<String>,
    /// What the user picked.
    pub target: Option<String>,
}

/// The answer of `session/plan`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PlanAnswer {
    /// What the editor does now.
    pub action: PlanAction,
    /// Why the program stays on this machine.
    pub reason: Option<String>,
    /// The config file that was read.
    pub config_file: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// What the user should know, one sentence each.
    pub notices: Vec<String>,
    /// What changes in the debug configuration: an RFC 7396 merge patch.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub patch: Option<serde_json::Value>,
    /// The plan's name.
    pub plan: Option<String>,
    /// Whether the debugger is told to leave the program alone at its end, so that the program outlives a reload of the
    /// window: the editor ends it by `session/stop` when its user stops or restarts.
    pub editor_stops: bool,
}

/// What the editor does with a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PlanAction {
    /// Launch it as it is.
    #[default]
    Off,
    /// Let the user pick a target, and plan again with it.
    Pick,
    /// Start the session and launch the patched configuration.
    Run,
}

/// Takes the session that was made ready for a plan; a plan whose session was taken before makes another one ready.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionRedeem {}

impl Method for SessionRedeem {
    const NAME: &'static str = "session/redeem";
    type Params = RedeemParams;
    type Answer = Started;
}

/// Whose session is taken, and by what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RedeemParams {
    /// The plan.
    pub plan: String,
    /// The program that runs in it.
    pub launch: LaunchPlan,
    /// Names the steps, should a session have to be made ready first.
    pub work_done_token: Option<serde_json::Value>,
}

/// Forgets a plan: its debug session is over.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionForget {}

impl Method for SessionForget {
    const NAME: &'static str = "session/forget";
    type Params = ForgetParams;
    type Answer = Done;
}

/// Which plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForgetParams {
    /// Its name.
    pub plan: String,
}
