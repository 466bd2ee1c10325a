//! An agent as a Job on the target's node: made, watched until it listens, removed.

mod watch;

use super::access::{self, explain, forbidden, timely};
use super::delivery::{self, Delivering};
use super::job::{self, CONTROL_PORT};
use crate::agents::{AgentRecord, AgentSpec, NotMade, Order, Place};
use crate::embedded::{self, Delivery};
use crate::state::{self, StateFolder};
use config_schema::AgentConfig;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, Resource};
use protocol::host::Endpoint;
use protocol::ide::{ErrorData, ErrorKind};
use serde::de::DeserializeOwned;
use session_host::agent_link::ClusterAccess;
use std::fmt::Debug;
use std::time::Duration;

/// How long the answer to a failed start may wait for the removal of what was made.
const REMOVAL: Duration = Duration::from_secs(2);

/// What the agent's Job is to be.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct JobSpec {
    /// The way into the cluster; not written here, the endpoint has it.
    #[serde(skip)]
    pub access: ClusterAccess,
    /// The API server.
    pub server: String,
    /// The agent's namespace.
    pub namespace: String,
    /// The pod that it looks at; none for a targetless session.
    pub target: Option<TargetPod>,
    /// The target as the config names it.
    pub path: String,
    /// The agent's settings.
    #[serde(deserialize_with = "read_settings")]
    pub agent: AgentConfig,
    /// Where it is delivered to; `None` where an image holds it.
    pub delivered: Option<DeliveredTo>,
    /// Whether ports are to be taken over.
    pub incoming: bool,
}

/// An image of the target's, on the node already, in which the agent is to run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeliveredTo {
    /// The image.
    pub image: String,
    /// Names of the secrets that it is pulled with.
    pub pull_secrets: Vec<String>,
}

/// The pod that an agent looks at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// The container's id at the runtime.
    pub container_id: String,
}

/// Settings are read as a config's are, by the one reader that there is.
fn read_settings<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<AgentConfig, D::Error> {
    let settings = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
    let text = serde_json::json!({ "agent": settings }).to_string();
    let config = config_schema::parse(&text, config_schema::Format::Json).config;
    let config =
        config.ok_or_else(|| serde::de::Error::custom("the agent's settings cannot be read back"))?;
    Ok(config.agent.unwrap_or_default())
}

impl std::fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the client's environment: it may hold credentials.
        f.debug_struct("JobSpec").field("namespace", &self.namespace).field("target", &self.target).finish()
    }
}

impl JobSpec {
    /// Equal for sessions that can share an agent.
    pub fn key(&self) -> String {
        let target = match &self.target {
            Some(target) => format!("{}/{}", target.uid, target.container_id),
            None => "targetless".to_owned(),
        };
        let settings = serde_json::to_string(&self.agent).unwrap_or_default();
        let user = self.access.context.as_deref().unwrap_or_default();
        let delivered = self.delivered.is_some();
        format!(
            "job:{}:{user}:{}:{target}:{}:{delivered}:{settings}",
            self.server, self.namespace, self.incoming
        )
    }

    /// The target, for people.
    pub fn target_text(&self) -> String {
        match &self.target {
            Some(target) => format!("{} (pod {}/{})", self.path, target.namespace, target.pod),
            None => self.path.clone(),
        }
    }

    fn endpoint(&self, pod: &str) -> Endpoint {
        let way = &self.access;
        Endpoint::PortForward {
            kubeconfig: way.kubeconfig.clone(),
            context: way.context.clone(),
            accept_invalid_certificates: way.accept_invalid_certificates,
            env: way.env.clone(),
            namespace: self.namespace.clone(),
            pod: pod.to_owned(),
            port: CONTROL_PORT,
        }
    }
}

