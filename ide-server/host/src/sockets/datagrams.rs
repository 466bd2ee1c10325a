//! UDP: each pair of socket and destination has a relay on loopback, whose datagrams travel over the link.
//!
//! Resolvers check where an answer comes from, so what is received through a relay is told to come from the
//! destination. Names need nothing more than this: the pod's own resolv.conf names the pod's own servers.

use super::addr::{self, Address};
use super::{Remote, Sockets, address_argument, kind};
use crate::agent_link::Chunk;
use crate::sys::{self, Errno};
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use crate::traps::{Call, Verdict, memory};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// The largest datagram (IPv4: 65,507; IPv6 a little more).
const LARGEST: usize = 65_536;
/// How often an idle relay looks whether its program's socket is still there.
const IDLE: Duration = Duration::from_secs(30);

/// The relays of a session.
#[derive(Default)]
pub(super) struct Paths {
    relays: HashMap<(u64, SocketAddr), SocketAddr>,
    destinations: HashMap<SocketAddr, SocketAddr>,
    sockets: HashSet<u64>,
    bound: HashSet<u16>,
}

impl Paths {
    /// A program bound this port.
    pub(super) fn bound(&mut self, port: u16) {
        self.bound.insert(port);
    }

    /// Whether a program of the session has bound this port.
    pub(super) fn is_bound(&self, port: u16) -> bool {
        self.bound.contains(&port)
    }
}

/// connect(2) on a datagram socket.
pub(super) fn connect(
    sockets: &Arc<Sockets>,
    fd: &OwnedFd,
    cookie: u64,
    raw: Vec<u8>,
    to: SocketAddr,
    family: i32,
) -> Verdict {
    // getaddrinfo(3) connects just to learn which families have a way there, and from which address.
    let own = sockets.pod.towards(to);
    if own.is_none() && !to.ip().is_loopback() && !sockets.pod.addresses.is_empty() {
        return Verdict::fail(libc::ENETUNREACH);
    }
    let connected = sockets.relay_to(fd, cookie, to, family).and_then(|relay| {
        sys::connect(fd, &relay)?;
        let port = addr::inet(&sys::local_name(fd)?).map_or(0, |local| local.port());
        let pod_addr = own.map(|ip| SocketAddr::new(ip, port));
        lock(&sockets.state).remote.insert(cookie, Remote { peer: raw, pod_addr, relay });
        Ok(Answer::Value(0))
    });
    Verdict::Now(Answer::from_result(connected))
}

/// sendto(2) with an address.
pub(super) fn send_to(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    let Ok((_, Address::Inet { to, family })) = address_argument(&call, 4) else { return Verdict::CONTINUE };
    let Ok((fd, cookie)) = sockets.socket(&call) else { return Verdict::CONTINUE };
    if kind(&fd) == Ok(libc::SOCK_STREAM) {
        // TCP Fast Open: programs go on with connect(2) when it is not to be had.
        let opens = call.int(3) & libc::MSG_FASTOPEN != 0
            && sockets.way(to, libc::SOCK_STREAM) == super::outgoing::Way::Pod;
        return if opens { Verdict::fail(libc::EOPNOTSUPP) } else { Verdict::CONTINUE };
    }
    if sockets.way(to, libc::SOCK_DGRAM) != super::outgoing::Way::Pod {
        return Verdict::CONTINUE;
    }
    let sent = memory::bytes(call.tid(), call.args[1], (call.args[2] as usize).min(LARGEST))
        .and_then(|data| sockets.send_datagram(&fd, cookie, &data, call.int(3), to, family))
        .map(|n| Answer::Value(n as i64));
    Verdict::Now(Answer::from_result(sent))
}

