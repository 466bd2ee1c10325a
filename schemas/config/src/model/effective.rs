//! What holds in the end: defaults, short forms and `false` switches put together. Other crates ask here.

use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::decode::{FlagOr, Short};
use crate::{Status, Target, status_of};

/// Where files come from when no list names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileMode {
    /// What the pod's spec declares (mounts, resolver, certificates) is read from the target; all else is local.
    Declared,
    /// All local, lists do not count.
    Local,
    /// Local but for the lists.
    LocalWithOverrides,
    /// Reading remote, writing local.
    Read,
    /// Reading and writing remote.
    Write,
}

/// What comes to be of the target's environment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EnvPlan<'c> {
    /// Nothing is taken from the target.
    Off,
    /// Taken, with the default choice.
    Default,
    /// Taken, as these settings say.
    With(&'c EnvConfig),
}

static NO_AGENT: LazyLock<AgentConfig> = LazyLock::new(AgentConfig::default);
static NO_FS: LazyLock<FsConfig> = LazyLock::new(FsConfig::default);
static NO_INCOMING: LazyLock<IncomingConfig> = LazyLock::new(IncomingConfig::default);
static NO_OUTGOING: LazyLock<OutgoingConfig> = LazyLock::new(OutgoingConfig::default);

fn works(key: &str) -> bool {
    status_of(key) == Some(Status::Implemented)
}

