//! What may stand on the command line. The peers' flags keep their letters and meaning.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a program on this machine as if it ran in a pod of the cluster.
#[derive(Debug, Parser)]
#[command(name = "mirrord-ide", version, disable_help_subcommand = true, after_help = EXIT_STATUS)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Keep in step with `protocol::ide::ErrorKind`, which gives each kind its status.
const EXIT_STATUS: &str = "Exit status: exec ends as its program does. Otherwise 0, or by the kind of error:\n  \
    2 command line, 64 not possible, 65 config, 66 target, 67 kubeconfig, 68 cluster unreachable, 69 agent,\n  \
    70 internal, 71 this machine or program, 72 no such session, 75 daemon, 77 not allowed, 130 taken back";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a program with the target's environment, files, names, network and incoming traffic
    Exec(Box<ExecArgs>),
    /// List what can be impersonated
    Ls(LsArgs),
    /// Show daemon, sessions and agents
    Status(StatusArgs),
    /// End sessions and remove what was made for them
    Stop(StopArgs),
    /// Tell where a path or an address goes in a session, and by which rule
    Explain(ExplainArgs),
    /// Run the daemon that editors and the other commands talk to
    Serve(ServeArgs),
    /// Check a config file
    VerifyConfig(VerifyArgs),
    /// The session host: started by exec
    #[command(hide = true)]
    SessionHost(SessionHostArgs),
    /// A debug adapter that outlives the editor's window: started by editors
    #[command(hide = true)]
    Adapter(AdapterArgs),
    /// What holds such an adapter: started by adapter
    #[command(hide = true)]
    AdapterHolder(HolderArgs),
    /// A terminal of such an adapter's: started by editors
    #[command(hide = true)]
    AdapterTerminal(TerminalArgs),
}

/// How progress is told on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressMode {
    /// Steps on a terminal, else plain lines
    Auto,
    /// A line a step
    Plain,
    /// A JSON object a line
    Json,
    /// Nothing but errors
    Off,
}

/// Where the cluster and its target are named.
#[derive(Args, Debug)]
pub(super) struct WhereArgs {
    /// The config; without a value .mirrord/mirrord.json, `-` reads standard input
    #[arg(short = 'f', long = "config-file", num_args = 0..=1, default_missing_value = ".mirrord/mirrord.json", value_name = "FILE")]
    pub(super) config_file: Option<String>,
    /// The target's namespace
    #[arg(short = 'n', long = "target-namespace", visible_alias = "namespace", value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// The kubeconfig context
    #[arg(long)]
    pub(super) context: Option<String>,
    /// The kubeconfig
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<String>,
    /// Do not check the API server's certificate
    #[arg(short = 'c', long)]
    pub(super) accept_invalid_certificates: bool,
}

