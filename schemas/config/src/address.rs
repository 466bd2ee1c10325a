//! One entry of a network filter: `[tcp://|udp://|any://][name|address|[v6]|network][:port]`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::Code;
use crate::decode::{Context, Decode};
use crate::form::Form;
use crate::tree::{At, Node};

/// Which transport an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Both.
    Any,
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
}

/// Which hosts an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every host (left out, `0.0.0.0` or `::`).
    Any,
    /// A host by name; in lower case, without a dot at its end.
    Name(String),
    /// One address.
    Address(IpAddr),
    /// Every address of a network.
    Network {
        /// An address of the network.
        address: IpAddr,
        /// How many leading bits count.
        prefix: u8,
    },
}

impl Host {
    /// Whether an address is one of these; a name never holds here, it needs resolving first.
    #[must_use]
    pub fn contains(&self, candidate: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Name(_) => false,
            Self::Address(address) => *address == candidate,
            Self::Network { address, prefix } => match (address, candidate) {
                (IpAddr::V4(network), IpAddr::V4(candidate)) => {
                    let shift = 32_u32.saturating_sub(u32::from(*prefix));
                    (network.to_bits() ^ candidate.to_bits()).checked_shr(shift).unwrap_or(0) == 0
                }
                (IpAddr::V6(network), IpAddr::V6(candidate)) => {
                    let shift = 128_u32.saturating_sub(u32::from(*prefix));
                    (network.to_bits() ^ candidate.to_bits()).checked_shr(shift).unwrap_or(0) == 0
                }
                _ => false,
            },
        }
    }
}

/// One entry of `feature.network.outgoing.filter` or `feature.network.dns.filter`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressFilter {
    /// The transport.
    pub transport: Transport,
    /// The hosts.
    pub host: Host,
    /// The port; `None` is every port.
    pub port: Option<u16>,
}

/// Why an entry does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressFilterError {
    /// Nothing was given.
    Empty,
    /// A scheme other than tcp, udp and any.
    Scheme(String),
    /// What follows the last colon is no port.
    Port(String),
    /// Neither a name nor an address nor a network.
    Host(String),
}

impl fmt::Display for AddressFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the entry is empty"),
            Self::Scheme(scheme) => write!(f, "`{scheme}` is not tcp, udp or any"),
            Self::Port(port) => write!(f, "`{port}` is not a port"),
            Self::Host(host) => write!(f, "`{host}` is not a host name, an address or a network"),
        }
    }
}

impl std::error::Error for AddressFilterError {}

impl FromStr for AddressFilter {
    type Err = AddressFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressFilterError::Empty);
        }
        let (transport, rest) = match text.split_once("://") {
            None => (Transport::Any, text),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some(("any", rest)) => (Transport::Any, rest),
            Some((scheme, _)) => return Err(AddressFilterError::Scheme(scheme.to_owned())),
        };
        let (host, port) = split_port(rest)?;
        Ok(Self { transport, host: parse_host(host)?, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), AddressFilterError> {
    // Several colons without brackets can only be an IPv6 address (or network) without a port.
    let bare_v6 = !text.contains('[') && text.matches(':').count() > 1;
    let split = if bare_v6 { None } else { text.rfind(':').filter(|at| *at >= text.rfind(']').unwrap_or(0)) };
    match split {
        None => Ok((text, None)),
        Some(at) => {
            let (host, port) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
            let number: u16 = port.parse().map_err(|_| AddressFilterError::Port(port.to_owned()))?;
            Ok((host, Some(number).filter(|number| *number != 0)))
        }
    }
}

fn parse_host(text: &str) -> Result<Host, AddressFilterError> {
    let wrong = || AddressFilterError::Host(text.to_owned());
    if text.is_empty() {
        return Ok(Host::Any);
    }
    // Both `[v6]/64` and `[v6/64]` are written.
    let plain = text.replace(['[', ']'], "");
    if let Some((address, prefix)) = plain.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(wrong());
        }
        return Ok(if prefix == 0 { Host::Any } else { Host::Network { address, prefix } });
    }
    if let Ok(address) = plain.parse::<IpAddr>() {
        return Ok(if address.is_unspecified() { Host::Any } else { Host::Address(address) });
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let valid = name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
        });
    // What looks like an address but is none is a typing error, not a name.
    let numeric = name.chars().all(|character| character.is_ascii_digit() || character == '.');
    if !valid || numeric {
        return Err(wrong());
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Any => {}
            Transport::Tcp => f.write_str("tcp://")?,
            Transport::Udp => f.write_str("udp://")?,
        }
        match &self.host {
            Host::Any => f.write_str("0.0.0.0")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
            Host::Network { address: IpAddr::V6(address), prefix } => write!(f, "[{address}]/{prefix}")?,
            Host::Network { address, prefix } => write!(f, "{address}/{prefix}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Serialize for AddressFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for AddressFilter {
    fn schema_name() -> Cow<'static, str> {
        "AddressFilter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`[tcp://|udp://|any://][name|address|[v6]|network][:port]`"
        })
    }
}

