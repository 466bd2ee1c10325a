//! Connections that a client opens from the target's network: TCP, connected UDP, Unix sockets of the target.
//!
//! The errno of a failed connect is the kernel's own, so that the debuggee sees what the target's program would.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use protocol::agent::connect::To;
use protocol::codec::MAX_CHUNK;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};
use tokio::time::Instant;

use crate::files::{Files, errno_of};
use crate::link::streams::{Inbound, Kind, Stream};
use crate::socket::{MARK, Pumped, Socket, pump};

/// A UDP stream that nobody uses is over after this.
const UDP_IDLE: Duration = Duration::from_secs(300);
/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// A connection made for a client.
#[derive(Debug)]
pub(crate) enum Connection {
    Stream { socket: Socket, pod_addr: String },
    Datagrams { socket: UdpSocket, pod_addr: String },
}

/// What a destination's stream carries.
pub(crate) fn kind(to: &To) -> Kind {
    match to {
        To::Udp(_) => Kind::Datagrams,
        To::Tcp(_) | To::UnixPath(_) | To::UnixAbstract(_) => Kind::Bytes,
    }
}

/// Connects as the target would; gives up after `timeout_ms` unless that is 0.
pub(crate) async fn connect(to: To, timeout_ms: u32, files: &Files) -> Result<Connection, Errno> {
    let connecting = async {
        match to {
            To::Tcp(address) => tcp(parse(&address)?).await,
            To::Udp(address) => udp(parse(&address)?).await,
            To::UnixPath(path) => unix_path(&path, files).await,
            To::UnixAbstract(name) => unix_abstract(&name).await,
        }
    };
    if timeout_ms == 0 {
        return connecting.await;
    }
    let limit = Duration::from_millis(u64::from(timeout_ms));
    tokio::time::timeout(limit, connecting).await.unwrap_or(Err(Errno::ETIMEDOUT))
}

fn parse(address: &str) -> Result<SocketAddr, Errno> {
    address.parse().map_err(|_| Errno::EINVAL)
}

/// Dials from the target's network with the agent's mark, where the agent may mark.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream, Errno> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(|error| errno_of(&error))?;
    mark(&socket);
    let stream = socket.connect(address).await.map_err(|error| errno_of(&error))?;
    stream.set_nodelay(true).map_err(|error| errno_of(&error))?;
    Ok(stream)
}

/// Marks a socket as the agent's own. Without CAP_NET_ADMIN this fails, and then there is no redirect either.
fn mark(socket: &TcpSocket) {
    if let Err(error) = setsockopt(socket, sockopt::Mark, &MARK) {
        tracing::trace!(%error, "a socket stays without a mark");
    }
}

async fn tcp(address: SocketAddr) -> Result<Connection, Errno> {
    let stream = dial(address).await?;
    let pod_addr = stream.local_addr().map_err(|error| errno_of(&error))?.to_string();
    Ok(Connection::Stream { socket: Socket::Tcp(stream), pod_addr })
}

async fn udp(address: SocketAddr) -> Result<Connection, Errno> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(|error| errno_of(&error))?;
    socket.connect(address).await.map_err(|error| errno_of(&error))?;
    let pod_addr = socket.local_addr().map_err(|error| errno_of(&error))?.to_string();
    Ok(Connection::Datagrams { socket, pod_addr })
}

/// Connects through a path descriptor: the path may be longer than a socket address holds, and its links stay inside
/// the target's root.
async fn unix_path(path: &Bytes, files: &Files) -> Result<Connection, Errno> {
    let (files, path) = (files.clone(), path.clone());
    let found = tokio::task::spawn_blocking(move || files.locate(&path)).await.map_err(|_| Errno::EIO)??;
    let through = format!("/proc/self/fd/{}", found.as_raw_fd());
    let stream = UnixStream::connect(through).await.map_err(|error| errno_of(&error))?;
    Ok(Connection::Stream { socket: Socket::Unix(stream), pod_addr: String::new() })
}

/// Abstract names belong to a network namespace, and ours is the target's.
async fn unix_abstract(name: &[u8]) -> Result<Connection, Errno> {
    let path = [b"\0", name].concat();
    let stream = UnixStream::connect(OsStr::from_bytes(&path)).await.map_err(|error| errno_of(&error))?;
    Ok(Connection::Stream { socket: Socket::Unix(stream), pod_addr: String::new() })
}

/// Carries a connection's payload until it is over.
pub(crate) async fn carry(connection: Connection, stream: Stream) {
    match connection {
        Connection::Stream { socket, .. } => {
            match pump(&socket, stream, &AtomicBool::new(false), &mut ()).await {
                Pumped::Ended => {}
                Pumped::Aborted | Pumped::GivenBack | Pumped::Gone => socket.abort(),
            }
        }
        Connection::Datagrams { socket, .. } => datagrams(&socket, stream).await,
    }
}

async fn datagrams(socket: &UdpSocket, stream: Stream) {
    let Stream { id, sending, mut receiving } = stream;
    let mut buffer = vec![0; MAX_DATAGRAM];
    let idle = tokio::time::sleep(UDP_IDLE);
    tokio::pin!(idle);
    loop {
        tokio::select! {
            read = socket.recv(&mut buffer) => match read {
                // What does not fit a frame is lost, as on a network with a smaller limit.
                Ok(length) if length > MAX_CHUNK => tracing::debug!(id, length, "a datagram exceeds a frame"),
                Ok(length) => sending.datagram(Bytes::copy_from_slice(&buffer[..length])),
                Err(error) => return sending.reset(errno_of(&error)),
            },
            inbound = receiving.next() => match inbound {
                Some(Inbound::Data(bytes)) => match socket.send(&bytes).await {
                    Ok(_) => {}
                    // Only this datagram is at fault.
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                        tracing::debug!(id, length = bytes.len(), "a datagram is too long for the network");
                    }
                    Err(error) => return sending.reset(errno_of(&error)),
                },
                Some(Inbound::End) => return sending.end(),
                Some(Inbound::Reset(_)) | None => return,
            },
            () = &mut idle => return sending.reset(Errno::ETIMEDOUT),
        }
        idle.as_mut().reset(Instant::now() + UDP_IDLE);
    }
}
