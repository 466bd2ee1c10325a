//! Where the messages of an HTTP/1.1 connection begin and end: heads and bodies, nothing of what they mean.
//!
//! Nothing is ever rewritten: a head says how long it is and how its body is framed, and the bytes are passed on as they
//! came. What could be read in two ways (a length beside chunks, two lengths) is no request of ours: the target's
//! program decides about it.

#[cfg(test)]
mod tests;

use httparse::{EMPTY_HEADER, Header, Status};

/// A head beyond this is not ours.
pub(super) const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 256;
/// A line between chunks beyond this is no honest one.
const MAX_CHUNK_LINE: usize = 16 << 10;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    /// The beginning of a head; more must come.
    Partial,
    Whole(T),
    /// No HTTP/1.x head that we take.
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) length: usize,
    /// Each header as `Name: value`.
    pub(super) lines: Vec<Vec<u8>>,
    pub(super) body: Body,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    /// Asks for another protocol on this connection.
    pub(super) upgrades: bool,
    /// No further request follows on this connection.
    pub(super) closes: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) length: usize,
    pub(super) kind: ResponseKind,
    pub(super) closes: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResponseKind {
    /// 1xx: the answer proper is still to come.
    Interim,
    Final(Body),
    /// What follows is no HTTP/1.x any more.
    Switched,
}

/// How a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// A body that is not framed as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Body {
    /// How many of `bytes` belong to the body. Whether it is over, [`Self::is_over`] says.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.at == At::Over,
            Self::UntilClose => false,
        }
    }
}

/// A place in a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of the line that we are in.
    line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    /// After the size: spaces, extensions.
    Extension {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    /// In the trailer, up to the empty line.
    Trailer {
        is_empty: bool,
    },
    Over,
}

impl Chunks {
    const START: At = At::Size { size: 0, digits: 0 };

    fn new() -> Self {
        Self { at: Self::START, line: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            if let At::Data { left } = &mut self.at {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                *left -= now as u64;
                taken += now;
                if *left == 0 {
                    self.at = At::DataEnd;
                    self.line = 0;
                }
                continue;
            }
            if self.at == At::Over {
                break;
            }
            self.at = self.step(byte)?;
            taken += 1;
            self.line = if byte == b'\n' { 0 } else { self.line + 1 };
            if self.line > MAX_CHUNK_LINE {
                return Err(Broken);
            }
        }
        Ok(taken)
    }

    fn step(&self, byte: u8) -> Result<At, Broken> {
        let after = |size| if size == 0 { At::Trailer { is_empty: true } } else { At::Data { left: size } };
        match (&self.at, byte) {
            (At::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(Broken)?;
                if *digits >= 16 {
                    return Err(Broken);
                }
                Ok(At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (At::Size { digits: 0, .. }, _) => Err(Broken),
            (At::Size { size, .. } | At::Extension { size }, b'\n') => Ok(after(*size)),
            (At::Size { size, .. }, b'\r' | b';' | b' ' | b'\t') | (At::Extension { size }, _) => {
                Ok(At::Extension { size: *size })
            }
            (At::Size { .. }, _) => Err(Broken),
            (At::DataEnd, b'\r') if self.line == 0 => Ok(At::DataEnd),
            (At::DataEnd, b'\n') => Ok(Self::START),
            (At::DataEnd, _) => Err(Broken),
            (At::Trailer { is_empty: true }, b'\n') => Ok(At::Over),
            (At::Trailer { .. }, b'\n') => Ok(At::Trailer { is_empty: true }),
            (At::Trailer { is_empty }, b'\r') => Ok(At::Trailer { is_empty: *is_empty }),
            (At::Trailer { .. }, _) => Ok(At::Trailer { is_empty: false }),
            (At::Data { .. } | At::Over, _) => Err(Broken),
        }
    }
}

/// The request at the beginning of `bytes`.
pub(super) fn request(bytes: &[u8]) -> Parsed<RequestHead> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(_) | Err(_) => return Parsed::Other,
    };
    let is = |method: &str| request.method == Some(method);
    let (is_head, is_connect) = (is("HEAD"), is("CONNECT"));
    let Some(facts) = Facts::of(request.headers, request.version) else { return Parsed::Other };
    let body = match (facts.coding, facts.length) {
        (Coding::None, length) => Body::Length(length.unwrap_or(0)),
        // HTTP/1.0 knows no chunks.
        (Coding::Chunked, None) if request.version == Some(1) => Body::Chunked(Chunks::new()),
        (Coding::Chunked | Coding::Other, _) => return Parsed::Other,
    };
    let lines = request.headers.iter().map(|header| [header.name.as_bytes(), b": ", header.value].concat());
    Parsed::Whole(RequestHead {
        length,
        lines: lines.collect(),
        body,
        is_head,
        is_connect,
        upgrades: facts.upgrades,
        closes: facts.closes,
    })
}

/// The response at the beginning of `bytes`, which answers `asked`.
pub(super) fn response(bytes: &[u8], asked: &RequestHead) -> Parsed<ResponseHead> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(_) | Err(_) => return Parsed::Other,
    };
    let Some(facts) = Facts::of(response.headers, response.version) else { return Parsed::Other };
    let kind = match response.code.unwrap_or(0) {
        101 => ResponseKind::Switched,
        100..=199 => ResponseKind::Interim,
        200..=299 if asked.is_connect => ResponseKind::Switched,
        204 | 304 => ResponseKind::Final(Body::Length(0)),
        _ if asked.is_head => ResponseKind::Final(Body::Length(0)),
        _ => ResponseKind::Final(match (facts.coding, facts.length) {
            (Coding::Chunked, _) => Body::Chunked(Chunks::new()),
            (Coding::Other, _) | (Coding::None, None) => Body::UntilClose,
            (Coding::None, Some(length)) => Body::Length(length),
        }),
    };
    Parsed::Whole(ResponseHead { length, kind, closes: facts.closes })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
    Other,
}

/// What the headers say of framing.
struct Facts {
    length: Option<u64>,
    coding: Coding,
    upgrades: bool,
    closes: bool,
}

impl Facts {
    /// `None` where they contradict each other.
    fn of(headers: &[Header<'_>], version: Option<u8>) -> Option<Self> {
        let (mut close, mut keep) = (false, false);
        let mut facts = Self { length: None, coding: Coding::None, upgrades: false, closes: false };
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let words = || header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if is("content-length") {
                for word in words() {
                    let length = number(word)?;
                    if facts.length.is_some_and(|before| before != length) {
                        return None;
                    }
                    facts.length = Some(length);
                }
            } else if is("transfer-encoding") {
                // Compressed and then chunked is chunked all the same.
                let last = words().next_back().is_some_and(|word| word.eq_ignore_ascii_case(b"chunked"));
                facts.coding = if last { Coding::Chunked } else { Coding::Other };
            } else if is("connection") {
                close |= words().any(|word| word.eq_ignore_ascii_case(b"close"));
                keep |= words().any(|word| word.eq_ignore_ascii_case(b"keep-alive"));
            } else if is("upgrade") {
                facts.upgrades = true;
            }
        }
        facts.closes = close || (version == Some(0) && !keep);
        Some(facts)
    }
}

/// Digits only: `+5` and ` 5` are read differently elsewhere.
fn number(digits: &[u8]) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}
