//! What comes to a config from around it: variables for its templates, and environment variables that stand over
//! its settings. All of it is handed in; nothing is read from this process.

use std::collections::BTreeMap;

use crate::Code;
use crate::decode::Context;
use crate::tree::{Entry, Node, Value};

/// What stands around a config.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The user's environment: `get_env` of templates reads it, and `MIRRORD_…` variables stand over settings.
    pub env: BTreeMap<String, String>,
    /// The session's key as a flag gave it; it stands over `MIRRORD_KEY`, and that over the file's `key`.
    pub key: Option<String>,
    /// The key to use where none is given.
    pub made_up_key: String,
    /// The branch of the user's repository, if there is one; `MIRRORD_BRANCH_NAME` stands over it.
    pub git_branch: Option<String>,
}

impl Inputs {
    pub(crate) fn branch(&self) -> Option<&str> {
        self.env.get("MIRRORD_BRANCH_NAME").map(String::as_str).or(self.git_branch.as_deref())
    }

    /// The key that stands over the file's.
    pub(crate) fn given_key(&self) -> Option<&str> {
        self.key.as_deref().or_else(|| self.env.get("MIRRORD_KEY").map(String::as_str))
    }
}

/// How the text of a variable is read.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Text,
    Number,
    List,
    Ports,
    /// `true` steals, `false` mirrors, else the mode by name.
    Incoming,
}

