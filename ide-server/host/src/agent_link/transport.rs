//! The ways to an agent's control port, as a pair of byte streams.

use super::cluster::Clusters;
use super::error::LinkError;
use super::port_forward;
use protocol::host::Endpoint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Bytes from the agent.
pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to the agent.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// An open way to an agent, both directions.
pub(super) struct Transport {
    pub(super) reader: ReadHalf,
    pub(super) writer: WriteHalf,
}

impl Transport {
    pub(super) fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }

    /// Opens the way that an endpoint describes.
    pub(super) async fn open(endpoint: &Endpoint, clusters: &mut Clusters) -> Result<Self, LinkError> {
        match endpoint {
            Endpoint::Unix { path } => match UnixStream::connect(path).await {
                Ok(stream) => {
                    let (reader, writer) = stream.into_split();
                    Ok(Self::new(reader, writer))
                }
                Err(source) => Err(LinkError::Unreachable { place: place(endpoint), source }),
            },
            Endpoint::PortForward { namespace, pod, port, .. } => {
                let client = clusters.client(endpoint).await?;
                let opened = port_forward::open(&client, namespace, pod, *port).await;
                if opened.is_err() {
                    clusters.forget();
                }
                let (reader, writer) = opened.map_err(|source| LinkError::PortForward {
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                    source: Box::new(source),
                })?;
                Ok(Self::new(reader, writer))
            }
        }
    }
}

/// Where an endpoint is, for people.
pub(super) fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix { path } => path.clone(),
        Endpoint::PortForward { namespace, pod, port, .. } => format!("pod {namespace}/{pod}, port {port}"),
    }
}
