//! An agent in a cluster: joined or made, watched until it listens, removed.

mod watch;

use super::access::{self, explain, forbidden, timely};
use super::delivery::{self, Delivering};
use super::job::{self, CONTROL_PORT};
use super::spec::{ClusterSpec, Inside};
use super::{ephemeral, join};
use crate::agents::{AgentRecord, AgentSpec, NotMade, Order, Place};
use crate::embedded::{self, Delivery};
use crate::state::{self, StateFolder};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, Resource};
use protocol::host::Endpoint;
use protocol::ide::{ErrorData, ErrorKind};
use serde::de::DeserializeOwned;
use session_host::agent_link::{ClusterAccess, Finished, LinkError, finish};
use std::fmt::Debug;
use std::time::Duration;

/// How long an agent may take to say whether it ends.
const ASKING: Duration = Duration::from_secs(3);
/// How long the answer to a failed start may wait for the removal of what was made.
const REMOVAL: Duration = Duration::from_secs(2);

/// Joins an agent or makes one, and waits until it listens. Before one is made its record is written, so that whoever
/// comes after a killed daemon can remove it.
pub(crate) async fn create(
    state: &StateFolder,
    spec: &ClusterSpec,
    order: &Order,
) -> Result<AgentRecord, NotMade> {
    let client = access::client(&spec.access).await?;
    let delivery = match &spec.delivered {
        Some(to) => embedded::delivery(&to.arch)?,
        None => None,
    };
    if spec.inside.is_none()
        && let Some(joined) = join::join(spec, order, &client).await
    {
        return Ok(joined);
    }
    let name = job::name(&order.agent);
    let port = match &spec.inside {
        Some(_) => ephemeral::fresh_port()?,
        None => CONTROL_PORT,
    };
    let record = |uid: &str, pod: &str| {
        let pod = spec.inside.as_ref().and(spec.target.as_ref()).map_or(pod, |target| &target.pod);
        AgentRecord {
            agent: order.agent.clone(),
            key: spec.key(),
            target: spec.target_text(),
            endpoint: spec.endpoint(pod, port),
            idle_seconds: order.idle.as_secs(),
            place: match &spec.inside {
                Some(_) => Place::Container {
                    namespace: spec.namespace.clone(),
                    pod: pod.to_owned(),
                    name: name.clone(),
                },
                None => Place::Job {
                    namespace: spec.namespace.clone(),
                    name: name.clone(),
                    uid: uid.to_owned(),
                    pod: pod.to_owned(),
                    delivered: delivery.is_some(),
                    joined: false,
                },
            },
            own: Some(order.own.clone()),
            ready: false,
            spare: Vec::new(),
            spec: Some(AgentSpec::Cluster(Box::new(spec.clone()))),
        }
    };
    record("", "").write(state).map_err(|error| {
        ErrorData::new(
            ErrorKind::Internal,
            "the agent's record cannot be written",
            "make room in the state folder",
        )
        .caused_by(&error)
    })?;
    let outcome = match &spec.inside {
        Some(inside) => make_inside(spec, inside, order, &client, port).await,
        None => make_job(spec, order, &client, delivery.as_ref()).await,
    };
    match outcome {
        Ok((uid, pod)) => Ok(record(&uid, &pod)),
        Err((error, uid)) => {
            // A request that broke off may have been obeyed all the same, so all of it is removed. The user need not
            // wait long for that: what remains is left to the main loop.
            let left = record(&uid, "");
            let removed = remove(&left);
            let gone = matches!(tokio::time::timeout(REMOVAL, removed).await, Ok(Ok(())));
            if gone && state::remove(&state.agent(&order.agent, "json")).is_ok() {
                return Err(error.into());
            }
            Err(NotMade { error, left: Some(Box::new(left)) })
        }
    }
}

