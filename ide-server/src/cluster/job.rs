//! The agent's Job as Kubernetes reads it.

use super::delivery;
use super::spec::{ClusterSpec, TargetPod};
use crate::agents::{Order, local::log_level};
use crate::embedded::Delivery;
use crate::session::start::{host_name, user_name};
use config_schema::{AgentConfig, Capability};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The label by which a company allows, refuses and audits what we make.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(super) const US: &str = "mirrord-ide";
/// The agent's control port, on the loopback of its own pod.
pub(super) const CONTROL_PORT: u16 = 46411;
/// The label by which an agent beside a pod is found.
pub(super) const TARGET_UID: &str = "mirrord-ide/target-uid";
/// The annotation that says which of the pod's containers it looks at.
pub(super) const CONTAINER_ID: &str = "mirrord-ide/container-id";
/// A folder of the agent's own in its container; no image has it.
pub(super) const AGENT_FOLDER: &str = "/mirrord-ide-agent";
/// The agent's program there, whatever brought it.
pub(super) const AGENT_PROGRAM: &str = "/mirrord-ide-agent/agent";
/// Where it takes more keys.
pub(super) const ADMIN_SOCKET: &str = "/mirrord-ide-agent/admin.sock";

/// Capabilities without which `environ` and the mount namespace of the target are closed.
const CAPABILITIES: &[&str] = &["SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "DAC_READ_SEARCH"];

/// Capabilities by which files are written as the target's user, be that root or anybody else. All are among those
/// that a container has by default.
pub(super) const WRITING: &[&str] = &["SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"];

/// The name of an agent's Job.
pub(super) fn name(agent: &str) -> String {
    format!("mirrord-ide-{agent}")
}

/// The labels and annotations of all that is made for an order.
pub(super) fn marks(
    spec: &ClusterSpec,
    order: &Order,
    delivery: Option<&Delivery>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let agent = &spec.agent;
    let mut labels = BTreeMap::from([
        (MANAGED_BY.to_owned(), US.to_owned()),
        ("app.kubernetes.io/name".to_owned(), "mirrord-ide-agent".to_owned()),
    ]);
    let mut annotations = BTreeMap::from([
        ("mirrord-ide/user".to_owned(), user_name()),
        ("mirrord-ide/host".to_owned(), host_name()),
        ("mirrord-ide/session".to_owned(), order.session.clone()),
        ("mirrord-ide/version".to_owned(), protocol::VERSION.to_owned()),
        ("mirrord-ide/target".to_owned(), spec.target_text()),
    ]);
    if let Some(target) = &spec.target {
        labels.insert(TARGET_UID.to_owned(), target.uid.clone());
        annotations.insert(CONTAINER_ID.to_owned(), target.container_id.clone());
    }
    if agent.disable_mesh_sidecar_injection.unwrap_or(true) {
        labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
        labels.insert("kuma.io/sidecar-injection".to_owned(), "disabled".to_owned());
        annotations.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
        annotations.insert("linkerd.io/inject".to_owned(), "disabled".to_owned());
    }
    if let Some(delivery) = delivery {
        annotations.insert("mirrord-ide/agent-sha256".to_owned(), delivery.agent_sha256.clone());
    }
    labels.extend(agent.labels.clone().unwrap_or_default());
    annotations.extend(agent.annotations.clone().unwrap_or_default());
    (labels, annotations)
}

/// The Job for an order.
pub(super) fn build(
    spec: &ClusterSpec,
    order: &Order,
    delivery: Option<&Delivery>,
) -> Result<Job, serde_json::Error> {
    let name = name(&order.agent);
    let (labels, annotations) = marks(spec, order, delivery);
    let mut metadata = json!({
        "name": name, "namespace": spec.namespace, "labels": labels, "annotations": annotations,
    });
    if let Some(target) = owning_pod(spec) {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Pod", "name": target.pod, "uid": target.uid,
            "controller": false, "blockOwnerDeletion": false,
        }]);
    }
    serde_json::from_value(json!({
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": spec.agent.ttl.unwrap_or(1),
            "template": {
                "metadata": { "labels": labels, "annotations": annotations },
                "spec": pod_spec(spec, order, delivery),
            },
        },
    }))
}

/// The pod with which all that we make goes, whatever becomes of us: the target's, as an owner must be of the same
/// namespace.
pub(super) fn owning_pod(spec: &ClusterSpec) -> Option<&TargetPod> {
    spec.target.as_ref().filter(|target| target.namespace == spec.namespace)
}

fn pod_spec(spec: &ClusterSpec, order: &Order, delivery: Option<&Delivery>) -> Value {
    let agent = &spec.agent;
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 5,
        "containers": [container(spec, order, delivery)],
    });
    let delivered = spec.delivered.as_ref();
    let of_target = delivered.map(|to| to.pull_secrets.as_slice()).unwrap_or_default();
    let secrets = agent.image_pull_secrets().chain(of_target.iter().map(String::as_str));
    let secrets: Vec<Value> = secrets.map(|name| json!({ "name": name })).collect();
    let mut volumes = Vec::new();
    if delivered.is_some() {
        volumes.push(delivery::volume(&order.agent));
    }
    volumes.push(json!({ "name": "agent", "emptyDir": {} }));
    pod["volumes"] = volumes.into();
    if !secrets.is_empty() {
        pod["imagePullSecrets"] = secrets.into();
    }
    if let Some(account) = &agent.service_account {
        pod["serviceAccountName"] = json!(account);
    }
    if let Some(class) = &agent.priority_class {
        pod["priorityClassName"] = json!(class);
    }
    match &spec.target {
        Some(target) => {
            pod["hostPID"] = json!(true);
            // By affinity, not by nodeName: so the scheduler looks at the node, and its reason is the error.
            pod["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{
                    "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [target.node] }],
                }],
            }}});
            pod["tolerations"] = match &agent.tolerations {
                Some(tolerations) => json!(tolerations),
                None => json!([{ "operator": "Exists" }]),
            };
        }
        None => {
            if let Some(selector) = &agent.node_selector {
                pod["nodeSelector"] = json!(selector);
            }
            if let Some(tolerations) = &agent.tolerations {
                pod["tolerations"] = json!(tolerations);
            }
        }
    }
    pod
}

