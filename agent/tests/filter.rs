//! Requests stolen by a header: between network namespaces of the test's own, with a server in the pod that sends each
//! request back as it came, so that not a byte can be altered unseen.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::pod::{POD, Pod, agent_of};
use common::{Caller, Client, Folder, answer_lines, incoming, isolated, key};
use protocol::agent::request::Op;
use protocol::agent::to_agent;
use protocol::agent::to_client::Body;
use protocol::agent::{Capture, Incoming, Reset, Response, Subscribe, Unsubscribe};

const MINE: &str = "GET /mine HTTP/1.1\r\nHost: pod\r\nX-Debug:  Me \r\n\r\n";
const OTHER: &str = "GET /other HTTP/1.1\r\nHost: pod\r\nX-Debug: somebody\r\n\r\n";

/// Answers each request with all of it; what is no HTTP, line by line.
fn reflect(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let first = match reader.fill_buf() {
            Ok([first, ..]) => *first,
            Ok([]) | Err(_) => return,
        };
        if !first.is_ascii_uppercase() {
            for line in reader.split(b'\n') {
                let line = [b"pod: ", line.unwrap().as_slice(), b"\n"].concat();
                writer.write_all(&line).unwrap();
            }
            return;
        }
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        if head.starts_with("PRI ") {
            writer.write_all(b"pod: HTTP/2\n").unwrap();
            return;
        }
        let mut said = head.clone().into_bytes();
        if let Some((_, length)) = head.split_once("Content-Length: ") {
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            said.extend(body);
        }
        if head.contains("chunked") {
            while !said.ends_with(b"0\r\n\r\n") {
                reader.read_until(b'\n', &mut said).unwrap();
            }
        }
        if head.contains("Upgrade: ") {
            writer.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
            return answer_lines(writer);
        }
        let close = head.starts_with("GET /close ");
        let framing = if close { String::new() } else { format!("Content-Length: {}\r\n", said.len()) };
        let body = if head.starts_with("HEAD ") { Vec::new() } else { said };
        let answer = [format!("HTTP/1.1 200 pod\r\n{framing}\r\n").as_bytes(), &body].concat();
        if writer.write_all(&answer).is_err() || close || head.starts_with("GET /brief ") {
            return;
        }
    }
}

async fn subscribe(client: &mut Client, capture: Capture, filter: &str) -> Response {
    let subscribe = Subscribe { port: 80, capture: capture as i32, header_filter: filter.into() };
    client.call(Op::Subscribe(subscribe)).await
}

async fn subscribed(client: &mut Client, capture: Capture, filter: &str) {
    let response = subscribe(client, capture, filter).await;
    assert_eq!(response.errno, 0, "{response:?}");
}

trait Http {
    /// One answer: its first line and its body.
    async fn answer(&mut self) -> (String, String);
    async fn pod_answers(&mut self, request: &str);
}

impl Http for Caller {
    async fn answer(&mut self) -> (String, String) {
        self.with(|stream| {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    return (head, "(the end)".to_owned());
                }
            }
            let length = head
                .split_once("Content-Length: ")
                .map(|(_, rest)| rest.lines().next().unwrap().parse().unwrap());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            (head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap())
        })
        .await
    }

    /// Byte for byte what was said.
    async fn pod_answers(&mut self, request: &str) {
        assert_eq!(self.answer().await, ("HTTP/1.1 200 pod".to_owned(), request.to_owned()));
    }
}

/// The session's stream of a request, which came whole.
async fn stolen(client: &mut Client, request: &str) -> Incoming {
    let stolen = incoming(client).await;
    assert_eq!((stolen.port, stolen.pod_addr.as_str(), stolen.mirrored), (80, POD, false));
    assert_eq!(client.read(stolen.stream, request.len()).await, request.as_bytes());
    stolen
}

async fn session_answers(client: &mut Client, caller: &mut Caller, request: &str) {
    let stolen = stolen(client, request).await;
    client.data(stolen.stream, "HTTP/1.1 200 mine\r\nContent-Le").await;
    client.data(stolen.stream, "ngth: 5\r\n\r\nhello").await;
    assert_eq!(caller.answer().await, ("HTTP/1.1 200 mine".to_owned(), "hello".to_owned()));
    client.ended(stolen.stream).await;
}

