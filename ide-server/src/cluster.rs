//! Kubernetes: the only place of the daemon that talks to it.
//!
//! [`access`] is the way in and turns the API's refusals into errors with facts; [`resolve`] finds pod and container,
//! [`declared`] reads what its spec says, [`listing`] lists targets, [`agent`] makes the agent from a [`spec`]: by [`join`]ing
//! one that is there, as a Job of [`job`] or as an [`ephemeral`] container. [`delivery`] brings it there where no registry
//! holds an image of it.

pub mod access;
pub mod agent;
mod declared;
mod delivery;
mod ephemeral;
mod job;
mod join;
mod listing;
mod renew;
mod resolve;
pub mod spec;

pub(crate) use join::admit_more;
pub use listing::{list, namespaces};
pub(crate) use renew::{renew, until_target_leaves};

use crate::agents::AgentSpec;
use crate::config::Resolved;
use crate::session::start::Steps;
use crate::target::Chosen;
use access::Access;
use config_schema::Target;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use protocol::host::TargetSummary;
use protocol::ide::{ErrorData, ErrorKind};
use spec::{ClusterSpec, DeliveredTo, TargetPod};

/// Chooses the pod and container for a target.
pub async fn choose(resolved: &Resolved, target: &Target, steps: &Steps) -> Result<Chosen, ErrorData> {
    let agent = resolved.config.agent();
    let is_delivered = agent.image_reference().is_none();
    if agent.ephemeral() && is_delivered {
        return Err(no_image(
            "an ephemeral container of the target's pod cannot have the agent delivered: it has no volume of its own",
        ));
    }
    if is_delivered && *target == Target::Targetless {
        return Err(no_image(
            "without a target there is no image on a node that the agent could be delivered to",
        ));
    }
    if is_delivered && crate::embedded::delivery(std::env::consts::ARCH)?.is_none() {
        return Err(no_image(
            "no image is named for the agent, and this debug build has no stage 0 to deliver it",
        ));
    }
    let access = Access::open(resolved).await?;
    let namespace = access.namespace(resolved);
    let (identity, found) = tokio::join!(access.identity(), async {
        match target {
            Target::Targetless => Ok(None),
            target => resolve::resolve(&access, &namespace, target).await.map(Some),
        }
    });
    let mut chosen_pod = None;
    let is_own_namespace = agent.namespace.as_ref().is_none_or(|name| *name == namespace);
    let mut summary = TargetSummary {
        path: target.to_string(),
        namespace: Some(namespace.clone()),
        context: access.context.clone(),
        ..TargetSummary::default()
    };
    let (mut declared, mut notices, mut delivered, mut inside) = (None, Vec::new(), None, None);
    if let Some(found) = found? {
        summary.instance = format!("pod {}", found.name);
        summary.container = Some(found.container.clone());
        steps.report(format!("reading what pod {} declares", found.name));
        let (read, arch) = tokio::join!(declared::read(&access, &namespace, &found), async {
            if is_delivered { architecture_of(&access, &found.node).await } else { Ok(String::new()) }
        });
        let arch = arch?;
        declared = Some(read?);
        notices = found.notices.clone();
        if agent.ephemeral() {
            notices.push(ephemeral::warning(&found.name));
            inside = Some(found.inside());
        }
        delivered = found.spec.image.clone().filter(|_| is_delivered).map(|image| DeliveredTo {
            image: delivery::image_on_node(&image, &found.image_id),
            arch,
            // Secrets of another namespace cannot be named; the node has the image anyhow.
            pull_secrets: if is_own_namespace { found.pull_secrets.clone() } else { Vec::new() },
        });
        chosen_pod = Some(TargetPod {
            namespace: namespace.clone(),
            pod: found.name,
            uid: found.uid,
            node: found.node,
            container_id: found.container_id,
        });
    } else {
        "no pod".clone_into(&mut summary.instance);
    }
    let incoming = resolved.config.incoming_mode() != config_schema::IncomingMode::Off;
    let spec = ClusterSpec {
        access: access.way.clone(),
        // An ephemeral container is where its pod is.
        namespace: agent.namespace.clone().filter(|_| inside.is_none()).unwrap_or(namespace),
        server: access.server.clone(),
        target: chosen_pod,
        path: summary.path.clone(),
        agent: agent.clone(),
        delivered,
        inside,
        incoming,
        writing: resolved.config.writes_files(),
    };
    Ok(Chosen { summary, agent: AgentSpec::Cluster(Box::new(spec)), declared, identity: identity?, notices })
}

fn no_image(message: &str) -> ErrorData {
    let help =
        "set agent.image in mirrord.json or give --agent-image IMAGE: an image whose entrypoint is the agent";
    ErrorData::new(ErrorKind::AgentFailed, message, help).fact("phase", "image")
}

/// The processor of a node, as Rust names it; refused where we carry no agent for it. A user who may not read nodes is not
/// asked to: then it is taken to be ours.
async fn architecture_of(access: &Access, node: &str) -> Result<String, ErrorData> {
    let ours = std::env::consts::ARCH.to_owned();
    let nodes: Api<Node> = Api::all(access.client.clone());
    let labels = match access.timely(nodes.get_opt(node)).await {
        Ok(found) => found.and_then(|node| node.metadata.labels).unwrap_or_default(),
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(ours),
        Err(error) => return Err(access::explain(&error, &access.doing("get the target's node"))),
    };
    match labels.get("kubernetes.io/arch").map(|label| named_as_in_rust(label)) {
        Some(arch) if !crate::embedded::architectures().contains(&arch) => Err(ErrorData::new(
            ErrorKind::AgentFailed,
            format!(
                "node {node} is of architecture {arch}, and this mirrord-ide carries agents for {} alone",
                crate::embedded::architectures().join(" and ")
            ),
            "set agent.image to an agent for that architecture",
        )
        .fact("phase", "architecture")
        .fact("node", node)),
        Some(arch) => Ok(arch.to_owned()),
        None => Ok(ours),
    }
}

/// Kubernetes names processors as Go does.
fn named_as_in_rust(label: &str) -> &str {
    match label {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}
