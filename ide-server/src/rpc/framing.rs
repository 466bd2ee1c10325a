//! The base protocol of LSP: `Content-Length` headers and a body of JSON, without I/O.

/// The longest body that is taken; a config file in a buffer is the longest of what is sent.
pub const MAX_BODY: usize = 16 << 20;
const MAX_HEADER: usize = 4 << 10;

/// Why bytes are not messages; the connection cannot go on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The header does not end.
    #[error("a header is longer than {MAX_HEADER} bytes")]
    LongHeader,
    /// The header has no length.
    #[error("a header has no Content-Length")]
    NoLength,
    /// The body is longer than we take.
    #[error("a body of {length} bytes is longer than {limit}")]
    LongBody {
        /// What the header says, in bytes.
        length: usize,
        /// What is taken, in bytes.
        limit: usize,
    },
}

/// Collects bytes and gives the bodies in them.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_BODY)
    }
}

impl Decoder {
    /// Takes bodies of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole body, if there is one.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, FramingError> {
        let Some(header) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if self.buffer.len() > MAX_HEADER { Err(FramingError::LongHeader) } else { Ok(None) };
        };
        if header > MAX_HEADER {
            return Err(FramingError::LongHeader);
        }
        let length = length_in(&self.buffer[..header]).ok_or(FramingError::NoLength)?;
        if length > self.limit {
            return Err(FramingError::LongBody { length, limit: self.limit });
        }
        let (start, end) = (header + 4, header + 4 + length);
        if self.buffer.len() < end {
            return Ok(None);
        }
        let body = self.buffer[start..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(body))
    }
}

fn length_in(header: &[u8]) -> Option<usize> {
    std::str::from_utf8(header).ok()?.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// A body with its header.
pub fn encode(body: &[u8]) -> Vec<u8> {
    let mut message = format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_the_bytes_come_in() {
        let bytes = [encode(b"{}"), encode(b"[1]")].concat();
        for step in 1..bytes.len() {
            let (mut decoder, mut bodies) = (Decoder::default(), Vec::new());
            for chunk in bytes.chunks(step) {
                decoder.push(chunk);
                while let Some(body) = decoder.pop().unwrap() {
                    bodies.push(body);
                }
            }
            assert_eq!(bodies, [b"{}".to_vec(), b"[1]".to_vec()], "step {step}");
        }
    }

    #[test]
    fn other_headers_are_skipped_and_nonsense_ends_the_connection() {
        let mut decoder = Decoder::default();
        decoder.push(b"Content-Type: x\r\ncontent-length:2\r\n\r\n{}");
        assert_eq!(decoder.pop(), Ok(Some(b"{}".to_vec())));
        decoder.push(b"Hello: x\r\n\r\n");
        assert_eq!(decoder.pop(), Err(FramingError::NoLength));
        let mut decoder = Decoder::default();
        decoder.push(b"Content-Length: 99999999999\r\n\r\n");
        let too_long = FramingError::LongBody { length: 99_999_999_999, limit: MAX_BODY };
        assert_eq!(decoder.pop(), Err(too_long));
        let mut decoder = Decoder::default();
        decoder.push(&[b'x'; MAX_HEADER + 1]);
        assert_eq!(decoder.pop(), Err(FramingError::LongHeader));
    }
}
