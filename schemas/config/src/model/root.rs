//! The settings at the root of the file.

use crate::decode::{OneOrMany, Opaque, Short};
use crate::form::record;
use crate::{
    AgentConfig, ContainerConfig, ExperimentalConfig, ExternalProxyConfig, FeatureConfig,
    InternalProxyConfig, TargetConfig,
};

record! {
    /// A whole `mirrord.json`.
    pub struct MirrordConfig {
        /// Whether the Kubernetes API's certificate goes unchecked. Absent, the kubeconfig decides.
        pub accept_invalid_certificates: bool,
        /// Names of programs that run as if mirrord-ide were not there.
        pub skip_processes: OneOrMany<String> = "[]",
        /// Whether known build tools (compilers, linkers, package managers) run untouched.
        pub skip_build_tools: bool = "true",
        /// More names for the list of build tools.
        pub skip_extra_build_tools: OneOrMany<String> = "[]",
        /// macOS: programs to patch although the system protects them.
        pub sip_binaries: OneOrMany<String> = "[]",
        /// macOS: programs never to patch.
        pub skip_sip: OneOrMany<String> = "\"git\"",
        /// Whether to use mirrord's paid operator.
        pub operator: bool,
        /// A session over several clusters, by the paid operator.
        pub multi_cluster: bool,
        /// Whether a running session can be watched. Here the daemon answers for every session.
        pub api: bool = "true",
        /// A profile of the cluster whose adjustments are applied to this config.
        pub profile: String,
        /// Path of the kubeconfig; several separated by colons, `~` is the home folder.
        pub kubeconfig: String,
        /// The kubeconfig's context. Absent, its current one.
        pub kube_context: String,
        /// What the program impersonates: a string such as `deployment/shop`, or an object. Absent, it is asked for.
        pub target: TargetConfig,
        /// The agent that works in the cluster for a session.
        pub agent: AgentConfig,
        /// Running the program itself in a container on this machine.
        pub container: ContainerConfig,
        /// What of the target the program sees.
        pub feature: FeatureConfig,
        /// Usage events. mirrord-ide sends none, whatever stands here.
        pub telemetry: bool = "true",
        /// mirrord's proxy process on this machine.
        pub internal_proxy: InternalProxyConfig,
        /// mirrord's proxy process beside containers.
        pub external_proxy: ExternalProxyConfig,
        /// Whether `HTTP_PROXY` and `HTTPS_PROXY` are used to reach the Kubernetes API.
        pub use_proxy: bool = "true",
        /// Settings that may change or go.
        pub experimental: ExperimentalConfig,
        /// How calls to the Kubernetes API are tried again while a session starts.
        pub startup_retry: StartupRetryConfig,
        /// Sessions in continuous integration.
        pub ci: CiConfig,
        /// The session's key, which templates know as `key`. Absent, one is made up.
        pub key: String,
        /// W3C trace context for the paid operator.
        pub traceparent: String,
        /// W3C baggage for the paid operator.
        pub baggage: String,
    }
}

record! {
    /// Trying again while a session starts.
    pub struct StartupRetryConfig {
        /// The first wait, in milliseconds.
        pub min_ms: u64 = "500",
        /// The longest wait, in milliseconds.
        pub max_ms: u64 = "5000",
        /// How often.
        pub max_retries: u32 = "2",
    }
}

record! {
    /// Sessions in continuous integration.
    pub struct CiConfig {
        /// Where the logs of the program go.
        pub output_dir: String = "\"/tmp/mirrord/\"",
    }
}

/// A setting that is `true`, `false` or an object of its own settings.
pub type Toggle<T> = Short<bool, T>;

/// A paid setting, kept as it stands.
pub type Paid = Opaque;
