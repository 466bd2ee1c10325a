//! `agent`: the helper in the cluster.

use std::collections::BTreeMap;

use crate::decode::{Quantity, Short};
use crate::form::{choice, record};

record! {
    /// The agent that works in the cluster for a session.
    pub struct AgentConfig {
        /// What the agent logs: a level, or a filter such as `agent=debug`.
        pub log_level: String = "\"info\"",
        /// Whether the agent logs as JSON.
        pub json_log: bool = "false",
        /// The namespace of the agent's own pod. Absent, the target's.
        pub namespace: String,
        /// The agent's image, as one string or as `{registry, tag}`. Absent, none is needed: the agent is delivered.
        pub image: Short<String, AgentImageParts>,
        /// When the node pulls the image.
        pub image_pull_policy: PullPolicy = "\"IfNotPresent\"",
        /// Secrets to pull the image with.
        pub image_pull_secrets: Vec<PullSecret> = "[]",
        /// Seconds that the finished agent's Job stays.
        pub ttl: u16 = "1",
        /// Whether the agent is an ephemeral container of the target pod rather than a pod of its own.
        pub ephemeral: bool = "false",
        /// Seconds within which the first client must come.
        pub communication_timeout: u16,
        /// Seconds that the agent may take to be ready.
        pub startup_timeout: u64 = "60",
        /// Whether open connections of a newly stolen port are cut.
        pub flush_connections: bool = "true",
        /// Capabilities that the agent does without.
        pub disabled_capabilities: Vec<Capability> = "[]",
        /// Whether the agent's container is privileged.
        pub privileged: bool = "false",
        /// Taints of nodes that the agent's pod puts up with. Absent, all of them where there is a target.
        pub tolerations: Vec<Toleration>,
        /// What the agent's container asks of the node and may use.
        pub resources: Resources,
        /// Whether a node that has no room for one more pod is refused beforehand.
        pub check_out_of_pods: bool = "true",
        /// Whether passed-through connections go to the address they were sent to rather than to loopback.
        pub external_ip_fix: bool = "true",
        /// nftables (`true`) or legacy iptables (`false`). Here always nftables through netlink.
        pub nftables: bool,
        /// Whether rules left by another agent are removed rather than refused.
        pub clean_iptables_on_start: bool = "false",
        /// The agent's resolver.
        pub dns: AgentDns,
        /// Labels of the agent's objects.
        pub labels: BTreeMap<String, String>,
        /// Annotations of the agent's objects.
        pub annotations: BTreeMap<String, String>,
        /// The service account of the agent's pod.
        pub service_account: String,
        /// The priority class of the agent's pod.
        pub priority_class: String,
        /// Labels of the node to run on; without a target only.
        pub node_selector: BTreeMap<String, String>,
        /// `address:port` where the agent offers metrics for Prometheus.
        pub metrics: String,
        /// Whether the agent's own port is kept out of a sidecar's redirection.
        pub exclude_from_mesh: bool = "false",
        /// Whether meshes are told not to put a sidecar into the agent's pod.
        pub disable_mesh_sidecar_injection: bool = "true",
        /// Whether answers carry a header that says if they were passed on or served here.
        pub inject_headers: bool = "false",
        /// Whether answers to filtered requests are marked as not to be cached.
        pub override_cache_control: bool = "true",
        /// Bytes of a body that a body filter looks at.
        pub max_body_buffer_size: u32 = "65535",
        /// Milliseconds that a body filter waits for a body.
        pub max_body_buffer_timeout: u32 = "1000",
        /// Seconds that the agent waits for a connection's first bytes to tell whether it is HTTP.
        pub http_detection_timeout: u64 = "2",
        /// AppArmor and seccomp profiles of the agent's container.
        pub security_context: SecurityContext,
        /// Milliseconds that a jq filter may take for one request.
        pub jaq_time_limit: u64 = "500",
        /// mirrord-ide's own: seconds that the agent stays ready after its last session; 0 ends it at once. Absent,
        /// 60 from a terminal and 600 while an editor is connected.
        pub idle: u64,
        /// mirrord-ide's own: how the agent's program gets into the cluster. `auto` delivers it where no image is
        /// named, `image` uses nothing but `agent.image`.
        pub delivery: Delivery = "\"auto\"",
    }
}

