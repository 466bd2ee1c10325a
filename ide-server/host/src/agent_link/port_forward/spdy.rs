//! The SPDY/3.1 port-forward of `portforward.k8s.io`, as bytes; just as much of SPDY as that takes.
//!
//! A forwarded port is two streams: one on which the server reports an error, and one for the bytes. Header blocks
//! have to be zlib; ours are stored, not compressed, which any zlib reads, and those of the server are skipped. Its
//! implementation (moby/spdystream, on all sides) has no flow control: what is not read waits in TCP.

use super::Halves;
use bytes::{Buf, BufMut, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::core::Status;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The most payload of one frame.
const FRAME: usize = 64 << 10;
/// Read from the connection at once.
const READ_BUFFER: usize = 64 << 10;
/// Control frames beyond this are none of ours.
const MAX_CONTROL: usize = 1 << 20;

const ERRORS: u32 = 1;
const BYTES: u32 = 3;

const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// Opens the port of a pod. That nothing listens there shows at the first read.
pub(super) async fn open(client: &kube::Client, path: &str, port: u16) -> Result<Halves, kube::Error> {
    let request = Request::post(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", "portforward.k8s.io")
        .body(Body::empty())
        .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
    let response = client.send(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(kube::Error::HyperError)?;
    let (reader, writer) =
        begin(TokioIo::new(upgraded), port).await.map_err(|error| kube::Error::Service(error.into()))?;
    Ok((Box::new(reader), Box::new(writer)))
}

async fn refusal(response: Response<Body>) -> kube::Error {
    let code = response.status();
    let body = match response.into_body().collect_bytes().await {
        Ok(body) => body,
        Err(error) => return error,
    };
    // Proxies answer with pages of their own.
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body[..body.len().min(1000)]);
        Status::failure(text.trim(), "NoStatus").with_code(code.as_u16())
    });
    kube::Error::Api(status.boxed())
}

async fn begin<S: AsyncRead + AsyncWrite>(
    connection: S,
    port: u16,
) -> io::Result<(Reader<tokio::io::ReadHalf<S>>, Writer<tokio::io::WriteHalf<S>>)> {
    let (reader, writer) = tokio::io::split(connection);
    let pongs = Arc::<Mutex<BytesMut>>::default();
    let mut out = BytesMut::new();
    // The zlib header stands before the first block only: both blocks are one zlib stream.
    syn_stream(ERRORS, FIN, "error", port, &[0x78, 0x01], &mut out);
    syn_stream(BYTES, 0, "data", port, &[], &mut out);
    let reader =
        Reader { inner: reader, buffer: BytesMut::new(), state: State::Header, pongs: pongs.clone() };
    let mut writer = Writer { inner: writer, out, pongs };
    // The agent speaks first, and can only once the streams are open.
    writer.flush().await?;
    Ok((reader, writer))
}

/// Appends the frame that opens a stream.
fn syn_stream(id: u32, flags: u8, kind: &str, port: u16, zlib: &[u8], out: &mut BytesMut) {
    let port = port.to_string();
    let mut headers = BytesMut::new();
    let pairs = [("streamtype", kind), ("port", &port), ("requestid", "0")];
    headers.put_u32(pairs.len() as u32);
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        headers.put_u32(text.len() as u32);
        headers.put_slice(text.as_bytes());
    }
    let mut block = BytesMut::from(zlib);
    // A stored block, and an empty one: the flush without which a reader waits for more.
    for part in [&headers[..], &[]] {
        let length = part.len() as u16;
        block.put_u8(0);
        block.put_u16_le(length);
        block.put_u16_le(!length);
        block.put_slice(part);
    }
    control(SYN_STREAM, flags, 10 + block.len(), out);
    out.put_u32(id);
    // No associated stream, no priority.
    out.put_u32(0);
    out.put_u16(0);
    out.put_slice(&block);
}

fn control(kind: u16, flags: u8, length: usize, out: &mut BytesMut) {
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32);
}

struct Reader<R> {
    inner: R,
    buffer: BytesMut,
    state: State,
    /// Answers to pings, which the writer takes along.
    pongs: Arc<Mutex<BytesMut>>,
}

