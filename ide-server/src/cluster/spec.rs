//! What an agent in a cluster is to be, as it is decided before anything is made and written for the next daemon.

use config_schema::AgentConfig;
use protocol::host::Endpoint;
use session_host::agent_link::ClusterAccess;

/// What an agent in a cluster is to be.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct ClusterSpec {
    /// The way into the cluster; not written here, the endpoint has it.
    #[serde(skip)]
    pub access: ClusterAccess,
    /// The API server.
    pub server: String,
    /// The agent's namespace.
    pub namespace: String,
    /// The pod that it looks at; none for a targetless session.
    pub target: Option<TargetPod>,
    /// The target as the config names it.
    pub path: String,
    /// The agent's settings.
    #[serde(deserialize_with = "read_settings")]
    pub agent: AgentConfig,
    /// Where it is delivered to; `None` where an image holds it.
    pub delivered: Option<DeliveredTo>,
    /// Set where it is to be an ephemeral container of the target's pod instead of a Job.
    #[serde(default)]
    pub inside: Option<Inside>,
    /// Whether ports are to be taken over.
    pub incoming: bool,
    /// Whether files are to be written.
    #[serde(default)]
    pub writing: bool,
}

/// An image of the target's, on the node already, in which the agent is to run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeliveredTo {
    /// The image.
    pub image: String,
    /// The node's processor, as Rust names it.
    pub arch: String,
    /// Names of the secrets that it is pulled with.
    pub pull_secrets: Vec<String>,
}

/// How an ephemeral container stands beside the target's own.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Inside {
    /// The target's container, whose processes it is to see.
    pub container: String,
    /// Whether all containers of the pod see each other's processes, so that the target's first one is not process 1.
    pub shares_processes: bool,
    /// The security context of the target's container: what is allowed to that is allowed to us.
    pub security_context: serde_json::Value,
}

/// The pod that an agent looks at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// The container's id at the runtime.
    pub container_id: String,
}

/// Settings are read as a config's are, by the one reader that there is.
fn read_settings<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<AgentConfig, D::Error> {
    let settings = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
    let text = serde_json::json!({ "agent": settings }).to_string();
    let config = config_schema::parse(&text, config_schema::Format::Json).config;
    let config =
        config.ok_or_else(|| serde::de::Error::custom("the agent's settings cannot be read back"))?;
    Ok(config.agent.unwrap_or_default())
}

impl std::fmt::Debug for ClusterSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the client's environment: it may hold credentials.
        f.debug_struct("ClusterSpec")
            .field("namespace", &self.namespace)
            .field("target", &self.target)
            .finish()
    }
}

impl ClusterSpec {
    /// Equal for sessions that can share an agent.
    pub fn key(&self) -> String {
        let target = match &self.target {
            Some(target) => format!("{}/{}", target.uid, target.container_id),
            None => "targetless".to_owned(),
        };
        let settings = serde_json::to_string(&self.agent).unwrap_or_default();
        let user = self.access.context.as_deref().unwrap_or_default();
        let form = match (&self.inside, &self.delivered) {
            (Some(_), _) => "ephemeral",
            (None, Some(_)) => "delivered",
            (None, None) => "image",
        };
        let rights = format!("{}:{}", self.incoming, self.writing);
        format!("{form}:{}:{user}:{}:{target}:{rights}:{settings}", self.server, self.namespace)
    }

    /// The same agent, with these rights beside its own.
    pub(crate) fn with(&self, incoming: bool, writing: bool) -> Self {
        Self { incoming: self.incoming || incoming, writing: self.writing || writing, ..self.clone() }
    }

    /// The target, for people.
    pub fn target_text(&self) -> String {
        match &self.target {
            Some(target) => format!("{} (pod {}/{})", self.path, target.namespace, target.pod),
            None => self.path.clone(),
        }
    }

    /// The way to an agent that listens on a port of that pod's loopback.
    pub(crate) fn endpoint(&self, pod: &str, port: u16) -> Endpoint {
        let way = &self.access;
        Endpoint::PortForward {
            kubeconfig: way.kubeconfig.clone(),
            context: way.context.clone(),
            accept_invalid_certificates: way.accept_invalid_certificates,
            env: way.env.clone(),
            namespace: self.namespace.clone(),
            pod: pod.to_owned(),
            port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::AgentSpec;

    fn spec() -> ClusterSpec {
        let text = r#"{"agent": {"image": {"registry": "r/agent", "tag": "1"}, "labels": {"a": "b"}, "ttl": 5,
            "resources": {"limits": {"cpu": "100m"}}, "tolerations": [{"key": "k", "operator": "Exists"}]}}"#;
        let agent = config_schema::parse(text, config_schema::Format::Json).config.unwrap().agent.unwrap();
        ClusterSpec {
            access: ClusterAccess { context: Some("c".to_owned()), ..ClusterAccess::default() },
            server: "https://s".to_owned(),
            namespace: "n".to_owned(),
            target: None,
            path: "targetless".to_owned(),
            agent,
            delivered: None,
            inside: None,
            incoming: true,
            writing: true,
        }
    }

    #[test]
    fn a_spec_reads_back_as_it_was_but_for_the_way_into_the_cluster() {
        let spec = spec();
        let read: ClusterSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(read.access, ClusterAccess::default());
        assert_eq!(read.agent, spec.agent);
        assert_eq!(ClusterSpec { access: spec.access.clone(), ..read }.key(), spec.key());
    }

    #[test]
    fn a_session_that_needs_less_may_join_an_agent_that_may_do_more_and_not_the_other_way_round() {
        let all = AgentSpec::Cluster(Box::new(spec()));
        let less = AgentSpec::Cluster(Box::new(ClusterSpec { incoming: false, ..spec() }));
        let least = AgentSpec::Cluster(Box::new(ClusterSpec { incoming: false, writing: false, ..spec() }));
        assert!(least.fitting_keys().is_superset(&less.fitting_keys()));
        assert!(less.fitting_keys().contains(&all.key()) && less.fitting_keys().contains(&less.key()));
        assert!(!less.fitting_keys().contains(&least.key()));
        assert_eq!(all.fitting_keys(), [all.key()].into());
        // The one that takes the place of a lost one does for the sessions that take ports.
        assert_eq!(less.clone().covering(Some(&all)).key(), all.key());
        assert_eq!(less.clone().covering(Some(&less)).key(), less.key());
        assert_eq!(all.clone().covering(Some(&less)).key(), all.key());
    }
}
