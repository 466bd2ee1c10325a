//! Brings the agent into a pod where no registry holds an image of it.
//!
//! The agent's pod uses the target's own image, which is on the node already, and starts stage 0 from an immutable
//! ConfigMap of its own. Stage 0 takes the agent's binary over the port that the agent will listen on, checks it against
//! the hash in its own command line, and becomes it (see `agent/stage0`).

use super::access::{Doing, explain, forbidden, timely};
use super::job::{self, AGENT_FOLDER, CONTROL_PORT};
use super::spec::ClusterSpec;
use crate::agents::Order;
use crate::embedded::Delivery;
use crate::session::start::Steps;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use protocol::agent::ToClient;
use protocol::codec;
use protocol::ide::{ErrorData, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::bytes::BytesMut;

/// What stage 0 says first.
const GREETING: &[u8] = b"mirrord-ide stage0 1\n";
const TAKEN: &str = "ok";
/// How stage 0 says why not.
const REFUSED: &str = "error: ";
/// How long one upload may take: a few megabytes over a slow line.
const UPLOAD: Duration = Duration::from_secs(45);
/// How long a broken upload may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two words on how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;
/// Uploads that may break off before it is given up.
const ATTEMPTS: u32 = 3;
/// In the agent's container; no image has it.
const STAGE0_FOLDER: &str = "/mirrord-ide-stage0";

/// A tunnel to the pod's port.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who serves the control port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Waits for the agent.
    Stage0,
    /// An agent.
    Agent,
    /// Neither.
    Stranger,
}

/// Hears who serves a port, as both speak first; `None` when the tunnel ends before that is clear.
pub(super) async fn listen(tunnel: &mut dyn Stream) -> Option<Speaker> {
    let mut words = BytesMut::with_capacity(256);
    loop {
        if words == GREETING {
            return Some(Speaker::Stage0);
        }
        if !GREETING.starts_with(&words) {
            match codec::decode::<ToClient>(&mut words) {
                Ok(None) => {}
                Ok(Some(ToClient { body: Some(_) })) => return Some(Speaker::Agent),
                Ok(Some(_)) | Err(_) => return Some(Speaker::Stranger),
            }
        }
        match tunnel.read_buf(&mut words).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// The image by which the node surely has what the target runs: by digest where the runtime knows one of that very
/// repository, as a tag may mean another image by now.
pub(super) fn image_on_node(named: &str, id: &str) -> String {
    let id = id.rsplit("://").next().unwrap_or(id);
    let without_digest = named.split('@').next().unwrap_or(named);
    let repository = match without_digest.rsplit_once(':') {
        // A colon before a slash is of the registry's port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => without_digest,
    };
    match id.split_once('@') {
        Some((known, _)) if known == repository => id.to_owned(),
        _ => named.to_owned(),
    }
}

/// The volume that holds stage 0.
pub(super) fn volume(agent: &str) -> Value {
    json!({ "name": "stage0", "configMap": { "name": job::name(agent), "defaultMode": 0o555 } })
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
            job::agent_mount(),
        ],
    })
}

/// Creates stage 0's ConfigMap and gives its uid. Its name is the Job's and not to be guessed; one that is there already
/// is not ours.
pub(super) async fn create(
    spec: &ClusterSpec,
    order: &Order,
    client: &Client,
    delivery: &Delivery,
) -> Result<String, ErrorData> {
    let (labels, annotations) = job::marks(spec, order, Some(delivery));
    let mut map = ConfigMap {
        binary_data: Some(BTreeMap::from([("stage0".to_owned(), ByteString(delivery.stage0.to_vec()))])),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(job::name(&order.agent));
    map.metadata.labels = Some(labels);
    map.metadata.annotations = Some(annotations);
    // Until there is a Job to own it, should we never come to make one.
    map.metadata.owner_references = job::owning_pod(spec).map(|pod| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.pod.clone(),
            uid: pod.uid.clone(),
            ..OwnerReference::default()
        }]
    });
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &spec.namespace);
    let params = PostParams::default();
    match timely(&spec.access, maps.create(&params, &map)).await {
        Ok(made) => Ok(made.metadata.uid.unwrap_or_default()),
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

/// One delivery to one pod.
#[derive(Clone, Copy)]
pub(super) struct Delivering<'a> {
    pub(super) spec: &'a ClusterSpec,
    pub(super) order: &'a Order,
    pub(super) client: &'a Client,
    pub(super) delivery: &'a Delivery,
    /// The uids of our ConfigMap and of the Job that is to own it.
    pub(super) map: &'a str,
    pub(super) job: &'a str,
}