#[rustfmt::skip]
const VARIABLES: &[(&str, &str, Kind)] = &[
    ("MIRRORD_ACCEPT_INVALID_CERTIFICATES", "accept_invalid_certificates", Kind::Flag),
    ("MIRRORD_SKIP_PROCESSES", "skip_processes", Kind::List),
    ("MIRRORD_SKIP_BUILD_TOOLS", "skip_build_tools", Kind::Flag),
    ("MIRRORD_SKIP_EXTRA_BUILD_TOOLS", "skip_extra_build_tools", Kind::List),
    ("MIRRORD_SKIP_SIP", "skip_sip", Kind::List),
    ("MIRRORD_OPERATOR_ENABLE", "operator", Kind::Flag),
    ("MIRRORD_MULTI_CLUSTER", "multi_cluster", Kind::Flag),
    ("MIRRORD_API", "api", Kind::Flag),
    ("MIRRORD_KUBECONFIG", "kubeconfig", Kind::Text),
    ("MIRRORD_KUBE_CONTEXT", "kube_context", Kind::Text),
    ("MIRRORD_TELEMETRY", "telemetry", Kind::Flag),
    ("MIRRORD_PROXY", "use_proxy", Kind::Flag),
    ("MIRRORD_IMPERSONATED_TARGET", "target.path", Kind::Text),
    ("MIRRORD_TARGET_NAMESPACE", "target.namespace", Kind::Text),
    ("MIRRORD_AGENT_RUST_LOG", "agent.log_level", Kind::Text),
    ("MIRRORD_AGENT_JSON_LOG", "agent.json_log", Kind::Flag),
    ("MIRRORD_AGENT_NAMESPACE", "agent.namespace", Kind::Text),
    ("MIRRORD_AGENT_IMAGE", "agent.image", Kind::Text),
    ("MIRRORD_AGENT_IMAGE_REGISTRY", "agent.image.registry", Kind::Text),
    ("MIRRORD_AGENT_IMAGE_TAG", "agent.image.tag", Kind::Text),
    ("MIRRORD_AGENT_IMAGE_PULL_POLICY", "agent.image_pull_policy", Kind::Text),
    ("MIRRORD_AGENT_TTL", "agent.ttl", Kind::Number),
    ("MIRRORD_EPHEMERAL_CONTAINER", "agent.ephemeral", Kind::Flag),
    ("MIRRORD_AGENT_COMMUNICATION_TIMEOUT", "agent.communication_timeout", Kind::Number),
    ("MIRRORD_AGENT_STARTUP_TIMEOUT", "agent.startup_timeout", Kind::Number),
    ("MIRRORD_AGENT_STEALER_FLUSH_CONNECTIONS", "agent.flush_connections", Kind::Flag),
    ("MIRRORD_AGENT_EXTERNAL_IP_FIX", "agent.external_ip_fix", Kind::Flag),
    ("MIRRORD_AGENT_CLEAN_IPTABLES_ON_START", "agent.clean_iptables_on_start", Kind::Flag),
    ("MIRRORD_AGENT_EXCLUDE_FROM_MESH", "agent.exclude_from_mesh", Kind::Flag),
    ("MIRRORD_AGENT_HTTP_DETECTION_TIMEOUT", "agent.http_detection_timeout", Kind::Number),
    ("MIRRORD_OVERRIDE_ENV_VARS_INCLUDE", "feature.env.include", Kind::List),
    ("MIRRORD_OVERRIDE_ENV_VARS_EXCLUDE", "feature.env.exclude", Kind::List),
    ("MIRRORD_OVERRIDE_ENV_VARS_FILE", "feature.env.env_file", Kind::Text),
    ("MIRRORD_ENV_LOAD_FROM_PROCESS", "feature.env.load_from_process", Kind::Flag),
    ("MIRRORD_FILE_MODE", "feature.fs.mode", Kind::Text),
    ("MIRRORD_FILE_READ_WRITE_PATTERN", "feature.fs.read_write", Kind::List),
    ("MIRRORD_FILE_READ_ONLY_PATTERN", "feature.fs.read_only", Kind::List),
    ("MIRRORD_FILE_LOCAL_PATTERN", "feature.fs.local", Kind::List),
    ("MIRRORD_ENABLE_IPV6", "feature.network.ipv6", Kind::Flag),
    ("MIRRORD_AGENT_TCP_STEAL_TRAFFIC", "feature.network.incoming.mode", Kind::Incoming),
    ("MIRRORD_OPERATOR_ON_CONCURRENT_STEAL", "feature.network.incoming.on_concurrent_steal", Kind::Text),
    ("MIRRORD_HTTP_HEADER_FILTER", "feature.network.incoming.http_filter.header_filter", Kind::Text),
    ("MIRRORD_HTTP_PATH_FILTER", "feature.network.incoming.http_filter.path_filter", Kind::Text),
    ("MIRRORD_HTTP_METHOD_FILTER", "feature.network.incoming.http_filter.method_filter", Kind::Text),
    ("MIRRORD_HTTP_HEADER_FILTER_JQ", "feature.network.incoming.http_filter.header_filter_jq", Kind::Text),
    ("MIRRORD_HTTP_FILTER_PORTS", "feature.network.incoming.http_filter.ports", Kind::Ports),
    ("MIRRORD_TCP_OUTGOING", "feature.network.outgoing.tcp", Kind::Flag),
    ("MIRRORD_UDP_OUTGOING", "feature.network.outgoing.udp", Kind::Flag),
    ("MIRRORD_OUTGOING_IGNORE_LOCALHOST", "feature.network.outgoing.ignore_localhost", Kind::Flag),
    ("MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS", "feature.network.outgoing.unix_streams", Kind::List),
    ("MIRRORD_REMOTE_DNS", "feature.network.dns.enabled", Kind::Flag),
];

/// The environment variable that stands over a setting.
pub(crate) fn variable_of(path: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(_, key, _)| *key == path).map(|(name, _, _)| *name)
}

/// Puts the environment over the tree.
pub(crate) fn apply(tree: &mut Node, inputs: &Inputs, context: &mut Context<'_>) {
    for (name, path, kind) in VARIABLES {
        let Some(text) = inputs.env.get(*name) else { continue };
        match read(text, *kind) {
            Ok(value) => {
                context.note_variable(path, name);
                set(tree, path, value);
            }
            Err(expected) => {
                context.note_variable(path, name);
                let message = format!("expected {expected}, found \"{text}\"");
                context.error(Code::WrongType, path, 0..0, message);
            }
        }
    }
    if let Some(key) = inputs.given_key() {
        set(tree, "key", Value::Text(key.to_owned()));
    }
}

