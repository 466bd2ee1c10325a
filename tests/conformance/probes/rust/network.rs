//! Cases 33-58: sockets and names, as std has them.

use super::{Seen, arg, named, text};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

fn place(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(_) => line,
        Err(error) => format!("[{}]", named(&error)),
    }
}

fn talk(s: &mut Seen, stream: TcpStream, what: &str) {
    stream.set_read_timeout(PATIENCE).unwrap();
    let mut reader = BufReader::new(&stream);
    let said = line(&mut reader);
    let words: Vec<&str> = said.split_whitespace().collect();
    s.saw(&format!("{what}: greeting"), words[..words.len().min(2)].join(" "));
    let (own, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let same = words.last().is_some_and(|port| *port == own.port().to_string());
    s.saw(&format!("{what}: own"), format!("{} {same} {}", own.ip(), peer.ip()));
    s.does(&format!("{what}: write"), (&stream).write_all(b"over and back\n"));
    s.saw(&format!("{what}: echo"), line(&mut reader));
    s.does(&format!("{what}: shutdown"), stream.shutdown(Shutdown::Write));
    s.saw(&format!("{what}: end"), line(&mut reader) + &line(&mut reader));
}

fn dialed(s: &mut Seen, address: String, what: &str) {
    match TcpStream::connect(address) {
        Ok(stream) => talk(s, stream, what),
        Err(error) => s.saw(what, named(&error)),
    }
}

/// Answers the next caller of a listener and says who it was.
fn met(s: &mut Seen, listener: &TcpListener, what: &str) {
    let end = Instant::now() + Duration::from_secs(8);
    listener.set_nonblocking(true).unwrap();
    let came = loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            came => break came,
        }
    };
    match came {
        Err(error) => s.saw(what, named(&error)),
        Ok((mut stream, from)) => {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(PATIENCE).unwrap();
            let said = line(&mut BufReader::new(&stream));
            let same = said.trim_end().ends_with(&format!(" {}", from.port()));
            let (peer, own) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
            s.saw(what, format!("{} {same} {} {} {}", from.ip(), peer == from, own.ip(), own.port().to_string() == arg("serve")));
            s.does("said", stream.write_all(b"bye\n"));
        }
    }
}

fn looked_up(name: &str) -> String {
    match (name, 80).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<String> = found.map(|address| address.ip().to_string()).collect();
            all.sort();
            all.join(" ")
        }
        // Std tells the resolver's own words.
        Err(error) => format!("[{error}]"),
    }
}