impl MirrordConfig {
    /// What to impersonate, where the file says so.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()?.path.as_ref()
    }

    /// The target's namespace, where the file says so.
    #[must_use]
    pub fn target_namespace(&self) -> Option<&str> {
        self.target.as_ref()?.namespace.as_deref()
    }

    /// Whether a session works with all ready pods of a workload or with one.
    #[must_use]
    pub fn replicas(&self) -> Replicas {
        self.target.as_ref().and_then(|target| target.replicas).unwrap_or(Replicas::All)
    }

    /// The agent's settings, empty if there are none.
    #[must_use]
    pub fn agent(&self) -> &AgentConfig {
        self.agent.as_ref().unwrap_or(&NO_AGENT)
    }

    /// What comes to be of the target's environment.
    #[must_use]
    pub fn env(&self) -> EnvPlan<'_> {
        match self.feature.as_ref().and_then(|feature| feature.env.as_ref()) {
            None | Some(Short::Short(true)) => EnvPlan::Default,
            Some(Short::Short(false)) => EnvPlan::Off,
            Some(Short::Long(env)) => EnvPlan::With(env),
        }
    }

    /// The lists of `feature.fs`, empty if there are none.
    #[must_use]
    pub fn fs(&self) -> &FsConfig {
        match self.feature.as_ref().and_then(|feature| feature.fs.as_ref()) {
            Some(Short::Long(fs)) => fs,
            _ => &NO_FS,
        }
    }

    /// Where files come from when no list names them.
    #[must_use]
    pub fn file_mode(&self) -> FileMode {
        let mode = match self.feature.as_ref().and_then(|feature| feature.fs.as_ref()) {
            Some(Short::Short(FlagOr::Flag(false))) => return FileMode::Local,
            Some(Short::Short(FlagOr::Mode(mode))) => Some(*mode),
            Some(Short::Long(fs)) => fs.mode,
            None | Some(Short::Short(FlagOr::Flag(true))) => None,
        };
        match mode {
            // No pod, no declared files.
            None if self.target() == Some(&Target::Targetless) => FileMode::LocalWithOverrides,
            None => FileMode::Declared,
            Some(FsMode::Local) => FileMode::Local,
            Some(FsMode::LocalWithOverrides) => FileMode::LocalWithOverrides,
            Some(FsMode::Read) => FileMode::Read,
            Some(FsMode::Write) => FileMode::Write,
        }
    }

    /// Whether files of the target may be written.
    #[must_use]
    pub fn writes_files(&self) -> bool {
        match self.file_mode() {
            FileMode::Local => false,
            FileMode::Write => true,
            _ => self.fs().read_write.as_deref().is_some_and(|patterns| !patterns.is_empty()),
        }
    }

    fn network(&self) -> Option<&Toggle<NetworkConfig>> {
        self.feature.as_ref()?.network.as_ref()
    }

    fn network_parts(&self) -> Option<&NetworkConfig> {
        self.network()?.long()
    }

    fn network_off(&self) -> bool {
        self.network().and_then(Short::short) == Some(&false)
    }

    /// The settings of incoming traffic, empty if there are none.
    #[must_use]
    pub fn incoming(&self) -> &IncomingConfig {
        match self.network_parts().and_then(|network| network.incoming.as_ref()) {
            Some(Short::Long(incoming)) => incoming,
            _ => &NO_INCOMING,
        }
    }

    /// The mode that the file asks for.
    #[must_use]
    pub fn asked_incoming_mode(&self) -> IncomingMode {
        if self.network_off() {
            return IncomingMode::Off;
        }
        match self.network_parts().and_then(|network| network.incoming.as_ref()) {
            Some(Short::Short(FlagOr::Flag(false))) => IncomingMode::Off,
            Some(Short::Short(FlagOr::Mode(mode))) => *mode,
            Some(Short::Long(incoming)) => incoming.mode.unwrap_or(IncomingMode::Mirror),
            None | Some(Short::Short(FlagOr::Flag(true))) => IncomingMode::Mirror,
        }
    }

    /// The mode to work by. Other than asked for in two cases: without a target nothing comes in, and a steal with
    /// a filter that is not obeyed yet must not take every request, so it is a mirror.
    #[must_use]
    pub fn incoming_mode(&self) -> IncomingMode {
        match self.asked_incoming_mode() {
            _ if self.target() == Some(&Target::Targetless) => IncomingMode::Off,
            IncomingMode::Steal if self.filter_is_ignored() => IncomingMode::Mirror,
            mode => mode,
        }
    }

    /// Whether there is an HTTP filter that this version does not obey.
    #[must_use]
    pub(crate) fn filter_is_ignored(&self) -> bool {
        let Some(filter) = &self.incoming().http_filter else { return false };
        let kinds = filter.kinds();
        let path = "feature.network.incoming.http_filter";
        kinds.into_iter().any(|(kind, given)| given && !works(&format!("{path}.{kind}")))
    }

    /// The settings of outgoing traffic, empty if there are none.
    #[must_use]
    pub fn outgoing(&self) -> &OutgoingConfig {
        match self.network_parts().and_then(|network| network.outgoing.as_ref()) {
            Some(Short::Long(outgoing)) => outgoing,
            _ => &NO_OUTGOING,
        }
    }

    fn outgoing_off(&self) -> bool {
        self.network_off()
            || self.network_parts().and_then(|network| network.outgoing.as_ref()?.short()) == Some(&false)
    }

    /// Whether TCP connections leave from the target.
    #[must_use]
    pub fn outgoing_tcp(&self) -> bool {
        !self.outgoing_off() && self.outgoing().tcp.unwrap_or(true)
    }

    /// Whether UDP leaves from the target.
    #[must_use]
    pub fn outgoing_udp(&self) -> bool {
        !self.outgoing_off() && self.outgoing().udp.unwrap_or(true)
    }

    /// Whether names are resolved at the target.
    #[must_use]
    pub fn remote_dns(&self) -> bool {
        if self.network_off() {
            return false;
        }
        match self.network_parts().and_then(|network| network.dns.as_ref()) {
            None => true,
            Some(Short::Short(flag)) => *flag,
            Some(Short::Long(dns)) => dns.enabled.unwrap_or(true),
        }
    }

    /// Which names are resolved where, if the file says so.
    #[must_use]
    pub fn dns_filter(&self) -> Option<&AddressFilterConfig> {
        self.network_parts()?.dns.as_ref()?.long()?.filter.as_ref()
    }

    /// Whether the program has IPv6.
    #[must_use]
    pub fn ipv6(&self) -> bool {
        self.network_parts().and_then(|network| network.ipv6).unwrap_or(true)
    }

    /// Whether `gethostname` gives the target's name.
    #[must_use]
    pub fn hostname(&self) -> bool {
        self.feature.as_ref().and_then(|feature| feature.hostname).unwrap_or(true)
    }

    /// Programs that run as if mirrord-ide were not there.
    pub fn skip_processes(&self) -> impl Iterator<Item = &str> {
        split_names(self.skip_processes.as_deref())
    }

    /// Whether `HTTP_PROXY` and `HTTPS_PROXY` are used to reach the Kubernetes API.
    #[must_use]
    pub fn use_proxy(&self) -> bool {
        self.use_proxy.unwrap_or(true)
    }
}