impl Delivering<'_> {
    /// Makes the Job the owner of the ConfigMap, so that it goes with it. This is refused unless the ConfigMap is still
    /// the one that we made: a pod is trusted only after this was done while it ran.
    pub(super) async fn adopt(&self) -> Result<(), ErrorData> {
        let name = job::name(&self.order.agent);
        let change = json!({ "metadata": { "uid": self.map, "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": self.job,
            "controller": false, "blockOwnerDeletion": false,
        }]}});
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.spec.namespace);
        let params = PatchParams::default();
        match timely(&self.spec.access, maps.patch(&name, &params, &Patch::Merge(change))).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(forbidden(&status.message, "give the agent's ConfigMap to its Job"))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(failed("the ConfigMap that brings it was removed by somebody"))
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                Err(failed("the ConfigMap that brings it was replaced by somebody"))
            }
            Err(error) => Err(explain(&error, &Doing::new("own the agent's ConfigMap", &self.spec.server))),
        }
    }

    /// Gives the agent to a stage 0 that has greeted. `false` asks for another tunnel; `attempt` counts these.
    pub(super) async fn deliver(&self, tunnel: &mut dyn Stream, attempt: u32) -> Result<bool, ErrorData> {
        let steps = &self.order.steps;
        let (ours, sent) = tokio::join!(self.adopt(), upload(tunnel, &self.delivery.agent, steps));
        ours?;
        match sent {
            Ok(()) => Ok(true),
            Err(why) if attempt + 1 < ATTEMPTS => {
                tracing::debug!(why, attempt, "the agent was not delivered; once more");
                Ok(false)
            }
            Err(why) => Err(failed(&format!("stage 0 in its pod did not take it: {why}"))),
        }
    }
}

/// The delivery came to nothing.
pub(super) fn failed(why: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::AgentFailed,
        format!("the agent cannot be delivered: {why}"),
        "try again; if it stays so, put the agent into an image and name it by agent.image",
    )
    .fact("phase", "delivery")
}

