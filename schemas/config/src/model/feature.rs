//! `feature`: what of the target the program sees. The network has a file of its own.

use std::collections::BTreeMap;

use super::root::{Paid, Toggle};
use crate::NetworkConfig;
use crate::decode::{FlagOr, OneOrMany, Ordered, PathPattern, Short};
use crate::form::{choice, record};

record! {
    /// What of the target the program sees.
    pub struct FeatureConfig {
        /// The target's environment variables: `true`, `false`, or which.
        pub env: Toggle<EnvConfig> = "true",
        /// The target's files: `true`, `false`, a mode, or in detail.
        pub fs: Short<FlagOr<FsMode>, FsConfig> = "true",
        /// The target's network: `true`, `false`, or in detail.
        pub network: Toggle<NetworkConfig> = "true",
        /// Whether `gethostname` gives the target's name.
        pub hostname: bool = "true",
        /// Working on a copy of the target, by the paid operator.
        pub copy_target: Toggle<CopyTargetConfig> = "false",
        /// Conveniences that change other settings.
        pub magic: MagicConfig,
        /// Splitting message queues between sessions, by the paid operator.
        pub split_queues: Paid,
        /// Databases of a session's own, by the paid operator.
        pub db_branches: Paid,
        /// Preview environments, by the paid operator.
        pub preview: Paid,
    }
}

record! {
    /// Which environment variables come from the target. They are taken in this order: the target's, `env_file`,
    /// `mapping`, `override`; then `unset` takes away.
    pub struct EnvConfig {
        /// Only these; `*` and `?` stand for any characters.
        pub include: OneOrMany<String>,
        /// All but these; `*` and `?` stand for any characters.
        pub exclude: OneOrMany<String>,
        /// Variables to set, whatever the target says.
        pub r#override as "override": BTreeMap<String, String>,
        /// Variables that the program shall not have, in upper or lower case.
        pub unset: OneOrMany<String>,
        /// A file of `NAME=value` lines.
        pub env_file: String,
        /// Regex on the name to the value to set instead.
        pub mapping: Ordered<String>,
        /// Whether a program that could not be given the variables at its start fetches them itself.
        pub load_from_process: bool = "false",
    }
}

choice! {
    /// Where files come from when no list names them.
    pub enum FsMode {
        /// All from this machine; lists do not count.
        Local = "local",
        /// From this machine, but what the lists name from the target.
        LocalWithOverrides = "localwithoverrides",
        /// Reading from the target, writing here.
        Read = "read",
        /// Reading and writing at the target.
        Write = "write",
    }
}

record! {
    /// Which files come from the target. Patterns are regexes, looked for anywhere in the path, case ignored.
    pub struct FsConfig {
        /// What holds for files that no list names. Absent, what the pod's spec declares (its volume mounts, the
        /// resolver's files, certificates) is read from the target and all else from this machine.
        pub mode: FsMode,
        /// Read and written at the target.
        pub read_write: OneOrMany<PathPattern> = "[]",
        /// Read from the target, written here.
        pub read_only: OneOrMany<PathPattern> = "[]",
        /// From this machine.
        pub local: OneOrMany<PathPattern> = "[]",
        /// As if they were not there.
        pub not_found: OneOrMany<PathPattern> = "[]",
        /// Regex on an absolute path to its replacement (`$1` for groups), applied before all else; the first that
        /// matches counts.
        pub mapping: Ordered<String> = "{}",
        /// Bytes read ahead from a file that is only read; 0 is off.
        pub readonly_file_buffer: u64 = "128000",
    }
}

record! {
    /// Working on a copy of the target.
    pub struct CopyTargetConfig {
        /// Whether at all.
        pub enabled: bool = "true",
        /// Whether the original has no pods meanwhile.
        pub scale_down: bool = "false",
        /// Containers that the copy does without.
        pub exclude_containers: Vec<String> = "[]",
        /// Init containers that the copy does without.
        pub exclude_init_containers: Vec<String> = "[]",
    }
}

record! {
    /// Conveniences that change other settings.
    pub struct MagicConfig {
        /// Whether the local AWS profile and `~/.aws` are hidden, so that the target's identity is used.
        pub aws: bool = "true",
        /// Whether the target's volume mounts are read from the target in `localwithoverrides` too.
        pub auto_mount: bool = "true",
        /// Whether Next.js' own loopback connections stay local.
        pub turbo: bool = "true",
    }
}