#[test]
fn requests_of_one_connection_go_where_their_header_says() {
    isolated("requests_of_one_connection_go_where_their_header_says", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("filter"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, "^x-debug: me$").await;
        let mut caller = Caller::call(POD);
        caller.say(OTHER);
        caller.pod_answers(OTHER).await;
        caller.say(MINE);
        session_answers(&mut client, &mut caller, MINE).await;
        // Cut in the middle of the name that decides.
        for (request, is_mine) in [(MINE, true), (OTHER, false)] {
            caller.say(&request[..40]);
            tokio::time::sleep(Duration::from_millis(100)).await;
            caller.say(&request[40..]);
            match is_mine {
                true => session_answers(&mut client, &mut caller, request).await,
                false => caller.pod_answers(request).await,
            }
        }
        // Bodies of both kinds.
        for (header, is_mine) in [("X-Debug: me", true), ("X-Debug: you", false)] {
            let length = format!(
                "POST / HTTP/1.1\r\n{header}\r\nContent-Length: 200000\r\n\r\n{}",
                "y".repeat(200_000)
            );
            let chunked = format!(
                "POST / HTTP/1.1\r\n{header}\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"
            );
            for request in [length, chunked] {
                caller.say(&request);
                match is_mine {
                    true => session_answers(&mut client, &mut caller, &request).await,
                    false => caller.pod_answers(&request).await,
                }
            }
        }
        // All at once: answers keep the order, however long the session takes.
        caller.say(&[OTHER, MINE, OTHER, MINE].concat());
        caller.pod_answers(OTHER).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        session_answers(&mut client, &mut caller, MINE).await;
        caller.pod_answers(OTHER).await;
        session_answers(&mut client, &mut caller, MINE).await;
        assert_eq!(pod.served(), 1, "the pod has one connection all through");
        // The session goes; the connection does not.
        let response = client.call(Op::Unsubscribe(Unsubscribe { port: 80 })).await;
        assert_eq!(response.errno, 0);
        caller.say(MINE);
        caller.pod_answers(MINE).await;
        assert_eq!(pod.served(), 1);
    });
}

#[test]
fn answers_of_every_kind_end_where_they_should() {
    isolated("answers_of_every_kind_end_where_they_should", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("answers"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, "x-debug: me").await;
        let mut caller = Caller::call(POD);
        // HEAD: a length, and no body.
        let head = MINE.replace("GET", "HEAD");
        caller.say(&head);
        let one = stolen(&mut client, &head).await;
        client.data(one.stream, "HTTP/1.1 200 OK\r\nX-Length: 1\r\nContent-Length: 99\r\n\r\n").await;
        for expected in ["HTTP/1.1 200 OK", "X-Length: 1", "Content-Length: 99", ""] {
            assert_eq!(caller.line().await, expected);
        }
        caller.say(OTHER);
        caller.pod_answers(OTHER).await;
        // The body is only sent once it is asked for.
        let expecting = "POST / HTTP/1.1\r\nX-Debug: me\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        caller.say(expecting);
        let one = stolen(&mut client, expecting).await;
        client.data(one.stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(
            (caller.line().await.as_str(), caller.line().await.as_str()),
            ("HTTP/1.1 100 Continue", "")
        );
        caller.say("body");
        assert_eq!(client.read(one.stream, 4).await, b"body");
        client.data(one.stream, "HTTP/1.1 204 Done\r\n\r\n").await;
        assert_eq!((caller.line().await.as_str(), caller.line().await.as_str()), ("HTTP/1.1 204 Done", ""));
        // Chunks with a trailer, then another one's turn.
        caller.say(MINE);
        let one = stolen(&mut client, MINE).await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\n";
        for part in answer.as_bytes().chunks(3) {
            client.data(one.stream, part.to_vec()).await;
        }
        let heard = caller
            .with(move |stream| {
                let mut heard = vec![0; answer.len()];
                stream.read_exact(&mut heard).unwrap();
                String::from_utf8(heard).unwrap()
            })
            .await;
        assert_eq!(heard, answer);
        caller.say(OTHER);
        caller.pod_answers(OTHER).await;
        // Until the connection closes, by the session and by the pod.
        caller.say(MINE);
        let one = stolen(&mut client, MINE).await;
        client.data(one.stream, "HTTP/1.0 200 OK\r\n\r\nall there is\n").await;
        client.end(one.stream).await;
        for expected in ["HTTP/1.0 200 OK", "", "all there is", ""] {
            assert_eq!(caller.line().await, expected);
        }
        let mut caller = Caller::call(POD);
        let close = OTHER.replace("/other", "/close");
        caller.say(&close);
        for expected in ["HTTP/1.1 200 pod", ""].into_iter().chain(close.lines()).chain([""]) {
            assert_eq!(caller.line().await, expected);
        }
    });
}

