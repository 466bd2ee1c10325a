//! Trapped calls on sockets: which connections are the pod's, and what the program is told of them.
//!
//! A socket stays the program's own. To connect it to the pod, the session host takes a duplicate and connects that to
//! a relay of its own on loopback; the relay's bytes travel over the link. Names (`getpeername` and the like) are told
//! as they would be in the pod. Sockets are known by SO_COOKIE, which is never reused, unlike descriptors and inodes.

pub mod addr;
mod datagrams;
mod incoming;
mod outgoing;
mod relay;
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
    state: Mutex<State>,
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
    /// Makes the relays and starts to hand in what comes for subscribed ports.
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
            state: Mutex::default(),
        });
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

    fn socket(&self, call: &Call) -> Result<(OwnedFd, u64), Errno> {
        let fd = call.caller.descriptor(call.int(0))?;
        let cookie = sys::socket_cookie(&fd)?;
        Ok((fd, cookie))
    }

    /// getsockname(2).
    fn own_name(&self, call: &Call) -> Result<Answer, Errno> {
        let Ok((fd, cookie)) = self.socket(call) else { return Ok(Answer::Continue) };
        let Some(family) = inet_family(&fd) else { return Ok(Answer::Continue) };
        let told = {
            let state = lock(&self.state);
            match state.remote.get(&cookie) {
                Some(remote) => remote.pod_addr,
                None => match state.moved.get(&cookie) {
                    Some(asked) => Some(*asked),
                    None => accepted(&state, &fd).map(|accepted| accepted.pod_addr),
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
        let Ok((fd, cookie)) = self.socket(call) else { return Ok(Answer::Continue) };
        let Some(family) = inet_family(&fd) else {
            let remote = lock(&self.state).remote.get(&cookie).cloned();
            return remote.map_or(Ok(Answer::Continue), |remote| tell(call, &remote.peer));
        };
        let told = {
            let state = lock(&self.state);
            match state.remote.get(&cookie) {
                Some(remote) => Some(remote.peer.clone()),
                None => accepted(&state, &fd).map(|accepted| addr::encode(accepted.peer_addr, family)),
            }
        };
        // A connect that has failed since must be told by the kernel.
        match told {
            Some(address) if sys::peer_name(&fd).is_ok() => tell(call, &address),
            _ => Ok(Answer::Continue),
        }
    }
}

fn tell(call: &Call, address: &[u8]) -> Result<Answer, Errno> {
    memory::put_address(call.tid(), call.args[1], call.args[2], address)?;
    Ok(Answer::Value(0))
}

fn accepted<'a>(state: &'a State, fd: &OwnedFd) -> Option<&'a Accepted> {
    if state.accepted.is_empty() {
        return None;
    }
    let peer = addr::inet(&sys::peer_name(fd).ok()?)?;
    state.accepted.get(&peer)
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
