//! Length-limited frames for the binary wire: four bytes of big-endian length, then one protobuf message.
//!
//! A length above [`MAX_FRAME`] ends the connection: it is never buffered.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// The longest frame that either side accepts, in bytes, without the four bytes of length.
pub const MAX_FRAME: usize = 1 << 20;

/// The most stream payload in one frame, in bytes: small enough that no stream keeps another waiting long, and that it
/// goes with its header through the buffers of 32 KiB by which Go's `io.Copy` passes it on at every hop to a pod.
pub const MAX_CHUNK: usize = (32 << 10) - 64;

/// What a side may send on a fresh stream before the other has granted more, in bytes.
pub const INITIAL_CREDIT: u32 = 1 << 20;

/// A frame that cannot be read; the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over [`MAX_FRAME`].
    #[error("a frame of {length} bytes exceeds the limit of {MAX_FRAME}")]
    TooLong {
        /// The announced length in bytes.
        length: usize,
    },
    /// The bytes are not a message of this wire.
    #[error("a frame is not a message of this wire: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Appends `message` as one frame.
///
/// # Errors
/// [`FrameError::TooLong`] when it would exceed [`MAX_FRAME`]; nothing is appended then.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length });
    }
    out.reserve(4 + length);
    out.put_u32(length as u32);
    message.encode_raw(out);
    Ok(())
}

/// Takes one whole frame off the front of `buffer`, or `None` while it is incomplete.
///
/// # Errors
/// A length over the limit, or bytes that are no message.
pub fn decode<M: Message + Default>(buffer: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length });
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    let frame: Bytes = buffer.split_to(length).freeze();
    Ok(Some(M::decode(frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Data, ToAgent, to_agent};

    fn sample() -> ToAgent {
        ToAgent { body: Some(to_agent::Body::Data(Data { stream: 7, bytes: Bytes::from_static(b"hello") })) }
    }

    #[test]
    fn a_frame_split_anywhere_is_read_once_it_is_whole() {
        let mut whole = BytesMut::new();
        encode(&sample(), &mut whole).unwrap();
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert!(decode::<ToAgent>(&mut buffer).unwrap().is_none(), "cut at {cut}");
            buffer.extend_from_slice(&whole[cut..]);
            assert_eq!(decode::<ToAgent>(&mut buffer).unwrap(), Some(sample()));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_before_it_is_buffered() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(decode::<ToAgent>(&mut buffer), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let mut buffer = BytesMut::new();
        // Field 1000 (varint 5), unknown to this version, in front of a known ping.
        let mut body = vec![0xc0, 0x3e, 0x05];
        let ping = ToAgent { body: Some(to_agent::Body::Ping(crate::agent::Ping { number: 9 })) };
        body.extend(ping.encode_to_vec());
        buffer.put_u32(body.len() as u32);
        buffer.extend_from_slice(&body);
        assert_eq!(decode::<ToAgent>(&mut buffer).unwrap(), Some(ping));
    }
}
