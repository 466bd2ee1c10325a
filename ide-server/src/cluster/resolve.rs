//! From a workload to one ready pod and its container.

use super::access::{Access, explain};
use super::spec::Inside;
use config_schema::{Target, WorkloadKind};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use protocol::ide::{ErrorData, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Containers that meshes and injectors add: never what a user means.
pub(super) const SIDECARS: &[&str] = &[
    "istio-init",
    "istio-proxy",
    "kuma-init",
    "kuma-sidecar",
    "linkerd-init",
    "linkerd-proxy",
    "queue-proxy",
    "traffic-agent",
    "vault-agent",
    "vault-agent-init",
];
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The pod and container that a session works with.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) container: String,
    /// Without the runtime's scheme.
    pub(super) container_id: String,
    /// By which the runtime knows its image; may be empty.
    pub(super) image_id: String,
    pub(super) spec: Container,
    /// Whether the pod's containers see each other's processes.
    pub(super) shares_processes: bool,
    /// User and group that the runtime started it as, where the node tells (Kubernetes 1.31).
    pub(super) user: Option<(i64, i64)>,
    /// Whether the pod is being removed.
    pub(super) is_leaving: bool,
    /// Names of the secrets that the pod's images are pulled with.
    pub(super) pull_secrets: Vec<String>,
    pub(super) notices: Vec<String>,
}

impl Found {
    /// How an ephemeral container is to stand beside this one.
    pub(super) fn inside(&self) -> Inside {
        let mut context = json!(self.spec.security_context.clone().unwrap_or_default());
        if let (Some((user, group)), true) = (self.user, context.get("runAsUser").is_none()) {
            // The image's own choice, which ours does not share.
            context["runAsUser"] = json!(user);
            context["runAsGroup"] = json!(group);
        }
        Inside {
            container: self.container.clone(),
            shares_processes: self.shares_processes,
            security_context: context,
        }
    }
}

/// Finds the pod and container of a target.
pub(super) async fn resolve(access: &Access, namespace: &str, target: &Target) -> Result<Found, ErrorData> {
    let container = target.container();
    let (selector, what) = match target {
        Target::Workload { kind: WorkloadKind::Pod, name, .. } => {
            let pod: Pod = get(access, namespace, name, "pod").await?;
            return pick_container(&pod, container, namespace, Vec::new());
        }
        Target::Workload { kind, name, .. } => {
            (selector_of(access, namespace, *kind, name).await?, format!("{kind}/{name}"))
        }
        Target::Label { selector, .. } => {
            let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            (pairs.join(","), target.to_string())
        }
        Target::Targetless | Target::LocalContainer { .. } | Target::LocalProcess { .. } => {
            let help = "name a workload such as deployment/shop";
            return Err(ErrorData::new(ErrorKind::Internal, format!("{target} has no pod"), help));
        }
    };
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), namespace);
    let selected = ListParams::default().labels(&selector);
    let listed = access.timely(pods.list(&selected)).await;
    let mut pods = listed.map_err(|error| explain(&error, &access.doing("list pods")))?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.sort_by_key(|pod| pod.metadata.name.clone());
    let ready: Vec<&Pod> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let Some(pod) = ready.first() else { return Err(none_ready(&what, namespace, &pods)) };
    let notices = match ready.len() {
        1 => Vec::new(),
        count => vec![format!(
            "{what} has {count} ready pods; this session works with {} alone",
            pod.metadata.name.as_deref().unwrap_or_default()
        )],
    };
    pick_container(pod, container, namespace, notices)
}

