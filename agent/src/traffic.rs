//! Incoming traffic: who has which port, and the redirect that makes it so.
//!
//! Where there can be no redirect and the agent may hold ports, it listens in front of them instead: on loopback, for
//! as long as it lives, so that who talks to the port there is answered between sessions too.
//!
//! A subscription changes the table of ports first and the kernel's rules after it, by [`Traffic::reconcile`]: the
//! rules are always those of the ports that somebody has. What becomes of one connection is `connection`'s business.

mod connection;
mod filter;
mod http;
mod route;
mod side;
mod tee;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use protocol::agent::{Capture, Subscribe, Subscribed, Unsubscribe};
use tokio::sync::watch;

use crate::link::Link;
use crate::link::requests::Failure;
use crate::redirect::{Redirect, RedirectError, Rule};
use crate::socket::MARK;
use crate::sync::lock;
use crate::target;
use connection::Door;
use filter::Filter;
use http::RequestHead;
use tee::Drops;

/// A listener without a rule still takes what the kernel had already led to it.
const LISTENER_LINGERS: Duration = Duration::from_secs(2);
/// The last packets of a closed connection still need the table.
const TABLE_LINGERS: Duration = Duration::from_secs(5);

/// The ports that sessions have.
#[derive(Debug)]
pub(crate) struct Traffic {
    ports: Mutex<BTreeMap<u16, Port>>,
    redirect: Arc<tokio::sync::Mutex<Redirect>>,
    reach: Mutex<Reach>,
    fallback: Fallback,
    /// Connections that are led through us.
    live: watch::Sender<usize>,
}

/// How ports can be had; with the reason where they cannot be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Redirected,
    Held(String),
    None(String),
}

/// What to do where ports cannot be redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    Hold,
    None,
}

/// A port with a listener of ours.
#[derive(Debug)]
struct Port {
    listener: SocketAddr,
    accepting: tokio::task::AbortHandle,
    /// In the order in which they came: the first whose filter matches gets a request. One without a filter is alone.
    stealers: Vec<Subscription>,
    mirrors: Vec<Subscription>,
    /// Since when there is no rule for it.
    unwanted_since: Option<Instant>,
    /// Connections to the target's program that we made for this port.
    passing: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Subscription {
    link: Arc<Link>,
    since: SystemTime,
    drops: Arc<Drops>,
    /// Takes everything without one.
    filter: Option<Filter>,
}

impl Subscription {
    fn wants(&self, request: &RequestHead) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(request))
    }
}

impl Port {
    fn is_wanted(&self) -> bool {
        !self.stealers.is_empty() || !self.mirrors.is_empty()
    }

    fn remove(&mut self, link: u64) -> bool {
        let before = self.mirrors.len() + self.stealers.len();
        self.mirrors.retain(|mirror| mirror.link.id != link);
        self.stealers.retain(|stealer| stealer.link.id != link);
        self.mirrors.len() + self.stealers.len() < before
    }
}

/// What became of a port by a new subscription.
#[derive(Debug)]
struct Entered {
    is_new: bool,
    /// How many of its connections pass through us.
    passing: usize,
    /// Where we listen in front of it.
    held: Option<SocketAddr>,
}

/// Who gets a new connection.
#[derive(Clone, Debug, Default)]
struct Takers {
    stealers: Vec<Subscription>,
    mirrors: Vec<Subscription>,
}

