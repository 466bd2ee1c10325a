//! One connection that came to us for a port: to the session that stole it, or on to the target's program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use protocol::agent::Incoming;
use protocol::agent::to_client::Body;
use protocol::codec::{INITIAL_CREDIT, MAX_CHUNK};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::route::{self, Place};
use super::side::Passing;
use super::tee::Tee;
use super::{Takers, Traffic};
use crate::files::errno_of;
use crate::outgoing;
use crate::socket::{Pumped, Socket, Witness, pump};

/// What a session may leave unanswered and still give back.
pub(super) const MAX_REPLAY: usize = INITIAL_CREDIT as usize;
/// A client that went away without a word is noticed after about two minutes.
const KEEPALIVE_AFTER_SECONDS: u32 = 60;
const KEEPALIVE_EVERY_SECONDS: u32 = 15;
const KEEPALIVE_PROBES: u32 = 4;

/// How the connections of a port come to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The kernel leads them here; where they were meant to go can be asked of it.
    Redirect,
    /// They are dialled to us, in front of the port on loopback.
    Held,
}

/// Takes the connections of one port for ever.
pub(super) async fn accept(
    traffic: Arc<Traffic>,
    listener: TcpListener,
    number: u16,
    door: Door,
    passing: Arc<AtomicUsize>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let live = Live::new(&traffic.live);
                let (traffic, passing) = (Arc::clone(&traffic), Arc::clone(&passing));
                tokio::spawn(async move {
                    serve(&traffic, stream, canonical(peer), number, door, &passing).await;
                    drop(live);
                });
            }
            Err(error) => {
                tracing::warn!(%error, port = number, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts a connection as long as it lives.
struct Live(watch::Sender<usize>);

impl Live {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|live| *live += 1);
        Self(count.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.send_modify(|live| *live -= 1);
    }
}

async fn serve(
    traffic: &Traffic,
    stream: TcpStream,
    peer: SocketAddr,
    number: u16,
    door: Door,
    passing: &AtomicUsize,
) {
    let original = match door {
        Door::Held => (Ipv4Addr::LOCALHOST, number).into(),
        Door::Redirect => match original(&stream, peer) {
            // Dialled directly: passing it on would lead back to us.
            Some(original) if original.port() == number => original,
            other => return tracing::debug!(?other, port = number, "closed what was not led here"),
        },
    };
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "a connection is served without its options");
    }
    let socket = Socket::Tcp(stream);
    let Takers { stealers, mirrors } = traffic.takers(number);
    if stealers.iter().any(|stealer| stealer.filter.is_some()) {
        let tee = Tee::open(&mirrors, number, peer, original);
        return route::route(Place { traffic, number, door, peer, original, passing }, socket, tee).await;
    }
    let Some(stealer) = stealers.into_iter().next() else {
        let pod = match dial_program(original, door).await {
            Ok(pod) => Socket::Tcp(pod),
            Err(errno) => return refuse(socket, number, errno),
        };
        let tee = Tee::open(&mirrors, number, peer, original);
        return pass(socket, pod, tee, Replay::default(), passing).await;
    };
    let mut copied = Copied { tee: Tee::open(&mirrors, number, peer, original), ..Copied::default() };
    let given_back = match stealer.link.streams.open() {
        Ok(opened) => {
            stealer.link.outbox.control(Body::Incoming(Incoming {
                stream: opened.id,
                port: u32::from(number),
                peer_addr: peer.to_string(),
                pod_addr: original.to_string(),
                mirrored: false,
            }));
            let answered = Arc::clone(&copied.answered);
            match pump(&socket, opened, &answered, &mut copied).await {
                Pumped::Ended => return,
                Pumped::GivenBack if !copied.replay.lost => true,
                Pumped::GivenBack | Pumped::Aborted | Pumped::Gone => {
                    copied.tee.reset(Errno::ECONNRESET);
                    false
                }
            }
        }
        Err(error) => {
            tracing::warn!(%error, link = stealer.link.id, "a connection goes to the target's program instead");
            true
        }
    };
    if !given_back {
        return socket.abort();
    }
    match dial_program(original, door).await {
        Ok(pod) => pass(socket, Socket::Tcp(pod), copied.tee, copied.replay, passing).await,
        Err(errno) => {
            copied.tee.reset(errno);
            refuse(socket, number, errno);
        }
    }
}