async fn selector_of(
    access: &Access,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<String, ErrorData> {
    let text = match kind {
        WorkloadKind::Deployment => {
            let workload: Deployment = get(access, namespace, name, "deployment").await?;
            workload.spec.map(|spec| labels(&spec.selector))
        }
        WorkloadKind::StatefulSet => {
            let workload: StatefulSet = get(access, namespace, name, "statefulset").await?;
            workload.spec.map(|spec| labels(&spec.selector))
        }
        WorkloadKind::DaemonSet => {
            let workload: DaemonSet = get(access, namespace, name, "daemonset").await?;
            workload.spec.map(|spec| labels(&spec.selector))
        }
        WorkloadKind::ReplicaSet => {
            let workload: ReplicaSet = get(access, namespace, name, "replicaset").await?;
            workload.spec.map(|spec| labels(&spec.selector))
        }
        WorkloadKind::Job => {
            let workload: Job = get(access, namespace, name, "job").await?;
            workload.spec.and_then(|spec| spec.selector).map(|selector| labels(&selector))
        }
        WorkloadKind::Service => {
            let service: Service = get(access, namespace, name, "service").await?;
            service.spec.and_then(|spec| spec.selector).map(|selector| equalities(&selector))
        }
        WorkloadKind::CronJob => selector_of_cron_job(access, namespace, name).await?,
        WorkloadKind::Rollout => selector_of_rollout(access, namespace, name).await?,
        WorkloadKind::Pod => None,
    };
    // An empty selector would mean every pod of the namespace.
    text.filter(|text| !text.is_empty()).ok_or_else(|| {
        ErrorData::new(
            ErrorKind::TargetUnusable,
            format!("{kind}/{name} in namespace {namespace} selects no pods by labels"),
            "name one of its pods: pod/NAME",
        )
        .target(format!("{kind}/{name}"))
    })
}

/// The pods of the newest Job that the CronJob has made.
async fn selector_of_cron_job(
    access: &Access,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, ErrorData> {
    let cron_job: CronJob = get(access, namespace, name, "cronjob").await?;
    let uid = cron_job.metadata.uid.unwrap_or_default();
    let jobs: Api<Job> = Api::namespaced(access.client.clone(), namespace);
    let all = ListParams::default();
    let listed = access.timely(jobs.list(&all)).await;
    let jobs = listed.map_err(|error| explain(&error, &access.doing("list jobs")))?.items;
    let newest = jobs
        .into_iter()
        .filter(|job| job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid))
        .max_by_key(|job| job.metadata.creation_timestamp.clone());
    match newest {
        Some(job) => Ok(job.spec.and_then(|spec| spec.selector).map(|selector| labels(&selector))),
        None => Err(ErrorData::new(
            ErrorKind::TargetUnusable,
            format!("cronjob/{name} in namespace {namespace} has made no job yet"),
            format!("make one: kubectl -n {namespace} create job --from=cronjob/{name} {name}-now"),
        )
        .target(format!("cronjob/{name}"))
        .retryable()),
    }
}

/// How the API names Argo's Rollouts.
pub(super) fn rollout_kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"))
}

/// An Argo Rollout has a selector of its own, or refers to a Deployment that has.
async fn selector_of_rollout(
    access: &Access,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, ErrorData> {
    let rollouts: Api<DynamicObject> =
        Api::namespaced_with(access.client.clone(), namespace, &rollout_kind());
    let found = access.timely(rollouts.get_opt(name)).await;
    let rollout = found
        .map_err(|error| explain(&error, &access.doing(&format!("get rollout {name}"))))?
        .ok_or_else(|| not_found("rollout", name, namespace))?;
    let spec = &rollout.data["spec"];
    if let Ok(selector) = serde_json::from_value::<LabelSelector>(spec["selector"].clone()) {
        return Ok(Some(labels(&selector)));
    }
    match (spec["workloadRef"]["kind"].as_str(), spec["workloadRef"]["name"].as_str()) {
        (Some("Deployment"), Some(name)) => {
            let workload: Deployment = get(access, namespace, name, "deployment").await?;
            Ok(workload.spec.map(|spec| labels(&spec.selector)))
        }
        _ => Ok(None),
    }
}

fn labels(selector: &LabelSelector) -> String {
    let mut parts: Vec<String> = selector.match_labels.as_ref().map(equalities).into_iter().collect();
    for rule in selector.match_expressions.iter().flatten() {
        let values = rule.values.clone().unwrap_or_default().join(",");
        parts.push(match rule.operator.as_str() {
            "In" => format!("{} in ({values})", rule.key),
            "NotIn" => format!("{} notin ({values})", rule.key),
            "DoesNotExist" => format!("!{}", rule.key),
            _ => rule.key.clone(),
        });
    }
    parts.retain(|part| !part.is_empty());
    parts.join(",")
}

fn equalities(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

async fn get<T>(access: &Access, namespace: &str, name: &str, kind: &str) -> Result<T, ErrorData>
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let objects: Api<T> = Api::namespaced(access.client.clone(), namespace);
    match access.timely(objects.get_opt(name)).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(not_found(kind, name, namespace)),
        Err(error) => Err(explain(&error, &access.doing(&format!("get {kind} {name}")))),
    }
}

