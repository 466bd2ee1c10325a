//! Lists targets, each kind as soon as the API server has answered, and of what there are thousands page by page.

use super::access::{Access, explain};
use super::resolve::{SIDECARS, is_ready, reason, rollout_kind};
use crate::config::Resolved;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams};
use protocol::ide::{ErrorData, ErrorKind, Namespaces, TargetItem, TargetQuery, Targets};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The most objects of one answer: so many are read in a few hundredths of a second.
const PAGE: u32 = 250;

/// Lists the namespaces.
pub async fn namespaces(resolved: &Resolved) -> Result<Namespaces, ErrorData> {
    let access = Access::open(resolved).await?;
    let api: Api<Namespace> = Api::all(access.client.clone());
    let listed = access
        .timely(api.list(&ListParams::default()))
        .await
        .map_err(|error| explain(&error, &access.doing("list namespaces")))?;
    Ok(Namespaces {
        namespaces: listed.items.into_iter().filter_map(|one| one.metadata.name).collect(),
        current: Some(access.namespace(resolved)),
    })
}

type Listed = (&'static str, Result<Vec<TargetItem>, kube::Error>);

/// Lists what can be impersonated.
pub async fn list(
    resolved: &Resolved,
    query: &TargetQuery,
    on_batch: &mut (dyn FnMut(Vec<TargetItem>) + Send),
) -> Result<Targets, ErrorData> {
    let access = Access::open(resolved).await?;
    let namespace = access.namespace(resolved);
    let wanted = |kind: &str| query.kinds.is_empty() || query.kinds.iter().any(|asked| asked == kind);
    let every: [(&str, BoxStream<'_, Listed>); 9] = [
        ("deployment", of_kind(&access, &namespace, "deployment", deployment)),
        ("statefulset", of_kind(&access, &namespace, "statefulset", stateful_set)),
        ("daemonset", of_kind(&access, &namespace, "daemonset", daemon_set)),
        ("replicaset", of_kind(&access, &namespace, "replicaset", replica_set)),
        ("job", of_kind(&access, &namespace, "job", job)),
        ("cronjob", of_kind(&access, &namespace, "cronjob", cron_job)),
        ("rollout", stream::once(rollouts(&access, &namespace)).boxed()),
        ("service", of_kind(&access, &namespace, "service", service)),
        ("pod", of_kind(&access, &namespace, "pod", pod)),
    ];
    let mut kinds =
        stream::select_all(every.into_iter().filter(|(kind, _)| wanted(kind)).map(|(_, listing)| listing));
    let (mut missing, mut first_error, mut answered) = (Vec::new(), None, false);
    while let Some((kind, outcome)) = kinds.next().await {
        match outcome {
            Ok(mut items) => {
                answered = true;
                if let Some(text) = &query.text {
                    items.retain(|item| item.path.contains(text.as_str()));
                }
                if !items.is_empty() {
                    on_batch(items);
                }
            }
            Err(error) => {
                let error = explain(&error, &access.doing(&format!("list {kind}s")));
                missing.push(format!("{kind}: {error}"));
                // Only a refusal may hold for one kind alone.
                if error.kind != ErrorKind::Forbidden {
                    return Err(error);
                }
                first_error.get_or_insert(error);
            }
        }
    }
    drop(kinds);
    match first_error {
        Some(error) if !answered => Err(error),
        _ => Ok(Targets {
            items: Vec::new(),
            complete: missing.is_empty(),
            missing,
            context: access.context,
            namespace: Some(namespace),
        }),
    }
}

fn names(containers: &[Container]) -> Vec<String> {
    let own = containers.iter().filter(|container| !SIDECARS.contains(&container.name.as_str()));
    own.map(|container| container.name.clone()).collect()
}

fn names_of_template(template: &PodTemplateSpec) -> Vec<String> {
    template.spec.as_ref().map(|spec| names(&spec.containers)).unwrap_or_default()
}

fn none_ready(ready: Option<i32>) -> Option<String> {
    (ready.unwrap_or(0) == 0).then(|| "no pod is ready".to_owned())
}

/// What is shown of one object.
struct Row {
    /// Why no session could start now; `None` when one could.
    why_not: Option<String>,
    containers: Vec<String>,
}

/// Lists one kind, a page at a time; ends with what went wrong. `row` answers `None` for what is nobody's target.
fn of_kind<'a, K>(
    access: &'a Access,
    namespace: &'a str,
    kind: &'static str,
    row: fn(&K) -> Option<Row>,
) -> BoxStream<'a, Listed>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let first = Some(ListParams::default().limit(PAGE));
    let pages = stream::unfold(first, move |page| async move {
        let page = page?;
        let objects: Api<K> = Api::namespaced(access.client.clone(), namespace);
        let listed = match access.timely(objects.list(&page)).await {
            Ok(listed) => listed,
            Err(error) => return Some(((kind, Err(error)), None)),
        };
        let next = listed.metadata.continue_.filter(|token| !token.is_empty());
        let items =
            listed.items.iter().filter_map(|object| item(kind, namespace, object.meta(), row(object)?));
        Some(((kind, Ok(items.collect())), next.map(|token| page.continue_token(&token))))
    });
    pages.boxed()
}