#[test]
fn each_side_learns_of_the_others_end() {
    isolated("each_side_learns_of_the_others_end", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("ends"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, "x-debug: me").await;
        // A client that has said all still gets its answer, and the session knows before.
        let mut caller = Caller::call(POD);
        caller.say(MINE);
        let one = stolen(&mut client, MINE).await;
        caller.end();
        client.ended(one.stream).await;
        client.data(one.stream, "HTTP/1.1 204 mine\r\n\r\n").await;
        for expected in ["HTTP/1.1 204 mine", "", ""] {
            assert_eq!(caller.line().await, expected);
        }
        let mut caller = Caller::call(POD);
        caller.say(OTHER);
        caller.end();
        caller.pod_answers(OTHER).await;
        assert_eq!(caller.line().await, "");
        // A pod that closes an idle connection closes it for its client...
        let brief = OTHER.replace("/other", "/brief");
        let mut caller = Caller::call(POD);
        caller.say(&brief);
        caller.pod_answers(&brief).await;
        assert_eq!(caller.line().await, "");
        // ...unless a session has spoken since: then the pod gets a new one.
        let (mut caller, served) = (Caller::call(POD), pod.served());
        caller.say(&[&brief, MINE].concat());
        caller.pod_answers(&brief).await;
        session_answers(&mut client, &mut caller, MINE).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        caller.say(OTHER);
        caller.pod_answers(OTHER).await;
        assert_eq!(pod.served(), served + 2);
        // Also where that request has been waiting already.
        let mut caller = Caller::call(POD);
        caller.say(&[&brief, MINE, OTHER].concat());
        caller.pod_answers(&brief).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        session_answers(&mut client, &mut caller, MINE).await;
        caller.pod_answers(OTHER).await;
        // A session's client that breaks off is gone for the session too.
        let mut caller = Caller::call(POD);
        caller.say(MINE);
        let one = stolen(&mut client, MINE).await;
        drop(caller);
        client.ended(one.stream).await;
        client.data(one.stream, "HTTP/1.1 200 mine\r\nContent-Length: 9999\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.data(one.stream, "nobody").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.data(one.stream, "reads this").await;
        assert_eq!(client.was_reset(one.stream).await, libc::ECONNRESET);
    });
}

#[test]
fn another_protocol_stays_with_whoever_agreed_to_it() {
    isolated("another_protocol_stays_with_whoever_agreed_to_it", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("upgrade"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, "x-debug: me").await;
        let upgrade = "Upgrade: lines\r\nConnection: upgrade\r\n\r\n";
        let mut caller = Caller::call(POD);
        let request = MINE.replace("\r\n\r\n", &format!("\r\n{upgrade}"));
        caller.say(&request);
        let one = stolen(&mut client, &request).await;
        client.data(one.stream, "HTTP/1.1 101 Switching Protocols\r\n\r\nat once\n").await;
        for expected in ["HTTP/1.1 101 Switching Protocols", "", "at once"] {
            assert_eq!(caller.line().await, expected);
        }
        // A request no longer is one.
        caller.say(OTHER);
        assert_eq!(client.read(one.stream, OTHER.len()).await, OTHER.as_bytes());
        caller.end();
        client.ended(one.stream).await;
        client.data(one.stream, "bye\n").await;
        client.end(one.stream).await;
        assert_eq!((caller.line().await.as_str(), caller.line().await.as_str()), ("bye", ""));
        let mut caller = Caller::call(POD);
        caller.say(&OTHER.replace("\r\n\r\n", &format!("\r\n{upgrade}")));
        assert_eq!(caller.line().await, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(caller.line().await, "");
        assert_eq!(caller.ask("X-Debug: me").await, "pod: X-Debug: me");
        assert!(!client.waiting.iter().any(|body| matches!(body, Body::Incoming(_))));
    });
}

