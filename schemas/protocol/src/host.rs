//! The wire between daemon, front and session host: one JSON object a line, on Unix sockets of the user's.
//!
//! The daemon resolves, the host applies: a [`Ticket`] holds all that a session needs and no question about the
//! configuration is left open. The front starts the host and hands it a [`Launch`]; the host reports to the front
//! ([`ToFront`]) and, over its own socket in the session's folder, to any daemon that connects ([`HostCommand`],
//! [`HostEvent`]).

use crate::auth::SecretKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All that a session needs, resolved. Holds the session's private key: kept in memory and in 0600 files only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ticket {
    /// The session's name, unique for this user: 8 letters and digits.
    pub session: String,
    /// The session's folder (0700): `host.sock`, `host.json`, `host.log`.
    pub folder: String,
    /// Where the agent listens.
    pub endpoint: Endpoint,
    /// Proves the session to the agent.
    pub key: SecretKey,
    /// What is impersonated.
    pub target: TargetSummary,
    /// How the debuggee's environment is made.
    pub env: EnvPlan,
    /// Which files are the pod's.
    pub files: FilePlan,
    /// Which connections are the pod's.
    pub network: NetworkPlan,
    /// Whether uname(2) tells the pod's host name.
    pub hostname: bool,
    /// Names (or full paths) of programs that are passed through untouched.
    pub skip_processes: Vec<String>,
    /// Who is at work, for the agent's "held by".
    pub user: String,
    /// The laptop's host name.
    pub host: String,
    /// Where the preload layer was unpacked; absent runs on traps alone.
    #[serde(default)]
    pub layer: Option<String>,
}

/// How to reach an agent's control port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Endpoint {
    /// A Unix socket on this machine (local targets).
    Unix {
        /// The socket's path.
        path: String,
    },
    /// Through the API server's port-forward.
    PortForward {
        /// Kubeconfig files, in order; empty means kubectl's own rules.
        kubeconfig: Vec<String>,
        /// The context, or the current one.
        context: Option<String>,
        /// Whether the server's certificate goes unchecked.
        accept_invalid_certificates: Option<bool>,
        /// Environment of the client that asked, for credential plugins (KUBECONFIG, PATH, proxies, cloud profiles).
        env: BTreeMap<String, String>,
        /// The agent's namespace.
        namespace: String,
        /// The agent's pod.
        pod: String,
        /// The control port, on the pod's loopback.
        port: u16,
    },
}

/// What a session impersonates, for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetSummary {
    /// As configured: `deployment/shop/container/app`, `process/123`.
    pub path: String,
    /// The pod or process chosen for it.
    pub instance: String,
    /// Container in the pod.
    pub container: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Kubeconfig context.
    pub context: Option<String>,
}

/// How the debuggee's environment is made from the pod's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvPlan {
    /// Which of the pod's variables are taken.
    pub take: TakeEnv,
    /// `NAME` patterns with `*` and `?` that are left out, after `take`.
    pub exclude: Vec<String>,
    /// Set last, over everything.
    pub set: BTreeMap<String, String>,
    /// Taken away at the very end, names in any case.
    pub unset: Vec<String>,
    /// Regular expression on the name to the value it gets (`feature.env.mapping`).
    pub mapping: Vec<(String, String)>,
}

/// Which of the pod's variables are taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TakeEnv {
    /// None.
    None,
    /// Those with these names: what the pod's spec declares.
    Names {
        /// The names.
        names: Vec<String>,
    },
    /// Those that match a pattern with `*` and `?`.
    Matching {
        /// The patterns.
        patterns: Vec<String>,
    },
    /// The process's environment less the image's usual variables (PATH, HOME, LANG, runtime homes).
    #[default]
    AllButImage,
}

/// Which files are the pod's: the first rule that fits decides, else `fallback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FilePlan {
    /// Whether files are looked at at all.
    pub enabled: bool,
    /// Paths that stand for others; before the rules, the first that fits decides.
    #[serde(default)]
    pub mapping: Vec<PathMapping>,
    /// The rules, in order.
    pub rules: Vec<FileRule>,
    /// For all other paths.
    pub fallback: Place,
    /// Adds the volumes that the agent finds mounted in the target (local targets have no pod spec).
    pub discovered_mounts: bool,
}

/// One path for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PathMapping {
    /// A regular expression, unanchored, any case.
    pub pattern: String,
    /// What the part that fits becomes; `$1` for groups.
    pub replacement: String,
}

