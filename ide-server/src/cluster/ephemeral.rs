//! An agent as an ephemeral container of the target's pod: what Kubernetes is asked for, and how it is ended.
//!
//! Kubernetes never removes such a container: when the agent ends, its ended entry stays until the pod goes. So the agent
//! is asked to end by itself, with the daemon's own key; nothing else in the pod is touched.

use super::access::{Doing, explain, forbidden, timely};
use super::agent::{finishing, way_of};
use super::job;
use super::spec::{ClusterSpec, Inside};
use crate::agents::{AgentRecord, Order};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use protocol::ide::{ErrorData, ErrorKind};
use serde_json::{Value, json};
use session_host::agent_link::Finished;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// Where an agent listens on the pod's loopback: below the ports that the kernel gives to outgoing connections, and
/// another one for each, as several agents may be in one pod.
const PORTS: Range<u16> = 20_000..32_000;
/// What an agent needs in order to see the target's processes and files and to take over its ports.
const CAPABILITIES: [&str; 3] = ["NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"];
/// How long an agent may take to end.
const ENDING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(150);

/// A port for one agent.
pub(super) fn fresh_port() -> Result<u16, ErrorData> {
    let mut bytes = [0; 2];
    crate::state::fill_random(&mut bytes)?;
    Ok(PORTS.start + u16::from_ne_bytes(bytes) % (PORTS.end - PORTS.start))
}

/// What the user is told before it is made.
pub(super) fn warning(pod: &str) -> String {
    format!(
        "the agent is an ephemeral container of pod {pod}: after the session its ended entry stays there until the pod \
         goes, as Kubernetes cannot remove it"
    )
}

/// Adds the container to the pod.
pub(super) async fn add(
    spec: &ClusterSpec,
    inside: &Inside,
    order: &Order,
    client: &Client,
    port: u16,
) -> Result<(), ErrorData> {
    let Some(target) = &spec.target else {
        let help = "name a target, or remove agent.ephemeral";
        return Err(ErrorData::new(ErrorKind::ConfigInvalid, "an ephemeral container needs a pod", help));
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &target.namespace);
    let added = json!({ "spec": { "ephemeralContainers": [container(spec, inside, order, port)] } });
    let (params, change) = (PatchParams::default(), Patch::Strategic(added));
    let patched = pods.patch_ephemeral_containers(&target.pod, &params, &change);
    match timely(&spec.access, patched).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err(refused(forbidden(&status.message, "add the agent's container to the pod"), spec.incoming))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Err(ErrorData::new(
            ErrorKind::TargetNotFound,
            format!("pod {} in namespace {} is gone", target.pod, target.namespace),
            "try again",
        )
        .retryable()),
        Err(error) => Err(explain(&error, &Doing::new("add the agent's container to the pod", &spec.server))),
    }
}

/// Where the cluster bars what taking over ports needs, the rest can still be had.
fn refused(mut error: ErrorData, incoming: bool) -> ErrorData {
    if incoming && error.facts.contains_key("rule") {
        "set feature.network.incoming to off: without incoming traffic the agent asks for no more than the target's own \
         container has"
            .clone_into(&mut error.help);
    }
    error
}