/// recvfrom(2) that asks for the source.
pub(super) fn receive_from(sockets: &Arc<Sockets>, call: &Call) -> Result<Answer, Errno> {
    let Some(fd) = sockets.datagram_socket(call)? else { return Ok(Answer::Continue) };
    let mut data = vec![0; (call.args[2] as usize).min(LARGEST)];
    let Some((length, source)) = sockets.receive(&fd, &mut data, call.int(3))? else {
        return Ok(Answer::Continue);
    };
    let kept = length.min(data.len());
    sys::write_memory(call.tid(), call.args[1], &data[..kept])?;
    memory::put_address(call.tid(), call.args[4], call.args[5], &source)?;
    let told = if call.int(3) & libc::MSG_TRUNC != 0 { length } else { kept };
    Ok(Answer::Value(told as i64))
}

/// `struct msghdr` of a 64-bit program.
struct Message {
    at: u64,
    name: u64,
    name_length: u32,
    parts: Vec<(u64, usize)>,
}

impl Message {
    const SIZE: u64 = 56;

    /// `None` when it names no address: then it is the kernel's.
    fn read(call: &Call, at: u64) -> Result<Option<Self>, Errno> {
        let raw = memory::bytes(call.tid(), at, Self::SIZE as usize)?;
        let word = |offset: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&raw[offset..offset + 8]);
            u64::from_ne_bytes(bytes)
        };
        if word(0) == 0 {
            return Ok(None);
        }
        let vectors = memory::bytes(call.tid(), word(16), (word(24) as usize).min(1024) * 16)?;
        let (pairs, _) = vectors.as_chunks::<16>();
        let half = |pair: &[u8; 16], at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&pair[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let parts = pairs.iter().map(|pair| (half(pair, 0), half(pair, 8) as usize)).collect();
        Ok(Some(Self { at, name: word(0), name_length: word(8) as u32, parts }))
    }

    fn room(&self) -> usize {
        self.parts.iter().map(|part| part.1).sum::<usize>().min(LARGEST)
    }

    fn gather(&self, call: &Call) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        for (at, length) in &self.parts {
            let length = (*length).min(LARGEST - data.len());
            data.extend(memory::bytes(call.tid(), *at, length)?);
        }
        Ok(data)
    }

    fn scatter(&self, call: &Call, mut data: &[u8]) -> Result<(), Errno> {
        for (at, length) in &self.parts {
            let (now, rest) = data.split_at((*length).min(data.len()));
            sys::write_memory(call.tid(), *at, now)?;
            data = rest;
        }
        Ok(())
    }
}

/// sendmsg(2).
pub(super) fn send_message(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    match sockets.send_one(&call, call.args[1], call.int(2)) {
        Ok(Some(sent)) => Verdict::Now(Answer::Value(sent as i64)),
        Ok(None) | Err(libc::EFAULT) => Verdict::CONTINUE,
        Err(error) => Verdict::Now(Answer::from_result(Err(error))),
    }
}

/// sendmmsg(2): every message, or as many as went before the first failure.
pub(super) fn send_messages(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    const STRIDE: u64 = 64;
    let count = u64::from(call.args[2] as u32).min(1024);
    for index in 0..count {
        let at = call.args[1] + index * STRIDE;
        let sent = sockets.send_one(&call, at, call.int(3)).and_then(|sent| {
            if let Some(sent) = sent {
                let told = (sent as u32).to_ne_bytes();
                sys::write_memory(call.tid(), at + Message::SIZE, &told)?;
            }
            Ok(sent)
        });
        match sent {
            Ok(Some(_)) => {}
            // The kernel's from the first that is its own; what went before is told, and the program sends the rest.
            _ if index > 0 => return Verdict::Now(Answer::Value(index as i64)),
            Ok(None) | Err(libc::EFAULT) => return Verdict::CONTINUE,
            Err(error) => return Verdict::Now(Answer::from_result(Err(error))),
        }
    }
    Verdict::Now(Answer::Value(count as i64))
}

/// recvmsg(2).
pub(super) fn receive_message(sockets: &Arc<Sockets>, call: &Call) -> Result<Answer, Errno> {
    let received = sockets.receive_one(call, call.args[1], call.int(2))?;
    Ok(received.map_or(Answer::Continue, |length| Answer::Value(length as i64)))
}

