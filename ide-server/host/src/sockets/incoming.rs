//! Listeners: which of them stand for a port of the pod, and how its connections reach them.
//!
//! A port is taken over on listen(2), never on bind(2): debug adapters and port finders bind wildcards just to probe.

use super::addr::{self, Address};
use super::{Accepted, Listening, Sockets, address_argument, kind};
use crate::agent_link::{IncomingConnection, IncomingRx, SubscribeError, pump};
use crate::debugger;
use crate::sys;
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use crate::traps::{Call, Verdict, memory};
use nix::errno::Errno;
use protocol::agent::{Capture, Subscribe, Subscribed};
use protocol::host::{IncomingMode, PortState, SessionEvent};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a port is asked for that another session holds. One that was killed a moment ago, as debuggers do it to
/// restart their program, holds it until the agent finds out.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// bind(2): left to the kernel, but for ports that cannot be had here and addresses that only the pod has.
pub(super) fn bind(sockets: &Arc<Sockets>, call: &Call) -> Result<Answer, sys::Errno> {
    let Ok((_, Address::Inet { to: asked, family })) = address_argument(call, 1) else {
        return Ok(Answer::Continue);
    };
    let (fd, cookie) = sockets.socket(call)?;
    if asked.port() != 0 {
        sockets.let_go_of_closed();
    }
    if kind(&fd)? == libc::SOCK_DGRAM {
        lock(&sockets.state).datagrams.bound(asked.port());
        return Ok(Answer::Continue);
    }
    let plan = &sockets.plan.incoming;
    if kind(&fd)? != libc::SOCK_STREAM || asked.port() == 0 || plan.mode == IncomingMode::Off {
        return Ok(Answer::Continue);
    }
    let mut here = asked;
    if sockets.pod.addresses.contains(&asked.ip()) {
        here.set_ip(if asked.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    if let Some(port) = plan.listen_ports.get(&asked.port()) {
        here.set_port(*port);
    }
    let mut result = sys::bind(&fd, &addr::encode(here, family));
    // Without the privilege, or where the target itself has the port: any other does, since the pod's traffic is brought.
    let elsewhere =
        result == Err(libc::EACCES) || result == Err(libc::EADDRINUSE) && sockets.pod.shares_network;
    if elsewhere {
        here.set_port(0);
        result = sys::bind(&fd, &addr::encode(here, family));
    }
    match result {
        Ok(()) => {
            if here != asked {
                let local = addr::inet(&sys::local_name(&fd)?).ok_or(libc::EINVAL)?;
                sockets.journal.warn(
                    "port-moved",
                    format!("the program asked for {asked}; on this machine it listens on {local}"),
                );
                lock(&sockets.state).moved.insert(cookie, asked);
            }
            Ok(Answer::Value(0))
        }
        Err(libc::EADDRINUSE) => {
            sockets.journal.warn(
                "port-taken",
                format!(
                    "port {} is in use on this machine; end the program that holds it, or map it with \
                     feature.network.incoming.listen_ports",
                    here.port()
                ),
            );
            Err(libc::EADDRINUSE)
        }
        Err(error) => Err(error),
    }
}

/// listen(2): takes the pod's port over once the program's own listener stands.
pub(super) fn listen(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    let sockets = Arc::clone(sockets);
    Verdict::later(move || Answer::from_result(sockets.listen(&call)))
}

enum Take {
    /// The pod's port.
    Port(u16),
    /// It stays local; said when it may surprise.
    Local(Option<String>),
}

impl Sockets {
    fn listen(&self, call: &Call) -> Result<Answer, sys::Errno> {
        let (fd, cookie) = self.socket(call)?;
        if super::inet_family(&fd).is_none() || kind(&fd)? != libc::SOCK_STREAM {
            self.let_go(cookie);
            return Ok(Answer::Continue);
        }
        sys::listen(&fd, call.int(1))?;
        let local = addr::inet(&sys::local_name(&fd)?).ok_or(libc::EINVAL)?;
        let asked = {
            let mut state = lock(&self.state);
            state.local_ports.insert(local.port());
            if state.listeners.values().any(|known| known.cookie == cookie) {
                return Ok(Answer::Value(0));
            }
            state.moved.get(&cookie).copied().unwrap_or(local)
        };
        let taken =
            if self.is_debuggers(call.tid(), asked.port()) { Take::Local(None) } else { self.take(asked) };
        let pod_port = match taken {
            Take::Port(port) => port,
            Take::Local(reason) => {
                if let Some(reason) = reason {
                    self.journal.warn("port-local", reason);
                }
                return Ok(Answer::Value(0));
            }
        };
        let port =
            PortState { pod_port, local_port: local.port(), mode: self.plan.incoming.mode, connections: 0 };
        let listening = Listening { cookie, local, port: Some(port.clone()) };
        lock(&self.state).listeners.insert(asked.port(), listening);
        self.take_over(&port);
        Ok(Answer::Value(0))
    }

    /// Whether a port is a debugger's; one that it has tried is, too, for the process that it tried it for.
    fn is_debuggers(&self, tid: u32, port: u16) -> bool {
        let known = debugger::ports_of(tid).contains(&port);
        let mut state = lock(&self.state);
        if known {
            state.debugger_ports.insert(port);
        }
        known || state.debugger_ports.contains(&port)
    }

    /// Subscribes a port; a refusal is the user's to see, and the listener stays local.
    fn take_over(&self, port: &PortState) -> bool {
        let capture = if port.mode == IncomingMode::Mirror { Capture::Mirror } else { Capture::Steal };
        let subscribe = Subscribe {
            port: port.pod_port.into(),
            capture: capture.into(),
            header_filter: self.plan.incoming.filter_of(port.pod_port).to_owned(),
        };
        match self.runtime.block_on(self.subscribe_in_time(subscribe)) {
            Ok(subscribed) => {
                self.journal.note(SessionEvent::Port(port.clone()));
                if !subscribed.held_addr.is_empty() {
                    let (number, at) = (port.pod_port, &subscribed.held_addr);
                    let then = match capture {
                        Capture::Steal => "they reach the debuggee, and the process when nobody steals",
                        Capture::Mirror => "they reach the process, and the debuggee sees a copy",
                    };
                    self.journal.warn(
                        "port-held",
                        format!("port {number} cannot be redirected here; send requests to {at}, from there {then}"),
                    );
                }
                true
            }
            Err(error) => {
                let mut state = lock(&self.state);
                for listening in state.listeners.values_mut() {
                    if listening.port.as_ref().is_some_and(|known| known.pod_port == port.pod_port) {
                        listening.port = None;
                    }
                }
                drop(state);
                self.journal.warn(
                    "port-refused",
                    format!("port {} of the pod is not taken over: {error}", port.pod_port),
                );
                false
            }
        }
    }

    async fn subscribe_in_time(&self, subscribe: Subscribe) -> Result<Subscribed, SubscribeError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.link.subscribe(subscribe.clone()).await {
                Err(SubscribeError::Refused { errno: Errno::EBUSY, .. }) if Instant::now() < until => {}
                outcome => return outcome,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes a port of the pod to a local port at the user's word, whatever listens there.
    pub fn subscribe(&self, pod_port: u16, local_port: u16) -> bool {
        let mode = match self.plan.incoming.mode {
            IncomingMode::Off => IncomingMode::Steal,
            mode => mode,
        };
        let port = PortState { pod_port, local_port, mode, connections: 0 };
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), local_port);
        lock(&self.state)
            .listeners
            .insert(pod_port, Listening { cookie: 0, local, port: Some(port.clone()) });
        self.take_over(&port)
    }

    fn take(&self, asked: SocketAddr) -> Take {
        let plan = &self.plan.incoming;
        let quiet = Take::Local(None);
        if plan.mode == IncomingMode::Off
            || asked.port() == 0
            || plan.debugger_ports.contains(&asked.port())
            || asked.ip().is_loopback() && plan.ignore_localhost
        {
            return quiet;
        }
        let pod_port = plan.port_mapping.get(&asked.port()).copied().unwrap_or(asked.port());
        if plan.ignore_ports.contains(&pod_port) {
            return quiet;
        }
        if let Some(only) = &plan.only_ports {
            return if only.contains(&pod_port) { Take::Port(pod_port) } else { quiet };
        }
        let mapped = plan.port_mapping.contains_key(&asked.port());
        if mapped || plan.known_ports.contains(&pod_port) || self.pod.listening.contains(&pod_port) {
            return Take::Port(pod_port);
        }
        // Helpers of debuggers and tools listen on loopback all the time.
        Take::Local((!asked.ip().is_loopback()).then(|| {
            format!(
                "port {pod_port} stays local: nothing listens on it in the pod, and neither the pod's spec nor \
                 feature.network.incoming.ports names it"
            )
        }))
    }
}

/// accept(2) with an address: the true peer is told where a connection is ready.
pub(super) fn accept(sockets: &Arc<Sockets>, call: Call) -> Verdict {
    let Ok((fd, cookie)) = sockets.socket(&call) else { return Verdict::CONTINUE };
    let ours = lock(&sockets.state).listeners.values().any(|listening| listening.cookie == cookie);
    if !ours {
        return Verdict::CONTINUE;
    }
    if !sys::is_readable(&fd) {
        // Were this left to the kernel, it would tell the relay's address of a connection that comes right now.
        if sys::is_nonblocking(&fd) {
            return Verdict::fail(libc::EAGAIN);
        }
        // Only the kernel can wait without making the thread deaf to signals.
        return Verdict::CONTINUE;
    }
    let Some(family) = super::inet_family(&fd) else { return Verdict::CONTINUE };
    let sockets = Arc::clone(sockets);
    Verdict::later(move || {
        let flags = if call.nr == libc::SYS_accept4 { call.int(3) } else { 0 };
        Answer::from_result(sys::accept(&fd, flags & libc::SOCK_NONBLOCK).and_then(|connection| {
            let peer = sys::peer_name(&connection)?;
            let told = addr::inet(&peer)
                .and_then(|from| lock(&sockets.state).accepted.get(&from).cloned())
                .map_or(peer, |accepted| addr::encode(accepted.peer_addr, family));
            memory::put_address(call.tid(), call.args[1], call.args[2], &told)?;
            let close_on_exec = flags & libc::SOCK_CLOEXEC != 0;
            Ok(Answer::Descriptor { fd: connection, close_on_exec })
        }))
    })
}

/// Hands the pod's connections to the program's listeners, until the session ends.
pub(super) async fn hand_in(sockets: Arc<Sockets>, mut incoming: IncomingRx) {
    while let Some(connection) = incoming.recv().await {
        tokio::spawn(hand_in_one(Arc::clone(&sockets), connection));
    }
}

async fn hand_in_one(sockets: Arc<Sockets>, connection: IncomingConnection) {
    let IncomingConnection { info, mut stream, unsettled } = connection;
    let pod_port = info.port as u16;
    let listening = {
        let mut state = lock(&sockets.state);
        state.listeners.values_mut().find_map(|listening| {
            let port = listening.port.as_mut().filter(|port| port.pod_port == pod_port)?;
            port.connections += 1;
            Some(listening.clone())
        })
    };
    let Some(Listening { local, cookie, .. }) = listening else {
        stream.reset(Errno::ECONNREFUSED);
        return;
    };
    if let Some(made) = &sockets.made {
        made.let_go_of_closed(Some(cookie));
    }
    let told = Accepted {
        peer_addr: info.peer_addr.parse().unwrap_or(local),
        pod_addr: info.pod_addr.parse().unwrap_or(local),
    };
    match connect_from_known_port(&sockets, local, told).await {
        Ok((tcp, source)) => {
            drop(unsettled);
            sockets.journal.note(SessionEvent::Connection { pod_port, peer_addr: info.peer_addr.clone() });
            let _ = pump(tcp, stream).await;
            lock(&sockets.state).accepted.remove(&source);
        }
        Err(error) => {
            // Reset before any data: the agent gives the connection to the pod.
            stream.reset(Errno::ECONNREFUSED);
            drop(unsettled);
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                sockets.give_back(pod_port).await;
            } else {
                tracing::warn!(pod_port, %error, "a connection could not be handed to the program");
            }
        }
    }
}

