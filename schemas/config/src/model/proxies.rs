//! mirrord's proxy processes and its container mode. mirrord-ide has no such processes; the keys are known so
//! that a config that sets them is still a good config.

use crate::decode::OneOrMany;
use crate::form::record;

record! {
    /// mirrord's proxy process on this machine.
    pub struct InternalProxyConfig {
        /// Seconds to wait for the first connection.
        pub start_idle_timeout: u64 = "60",
        /// Seconds to stay after the last connection.
        pub idle_timeout: u64 = "5",
        /// Milliseconds that the layer waits on its connection.
        pub socket_timeout: u64,
        /// Seconds between pings.
        pub ping_interval: u64 = "30",
        /// Seconds between lines on the processes served.
        pub process_logging_interval: u64 = "60",
        /// What is logged.
        pub log_level: String = "\"mirrord=info,warn\"",
        /// Where to.
        pub log_destination: String,
        /// Whether as JSON.
        pub json_log: bool = "true",
    }
}

record! {
    /// mirrord's proxy process beside containers.
    pub struct ExternalProxyConfig {
        /// Whether its connection is encrypted.
        pub tls_enable: bool = "true",
        /// Seconds to wait for the first connection.
        pub start_idle_timeout: u64 = "60",
        /// Seconds to stay after the last connection.
        pub idle_timeout: u64 = "5",
        /// What is logged.
        pub log_level: String,
        /// Where to.
        pub log_destination: String,
        /// Whether as JSON.
        pub json_log: bool = "true",
        /// The address of this machine as containers see it.
        pub host_ip: String,
    }
}

record! {
    /// Running the program itself in a container on this machine.
    pub struct ContainerConfig {
        /// The image that brings the tool into the container.
        pub cli_image: String,
        /// More arguments for that container.
        pub cli_extra_args: OneOrMany<String>,
        /// Whether that container stays afterwards.
        pub cli_prevent_cleanup: bool = "false",
        /// Where the layer is in that image.
        pub cli_image_lib_path: String,
        /// Where certificates are put in that container.
        pub cli_tls_path: String,
        /// The address of this machine as the container sees it.
        pub override_host_ip: String,
        /// Whether the host's gateway name is looked for.
        pub host_gateway_detection: bool = "true",
        /// The platform of the image.
        pub platform: String,
    }
}
