//! connect(2): what is the pod's is connected there first, so that the program gets the pod's own errno.
//!
//! A non-blocking connect is held for the agent's answer, but no longer than [`HOLD`]: after that the program is told
//! EINPROGRESS as usual, and a refusal that comes later shows as a reset.

use super::addr::Address;
use super::{Remote, Socket, Sockets, addr, address_argument, datagrams, kind, table};
use crate::debugger;
use crate::sys::{self, Errno};
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use crate::traps::{Call, Verdict};
use bytes::Bytes;
use protocol::agent::connect::To;
use protocol::host::Place;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a non-blocking connect keeps its event loop.
const HOLD: Duration = Duration::from_millis(1500);
/// What a connect may take in the pod. Less than the kernel's two minutes: a thread that waits in us is deaf to Ctrl-C.
const BLOCKING: Duration = Duration::from_secs(30);

/// An address that no host has (RFC 5737).
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Where a destination lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    Local,
    Pod,
    /// A listener of this session, on another port than the program knows.
    Own(SocketAddr),
}

/// What says where a destination lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// Port 0, multicast, broadcast, or neither TCP nor UDP.
    NoConnection,
    /// A name server.
    Dns,
    /// The session itself listens there.
    OwnListener,
    /// Loopback is this machine's by the config.
    IgnoreLocalhost,
    /// The debugger's port.
    Debugger,
    OutgoingTcp,
    OutgoingUdp,
}

impl Because {
    /// The config's key, where one decides, or the reason.
    const fn text(self) -> &'static str {
        match self {
            Self::NoConnection => "neither a TCP nor a UDP connection to one host",
            Self::Dns => "feature.network.dns.enabled",
            Self::OwnListener => "a program of the session listens there",
            Self::IgnoreLocalhost => "feature.network.outgoing.ignore_localhost",
            Self::Debugger => "the debugger's port",
            Self::OutgoingTcp => "feature.network.outgoing.tcp",
            Self::OutgoingUdp => "feature.network.outgoing.udp",
        }
    }
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
        Address::UnixAbstract(_) => {
            sockets.leave_to_kernel(&call);
            Verdict::CONTINUE
        }
        Address::Other => Verdict::CONTINUE,
    }
}

fn connect_unix(sockets: &Arc<Sockets>, call: Call, raw: Vec<u8>, path: Vec<u8>) -> Verdict {
    // Resolvers that answer for this machine would hide the pod's names.
    const LOCAL_RESOLVERS: [&[u8]; 3] = [b"/nscd/socket", b"/io.systemd.Resolve", b"/nss-resolve"];
    if sockets.plan.dns && LOCAL_RESOLVERS.iter().any(|tail| path.ends_with(tail)) {
        return Verdict::fail(libc::ENOENT);
    }
    if !sockets.is_remote_unix(&path) {
        sockets.leave_to_kernel(&call);
        return Verdict::CONTINUE;
    }
    let sockets = Arc::clone(sockets);
    Verdict::later(move || {
        Answer::from_result(sockets.join_unix(&call, raw, To::UnixPath(Bytes::from(path))))
    })
}

