//! Where a path or an address goes, told to who asks; the same code decides when a program does.

use super::failure::failure;
use crate::places::Places;
use crate::sockets::Sockets;
use protocol::host::HostEvent;

pub(super) fn explain(places: &Places, sockets: &Sockets, what: &str) -> HostEvent {
    if what.starts_with('/') {
        let mut buffer = vec![0; what.len() + 1];
        let path = policy::normalize(what.as_bytes(), &mut buffer).unwrap_or(what.as_bytes());
        let (place, rule) = places.explain(path);
        return HostEvent::Explained { place, rule };
    }
    let (kind, address) = match what.split_once(':') {
        Some(("udp", rest)) => (libc::SOCK_DGRAM, rest),
        Some(("tcp", rest)) if rest.contains(':') => (libc::SOCK_STREAM, rest),
        _ => (libc::SOCK_STREAM, what),
    };
    if let Some((host, port)) = address.rsplit_once(':')
        && let Ok(port) = port.parse::<u16>()
        && let Some(host) = host_of(host)
    {
        let (place, rule) = sockets.explain(host, port, kind);
        return HostEvent::Explained { place, rule };
    }
    HostEvent::Refused(*failure(
        "invalid-request",
        format!("{what:?} is neither an absolute path nor HOST:PORT"),
        "give a path such as /etc/hosts, or an address such as db:5432, 10.0.0.7:80, [fd00::7]:80 or udp:10.0.0.7:53",
    ))
}

/// A host without the brackets of an IPv6 address; `None` where it is none.
fn host_of(text: &str) -> Option<&str> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => (!text.is_empty() && !text.contains([':', '/', ' '])).then_some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn a_host_is_a_name_or_an_address_and_ipv6_stands_in_brackets() {
        assert_eq!(host_of("db"), Some("db"));
        assert_eq!(host_of("10.0.0.7"), Some("10.0.0.7"));
        assert_eq!(host_of("[fd00::7]"), Some("fd00::7"));
        for wrong in ["", "fd00::7", "[db]", "[fd00::7", "a b", "http//x"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }
}