/// recvmmsg(2): one message a call, which the call allows.
pub(super) fn receive_messages(sockets: &Arc<Sockets>, call: &Call) -> Result<Answer, Errno> {
    match sockets.receive_one(call, call.args[1], call.int(3))? {
        Some(length) => {
            let told = (length as u32).to_ne_bytes();
            sys::write_memory(call.tid(), call.args[1] + Message::SIZE, &told)?;
            Ok(Answer::Value(1))
        }
        None => Ok(Answer::Continue),
    }
}

impl Sockets {
    fn send_one(self: &Arc<Self>, call: &Call, at: u64, flags: i32) -> Result<Option<usize>, Errno> {
        let Some(message) = Message::read(call, at)? else { return Ok(None) };
        let raw = memory::address(call.tid(), message.name, u64::from(message.name_length))?;
        let Address::Inet { to, family } = addr::parse(&raw) else { return Ok(None) };
        let (fd, cookie) = self.socket(call)?;
        if kind(&fd)? != libc::SOCK_DGRAM || self.way(to, libc::SOCK_DGRAM) != super::outgoing::Way::Pod {
            return Ok(None);
        }
        let data = message.gather(call)?;
        self.send_datagram(&fd, cookie, &data, flags, to, family).map(Some)
    }

    fn receive_one(&self, call: &Call, at: u64, flags: i32) -> Result<Option<usize>, Errno> {
        let Some(fd) = self.datagram_socket(call)? else { return Ok(None) };
        let Some(message) = Message::read(call, at)? else { return Ok(None) };
        let mut data = vec![0; message.room()];
        let Some((length, source)) = self.receive(&fd, &mut data, flags)? else { return Ok(None) };
        let kept = length.min(data.len());
        message.scatter(call, &data[..kept])?;
        let shown = source.len().min(message.name_length as usize);
        sys::write_memory(call.tid(), message.name, &source[..shown])?;
        sys::write_memory(call.tid(), message.at + 8, &(source.len() as u32).to_ne_bytes())?;
        // No control data; whether the datagram was cut.
        sys::write_memory(call.tid(), message.at + 40, &0u64.to_ne_bytes())?;
        let cut = if length > kept { libc::MSG_TRUNC } else { 0 };
        sys::write_memory(call.tid(), message.at + 48, &cut.to_ne_bytes())?;
        Ok(Some(if flags & libc::MSG_TRUNC != 0 { length } else { kept }))
    }

    /// The caller's socket, if it has sent through a relay.
    fn datagram_socket(&self, call: &Call) -> Result<Option<Arc<OwnedFd>>, Errno> {
        if lock(&self.state).datagrams.sockets.is_empty() {
            return Ok(None);
        }
        let (fd, cookie) = self.socket(call)?;
        Ok(lock(&self.state).datagrams.sockets.contains(&cookie).then_some(fd))
    }