impl EnvConfig {
    /// The only names to take; empty means all.
    pub fn include(&self) -> impl Iterator<Item = &str> {
        split_names(self.include.as_deref())
    }

    /// The names to leave.
    pub fn exclude(&self) -> impl Iterator<Item = &str> {
        split_names(self.exclude.as_deref())
    }

    /// The names that the program shall not have.
    pub fn unset(&self) -> impl Iterator<Item = &str> {
        split_names(self.unset.as_deref())
    }
}

/// Names as lists hold them: one entry may hold several with `;` between, as in the environment variables.
fn split_names(list: Option<&[String]>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default()
        .iter()
        .flat_map(|entry| entry.split(';'))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

impl IncomingConfig {
    /// The target's port for a port that the program listens on.
    #[must_use]
    pub fn remote_port(&self, local: u16) -> u16 {
        find_pair(self.port_mapping.as_deref(), local)
    }

    /// Where a listener of the program really listens on this machine.
    #[must_use]
    pub fn actual_port(&self, asked: u16) -> u16 {
        find_pair(self.listen_ports.as_deref(), asked)
    }

    /// Whether a port that the program listens on is served from the target.
    #[must_use]
    pub fn serves(&self, local: u16) -> bool {
        if self.ignore_ports.as_deref().unwrap_or_default().contains(&local) {
            return false;
        }
        self.ports.as_deref().is_none_or(|ports| ports.contains(&local))
    }
}

fn find_pair(pairs: Option<&[crate::PortPair]>, port: u16) -> u16 {
    pairs.unwrap_or_default().iter().find(|pair| pair.local == port).map_or(port, |pair| pair.other)
}

impl AgentConfig {
    /// The agent's image, where one is named.
    #[must_use]
    pub fn image_reference(&self) -> Option<String> {
        match self.image.as_ref()? {
            Short::Short(reference) => Some(reference.clone()),
            Short::Long(parts) => {
                let registry = parts.registry.as_deref()?;
                Some(match &parts.tag {
                    Some(tag) => format!("{registry}:{tag}"),
                    None => registry.to_owned(),
                })
            }
        }
    }

    /// When the node pulls the image.
    #[must_use]
    pub fn image_pull_policy(&self) -> PullPolicy {
        self.image_pull_policy.unwrap_or(PullPolicy::IfNotPresent)
    }

    /// Names of the secrets to pull the image with.
    pub fn image_pull_secrets(&self) -> impl Iterator<Item = &str> {
        self.image_pull_secrets
            .as_deref()
            .unwrap_or_default()
            .iter()
            .filter_map(|secret| secret.name.as_deref())
    }

    /// What the agent logs.
    #[must_use]
    pub fn log_level(&self) -> &str {
        self.log_level.as_deref().unwrap_or("info")
    }

    /// Whether the agent is an ephemeral container of the target pod.
    #[must_use]
    pub fn ephemeral(&self) -> bool {
        self.ephemeral.unwrap_or(false)
    }

    /// How long the agent may take to be ready.
    #[must_use]
    pub fn startup_timeout(&self) -> Duration {
        Duration::from_secs(self.startup_timeout.unwrap_or(60))
    }

    /// How long the agent stays ready after its last session.
    #[must_use]
    pub fn idle(&self, editor_connected: bool) -> Duration {
        Duration::from_secs(self.idle.unwrap_or(if editor_connected { 600 } else { 60 }))
    }

    /// How the agent's program gets into the cluster.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery.unwrap_or(Delivery::Auto)
    }
}

impl HttpFilterConfig {
    /// The kinds of filter there are, by key, and whether each is given.
    pub(crate) fn kinds(&self) -> [(&'static str, bool); 7] {
        [
            ("header_filter", self.header_filter.is_some()),
            ("header_filter_jq", self.header_filter_jq.is_some()),
            ("path_filter", self.path_filter.is_some()),
            ("method_filter", self.method_filter.is_some()),
            ("body_filter", self.body_filter.is_some()),
            ("all_of", self.all_of.is_some()),
            ("any_of", self.any_of.is_some()),
        ]
    }
}
