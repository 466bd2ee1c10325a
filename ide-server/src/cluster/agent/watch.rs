//! From a created Job to an agent that answers, or to the reason why it never will.
//!
//! The API says Running well after the agent listens, so the port-forward is tried from the moment the pod is bound
//! to a node. What speaks against it is looked for at the same time: in the pod's status, and, as long as there is no
//! pod, in the Job's events.

use crate::agents::Order;
use crate::cluster::access::{Doing, explain, forbidden};
use crate::cluster::delivery::{self, Delivering, Speaker};
use crate::cluster::ephemeral;
use crate::cluster::spec::ClusterSpec;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use kube::Client;
use kube::api::{Api, ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use protocol::ide::{ErrorData, ErrorKind};
use std::pin::Pin;
use std::time::Duration;

/// Between two tries to reach the agent, and between two looks at a Job's events.
const TRY: Duration = Duration::from_millis(40);
const LOOK: Duration = Duration::from_millis(250);
/// How long one try may take: a port-forward to a container that is being made hangs.
const ONE_TRY: Duration = Duration::from_secs(3);

/// Where the agent is to appear.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In the pod of a Job.
    Job {
        /// The Job's uid.
        uid: &'a str,
    },
    /// In an ephemeral container.
    Container {
        /// Of this pod.
        pod: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// Waits for the agent and gives its pod's name.
pub(super) async fn until_it_listens(
    client: &Client,
    spec: &ClusterSpec,
    place: Place<'_>,
    port: u16,
    order: &Order,
    delivering: Option<Delivering<'_>>,
) -> Result<String, ErrorData> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &spec.namespace);
    let selector = match place {
        Place::Job { .. } => {
            let job = crate::cluster::job::name(&order.agent);
            watcher::Config::default().labels(&format!("job-name={job}"))
        }
        Place::Container { pod, .. } => watcher::Config::default().fields(&format!("metadata.name={pod}")),
    };
    let mut seen = watcher(pods.clone(), selector).applied_objects().boxed();
    let no_pod = async {
        match place {
            Place::Job { uid } => no_pod_made(client, spec, uid).await,
            Place::Container { .. } => std::future::pending().await,
        }
    };
    tokio::pin!(no_pod);
    let mut bound: Option<String> = None;
    // Kept over the turns of the loop: an upload must not begin again with every change of the pod's status.
    let mut reached: Pin<Box<dyn Future<Output = Result<(), ErrorData>> + Send>> =
        Box::pin(std::future::pending());
    loop {
        let pod = tokio::select! {
            pod = seen.try_next() => match pod {
                Ok(Some(pod)) => pod,
                Ok(None) => return Err(ended("the API server ended the watch on its pod", "try again")),
                Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
                    return Err(explain(&error, &Doing::new("watch the agent's pod", &spec.server)));
                }
                Err(error) => {
                    tracing::debug!(%error, "the watch on an agent's pod is made again");
                    continue;
                }
            },
            outcome = &mut reached => return outcome.map(|()| bound.unwrap_or_default()),
            error = &mut no_pod, if bound.is_none() => return Err(error),
        };
        let refused = match place {
            Place::Job { .. } => refusal(&pods, &pod, spec).await,
            Place::Container { name, .. } => container_refused(&pods, &pod, name).await,
        };
        if let Some(error) = refused {
            return Err(error);
        }
        let name = pod.metadata.name.unwrap_or_default();
        let node = pod.spec.and_then(|spec| spec.node_name);
        if let Some(node) = node.filter(|_| bound.is_none()) {
            order.steps.report(format!("starting the agent on node {node}"));
            let (pods, pod) = (pods.clone(), name.clone());
            reached = Box::pin(async move { answers(&pods, &pod, port, delivering.as_ref()).await });
            bound = Some(name);
        }
    }
}

/// Returns once the agent behind the pod's port has spoken: it speaks first, and so does stage 0, which is given the
/// agent then.
async fn answers(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
    delivering: Option<&Delivering<'_>>,
) -> Result<(), ErrorData> {
    let mut attempt = 0;
    loop {
        let heard = tokio::time::timeout(ONE_TRY, first_words(pods, pod, port)).await;
        match (heard, delivering) {
            (Ok(Ok(Some((Speaker::Agent, _)))), None) => return Ok(()),
            // Not brought by the tunnel that was seen through, but with the right hash all the same.
            (Ok(Ok(Some((Speaker::Agent, _)))), Some(delivering)) if attempt == 0 => {
                return delivering.adopt().await;
            }
            (Ok(Ok(Some((Speaker::Agent, _)))), Some(_)) => return Ok(()),
            (Ok(Ok(Some((Speaker::Stage0, mut tunnel)))), Some(delivering)) => {
                let delivered = delivering.deliver(&mut tunnel, attempt).await?;
                attempt += 1;
                if delivered {
                    // It listens again in a moment.
                    continue;
                }
            }
            (Ok(Ok(Some((Speaker::Stranger, _)))), Some(_)) => {
                return Err(delivery::failed("something else than stage 0 answers in its pod"));
            }
            (Ok(Ok(Some((Speaker::Stranger | Speaker::Stage0, _)))), None) => {
                let help = "name an image of the agent by agent.image, or none at all";
                return Err(ended("its image holds something else", help).fact("phase", "image"));
            }
            (Ok(Ok(None)), _) => {}
            (Ok(Err(error)), _) => tracing::debug!(%error, "the agent's port does not answer yet"),
            (Err(_), _) => tracing::debug!("the agent's port is silent yet"),
        }
        tokio::time::sleep(TRY).await;
    }
}