fn connect_inet(sockets: &Arc<Sockets>, call: Call, raw: Vec<u8>, to: SocketAddr, family: i32) -> Verdict {
    let Ok(Socket { cookie, fd }) = sockets.look(&call) else { return Verdict::CONTINUE };
    let Some(fd) = fd else { return sockets.connect_again(&call, cookie, to) };
    let Ok(kind) = kind(&fd) else { return Verdict::CONTINUE };
    // A second connect asks how the first one stands.
    let standing = lock(&sockets.state).remote.get(&cookie).map(|remote| remote.relay.clone());
    if kind == libc::SOCK_STREAM
        && let Some(relay) = standing
    {
        return Verdict::Now(Answer::from_result(sys::connect(&fd, &relay).map(|()| Answer::Value(0))));
    }
    if family == libc::AF_INET6 && to.is_ipv4() && is_only_v6(&fd) {
        return Verdict::CONTINUE; // the kernel has no way there from such a socket
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
            if kind == libc::SOCK_STREAM {
                sockets.let_go(cookie);
            }
            Verdict::CONTINUE
        }
        Way::Own(local) => {
            let result = sys::connect(&fd, &addr::encode(local, family));
            if matches!(result, Ok(()) | Err(libc::EINPROGRESS)) {
                let remote = Remote { peer: raw, pod_addr: None, relay: addr::encode(local, family) };
                lock(&sockets.state).remote.insert(cookie, remote);
                sockets.let_go(cookie);
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
        self.route(to, kind).0
    }

    /// The same, with what says so.
    fn route(&self, to: SocketAddr, kind: i32) -> (Way, Because) {
        let ip = to.ip();
        if to.port() == 0 || ip.is_multicast() || is_broadcast(ip) {
            return (Way::Local, Because::NoConnection);
        }
        if to.port() == 53 && !self.plan.dns {
            return (Way::Local, Because::Dns);
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
                let way = if local == to { Way::Local } else { Way::Own(local) };
                return (way, Because::OwnListener);
            }
            if ip.is_loopback() || ip.is_unspecified() {
                if self.plan.outgoing_ignore_localhost {
                    return (Way::Local, Because::IgnoreLocalhost);
                }
                if self.plan.incoming.debugger_ports.contains(&to.port()) {
                    return (Way::Local, Because::Debugger);
                }
                if kind == libc::SOCK_STREAM && state.local_ports.contains(&to.port())
                    || kind == libc::SOCK_DGRAM && state.datagrams.is_bound(to.port())
                {
                    return (Way::Local, Because::OwnListener);
                }
            }
        }
        let (wanted, because) = match kind {
            _ if to.port() == 53 && self.plan.dns => (true, Because::Dns),
            libc::SOCK_STREAM => (self.plan.outgoing_tcp, Because::OutgoingTcp),
            libc::SOCK_DGRAM => (self.plan.outgoing_udp, Because::OutgoingUdp),
            _ => (false, Because::NoConnection),
        };
        (if wanted { Way::Pod } else { Way::Local }, because)
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
        let only_v6 = family == libc::AF_INET6 && is_only_v6(fd);
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
        self.let_go(cookie);
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
        self.let_go(cookie);
        Ok(Answer::Value(0))
    }

    /// A local connect of a Unix socket: nothing of it is needed any more.
    fn leave_to_kernel(&self, call: &Call) {
        if self.made.is_some()
            && let Ok(socket) = self.look(call)
        {
            self.let_go(socket.cookie);
        }
    }

    /// A connect of a socket that was made for the program and connected before, or that is none of the session's.
    fn connect_again(&self, call: &Call, cookie: u64, to: SocketAddr) -> Verdict {
        // Of one that is connected, or about to be, the kernel says so whatever the address.
        if self.way(to, libc::SOCK_STREAM) == Way::Local || table::connection(call.tid(), cookie).is_some() {
            return Verdict::CONTINUE;
        }
        self.journal.warn(
            "socket-not-covered",
            format!(
                "a connection to {to} was refused: pidfd_getfd is not allowed here, and the program's socket was \
                 connected before or is older than the session; a container needs --cap-add SYS_PTRACE for this"
            ),
        );
        Verdict::fail(libc::ENETUNREACH)
    }
}

impl Sockets {
    /// Where a connection (`SOCK_STREAM`) or a datagram (`SOCK_DGRAM`) to `host` goes, and what says so. A name is not
    /// looked up for it.
    pub fn explain(&self, host: &str, port: u16, kind: i32) -> (Place, String) {
        let ip = match host {
            "localhost" => Some(IpAddr::from(std::net::Ipv4Addr::LOCALHOST)),
            _ => host.parse().ok(),
        };
        let place = |is_pod| if is_pod { Place::Remote } else { Place::Local };
        if let Some(ip) = ip {
            return match self.route(SocketAddr::new(ip, port), kind) {
                (Way::Own(local), because) => (Place::Local, format!("{}, as {local}", because.text())),
                (way, because) => (place(way == Way::Pod), because.text().to_owned()),
            };
        }
        // Any address that is nobody's own: where the name leads is known to its resolver alone.
        let (way, because) = self.route(SocketAddr::new(ELSEWHERE, port), kind);
        let resolver = if self.plan.dns { "the pod's" } else { "this machine's" };
        let rule = format!(
            "{}; the name is looked up by {resolver} resolver ({})",
            because.text(),
            Because::Dns.text()
        );
        (place(way == Way::Pod), rule)
    }
}

fn is_only_v6(fd: &OwnedFd) -> bool {
    sys::socket_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).unwrap_or(0) != 0
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}