#[derive(Args, Debug)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    pub(super) place: WhereArgs,
    /// What to impersonate: deployment/NAME, pod/NAME/container/NAME, process/PID …
    #[arg(short = 't', long, value_name = "TARGET")]
    pub(super) target: Option<String>,
    /// The agent's namespace
    #[arg(short = 'a', long, value_name = "NAMESPACE")]
    pub(super) agent_namespace: Option<String>,
    /// The agent's log level
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub(super) agent_log_level: Option<String>,
    /// The agent's image
    #[arg(short = 'i', long, value_name = "IMAGE")]
    pub(super) agent_image: Option<String>,
    /// Seconds that the ended agent's Job stays
    #[arg(long, value_name = "SECONDS")]
    pub(super) agent_ttl: Option<u32>,
    /// Run the agent as an ephemeral container of the target pod
    #[arg(short = 'e', long)]
    pub(super) ephemeral_container: bool,
    /// Where files come from: local, localwithoverrides, read, write
    #[arg(long, value_name = "MODE")]
    pub(super) fs_mode: Option<String>,
    /// Variables to take, separated by `;`
    #[arg(short = 's', long, value_name = "NAMES")]
    pub(super) override_env_vars_include: Option<String>,
    /// Variables to leave, separated by `;`
    #[arg(short = 'x', long, value_name = "NAMES")]
    pub(super) override_env_vars_exclude: Option<String>,
    /// A file of NAME=value lines
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Option<String>,
    /// Connections leave from this machine
    #[arg(long)]
    pub(super) no_outgoing: bool,
    /// TCP connections leave from this machine
    #[arg(long)]
    pub(super) no_tcp_outgoing: bool,
    /// UDP leaves from this machine
    #[arg(long)]
    pub(super) no_udp_outgoing: bool,
    /// Names are resolved on this machine
    #[arg(long)]
    pub(super) no_remote_dns: bool,
    /// Programs to pass through, separated by `;`
    #[arg(long, value_name = "NAMES")]
    pub(super) skip_processes: Option<String>,
    /// The program answers the target's incoming traffic
    #[arg(long, conflicts_with = "mirror")]
    pub(super) steal: bool,
    /// The program gets a copy of the target's incoming traffic
    #[arg(long)]
    pub(super) mirror: bool,
    /// How progress is told
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) progress: ProgressMode,
    /// Take the session that an editor has made ready
    #[arg(long, value_name = "PLAN", hide = true)]
    pub(super) plan: Option<String>,
    /// Let the program outlive the pipes that it was given
    #[arg(long, hide = true)]
    pub(super) outlive_editor: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct LsArgs {
    #[command(flatten)]
    pub(super) place: WhereArgs,
    /// One JSON array
    #[arg(long)]
    pub(super) json: bool,
    /// Only these kinds: pod, deployment, statefulset, service …
    #[arg(value_name = "KIND")]
    pub(super) kinds: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct StopArgs {
    /// The session to end
    #[arg(value_name = "SESSION", required_unless_present = "all", conflicts_with = "all")]
    pub(super) session: Option<String>,
    /// All sessions, and the agents kept warm
    #[arg(long)]
    pub(super) all: bool,
    /// Milliseconds that a program has to end by itself
    #[arg(long, value_name = "MS")]
    pub(super) grace_ms: Option<u32>,
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The session; not needed where one alone runs
    #[arg(long, value_name = "SESSION")]
    pub(super) session: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// A path, HOST:PORT, or udp:HOST:PORT
    #[arg(value_name = "WHAT")]
    pub(super) what: String,
}

#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Start a daemon unless one answers, and print where it listens
    #[arg(long)]
    pub(super) ensure: bool,
    /// Seconds without client, session and agent after which the daemon ends; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(super) idle_exit: u64,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The config; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(super) file: String,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct SessionHostArgs {
    /// The descriptor of the front's socket
    #[arg(long = "front-fd", value_name = "FD")]
    pub(super) fd: i32,
}

#[derive(Args, Debug)]
pub(super) struct AdapterArgs {
    /// The plan's folder
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// The adapter's name for itself
    #[arg(long)]
    pub(super) arg0: Option<OsString>,
    /// It is `dlv dap`, whose own words come after so many
    #[arg(long, value_name = "COUNT")]
    pub(super) dlv: Option<usize>,
    /// The adapter's words
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(super) words: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct HolderArgs {
    /// The plan's folder
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// The descriptor of its listener
    #[arg(long)]
    pub(super) listener: i32,
    /// The adapter dials
    #[arg(long)]
    pub(super) dials: bool,
    /// The adapter runs in a terminal
    #[arg(long)]
    pub(super) in_terminal: bool,
    /// The descriptor of the adapter's log
    #[arg(long)]
    pub(super) log_fd: Option<i32>,
    /// The adapter's name for itself
    #[arg(long)]
    pub(super) arg0: Option<OsString>,
    /// The adapter's words
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(super) words: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct TerminalArgs {
    /// The plan's folder
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// Which terminal
    pub(super) number: u32,
    /// What runs in it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<OsString>,
}
