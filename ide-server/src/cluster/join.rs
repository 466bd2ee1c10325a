//! Joins an agent that somebody runs beside the same target already, so that its sessions share the target's ports.
//!
//! Who may is decided by the API server: whoever may run programs in the agent's pod (`pods/exec`) runs `agent admit` there
//! with the public keys of their own sessions. Without that right one's own agent is made.

use super::access::{self, timely};
use super::agent::way_of;
use super::job::{self, ADMIN_SOCKET, AGENT_PROGRAM, CONTROL_PORT, MANAGED_BY, US};
use super::spec::{ClusterSpec, TargetPod};
use crate::agents::{AgentRecord, AgentSpec, Order, Place};
use crate::embedded;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, ListParams};
use protocol::auth::PublicKey;
use protocol::ide::{ErrorData, ErrorKind};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// How long it may take to be let in.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long an agent that is only just made may take to let us in, before one of our own is made.
const STARTING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);
/// The most that is read of why not.
const LAST_WORDS: u64 = 4096;

/// Joins an agent that fits, if there is one that lets us in.
pub(super) async fn join(spec: &ClusterSpec, order: &Order, client: &Client) -> Option<AgentRecord> {
    let target = spec.target.as_ref()?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &spec.namespace);
    let selector = format!("{MANAGED_BY}={US},{}={}", job::TARGET_UID, target.uid);
    let listed = match timely(&spec.access, pods.list(&ListParams::default().labels(&selector))).await {
        Ok(listed) => listed.items,
        Err(error) => {
            tracing::debug!(%error, "the agents beside a target cannot be listed");
            return None;
        }
    };
    let arch = spec.delivered.as_ref().map_or(std::env::consts::ARCH, |to| to.arch.as_str());
    let build = embedded::delivery(arch).ok().flatten().map(|delivery| delivery.agent_sha256);
    for pod in listed.iter().filter(|pod| fits(pod, spec, target, build.as_deref())) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let owner =
            format!("{}@{}", annotation(pod, "mirrord-ide/user"), annotation(pod, "mirrord-ide/host"));
        order.steps.report(format!("joining the agent of {owner}"));
        match admit_in_time(client, &spec.namespace, pod, &order.keys).await {
            Ok(()) => return Some(record(spec, order, pod)),
            Err(error) => tracing::info!(%error, pod = name, owner, "an agent cannot be joined"),
        }
    }
    None
}

