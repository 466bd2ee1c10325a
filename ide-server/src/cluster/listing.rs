//! Lists targets, each kind as soon as the API server has answered.

use super::access::{Access, explain};
use super::resolve::{SIDECARS, is_ready, reason};
use crate::config::Resolved;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec, Service};
use kube::api::{Api, ListParams};
use protocol::ide::{ErrorData, ErrorKind, TargetItem, TargetQuery, Targets};

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
    let mut kinds: FuturesUnordered<BoxFuture<'_, Listed>> = FuturesUnordered::new();
    if wanted("deployment") {
        kinds.push(Box::pin(deployments(&access, &namespace)));
    }
    if wanted("statefulset") {
        kinds.push(Box::pin(stateful_sets(&access, &namespace)));
    }
    if wanted("service") {
        kinds.push(Box::pin(services(&access, &namespace)));
    }
    if wanted("pod") {
        kinds.push(Box::pin(pods(&access, &namespace)));
    }
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

fn item(
    kind: &str,
    name: Option<String>,
    namespace: &str,
    why_not: Option<String>,
    containers: Vec<String>,
) -> TargetItem {
    TargetItem {
        path: format!("{kind}/{}", name.unwrap_or_default()),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        ready: why_not.is_none(),
        containers,
        reason: why_not,
        in_use_by: Vec::new(),
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

async fn deployments(access: &Access, namespace: &str) -> Listed {
    let objects: Api<Deployment> = Api::namespaced(access.client.clone(), namespace);
    let all = ListParams::default();
    let listed = access.timely(objects.list(&all)).await;
    let to_item = |object: Deployment| {
        let ready = object.status.and_then(|status| status.ready_replicas);
        let containers = object.spec.map(|spec| names_of_template(&spec.template)).unwrap_or_default();
        item("deployment", object.metadata.name, namespace, none_ready(ready), containers)
    };
    ("deployment", listed.map(|list| list.items.into_iter().map(to_item).collect()))
}

async fn stateful_sets(access: &Access, namespace: &str) -> Listed {
    let objects: Api<StatefulSet> = Api::namespaced(access.client.clone(), namespace);
    let all = ListParams::default();
    let listed = access.timely(objects.list(&all)).await;
    let to_item = |object: StatefulSet| {
        let ready = object.status.and_then(|status| status.ready_replicas);
        let containers = object.spec.map(|spec| names_of_template(&spec.template)).unwrap_or_default();
        item("statefulset", object.metadata.name, namespace, none_ready(ready), containers)
    };
    ("statefulset", listed.map(|list| list.items.into_iter().map(to_item).collect()))
}

async fn services(access: &Access, namespace: &str) -> Listed {
    let objects: Api<Service> = Api::namespaced(access.client.clone(), namespace);
    let all = ListParams::default();
    let listed = access.timely(objects.list(&all)).await;
    let to_item = |object: Service| {
        let selects = object.spec.and_then(|spec| spec.selector).is_some_and(|selector| !selector.is_empty());
        let why_not = (!selects).then(|| "it selects no pods".to_owned());
        item("service", object.metadata.name, namespace, why_not, Vec::new())
    };
    ("service", listed.map(|list| list.items.into_iter().map(to_item).collect()))
}

async fn pods(access: &Access, namespace: &str) -> Listed {
    let objects: Api<Pod> = Api::namespaced(access.client.clone(), namespace);
    let all = ListParams::default();
    let listed = access.timely(objects.list(&all)).await;
    // Agents are nobody's target.
    let is_agent = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(super::job::MANAGED_BY)).is_some_and(|by| by == super::job::US)
    };
    let to_item = |pod: Pod| {
        let why_not = (!is_ready(&pod)).then(|| reason(&pod));
        let containers = pod.spec.as_ref().map(|spec| names(&spec.containers)).unwrap_or_default();
        item("pod", pod.metadata.name, namespace, why_not, containers)
    };
    let items = |list: kube::api::ObjectList<Pod>| {
        list.items.into_iter().filter(|pod| !is_agent(pod)).map(to_item).collect()
    };
    ("pod", listed.map(items))
}
