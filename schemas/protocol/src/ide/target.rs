//! `target/list`.

use super::Method;
use super::config::ConfigSource;
use serde::{Deserialize, Serialize};

/// Lists what can be impersonated.
///
/// With a `partialResultToken` the targets come in batches by `$/progress` as the cluster answers, and the answer
/// holds none; without one the answer holds them all.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TargetList {}

impl Method for TargetList {
    const NAME: &'static str = "target/list";
    type Params = TargetQuery;
    type Answer = Targets;
}

/// Lists the namespaces that targets can be in.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NamespaceList {}

impl Method for NamespaceList {
    const NAME: &'static str = "namespace/list";
    type Params = NamespaceQuery;
    type Answer = Namespaces;
}

/// Whose namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceQuery {
    /// Where cluster and context come from.
    pub config: ConfigSource,
}

/// The answer of `namespace/list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Their names.
    pub namespaces: Vec<String>,
    /// The one that the config means.
    pub current: Option<String>,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TargetQuery {
    /// Where cluster, context and namespace come from.
    pub config: ConfigSource,
    /// Only these kinds (`pod`, `deployment` …); empty means all that can be listed.
    pub kinds: Vec<String>,
    /// Only names that hold this text.
    pub text: Option<String>,
    /// Names the batches.
    pub partial_result_token: Option<serde_json::Value>,
}

/// One target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetItem {
    /// As a config names it: `deployment/shop`.
    pub path: String,
    /// The kind: `deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Whether a session could start now.
    pub ready: bool,
    /// Its containers, mesh sidecars left out.
    pub containers: Vec<String>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sessions of this user on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use_by: Vec<String>,
}

/// The answer of `target/list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// The targets that no batch has brought.
    pub items: Vec<TargetItem>,
    /// Whether every kind could be listed.
    pub complete: bool,
    /// Kinds that could not be listed, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The context that was asked.
    pub context: Option<String>,
    /// The namespace that was asked.
    pub namespace: Option<String>,
}
