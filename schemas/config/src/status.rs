//! Which setting does what today: the one table to edit when a setting comes to life.
//!
//! An entry speaks for its key and all keys inside it, unless one of those has an entry of its own. `key=word`
//! speaks for one value of a key. A key that no entry covers is a bug that a test finds.

use crate::Code;
use crate::decode::Context;
use crate::tree::{Node, Value, general, join};

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does what it says.
    Implemented,
    /// It is read but has no effect yet.
    NotYet,
    /// It belongs to mirrord's paid operator.
    Paid,
    /// It matters on macOS only.
    Mac,
    /// There is nothing here that it could act on.
    Ignored,
}

impl Status {
    /// As the settings page shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Implemented => "works",
            Self::NotYet => "not yet",
            Self::Paid => "paid in mirrord",
            Self::Mac => "macOS only",
            Self::Ignored => "no effect",
        }
    }
}

/// One line of the table.
struct Entry {
    key: &'static str,
    status: Status,
    /// What a user should know: what is done instead, or why it does not matter.
    note: &'static str,
    /// Values (as JSON) that ask for what happens anyway, so that nothing need be said.
    quiet: &'static [&'static str],
}

const fn works(key: &'static str) -> Entry {
    Entry { key, status: Status::Implemented, note: "", quiet: &[] }
}

const fn later(key: &'static str, note: &'static str, quiet: &'static [&'static str]) -> Entry {
    Entry { key, status: Status::NotYet, note, quiet }
}

const fn paid(key: &'static str, note: &'static str, quiet: &'static [&'static str]) -> Entry {
    Entry { key, status: Status::Paid, note, quiet }
}

const fn mac(key: &'static str) -> Entry {
    Entry { key, status: Status::Mac, note: "on Linux no program needs it", quiet: &[] }
}

const fn ignored(key: &'static str, note: &'static str, quiet: &'static [&'static str]) -> Entry {
    Entry { key, status: Status::Ignored, note, quiet }
}