/// Sends the agent; why not, in stage 0's words where it said some.
async fn upload(tunnel: &mut dyn Stream, agent: &[u8], steps: &Steps) -> Result<(), String> {
    let sending = async {
        if let Err(error) = send(tunnel, agent, steps).await {
            // It may have been told why before it was cut off.
            let told = tokio::time::timeout(LAST_WORDS, answer(tunnel)).await;
            return match told {
                Ok(Ok(line)) if line.starts_with(REFUSED) => Ok(line),
                _ => Err(error),
            };
        }
        answer(tunnel).await
    };
    match tokio::time::timeout(UPLOAD, sending).await {
        Ok(Ok(line)) if line == TAKEN => Ok(()),
        Ok(Ok(line)) if line.is_empty() => Err("the connection ended".to_owned()),
        Ok(Ok(line)) => Err(line.strip_prefix(REFUSED).unwrap_or(&line).to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it took longer than {} s", UPLOAD.as_secs())),
    }
}

async fn send(tunnel: &mut dyn Stream, agent: &[u8], steps: &Steps) -> std::io::Result<()> {
    let whole = megabytes(agent.len());
    steps.report(format!("sending the agent, {whole} MB"));
    let (mut sent, mut told) = (0, Instant::now());
    for chunk in agent.chunks(CHUNK) {
        tunnel.write_all(chunk).await?;
        sent += chunk.len();
        if told.elapsed() >= TOLD_EVERY {
            steps.report(format!("sending the agent, {} of {whole} MB", megabytes(sent)));
            told = Instant::now();
        }
    }
    tunnel.flush().await
}

/// One line, of no more than what a sane stage 0 would say.
async fn answer(tunnel: &mut dyn Stream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 200 && tunnel.read(&mut byte).await? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn megabytes(bytes: usize) -> String {
    let tenths = (bytes + 50_000) / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::agent::{Challenge, to_client};
    use tokio_util::bytes::Bytes;

    fn delivery() -> Delivery {
        Delivery { stage0: vec![0].into(), agent: vec![7; 100_000].into(), agent_sha256: "00".repeat(32) }
    }

    /// What comes of an upload to a stage 0 that reads `takes` bytes, then answers and ends.
    async fn uploaded(takes: usize, answer: &'static [u8]) -> Result<(), String> {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let stage0 = tokio::spawn(async move {
            let mut agent = vec![0; takes];
            theirs.read_exact(&mut agent).await.unwrap();
            theirs.write_all(answer).await.unwrap();
            agent
        });
        let outcome = upload(&mut ours, &delivery().agent, &Steps::to_nobody()).await;
        assert_eq!(stage0.await.unwrap(), vec![7; takes]);
        outcome
    }

    #[tokio::test]
    async fn an_agent_is_only_taken_when_stage0_says_so() {
        assert_eq!(uploaded(100_000, b"ok\n").await, Ok(()));
        assert_eq!(uploaded(100_000, b"error: wrong hash\n").await, Err("wrong hash".to_owned()));
        assert_eq!(uploaded(100_000, b"").await, Err("the connection ended".to_owned()));
        assert_eq!(uploaded(100_000, b"o").await, Err("o".to_owned()));
    }

    #[tokio::test]
    async fn a_stage0_that_breaks_off_is_heard_out() {
        assert_eq!(uploaded(50, b"error: no room\n").await, Err("no room".to_owned()));
        let broken = uploaded(50, b"ok\n").await.unwrap_err();
        assert!(broken.contains("pipe"), "{broken}");
    }

    #[tokio::test]
    async fn whoever_speaks_first_is_told_apart_by_any_pieces_of_its_words() {
        let mut challenge = BytesMut::new();
        let body = Challenge { nonce: Bytes::from_static(&[1; 32]), protocol: 1, version: "0".to_owned() };
        let first = ToClient { body: Some(to_client::Body::Challenge(body)) };
        codec::encode(&first, &mut challenge).unwrap();
        for (words, speaker) in [
            (GREETING, Some(Speaker::Stage0)),
            (&challenge, Some(Speaker::Agent)),
            (b"mirrord-ide stage0 2\n", Some(Speaker::Stranger)),
            (b"SSH-2.0-x\n", Some(Speaker::Stranger)),
            (&[0; 4], Some(Speaker::Stranger)),
            (b"mirrord-ide sta", None),
            (&challenge[..9], None),
            (b"", None),
        ] {
            for piece in [1, 3, 100] {
                let (mut ours, mut theirs) = tokio::io::duplex(piece);
                let words = words.to_vec();
                let speaking = tokio::spawn(async move { theirs.write_all(&words).await });
                assert_eq!(listen(&mut ours).await, speaker);
                drop(ours);
                // A stranger need not be heard to its end.
                drop(speaking.await.unwrap());
            }
        }
    }

    #[test]
    fn a_digest_names_the_image_where_it_is_of_the_same_repository() {
        let digest = "registry:5000/shop@sha256:aa";
        assert_eq!(image_on_node("registry:5000/shop:1", digest), digest);
        assert_eq!(image_on_node("registry:5000/shop", &format!("docker-pullable://{digest}")), digest);
        assert_eq!(image_on_node("registry:5000/shop:1@sha256:bb", digest), digest);
        for id in ["sha256:aa", "", "mirror/shop@sha256:aa", "docker.io/library/import-1@sha256:aa"] {
            assert_eq!(image_on_node("shop:1", id), "shop:1");
        }
    }

    #[test]
    fn sizes_are_told_in_tenths_of_megabytes() {
        assert_eq!([0, 49_999, 1_457_216, 12_000_000].map(megabytes), ["0.0", "0.0", "1.5", "12.0"]);
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