impl Decode for AddressFilter {
    fn form() -> Form {
        Form::plain("address")
    }

    fn accepts(node: &Node) -> bool {
        String::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = String::decode(node, at, context)?;
        match text.parse() {
            Ok(entry) => Some(entry),
            Err(error) => {
                let error: AddressFilterError = error;
                context
                    .error(Code::InvalidValue, &at.path, node.span.clone(), error.to_string())
                    .help("write [tcp://|udp://]name, address or network, then [:port], as in tcp://10.0.0.0/8:5432");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match text.parse::<AddressFilter>() {
            Ok(entry) => entry.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_form_of_an_entry_is_read_and_written_back() {
        for (given, written) in [
            ("redis", "redis"),
            ("tcp://db.shop.svc.cluster.local.:5432", "tcp://db.shop.svc.cluster.local:5432"),
            ("udp://10.0.0.0/8", "udp://10.0.0.0/8"),
            ("any://1.2.3.4:0", "1.2.3.4"),
            (":443", "0.0.0.0:443"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53"),
            ("2001:db8::/32", "[2001:db8::]/32"),
            ("[2001:db8::]/32:53", "[2001:db8::]/32:53"),
        ] {
            assert_eq!(show(given), written, "{given}");
            assert_eq!(show(written), written, "{given} again");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_with_the_part_that_is_wrong() {
        assert_eq!(show(""), "error: the entry is empty");
        assert_eq!(show("http://x"), "error: `http` is not tcp, udp or any");
        assert_eq!(show("db:port"), "error: `port` is not a port");
        assert_eq!(show("db:70000"), "error: `70000` is not a port");
        assert_eq!(show("10.0.0.0/33"), "error: `10.0.0.0/33` is not a host name, an address or a network");
        assert_eq!(show("1.2.3.400"), "error: `1.2.3.400` is not a host name, an address or a network");
        assert_eq!(show("a b"), "error: `a b` is not a host name, an address or a network");
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let host = |text: &str| text.parse::<AddressFilter>().unwrap().host;
        assert!(host("10.1.0.0/16").contains("10.1.255.3".parse().unwrap()));
        assert!(!host("10.1.0.0/16").contains("10.2.0.1".parse().unwrap()));
        assert!(host("1.2.3.4/32").contains("1.2.3.4".parse().unwrap()));
        assert!(!host("1.2.3.4/32").contains("1.2.3.5".parse().unwrap()));
        assert!(host("2001:db8::/32").contains("2001:db8:1::".parse().unwrap()));
        assert!(!host("2001:db8::/32").contains("1.2.3.4".parse().unwrap()));
        assert!(host("0.0.0.0/0").contains("9.9.9.9".parse().unwrap()));
    }
}
