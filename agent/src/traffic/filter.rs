//! Which requests a session asked for: a regular expression on `Name: value` of each header.
//!
//! The engine's time grows with the text only, whatever the expression: everybody's requests go through it.

use bytes::{Bytes, BytesMut};
use regex::bytes::{Regex, RegexBuilder};

use super::http::{self, Body, Parsed, RequestHead};

/// What a compiled expression may take; each session brings its own.
const MAX_COMPILED: usize = 1 << 20;

/// A session's filter.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pattern: String,
    regex: Regex,
}

impl Filter {
    pub(super) fn new(pattern: &str) -> Result<Self, regex::Error> {
        let regex = RegexBuilder::new(pattern).case_insensitive(true).size_limit(MAX_COMPILED).build()?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    pub(super) fn matches(&self, request: &RequestHead) -> bool {
        request.lines.iter().any(|line| self.regex.is_match(line))
    }
}

/// Leaves of what a client says the requests that match.
///
/// It sees one direction only, so it cannot know whether another protocol was agreed to: what follows a matching
/// request that asked for one, and is no request, is taken too.
#[derive(Debug)]
pub(super) struct Sieve {
    filter: Filter,
    head: BytesMut,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between requests; `upgrading` when the last one matched and asked for another protocol.
    Head {
        upgrading: bool,
    },
    Body {
        body: Body,
        takes: bool,
        upgrading: bool,
    },
    /// All the rest, or nothing of it.
    Rest {
        takes: bool,
    },
}

impl Sieve {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, head: BytesMut::new(), state: State::Head { upgrading: false } }
    }

    /// What of `bytes`, and of what was held back before, is to be taken.
    pub(super) fn sift(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while !bytes.is_empty() {
            match &mut self.state {
                State::Rest { takes } => {
                    if *takes {
                        taken.push(bytes);
                    }
                    return taken;
                }
                State::Body { body, takes, upgrading } => {
                    let Ok(length) = body.take(&bytes) else {
                        self.state = State::Rest { takes: *takes };
                        continue;
                    };
                    let part = bytes.split_to(length);
                    if *takes {
                        taken.push(part);
                    }
                    if body.is_over() {
                        self.state = State::Head { upgrading: *takes && *upgrading };
                    }
                }
                State::Head { upgrading } => {
                    self.head.extend_from_slice(&bytes);
                    bytes = Bytes::new();
                    match http::request(&self.head) {
                        Parsed::Partial => {}
                        Parsed::Other => {
                            self.state = State::Rest { takes: *upgrading };
                            bytes = self.head.split().freeze();
                        }
                        Parsed::Whole(request) => {
                            let takes = self.filter.matches(&request);
                            let head = self.head.split_to(request.length).freeze();
                            if takes {
                                taken.push(head);
                            }
                            let upgrading = takes && (request.upgrades || request.is_connect);
                            self.state = if request.body.is_over() {
                                State::Head { upgrading }
                            } else {
                                State::Body { body: request.body, takes, upgrading }
                            };
                            bytes = self.head.split().freeze();
                        }
                    }
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &[u8] = b"POST /1 HTTP/1.1\r\nX-User: me\r\nContent-Length: 3\r\n\r\nabc\
        GET /2 HTTP/1.1\r\nX-User: other\r\n\r\n\
        PUT /3 HTTP/1.1\r\nx-USER:  me \r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nSum: 1\r\n\r\n\
        GET /4 HTTP/1.1\r\nX-User: other\r\n\r\n";

    fn sieve(pattern: &str) -> Sieve {
        Sieve::new(Filter::new(pattern).unwrap())
    }

    #[test]
    fn only_requests_that_match_are_taken_wherever_they_are_cut() {
        for size in [1, 2, 3, 7, 50, SAID.len()] {
            let mut sieve = sieve("^X-User: me$");
            let taken: Vec<u8> = SAID
                .chunks(size)
                .flat_map(|part| sieve.sift(Bytes::copy_from_slice(part)))
                .flat_map(|bytes| bytes.to_vec())
                .collect();
            let text = String::from_utf8(taken).unwrap();
            assert_eq!(
                text,
                "POST /1 HTTP/1.1\r\nX-User: me\r\nContent-Length: 3\r\n\r\nabc\
                 PUT /3 HTTP/1.1\r\nx-USER:  me \r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nSum: 1\r\n\r\n"
            );
        }
    }

    #[test]
    fn another_protocol_is_taken_after_a_request_that_matched_and_asked_for_it() {
        for (user, expected) in [("me", true), ("other", false)] {
            let mut sieve = sieve("x-user: me");
            let asked = format!("GET / HTTP/1.1\r\nX-User: {user}\r\nUpgrade: websocket\r\n\r\n");
            assert_eq!(!sieve.sift(asked.into()).is_empty(), expected);
            assert_eq!(!sieve.sift(Bytes::from_static(b"\x81\x03abc")).is_empty(), expected);
        }
        assert!(sieve(".").sift(Bytes::from_static(b"\x16\x03\x01 no http")).is_empty());
    }

    #[test]
    fn what_the_engine_cannot_do_is_refused() {
        assert!(Filter::new("(?=x)").is_err());
        assert!(Filter::new("(a{1000}){1000}").is_err());
    }
}
