//! The relay on loopback: takes the connections of the program's own sockets and joins each to its stream of the pod.
//!
//! A connection is joined only if its source port is one that the session host has just connected itself: other local
//! users who find the port get nothing.

use super::addr;
use crate::agent_link::{PodStream, pump};
use crate::traps::process::lock;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

/// How long a connection may be ahead of its announcement.
const PATIENCE: Duration = Duration::from_secs(2);

/// The relay's listeners and the streams that wait for their connection.
pub(super) struct Relay {
    v4: SocketAddr,
    v6: Option<SocketAddr>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    streams: Mutex<HashMap<SocketAddr, (Coming, Done)>>,
    announced: Notify,
}

/// A stream of the pod that is there, or may still come; dropped unsent when it cannot be had.
pub(super) type Coming = oneshot::Receiver<PodStream>;

/// Run when the stream has ended.
pub(super) type Done = Box<dyn FnOnce() + Send>;

impl Relay {
    pub(super) fn start(runtime: &tokio::runtime::Handle) -> std::io::Result<Self> {
        let _inside = runtime.enter();
        let waiting = Arc::new(Waiting::default());
        let listen = |ip: std::net::IpAddr| -> std::io::Result<SocketAddr> {
            let listener = std::net::TcpListener::bind((ip, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            runtime.spawn(accept_all(TcpListener::from_std(listener)?, Arc::clone(&waiting)));
            Ok(address)
        };
        Ok(Self {
            v4: listen(Ipv4Addr::LOCALHOST.into())?,
            // A machine without IPv6 has no socket that could only reach it there.
            v6: listen(Ipv6Addr::LOCALHOST.into()).ok(),
            waiting,
        })
    }

    /// Where a socket of this family is to be connected to; `only_v6` is IPV6_V6ONLY.
    pub(super) fn address(&self, family: i32, only_v6: bool) -> Vec<u8> {
        match self.v6 {
            Some(v6) if family == libc::AF_INET6 && only_v6 => addr::encode(v6, family),
            _ => addr::encode(self.v4, family),
        }
    }

    /// Announces that the connection from `source` is to be joined to `stream`.
    pub(super) fn announce(&self, source: SocketAddr, stream: Coming, done: Done) {
        lock(&self.waiting.streams).insert(addr::plain(source), (stream, done));
        self.waiting.announced.notify_waiters();
    }
}

async fn accept_all(listener: TcpListener, waiting: Arc<Waiting>) {
    loop {
        match listener.accept().await {
            Ok((connection, source)) => {
                tokio::spawn(join(connection, addr::plain(source), Arc::clone(&waiting)));
            }
            Err(error) => {
                tracing::warn!(%error, "the relay does not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn join(connection: TcpStream, source: SocketAddr, waiting: Arc<Waiting>) {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let announced = waiting.announced.notified();
            if let Some(found) = lock(&waiting.streams).remove(&source) {
                return found;
            }
            announced.await;
        }
    });
    let Ok((stream, done)) = found.await else {
        tracing::warn!(%source, "a connection that is none of the session's was closed");
        return;
    };
    match stream.await {
        Ok(stream) => drop(pump(connection, stream).await),
        // The program was told EINPROGRESS long ago: what it can still see is a reset.
        Err(_) => {
            if let Err(error) = connection.set_zero_linger() {
                tracing::debug!(%error, "a connection cannot be reset; it is closed");
            }
        }
    }
    done();
}

/// A Unix socket that takes one connection for `stream`; answers its raw, abstract address, which nobody can guess.
pub(super) fn unix_once(runtime: &tokio::runtime::Handle, stream: PodStream) -> Result<Vec<u8>, i32> {
    let failed = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    // Autobind (unix(7)) gives five hexadecimal digits: the peer's uid is checked as well.
    let listener = {
        use std::os::linux::net::SocketAddrExt;
        let mut name = [0u8; 16];
        // SAFETY: the buffer is writable for its length.
        if unsafe { libc::getrandom(name.as_mut_ptr().cast(), name.len(), 0) } != 16 {
            return Err(crate::sys::errno());
        }
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).map_err(failed)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        (listener, name)
    };
    let (listener, name) = listener;
    let _inside = runtime.enter();
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    runtime.spawn(async move {
        match tokio::time::timeout(PATIENCE, listener.accept()).await {
            Ok(Ok((connection, _))) => drop(pump(connection, stream).await),
            Ok(Err(error)) => tracing::warn!(%error, "the relay does not accept"),
            Err(_) => tracing::warn!("a Unix socket never came to its relay"),
        }
    });
    let mut raw = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    raw.push(0);
    raw.extend_from_slice(name.as_bytes());
    Ok(raw)
}
