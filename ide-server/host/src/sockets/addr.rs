//! `sockaddr` as bytes, and back: IPv4, IPv6 and IPv4-mapped addresses, in the family the caller used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address as a program passed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// AF_INET or AF_INET6. A mapped address is given as IPv4, with `family` AF_INET6.
    Inet {
        /// Where.
        to: SocketAddr,
        /// As the caller's socket sees it.
        family: i32,
    },
    /// AF_UNIX by path, without the NUL.
    UnixPath(Vec<u8>),
    /// AF_UNIX by abstract name, without the leading NUL.
    UnixAbstract(Vec<u8>),
    /// Another family, or too short to tell: the kernel's matter.
    Other,
}

/// Reads a `sockaddr`.
pub fn parse(raw: &[u8]) -> Address {
    let Some(family) = raw.first_chunk::<2>().map(|bytes| i32::from(u16::from_ne_bytes(*bytes))) else {
        return Address::Other;
    };
    match family {
        libc::AF_INET if raw.len() >= 8 => {
            let port = u16::from_be_bytes([raw[2], raw[3]]);
            let ip = Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
            Address::Inet { to: SocketAddr::new(ip.into(), port), family }
        }
        libc::AF_INET6 if raw.len() >= 24 => {
            let port = u16::from_be_bytes([raw[2], raw[3]]);
            let mut octets = [0u8; 16];
            octets.copy_from_slice(&raw[8..24]);
            let ip = Ipv6Addr::from(octets);
            let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
            Address::Inet { to: SocketAddr::new(ip, port), family }
        }
        libc::AF_UNIX if raw.len() > 2 && raw[2] == 0 => Address::UnixAbstract(raw[3..].to_vec()),
        libc::AF_UNIX if raw.len() > 2 => {
            let end = raw[2..].iter().position(|byte| *byte == 0).unwrap_or(raw.len() - 2);
            Address::UnixPath(raw[2..2 + end].to_vec())
        }
        _ => Address::Other,
    }
}

/// Writes `address` as a `sockaddr` of `family`: IPv4 in an AF_INET6 socket becomes mapped.
pub fn encode(address: SocketAddr, family: i32) -> Vec<u8> {
    if family == libc::AF_INET
        && let SocketAddr::V4(v4) = address
    {
        let mut raw = vec![0u8; 16];
        raw[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        raw[2..4].copy_from_slice(&v4.port().to_be_bytes());
        raw[4..8].copy_from_slice(&v4.ip().octets());
        return raw;
    }
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut raw = vec![0u8; 28];
    raw[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    raw[2..4].copy_from_slice(&address.port().to_be_bytes());
    raw[8..24].copy_from_slice(&ip.octets());
    raw
}

/// An address in the form that compares: mapped as IPv4.
pub fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// The internet address in raw bytes, if it is one.
pub fn inet(raw: &[u8]) -> Option<SocketAddr> {
    match parse(raw) {
        Address::Inet { to, .. } => Some(to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_in_the_family_it_was_written_in() {
        for (text, family) in [
            ("10.1.2.3:80", libc::AF_INET),
            ("10.1.2.3:80", libc::AF_INET6),
            ("[fd00::1]:443", libc::AF_INET6),
        ] {
            let to: SocketAddr = text.parse().unwrap();
            assert_eq!(parse(&encode(to, family)), Address::Inet { to, family });
        }
    }

    #[test]
    fn unix_names_lose_their_padding_but_not_their_kind() {
        let raw = |name: &[u8]| [&(libc::AF_UNIX as u16).to_ne_bytes()[..], name].concat();
        assert_eq!(parse(&raw(b"/run/x\0\0\0")), Address::UnixPath(b"/run/x".to_vec()));
        assert_eq!(parse(&raw(b"/run/x")), Address::UnixPath(b"/run/x".to_vec()));
        assert_eq!(parse(&raw(b"\0bus")), Address::UnixAbstract(b"bus".to_vec()));
        assert_eq!(parse(&raw(b"")), Address::Other);
        assert_eq!(parse(&[2]), Address::Other);
    }
}