/// Adds the container to the target's pod and waits for the agent.
async fn make_inside(
    spec: &ClusterSpec,
    inside: &Inside,
    order: &Order,
    client: &Client,
    port: u16,
) -> Result<(String, String), (ErrorData, String)> {
    let name = job::name(&order.agent);
    let pod = spec.target.as_ref().map(|target| target.pod.clone()).unwrap_or_default();
    order
        .steps
        .report(format!("adding ephemeral container {name} to pod {pod}, where its ended entry stays"));
    ephemeral::add(spec, inside, order, client, port).await.map_err(|error| (error, String::new()))?;
    let place = watch::Place::Container { pod: &pod, name: &name };
    let waiting = watch::until_it_listens(client, spec, place, port, order, None);
    wanted_in_time(spec, order, &format!("container {name} of pod {pod}"), waiting)
        .await
        .map(|pod| (String::new(), pod))
        .map_err(|error| (error, String::new()))
}

/// What comes of waiting, unless it takes too long or nobody waits any more.
async fn wanted_in_time<T>(
    spec: &ClusterSpec,
    order: &Order,
    what: &str,
    waiting: impl Future<Output = Result<T, ErrorData>>,
) -> Result<T, ErrorData> {
    tokio::select! {
        outcome = waiting => outcome,
        () = tokio::time::sleep(spec.agent.startup_timeout()) => Err(too_slow(spec, what)),
        () = order.cancel.cancelled() => Err(crate::handlers::not_wanted()),
    }
}

/// Makes the objects and waits for the agent; gives the Job's uid and the pod, or the uid as far as it is known.
async fn make_job(
    spec: &ClusterSpec,
    order: &Order,
    client: &Client,
    delivery: Option<&Delivery>,
) -> Result<(String, String), (ErrorData, String)> {
    let unmade = |error: ErrorData| (error, String::new());
    let wanted = job::build(spec, order, delivery).map_err(|error| {
        unmade(
            ErrorData::new(
                ErrorKind::ConfigInvalid,
                "the agent's Job cannot be written from these settings",
                "check the settings under `agent`",
            )
            .caused_by(&error),
        )
    })?;
    let name = job::name(&order.agent);
    order.steps.report(format!("creating job {name} in namespace {}", spec.namespace));
    let map = match delivery {
        Some(delivery) => delivery::create(spec, order, client, delivery).await.map_err(unmade)?,
        None => String::new(),
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &spec.namespace);
    let params = PostParams::default();
    let made = timely(&spec.access, jobs.create(&params, &wanted)).await;
    let made = made.map_err(|error| unmade(create_error(&error, spec)))?;
    let uid = made.metadata.uid.unwrap_or_default();
    let waiting = async {
        let delivering =
            delivery.map(|delivery| Delivering { spec, order, client, delivery, map: &map, job: &uid });
        let place = watch::Place::Job { uid: &uid };
        let (pod, ()) = tokio::try_join!(
            watch::until_it_listens(client, spec, place, CONTROL_PORT, order, delivering),
            async {
                match delivering {
                    Some(delivering) => delivering.adopt().await,
                    None => Ok(()),
                }
            }
        )?;
        Ok(pod)
    };
    match wanted_in_time(spec, order, &format!("job {name}"), waiting).await {
        Ok(pod) => Ok((uid, pod)),
        Err(error) => Err((error, uid)),
    }
}

fn create_error(error: &kube::Error, spec: &ClusterSpec) -> ErrorData {
    let namespace = &spec.namespace;
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            forbidden(&status.message, "create the agent's Job")
        }
        kube::Error::Api(status) if status.code == 404 => ErrorData::new(
            ErrorKind::TargetNotFound,
            format!("there is no namespace {namespace} for the agent"),
            "name another by agent.namespace or -a",
        ),
        kube::Error::Api(status) if status.code == 422 || status.code == 400 => ErrorData::new(
            ErrorKind::ConfigInvalid,
            format!("the API server does not accept the agent's Job: {}", status.message),
            "check the settings under `agent`",
        ),
        error => explain(error, &access::Doing::new("create the agent's Job", &spec.server)),
    }
}

fn too_slow(spec: &ClusterSpec, what: &str) -> ErrorData {
    let seconds = spec.agent.startup_timeout().as_secs();
    let namespace = &spec.namespace;
    ErrorData::new(
        ErrorKind::AgentFailed,
        format!("the agent's {what} in namespace {namespace} was not ready within {seconds} s"),
        "see the events of the namespace, or set agent.startup_timeout higher",
    )
    .fact("phase", "ready")
    .retryable()
}

