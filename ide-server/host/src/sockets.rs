//! Trapped calls on sockets: which connections are the pod's, and what the program is told of them.
//!
//! A socket stays the program's own. To connect it to the pod, the session host takes a duplicate and connects that to
//! a relay of its own on loopback; the relay's bytes travel over the link. Names (`getpeername` and the like) are told
//! as they would be in the pod. Sockets are known by SO_COOKIE, which is never reused, unlike descriptors and inodes.
//! Where sockets cannot be duplicated they are made for the program, see [`made`].

pub mod addr;
mod datagrams;
mod incoming;
mod made;
mod outgoing;
mod relay;
pub mod table;
#[cfg(test)]
mod tests;

use crate::agent_link::AgentLink;
use crate::control::Journal;
use crate::sys::{self, Errno};
use crate::traps::notify::Answer;
use crate::traps::process::lock;
use crate::traps::{Call, Verdict, memory};
use addr::Address;
use protocol::agent::Welcome;
use protocol::host::{NetworkPlan, PortState};
use regex::bytes::Regex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// All sockets of a session that are not just local.
pub struct Sockets {
    plan: NetworkPlan,
    unix_streams: Vec<Regex>,
    pod: PodFacts,
    link: AgentLink,
    runtime: tokio::runtime::Handle,
    journal: Arc<Journal>,
    relay: relay::Relay,
    /// Where the program's sockets cannot be copied.
    made: Option<made::Made>,
    state: Mutex<State>,
}

/// A socket of the program's.
struct Socket {
    /// What it is known by.
    cookie: u64,
    /// The socket itself. One that was made for the program cannot be had any more once it is connected.
    fd: Option<Arc<OwnedFd>>,
}

/// What is known of the pod's network.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// Its own addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// TCP ports on which it listens.
    pub listening: Vec<u16>,
    /// It shares this machine's network: its own ports are taken here, and are held in front instead of redirected.
    pub shares_network: bool,
}

impl PodFacts {
    /// The pod's own address towards `to`; `None` when it has none of that family.
    fn towards(&self, to: SocketAddr) -> Option<std::net::IpAddr> {
        self.addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4() && !own.is_loopback()).copied()
    }
}

impl PodFacts {
    /// Reads them from the agent's welcome.
    pub fn of(welcome: &Welcome) -> Self {
        Self {
            addresses: welcome.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            listening: welcome.listening.iter().filter_map(|port| u16::try_from(*port).ok()).collect(),
            shares_network: welcome.holds,
        }
    }
}

#[derive(Default)]
struct State {
    /// Connected to something of the pod, by cookie.
    remote: HashMap<u64, Remote>,
    /// TCP listeners of the session by the port that the program asked for.
    listeners: HashMap<u16, Listening>,
    /// Addresses that listeners of this session have, so that loopback connects to them stay local.
    local_ports: HashSet<u16>,
    /// Ports on which a debugger was seen to listen.
    debugger_ports: HashSet<u16>,
    /// Bound to another port than asked for, by cookie: what was asked for.
    moved: HashMap<u64, SocketAddr>,
    /// Connections handed in by us, by the address they come from on this machine.
    accepted: HashMap<SocketAddr, Accepted>,
    datagrams: datagrams::Paths,
    /// Connections that have ended, oldest first: programs still ask for their names.
    ended: VecDeque<u64>,
}

/// How many ended connections are still known by name.
const KEPT: usize = 4096;

impl State {
    /// A connection has ended; it is forgotten when enough others have.
    fn retire(&mut self, cookie: u64) {
        self.ended.push_back(cookie);
        if self.ended.len() > KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.remote.remove(&oldest);
        }
    }
}

/// A socket that is connected to something of the pod.
#[derive(Clone, Debug)]
struct Remote {
    /// Where the program thinks it is connected to, as it said it.
    peer: Vec<u8>,
    /// The agent socket's address, where known.
    pod_addr: Option<SocketAddr>,
    /// The relay it really is connected to.
    relay: Vec<u8>,
}