fn container(spec: &ClusterSpec, inside: &Inside, order: &Order, port: u16) -> Value {
    // Without shared processes the target's first one is the first that a container beside it sees.
    let target = match (&spec.target, inside.shares_processes) {
        (Some(target), true) => format!("container-id:{}", target.container_id),
        _ => "pid:1".to_owned(),
    };
    json!({
        "name": job::name(&order.agent),
        "image": spec.agent.image_reference(),
        "imagePullPolicy": spec.agent.image_pull_policy(),
        "args": job::arguments(spec, order, port, &target),
        "targetContainerName": inside.container,
        "securityContext": security_context(spec, inside),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn security_context(spec: &ClusterSpec, inside: &Inside) -> Value {
    if !spec.incoming && !spec.agent.privileged.unwrap_or(false) {
        // As the target's own container is allowed: then its user's environment and files are open to us as well.
        return inside.security_context.clone();
    }
    let mut context = json!({ "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false });
    job::profiles(&spec.agent, &mut context);
    if spec.agent.privileged.unwrap_or(false) {
        context["privileged"] = json!(true);
        return context;
    }
    let mut wanted = CAPABILITIES.to_vec();
    wanted.extend(spec.writing.then_some(job::WRITING).into_iter().flatten());
    let wanted = job::without_disabled(&spec.agent, &wanted);
    context["capabilities"] = json!({ "drop": ["ALL"], "add": wanted });
    context
}

/// Where the container of an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It runs, or will.
    Lives,
    /// It has ended, cannot start, or its pod is gone.
    Over,
}

async fn stand(client: &Client, namespace: &str, pod: &str, name: &str) -> kube::Result<Stand> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Some(found) = pods.get_opt(pod).await? else { return Ok(Stand::Over) };
    let is_asked_for = found.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    if !is_asked_for.map(|container| &container.name).any(|known| known == name) {
        return Ok(Stand::Over);
    }
    Ok(match state_of(&found, name) {
        Some(ContainerState { terminated: Some(_), .. }) => Stand::Over,
        // Whatever it waits for: it has not run, and ends by itself should it ever do.
        Some(ContainerState { waiting: Some(waiting), .. })
            if waiting.reason.as_deref() != Some("ContainerCreating") =>
        {
            Stand::Over
        }
        _ => Stand::Lives,
    })
}

/// The state of an ephemeral container.
pub(super) fn state_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerState> {
    let statuses = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == name)?.state.as_ref()
}

/// Whether an agent's container has ended, so that no link to it can stand again. Not to know counts as no.
pub(super) async fn is_gone(client: &Client, namespace: &str, pod: &str, name: &str) -> bool {
    matches!(stand(client, namespace, pod, name).await, Ok(Stand::Over))
}

/// Has the agent end; what has ended is fine.
pub(super) async fn end(
    record: &AgentRecord,
    namespace: &str,
    pod: &str,
    name: &str,
) -> Result<(), ErrorData> {
    let Some(way) = way_of(&record.endpoint) else { return Ok(()) };
    let deadline = Instant::now() + ENDING;
    let mut asked = false;
    loop {
        let client = super::access::client(&way).await?;
        match timely(&way, stand(&client, namespace, pod, name)).await {
            Ok(Stand::Over) => return Ok(()),
            Ok(Stand::Lives) if !asked => match finishing(record).await {
                Some(Ok(Finished::Ends)) => asked = true,
                Some(Ok(Finished::Stays(_))) => return Ok(()),
                // It may not listen yet.
                Some(Err(error)) => tracing::debug!(%error, "an agent cannot be told to end yet"),
                None => return Err(stays(record, pod, name)),
            },
            Ok(Stand::Lives) => {}
            Err(kube::Error::Service(error)) => {
                tracing::debug!(%error, "an agent's pod cannot be looked at now")
            }
            Err(error) => {
                return Err(explain(
                    &error,
                    &Doing::new("see the end of the agent's container", "of the cluster"),
                ));
            }
        }
        if Instant::now() > deadline {
            return Err(stays(record, pod, name));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn stays(record: &AgentRecord, pod: &str, name: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::AgentFailed,
        format!("the agent's container {name} of pod {pod} has not ended"),
        format!("it ends by itself once no session has been on it for {} s", record.idle_seconds.max(60)),
    )
    .fact("phase", "end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::Order;
    use crate::cluster::spec::TargetPod;
    use crate::session::start::Steps;
    use protocol::auth::SecretKey;

    fn spec(agent: Value, incoming: bool) -> ClusterSpec {
        serde_json::from_value(json!({
            "server": "s", "namespace": "n", "path": "pod/shop", "agent": agent, "delivered": null, "incoming": incoming,
            "target": TargetPod { namespace: "n".into(), pod: "shop".into(), uid: "u".into(), node: "one".into(),
                                  container_id: "abc".into() },
        }))
        .unwrap()
    }

    fn built(agent: Value, incoming: bool, shares_processes: bool) -> Value {
        let own = SecretKey::from_random([1; 32]);
        let order = Order {
            agent: "abcdefgh".into(),
            session: "s".into(),
            again: false,
            keys: vec![own.public()],
            own,
            idle: Duration::from_secs(7),
            steps: Steps::to_nobody(),
            cancel: tokio_util::sync::CancellationToken::new(),
        };
        let own = json!({ "runAsUser": 1000, "capabilities": { "drop": ["ALL"] } });
        let inside = Inside { container: "app".into(), shares_processes, security_context: own };
        container(&spec(agent, incoming), &inside, &order, 20_001)
    }

    #[test]
    fn without_incoming_traffic_it_asks_for_what_the_target_has() {
        let built = built(json!({ "image": "agent:1" }), false, false);
        assert_eq!(
            built["securityContext"],
            json!({ "runAsUser": 1000, "capabilities": { "drop": ["ALL"] } })
        );
        assert_eq!(built["targetContainerName"], "app");
        let args = built["args"].to_string();
        assert!(
            args.contains("tcp:127.0.0.1:20001") && args.contains("pid:1") && !args.contains("--admin"),
            "{args}"
        );
    }

    #[test]
    fn with_incoming_traffic_it_asks_for_three_capabilities_less_those_disabled() {
        let context = built(json!({ "image": "agent:1" }), true, true)["securityContext"].clone();
        assert_eq!(context["capabilities"]["add"], json!(CAPABILITIES));
        assert_eq!(context["runAsUser"], 0);
        let built = built(json!({ "image": "agent:1", "disabled_capabilities": ["SYS_PTRACE"] }), true, true);
        assert_eq!(built["securityContext"]["capabilities"]["add"], json!(["NET_ADMIN", "DAC_READ_SEARCH"]));
        assert!(built["args"].to_string().contains("container-id:abc"));
    }

    #[test]
    fn a_rule_against_it_is_answered_with_what_needs_no_rule() {
        let message =
            "pods \"shop\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities";
        let error = refused(forbidden(message, "add"), true);
        assert!(error.help.contains("feature.network.incoming"), "{error}");
        let error = refused(forbidden(message, "add"), false);
        assert!(!error.help.contains("feature.network.incoming"), "{error}");
    }

    #[test]
    fn ports_are_in_their_range() {
        assert!((0..100).all(|_| PORTS.contains(&fresh_port().unwrap())));
    }
}
