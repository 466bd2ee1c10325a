//! The kernel's table of TCP sockets (proc(5), `/proc/PID/net/tcp` and `tcp6`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state of a socket that listens.
pub const LISTEN: u8 = 0x0a;

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its own address.
    pub local: SocketAddr,
    /// The other end; port 0 where there is none.
    pub remote: SocketAddr,
    /// As the kernel counts them; see [`LISTEN`].
    pub state: u8,
    /// Whose it is.
    pub uid: u32,
    /// Its inode number.
    pub inode: u64,
}

impl Row {
    /// Reads a line; `None` for the heading.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
        let state = u8::from_str_radix(words.next()?, 16).ok()?;
        let uid = words.nth(3)?.parse().ok()?;
        Some(Self { local, remote, state, uid, inode: words.nth(1)?.parse().ok()? })
    }
}

/// The inode number in the text of a link `/proc/PID/fd/N` to a socket: `socket:[123]`.
#[must_use]
pub fn inode_in(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// One socket that is connected, or being connected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// AF_INET or AF_INET6.
    pub(super) family: i32,
    /// The other end.
    pub(super) peer: SocketAddr,
}

/// The connection of this inode number in the network of a thread; `None` for a socket that has none.
pub(super) fn connection(tid: u32, inode: u64) -> Option<Connection> {
    [("tcp", libc::AF_INET), ("tcp6", libc::AF_INET6)].into_iter().find_map(|(file, family)| {
        let text = std::fs::read_to_string(format!("/proc/{tid}/net/{file}")).ok()?;
        let peer = text.lines().filter_map(Row::read).find(|row| row.inode == inode)?.remote;
        (peer.port() != 0).then_some(Connection { family, peer })
    })
}

/// `0100007F:1F90`: words of four bytes, each printed as a number of this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = [0u8; 16];
    let words = ip.len() / 8;
    for (index, place) in octets.as_chunks_mut::<4>().0.iter_mut().take(words).enumerate() {
        *place = u32::from_str_radix(ip.get(index * 8..index * 8 + 8)?, 16).ok()?.to_ne_bytes();
    }
    let ip: IpAddr = match words {
        1 => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        4 => Ipv6Addr::from(octets).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn inode_of(socket: &impl std::os::fd::AsRawFd) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn a_connection_is_found_by_its_inode_with_its_other_end() {
        for (ip, family) in [("127.0.0.1:0", libc::AF_INET), ("[::1]:0", libc::AF_INET6)] {
            // A machine without IPv6 has nothing to show.
            let Ok(listener) = std::net::TcpListener::bind(ip) else { continue };
            let there = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (here, from) = listener.accept().unwrap();
            let own = std::process::id();
            assert_eq!(connection(own, inode_of(&here)), Some(Connection { family, peer: from }));
            let peer = listener.local_addr().unwrap();
            assert_eq!(connection(own, inode_of(&there)), Some(Connection { family, peer }));
            assert_eq!(connection(own, inode_of(&listener)), None, "a listener has no other end");
        }
    }
}