/// Connects to the target's program, where the connection was meant to go.
pub(super) async fn dial_program(original: SocketAddr, door: Door) -> Result<TcpStream, Errno> {
    match outgoing::dial(original).await {
        // Who dials in front of a port does not say which of the loopback addresses the program has.
        Err(Errno::ECONNREFUSED) if door == Door::Held => {
            outgoing::dial((Ipv6Addr::LOCALHOST, original.port()).into()).await
        }
        dialled => dialled,
    }
}

pub(super) fn refuse(socket: Socket, number: u16, errno: Errno) {
    tracing::debug!(%errno, port = number, "the target's program does not take the connection");
    socket.abort();
}

/// What a stolen connection's peer has said: for the copies, and to be said again should it be given back.
#[derive(Default)]
struct Copied {
    tee: Tee,
    replay: Replay,
    answered: Arc<AtomicBool>,
}

#[derive(Default)]
struct Replay {
    said: Vec<Bytes>,
    length: usize,
    ended: bool,
    /// Too much to be kept.
    lost: bool,
}

impl Witness for Copied {
    fn saw(&mut self, bytes: &Bytes) {
        self.tee.saw(bytes);
        let replay = &mut self.replay;
        replay.length += bytes.len();
        // Once the session has answered, the connection is its own.
        replay.lost |= replay.length > MAX_REPLAY || self.answered.load(Ordering::Relaxed);
        if replay.lost {
            replay.said = Vec::new();
        } else {
            replay.said.push(bytes.clone());
        }
    }

    fn ended(&mut self) {
        self.tee.ended();
        self.replay.ended = true;
    }
}

/// Carries bytes between the peer and the target's program, from what was already said on.
async fn pass(client: Socket, pod: Socket, mut tee: Tee, replay: Replay, passing: &AtomicUsize) {
    let _passing = Passing::new(passing);
    let upwards = async {
        for bytes in replay.said {
            pod.write_all(&bytes).await.map_err(|error| errno_of(&error))?;
        }
        if replay.ended {
            pod.end();
            return Ok(());
        }
        carry(&client, &pod, &mut tee).await
    };
    let nobody = &mut ();
    let outcome = tokio::try_join!(upwards, carry(&pod, &client, nobody));
    if let Err(errno) = outcome {
        tee.reset(errno);
        client.abort();
        pod.abort();
    }
}

async fn carry(from: &Socket, to: &Socket, witness: &mut (dyn Witness + Send)) -> Result<(), Errno> {
    let mut buffer = BytesMut::new();
    loop {
        let bytes = from.read(&mut buffer, MAX_CHUNK).await.map_err(|error| errno_of(&error))?;
        if bytes.is_empty() {
            witness.ended();
            to.end();
            return Ok(());
        }
        witness.saw(&bytes);
        to.write_all(&bytes).await.map_err(|error| errno_of(&error))?;
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_AFTER_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_EVERY_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    Ok(())
}

/// Where the peer meant to connect to; `None` where the kernel translated nothing.
fn original(stream: &TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    match peer.ip() {
        IpAddr::V4(_) => {
            let raw = getsockopt(stream, sockopt::OriginalDst).ok()?;
            let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some((ip, u16::from_be(raw.sin_port)).into())
        }
        IpAddr::V6(_) => {
            let raw = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some((ip, u16::from_be(raw.sin6_port)).into())
        }
    }
}

/// IPv4 addresses as such, also when they came through an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