fn item(kind: &str, namespace: &str, meta: &ObjectMeta, row: Row) -> Option<TargetItem> {
    Some(TargetItem {
        path: format!("{kind}/{}", meta.name.as_deref()?),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        ready: row.why_not.is_none(),
        containers: row.containers,
        reason: row.why_not,
        in_use_by: Vec::new(),
    })
}

/// Whether another object keeps this one, as a Deployment keeps its ReplicaSets: that one is the target.
fn is_kept(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true))
}

/// Whether this is an agent of ours: nobody's target.
fn is_agent(meta: &ObjectMeta) -> bool {
    let by = meta.labels.as_ref().and_then(|labels| labels.get(super::job::MANAGED_BY));
    by.is_some_and(|by| by == super::job::US)
}

fn workload(ready: Option<i32>, template: Option<&PodTemplateSpec>) -> Row {
    Row { why_not: none_ready(ready), containers: template.map(names_of_template).unwrap_or_default() }
}

fn deployment(object: &Deployment) -> Option<Row> {
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    Some(workload(ready, object.spec.as_ref().map(|spec| &spec.template)))
}

fn stateful_set(object: &StatefulSet) -> Option<Row> {
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    Some(workload(ready, object.spec.as_ref().map(|spec| &spec.template)))
}

fn daemon_set(object: &DaemonSet) -> Option<Row> {
    let ready = object.status.as_ref().map(|status| status.number_ready);
    Some(workload(ready, object.spec.as_ref().map(|spec| &spec.template)))
}

fn replica_set(object: &ReplicaSet) -> Option<Row> {
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    let template = object.spec.as_ref().and_then(|spec| spec.template.as_ref());
    (!is_kept(&object.metadata)).then(|| workload(ready, template))
}

fn job(object: &Job) -> Option<Row> {
    let status = object.status.as_ref();
    let mut row =
        workload(status.and_then(|status| status.ready), object.spec.as_ref().map(|spec| &spec.template));
    if status.is_some_and(|status| status.completion_time.is_some()) {
        row.why_not = Some("it is complete".to_owned());
    }
    (!is_kept(&object.metadata) && !is_agent(&object.metadata)).then_some(row)
}

fn cron_job(object: &CronJob) -> Option<Row> {
    let runs = object
        .status
        .as_ref()
        .and_then(|status| status.active.as_ref())
        .is_some_and(|active| !active.is_empty());
    let template =
        object.spec.as_ref().and_then(|spec| spec.job_template.spec.as_ref()).map(|spec| &spec.template);
    let containers = template.map(names_of_template).unwrap_or_default();
    Some(Row { why_not: (!runs).then(|| "no job of it runs now".to_owned()), containers })
}

fn service(object: &Service) -> Option<Row> {
    let selector = object.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selects = selector.is_some_and(|selector| !selector.is_empty());
    Some(Row { why_not: (!selects).then(|| "it selects no pods".to_owned()), containers: Vec::new() })
}

fn pod(object: &Pod) -> Option<Row> {
    let why_not = (!is_ready(object)).then(|| reason(object));
    let containers = object.spec.as_ref().map(|spec| names(&spec.containers)).unwrap_or_default();
    (!is_agent(&object.metadata)).then_some(Row { why_not, containers })
}

/// Argo's Rollouts, where the cluster has them. It is asked whether it does: of a kind that is not there, most users
/// are told that they may not list it.
async fn rollouts(access: &Access, namespace: &str) -> Listed {
    let known = access.timely(access.client.list_api_group_resources(&rollout_kind().api_version)).await;
    let listed = match known {
        Ok(known) if known.resources.iter().any(|resource| resource.kind == "Rollout") => {
            let objects: Api<DynamicObject> =
                Api::namespaced_with(access.client.clone(), namespace, &rollout_kind());
            access.timely(objects.list(&ListParams::default())).await.map(|list| list.items)
        }
        Ok(_) => Ok(Vec::new()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let to_item = |object: &DynamicObject| {
        let ready =
            object.data["status"]["readyReplicas"].as_i64().and_then(|ready| i32::try_from(ready).ok());
        // A Rollout that refers to a Deployment has no template of its own.
        let template = serde_json::from_value(object.data["spec"]["template"].clone()).ok();
        let row = workload(ready, template.as_ref());
        item("rollout", namespace, &object.metadata, row)
    };
    ("rollout", listed.map(|items| items.iter().filter_map(to_item).collect()))
}