const OFF: &[&str] = &["false"];
const ON: &[&str] = &["true"];
const ANY: &[&str] = &["*"];

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    works("accept_invalid_certificates"),
    works("skip_processes"),
    works("skip_build_tools"),
    works("skip_extra_build_tools"),
    mac("sip_binaries"),
    mac("skip_sip"),
    paid("operator", "sessions never use an operator; they go straight to the cluster", OFF),
    paid("multi_cluster", "the session uses one cluster, that of kube_context", OFF),
    ignored("api", "the daemon answers for every session", ON),
    paid("profile", "no profile is read from the cluster; this file is used as it is", &[]),
    works("kubeconfig"),
    works("kube_context"),
    works("target"),
    works("target.path"),
    works("target.namespace"),
    later("target.replicas", "one ready pod is used", &["\"one\""]),
    later("target.replicas=all", "one ready pod is used", &[]),
    works("target.container"),
    works("target.labels"),
    works("target.pod"),
    works("target.deployment"),
    works("target.stateful_set"),
    works("target.service"),
    works("target.daemon_set"),
    works("target.replica_set"),
    works("target.job"),
    works("target.cron_job"),
    works("target.rollout"),

    works("agent.log_level"),
    later("agent.json_log", "the agent logs lines of text", OFF),
    works("agent.namespace"),
    works("agent.image"),
    works("agent.image_pull_policy"),
    works("agent.image_pull_secrets"),
    works("agent.ttl"),
    works("agent.ephemeral"),
    later("agent.communication_timeout", "", &[]),
    works("agent.startup_timeout"),
    later("agent.flush_connections", "open connections are left alone", OFF),
    works("agent.disabled_capabilities"),
    works("agent.privileged"),
    works("agent.tolerations"),
    works("agent.resources"),
    later("agent.check_out_of_pods", "the scheduler's refusal is shown instead", &[]),
    ignored("agent.external_ip_fix", "passed-through connections always go to the address they were sent to", ON),
    ignored("agent.nftables", "rules are always made by nftables through netlink", ON),
    ignored("agent.clean_iptables_on_start", "the kernel removes the rules of an agent that is gone", ANY),
    later("agent.dns", "the target's resolv.conf decides", &[]),
    works("agent.labels"),
    works("agent.annotations"),
    works("agent.service_account"),
    works("agent.priority_class"),
    works("agent.node_selector"),
    later("agent.metrics", "", &[]),
    later("agent.exclude_from_mesh", "", OFF),
    works("agent.disable_mesh_sidecar_injection"),
    later("agent.inject_headers", "", OFF),
    later("agent.override_cache_control", "", &[]),
    later("agent.max_body_buffer_size", "", &[]),
    later("agent.max_body_buffer_timeout", "", &[]),
    later("agent.http_detection_timeout", "", &[]),
    works("agent.security_context"),
    later("agent.jaq_time_limit", "", &[]),
    works("agent.idle"),
    works("agent.delivery"),

    later("container", "start the container's program with mirrord-ide exec inside it meanwhile", &[]),

    works("feature.env"),
    works("feature.fs"),
    works("feature.fs.mode"),
    works("feature.fs.read_write"),
    works("feature.fs.read_only"),
    works("feature.fs.local"),
    works("feature.fs.not_found"),
    works("feature.fs.mapping"),
    ignored("feature.fs.readonly_file_buffer", "remote files are read ahead by the kernel", ANY),
    works("feature.network"),
    works("feature.network.incoming"),
    works("feature.network.incoming.mode"),
    works("feature.network.incoming.port_mapping"),
    works("feature.network.incoming.listen_ports"),
    works("feature.network.incoming.ignore_ports"),
    works("feature.network.incoming.ports"),
    later("feature.network.incoming.ignore_localhost", "", OFF),
    works("feature.network.incoming.http_filter"),
    works("feature.network.incoming.http_filter.header_filter"),
    later("feature.network.incoming.http_filter.header_filter_jq", "a port with it is mirrored, never stolen whole", &[]),
    later("feature.network.incoming.http_filter.path_filter", "a port with it is mirrored, never stolen whole", &[]),
    later("feature.network.incoming.http_filter.method_filter", "a port with it is mirrored, never stolen whole", &[]),
    later("feature.network.incoming.http_filter.body_filter", "a port with it is mirrored, never stolen whole", &[]),
    later("feature.network.incoming.http_filter.all_of", "a port with it is mirrored, never stolen whole", &[]),
    later("feature.network.incoming.http_filter.any_of", "a port with it is mirrored, never stolen whole", &[]),
    works("feature.network.incoming.http_filter.ports"),
    paid("feature.network.incoming.on_concurrent_steal", "a port that is stolen already is refused", &["\"abort\""]),
    paid("feature.network.incoming.tls_delivery", "stolen TLS is delivered as it came", &[]),
    paid("feature.network.incoming.https_delivery", "stolen TLS is delivered as it came", &[]),
    works("feature.network.outgoing"),
    works("feature.network.outgoing.tcp"),
    works("feature.network.outgoing.udp"),
    later("feature.network.outgoing.ignore_localhost", "", OFF),
    later("feature.network.outgoing.filter", "every connection goes through the target", &["{}"]),
    later("feature.network.outgoing.unix_streams", "unix sockets stay local", &["[]"]),
    works("feature.network.dns"),
    works("feature.network.dns.enabled"),
    later("feature.network.dns.filter", "every name is resolved at the target", &["{}"]),
    later("feature.network.ipv6", "the program has IPv6", ON),
    works("feature.hostname"),
    paid("feature.copy_target", "the target itself is used, no copy is made", &["false", "{\"enabled\":false}"]),
    later("feature.magic", "", &["{}"]),
    paid("feature.split_queues", "queues are not split: the program reads the same queue as the target", &["[]", "{}"]),
    paid("feature.db_branches", "no database is branched: the program uses the target's own", &["[]"]),
    paid("feature.preview", "no preview environment is made", &[]),

    ignored("telemetry", "no usage events are ever sent", ANY),
    ignored("internal_proxy", "there is no such process; the session host does its work", &["{}"]),
    ignored("external_proxy", "there is no such process; the session host does its work", &["{}"]),
    works("use_proxy"),

    later("experimental.tcp_ping4_mock", "", &[]),
    ignored("experimental.enable_exec_hooks_linux", "sockets always survive exec", ANY),
    later("experimental.hide_ipv6_interfaces", "", OFF),
    ignored("experimental.use_dev_null", "remote files are real files", ANY),
    later("experimental.idle_local_http_connection_timeout", "", &[]),
    ignored("experimental.dlopen_cgo", "loaded libraries are always covered", ANY),
    ignored("experimental.go_asmcgocall", "system calls are reached through the kernel", ANY),
    ignored("experimental.guard_std_fds", "no descriptor is taken from the program", ANY),
    ignored("experimental.browser_extension_config", "there is no browser extension", OFF),
    mac("experimental.trust_any_certificate"),
    mac("experimental.disable_reuseaddr"),
    mac("experimental.ignore_system_proxy_config"),
    mac("experimental.sip_log_destination"),
    mac("experimental.applev"),
    ignored("experimental.non_blocking_tcp_connect", "a non-blocking connect always stays one", ANY),
    ignored("experimental.latency", "no delay is added", &["{}"]),
    mac("experimental.sip_utils"),

    later("startup_retry", "", &[]),
    later("ci", "", &[]),
    works("key"),
    paid("traceparent", "it is sent nowhere", &[]),
    paid("baggage", "it is sent nowhere", &[]),
];

/// Keys that have a successor or go away.
const DEPRECATED: &[(&str, &str)] = &[
    ("feature.network.incoming.https_delivery", "use feature.network.incoming.tls_delivery"),
    ("experimental.non_blocking_tcp_connect", "remove it"),
    ("experimental.latency", "remove it"),
    ("experimental.sip_utils", "remove it"),
];