fn read(text: &str, kind: Kind) -> Result<Value, &'static str> {
    let items = || text.split(';').map(str::trim).filter(|item| !item.is_empty());
    Ok(match kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Flag => Value::Bool(flag(text).ok_or("true or false")?),
        Kind::Number => Value::Int(text.trim().parse().map_err(|_| "a number")?),
        Kind::Incoming => match flag(text) {
            Some(true) => Value::Text("steal".to_owned()),
            Some(false) => Value::Text("mirror".to_owned()),
            None => Value::Text(text.to_owned()),
        },
        Kind::List => Value::List(items().map(|item| node(Value::Text(item.to_owned()))).collect()),
        Kind::Ports => {
            let ports: Result<Vec<Node>, _> =
                items().map(|item| item.parse().map(|port| node(Value::Int(port)))).collect();
            Value::List(ports.map_err(|_| "ports with `;` between")?)
        }
    })
}

fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A value that stands nowhere in the text.
fn node(value: Value) -> Node {
    Node { value, span: 0..0 }
}

fn set(tree: &mut Node, path: &str, value: Value) {
    let Some((holder, key)) = path.rsplit_once('.') else {
        put(tree, path, value);
        return;
    };
    let mut at = String::new();
    let mut here = tree;
    for step in holder.split('.') {
        at = crate::tree::join(&at, step);
        if here.entry(step).is_none() {
            put(here, step, Value::Map(Vec::new()));
        }
        let Value::Map(entries) = &mut here.value else { return };
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == step) else { return };
        if !entry.value.is_map() {
            entry.value.value = Value::Map(long_form(&at, &entry.value.value));
        }
        here = &mut entry.value;
    }
    if path == "target.path"
        && let Value::Map(entries) = &mut here.value
    {
        // The variable names the whole target: what the file said by kind or container no longer holds.
        entries.retain(|entry| entry.key == "namespace" || entry.key == "replicas");
    }
    put(here, key, value);
}

fn put(holder: &mut Node, key: &str, value: Value) {
    let Value::Map(entries) = &mut holder.value else { return };
    entries.retain(|entry| entry.key != key);
    entries.push(Entry { key: key.to_owned(), key_span: 0..0, value: node(value) });
}

/// The object that a short form stands for, so that one key of it can be set.
fn long_form(path: &str, short: &Value) -> Vec<Entry> {
    let entry = |key: &str, value: Value| Entry { key: key.to_owned(), key_span: 0..0, value: node(value) };
    let word = |word: &str| Value::Text(word.to_owned());
    match (path, short) {
        ("target", Value::Text(text)) => vec![entry("path", word(text))],
        ("agent.image", Value::Text(text)) => match text.rsplit_once(':') {
            Some((registry, tag)) if !tag.contains('/') => {
                vec![entry("registry", word(registry)), entry("tag", word(tag))]
            }
            _ => vec![entry("registry", word(text))],
        },
        ("feature.fs" | "feature.network.incoming", Value::Text(mode)) => vec![entry("mode", word(mode))],
        ("feature.fs", Value::Bool(false)) => vec![entry("mode", word("local"))],
        ("feature.network.incoming", Value::Bool(false)) => vec![entry("mode", word("off"))],
        ("feature.network", Value::Bool(false)) => {
            ["incoming", "outgoing", "dns"].into_iter().map(|part| entry(part, Value::Bool(false))).collect()
        }
        ("feature.network.outgoing", Value::Bool(flag)) => {
            vec![entry("tcp", Value::Bool(*flag)), entry("udp", Value::Bool(*flag))]
        }
        ("feature.network.dns", Value::Bool(flag)) => vec![entry("enabled", Value::Bool(*flag))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_stands_over_a_setting_that_exists() {
        let settings = crate::settings();
        for (name, path, _) in VARIABLES {
            assert!(settings.iter().any(|setting| setting.path == *path), "{name} names {path}");
        }
    }
}