/// Has an agent let these keys in; one that may only just be starting is asked for a while.
async fn admit_in_time(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    keys: &[PublicKey],
) -> Result<(), ErrorData> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let until = Instant::now() + if phase(pod) == "Running" { Duration::ZERO } else { STARTING };
    loop {
        match admit(client, namespace, name, keys).await {
            Err(error) if error.kind != ErrorKind::Forbidden && Instant::now() < until => {
                tracing::debug!(%error, pod = name, "an agent that starts cannot be joined yet");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has a running agent of a Job let these keys in, too.
pub(super) async fn admit(
    client: &Client,
    namespace: &str,
    pod: &str,
    keys: &[PublicKey],
) -> Result<(), ErrorData> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let admitted = async {
        let mut command = vec![
            AGENT_PROGRAM.to_owned(),
            "admit".to_owned(),
            "--socket".to_owned(),
            ADMIN_SOCKET.to_owned(),
        ];
        command.extend(keys.iter().map(PublicKey::to_string));
        let params =
            AttachParams { container: Some("agent".to_owned()), ..AttachParams::default() }.stdin(false);
        let mut running = pods.exec(pod, command, &params).await.map_err(|error| {
            access::explain(
                &error,
                &access::Doing::new("run `agent admit` in the agent's pod", "of the cluster"),
            )
        })?;
        let mut said = String::new();
        if let Some(stderr) = running.stderr() {
            // Why not, as far as it can be read.
            let _ = stderr.take(LAST_WORDS).read_to_string(&mut said).await;
        }
        let status = match running.take_status() {
            Some(status) => status.await,
            None => None,
        };
        if status.as_ref().and_then(|status| status.status.as_deref()) == Some("Success") {
            return Ok(());
        }
        let why = match said.trim() {
            "" => status.and_then(|status| status.message).unwrap_or_else(|| "no reason given".to_owned()),
            said => said.to_owned(),
        };
        Err(failed(&format!("the agent in pod {pod} lets no session in: {why}")))
    };
    let late = format!("the agent in pod {pod} did not let a session in within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, admitted).await.unwrap_or_else(|_| Err(failed(&late)))
}

/// Has the agent of a record let one more key in; the daemon's own goes with it, so that both count as one laptop's.
pub(crate) async fn admit_more(record: &AgentRecord, key: PublicKey) -> Result<(), ErrorData> {
    let (Some(way), Place::Job { namespace, pod, .. }) = (way_of(&record.endpoint), &record.place) else {
        return Err(failed("this agent takes no more sessions"));
    };
    let keys: Vec<PublicKey> = record.own.iter().map(|own| own.public()).chain([key]).collect();
    admit(&access::client(&way).await?, namespace, pod, &keys).await
}

fn failed(message: &str) -> ErrorData {
    ErrorData::new(ErrorKind::AgentFailed, message, "try again: another agent is made").retryable()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> &'a str {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether an agent's pod is of our own version and `build` (the hash of the agent that we would deliver), looks at the
/// same container, and can do what we need.
fn fits(pod: &Pod, spec: &ClusterSpec, target: &TargetPod, build: Option<&str>) -> bool {
    let theirs = Some(annotation(pod, "mirrord-ide/agent-sha256")).filter(|hash| !hash.is_empty());
    let is_same_build = theirs.is_none() || theirs == build;
    // The API says Running some time after an agent serves.
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let runs = phase(pod) == "Running" || (phase(pod) == "Pending" && is_bound);
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let context = container.and_then(|container| container.security_context.as_ref());
    let added = context.and_then(|context| context.capabilities.as_ref()).and_then(|all| all.add.as_ref());
    let is_privileged = context.and_then(|context| context.privileged).unwrap_or(false);
    let has =
        |name: &str| is_privileged || added.is_some_and(|added| added.iter().any(|added| added == name));
    runs && pod.metadata.deletion_timestamp.is_none()
        && is_same_build
        && annotation(pod, "mirrord-ide/version") == protocol::VERSION
        && annotation(pod, job::CONTAINER_ID) == target.container_id
        && (has("NET_ADMIN") || !spec.incoming)
        && (job::WRITING.iter().all(|name| has(name)) || !spec.writing)
}

fn record(spec: &ClusterSpec, order: &Order, pod: &Pod) -> AgentRecord {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let job = pod.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Job");
    AgentRecord {
        agent: order.agent.clone(),
        key: spec.key(),
        target: spec.target_text(),
        endpoint: spec.endpoint(&name, CONTROL_PORT),
        idle_seconds: order.idle.as_secs(),
        place: Place::Job {
            namespace: spec.namespace.clone(),
            name: job.map(|job| job.name.clone()).unwrap_or_default(),
            uid: job.map(|job| job.uid.clone()).unwrap_or_default(),
            pod: name,
            delivered: !annotation(pod, "mirrord-ide/agent-sha256").is_empty(),
            joined: true,
        },
        own: Some(order.own.clone()),
        ready: false,
        spare: Vec::new(),
        spec: Some(AgentSpec::Cluster(Box::new(spec.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn joins(incoming: bool, change: &Value) -> bool {
        joins_for(incoming, false, change)
    }

    fn joins_for(incoming: bool, writing: bool, change: &Value) -> bool {
        let target = TargetPod {
            namespace: "n".into(),
            pod: "shop".into(),
            uid: "u".into(),
            node: "one".into(),
            container_id: "abc".into(),
        };
        let spec: ClusterSpec = serde_json::from_value(json!({
            "server": "s", "namespace": "n", "path": "pod/shop", "agent": {}, "delivered": null, "incoming": incoming,
            "writing": writing, "target": target,
        }))
        .unwrap();
        let mut pod = json!({
            "metadata": { "annotations": { "mirrord-ide/version": protocol::VERSION, "mirrord-ide/container-id": "abc" } },
            "spec": { "containers": [{ "name": "agent", "securityContext": { "capabilities": { "add": ["SYS_PTRACE", "NET_ADMIN"] } } }] },
            "status": { "phase": "Running" },
        });
        json_patch(&mut pod, change);
        fits(&serde_json::from_value(pod).unwrap(), &spec, &target, Some("ours"))
    }

    /// RFC 7396, as far as needed.
    fn json_patch(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (name, value) in change {
                    json_patch(into.entry(name).or_insert(Value::Null), value);
                }
            }
            (into, change) => *into = change.clone(),
        }
    }

    #[test]
    fn only_an_agent_that_can_do_the_same_for_the_same_container_is_joined() {
        assert!(joins(true, &json!({})));
        assert!(!joins(true, &json!({ "status": { "phase": "Pending" } })));
        assert!(joins(true, &json!({ "status": { "phase": "Pending" }, "spec": { "nodeName": "one" } })));
        assert!(!joins(true, &json!({ "status": { "phase": "Succeeded" } })));
        assert!(!joins(true, &json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })));
        assert!(!joins(true, &json!({ "metadata": { "annotations": { "mirrord-ide/version": "0.0.1" } } })));
        assert!(!joins(
            true,
            &json!({ "metadata": { "annotations": { "mirrord-ide/container-id": "old" } } })
        ));
        assert!(!joins(
            true,
            &json!({ "metadata": { "annotations": { "mirrord-ide/agent-sha256": "other" } } })
        ));
        assert!(joins(
            true,
            &json!({ "metadata": { "annotations": { "mirrord-ide/agent-sha256": "ours" } } })
        ));
        let without_ports = json!({ "spec": { "containers": [{ "name": "agent", "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } }] } });
        assert!(!joins(true, &without_ports) && joins(false, &without_ports));
        let writing = [job::WRITING, &["NET_ADMIN"]].concat();
        let writing = json!({ "spec": { "containers": [{ "name": "agent", "securityContext": { "capabilities": { "add": writing } } }] } });
        assert!(!joins_for(true, true, &json!({})) && joins_for(true, true, &writing));
    }
}
