//! The resolved half of a ticket: from config and pod spec to rules that leave no question open.

use crate::config::{Resolved, parse_dotenv};
use crate::launch;
use crate::target::Chosen;
use config_schema::{EnvPlan as EnvSetting, FileMode, IncomingMode as Asked};
use protocol::host::{
    EnvPlan, FilePlan, FileRule, IncomingMode, IncomingPlan, NetworkPlan, PathMapping, PathPattern, Place,
    TakeEnv,
};
use protocol::ide::{ErrorData, ErrorKind, LaunchPlan};
use std::collections::BTreeMap;

/// What a pod's spec always implies, whatever volumes it has.
const ALWAYS_DECLARED: &[(&str, PathPattern)] = &[
    ("/etc/resolv.conf", PathPattern::Exact),
    ("/etc/hosts", PathPattern::Exact),
    ("/etc/hostname", PathPattern::Exact),
    ("/etc/ssl/certs", PathPattern::Tree),
];

/// Below the home folder: identities of this machine that would be mistaken for the pod's.
const IDENTITIES: &[&str] = &[".kube", ".aws", ".config/gcloud", ".azure"];

/// Programs, libraries and toolchains are this machine's in every mode.
const LOCAL_NAMES: &[&str] = &[
    r"\.(so|sh|rb|d|pyc|py|jar|class|js|mjs|cjs|pth|pdb)$",
    r"\.so(\.[0-9]+)*$",
    r"/(venv|jvm)\.cfg$",
    r"/clr-.*-pipe-",
    r"/package\.json$",
    r"/\.yarnrc(\.yml|\.json)?$",
    r"/node_modules(/|$)",
    r"/\.tool-versions$",
    r"/\.asdf(/|$)",
];
const LOCAL_TREES: &[&str] = &[
    "/proc", "/sys", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/usr", "/home", "/bin", "/sbin", "/dev",
    "/opt", "/tmp", "/var/tmp", "/snap", "/run", "/selinux", "/nix",
];

/// How the debuggee's environment is made.
pub fn env(resolved: &Resolved, chosen: &Chosen) -> Result<EnvPlan, ErrorData> {
    let by_default = || match chosen.declared.as_ref().and_then(|declared| declared.env.clone()) {
        Some(names) => TakeEnv::Names { names },
        None => TakeEnv::AllButImage,
    };
    let env = match resolved.config.env() {
        EnvSetting::Off => return Ok(EnvPlan { take: TakeEnv::None, ..EnvPlan::default() }),
        EnvSetting::Default => return Ok(EnvPlan { take: by_default(), ..EnvPlan::default() }),
        EnvSetting::With(env) => env,
    };
    let patterns: Vec<String> = env.include().map(str::to_owned).collect();
    let take = if patterns.is_empty() { by_default() } else { TakeEnv::Matching { patterns } };
    let mapping: Vec<(String, String)> = env.mapping.clone().map(|mapping| mapping.0).unwrap_or_default();
    let mut set = match &env.env_file {
        Some(file) => read_env_file(resolved, file, &mapping)?,
        None => BTreeMap::new(),
    };
    set.extend(env.r#override.clone().unwrap_or_default());
    Ok(EnvPlan {
        take,
        exclude: env.exclude().map(str::to_owned).collect(),
        set,
        unset: env.unset().map(str::to_owned).collect(),
        mapping,
    })
}

/// The variables of an env file; `mapping` comes after the file, so it replaces values here.
fn read_env_file(
    resolved: &Resolved,
    file: &str,
    mapping: &[(String, String)],
) -> Result<BTreeMap<String, String>, ErrorData> {
    let path = resolved.folder().join(file);
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let help = "check feature.env.env_file or --env-file";
        ErrorData::new(ErrorKind::ConfigNotFound, format!("the env file {shown} cannot be read"), help)
            .caused_by(&error)
    })?;
    let pairs = parse_dotenv(&text).map_err(|line| {
        let help = "each line is NAME=value, a comment, or empty";
        ErrorData::new(ErrorKind::ConfigInvalid, format!("{shown}:{line}: this is not NAME=value"), help)
    })?;
    let mut rules = Vec::new();
    for (pattern, value) in mapping {
        let regex = regex::Regex::new(pattern).map_err(|error| {
            let message = format!("feature.env.mapping: \"{pattern}\" is not a regular expression");
            ErrorData::new(ErrorKind::ConfigInvalid, message, "correct the pattern").caused_by(&error)
        })?;
        rules.push((regex, value));
    }
    let value_of = |name: &str, value: String| match rules.iter().find(|(regex, _)| regex.is_match(name)) {
        Some((_, mapped)) => (*mapped).clone(),
        None => value,
    };
    Ok(pairs.into_iter().map(|(name, value)| (name.clone(), value_of(&name, value))).collect())
}