#[derive(Clone, Copy)]
enum State {
    /// A frame begins.
    Header,
    /// In the payload of a data frame.
    Payload { left: usize, last: bool },
    /// Nothing follows.
    Ended,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Fills the buffer to at least `wanted` bytes; false at the end of the connection.
    fn poll_fill(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<bool>> {
        while self.buffer.len() < wanted {
            self.buffer.reserve(READ_BUFFER.max(wanted));
            let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.inner, &mut self.buffer));
            if ready!(read.poll(context))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Reads frames until one brings payload, or the end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let State::Header = self.state else { return Poll::Ready(Ok(())) };
            if !ready!(self.poll_fill(context, 8))? {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
            let (head, rest) = ((&self.buffer[..4]).get_u32(), (&self.buffer[4..8]).get_u32());
            let (flags, length) = ((rest >> 24) as u8, (rest & 0xff_ffff) as usize);
            if head & 0x8000_0000 == 0 {
                match head {
                    BYTES => {
                        self.buffer.advance(8);
                        self.state = State::Payload { left: length, last: flags & FIN != 0 };
                        self.close_if_last();
                        continue;
                    }
                    // An empty one is its end, which only says that there was no error.
                    ERRORS if length > 0 => {
                        ready!(self.poll_whole(context, 8 + length))?;
                        let text = String::from_utf8_lossy(&self.buffer[8..8 + length]).trim().to_owned();
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, text)));
                    }
                    _ => {}
                }
            }
            ready!(self.poll_whole(context, 8 + length))?;
            let frame = self.buffer.split_to(8 + length);
            if head & 0x8000_0000 != 0 {
                self.controlled(head as u16, &frame)?;
            }
        }
    }

    fn poll_whole(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<()>> {
        if length > MAX_CONTROL {
            return Poll::Ready(Err(io::Error::other("a frame that is not of a port-forward")));
        }
        match ready!(self.poll_fill(context, length))? {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn controlled(&mut self, kind: u16, frame: &[u8]) -> io::Result<()> {
        match kind {
            RST_STREAM if frame.len() >= 12 && (&frame[8..12]).get_u32() == BYTES => {
                Err(io::ErrorKind::ConnectionReset.into())
            }
            GOAWAY => Err(io::ErrorKind::ConnectionAborted.into()),
            PING => {
                self.pongs.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(frame);
                Ok(())
            }
            // Replies to our streams, settings, windows that nobody keeps.
            _ => Ok(()),
        }
    }

    /// Moves on from a payload that is read.
    fn close_if_last(&mut self) {
        if let State::Payload { left: 0, last } = self.state {
            self.state = if last { State::Ended } else { State::Header };
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Reader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            // What has arrived already is taken in one go, over the frames' borders.
            match self.poll_frame(context) {
                Poll::Ready(done) => done?,
                Poll::Pending if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            let State::Payload { left, last } = self.state else { return Poll::Ready(Ok(())) };
            if self.buffer.is_empty() {
                if buffer.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                if !ready!(self.poll_fill(context, 1))? {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            let length = self.buffer.len().min(left).min(buffer.remaining());
            buffer.put_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            self.state = State::Payload { left: left - length, last };
            self.close_if_last();
            if buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

struct Writer<W> {
    inner: W,
    /// Frames that are on their way out.
    out: BytesMut,
    pongs: Arc<Mutex<BytesMut>>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(context, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.out.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take_pongs(&mut self) {
        let mut pongs = self.pongs.lock().unwrap_or_else(PoisonError::into_inner);
        self.out.extend_from_slice(&pongs);
        pongs.clear();
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Writer<W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.out.len() >= FRAME {
            ready!(self.poll_drain(context))?;
        }
        self.take_pongs();
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>().min(FRAME);
        self.out.reserve(8 + length);
        self.out.put_u32(BYTES);
        self.out.put_u32(length as u32);
        let mut left = length;
        for slice in slices {
            let part = slice.len().min(left);
            self.out.put_slice(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_pongs();
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, DuplexStream};

    type Ours = (Reader<tokio::io::ReadHalf<DuplexStream>>, Writer<tokio::io::WriteHalf<DuplexStream>>);

    /// A connection whose streams are open, seen from both ends.
    async fn opened() -> (Ours, DuplexStream) {
        let (ours, mut server) = tokio::io::duplex(1 << 20);
        let (reader, writer) = begin(ours, 7777).await.unwrap();
        for _ in 0..2 {
            let (head, _, _) = frame(&mut server).await;
            assert_eq!(head, 0x8003_0001);
        }
        ((reader, writer), server)
    }

    async fn frame(server: &mut DuplexStream) -> (u32, u8, Vec<u8>) {
        let head = server.read_u32().await.unwrap();
        let rest = server.read_u32().await.unwrap();
        let mut payload = vec![0; (rest & 0xff_ffff) as usize];
        server.read_exact(&mut payload).await.unwrap();
        (head, (rest >> 24) as u8, payload)
    }

    async fn put(server: &mut DuplexStream, head: u32, flags: u8, payload: &[u8]) {
        server.write_u32(head).await.unwrap();
        server.write_u32(u32::from(flags) << 24 | payload.len() as u32).await.unwrap();
        server.write_all(payload).await.unwrap();
    }

    #[tokio::test]
    async fn the_two_streams_are_opened_as_spdy_3_writes_it() {
        let (ours, mut server) = tokio::io::duplex(1 << 20);
        let (_reader, _writer) = begin(ours, 80).await.unwrap();
        let (_, flags, errors) = frame(&mut server).await;
        assert_eq!((flags, &errors[..10]), (FIN, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..]));
        // RFC 1950 and 1951 by hand: the header is a multiple of 31, then a stored block with its length twice.
        assert_eq!(u16::from_be_bytes([errors[10], errors[11]]) % 31, 0);
        let length = u16::from_le_bytes([errors[13], errors[14]]);
        assert_eq!(u16::from_le_bytes([errors[15], errors[16]]), !length);
        let block = &errors[17..17 + usize::from(length)];
        let text = b"\0\0\0\x03\0\0\0\x0astreamtype\0\0\0\x05error\0\0\0\x04port\0\0\0\x0280\0\0\0\x09requestid\0\0\0\x010";
        assert_eq!(block, text);
        assert_eq!(&errors[17 + usize::from(length)..], [0, 0, 0, 0xff, 0xff]);
        let (_, flags, data) = frame(&mut server).await;
        assert_eq!((flags, &data[..11]), (0, &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..]));
    }

    #[tokio::test]
    async fn payload_is_read_over_the_borders_of_frames_and_other_frames_are_skipped() {
        let ((mut reader, mut writer), mut server) = opened().await;
        put(&mut server, 0x8003_0002, 0, &[0, 0, 0, 1, 9, 9, 9]).await;
        put(&mut server, BYTES, 0, b"ab").await;
        put(&mut server, ERRORS, FIN, b"").await;
        put(&mut server, 0x8003_0006, 0, &[0, 0, 0, 2]).await;
        put(&mut server, BYTES, 0, b"").await;
        put(&mut server, BYTES, FIN, b"cde").await;
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"abcde");
        // The ping is answered with the next write.
        writer.write_all(b"hello").await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(frame(&mut server).await, (0x8003_0006, 0, vec![0, 0, 0, 2]));
        assert_eq!(frame(&mut server).await, (BYTES, 0, b"hello".to_vec()));
    }

    #[tokio::test]
    async fn a_port_on_which_nothing_listens_fails_with_the_server_s_words() {
        let ((mut reader, _writer), mut server) = opened().await;
        put(&mut server, ERRORS, FIN, b"connection refused\n").await;
        let error = reader.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::ConnectionRefused, "connection refused".into())
        );
    }

    #[tokio::test]
    async fn a_reset_and_a_cut_in_a_frame_are_errors_and_no_end() {
        let ((mut reader, _writer), mut server) = opened().await;
        put(&mut server, 0x8003_0003, 0, &[0, 0, 0, 3, 0, 0, 0, 5]).await;
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let ((mut reader, _writer), mut server) = opened().await;
        server.write_u32(BYTES).await.unwrap();
        server.write_u32(10).await.unwrap();
        server.write_all(b"half").await.unwrap();
        drop(server);
        let mut read = Vec::new();
        assert_eq!(reader.read_to_end(&mut read).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read, b"half");
    }

    #[tokio::test]
    async fn large_writes_and_reads_pass_unchanged() {
        let ((mut reader, mut writer), mut server) = opened().await;
        let sent: Vec<u8> = (0..1_000_003_usize).map(|at| (at ^ (at >> 9)) as u8).collect();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.flush().await.unwrap();
        };
        let mirror = async {
            let mut left = sent.len();
            while left > 0 {
                let (head, _, payload) = frame(&mut server).await;
                assert_eq!(head, BYTES);
                assert!(payload.len() <= FRAME);
                left -= payload.len();
                put(&mut server, BYTES, 0, &payload).await;
            }
        };
        let mut received = vec![0; sent.len()];
        tokio::join!(write, mirror, async { reader.read_exact(&mut received).await.unwrap() });
        assert!(received == sent);
    }
}