/// Connects to the program's listener from an address that is noted before the program can see it.
async fn connect_from_known_port(
    sockets: &Sockets,
    local: SocketAddr,
    told: Accepted,
) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    let (ip, socket): (IpAddr, _) = match local.ip() {
        IpAddr::V6(v6) if v6.is_unspecified() && !told.peer_addr.is_ipv6() => {
            (Ipv4Addr::LOCALHOST.into(), tokio::net::TcpSocket::new_v4()?)
        }
        IpAddr::V6(v6) if v6.is_unspecified() => {
            (Ipv6Addr::LOCALHOST.into(), tokio::net::TcpSocket::new_v6()?)
        }
        IpAddr::V6(v6) => (v6.into(), tokio::net::TcpSocket::new_v6()?),
        IpAddr::V4(v4) if v4.is_unspecified() => {
            (Ipv4Addr::LOCALHOST.into(), tokio::net::TcpSocket::new_v4()?)
        }
        IpAddr::V4(v4) => (v4.into(), tokio::net::TcpSocket::new_v4()?),
    };
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::new(ip, 0))?;
    let source = socket.local_addr()?;
    lock(&sockets.state).accepted.insert(source, told);
    match socket.connect(SocketAddr::new(ip, local.port())).await {
        Ok(tcp) => Ok((tcp, source)),
        Err(error) => {
            lock(&sockets.state).accepted.remove(&source);
            Err(error)
        }
    }
}

impl Sockets {
    /// Gives all ports back and waits for the agent's word, but no longer than `patience`: once the front has ended,
    /// new connections are the pod's. So are those that were on their way here: each is reset, which gives it to the
    /// pod, before the link's farewell would break it off.
    pub fn give_all_back(&self, patience: Duration) {
        let ports: Vec<u16> = self.ports().iter().map(|port| port.pod_port).collect();
        let all = async {
            for port in ports {
                self.give_back(port).await;
            }
            self.link.settled().await;
        };
        if self.runtime.block_on(async { tokio::time::timeout(patience, all).await }).is_err() {
            tracing::warn!("the agent was slow to give the ports back; it does when the link closes");
        }
    }

    /// The program listens no more: new connections are the pod's again.
    async fn give_back(&self, pod_port: u16) {
        lock(&self.state)
            .listeners
            .retain(|_, listening| listening.port.as_ref().is_none_or(|port| port.pod_port != pod_port));
        if let Err(error) = self.link.unsubscribe(pod_port).await {
            tracing::warn!(pod_port, %error, "a port could not be given back");
        }
        self.journal.note(SessionEvent::PortClosed { pod_port });
    }
}