/// Which files are the pod's.
pub fn files(resolved: &Resolved, chosen: &Chosen) -> FilePlan {
    let mode = resolved.config.file_mode();
    let mut rules = listed(resolved);
    let mounts = chosen.declared.as_ref().map(|declared| declared.mounts.as_slice()).unwrap_or_default();
    let auto_mount = resolved
        .config
        .feature
        .as_ref()
        .and_then(|feature| feature.magic.as_ref()?.auto_mount)
        .unwrap_or(true);
    let fallback = match mode {
        FileMode::Local => {
            rules.clear();
            Place::Local
        }
        FileMode::LocalWithOverrides => {
            if auto_mount {
                rules.extend(mounted(mounts, Place::RemoteReadLocalWrite));
            }
            Place::Local
        }
        FileMode::Declared => {
            rules.extend(mounted(mounts, Place::RemoteRead));
            rules.extend(always_declared());
            Place::Local
        }
        FileMode::Read | FileMode::Write => {
            rules.extend(hidden_identities(resolved));
            rules.extend(always_declared());
            rules.extend(local_defaults(resolved));
            if mode == FileMode::Read { Place::RemoteReadLocalWrite } else { Place::Remote }
        }
    };
    let discovers = match mode {
        FileMode::Declared => true,
        FileMode::LocalWithOverrides => auto_mount,
        FileMode::Local | FileMode::Read | FileMode::Write => false,
    };
    let mapping =
        resolved.config.fs().mapping.as_ref().map(|mapping| mapping.0.as_slice()).unwrap_or_default();
    FilePlan {
        enabled: mode != FileMode::Local,
        mapping: mapping
            .iter()
            .cloned()
            .map(|(pattern, replacement)| PathMapping { pattern, replacement })
            .collect(),
        rules,
        fallback,
        discovered_mounts: discovers && chosen.declared.is_none() && !is_targetless(resolved),
    }
}

fn is_targetless(resolved: &Resolved) -> bool {
    resolved.target == Some(config_schema::Target::Targetless)
}

fn rule(pattern: PathPattern, text: impl Into<String>, place: Place, origin: impl Into<String>) -> FileRule {
    FileRule { pattern, text: text.into(), place, origin: origin.into() }
}

/// The lists of the config, in the order that decides.
fn listed(resolved: &Resolved) -> Vec<FileRule> {
    let fs = resolved.config.fs();
    let lists = [
        ("not_found", &fs.not_found, Place::Hidden),
        ("read_write", &fs.read_write, Place::Remote),
        ("read_only", &fs.read_only, Place::RemoteReadLocalWrite),
        ("local", &fs.local, Place::Local),
    ];
    let mut rules = Vec::new();
    for (name, patterns, place) in lists {
        for (index, pattern) in patterns.as_deref().unwrap_or_default().iter().enumerate() {
            let origin = format!("feature.fs.{name}[{index}]");
            rules.push(rule(PathPattern::Regex, &pattern.0, place, origin));
        }
    }
    rules
}

fn mounted(mounts: &[String], place: Place) -> impl Iterator<Item = FileRule> {
    mounts.iter().map(move |path| rule(PathPattern::Tree, path, place, format!("mount {path} of the pod")))
}

fn always_declared() -> impl Iterator<Item = FileRule> {
    ALWAYS_DECLARED.iter().map(|(path, pattern)| {
        rule(*pattern, *path, Place::RemoteRead, "resolver and certificates of the pod")
    })
}

