//! connect(2): what is the pod's is connected there first, so that the program gets the pod's own errno.
//!
//! A non-blocking connect is held for the agent's answer, but no longer than [`HOLD`]: after that the program is told
//! EINPROGRESS as usual, and a refusal that comes later shows as a reset.

use super::addr::Address;
use super::{Remote, Sockets, addr, address_argument, datagrams, kind};
use crate::debugger;
use crate::sys::{self, Errno};
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use crate::traps::{Call, Verdict};
use bytes::Bytes;
use protocol::agent::connect::To;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a non-blocking connect keeps its event loop.
const HOLD: Duration = Duration::from_millis(1500);
/// What a connect may take in the pod. Less than the kernel's two minutes: a thread that waits in us is deaf to Ctrl-C.
const BLOCKING: Duration = Duration::from_secs(30);

/// Where a destination lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    Local,
    Pod,
    /// A listener of this session, on another port than the program knows.
    Own(SocketAddr),
}

pub(super) fn connect(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    let Ok((raw, address)) = address_argument(&call, 1) else { return Verdict::CONTINUE };
    match address {
        Address::Inet { to, family } => connect_inet(sockets, call, raw, to, family),
        Address::UnixPath(path) => connect_unix(sockets, call, raw, path),
        Address::UnixAbstract(name) if sockets.is_remote_unix(&name) => {
            let sockets = Arc::clone(sockets);
            Verdict::later(move || {
                Answer::from_result(sockets.join_unix(&call, raw, To::UnixAbstract(Bytes::from(name))))
            })
        }
        Address::UnixAbstract(_) | Address::Other => Verdict::CONTINUE,
    }
}

fn connect_unix(sockets: &Arc<Sockets>, call: Call, raw: Vec<u8>, path: Vec<u8>) -> Verdict {
    // Resolvers that answer for this machine would hide the pod's names.
    const LOCAL_RESOLVERS: [&[u8]; 3] = [b"/nscd/socket", b"/io.systemd.Resolve", b"/nss-resolve"];
    if sockets.plan.dns && LOCAL_RESOLVERS.iter().any(|tail| path.ends_with(tail)) {
        return Verdict::fail(libc::ENOENT);
    }
    if !sockets.is_remote_unix(&path) {
        return Verdict::CONTINUE;
    }
    let sockets = Arc::clone(sockets);
    Verdict::later(move || {
        Answer::from_result(sockets.join_unix(&call, raw, To::UnixPath(Bytes::from(path))))
    })
}

fn connect_inet(sockets: &Arc<Sockets>, call: Call, raw: Vec<u8>, to: SocketAddr, family: i32) -> Verdict {
    let Ok((fd, cookie)) = sockets.socket(&call) else { return Verdict::CONTINUE };
    let Ok(kind) = kind(&fd) else { return Verdict::CONTINUE };
    // A second connect asks how the first one stands.
    let standing = lock(&sockets.state).remote.get(&cookie).map(|remote| remote.relay.clone());
    if kind == libc::SOCK_STREAM
        && let Some(relay) = standing
    {
        return Verdict::Now(Answer::from_result(sys::connect(&fd, &relay).map(|()| Answer::Value(0))));
    }
    let way = match sockets.way(to, kind) {
        // A debugger's helper reports to the adapter that started it, which is no process of this session.
        Way::Pod if to.ip().is_loopback() && debugger::ports_of(call.tid()).contains(&to.port()) => {
            Way::Local
        }
        way => way,
    };
    match way {
        Way::Local => {
            lock(&sockets.state).remote.remove(&cookie);
            Verdict::CONTINUE
        }
        Way::Own(local) => {
            let result = sys::connect(&fd, &addr::encode(local, family));
            if matches!(result, Ok(()) | Err(libc::EINPROGRESS)) {
                let remote = Remote { peer: raw, pod_addr: None, relay: addr::encode(local, family) };
                lock(&sockets.state).remote.insert(cookie, remote);
            }
            Verdict::Now(Answer::from_result(result.map(|()| Answer::Value(0))))
        }
        Way::Pod if kind == libc::SOCK_STREAM => {
            let sockets = Arc::clone(sockets);
            Verdict::later(move || {
                Answer::from_result(sockets.join_tcp(&fd, cookie, raw, to, family).map(|()| Answer::Value(0)))
            })
        }
        Way::Pod => datagrams::connect(sockets, &fd, cookie, raw, to, family),
    }
}