fn not_found(kind: &str, name: &str, namespace: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::TargetNotFound,
        format!("there is no {kind} {name} in namespace {namespace}"),
        format!("see `mirrord-ide ls -n {namespace}` for what there is, or name another namespace by -n"),
    )
    .target(format!("{kind}/{name}"))
    .fact("namespace", namespace)
}

/// Whether a pod serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().is_some_and(|status| {
            status.phase.as_deref() == Some("Running")
                && status
                    .conditions
                    .iter()
                    .flatten()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

/// Why a pod does not serve, in a few words.
pub(super) fn reason(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "no status".to_owned() };
    for container in status.container_statuses.iter().flatten() {
        let state = container.state.as_ref();
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref())
            && let Some(reason) = &waiting.reason
        {
            return format!("container {} waits: {reason}", container.name);
        }
        if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            return format!("container {} ended with {}", container.name, ended.exit_code);
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(message) = unscheduled.and_then(|condition| condition.message.clone()) {
        return message;
    }
    match status.phase.as_deref() {
        Some("Running") => "not ready".to_owned(),
        Some(phase) => phase.to_lowercase(),
        None => "no phase".to_owned(),
    }
}

fn none_ready(what: &str, namespace: &str, pods: &[Pod]) -> ErrorData {
    let (message, help) = match pods.first() {
        None => (
            format!("{what} in namespace {namespace} has no pod"),
            "scale it up, or name another target".to_owned(),
        ),
        Some(pod) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            (
                format!("no pod of {what} in namespace {namespace} is ready: {name} {}", reason(pod)),
                format!("see `kubectl -n {namespace} describe pod {name}`"),
            )
        }
    };
    ErrorData::new(ErrorKind::TargetUnusable, message, help)
        .target(what)
        .fact("namespace", namespace)
        .retryable()
}

