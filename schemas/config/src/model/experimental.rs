//! `experimental`: settings that may change or go.

use crate::form::record;

record! {
    /// Settings that may change or go.
    pub struct ExperimentalConfig {
        /// Whether a TCP connection to port 7 succeeds without anyone there.
        pub tcp_ping4_mock: bool = "true",
        /// Whether sockets survive `exec`. Here they always do.
        pub enable_exec_hooks_linux: bool = "true",
        /// Whether `getifaddrs` leaves IPv6 out.
        pub hide_ipv6_interfaces: bool = "false",
        /// Whether remote files stand on `/dev/null`. Here they are real files.
        pub use_dev_null: bool = "true",
        /// Milliseconds that an idle HTTP connection to the program is kept.
        pub idle_local_http_connection_timeout: u64 = "3000",
        /// Whether Go libraries loaded by `dlopen` are covered. Here they always are.
        pub dlopen_cgo: bool = "false",
        /// How Go's system calls are reached. Here by the kernel.
        pub go_asmcgocall: bool,
        /// Whether descriptors 0 to 2 are guarded. Here no descriptor is taken from the program.
        pub guard_std_fds: bool,
        /// Whether the browser extension is offered.
        pub browser_extension_config: bool = "false",
        /// macOS: whether any certificate is trusted.
        pub trust_any_certificate: bool = "false",
        /// macOS: whether `SO_REUSEADDR` is refused.
        pub disable_reuseaddr: bool = "false",
        /// macOS: whether the system's proxy settings are hidden.
        pub ignore_system_proxy_config: bool = "false",
        /// macOS: where the log of patching goes.
        pub sip_log_destination: String,
        /// macOS: settings of the app-level layer.
        pub applev: crate::Opaque,
        /// Whether a non-blocking connect stays one. Here it always does.
        pub non_blocking_tcp_connect: bool = "true",
        /// Delays put into the traffic.
        pub latency: LatencyConfig,
        /// macOS: which patching is used.
        pub sip_utils: crate::Opaque,
    }
}

record! {
    /// Delays put into the traffic.
    pub struct LatencyConfig {
        /// Milliseconds before something is sent.
        pub transmit_delay: crate::Opaque,
        /// Milliseconds before something is received.
        pub receive_delay: crate::Opaque,
    }
}