pub fn case(number: u32, s: &mut Seen) -> bool {
    let host = arg("host");
    match number {
        33 => dialed(s, place(host, arg("echo")), "tcp"),
        35 => {
            dialed(s, place(host, arg("refused")), "refused");
            dialed(s, place(arg("unreachable"), "9"), "unreachable");
            let address: SocketAddr = place(host, arg("refused")).parse().unwrap();
            s.does("with a limit", TcpStream::connect_timeout(&address, Duration::from_secs(5)));
        }
        36 => {
            let address: SocketAddr = place(host, arg("echo")).parse().unwrap();
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            s.gives("peer", stream.peer_addr().map(|peer| peer == address));
            s.gives("own", stream.local_addr().map(|own| own.ip()));
        }
        37 => {
            dialed(s, place(arg("host6"), arg("echo")), "IPv6");
            dialed(s, place(&format!("::ffff:{host}"), arg("echo")), "mapped");
        }
        38 => {
            let path = super::near(&format!("own-{}", std::process::id()));
            let listener = UnixListener::bind(&path).unwrap();
            let mut client = UnixStream::connect(&path).unwrap();
            s.does("write", listener.accept().and_then(|(mut other, _)| other.write_all(b"message\n")));
            s.saw("said", line(&mut BufReader::new(&mut client)));
            s.does("removed", std::fs::remove_file(&path));
            let (one, two) = (UnixDatagram::bind(&path).unwrap(), UnixDatagram::unbound().unwrap());
            let mut piece = [0; 20];
            s.gives("sent", two.send_to(b"datagram", &path));
            s.gives("received", one.recv(&mut piece));
            s.does("removed then", std::fs::remove_file(&path));
            match UnixStream::connect(arg("unix")) {
                Err(error) => s.saw("far", named(&error)),
                Ok(mut far) => {
                    let mut reader = BufReader::new(far.try_clone().unwrap());
                    s.saw("far", line(&mut reader));
                    s.does("far write", far.write_all(b"over\n"));
                    s.saw("far echo", line(&mut reader));
                }
            }
        }
        39 => {
            let mut piece = [0; 200];
            let connected = UdpSocket::bind("0.0.0.0:0").unwrap();
            connected.set_read_timeout(PATIENCE).unwrap();
            s.does("connect", connected.connect(place(host, arg("udp"))));
            s.gives("send", connected.send(b"one"));
            s.gives("received", connected.recv(&mut piece).map(|length| text(&piece[..length])));
            s.gives("peer", connected.peer_addr().map(|peer| peer.ip()));
            let loose = UdpSocket::bind("0.0.0.0:0").unwrap();
            loose.set_nonblocking(true).unwrap();
            s.gives("sent", loose.send_to(b"two", place(host, arg("udp"))));
            let end = Instant::now() + Duration::from_secs(3);
            let came = loop {
                match loose.recv_from(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                    came => break came,
                }
            };
            s.gives("loose", came.map(|(length, from)| format!("{} {}", text(&piece[..length]), from.to_string() == place(host, arg("udp")))));
        }
        41 => {
            for place in ["0.0.0.0:80".to_owned(), "127.0.0.1:0".to_owned(), format!("0.0.0.0:{}", arg("serve"))] {
                match TcpListener::bind(&place) {
                    Err(error) => s.saw(&place, named(&error)),
                    Ok(listener) => {
                        let own = listener.local_addr().unwrap();
                        s.saw(&place, format!("{} {}", own.ip(), place.ends_with(":0") || place == own.to_string()));
                        s.does(&format!("{place} once more"), TcpListener::bind(own));
                    }
                }
            }
        }
        42 => {
            let listener = TcpListener::bind(format!("0.0.0.0:{}", arg("serve"))).unwrap();
            met(s, &listener, "first");
            met(s, &listener, "second");
        }
        43 => {
            let listener = TcpListener::bind(format!("0.0.0.0:{}", arg("serve"))).unwrap();
            let again = listener.try_clone().unwrap();
            drop(listener);
            met(s, &again, "dup'ed");
        }
        45 => {
            let mut stream = TcpStream::connect(place(host, arg("reset"))).unwrap();
            stream.set_read_timeout(PATIENCE).unwrap();
            s.does("write", stream.write_all(b"x"));
            s.does("reset", stream.read_to_end(&mut Vec::new()));
            let stream = TcpStream::connect(place(host, arg("echo"))).unwrap();
            s.does("no delay", stream.set_nodelay(true));
            s.gives("kept", stream.nodelay());
            talk(s, stream, "then");
        }
        47 => {
            let (mut one, mut two) = UnixStream::pair().unwrap();
            s.does("write", one.write_all(b"pair"));
            let mut piece = [0; 4];
            s.does("read", two.read_exact(&mut piece));
            s.saw("text", text(&piece));
        }
        50 | 53 => {
            s.saw("any family", looked_up(arg("known")));
            s.saw("with a dot", looked_up(arg("whole")));
            s.saw("numeric", looked_up("192.0.2.7"));
        }
        54 => {
            s.saw("short", looked_up(arg("short")));
            s.saw("with one dot", looked_up(arg("one-dot")));
        }
        55 => {
            s.saw("unknown", looked_up(arg("unknown")));
            s.saw("only IPv6", looked_up(arg("known6")));
            s.saw("too many for one datagram", looked_up(arg("crowd")));
        }
        56 => s.saw("in hosts", looked_up(arg("in-hosts"))),
        _ => return false,
    }
    true
}