fn container(spec: &ClusterSpec, order: &Order, delivered: Option<&Delivery>) -> Value {
    let agent = &spec.agent;
    let target = match &spec.target {
        Some(target) => format!("container-id:{}", target.container_id),
        None => "none".to_owned(),
    };
    let mut args = arguments(spec, order, CONTROL_PORT, &target);
    args.extend(["--admin", ADMIN_SOCKET, "--link-program", AGENT_PROGRAM].map(str::to_owned));
    let quantities = |name: &str, defaults: &[(&str, &str)]| -> Value {
        let resources = agent.resources.as_ref();
        let given = match name {
            "limits" => resources.and_then(|resources| resources.limits.as_ref()),
            _ => resources.and_then(|resources| resources.requests.as_ref()),
        };
        match given {
            Some(given) => json!(given),
            None => defaults.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(),
        }
    };
    let program = match (&spec.delivered, delivered) {
        (Some(to), Some(delivery)) => delivery::program(&to.image, delivery, &args),
        _ => json!({
            "image": agent.image_reference(), "imagePullPolicy": agent.image_pull_policy(), "args": args,
            "volumeMounts": [agent_mount()],
        }),
    };
    let mut container = json!({
        "name": "agent",
        "securityContext": security_context(spec),
        "resources": {
            "requests": quantities("requests", &[("cpu", "1m"), ("memory", "1Mi")]),
            "limits": quantities("limits", &[("cpu", "1"), ("memory", "100Mi")]),
        },
    });
    if let (Value::Object(container), Value::Object(program)) = (&mut container, program) {
        container.extend(program);
    }
    container
}

/// The agent's command line.
pub(super) fn arguments(spec: &ClusterSpec, order: &Order, port: u16, target: &str) -> Vec<String> {
    let mut args = vec![
        "serve".to_owned(),
        "--listen".to_owned(),
        format!("tcp:127.0.0.1:{port}"),
        "--target".to_owned(),
        target.to_owned(),
        "--idle-seconds".to_owned(),
        order.idle.as_secs().max(1).to_string(),
        "--log".to_owned(),
        log_level(spec.agent.log_level()).to_owned(),
    ];
    args.extend(order.keys.iter().flat_map(|key| ["--admit".to_owned(), key.to_string()]));
    args
}

/// The mount of the agent's own folder.
pub(super) fn agent_mount() -> Value {
    json!({ "name": "agent", "mountPath": AGENT_FOLDER })
}

/// The profiles that the settings name.
pub(super) fn profiles(agent: &AgentConfig, context: &mut Value) {
    let profiles = agent.security_context.as_ref();
    if let Some(profile) = profiles.and_then(|profiles| profiles.app_armor_profile.as_ref()) {
        context["appArmorProfile"] = json!(profile);
    }
    if let Some(profile) = profiles.and_then(|profiles| profiles.seccomp_profile.as_ref()) {
        context["seccompProfile"] = json!(profile);
    }
}

/// Capabilities less those that the settings forbid.
pub(super) fn without_disabled(agent: &AgentConfig, wanted: &[&'static str]) -> Vec<&'static str> {
    let disabled: Vec<&str> = agent.disabled_capabilities.iter().flatten().map(capability).collect();
    wanted.iter().copied().filter(|name| !disabled.contains(name)).collect()
}

fn security_context(spec: &ClusterSpec) -> Value {
    let agent = &spec.agent;
    let mut context = json!({
        // Added capabilities are void for another user.
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "appArmorProfile": { "type": "Unconfined" },
    });
    if spec.delivered.is_some() {
        context["readOnlyRootFilesystem"] = json!(true);
    }
    profiles(agent, &mut context);
    if agent.privileged.unwrap_or(false) {
        context["privileged"] = json!(true);
        return context;
    }
    let mut wanted = Vec::new();
    if spec.target.is_some() {
        wanted.extend(CAPABILITIES);
        wanted.extend(spec.incoming.then_some("NET_ADMIN"));
        wanted.extend(spec.writing.then_some(WRITING).into_iter().flatten());
    }
    let wanted = without_disabled(agent, &wanted);
    context["allowPrivilegeEscalation"] = json!(!wanted.is_empty());
    context["capabilities"] = json!({ "drop": ["ALL"], "add": wanted });
    context
}

fn capability(capability: &Capability) -> &'static str {
    match capability {
        Capability::NetAdmin => "NET_ADMIN",
        Capability::NetRaw => "NET_RAW",
        Capability::SysPtrace => "SYS_PTRACE",
        Capability::SysAdmin => "SYS_ADMIN",
    }
}