/// The entry that speaks for a key.
fn entry_for(path: &str) -> Option<&'static Entry> {
    let exact = |key: &str| TABLE.iter().find(|entry| entry.key == key);
    if let Some(entry) = exact(path) {
        return Some(entry);
    }
    let mut path = path.split('=').next().unwrap_or(path);
    loop {
        if let Some(entry) = exact(path) {
            return Some(entry);
        }
        path = path.rsplit_once('.')?.0;
    }
}

/// What becomes of the setting at a dotted path, or of one of its values (`path=word`); `None` where there is no
/// such setting, or where it only holds others.
#[must_use]
pub fn status_of(path: &str) -> Option<Status> {
    entry_for(&general(path).replace("[]", "")).map(|entry| entry.status)
}

/// What a user should know of the setting at a dotted path, if the table speaks of this very one; may be empty.
pub(crate) fn note_of(path: &str) -> &'static str {
    entry_for(path).filter(|entry| entry.key == path).map_or("", |entry| entry.note)
}

/// Says for every setting of a config that does not do what it says, why.
pub(crate) fn warn(tree: &Node, context: &mut Context<'_>) {
    walk(tree, "", context);
}

fn walk(node: &Node, path: &str, context: &mut Context<'_>) {
    for entry in node.entries() {
        let inner = join(path, &entry.key);
        if matches!(entry.value.value, Value::Null) {
            continue;
        }
        if let Some((_, what)) = DEPRECATED.iter().find(|(key, _)| *key == inner) {
            context
                .warning(
                    Code::Deprecated,
                    &inner,
                    entry.key_span.clone(),
                    format!("`{}` is deprecated", entry.key),
                )
                .help(*what);
        }
        let word = match &entry.value.value {
            Value::Text(text) => Some(format!("{inner}={text}")),
            _ => None,
        };
        let found = word
            .and_then(|word| TABLE.iter().find(|line| line.key == word))
            .or_else(|| TABLE.iter().find(|line| line.key == inner));
        if let Some(line) = found {
            say(line, &inner, entry, context);
        }
        walk(&entry.value, &inner, context);
    }
}

fn say(line: &Entry, path: &str, entry: &crate::tree::Entry, context: &mut Context<'_>) {
    let value = entry.value.to_json().to_string();
    if line.quiet.iter().any(|quiet| *quiet == "*" || *quiet == value) {
        return;
    }
    let name = match line.key.split_once('=') {
        Some((_, word)) => format!("`{}: {word}`", entry.key),
        None => format!("`{}`", entry.key),
    };
    let (code, message) = match line.status {
        Status::Implemented => return,
        Status::NotYet => (Code::NotYet, format!("{name} is read but has no effect yet")),
        Status::Paid => {
            (Code::Paid, format!("{name} belongs to mirrord's paid operator and is not done here"))
        }
        Status::Mac => (Code::MacOnly, format!("{name} matters on macOS only")),
        Status::Ignored => (Code::NoEffect, format!("{name} has no effect here")),
    };
    let problem = context.warning(code, path, entry.key_span.clone(), message);
    if !line.note.is_empty() {
        problem.help(line.note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(path: &str, settings: &[crate::Setting]) -> bool {
        let inside = format!("{path}.");
        let items = format!("{path}[]");
        !settings.iter().any(|other| other.path.starts_with(&inside) || other.path.starts_with(&items))
    }

    #[test]
    fn the_table_speaks_for_every_setting() {
        let settings = crate::settings();
        let silent: Vec<&str> = settings
            .iter()
            .map(|setting| setting.path.as_str())
            .filter(|path| leaf(path, &settings) && status_of(path).is_none())
            .collect();
        assert!(silent.is_empty(), "no status for {silent:?}");
    }

    #[test]
    fn the_table_names_only_settings_that_exist_and_each_once() {
        let settings = crate::settings();
        let mut seen: Vec<&str> = Vec::new();
        for line in TABLE {
            let (path, word) = match line.key.split_once('=') {
                Some((path, word)) => (path, Some(word)),
                None => (line.key, None),
            };
            let Some(setting) = settings.iter().find(|setting| setting.path == path) else {
                panic!("{path} is not a setting");
            };
            if let Some(word) = word {
                assert!(setting.values.contains(&word), "{word} is not a value of {path}");
            }
            assert!(!seen.contains(&line.key), "{} stands twice", line.key);
            seen.push(line.key);
        }
        for (path, _) in DEPRECATED {
            assert!(settings.iter().any(|setting| setting.path == *path), "{path} is not a setting");
        }
    }

    #[test]
    fn a_key_that_is_not_done_holds_none_that_is() {
        // Else the warning at the outer key would say too much.
        for line in TABLE.iter().filter(|line| line.status != Status::Implemented) {
            let inside = format!("{}.", line.key);
            let inner: Vec<&str> = TABLE
                .iter()
                .filter(|other| other.key.starts_with(&inside) && other.status == Status::Implemented)
                .map(|other| other.key)
                .collect();
            assert!(inner.is_empty(), "{} holds {inner:?}", line.key);
        }
    }
}
