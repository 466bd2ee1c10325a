//! Brings the agent into a pod where no registry holds an image of it.
//!
//! The agent's pod uses the target's own image, which is on the node already, and starts stage 0 from an immutable
//! ConfigMap of its own. Stage 0 takes the agent's binary over the port that the agent will listen on, checks it against
//! the hash in its own command line, and becomes it (see `agent/stage0`).

use super::access::{Doing, explain, forbidden, timely};
use super::agent::JobSpec;
use super::job::{self, CONTROL_PORT};
use crate::agents::Order;
use crate::embedded::Delivery;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use protocol::ide::{ErrorData, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What stage 0 says first.
pub(super) const GREETING: &[u8] = b"mirrord-ide stage0 1\n";
const TAKEN: &[u8] = b"ok\n";
/// How long one upload may take: a few megabytes over a slow line.
const UPLOAD: Duration = Duration::from_secs(45);
/// In the agent's container; no image has these.
const STAGE0_FOLDER: &str = "/mirrord-ide-stage0";
const AGENT_FOLDER: &str = "/mirrord-ide-agent";

/// A tunnel to the pod's port.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether these first words are stage 0's rather than an agent's.
pub(super) fn is_stage0(words: &[u8]) -> bool {
    words == GREETING
}

/// The volumes of an agent's pod.
pub(super) fn volumes(agent: &str) -> Value {
    json!([
        { "name": "stage0", "configMap": { "name": job::name(agent), "defaultMode": 0o555 } },
        { "name": "agent", "emptyDir": {} },
    ])
}

/// Image, command and mounts of an agent's container.
pub(super) fn program(image: &str, delivery: &Delivery, args: &[String]) -> Value {
    let mut words = vec![
        "--listen".to_owned(),
        format!("tcp:127.0.0.1:{CONTROL_PORT}"),
        "--size".to_owned(),
        delivery.agent.len().to_string(),
        "--sha256".to_owned(),
        delivery.agent_sha256.clone(),
        "--to".to_owned(),
        AGENT_FOLDER.to_owned(),
        "--".to_owned(),
    ];
    words.extend_from_slice(args);
    json!({
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [format!("{STAGE0_FOLDER}/stage0")],
        "args": words,
        "workingDir": "/",
        "volumeMounts": [
            { "name": "stage0", "mountPath": STAGE0_FOLDER, "readOnly": true },
            { "name": "agent", "mountPath": AGENT_FOLDER },
        ],
    })
}

/// Creates stage 0's ConfigMap. Its name is the Job's and not to be guessed; one that is there already is not ours.
pub(super) async fn create(
    spec: &JobSpec,
    order: &Order,
    client: &Client,
    delivery: &Delivery,
) -> Result<(), ErrorData> {
    let (labels, annotations) = job::marks(spec, order, Some(delivery));
    let mut map = ConfigMap {
        binary_data: Some(BTreeMap::from([("stage0".to_owned(), ByteString(delivery.stage0.to_vec()))])),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(job::name(&order.agent));
    map.metadata.labels = Some(labels);
    map.metadata.annotations = Some(annotations);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &spec.namespace);
    let params = PostParams::default();
    match timely(&spec.access, maps.create(&params, &map)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err(forbidden(&status.message, "create the ConfigMap that brings the agent"))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Err(ErrorData::new(
            ErrorKind::TargetNotFound,
            format!("there is no namespace {} for the agent", spec.namespace),
            "name another by agent.namespace or -a",
        )),
        Err(error) => Err(explain(&error, &Doing::new("create the agent's ConfigMap", &spec.server))),
    }
}

/// Makes the Job the ConfigMap's owner, so that it goes with it.
pub(super) async fn adopt(
    spec: &JobSpec,
    order: &Order,
    client: &Client,
    uid: &str,
) -> Result<(), ErrorData> {
    let name = job::name(&order.agent);
    let owner = json!({ "metadata": { "ownerReferences": [{
        "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid,
        "controller": false, "blockOwnerDeletion": false,
    }]}});
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &spec.namespace);
    let params = PatchParams::default();
    let patched = timely(&spec.access, maps.patch(&name, &params, &Patch::Merge(owner))).await;
    match patched {
        Ok(_) => Ok(()),
        // Without the right to change it the daemon removes it itself; only a laptop that is lost would leave it.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(name, "the agent's ConfigMap cannot be given to its Job: {}", status.message);
            Ok(())
        }
        Err(error) => Err(explain(&error, &Doing::new("own the agent's ConfigMap", &spec.server))),
    }
}

/// Sends the agent to a stage 0 that has said its greeting.
pub(super) async fn upload(tunnel: &mut dyn Stream, delivery: &Delivery) -> io::Result<()> {
    let sending = async {
        tunnel.write_all(&delivery.agent).await?;
        tunnel.flush().await?;
        let mut answer = vec![0; TAKEN.len()];
        tunnel.read_exact(&mut answer).await?;
        if answer == TAKEN { Ok(()) } else { Err(io::Error::other("stage 0 did not take the agent")) }
    };
    let in_time = tokio::time::timeout(UPLOAD, sending).await;
    in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery {
        Delivery { stage0: vec![0].into(), agent: vec![7; 100_000].into(), agent_sha256: "00".repeat(32) }
    }

    #[tokio::test]
    async fn an_agent_is_sent_whole_and_only_taken_when_stage0_says_so() {
        for (answer, taken) in [(&b"ok\n"[..], true), (&b"no\n"[..], false), (&b""[..], false)] {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            let stage0 = tokio::spawn(async move {
                let mut agent = vec![0; 100_000];
                theirs.read_exact(&mut agent).await.unwrap();
                theirs.write_all(answer).await.unwrap();
                agent
            });
            assert_eq!(upload(&mut ours, &delivery()).await.is_ok(), taken);
            assert_eq!(stage0.await.unwrap(), vec![7; 100_000]);
        }
    }

    #[test]
    fn the_command_line_orders_size_and_hash_and_ends_with_the_agents_own() {
        let program = program("shop:1", &delivery(), &["serve".to_owned()]);
        let args: Vec<&str> = program["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let text = args.join(" ");
        assert!(text.contains("--size 100000 --sha256 0000"), "{text}");
        assert!(text.ends_with("-- serve"), "{text}");
        assert_eq!(program["image"], "shop:1");
    }
}