/// One rule on paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileRule {
    /// How `text` is read.
    pub pattern: PathPattern,
    /// The prefix or expression.
    pub text: String,
    /// Where a path that fits lives.
    pub place: Place,
    /// Where the rule is from, for `explain`: `mount /etc/config of the pod`, `feature.fs.read_only[2]`.
    pub origin: String,
}

/// How a rule's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PathPattern {
    /// This path alone.
    Exact,
    /// This path and everything below it.
    Tree,
    /// A regular expression, unanchored, any case (the peers' lists).
    Regex,
}

/// Where a path lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On this machine.
    Local,
    /// In the pod, for reading and writing.
    Remote,
    /// In the pod for reading; writers get EROFS.
    RemoteRead,
    /// Reading in the pod, writing on this machine.
    RemoteReadLocalWrite,
    /// Nowhere: ENOENT.
    Hidden,
}

/// Which connections are the pod's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkPlan {
    /// Outgoing TCP.
    pub outgoing_tcp: bool,
    /// Outgoing UDP.
    pub outgoing_udp: bool,
    /// Names by the pod's resolver.
    pub dns: bool,
    /// Loopback destinations stay local even if nothing of the session listens there.
    pub outgoing_ignore_localhost: bool,
    /// Regular expressions on Unix socket paths that are connected in the pod.
    pub unix_streams: Vec<String>,
    /// What happens to the debuggee's listeners.
    pub incoming: IncomingPlan,
}

/// What happens to the debuggee's listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IncomingPlan {
    /// Off, mirror or steal.
    pub mode: IncomingMode,
    /// Only these pod ports, when present.
    pub only_ports: Option<Vec<u16>>,
    /// Not these.
    pub ignore_ports: Vec<u16>,
    /// Ports that pod spec or config know; a listener on another stays local unless the pod listens there.
    pub known_ports: Vec<u16>,
    /// Debuggee's port to pod's port (`port_mapping`).
    pub port_mapping: BTreeMap<u16, u16>,
    /// Debuggee's port to the port really bound on this machine (`listen_ports`).
    pub listen_ports: BTreeMap<u16, u16>,
    /// Listeners on loopback stay local.
    pub ignore_localhost: bool,
    /// Ports of the debugger: never taken over.
    pub debugger_ports: Vec<u16>,
    /// Regular expression on `Name: value` of HTTP headers; empty takes all.
    pub header_filter: String,
    /// The pod ports that are filtered, when present; the others are not.
    #[serde(default)]
    pub filter_ports: Option<Vec<u16>>,
}

impl IncomingPlan {
    /// The filter of a port of the pod; empty takes all.
    #[must_use]
    pub fn filter_of(&self, pod_port: u16) -> &str {
        let filtered = self.filter_ports.as_ref().is_none_or(|ports| ports.contains(&pod_port));
        if filtered { &self.header_filter } else { "" }
    }
}

/// Mode of incoming traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum IncomingMode {
    /// Listeners stay local.
    #[default]
    Off,
    /// The pod answers, the debuggee gets a copy.
    Mirror,
    /// The debuggee answers.
    Steal,
}

/// What the front hands to the host it started, as the first line on their socket pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The session.
    pub ticket: Ticket,
    /// Program and arguments; the program is looked up in PATH.
    pub command: Vec<String>,
    /// Whether the program is to outlive the pipes that it was given: an editor's, which go with a reload of its window.
    #[serde(default)]
    pub outlives_editor: bool,
}

/// From host to front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToFront {
    /// The debuggee runs.
    Started {
        /// Its process id.
        pid: i32,
        /// How it is covered, for people: `traps, files by FUSE`.
        mode: String,
    },
    /// It could not be started; the program never ran.
    Failed(Failure),
    /// Something the user should see on the terminal now.
    Notice {
        /// One sentence.
        message: String,
    },
    /// The program itself ended. Descendants may live on with the host.
    Exited {
        /// Its exit code, when it exited.
        code: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
    },
}

/// From front to host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromFront {
    /// Pass a signal on to the program.
    Signal {
        /// Its number.
        number: i32,
    },
    /// The front has taken note of the exit and leaves; its going is no accident.
    Goodbye,
}

