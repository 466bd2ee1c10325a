//! Settings that exclude each other. Where one of the two is a paid setting, which does nothing here, the
//! conflict does nothing either: it is a warning, because mirrord itself would refuse the file.

use std::collections::BTreeMap;

use crate::decode::{Context, check_json_path, compile_pattern};
use crate::status::note_of;
use crate::tree::Node;
use crate::{
    AddressFilterConfig, Code, EnvPlan, Host, HttpFilterConfig, HttpFilterPart, IncomingMode, MirrordConfig,
    PortPair, Status, Target, WorkloadKind, status_of,
};

const INCOMING: &str = "feature.network.incoming";
const READ_AHEAD_DOUBTFUL: u64 = 1024 * 1024;
const READ_AHEAD_MAX: u64 = 15 * 1024 * 1024;

pub(super) fn check(config: &MirrordConfig, tree: &Node, context: &mut Context<'_>) {
    let mut report = Report { tree, context };
    kind(config, &mut report);
    targetless(config, &mut report);
    paid(config, &mut report);
    agent(config, &mut report);
    env(config, &mut report);
    incoming(config, &mut report);
    names(config, &mut report);
    read_ahead(config, &mut report);
}

/// Reports at the place of a key path.
struct Report<'r, 't> {
    tree: &'r Node,
    context: &'r mut Context<'t>,
}

impl Report<'_, '_> {
    fn error(&mut self, code: Code, path: &str, message: &str, help: &str) {
        let span = self.tree.place(path);
        self.context.error(code, path, span, message).help(help);
    }

    fn warning(&mut self, code: Code, path: &str, message: &str, help: &str) {
        let span = self.tree.place(path);
        self.context.warning(code, path, span, message).help(help);
    }
}

/// A kind named in a path is a value that the table of settings cannot list; its key form stands for it.
fn kind(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let Some(Target::Workload { kind, .. }) = config.target() else { return };
    let key = format!("target.{}", kind.key());
    if status_of(&key) == Some(Status::Implemented) || report.tree.place(&key) != report.tree.place("target")
    {
        return;
    }
    let message = format!("a {kind} as target is read but does not work yet");
    report.warning(Code::NotYet, "target.path", &message, note_of(&key));
}

fn copies_target(config: &MirrordConfig) -> bool {
    match config.feature.as_ref().and_then(|feature| feature.copy_target.as_ref()) {
        None => false,
        Some(crate::Short::Short(flag)) => *flag,
        Some(crate::Short::Long(copy)) => copy.enabled.unwrap_or(true),
    }
}

fn targetless(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    if config.target() != Some(&Target::Targetless) {
        return;
    }
    if config.asked_incoming_mode() == IncomingMode::Steal {
        let path = if report.tree.place("feature.network.incoming.mode")
            == report.tree.place("feature.network.incoming")
        {
            INCOMING
        } else {
            "feature.network.incoming.mode"
        };
        report.error(
            Code::Conflict,
            path,
            "without a target there is no traffic to steal",
            "name a target, or remove the incoming mode",
        );
    }
    if config.agent().ephemeral() {
        report.error(
            Code::Conflict,
            "agent.ephemeral",
            "an ephemeral container needs a target pod to be in",
            "name a target, or remove agent.ephemeral",
        );
    }
    if copies_target(config) {
        report.warning(
            Code::Conflict,
            "feature.copy_target",
            "without a target there is nothing to copy; mirrord refuses this",
            "remove feature.copy_target",
        );
    }
}

fn paid(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let copies = copies_target(config);
    if copies && config.operator == Some(false) {
        report.warning(
            Code::Conflict,
            "feature.copy_target",
            "copying a target needs the operator, which `operator: false` forbids; mirrord refuses this",
            "remove one of the two",
        );
    }
    let service = matches!(config.target(), Some(Target::Workload { kind: WorkloadKind::Service, .. }));
    if copies && service {
        report.warning(
            Code::Conflict,
            "feature.copy_target",
            "a service cannot be copied; mirrord refuses this",
            "name the deployment behind it, or remove feature.copy_target",
        );
    }
    let feature = config.feature.as_ref();
    if matches!(config.target(), Some(Target::Label { .. })) {
        let given = [
            ("feature.copy_target", copies),
            ("multi_cluster", config.multi_cluster == Some(true)),
            ("feature.split_queues", feature.is_some_and(|feature| feature.split_queues.is_some())),
            ("feature.db_branches", feature.is_some_and(|feature| feature.db_branches.is_some())),
        ];
        for (path, _) in given.into_iter().filter(|(_, given)| *given) {
            report.warning(
                Code::Conflict,
                path,
                "this does not go with a label target; mirrord refuses this",
                "name a workload as target, or remove the key",
            );
        }
    }
}

