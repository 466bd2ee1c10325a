//! The WebSocket port-forward of `v4.channel.k8s.io`, as bytes.
//!
//! kube's own `Portforwarder` copies through an in-memory pipe and three tasks in pieces of 4 KiB; here a batch of
//! frames is one WebSocket message and what arrives is handed on where it lies.

use super::Halves;
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
pub(super) async fn open(client: &kube::Client, path: &str) -> Result<Halves, kube::Error> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
    let (reader, writer) = halves(client.connect(request).await?.into_stream());
    Ok((Box::new(reader), Box::new(writer)))
}

fn halves<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>) -> (Reader<S>, Writer<S>) {
    let (sink, stream) = socket.split();
    (Reader { stream, rest: Bytes::new(), begun: [false; 2] }, Writer { sink })
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::SinkExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn pair() -> (Reader<DuplexStream>, Writer<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let (reader, writer) = halves(client);
        (reader, writer, server)
    }

    #[tokio::test]
    async fn bytes_of_the_port_pass_without_the_channel_and_the_opening_messages() {
        let (mut reader, mut writer, mut server) = pair().await;
        for message in [&[0, 0x90, 0x1f][..], &[1, 0x90, 0x1f], &[0, b'a', b'b'], &[0, b'c']] {
            server.send(Message::binary(message.to_vec())).await.unwrap();
        }
        let mut read = [0; 3];
        reader.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abc");
        writer.write_all(b"hello").await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), Message::binary(b"\0hello".to_vec()));
        server.close(None).await.unwrap();
        assert_eq!(reader.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_port_on_which_nothing_listens_fails_with_the_server_s_words() {
        let (mut reader, _writer, mut server) = pair().await;
        for message in [&[0, 0x90, 0x1f][..], &[1, 0x90, 0x1f], b"\x01connection refused\n"] {
            server.send(Message::binary(message.to_vec())).await.unwrap();
        }
        let error = reader.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn what_exceeds_a_message_goes_out_as_several() {
        let (_reader, mut writer, mut server) = pair().await;
        let sent: Vec<u8> = (0..MESSAGE * 2 + 5).map(|at| at as u8).collect();
        let mut received = Vec::new();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.flush().await.unwrap();
        };
        let read = async {
            for _ in 0..3 {
                let message = server.next().await.unwrap().unwrap().into_data();
                assert!(message.len() <= 1 + MESSAGE);
                received.extend_from_slice(&message[1..]);
            }
        };
        tokio::join!(write, read);
        assert_eq!(received, sent);
    }
}