/// Asks the agent to end; `None` where no key of ours is known. An answer that does not come is an error: the port of
/// a container that is only being made is forwarded to nobody.
pub(super) async fn finishing(record: &AgentRecord) -> Option<Result<Finished, LinkError>> {
    let own = record.own.as_ref()?;
    let asked = tokio::time::timeout(ASKING, finish(&record.endpoint, own)).await;
    Some(asked.unwrap_or(Err(LinkError::Deadline { after: ASKING })))
}

/// Removes an agent with all that brought it, unless somebody else needs it; what is gone is fine.
pub async fn remove(record: &AgentRecord) -> Result<(), ErrorData> {
    let Some(way) = way_of(&record.endpoint) else { return Ok(()) };
    let (namespace, name, uid, delivered, joined) = match &record.place {
        Place::Job { namespace, name, uid, delivered, joined, .. } => {
            (namespace, name, uid, *delivered, *joined)
        }
        Place::Container { namespace, pod, name } => {
            return ephemeral::end(record, namespace, pod, name).await;
        }
        Place::Process { .. } => return Ok(()),
    };
    // The last one out removes it. One that was not made to its end has nobody else on it.
    if record.ready {
        match finishing(record).await {
            Some(Ok(Finished::Stays(why))) => {
                tracing::info!(agent = record.agent, why, "an agent is left to others");
                return Ok(());
            }
            Some(Ok(Finished::Ends)) => {}
            // Somebody else's agent that cannot be asked is theirs to remove.
            _ if joined => return Ok(()),
            outcome => tracing::debug!(?outcome, "an agent that cannot be asked is removed all the same"),
        }
    }
    let uid = Some(uid.as_str()).filter(|uid| !uid.is_empty());
    let (job, map) = tokio::join!(delete::<Job>(&way, namespace, name, uid), async {
        // The Job owns it, but the cluster's own clean-up takes its time.
        if delivered { delete::<ConfigMap>(&way, namespace, name, None).await } else { Ok(()) }
    });
    // A guest may not be allowed to; the Job then goes by itself, as its agent has ended.
    if joined { Ok(()) } else { job.and(map) }
}

/// Tries three times: what is left costs the user's cluster, and a connection may have gone bad over night.
async fn delete<T>(
    way: &ClusterAccess,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<(), ErrorData>
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let preconditions =
        uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() });
    let params = DeleteParams { preconditions, ..DeleteParams::background() };
    let mut tries = 1..=3;
    loop {
        let objects: Api<T> = Api::namespaced(access::client(way).await?, namespace);
        match timely(way, objects.delete(name, &params)).await {
            Ok(_) => return Ok(()),
            // Gone, or another Job of that name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
            Err(kube::Error::Service(_)) if tries.next().is_some_and(|count| count < 3) => {}
            Err(error) => {
                let what = format!("delete the agent's {}", T::kind(&()).to_lowercase());
                return Err(explain(&error, &access::Doing::new(&what, "of the cluster")).fact("name", name));
            }
        }
    }
}

/// Whether an agent has ended with its pod or container, so that no link to it can stand again. Not to know counts as no.
pub async fn is_gone(record: &AgentRecord) -> bool {
    let Some(way) = way_of(&record.endpoint) else { return false };
    let Ok(client) = access::client(&way).await else { return false };
    let (namespace, pod) = match &record.place {
        Place::Job { namespace, pod, .. } => (namespace, pod),
        Place::Container { namespace, pod, name } => {
            return ephemeral::is_gone(&client, namespace, pod, name).await;
        }
        Place::Process { .. } => return false,
    };
    match timely(&way, Api::<Pod>::namespaced(client, namespace).get_opt(pod)).await {
        Ok(Some(pod)) => {
            let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
            pod.metadata.deletion_timestamp.is_some() || phase == "Succeeded" || phase == "Failed"
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The way into the cluster that an agent's endpoint holds.
pub(crate) fn way_of(endpoint: &Endpoint) -> Option<ClusterAccess> {
    match endpoint {
        Endpoint::PortForward { kubeconfig, context, accept_invalid_certificates, env, .. } => {
            Some(ClusterAccess {
                kubeconfig: kubeconfig.clone(),
                context: context.clone(),
                accept_invalid_certificates: *accept_invalid_certificates,
                env: env.clone(),
            })
        }
        Endpoint::Unix { .. } => None,
    }
}