#[test]
fn what_a_session_does_not_answer_is_the_pods_or_is_said() {
    isolated("what_a_session_does_not_answer_is_the_pods_or_is_said", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("refused"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, "x-debug: me").await;
        // Nobody listens there: whole to the pod, and what came after it too.
        let mut caller = Caller::call(POD);
        let post = "POST / HTTP/1.1\r\nX-Debug: me\r\nContent-Length: 4\r\n\r\nbody";
        caller.say(&[post, OTHER].concat());
        let one = stolen(&mut client, post).await;
        client.send(to_agent::Body::Reset(Reset { stream: one.stream, errno: libc::ECONNREFUSED })).await;
        caller.pod_answers(post).await;
        caller.pod_answers(OTHER).await;
        // It had the request, and may have acted on it: never said twice.
        for ends in [true, false] {
            let mut caller = Caller::call(POD);
            caller.say(MINE);
            let one = stolen(&mut client, MINE).await;
            match ends {
                true => client.end(one.stream).await,
                false => client.reset(one.stream).await,
            }
            let (status, body) = caller.answer().await;
            assert_eq!(status, "HTTP/1.1 502 Bad Gateway");
            assert!(body.contains("tester@laptop"), "{body}");
            assert_eq!(caller.line().await, "");
        }
        // The same when the session is gone; then the pod answers.
        let mut caller = Caller::call(POD);
        caller.say(MINE);
        stolen(&mut client, MINE).await;
        drop(client);
        let (status, body) = caller.answer().await;
        assert!(status == "HTTP/1.1 502 Bad Gateway" && body.contains("is gone"), "{status} {body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut caller = Caller::call(POD);
        caller.say(MINE);
        caller.pod_answers(MINE).await;
    });
}

#[test]
fn what_is_no_http_1_reaches_the_pod_as_it_is() {
    isolated("what_is_no_http_1_reaches_the_pod_as_it_is", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("raw"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut client, _) = Client::connect(&agent.address, &key(1), "s").await;
        subscribed(&mut client, Capture::Steal, ".").await;
        let mut caller = Caller::call(POD);
        caller.say("\x16\x03\x01 hello\n");
        assert_eq!(caller.line().await, "pod: \x16\x03\x01 hello");
        caller.say(MINE);
        assert_eq!(caller.line().await, "pod: GET /mine HTTP/1.1");
        let mut caller = Caller::call(POD);
        caller.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(caller.line().await, "pod: HTTP/2");
        // A length beside chunks: the pod's to judge.
        let mut caller = Caller::call(POD);
        let odd = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        caller.say(odd);
        caller.pod_answers(odd).await;
        // A program that speaks first is heard, and its client after it.
        let listener = pod.inside(|| TcpListener::bind("10.9.0.2:25").unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 speak\n").unwrap();
            answer_lines(stream);
        });
        let subscribe =
            Subscribe { port: 25, capture: Capture::Steal as i32, header_filter: "x-debug: me".into() };
        assert_eq!(client.call(Op::Subscribe(subscribe)).await.errno, 0);
        let mut caller = Caller::call("10.9.0.2:25");
        assert_eq!(caller.line().await, "220 speak");
        assert_eq!(caller.ask("GET / HTTP/1.1").await, "pod: GET / HTTP/1.1");
        assert_eq!(caller.ask("X-Debug: me").await, "pod: X-Debug: me");
        assert!(!client.waiting.iter().any(|body| matches!(body, Body::Incoming(_))));
        // A client that only took its time is routed all the same.
        let mut caller = Caller::call(POD);
        tokio::time::sleep(Duration::from_millis(200)).await;
        caller.say(MINE);
        session_answers(&mut client, &mut caller, MINE).await;
        // Also where the pod's program is down, which only others notice.
        let subscribe =
            Subscribe { port: 26, capture: Capture::Steal as i32, header_filter: "x-debug: me".into() };
        assert_eq!(client.call(Op::Subscribe(subscribe)).await.errno, 0);
        let mut caller = Caller::call("10.9.0.2:26");
        tokio::time::sleep(Duration::from_millis(200)).await;
        caller.say(MINE);
        let one = incoming(&mut client).await;
        client.data(one.stream, "HTTP/1.1 204 mine\r\n\r\n").await;
        assert_eq!((caller.line().await.as_str(), caller.line().await.as_str()), ("HTTP/1.1 204 mine", ""));
        caller.say(OTHER);
        assert_eq!(caller.line().await, "connection reset");
    });
}