impl Sockets {
    /// Where an internet destination lives: one rule for names, connects and datagrams alike.
    pub(super) fn way(&self, to: SocketAddr, kind: i32) -> Way {
        let wanted = match kind {
            libc::SOCK_STREAM => self.plan.outgoing_tcp || (to.port() == 53 && self.plan.dns),
            libc::SOCK_DGRAM => self.plan.outgoing_udp || (to.port() == 53 && self.plan.dns),
            _ => false,
        };
        let ip = to.ip();
        if to.port() == 0 || ip.is_multicast() || is_broadcast(ip) {
            return Way::Local;
        }
        if to.port() == 53 && !self.plan.dns {
            return Way::Local;
        }
        let ours = ip.is_loopback() || ip.is_unspecified() || self.pod.addresses.contains(&ip);
        if ours {
            let state = lock(&self.state);
            if kind == libc::SOCK_STREAM
                && let Some(listening) = state.listeners.get(&to.port())
            {
                let mut local = listening.local;
                if local.ip().is_unspecified() {
                    let loopback: IpAddr = match local.ip() {
                        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                        IpAddr::V6(_) if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
                        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                    };
                    local.set_ip(loopback);
                }
                return if local == to { Way::Local } else { Way::Own(local) };
            }
            if (ip.is_loopback() || ip.is_unspecified())
                && (self.plan.outgoing_ignore_localhost
                    || self.plan.incoming.debugger_ports.contains(&to.port())
                    || kind == libc::SOCK_STREAM && state.local_ports.contains(&to.port())
                    || kind == libc::SOCK_DGRAM && state.datagrams.is_bound(to.port()))
            {
                return Way::Local;
            }
        }
        if wanted { Way::Pod } else { Way::Local }
    }

    fn is_remote_unix(&self, name: &[u8]) -> bool {
        self.unix_streams.iter().any(|pattern| pattern.is_match(name))
    }

    fn join_tcp(
        self: &Arc<Self>,
        fd: &OwnedFd,
        cookie: u64,
        raw: Vec<u8>,
        to: SocketAddr,
        family: i32,
    ) -> Result<(), Errno> {
        let only_v6 = family == libc::AF_INET6
            && sys::socket_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).unwrap_or(0) != 0;
        let relay = self.relay.address(family, only_v6);
        let nonblocking = sys::is_nonblocking(fd);
        let (opened_tx, mut opened) = oneshot::channel();
        let link = self.link.clone();
        self.runtime.spawn(async move {
            // A program that was killed meanwhile no longer asks.
            let _ = opened_tx.send(link.connect_stream(To::Tcp(to.to_string()), BLOCKING).await);
        });
        let patience = if nonblocking { HOLD } else { BLOCKING + HOLD };
        let (coming_tx, coming) = oneshot::channel();
        let mut pod_addr = None;
        match self.runtime.block_on(async { tokio::time::timeout(patience, &mut opened).await }) {
            Ok(Ok(opened)) => {
                let (connected, stream) = opened.map_err(|error| error as i32)?;
                pod_addr = connected.pod_addr.parse().ok();
                // The receiver is right here.
                let _ = coming_tx.send(stream);
            }
            Ok(Err(_)) => return Err(libc::ECONNRESET),
            Err(_) if !nonblocking => return Err(libc::ETIMEDOUT),
            Err(_) => {
                self.runtime.spawn(async move {
                    if let Ok(Ok((_, stream))) = opened.await {
                        let _ = coming_tx.send(stream);
                    }
                });
            }
        }
        let result = sys::connect(fd, &relay);
        if !matches!(result, Ok(()) | Err(libc::EINPROGRESS)) {
            return result;
        }
        let source = addr::inet(&sys::local_name(fd)?).ok_or(libc::EINVAL)?;
        lock(&self.state).remote.insert(cookie, Remote { peer: raw, pod_addr, relay });
        let sockets = Arc::clone(self);
        let done = move || lock(&sockets.state).retire(cookie);
        self.relay.announce(source, coming, Box::new(done));
        result
    }

    fn join_unix(self: &Arc<Self>, call: &Call, raw: Vec<u8>, to: To) -> Result<Answer, Errno> {
        let (fd, cookie) = self.socket(call)?;
        if kind(&fd)? != libc::SOCK_STREAM {
            return Ok(Answer::Continue);
        }
        let (_, stream) =
            self.runtime.block_on(self.link.connect_stream(to, BLOCKING)).map_err(|error| error as i32)?;
        let relay = super::relay::unix_once(&self.runtime, stream)?;
        sys::connect(&fd, &relay)?;
        lock(&self.state).remote.insert(cookie, Remote { peer: raw, pod_addr: None, relay });
        Ok(Answer::Value(0))
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}
