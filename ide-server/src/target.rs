//! From the target that a config names to the one instance that a session works with.
//!
//! [`local`] finds processes of this machine, [`container`] the one of a container; workloads of a cluster are resolved by [`crate::cluster`].

mod container;
pub mod local;

use crate::agents::AgentSpec;
use crate::cluster;
use crate::config::{self, Resolved};
use crate::session::start::Steps;
use config_schema::Target;
use protocol::host::TargetSummary;
use protocol::ide::{ErrorData, ErrorKind, NamespaceQuery, Namespaces, TargetItem, TargetQuery, Targets};

/// The kinds of targets that this build resolves, in the order in which editors show them: what people deploy, then its
/// pods, then what is seldom meant.
pub const KINDS: &[&str] = &[
    "deployment",
    "rollout",
    "statefulset",
    "daemonset",
    "pod",
    "service",
    "job",
    "cronjob",
    "replicaset",
    "label",
    "container",
    "process",
    "targetless",
];

/// What was chosen, and what its spec declares.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// For people and for the ticket.
    pub summary: TargetSummary,
    /// The agent that it takes.
    pub agent: AgentSpec,
    /// What the pod's spec declares; `None` for local targets, which have none.
    pub declared: Option<Declared>,
    /// Who the cluster says we are, or the local user.
    pub identity: String,
    /// What the user should know, one sentence each.
    pub notices: Vec<String>,
}

/// What a pod's spec declares of the container that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Names of its variables; `None` when a source of them may not be read.
    pub env: Option<Vec<String>>,
    /// Paths where volumes are mounted.
    pub mounts: Vec<String>,
    /// Ports that it serves or is probed on.
    pub ports: Vec<u16>,
}

/// Chooses the instance for a config's target.
pub async fn choose(resolved: &Resolved, steps: &Steps) -> Result<Chosen, ErrorData> {
    match &resolved.target {
        Some(Target::LocalProcess { pid }) => local::choose(resolved, *pid),
        Some(Target::LocalContainer { name }) => {
            steps.report(format!("looking up container {name}"));
            let pid = container::process_of(name).await?;
            let mut chosen = local::choose(resolved, pid)?;
            chosen.summary.path = format!("container/{name}");
            Ok(chosen)
        }
        Some(target) => {
            steps.report(format!("resolving {target}"));
            cluster::choose(resolved, target, steps).await
        }
        None => Err(no_target(resolved).await),
    }
}

async fn no_target(resolved: &Resolved) -> ErrorData {
    let mut candidates = Vec::new();
    let query = TargetQuery { config: resolved.source.clone(), ..TargetQuery::default() };
    let mut collect = |items: Vec<TargetItem>| {
        candidates.extend(items.into_iter().filter(|item| item.ready).map(|item| item.path));
    };
    // Without a cluster there are no candidates; that no target was given is still what is wrong.
    let listed = list(&query, &mut collect);
    let answered = tokio::time::timeout(std::time::Duration::from_secs(3), listed).await;
    if !matches!(answered, Ok(Ok(_))) {
        tracing::debug!("no candidates for a target could be listed");
    }
    candidates.truncate(3);
    let help = match candidates.as_slice() {
        [] => "name one with --target or in mirrord.json, such as deployment/shop or process/1234".to_owned(),
        some => format!("name one with --target or in mirrord.json: {}", some.join(", ")),
    };
    let mut error = ErrorData::new(ErrorKind::TargetAmbiguous, "no target is given", help);
    error.candidates = candidates;
    error
}

/// Lists the namespaces that targets can be in.
pub async fn namespaces(query: &NamespaceQuery) -> Result<Namespaces, ErrorData> {
    let resolved = config::resolve_aside(&query.config).await?;
    cluster::namespaces(&resolved).await
}

/// Lists targets; each batch goes to `on_batch` as soon as it is there.
pub async fn list(
    query: &TargetQuery,
    on_batch: &mut (dyn FnMut(Vec<TargetItem>) + Send),
) -> Result<Targets, ErrorData> {
    let resolved = config::resolve_aside(&query.config).await?;
    cluster::list(&resolved, query, on_batch).await
}