#[test]
fn sessions_share_a_port_by_their_filters() {
    isolated("sessions_share_a_port_by_their_filters", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("shared"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut one, _) = Client::connect(&agent.address, &key(1), "one").await;
        let (mut two, _) = Client::connect(&agent.address, &key(2), "two").await;
        subscribed(&mut one, Capture::Steal, "^x-debug: me$").await;
        for filter in ["", "^x-debug: me$"] {
            let refused = subscribe(&mut two, Capture::Steal, filter).await;
            assert_eq!(refused.errno, libc::EBUSY, "{refused:?}");
            assert!(refused.message.contains("tester@laptop (session one)"), "{refused:?}");
        }
        assert_eq!(subscribe(&mut two, Capture::Steal, "(").await.errno, libc::EINVAL);
        subscribed(&mut two, Capture::Steal, "^x-debug: two$").await;
        let mut caller = Caller::call(POD);
        let second = MINE.replace(" Me ", "two");
        caller.say(&[MINE, &second, OTHER].concat());
        session_answers(&mut one, &mut caller, MINE).await;
        session_answers(&mut two, &mut caller, &second).await;
        caller.pod_answers(OTHER).await;
        // One that goes leaves the other's.
        drop(one);
        tokio::time::sleep(Duration::from_millis(200)).await;
        caller.say(&[MINE, &second].concat());
        caller.pod_answers(MINE).await;
        session_answers(&mut two, &mut caller, &second).await;
        // And one that takes all leaves no room for a filter.
        subscribed(&mut two, Capture::Steal, "").await;
        let (mut one, _) = Client::connect(&agent.address, &key(1), "one").await;
        assert_eq!(subscribe(&mut one, Capture::Steal, "x-debug: me").await.errno, libc::EBUSY);
    });
}

#[test]
fn a_mirror_with_a_filter_sees_what_it_asked_for_only() {
    isolated("a_mirror_with_a_filter_sees_what_it_asked_for_only", async {
        let (pod, folder) = (Pod::serving(reflect), Folder::new("sifted"));
        let agent = agent_of(&pod, &folder, &[]);
        let (mut mirror, _) = Client::connect(&agent.address, &key(1), "one").await;
        let (mut thief, _) = Client::connect(&agent.address, &key(2), "two").await;
        subscribed(&mut mirror, Capture::Mirror, "x-debug: me").await;
        let mut caller = Caller::call(POD);
        for request in [OTHER, MINE, OTHER] {
            caller.say(request);
            caller.pod_answers(request).await;
        }
        let copy = incoming(&mut mirror).await;
        assert!(copy.mirrored);
        assert_eq!(mirror.read(copy.stream, MINE.len()).await, MINE.as_bytes());
        caller.end();
        mirror.ended(copy.stream).await;
        // Beside somebody who steals the same.
        subscribed(&mut thief, Capture::Steal, "x-debug: me").await;
        let mut caller = Caller::call(POD);
        caller.say(&[OTHER, MINE].concat());
        caller.pod_answers(OTHER).await;
        session_answers(&mut thief, &mut caller, MINE).await;
        let copy = incoming(&mut mirror).await;
        assert_eq!(mirror.read(copy.stream, MINE.len()).await, MINE.as_bytes());
        caller.end();
        mirror.ended(copy.stream).await;
    });
}
