//! `feature.network`.

use super::root::Toggle;
use crate::AddressFilter;
use crate::HttpFilterConfig;
use crate::decode::{FlagOr, OneOrMany, Pattern, PortPair, Short};
use crate::form::{choice, record};

record! {
    /// The target's network.
    pub struct NetworkConfig {
        /// What happens to traffic that comes to the target: `true`, `false`, a mode, or in detail.
        pub incoming: Short<FlagOr<IncomingMode>, IncomingConfig> = "\"mirror\"",
        /// Whether the program's own connections leave from the target: `true`, `false`, or in detail.
        pub outgoing: Toggle<OutgoingConfig> = "true",
        /// Whether names are resolved at the target: `true`, `false`, or in detail.
        pub dns: Toggle<DnsConfig> = "true",
        /// Whether the program has IPv6.
        pub ipv6: bool = "true",
    }
}

choice! {
    /// What happens to traffic that comes to the target.
    pub enum IncomingMode {
        /// The program gets a copy; the target answers.
        Mirror = "mirror",
        /// The program gets it and answers.
        Steal = "steal",
        /// The program gets nothing.
        Off = "off",
    }
}

record! {
    /// Traffic that comes to the target.
    pub struct IncomingConfig {
        /// What happens to it.
        pub mode: IncomingMode = "\"mirror\"",
        /// Pairs `[local, remote]`: the program listens on the first, the target on the second.
        pub port_mapping: Vec<PortPair> = "[]",
        /// Pairs `[port, actual]`: where the program listens on the first, it really listens on the second here.
        pub listen_ports: Vec<PortPair> = "[]",
        /// Ports that stay local.
        pub ignore_ports: Vec<u16> = "[]",
        /// The only ports that are served; all others stay local.
        pub ports: Vec<u16>,
        /// Whether listeners on 127.0.0.1 and ::1 stay local.
        pub ignore_localhost: bool = "false",
        /// Which requests the program gets.
        pub http_filter: HttpFilterConfig,
        /// What the paid operator does when a port is stolen already.
        pub on_concurrent_steal: OnConcurrentSteal = "\"abort\"",
        /// How stolen TLS is delivered to the program.
        pub tls_delivery: TlsDeliveryConfig,
        /// The old name of `tls_delivery`.
        pub https_delivery: TlsDeliveryConfig,
    }
}

choice! {
    /// What the paid operator does when a port is stolen already.
    pub enum OnConcurrentSteal {
        /// The new session fails.
        Abort = "abort",
        /// The new session goes on without the port.
        Continue = "continue",
        /// The new session takes it over.
        Override = "override",
    }
}

record! {
    /// How stolen TLS is delivered to the program.
    pub struct TlsDeliveryConfig {
        /// Encrypted again or plain.
        pub protocol: TlsDeliveryProtocol = "\"tls\"",
        /// Files or folders of certificates that the program's own may be signed by. Absent, any is taken.
        pub trust_roots: Vec<String>,
        /// The server name to ask the program for. Absent, the one the client asked for.
        pub server_name: String,
        /// The file of the only certificate that the program may show.
        pub server_cert: String,
    }
}

choice! {
    /// Encrypted again or plain.
    pub enum TlsDeliveryProtocol {
        /// Encrypted.
        Tls = "tls",
        /// Plain.
        Tcp = "tcp",
    }
}

record! {
    /// The program's own connections.
    pub struct OutgoingConfig {
        /// Whether TCP connections leave from the target.
        pub tcp: bool = "true",
        /// Whether UDP leaves from the target.
        pub udp: bool = "true",
        /// Whether connections to loopback stay local.
        pub ignore_localhost: bool = "false",
        /// Which connections.
        pub filter: AddressFilterConfig,
        /// Regexes of paths of unix sockets that are connected at the target.
        pub unix_streams: OneOrMany<Pattern>,
    }
}

record! {
    /// Either what goes through the target, or what does not.
    pub struct AddressFilterConfig {
        /// Only these go through the target.
        pub remote: OneOrMany<AddressFilter>,
        /// These stay local; all others go through the target.
        pub local: OneOrMany<AddressFilter>,
    }
}

record! {
    /// Resolving names.
    pub struct DnsConfig {
        /// Whether names are resolved at the target.
        pub enabled: bool = "true",
        /// Which names; those of `outgoing.filter` count here too.
        pub filter: AddressFilterConfig,
    }
}
