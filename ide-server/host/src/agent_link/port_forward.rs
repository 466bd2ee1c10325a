//! A pod's port through the API server, as bytes.
//!
//! Two protocols lead there. SPDY ([`spdy`]) comes first: it is what `kubectl port-forward` has always asked for, so
//! roles grant it (`create`), and the kubelet's side moves its frames two to three times as fast as masked WebSocket
//! messages. Where something on the way refuses it, WebSocket ([`websocket`]) is tried (`get`).

mod spdy;
mod websocket;

use super::transport::{ReadHalf, WriteHalf};

type Halves = (ReadHalf, WriteHalf);

/// Opens the port of a pod. That nothing listens there shows at the first read.
pub(super) async fn open(
    client: &kube::Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<Halves, kube::Error> {
    let pods = <k8s_openapi::api::core::v1::Pod as kube::Resource>::url_path(&(), Some(namespace));
    let path = format!("{pods}/{pod}/portforward");
    let first = match spdy::open(client, &path, port).await {
        Ok(halves) => return Ok(halves),
        Err(error) => error,
    };
    // Who is unknown, or asks for a pod that is not there, gets no other answer by another protocol.
    if let kube::Error::Api(status) = &first
        && matches!(status.code, 401 | 404)
    {
        return Err(first);
    }
    tracing::debug!(error = %first, "no port-forward by SPDY; trying WebSocket");
    let second = match websocket::open(client, &format!("{path}?ports={port}")).await {
        Ok(halves) => return Ok(halves),
        Err(error) => error,
    };
    // Two refusals by the API server: the first names the right that roles usually grant.
    Err(if matches!(first, kube::Error::Api(_)) { first } else { second })
}