/// A failure as every wire carries it: facts as fields, and what to do next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word: `seccomp-refused`, `agent-unreachable` …
    pub kind: String,
    /// What failed, on which side; one sentence.
    pub message: String,
    /// What to do next; one sentence.
    pub help: String,
    /// Whether trying again may work.
    pub retryable: bool,
    /// The causes, outermost first.
    #[serde(default)]
    pub cause: Vec<String>,
}

/// To a host, over `host.sock` in its session's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum HostCommand {
    /// Ask for [`HostEvent::Status`], and for events from now on.
    Attach {
        /// Only events after this number, of those still kept.
        from: u64,
    },
    /// End the debuggee (SIGTERM, SIGKILL after `grace_ms`) and the host.
    Stop {
        /// Milliseconds between the two.
        grace_ms: u32,
    },
    /// The agent is at another place now (a new one after a loss).
    MoveAgent {
        /// The new place.
        endpoint: Endpoint,
    },
    /// Take one more port of the pod to a local port.
    Subscribe {
        /// The port in the pod.
        pod_port: u16,
        /// Where the debuggee listens on this machine.
        local_port: u16,
    },
    /// Where would this path or address go, and by which rule?
    Explain {
        /// See [`crate::ide::ExplainParams::what`].
        what: String,
    },
}

/// From a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "sent one at a time, never kept in bulk")]
pub enum HostEvent {
    /// All there is to say of the session now.
    Status(HostStatus),
    /// One thing that happened.
    Happened {
        /// Counts from 1, without gaps.
        number: u64,
        /// Milliseconds since 1970.
        at: u64,
        /// What.
        event: SessionEvent,
    },
    /// The answer to [`HostCommand::Explain`].
    Explained {
        /// Where it goes.
        place: Place,
        /// What says so: a key of the config, a mount of the pod, or a reason.
        rule: String,
    },
    /// A command failed.
    Refused(Failure),
}

/// The state of a session host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostStatus {
    /// The session.
    pub session: String,
    /// The host's process id.
    pub host_pid: i32,
    /// The debuggee's process id.
    pub debuggee_pid: i32,
    /// What is impersonated.
    pub target: TargetSummary,
    /// How it is covered.
    pub mode: String,
    /// Whether the link to the agent stands.
    pub agent: AgentState,
    /// Where the agent is.
    pub endpoint: Endpoint,
    /// Ports taken over.
    pub ports: Vec<PortState>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Milliseconds since 1970 of the start.
    pub started_at: u64,
}

/// Whether the link to the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// It stands.
    Connected,
    /// Lost; being found again.
    Reconnecting,
    /// Given up.
    Lost,
}

/// One port that is served by the debuggee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortState {
    /// In the pod.
    pub pod_port: u16,
    /// On this machine.
    pub local_port: u16,
    /// Off, mirror or steal.
    pub mode: IncomingMode,
    /// Connections so far.
    pub connections: u64,
}

/// Things that happen in a session. Payloads and values never appear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum SessionEvent {
    /// A process was started below the debuggee.
    Process {
        /// Its id.
        pid: i32,
        /// Its executable.
        executable: String,
        /// `covered`, `skipped: build tool`, `not covered: setuid` …
        coverage: String,
    },
    /// A port is taken over.
    Port(PortState),
    /// A port was given back.
    PortClosed {
        /// In the pod.
        pod_port: u16,
    },
    /// A connection reached the debuggee.
    Connection {
        /// In the pod.
        pod_port: u16,
        /// Who.
        peer_addr: String,
    },
    /// The debuggee now behaves unlike the pod.
    Warning {
        /// A stable word.
        code: String,
        /// One sentence.
        message: String,
    },
    /// The link to the agent changed.
    Agent {
        /// Now.
        state: AgentState,
        /// One sentence.
        message: String,
    },
    /// The program ended.
    Ended {
        /// Its exit code.
        code: Option<i32>,
        /// Or the signal.
        signal: Option<i32>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure {
            kind: "seccomp-refused".into(),
            message: "m".into(),
            help: "h".into(),
            retryable: false,
            cause: vec!["c".into()],
        }
    }

    #[test]
    fn a_failure_reads_back_with_its_kind_from_either_wire() {
        let to_front = ToFront::Failed(failure());
        let line = serde_json::to_string(&to_front).unwrap();
        assert_eq!(serde_json::from_str::<ToFront>(&line).unwrap(), to_front);
        let event = HostEvent::Refused(failure());
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<HostEvent>(&line).unwrap(), event);
    }
}