impl Traffic {
    pub(crate) fn new(reach: Reach, fallback: Fallback) -> io::Result<Arc<Self>> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("mirrord_ide_{:08x}", u32::from_ne_bytes(random));
        Ok(Arc::new(Self {
            ports: Mutex::default(),
            redirect: Arc::new(tokio::sync::Mutex::new(Redirect::new(name))),
            reach: Mutex::new(reach),
            fallback,
            live: watch::Sender::new(0),
        }))
    }

    /// Finds out whether ports can be redirected.
    pub(crate) async fn probe(&self) {
        if self.reach() != Reach::Redirected {
            return;
        }
        let mut redirect = Arc::clone(&self.redirect).lock_owned().await;
        let probed = tokio::task::spawn_blocking(move || {
            redirect.check().map_err(|error| error.to_string())?;
            can_mark().map_err(|error| format!("the agent may not mark its own sockets: {error}"))
        });
        let why = match probed.await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(error) => format!("the agent failed: {error}"),
        };
        tracing::info!(why, fallback = ?self.fallback, "ports cannot be redirected");
        *lock(&self.reach) = match self.fallback {
            Fallback::Hold => Reach::Held(why),
            Fallback::None => Reach::None(why),
        };
    }

    /// How ports can be had.
    pub(crate) fn reach(&self) -> Reach {
        lock(&self.reach).clone()
    }

    fn door(&self) -> Door {
        if matches!(*lock(&self.reach), Reach::Held(_)) { Door::Held } else { Door::Redirect }
    }

    /// Gives `link` a port; holds from when this returns.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        link: &Arc<Link>,
        ask: &Subscribe,
    ) -> Result<Subscribed, Failure> {
        if let Reach::None(message) = self.reach() {
            return Err(Failure { errno: Errno::EPERM, message });
        }
        let number = port_number(ask.port)?;
        let Ok(capture) = Capture::try_from(ask.capture) else {
            let message = "this agent does not know that kind of capture".to_owned();
            return Err(Failure { errno: Errno::EINVAL, message });
        };
        let filter = match ask.header_filter.as_str() {
            "" => None,
            pattern => Some(Filter::new(pattern).map_err(|error| {
                let message = format!("{pattern:?} cannot be a filter: {error}; nothing was subscribed");
                Failure { errno: Errno::EINVAL, message }
            })?),
        };
        let Entered { is_new, passing, held } = self.enter(link, number, capture, filter)?;
        let established = tokio::task::spawn_blocking(move || target::established(number)).await.unwrap_or(0);
        if let Err(error) = self.reconcile().await {
            self.remove(link, number);
            return Err(Failure { errno: Errno::EIO, message: error.to_string() });
        }
        tracing::info!(link = link.id, port = number, ?capture, is_new, ?held, "a port is taken");
        Ok(Subscribed {
            established: established.saturating_sub(passing as u32),
            held_addr: held.map_or_else(String::new, |address| address.to_string()),
        })
    }

    /// Takes a port back from `link`; connections already led to it go on.
    pub(crate) async fn unsubscribe(
        self: &Arc<Self>,
        link: &Arc<Link>,
        ask: &Unsubscribe,
    ) -> Result<(), Failure> {
        let number = port_number(ask.port)?;
        if !self.remove(link, number) {
            let message = format!("this session does not have port {number}");
            return Err(Failure { errno: Errno::ENOENT, message });
        }
        tracing::info!(link = link.id, port = number, "a port is given back");
        self.reconcile().await.map_err(|error| Failure { errno: Errno::EIO, message: error.to_string() })
    }

    /// Takes back all that a link has: it is gone.
    pub(crate) fn leave(self: &Arc<Self>, link: &Arc<Link>) {
        let mut had_any = false;
        for port in lock(&self.ports).values_mut() {
            had_any |= port.remove(link.id);
        }
        if had_any {
            let traffic = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = traffic.reconcile().await {
                    tracing::error!(%error, "the rules of a session that is gone stay");
                }
            });
        }
    }

    /// Waits until no connection is led through us.
    pub(crate) async fn drained(&self) {
        // The sender lives in `self`.
        let _ = self.live.subscribe().wait_for(|live| *live == 0).await;
    }

    /// Takes the table away: the agent ends, and its connections are closed.
    pub(crate) fn end(&self) {
        // Held by a thread that is at work on it still: then it goes with the process.
        let Ok(mut redirect) = self.redirect.try_lock() else { return };
        if let Err(error) = redirect.remove() {
            tracing::error!(%error, "the table went with its socket only");
        }
    }

    /// Notes a subscription.
    fn enter(
        self: &Arc<Self>,
        link: &Arc<Link>,
        number: u16,
        capture: Capture,
        filter: Option<Filter>,
    ) -> Result<Entered, Failure> {
        let mut ports = lock(&self.ports);
        let is_new = !ports.contains_key(&number);
        if is_new {
            let listening = self.listen(number);
            let port = listening.map_err(|source| Failure {
                errno: crate::files::errno_of(&source),
                message: format!("cannot listen in the target's network: {source}"),
            })?;
            ports.insert(number, port);
        }
        let Some(port) = ports.get_mut(&number) else { return Err(Errno::EIO.into()) };
        let same_session = |one: &Link| one.session == link.session && one.key == link.key;
        // A session that has lost its link comes back before we have noticed: it has not lost its port.
        let mut others = port.stealers.iter().filter(|holder| !same_session(&holder.link));
        let in_the_way = others.find(|holder| match (&holder.filter, &filter) {
            (Some(theirs), Some(ours)) => theirs.pattern() == ours.pattern(),
            _ => true,
        });
        if let (Some(holder), Capture::Steal) = (in_the_way, capture) {
            let what = match &holder.filter {
                Some(filter) => format!("port {number} with the filter {:?}", filter.pattern()),
                None => format!("port {number}"),
            };
            let message = format!(
                "{what} is taken by {} (session {}) since {}",
                holder.link.owner,
                holder.link.session,
                time_of_day(holder.since)
            );
            return Err(Failure { errno: Errno::EBUSY, message });
        }
        port.unwanted_since = None;
        port.remove(link.id);
        port.mirrors.retain(|mirror| !same_session(&mirror.link));
        port.stealers.retain(|stealer| !same_session(&stealer.link));
        let subscription = Subscription {
            link: Arc::clone(link),
            since: SystemTime::now(),
            drops: Arc::new(Drops::new(number, Arc::clone(&link.outbox))),
            filter,
        };
        match capture {
            Capture::Steal => port.stealers.push(subscription),
            Capture::Mirror => port.mirrors.push(subscription),
        }
        let held = (self.door() == Door::Held).then_some(port.listener);
        Ok(Entered { is_new, passing: port.passing.load(Ordering::Relaxed), held })
    }

    fn remove(&self, link: &Arc<Link>, number: u16) -> bool {
        lock(&self.ports).get_mut(&number).is_some_and(|port| port.remove(link.id))
    }

    fn takers(&self, number: u16) -> Takers {
        match lock(&self.ports).get(&number) {
            Some(port) => Takers { stealers: port.stealers.clone(), mirrors: port.mirrors.clone() },
            None => Takers::default(),
        }
    }

    fn listen(self: &Arc<Self>, number: u16) -> io::Result<Port> {
        let any = |ip: std::net::IpAddr| TcpListener::bind(SocketAddr::new(ip, 0));
        let door = self.door();
        let listener = match door {
            // Both families by one socket; a kernel without IPv6 has the one only.
            Door::Redirect => {
                any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))?
            }
            // Nobody is let in from farther away than before.
            Door::Held => any(Ipv4Addr::LOCALHOST.into())?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let passing = Arc::new(AtomicUsize::new(0));
        let accepting =
            tokio::spawn(connection::accept(Arc::clone(self), listener, number, door, Arc::clone(&passing)));
        Ok(Port {
            listener: address,
            accepting: accepting.abort_handle(),
            stealers: Vec::new(),
            mirrors: Vec::new(),
            unwanted_since: None,
            passing,
        })
    }

    /// Makes the kernel's rules those of the wanted ports, and lets go of what nobody wants any more.
    async fn reconcile(self: &Arc<Self>) -> Result<(), RedirectError> {
        // Nothing of the kernel's is changed then, and no listener ever goes.
        if self.door() == Door::Held {
            return Ok(());
        }
        let mut redirect = Arc::clone(&self.redirect).lock_owned().await;
        let rules: Vec<Rule> = lock(&self.ports)
            .iter()
            .filter(|(_, port)| port.is_wanted())
            .map(|(number, port)| Rule { port: *number, listener: port.listener.port() })
            .collect();
        let nobody = rules.is_empty();
        // Held by the blocking thread: also when this task is dropped half-way, changes come one after the other.
        let set = tokio::task::spawn_blocking(move || redirect.set(rules)).await;
        for port in lock(&self.ports).values_mut().filter(|port| !port.is_wanted()) {
            port.unwanted_since.get_or_insert_with(Instant::now);
        }
        let traffic = Arc::clone(self);
        tokio::spawn(async move { traffic.let_go(nobody).await });
        set.unwrap_or_else(|error| Err(RedirectError::Table(io::Error::other(error))))
    }

    /// After a while: closes listeners without a rule, and takes the table away when no connection needs it.
    async fn let_go(&self, nobody: bool) {
        tokio::time::sleep(LISTENER_LINGERS).await;
        lock(&self.ports).retain(|_, port| {
            let lingers = port.unwanted_since.is_none_or(|since| since.elapsed() < LISTENER_LINGERS);
            if !port.is_wanted() && !lingers {
                port.accepting.abort();
            }
            port.is_wanted() || lingers
        });
        if !nobody {
            return;
        }
        self.drained().await;
        tokio::time::sleep(TABLE_LINGERS).await;
        let redirect = Arc::clone(&self.redirect).lock_owned().await;
        // Somebody may have come meanwhile, or a connection of theirs may still be there.
        if lock(&self.ports).is_empty() && *self.live.borrow() == 0 {
            self.take_table_away(redirect).await;
        }
    }

    async fn take_table_away(&self, mut redirect: tokio::sync::OwnedMutexGuard<Redirect>) {
        match tokio::task::spawn_blocking(move || redirect.remove()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the table went with its socket only"),
            Err(error) => tracing::error!(%error, "the table stays until the agent ends"),
        }
    }
}

fn port_number(port: u32) -> Result<u16, Failure> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Failure { errno: Errno::EINVAL, message: format!("{port} is no TCP port") })
}

/// Without its mark, what we pass on to the target's program would come back to us for ever.
fn can_mark() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(setsockopt(&socket, sockopt::Mark, &MARK)?)
}

fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