fn hidden_identities(resolved: &Resolved) -> Vec<FileRule> {
    let Some(home) = resolved.variable("HOME") else { return Vec::new() };
    let home = home.trim_end_matches('/');
    IDENTITIES
        .iter()
        .map(|name| {
            let origin = "an identity of this machine";
            rule(PathPattern::Tree, format!("{home}/{name}"), Place::Hidden, origin)
        })
        .collect()
}

fn local_defaults(resolved: &Resolved) -> Vec<FileRule> {
    let origin = "programs and tools of this machine";
    let mut rules: Vec<FileRule> =
        LOCAL_NAMES.iter().map(|text| rule(PathPattern::Regex, *text, Place::Local, origin)).collect();
    rules.push(rule(PathPattern::Exact, "/", Place::Local, origin));
    let trees = LOCAL_TREES.iter().map(|path| (*path).to_owned());
    let own = [Some(resolved.source.folder.clone()), resolved.variable("HOME").map(str::to_owned)];
    let own = own.into_iter().flatten().filter(|path| path.len() > 1);
    let temporary = [resolved.variable("TMPDIR").unwrap_or("/tmp").to_owned()];
    for path in trees.chain(own).chain(temporary) {
        rules.push(rule(PathPattern::Tree, path.trim_end_matches('/'), Place::Local, origin));
    }
    rules
}

/// Which connections are the pod's.
pub fn network(resolved: &Resolved, chosen: &Chosen, launch: &LaunchPlan) -> NetworkPlan {
    let config = &resolved.config;
    let (incoming, outgoing) = (config.incoming(), config.outgoing());
    let pairs = |pairs: Option<&[config_schema::PortPair]>| -> BTreeMap<u16, u16> {
        pairs.unwrap_or_default().iter().map(|pair| (pair.local, pair.other)).collect()
    };
    let port_mapping = pairs(incoming.port_mapping.as_deref());
    let filter = incoming.http_filter.as_ref();
    let mut known_ports: Vec<u16> =
        chosen.declared.as_ref().map(|declared| declared.ports.clone()).unwrap_or_default();
    known_ports.extend(port_mapping.values());
    known_ports.extend(incoming.ports.iter().flatten());
    known_ports.extend(filter.and_then(|filter| filter.ports.as_ref()).into_iter().flatten());
    known_ports.sort_unstable();
    known_ports.dedup();
    NetworkPlan {
        outgoing_tcp: config.outgoing_tcp(),
        outgoing_udp: config.outgoing_udp(),
        dns: config.remote_dns(),
        outgoing_ignore_localhost: outgoing.ignore_localhost.unwrap_or(false),
        unix_streams: outgoing
            .unix_streams
            .as_ref()
            .map(|patterns| patterns.iter().map(|pattern| pattern.0.clone()).collect())
            .unwrap_or_default(),
        incoming: IncomingPlan {
            mode: match config.incoming_mode() {
                _ if is_targetless(resolved) => IncomingMode::Off,
                Asked::Off => IncomingMode::Off,
                Asked::Mirror => IncomingMode::Mirror,
                Asked::Steal => IncomingMode::Steal,
            },
            only_ports: incoming.ports.clone(),
            ignore_ports: incoming.ignore_ports.clone().unwrap_or_default(),
            known_ports,
            port_mapping,
            listen_ports: pairs(incoming.listen_ports.as_deref()),
            ignore_localhost: incoming.ignore_localhost.unwrap_or(false),
            debugger_ports: launch::debugger_ports(launch),
            header_filter: filter
                .and_then(|filter| filter.header_filter.as_ref())
                .map(|pattern| pattern.0.clone())
                .unwrap_or_default(),
            filter_ports: filter.and_then(|filter| filter.ports.clone()),
        },
    }
}

/// A mode as people write it.
pub fn mode_word(mode: IncomingMode) -> &'static str {
    match mode {
        IncomingMode::Off => "off",
        IncomingMode::Mirror => "mirror",
        IncomingMode::Steal => "steal",
    }
}

#[cfg(test)]
mod tests;