/// A TCP listener of the session.
#[derive(Clone, Debug)]
struct Listening {
    cookie: u64,
    /// Where it really listens.
    local: SocketAddr,
    /// The pod's port it stands for, once taken over.
    port: Option<PortState>,
}

/// A connection of the pod's that was handed in.
#[derive(Clone, Debug)]
struct Accepted {
    peer_addr: SocketAddr,
    pod_addr: SocketAddr,
}

impl Sockets {
    /// Makes the relays and starts to hand in what comes for subscribed ports. `makes` says that the program's sockets
    /// cannot be copied and are made for it.
    ///
    /// # Errors
    /// When loopback cannot be bound, or a pattern of the plan is none.
    pub fn start(
        plan: NetworkPlan,
        pod: PodFacts,
        link: AgentLink,
        incoming: crate::agent_link::IncomingRx,
        runtime: &tokio::runtime::Handle,
        journal: Arc<Journal>,
        makes: bool,
    ) -> anyhow::Result<Arc<Self>> {
        let unix_streams = plan.unix_streams.iter().map(|text| Regex::new(text)).collect::<Result<_, _>>()?;
        let sockets = Arc::new(Self {
            unix_streams,
            relay: relay::Relay::start(runtime)?,
            plan,
            pod,
            link,
            runtime: runtime.clone(),
            journal,
            made: makes.then(made::Made::new).transpose()?,
            state: Mutex::default(),
        });
        if makes {
            let sockets = Arc::clone(&sockets);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(made::PERIOD).await;
                    sockets.let_go_of_closed();
                }
            });
        }
        runtime.spawn(incoming::hand_in(Arc::clone(&sockets), incoming));
        Ok(sockets)
    }

    /// Whether any socket call is looked at.
    pub fn enabled(plan: &NetworkPlan) -> bool {
        plan.outgoing_tcp
            || plan.outgoing_udp
            || plan.dns
            || !plan.unix_streams.is_empty()
            || plan.incoming.mode != protocol::host::IncomingMode::Off
    }

    /// The ports taken over.
    pub fn ports(&self) -> Vec<PortState> {
        lock(&self.state).listeners.values().filter_map(|listening| listening.port.clone()).collect()
    }

    /// Decides a call.
    pub fn decide(self: &Arc<Self>, call: Call) -> Verdict {
        let answer = match call.nr {
            libc::SYS_socket => self.make(&call),
            libc::SYS_connect => return outgoing::connect(self, call),
            libc::SYS_bind => incoming::bind(self, &call),
            libc::SYS_listen => return incoming::listen(self, call),
            libc::SYS_accept | libc::SYS_accept4 => return incoming::accept(self, call),
            libc::SYS_getsockname => self.own_name(&call),
            libc::SYS_getpeername => self.peer_name(&call),
            libc::SYS_sendto => return datagrams::send_to(self, call),
            libc::SYS_recvfrom => datagrams::receive_from(self, &call),
            libc::SYS_sendmsg => return datagrams::send_message(self, call),
            libc::SYS_recvmsg => datagrams::receive_message(self, &call),
            libc::SYS_sendmmsg => return datagrams::send_messages(self, call),
            libc::SYS_recvmmsg => datagrams::receive_messages(self, &call),
            _ => Ok(Answer::Continue),
        };
        Verdict::Now(Answer::from_result(answer))
    }

    /// What a socket is known by, and the socket where it can be had.
    fn look(&self, call: &Call) -> Result<Socket, Errno> {
        if let Some(made) = &self.made {
            let (cookie, fd) = made.find(call.tid(), call.int(0))?;
            return Ok(Socket { cookie, fd });
        }
        let fd = call.caller.descriptor(call.int(0))?;
        let cookie = sys::socket_cookie(&fd)?;
        Ok(Socket { cookie, fd: Some(Arc::new(fd)) })
    }

    /// A socket that must be had.
    fn socket(&self, call: &Call) -> Result<(Arc<OwnedFd>, u64), Errno> {
        let socket = self.look(call)?;
        Ok((socket.fd.ok_or(libc::EPERM)?, socket.cookie))
    }

    /// socket(2).
    fn make(&self, call: &Call) -> Result<Answer, Errno> {
        let Some((inode, answer)) = self.made.as_ref().and_then(|made| made.make(call)) else {
            return Ok(Answer::Continue);
        };
        let mut state = lock(&self.state);
        // Of another socket, long gone.
        state.remote.remove(&inode);
        state.moved.remove(&inode);
        drop(state);
        Ok(answer)
    }

    /// The program's socket is connected: what was kept of it must not keep the connection open.
    fn let_go(&self, cookie: u64) {
        if let Some(made) = &self.made {
            made.let_go(cookie);
        }
    }

    /// What programs have closed must not stay open here.
    pub fn let_go_of_closed(&self) {
        if let Some(made) = &self.made {
            made.let_go_of_closed(None);
        }
    }

    /// getsockname(2).
    fn own_name(&self, call: &Call) -> Result<Answer, Errno> {
        let Ok(socket) = self.look(call) else { return Ok(Answer::Continue) };
        let Some(End { family, peer }) = self.far_end(call, &socket) else { return Ok(Answer::Continue) };
        let told = {
            let state = lock(&self.state);
            match state.remote.get(&socket.cookie) {
                Some(remote) => remote.pod_addr,
                None => match state.moved.get(&socket.cookie) {
                    Some(asked) => Some(*asked),
                    None => accepted(&state, peer).map(|accepted| accepted.pod_addr),
                },
            }
        };
        match told {
            Some(address) => tell(call, &addr::encode(address, family)),
            None => Ok(Answer::Continue),
        }
    }

    /// getpeername(2).
    fn peer_name(&self, call: &Call) -> Result<Answer, Errno> {
        let Ok(socket) = self.look(call) else { return Ok(Answer::Continue) };
        let Some(End { family, peer }) = self.far_end(call, &socket) else {
            let remote = lock(&self.state).remote.get(&socket.cookie).cloned();
            return match remote {
                Some(remote) if addr::inet(&remote.peer).is_none() => tell(call, &remote.peer),
                _ => Ok(Answer::Continue),
            };
        };
        let told = {
            let state = lock(&self.state);
            match state.remote.get(&socket.cookie) {
                Some(remote) => Some(remote.peer.clone()),
                None => accepted(&state, peer).map(|accepted| addr::encode(accepted.peer_addr, family)),
            }
        };
        // A connect that has failed since must be told by the kernel.
        match told {
            Some(address) if peer.is_some() => tell(call, &address),
            _ => Ok(Answer::Continue),
        }
    }

    /// What an internet socket really is connected to; `None` for others.
    fn far_end(&self, call: &Call, socket: &Socket) -> Option<End> {
        match &socket.fd {
            Some(fd) => {
                let peer = sys::peer_name(fd).ok().and_then(|raw| addr::inet(&raw));
                Some(End { family: inet_family(fd)?, peer })
            }
            None => {
                let table::Connection { family, peer } = table::connection(call.tid(), socket.cookie)?;
                Some(End { family, peer: Some(addr::plain(peer)) })
            }
        }
    }
}

/// Of an internet socket.
struct End {
    /// AF_INET or AF_INET6.
    family: i32,
    /// The other end, if it is connected.
    peer: Option<SocketAddr>,
}

fn tell(call: &Call, address: &[u8]) -> Result<Answer, Errno> {
    memory::put_address(call.tid(), call.args[1], call.args[2], address)?;
    Ok(Answer::Value(0))
}

fn accepted(state: &State, peer: Option<SocketAddr>) -> Option<&Accepted> {
    state.accepted.get(&peer?)
}

fn inet_family(fd: &OwnedFd) -> Option<i32> {
    let family = sys::socket_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN).ok()?;
    matches!(family, libc::AF_INET | libc::AF_INET6).then_some(family)
}

fn kind(fd: &OwnedFd) -> Result<i32, Errno> {
    sys::socket_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)
}

/// The address argument of a call.
fn address_argument(call: &Call, at: usize) -> Result<(Vec<u8>, Address), Errno> {
    let raw = memory::address(call.tid(), call.args[at], u64::from(call.args[at + 1] as u32))?;
    let parsed = addr::parse(&raw);
    Ok((raw, parsed))
}
