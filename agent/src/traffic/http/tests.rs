//! Framing: what a head says of its body, and bodies cut anywhere.

use super::*;

fn asked(text: &str) -> RequestHead {
    match request(text.as_bytes()) {
        Parsed::Whole(head) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn answered(text: &str, to: &str) -> (ResponseKind, bool) {
    match response(text.as_bytes(), &asked(to)) {
        Parsed::Whole(head) => (head.kind, head.closes),
        other => panic!("{text:?}: {other:?}"),
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_request_is_whole_with_its_empty_line_and_no_earlier() {
    let text = "POST /a?b HTTP/1.1\r\nHost: x\r\nX-Odd:   spaces \r\nContent-Length: 5\r\n\r\n";
    for length in 0..text.len() {
        assert_eq!(request(&text.as_bytes()[..length]), Parsed::Partial, "{length}");
    }
    let head = asked(&format!("{text}hello"));
    assert_eq!((head.length, &head.body), (text.len(), &Body::Length(5)));
    assert_eq!(head.lines[1], b"X-Odd: spaces");
    assert!(!head.closes && !head.is_head && !head.upgrades && !head.is_connect);
}

#[test]
fn what_is_no_http_1_is_seen_by_its_first_bytes() {
    for other in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "hello\n",
        "*1\r\n$4\r\nPING\r\n",
        "\0\0\0\x08",
    ] {
        assert_eq!(request(other.as_bytes()), Parsed::Other, "{other:?}");
    }
    assert_eq!(request(&[b'A'; MAX_HEAD]), Parsed::Other);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(request(long.as_bytes()), Parsed::Other);
}

#[test]
fn what_could_be_read_in_two_ways_is_not_ours() {
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
    ] {
        assert_eq!(
            request(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()),
            Parsed::Other,
            "{headers}"
        );
    }
    assert_eq!(request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Parsed::Other);
    assert_eq!(asked("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n").body, Body::Length(5));
}

#[test]
fn a_connection_closes_as_its_version_and_headers_say() {
    assert!(!asked(GET).closes);
    assert!(asked("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").closes);
    assert!(asked("GET / HTTP/1.0\r\n\r\n").closes);
    assert!(!asked("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").closes);
}

#[test]
fn the_body_of_an_answer_depends_on_what_was_asked() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\n\r\n";
    let none = || ResponseKind::Final(Body::Length(0));
    let until_close = || ResponseKind::Final(Body::UntilClose);
    assert_eq!(answered(length, GET), (ResponseKind::Final(Body::Length(9)), false));
    assert_eq!(answered(length, "HEAD / HTTP/1.1\r\n\r\n"), (none(), false));
    assert_eq!(answered(plain, GET), (until_close(), false));
    assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\n", GET), (until_close(), true));
    for code in [204, 304] {
        assert_eq!(
            answered(&format!("HTTP/1.1 {code} X\r\nContent-Length: 9\r\n\r\n"), GET),
            (none(), false)
        );
    }
    assert_eq!(answered("HTTP/1.1 100 Continue\r\n\r\n", GET).0, ResponseKind::Interim);
    assert_eq!(answered("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", GET).0, ResponseKind::Interim);
    assert_eq!(answered("HTTP/1.1 101 Switching Protocols\r\n\r\n", GET).0, ResponseKind::Switched);
    assert_eq!(answered(plain, "CONNECT a:1 HTTP/1.1\r\n\r\n").0, ResponseKind::Switched);
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(answered(both, GET).0, ResponseKind::Final(Body::Chunked(Chunks::new())));
    assert_eq!(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", GET).0, until_close());
    assert_eq!(response(b"no answer\r\n", &asked(GET)), Parsed::Other);
}

#[test]
fn chunks_end_with_their_trailer_wherever_they_are_cut() {
    let bodies = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00A ; name=\"v\"\r\n0123456789\r\n1\r\nx\r\n000;last\r\nSum: 1\r\nMore:\r\n\r\n",
        "5\nhello\n0\n\n",
        "6\r\n\r\n0\r\n\r\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let whole = format!("{body}GET /next");
        for size in 1..=whole.len() {
            let mut chunked = Body::Chunked(Chunks::new());
            let mut taken = 0;
            for part in whole.as_bytes().chunks(size) {
                let length = chunked.take(part).unwrap();
                taken += length;
                assert_eq!(
                    length < part.len() || taken == body.len(),
                    chunked.is_over(),
                    "{body:?} by {size}"
                );
                if chunked.is_over() {
                    break;
                }
            }
            assert_eq!(taken, body.len(), "{body:?} by {size}");
        }
    }
}

#[test]
fn broken_chunks_are_seen() {
    for body in ["x\r\n", "\r\n", "-1\r\n", "5\r\nhello!", "10000000000000000\r\n", "1\r\nx\r\r\n"] {
        assert_eq!(Body::Chunked(Chunks::new()).take(body.as_bytes()), Err(Broken), "{body:?}");
    }
    let endless = format!("1;{}", "x".repeat(MAX_CHUNK_LINE));
    assert_eq!(Body::Chunked(Chunks::new()).take(endless.as_bytes()), Err(Broken));
}
