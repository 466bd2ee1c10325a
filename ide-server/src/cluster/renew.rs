//! An agent is to be made again: is its pod still the one to look at, or has the workload another by now?

use super::access::{self, Access};
use super::spec::{ClusterSpec, DeliveredTo, TargetPod};
use super::{delivery, resolve};
use config_schema::{Target, WorkloadKind};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use protocol::ide::{ErrorData, ErrorKind};
use std::time::Duration;
use tokio::time::Instant;

/// How long a workload may be without a ready pod before a session is told that it has lost its agent: a rollout's
/// pause, an image's pull.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
/// Between two watches, of which the first broke.
const WATCH_PAUSE: Duration = Duration::from_secs(5);

/// The spec with the pod that the target means now; waits while it means none.
pub(crate) async fn renew(spec: &ClusterSpec) -> Result<ClusterSpec, ErrorData> {
    let Some(known) = &spec.target else { return Ok(spec.clone()) };
    let wanted: Target = spec.path.parse().map_err(|error| {
        ErrorData::new(
            ErrorKind::Internal,
            format!("{} is no target any more: {error}", spec.path),
            "start again",
        )
    })?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match once(spec, known, &wanted).await {
            Err(error) if error.retryable || error.kind == ErrorKind::TargetNotFound => {
                if Instant::now() > deadline {
                    return Err(error);
                }
                tracing::debug!(%error, target = spec.path, "waiting for a pod of the target");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns when the pod that an agent looks at is gone or being removed. Without the right to watch it, never.
pub(crate) async fn until_target_leaves(spec: &ClusterSpec) {
    let Some(target) = &spec.target else { return std::future::pending().await };
    loop {
        match watch_pod(spec, target).await {
            Ok(()) => return,
            Err(error) if error.kind == ErrorKind::Forbidden => {
                tracing::info!(%error, "a target's rollout will only be seen when its agent is lost");
                return std::future::pending().await;
            }
            Err(error) => tracing::debug!(%error, "the target's pod cannot be watched now"),
        }
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

async fn watch_pod(spec: &ClusterSpec, target: &TargetPod) -> Result<(), ErrorData> {
    let pods: Api<Pod> = Api::namespaced(access::client(&spec.access).await?, &target.namespace);
    let one = watcher::Config::default().fields(&format!("metadata.name={}", target.pod));
    let mut seen = watcher(pods, one).boxed();
    let mut is_there = false;
    loop {
        let event = seen.try_next().await.map_err(|error| match &error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                access::explain(error, &access::Doing::new("watch the target's pod", &spec.server))
            }
            error => ErrorData::new(
                ErrorKind::Unreachable,
                "the watch on the target's pod broke",
                "it is made again",
            )
            .caused_by(error),
        })?;
        match event {
            None | Some(Event::Delete(_)) => return Ok(()),
            Some(Event::Init) => is_there = false,
            Some(Event::InitApply(pod) | Event::Apply(pod)) => {
                let is_other = pod.metadata.uid.as_deref() != Some(target.uid.as_str());
                if is_other || pod.metadata.deletion_timestamp.is_some() {
                    return Ok(());
                }
                is_there = true;
            }
            Some(Event::InitDone) if !is_there => return Ok(()),
            Some(Event::InitDone) => {}
        }
    }
}

async fn once(spec: &ClusterSpec, known: &TargetPod, wanted: &Target) -> Result<ClusterSpec, ErrorData> {
    let access = Access {
        client: access::client(&spec.access).await?,
        way: spec.access.clone(),
        context: spec.access.context.clone(),
        server: spec.server.clone(),
    };
    // The same pod as long as it serves: the session's environment is of it.
    let same = Target::Workload {
        kind: WorkloadKind::Pod,
        name: known.pod.clone(),
        container: wanted.container().map(str::to_owned),
    };
    let found = match resolve::resolve(&access, &known.namespace, &same).await {
        Ok(found) if !found.is_leaving => found,
        _ => resolve::resolve(&access, &known.namespace, wanted).await?,
    };
    if found.is_leaving {
        let message = format!("pod {} is being removed", found.name);
        return Err(ErrorData::new(ErrorKind::TargetUnusable, message, "wait for the next one").retryable());
    }
    let delivered = match (&spec.delivered, &found.spec.image) {
        (Some(to), Some(image)) => Some(DeliveredTo {
            image: delivery::image_on_node(image, &found.image_id),
            // A workload's pods run on nodes of one kind, or its image is for several: the node's own is looked up again.
            arch: super::architecture_of(&access, &found.node).await?,
            pull_secrets: to.pull_secrets.clone(),
        }),
        (delivered, _) => delivered.clone(),
    };
    let inside = spec.inside.as_ref().map(|_| found.inside());
    let target = TargetPod {
        namespace: known.namespace.clone(),
        pod: found.name,
        uid: found.uid,
        node: found.node,
        container_id: found.container_id,
    };
    Ok(ClusterSpec { target: Some(target), delivered, inside, ..spec.clone() })
}