fn agent(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let agent = config.agent();
    if agent.ephemeral() && agent.namespace.is_some() {
        report.warning(
            Code::NoEffect,
            "agent.namespace",
            "an ephemeral container is in the target's namespace; this has no effect",
            "remove agent.namespace or agent.ephemeral",
        );
    }
    if let Some(crate::Short::Long(image)) = &agent.image
        && image.registry.is_none()
    {
        report.error(
            Code::MissingKey,
            "agent.image",
            "an image in parts needs its `registry`",
            "add agent.image.registry, or write the image as one string",
        );
    }
    let has_image = agent.image.is_some();
    if agent.delivery == Some(crate::Delivery::Image) && !has_image {
        report.error(
            Code::MissingKey,
            "agent.delivery",
            "delivery by image needs an image",
            "name it in agent.image, or remove agent.delivery",
        );
    }
    for (index, secret) in agent.image_pull_secrets.as_deref().unwrap_or_default().iter().enumerate() {
        if secret.name.is_none() {
            report.error(
                Code::MissingKey,
                &format!("agent.image_pull_secrets[{index}]"),
                "a pull secret needs its `name`",
                "write {\"name\": \"SECRET\"}",
            );
        }
    }
}

fn env(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let EnvPlan::With(env) = config.env() else { return };
    if env.include.is_some() && env.exclude.is_some() {
        report.error(
            Code::Conflict,
            "feature.env.exclude",
            "`include` and `exclude` exclude each other",
            "keep one of the two",
        );
    }
}

fn incoming(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let incoming = config.incoming();
    if incoming.ports.is_some() && incoming.ignore_ports.is_some() {
        report.error(
            Code::Conflict,
            "feature.network.incoming.ignore_ports",
            "`ports` and `ignore_ports` exclude each other",
            "keep one of the two",
        );
    }
    port_pairs("port_mapping", incoming.port_mapping.as_deref(), report);
    port_pairs("listen_ports", incoming.listen_ports.as_deref(), report);
    if incoming.tls_delivery.is_some() && incoming.https_delivery.is_some() {
        report.error(
            Code::Conflict,
            "feature.network.incoming.https_delivery",
            "`https_delivery` is the old name of `tls_delivery`; both are given",
            "remove https_delivery",
        );
    }
    if let Some(filter) = &incoming.http_filter {
        http_filter(filter, report);
    }
}

fn port_pairs(key: &str, pairs: Option<&[PortPair]>, report: &mut Report<'_, '_>) {
    let path = format!("{INCOMING}.{key}");
    let mut locals: BTreeMap<u16, u16> = BTreeMap::new();
    let mut others: BTreeMap<u16, u16> = BTreeMap::new();
    for pair in pairs.unwrap_or_default() {
        if pair.local == pair.other {
            let message = format!("[{}, {}] maps a port to itself", pair.local, pair.other);
            report.warning(Code::Doubtful, &path, &message, "remove the pair");
        }
        for (seen, port, partner) in
            [(&mut locals, pair.local, pair.other), (&mut others, pair.other, pair.local)]
        {
            if let Some(before) = seen.insert(port, partner) {
                let message = format!("port {port} is mapped twice, with {before} and with {partner}");
                report.error(Code::Conflict, &path, &message, "keep one of the two pairs");
            }
        }
    }
}

fn http_filter(filter: &HttpFilterConfig, report: &mut Report<'_, '_>) {
    let path = "feature.network.incoming.http_filter";
    let kinds = filter.kinds();
    let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if let [first, second, ..] = given.as_slice() {
        report.error(
            Code::Conflict,
            &format!("{path}.{second}"),
            &format!("`{first}` and `{second}` stand side by side; only one filter can"),
            "put both into all_of (both must hold) or any_of (one must hold)",
        );
    }
    if let Some(pattern) = &filter.header_filter
        && regex::Regex::new(&pattern.0).is_err()
    {
        report.warning(
            Code::NotYet,
            &format!("{path}.header_filter"),
            "look-around and references back do not work in `header_filter` yet",
            "write the filter without them; a port with such a filter is not taken over",
        );
    }
    if filter.method_filter.as_ref().is_some_and(|text| text.trim().is_empty()) {
        let path = format!("{path}.method_filter");
        report.error(Code::InvalidValue, &path, "the filter is empty", "write a method, or remove the key");
    }
    if let Some(body) = &filter.body_filter {
        let missing = [
            ("body", body.body.is_none()),
            ("query", body.query.is_none()),
            ("matches", body.matches.is_none()),
        ];
        for (key, _) in missing.into_iter().filter(|(_, missing)| *missing) {
            report.error(
                Code::MissingKey,
                &format!("{path}.body_filter"),
                &format!("a body filter needs `{key}`"),
                "write {\"body\": \"json\", \"query\": \"$.field\", \"matches\": \"regex\"}",
            );
        }
    }
    for (key, parts) in [("all_of", &filter.all_of), ("any_of", &filter.any_of)] {
        let Some(parts) = parts else { continue };
        let path = format!("{path}.{key}");
        if parts.is_empty() {
            report.error(
                Code::InvalidValue,
                &path,
                "the list of filters is empty",
                "add a filter, or remove the key",
            );
        }
        for (index, part) in parts.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Err(reason) = filter_part(part) {
                let help = "name one of header, path, method, query, or body with query and matches";
                report.error(Code::InvalidValue, &path, reason, help);
                continue;
            }
            // The one key whose meaning its neighbours decide.
            let checked = match (&part.query, part.body) {
                (Some(query), Some(_)) => check_json_path(query),
                (Some(query), None) => compile_pattern(query),
                (None, _) => Ok(()),
            };
            if let Err(reason) = checked {
                let message = format!("the query is not usable: {reason}");
                report.error(Code::InvalidPattern, &format!("{path}.query"), &message, "correct the query");
            }
        }
    }
}