    /// Receives one datagram and tells its true source. `None` leaves a blocking wait to the kernel.
    fn receive(&self, fd: &OwnedFd, data: &mut [u8], flags: i32) -> Result<Option<(usize, Vec<u8>)>, Errno> {
        let waits = !sys::is_nonblocking(fd) && flags & libc::MSG_DONTWAIT == 0;
        let flags = flags & (libc::MSG_PEEK | libc::MSG_OOB) | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        match sys::receive_from(fd, data, flags) {
            Ok((length, source)) => Ok(Some((length, self.told_source(source)))),
            Err(libc::EAGAIN) if waits => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn told_source(&self, raw: Vec<u8>) -> Vec<u8> {
        let Address::Inet { to: source, family } = addr::parse(&raw) else { return raw };
        match lock(&self.state).datagrams.destinations.get(&source) {
            Some(destination) => addr::encode(*destination, family),
            None => raw,
        }
    }

    fn send_datagram(
        self: &Arc<Self>,
        fd: &OwnedFd,
        cookie: u64,
        data: &[u8],
        flags: i32,
        to: SocketAddr,
        family: i32,
    ) -> Result<usize, Errno> {
        let relay = self.relay_to(fd, cookie, to, family)?;
        sys::send_to(fd, data, flags, &relay)
    }

    /// The relay of this socket for this destination, as a raw address of the socket's family.
    fn relay_to(
        self: &Arc<Self>,
        fd: &OwnedFd,
        cookie: u64,
        to: SocketAddr,
        family: i32,
    ) -> Result<Vec<u8>, Errno> {
        let mut state = lock(&self.state);
        if let Some(relay) = state.datagrams.relays.get(&(cookie, to)) {
            return Ok(addr::encode(*relay, family));
        }
        let only_v6 = family == libc::AF_INET6
            && sys::socket_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).unwrap_or(0) != 0;
        let ip: IpAddr = if only_v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let failed = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let socket = std::net::UdpSocket::bind((ip, 0)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let relay = socket.local_addr().map_err(failed)?;
        state.datagrams.relays.insert((cookie, to), relay);
        state.datagrams.destinations.insert(relay, to);
        state.datagrams.sockets.insert(cookie);
        drop(state);
        let sockets = Arc::clone(self);
        self.runtime.spawn(async move {
            match UdpSocket::from_std(socket) {
                Ok(socket) => sockets.carry(socket, to).await,
                Err(error) => tracing::warn!(%error, "a datagram relay cannot be used"),
            }
            let mut state = lock(&sockets.state);
            state.datagrams.relays.remove(&(cookie, to));
            state.datagrams.destinations.remove(&relay);
            if !state.datagrams.relays.keys().any(|(other, _)| *other == cookie) {
                state.datagrams.sockets.remove(&cookie);
            }
        });
        Ok(addr::encode(relay, family))
    }

    /// Carries datagrams both ways for as long as the program's socket is there.
    async fn carry(&self, relay: UdpSocket, to: SocketAddr) {
        let mut buffer = vec![0; LARGEST];
        let Ok(Ok((first, program))) = tokio::time::timeout(IDLE, relay.recv_from(&mut buffer)).await else {
            return;
        };
        // From now on only the program's socket is heard.
        if let Err(error) = relay.connect(program).await {
            tracing::warn!(%error, "a datagram relay cannot be joined to its program");
            return;
        }
        let mut waiting = Some(first);
        loop {
            let mut stream = match self.link.datagrams(to.to_string()).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%to, %error, "no datagrams from the pod to there");
                    return;
                }
            };
            loop {
                if let Some(length) = waiting.take()
                    && stream.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err()
                {
                    break;
                }
                tokio::select! {
                    received = relay.recv(&mut buffer) => match received {
                        Ok(length) => waiting = Some(length),
                        // ICMP says that the program's socket is gone.
                        Err(_) => return,
                    },
                    chunk = stream.recv() => match chunk {
                        Chunk::Data(data) => {
                            if relay.send(&data).await.is_err() {
                                return;
                            }
                        }
                        Chunk::End => break,
                        // Closing the relay tells a connected program ECONNREFUSED, as the pod's kernel would.
                        Chunk::Reset(_) => return,
                    },
                    () = tokio::time::sleep(IDLE) => {
                        if !still_bound(program.port()) {
                            return;
                        }
                    }
                }
            }
            // The agent ended an idle stream: the next datagram opens another.
            match relay.recv(&mut buffer).await {
                Ok(length) => waiting = Some(length),
                Err(_) => return,
            }
        }
    }
}

/// Whether any UDP socket of this machine has this port, from /proc/net.
fn still_bound(port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["/proc/net/udp", "/proc/net/udp6"].iter().any(|file| {
        std::fs::read_to_string(file).is_ok_and(|text| {
            text.lines().skip(1).any(|line| {
                line.split_ascii_whitespace().nth(1).is_some_and(|local| local.ends_with(&suffix))
            })
        })
    })
}