type Tunnel = Box<dyn delivery::Stream>;

/// Opens the port and hears who serves it.
async fn first_words(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
) -> Result<Option<(Speaker, Tunnel)>, kube::Error> {
    let mut forward = pods.portforward(pod, &[port]).await?;
    let Some(mut stream) = forward.take_stream(port) else { return Ok(None) };
    let speaker = delivery::listen(&mut stream).await;
    Ok(speaker.map(|speaker| (speaker, Box::new(stream) as Tunnel)))
}

/// Watches a Job that makes no pod, for the reason: it stands in an event alone.
async fn no_pod_made(client: &Client, spec: &ClusterSpec, uid: &str) -> ErrorData {
    let events: Api<Event> = Api::namespaced(client.clone(), &spec.namespace);
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    loop {
        tokio::time::sleep(LOOK).await;
        let listed = match events.list(&params).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%error, "the events of the agent's Job cannot be read");
                std::future::pending().await
            }
        };
        let failed = listed.items.iter().find(|event| event.reason.as_deref() == Some("FailedCreate"));
        if let Some(message) = failed.and_then(|event| event.message.as_deref()) {
            return forbidden(message.trim_start_matches("Error creating: "), "create the agent's pod")
                .fact("phase", "admission");
        }
    }
}

/// Why this pod will never serve, if that can be seen.
async fn refusal(pods: &Api<Pod>, pod: &Pod, spec: &ClusterSpec) -> Option<ErrorData> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or("no reason given");
        let node = spec.target.as_ref().map_or("any node", |target| target.node.as_str());
        return Some(
            ended(
                &format!("it cannot be scheduled on {node}: {why}"),
                "make room on the node, or adjust agent.resources, agent.tolerations or agent.priority_class",
            )
            .fact("phase", "schedule")
            .fact("node", node),
        );
    }
    for container in status.container_statuses.iter().flatten() {
        let Some(state) = &container.state else { continue };
        if let Some(error) = not_running(pods, pod, container, state, spec.delivered.is_some()).await {
            return Some(error);
        }
    }
    (status.phase.as_deref() == Some("Failed")).then(|| {
        let why = status.message.as_deref().or(status.reason.as_deref()).unwrap_or("no reason given");
        ended(&format!("the node refused it: {why}"), "see the node's events").fact("phase", "node")
    })
}

/// Why an ephemeral container will never serve, if that can be seen.
async fn container_refused(pods: &Api<Pod>, pod: &Pod, name: &str) -> Option<ErrorData> {
    if pod.metadata.deletion_timestamp.is_some() {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        return Some(ended(&format!("pod {pod} is being removed"), "try again").retryable());
    }
    let state = ephemeral::state_of(pod, name)?;
    let statuses = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
    let container = statuses.iter().find(|status| status.name == name)?;
    not_running(pods, pod, container, state, false).await
}

/// Why a container does not run, where that does not pass by itself.
async fn not_running(
    pods: &Api<Pod>,
    pod: &Pod,
    container: &ContainerStatus,
    state: &ContainerState,
    is_delivered: bool,
) -> Option<ErrorData> {
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        let help = waiting_help(reason, is_delivered)?;
        let text = format!("{reason} for image {}: {message}", container.image);
        return Some(ended(&text, help).fact("phase", "image").fact("reason", reason));
    }
    let end = state.terminated.as_ref()?;
    let told = last_words(pods, pod, &container.name).await;
    let told = if told.is_empty() { end.message.clone().unwrap_or_default() } else { told };
    let text = format!("it ended with status {}: {told}", end.exit_code);
    let help = if told.contains("exec format error") {
        "the image is for another architecture than the node: name one by agent.image that fits"
    } else if told.contains("CAP_SYS_PTRACE") {
        "the agent is not of the target's user: set runAsUser in the pod's security context, use an image of the agent \
         with that USER, or do without agent.ephemeral"
    } else {
        "see the agent's own words"
    };
    let phase = if told.starts_with("stage0: ") { "delivery" } else { "start" };
    Some(ended(&text, help).fact("phase", phase).fact("exitCode", end.exit_code.to_string()))
}

/// What to do about a container that waits for a reason that does not pass by itself.
fn waiting_help(reason: &str, is_delivered: bool) -> Option<&'static str> {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" if is_delivered => {
            Some("the node has lost the target's own image, in which the agent was to run: set agent.image")
        }
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
            Some("check agent.image and agent.image_pull_secrets, and that the node reaches the registry")
        }
        "ErrImageNeverPull" => {
            Some("put the image on the node, or set agent.image_pull_policy to IfNotPresent")
        }
        "InvalidImageName" => Some("correct agent.image"),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            Some("see the message; it is of the node's container runtime")
        }
        _ => None,
    }
}

async fn last_words(pods: &Api<Pod>, pod: &Pod, container: &str) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let container = Some(container.to_owned());
    let params = LogParams { tail_lines: Some(5), container, ..LogParams::default() };
    match pods.logs(name, &params).await {
        Ok(log) => {
            let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let error = lines.iter().rev().find_map(|line| line.strip_prefix("error: "));
            error.or(lines.last().copied()).unwrap_or_default().to_owned()
        }
        Err(error) => {
            tracing::debug!(%error, "the log of an agent cannot be read");
            String::new()
        }
    }
}

fn ended(message: &str, help: &str) -> ErrorData {
    ErrorData::new(ErrorKind::AgentFailed, format!("the agent did not start: {message}"), help)
}
