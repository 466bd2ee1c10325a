//! A pod's port through the API server, as bytes: the WebSocket port-forward of `v4.channel.k8s.io`.
//!
//! kube's own `Portforwarder` copies through an in-memory pipe and three tasks in pieces of 4 KiB; here a batch of
//! frames is one WebSocket message and what arrives is handed on where it lies.

use bytes::{Buf, Bytes};
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, StreamExt};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// The most payload of one message: the API server hands a message on only once it has all of it.
const MESSAGE: usize = 64 << 10;
/// The channel of the first (our only) port's bytes; the next one carries its error.
const DATA: u8 = 0;

/// Opens the port of a pod. That nothing listens there shows at the first read.
pub(super) async fn open(
    client: kube::Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<(impl AsyncRead + Send + Unpin + 'static, impl AsyncWrite + Send + Unpin + 'static), kube::Error>
{
    let url = <k8s_openapi::api::core::v1::Pod as kube::Resource>::url_path(&(), Some(namespace));
    let request =
        kube::core::Request::new(url).portforward(pod, &[port]).map_err(kube::Error::BuildRequest)?;
    let (sink, stream) = client.connect(request).await?.into_stream().split();
    Ok((Reader { stream, rest: Bytes::new(), begun: [false; 2] }, Writer { sink }))
}

struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    rest: Bytes,
    /// Each channel begins with a message that names its port.
    begun: [bool; 2],
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Reader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            let message = match ready!(self.stream.poll_next_unpin(context)) {
                Some(message) => message.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            };
            match message {
                Message::Binary(mut bytes) if !bytes.is_empty() => {
                    let channel = bytes.get_u8();
                    let Some(begun) = self.begun.get_mut(usize::from(channel)) else {
                        return Poll::Ready(Err(io::Error::other(format!("unknown channel {channel}"))));
                    };
                    if !std::mem::replace(begun, true) {
                        continue;
                    }
                    if channel != DATA {
                        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, text)));
                    }
                    self.rest = bytes;
                }
                Message::Close(_) => return Poll::Ready(Ok(())),
                _ => {}
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

struct Writer<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Writer<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.sink).poll_ready(context)).map_err(io::Error::other)?;
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>().min(MESSAGE);
        let mut message = Vec::with_capacity(1 + length);
        message.push(DATA);
        for slice in slices {
            let part = slice.len().min(1 + length - message.len());
            message.extend_from_slice(&slice[..part]);
        }
        Pin::new(&mut self.sink).start_send(Message::binary(message)).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(context).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_close(context).map_err(io::Error::other)
    }
}
