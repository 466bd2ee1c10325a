//! Kubernetes: the only place of the daemon that talks to it.
//!
//! [`access`] is the way in and turns the API's refusals into errors with facts; [`resolve`] finds pod and container,
//! [`declared`] reads what its spec says, [`listing`] lists targets, [`agent`] makes the agent's Job from [`job`].

pub mod access;
pub mod agent;
mod declared;
mod job;
mod listing;
mod resolve;

pub use listing::list;

use crate::agents::AgentSpec;
use crate::config::Resolved;
use crate::session::start::Steps;
use crate::target::Chosen;
use access::Access;
use agent::{JobSpec, TargetPod};
use config_schema::Target;
use protocol::host::TargetSummary;
use protocol::ide::{ErrorData, ErrorKind};

/// Chooses the pod and container for a target.
pub async fn choose(resolved: &Resolved, target: &Target, steps: &Steps) -> Result<Chosen, ErrorData> {
    let agent = resolved.config.agent();
    if agent.ephemeral() {
        return Err(ErrorData::new(
            ErrorKind::Unsupported,
            "the agent as an ephemeral container is not supported yet",
            "leave agent.ephemeral out: the agent then is a Job beside the target",
        ));
    }
    if agent.image_reference().is_none() {
        return Err(ErrorData::new(
            ErrorKind::AgentFailed,
            "no image is named for the agent, and delivering it without one is not supported yet",
            "set agent.image in mirrord.json or give --agent-image IMAGE: an image whose entrypoint is the agent",
        )
        .fact("phase", "image"));
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
    let mut summary = TargetSummary {
        path: target.to_string(),
        namespace: Some(namespace.clone()),
        context: access.context.clone(),
        ..TargetSummary::default()
    };
    let (mut declared, mut notices) = (None, Vec::new());
    if let Some(found) = found? {
        summary.instance = format!("pod {}", found.name);
        summary.container = Some(found.container.clone());
        steps.report(format!("reading what pod {} declares", found.name));
        declared = Some(declared::read(&access, &namespace, &found).await?);
        notices = found.notices.clone();
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
    let spec = JobSpec {
        access: access.way.clone(),
        namespace: agent.namespace.clone().unwrap_or(namespace),
        server: access.server.clone(),
        target: chosen_pod,
        path: summary.path.clone(),
        agent: agent.clone(),
        incoming,
    };
    Ok(Chosen { summary, agent: AgentSpec::Job(Box::new(spec)), declared, identity: identity?, notices })
}