/// Creates the Job and waits until the agent listens. Before it is created its record is written, so that whoever
/// comes after a killed daemon can remove it.
pub(crate) async fn create(
    state: &StateFolder,
    spec: &JobSpec,
    order: &Order,
) -> Result<AgentRecord, NotMade> {
    let client = access::client(&spec.access).await?;
    let delivery = match &spec.delivered {
        Some(_) => embedded::delivery()?,
        None => None,
    };
    let wanted = job::build(spec, order, delivery.as_ref()).map_err(|error| {
        ErrorData::new(
            ErrorKind::ConfigInvalid,
            "the agent's Job cannot be written from these settings",
            "check the settings under `agent`",
        )
        .caused_by(&error)
    })?;
    let name = job::name(&order.agent);
    let record = |uid: &str, pod: &str| AgentRecord {
        agent: order.agent.clone(),
        key: spec.key(),
        target: spec.target_text(),
        endpoint: spec.endpoint(pod),
        idle_seconds: order.idle.as_secs(),
        place: Place::Job {
            namespace: spec.namespace.clone(),
            name: name.clone(),
            uid: uid.to_owned(),
            pod: pod.to_owned(),
            delivered: delivery.is_some(),
        },
        spare: Vec::new(),
        spec: Some(AgentSpec::Job(Box::new(spec.clone()))),
    };
    record("", "").write(state).map_err(|error| {
        ErrorData::new(
            ErrorKind::Internal,
            "the agent's record cannot be written",
            "make room in the state folder",
        )
        .caused_by(&error)
    })?;
    order.steps.report(format!("creating job {name} in namespace {}", spec.namespace));
    let outcome = make(spec, order, &client, &wanted, delivery.as_ref()).await;
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

/// Makes the objects and waits for the agent; gives the Job's uid and the pod, or the uid as far as it is known.
async fn make(
    spec: &JobSpec,
    order: &Order,
    client: &Client,
    wanted: &Job,
    delivery: Option<&Delivery>,
) -> Result<(String, String), (ErrorData, String)> {
    let unmade = |error: ErrorData| (error, String::new());
    let map = match delivery {
        Some(delivery) => delivery::create(spec, order, client, delivery).await.map_err(unmade)?,
        None => String::new(),
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &spec.namespace);
    let params = PostParams::default();
    let made = timely(&spec.access, jobs.create(&params, wanted)).await;
    let made = made.map_err(|error| unmade(create_error(&error, spec)))?;
    let uid = made.metadata.uid.unwrap_or_default();
    let name = job::name(&order.agent);
    let waiting = async {
        let delivering =
            delivery.map(|delivery| Delivering { spec, order, client, delivery, map: &map, job: &uid });
        let (pod, ()) =
            tokio::try_join!(watch::until_it_listens(client, spec, &uid, order, delivering), async {
                match delivering {
                    Some(delivering) => delivering.adopt().await,
                    None => Ok(()),
                }
            })?;
        Ok(pod)
    };
    let outcome = tokio::select! {
        outcome = waiting => outcome,
        () = tokio::time::sleep(spec.agent.startup_timeout()) => Err(too_slow(spec, &name)),
        () = order.cancel.cancelled() => {
            Err(crate::handlers::not_wanted())
        }
    };
    match outcome {
        Ok(pod) => Ok((uid, pod)),
        Err(error) => Err((error, uid)),
    }
}

fn create_error(error: &kube::Error, spec: &JobSpec) -> ErrorData {
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

fn too_slow(spec: &JobSpec, name: &str) -> ErrorData {
    let seconds = spec.agent.startup_timeout().as_secs();
    let namespace = &spec.namespace;
    ErrorData::new(
        ErrorKind::AgentFailed,
        format!("the agent's job {name} in namespace {namespace} was not ready within {seconds} s"),
        "see the events of the namespace, or set agent.startup_timeout higher",
    )
    .fact("phase", "ready")
    .retryable()
}

/// Removes an agent's Job with its pod and what brought the agent; what is gone is fine.
pub async fn remove(record: &AgentRecord) -> Result<(), ErrorData> {
    let Some(way) = way_of(&record.endpoint) else { return Ok(()) };
    let Place::Job { namespace, name, uid, delivered, .. } = &record.place else { return Ok(()) };
    let uid = Some(uid.as_str()).filter(|uid| !uid.is_empty());
    let (job, map) = tokio::join!(delete::<Job>(&way, namespace, name, uid), async {
        // The Job owns it, but the cluster's own clean-up takes its time.
        if *delivered { delete::<ConfigMap>(&way, namespace, name, None).await } else { Ok(()) }
    });
    job.and(map)
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

/// Whether an agent's pod has ended, so that no link to it can stand again. Not to know counts as no.
pub async fn is_gone(endpoint: &Endpoint, namespace: &str, pod: &str) -> bool {
    let Some(way) = way_of(endpoint) else { return false };
    let Ok(client) = access::client(&way).await else { return false };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_as_it_was_but_for_the_way_into_the_cluster() {
        let text = r#"{"agent": {"image": {"registry": "r/agent", "tag": "1"}, "labels": {"a": "b"}, "ttl": 5,
            "resources": {"limits": {"cpu": "100m"}}, "tolerations": [{"key": "k", "operator": "Exists"}]}}"#;
        let agent = config_schema::parse(text, config_schema::Format::Json).config.unwrap().agent.unwrap();
        let spec = JobSpec {
            access: ClusterAccess { context: Some("c".to_owned()), ..ClusterAccess::default() },
            server: "https://s".to_owned(),
            namespace: "n".to_owned(),
            target: None,
            path: "targetless".to_owned(),
            agent,
            delivered: None,
            incoming: true,
        };
        let read: JobSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(read.access, ClusterAccess::default());
        assert_eq!(read.agent, spec.agent);
        assert_eq!(JobSpec { access: spec.access.clone(), ..read }.key(), spec.key());
    }
}