fn filter_part(part: &HttpFilterPart) -> Result<(), &'static str> {
    let plain = [part.header.is_some(), part.path.is_some(), part.method.is_some()];
    let plain = plain.into_iter().filter(|given| *given).count();
    let has_query = part.query.is_some();
    match (plain, part.body.is_some(), has_query, part.matches.is_some()) {
        (1, false, false, false) | (0, true, true, true) | (0, false, true, false) => Ok(()),
        (0, false, false, false) => Err("this filter names nothing to look at"),
        (0, true, _, _) => Err("`body` needs `query` and `matches`"),
        (0, false, _, true) => Err("`matches` needs `body` and `query`"),
        _ => Err("this filter names more than one thing to look at"),
    }
}

fn names(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let outgoing = "feature.network.outgoing.filter";
    let dns = "feature.network.dns.filter";
    let outgoing_filter = config.outgoing().filter.as_ref();
    let dns_filter = config.dns_filter();
    for (path, filter) in [(outgoing, outgoing_filter), (dns, dns_filter)] {
        if filter.is_some_and(|filter| filter.remote.is_some() && filter.local.is_some()) {
            report.error(
                Code::Conflict,
                &format!("{path}.local"),
                "`remote` and `local` exclude each other",
                "keep one of the two",
            );
        }
    }
    if dns_filter.is_some() && !config.remote_dns() {
        report.warning(
            Code::NoEffect,
            dns,
            "names are resolved here, so their filter has no effect",
            "enable feature.network.dns, or remove the filter",
        );
    }
    let remote: Vec<&str> = host_names(outgoing_filter.and_then(|filter| filter.remote.as_deref()));
    if !remote.is_empty() && !config.remote_dns() {
        report.warning(
            Code::Doubtful,
            &format!("{outgoing}.remote"),
            "names listed here are to be reached through the target, but names are resolved on this machine",
            "enable feature.network.dns, or list addresses",
        );
    }
    let both_ways = |ours: Option<&AddressFilterConfig>, remote: bool| -> Vec<String> {
        let side = |filter: Option<&AddressFilterConfig>, remote: bool| -> Vec<String> {
            let list = filter
                .and_then(|filter| if remote { filter.remote.as_deref() } else { filter.local.as_deref() });
            host_names(list).into_iter().map(str::to_owned).collect()
        };
        let others = side(dns_filter, !remote);
        side(ours, remote).into_iter().filter(|name| others.contains(name)).collect()
    };
    for name in both_ways(outgoing_filter, true) {
        report.warning(
            Code::Doubtful,
            &format!("{outgoing}.remote"),
            &format!("{name} goes through the target, but feature.network.dns.filter.local resolves it here"),
            "list the name on the same side in both",
        );
    }
    for name in both_ways(outgoing_filter, false) {
        report.warning(
            Code::Doubtful,
            &format!("{outgoing}.local"),
            &format!("{name} stays local, but feature.network.dns.filter.remote resolves it at the target"),
            "list the name on the same side in both",
        );
    }
}

fn host_names(list: Option<&[crate::AddressFilter]>) -> Vec<&str> {
    list.unwrap_or_default()
        .iter()
        .filter_map(|entry| match &entry.host {
            Host::Name(name) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

fn read_ahead(config: &MirrordConfig, report: &mut Report<'_, '_>) {
    let path = "feature.fs.readonly_file_buffer";
    match config.fs().readonly_file_buffer {
        Some(bytes) if bytes > READ_AHEAD_MAX => {
            report.error(Code::InvalidValue, path, "the read-ahead is over 15 MiB", "use at most 15728640");
        }
        Some(bytes) if bytes > READ_AHEAD_DOUBTFUL => {
            report.warning(
                Code::Doubtful,
                path,
                "a read-ahead over 1 MiB makes small reads slow",
                "use less",
            );
        }
        _ => {}
    }
}