record! {
    /// An image in two parts.
    pub struct AgentImageParts {
        /// Registry and repository.
        pub registry: String,
        /// The tag.
        pub tag: String,
    }
}

record! {
    /// A Secret to pull images with.
    pub struct PullSecret {
        /// Its name.
        pub name: String,
    }
}

record! {
    /// The agent's resolver.
    pub struct AgentDns {
        /// Seconds that one attempt may take.
        pub timeout: u32,
        /// How often a name is asked for.
        pub attempts: u32,
    }
}

record! {
    /// A taint that the agent's pod puts up with, as in a pod's spec.
    pub struct Toleration {
        /// The taint's key; absent with `operator: Exists`, all keys.
        pub key: String,
        /// `Exists` or `Equal`.
        pub operator: TolerationOperator = "\"Equal\"",
        /// The taint's value.
        pub value: String,
        /// The effect; absent, all effects.
        pub effect: TaintEffect,
        /// Seconds that a `NoExecute` taint is put up with.
        pub toleration_seconds as "tolerationSeconds": i64,
    }
}

choice! {
    /// How a toleration compares.
    pub enum TolerationOperator {
        /// The key is enough.
        Exists = "Exists",
        /// Key and value.
        Equal = "Equal",
    }
}

choice! {
    /// What a taint does.
    pub enum TaintEffect {
        /// New pods stay away.
        NoSchedule = "NoSchedule",
        /// New pods stay away if they can.
        PreferNoSchedule = "PreferNoSchedule",
        /// Pods are sent away.
        NoExecute = "NoExecute",
    }
}

record! {
    /// What the agent's container asks of the node and may use, as in a pod's spec.
    pub struct Resources {
        /// At least.
        pub requests: BTreeMap<String, Quantity> = "{\"cpu\": \"1m\", \"memory\": \"1Mi\"}",
        /// At most.
        pub limits: BTreeMap<String, Quantity> = "{\"cpu\": \"1\", \"memory\": \"100Mi\"}",
    }
}

record! {
    /// Profiles of the agent's container.
    pub struct SecurityContext {
        /// The AppArmor profile.
        pub app_armor_profile: SecurityProfile,
        /// The seccomp profile.
        pub seccomp_profile: SecurityProfile,
    }
}

record! {
    /// One profile, as in a pod's spec.
    pub struct SecurityProfile {
        /// `Localhost`, `RuntimeDefault` or `Unconfined`.
        pub profile_type as "type": ProfileType,
        /// The profile's name on the node, for `Localhost`.
        pub localhost_profile: String,
    }
}

choice! {
    /// Where a profile comes from.
    pub enum ProfileType {
        /// From the node.
        Localhost = "Localhost",
        /// From the container runtime.
        RuntimeDefault = "RuntimeDefault",
        /// None.
        Unconfined = "Unconfined",
    }
}

choice! {
    /// When the node pulls the image.
    pub enum PullPolicy {
        /// Each time.
        Always = "Always",
        /// If the node does not have it.
        IfNotPresent = "IfNotPresent",
        /// Never; the node must have it.
        Never = "Never",
    }
}

choice! {
    /// A Linux capability that the agent may be told to do without.
    pub enum Capability {
        /// Changing the network; without it no port can be taken over.
        NetAdmin = "NET_ADMIN",
        /// Capturing packets.
        NetRaw = "NET_RAW",
        /// Reading other processes.
        SysPtrace = "SYS_PTRACE",
        /// Entering namespaces.
        SysAdmin = "SYS_ADMIN",
    }
}

choice! {
    /// How the agent's program gets into the cluster.
    pub enum Delivery {
        /// Delivered by mirrord-ide, unless an image is named.
        Auto = "auto",
        /// By an image and nothing else.
        Image = "image",
    }
}