fn pick_container(
    pod: &Pod,
    asked: Option<&str>,
    namespace: &str,
    notices: Vec<String>,
) -> Result<Found, ErrorData> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let target = format!("pod/{name}");
    let unusable = |message: String, help: &str| {
        ErrorData::new(ErrorKind::TargetUnusable, message, help)
            .target(target.clone())
            .fact("namespace", namespace)
    };
    let Some(spec) = &pod.spec else {
        return Err(unusable(format!("pod {name} has no spec"), "name another pod"));
    };
    let by_annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DEFAULT_CONTAINER))
        .map(String::as_str);
    let find = |name: &str| spec.containers.iter().find(|container| container.name == name);
    let container = match asked {
        Some(asked) => find(asked).ok_or_else(|| {
            let names: Vec<String> = spec.containers.iter().map(|container| container.name.clone()).collect();
            let help = format!("its containers are {}", names.join(", "));
            let mut error = ErrorData::new(
                ErrorKind::TargetNotFound,
                format!("pod {name} in namespace {namespace} has no container {asked}"),
                help,
            )
            .target(format!("{target}/container/{asked}"));
            error.candidates = names;
            error
        })?,
        None => by_annotation
            .and_then(find)
            .or_else(|| spec.containers.iter().find(|container| !SIDECARS.contains(&container.name.as_str())))
            .or_else(|| spec.containers.first())
            .ok_or_else(|| unusable(format!("pod {name} has no container"), "name another pod"))?,
    };
    let status = pod.status.as_ref().and_then(|status| {
        status.container_statuses.iter().flatten().find(|status| status.name == container.name)
    });
    let running =
        status.is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let id = status.filter(|_| running).and_then(|status| status.container_id.as_deref());
    let (Some(id), Some(node)) = (id, spec.node_name.clone()) else {
        let help = format!("see `kubectl -n {namespace} describe pod {name}`");
        let message = format!("container {} of pod {name} does not run: {}", container.name, reason(pod));
        return Err(unusable(message, &help).retryable());
    };
    Ok(Found {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node,
        container: container.name.clone(),
        container_id: id.rsplit("://").next().unwrap_or(id).to_owned(),
        image_id: status.map(|status| status.image_id.clone()).unwrap_or_default(),
        spec: container.clone(),
        shares_processes: spec.share_process_namespace.unwrap_or(false),
        user: status.and_then(|status| status.user.as_ref()?.linux.as_ref().map(|user| (user.uid, user.gid))),
        is_leaving: pod.metadata.deletion_timestamp.is_some(),
        pull_secrets: spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect(),
        name,
        notices,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: serde_json::Value, containers: &[&str], running: bool) -> Pod {
        let state =
            if running { json!({"running": {}}) } else { json!({"waiting": {"reason": "CrashLoopBackOff"}}) };
        let status = |name: &&str| {
            json!({"name": name, "image": "", "imageID": "", "ready": running, "restartCount": 0,
                   "containerID": format!("containerd://id-of-{name}"), "state": state})
        };
        serde_json::from_value(json!({
            "metadata": {"name": "shop-1", "uid": "u", "annotations": annotations},
            "spec": {"nodeName": "n", "containers": containers.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()},
            "status": {"containerStatuses": containers.iter().map(status).collect::<Vec<_>>()},
        }))
        .unwrap()
    }

    #[test]
    fn the_container_is_asked_for_annotated_or_the_first_that_is_no_sidecar() {
        let pick =
            |pod: &Pod, asked| pick_container(pod, asked, "ns", Vec::new()).map(|found| found.container);
        let plain = pod(json!({}), &["istio-proxy", "app", "other"], true);
        assert_eq!(pick(&plain, None).unwrap(), "app");
        assert_eq!(pick(&plain, Some("other")).unwrap(), "other");
        assert!(pick(&plain, Some("none")).unwrap_err().help.contains("istio-proxy, app, other"));
        let annotated = pod(json!({DEFAULT_CONTAINER: "other"}), &["app", "other"], true);
        assert_eq!(pick(&annotated, None).unwrap(), "other");
        assert_eq!(pick(&pod(json!({}), &["istio-proxy"], true), None).unwrap(), "istio-proxy");
    }

    #[test]
    fn the_runtimes_scheme_is_cut_off_and_a_container_that_does_not_run_is_refused() {
        let found = pick_container(&pod(json!({}), &["app"], true), None, "ns", Vec::new()).unwrap();
        assert_eq!(found.container_id, "id-of-app");
        let error = pick_container(&pod(json!({}), &["app"], false), None, "ns", Vec::new()).unwrap_err();
        assert!(error.message.contains("CrashLoopBackOff"), "{error}");
    }

    #[test]
    fn selectors_are_written_as_the_api_reads_them() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "env", "operator": "Exists"},
            ],
        }))
        .unwrap();
        assert_eq!(labels(&selector), "app=shop,tier in (a,b),!old,env");
    }
}
