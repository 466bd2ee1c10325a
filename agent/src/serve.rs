//! `agent serve`: from the command line to the end of the last session.
//!
//! The order matters. The control sockets are bound in the agent's own network; then, still with one thread, the
//! target's network is joined; only then is there a runtime, so every thread and socket of it is in the target's
//! network. The agent ends with its target, on a signal, or when no session has been there for a while.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, SigHandler, Signal};
use nix::sys::stat::{Mode, umask};
use protocol::agent::{AgentEvent, Closing};
use protocol::auth::PublicKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::admit::{self, Keys};
use crate::files::Files;
use crate::link::{self, LastWords};
use crate::target::{self, Named, Target};
use crate::traffic::{Fallback, Reach, Traffic};

/// Clients that have not shown their key yet.
const MAX_HANDSHAKES: usize = 32;
/// Threads for work that blocks; they end after some idle time.
const THREADS: usize = 16;
const THREAD_STACK: usize = 256 << 10;
const THREAD_IDLE: Duration = Duration::from_secs(5);
/// How many of them may be at work on files: a volume that hangs must not keep the redirect from being undone.
const FILE_THREADS: usize = 12;
/// How long the first session may take to come, at least.
const FIRST_SESSION: Duration = Duration::from_secs(60);
/// What the links need to say goodbye.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The command line of `agent serve`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Where sessions connect: unix:/PATH or tcp:ADDRESS:PORT (port 0: any, see the line on standard output).
    #[arg(long)]
    listen: Address,
    /// A session's public key, 64 hexadecimal digits; may be given several times.
    #[arg(long = "admit")]
    admit: Vec<PublicKey>,
    /// Opens a socket for `agent admit` here.
    #[arg(long)]
    admin: Option<PathBuf>,
    /// Puts a symbolic link to this program there, for who is to run `admit` and does not know where the program is.
    #[arg(long, requires = "admin")]
    link_program: Option<PathBuf>,
    /// Whose place the agent stands in: self, none, pid:N or container-id:ID.
    #[arg(long)]
    target: Named,
    /// Where ports cannot be redirected, listens in front of them instead; for a process of this machine (pid:N) only.
    #[arg(long)]
    hold: bool,
    /// Ends after so long without a session; 0: with the last one.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// error, warn, info, debug or trace; on standard error.
    #[arg(long, default_value = "info")]
    log: tracing::Level,
}

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither unix:/PATH nor tcp:ADDRESS:PORT");
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("no session could ever connect: neither --admit nor --admin is given")]
    NobodyAdmitted,
    #[error("ports are held for a process of this machine only: --hold goes with --target pid:N")]
    HoldElsewhere,
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Target(#[from] target::TargetError),
    #[error("cannot start")]
    Start(#[from] io::Error),
}

/// Everything that the links share.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) target: Target,
    pub(crate) files: Files,
    pub(crate) keys: Keys,
    pub(crate) traffic: Arc<Traffic>,
    /// Taken while a thread is at work on files.
    pub(crate) file_work: Arc<Semaphore>,
    last_link: AtomicU64,
    /// Whose links there are, by their numbers.
    links: watch::Sender<BTreeMap<u64, PublicKey>>,
    finished: watch::Sender<bool>,
    last_words: watch::Sender<Option<LastWords>>,
}

/// One link's share in keeping the agent; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    agent: Arc<Agent>,
    link: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.agent.links.send_modify(|links| {
            links.remove(&self.link);
        });
    }
}

impl Agent {
    pub(crate) fn lease(self: &Arc<Self>, link: u64, key: PublicKey) -> Lease {
        self.links.send_modify(|links| {
            links.insert(link, key);
        });
        Lease { agent: Arc::clone(self), link }
    }

    pub(crate) fn next_link(&self) -> u64 {
        self.last_link.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ends the agent for whoever has proved `key` on a link, unless somebody else needs it; says why not.
    pub(crate) fn finish(&self, link: u64, key: &PublicKey) -> Result<(), &'static str> {
        // Whoever asks needs it no more, and is not to stand in the way of the next who does.
        self.links.send_modify(|links| {
            links.remove(&link);
        });
        if self.links.borrow().values().any(|other| !self.keys.are_together(key, other)) {
            return Err("somebody else's session is on the agent");
        }
        if self.keys.expects_others(key) {
            return Err("somebody else's session is on its way to the agent");
        }
        self.finished.send_replace(true);
        Ok(())
    }

    pub(crate) fn last_words(&self) -> watch::Receiver<Option<LastWords>> {
        self.last_words.subscribe()
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Serves until there is no reason to.
pub(crate) fn serve(options: Options) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(options.log).with_writer(io::stderr).with_ansi(false).init();
    Ok(start(options)?)
}

fn start(options: Options) -> Result<(), ServeError> {
    if options.admit.is_empty() && options.admin.is_none() {
        return Err(ServeError::NobodyAdmitted);
    }
    if options.hold && !matches!(options.target, Named::Pid(_)) {
        return Err(ServeError::HoldElsewhere);
    }
    raise_file_limit();
    let_orphans_go();
    let mut target = target::find(&options.target)?;
    // Sockets in the file system are for the agent's own user alone.
    umask(Mode::from_bits_truncate(0o177));
    let bound = bind(&options);
    // What is made in the target has the mode that was asked for: the umask of who asks is taken off already.
    umask(Mode::empty());
    let (listener, address, admin) = bound?;
    let _removed = SocketFiles::of(&options);
    if let Some(path) = &options.link_program {
        link_program(path);
    }
    target.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_stack_size(THREAD_STACK)
        .thread_keep_alive(THREAD_IDLE)
        .build()?;
    let files = Files::new(target.root()?, target.ids());
    let reach = match options.target {
        Named::Nothing => Reach::None("there is no target".to_owned()),
        // A redirect would be a change to the network of everybody on this machine.
        Named::Pid(_) if options.hold && target.shares_network() => {
            Reach::Held("the target has no network of its own".to_owned())
        }
        _ => Reach::Redirected,
    };
    let agent = Arc::new(Agent {
        target,
        files,
        keys: Keys::new(options.admit),
        traffic: Traffic::new(reach, if options.hold { Fallback::Hold } else { Fallback::None })?,
        file_work: Arc::new(Semaphore::new(FILE_THREADS)),
        last_link: AtomicU64::new(0),
        links: watch::Sender::default(),
        finished: watch::Sender::new(false),
        last_words: watch::Sender::new(None),
    });
    let idle = Duration::from_secs(options.idle_seconds);
    let outcome = runtime.block_on(run(&agent, listener, admin, &address, idle));
    // A file read that hangs must not keep the agent.
    runtime.shutdown_background();
    // Only now that its connections are closed: their peers would not hear of it without the table.
    agent.traffic.end();
    Ok(outcome?)
}

fn bind(options: &Options) -> Result<(Listener, Address, Option<UnixListener>), ServeError> {
    let failed = |address: String| move |source| ServeError::Listen { address, source };
    let (listener, address) = match &options.listen {
        Address::Unix(path) => {
            let listener = bind_unix(path).map_err(failed(options.listen.to_string()))?;
            (Listener::Unix(listener), options.listen.clone())
        }
        Address::Tcp(wanted) => {
            let bound = TcpListener::bind(wanted).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            });
            let (listener, address) = bound.map_err(failed(options.listen.to_string()))?;
            (Listener::Tcp(listener), Address::Tcp(address))
        }
    };
    let admin =
        options.admin.as_deref().map(|path| bind_unix(path).map_err(failed(path.display().to_string())));
    Ok((listener, address, admin.transpose()?))
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bound = match UnixListener::bind(path) {
        // What an agent left behind that was killed; a living one answers.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = bound?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The agent's socket files, removed when it ends.
struct SocketFiles(Vec<PathBuf>);

impl SocketFiles {
    fn of(options: &Options) -> Self {
        let listen = match &options.listen {
            Address::Unix(path) => Some(path.clone()),
            Address::Tcp(_) => None,
        };
        Self(listen.into_iter().chain(options.admin.clone()).collect())
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "a socket file stays");
            }
        }
    }
}

/// Without it the agent serves as well; who would join it then has one made.
fn link_program(path: &Path) {
    let linked = std::env::current_exe().and_then(|program| match path.exists() {
        // Stage 0 put the program itself there.
        true => Ok(()),
        false => std::os::unix::fs::symlink(program, path),
    });
    if let Err(error) = linked {
        tracing::warn!(%error, path = %path.display(), "nobody can join this agent");
    }
}

/// A container's first process is made the parent of all that lose theirs, such as what `kubectl exec` left behind.
fn let_orphans_go() {
    if std::process::id() != 1 {
        return;
    }
    // SAFETY: no handler is set, and the agent has no children of its own whose end it would wait for.
    if let Err(error) = unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) } {
        tracing::warn!(%error, "ended processes stay in the process table");
    }
}

/// Kept files and connections count against this limit.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

async fn run(
    agent: &Arc<Agent>,
    listener: Listener,
    admin: Option<UnixListener>,
    address: &Address,
    idle: Duration,
) -> io::Result<()> {
    let admin = admin.map(tokio::net::UnixListener::from_std).transpose()?;
    let listener = Acceptor::new(listener)?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let target_end = agent.target.end()?;
    agent.traffic.probe().await;
    announce(address)?;
    let admitting = async {
        match admin {
            Some(admin) => admit::serve(admin, &agent.keys).await,
            None => std::future::pending().await,
        }
    };
    let target_ended = async {
        match target_end {
            Some(pidfd) => target::ended(pidfd).await,
            None => std::future::pending().await,
        }
    };
    let last_words = tokio::select! {
        () = accept(agent, listener) => return Ok(()),
        () = admitting => return Ok(()),
        ended = target_ended => {
            ended?;
            let message = "the target's process has ended".to_owned();
            let kind = "target-exited".to_owned();
            let event = AgentEvent { kind: kind.clone(), message: message.clone(), port: 0, count: 0 };
            LastWords { event: Some(event), closing: Closing { kind, message } }
        }
        () = lonely(agent, idle) => {
            let message = format!("no session was here for {} s", idle.as_secs());
            LastWords { event: None, closing: Closing { kind: "idle".into(), message } }
        }
        () = finished(agent) => stopped(),
        _ = terminated.recv() => stopped(),
        _ = interrupted.recv() => stopped(),
    };
    tracing::info!(why = last_words.closing.message, "the agent ends");
    agent.last_words.send_replace(Some(last_words));
    let mut links = agent.links.subscribe();
    let gone = links.wait_for(BTreeMap::is_empty);
    if tokio::time::timeout(FAREWELL, gone).await.is_err() {
        tracing::warn!("a session did not take its leave");
    }
    Ok(())
}

async fn finished(agent: &Agent) {
    let mut finished = agent.finished.subscribe();
    // The sender lives in the agent that is borrowed here.
    let _ = finished.wait_for(|finished| *finished).await;
}

fn stopped() -> LastWords {
    let message = "the agent was told to end".to_owned();
    LastWords { event: None, closing: Closing { kind: "shutting-down".into(), message } }
}

/// The one line on standard output; whoever started the agent waits for it.
fn announce(address: &Address) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready {address}")?;
    stdout.flush()
}

/// Waits until there has been no link for `idle`, and nothing else is under way through the agent.
async fn lonely(agent: &Arc<Agent>, idle: Duration) {
    let mut links = agent.links.subscribe();
    let mut patience = idle.max(FIRST_SESSION);
    loop {
        let came = links.wait_for(|links| !links.is_empty());
        if tokio::time::timeout(patience, came).await.is_err() {
            // Connections of the target that pass through us would break.
            if tokio::time::timeout(idle.max(FIRST_SESSION), agent.traffic.drained()).await.is_err() {
                tracing::warn!("connections that pass through the agent are cut");
            }
            if links.borrow_and_update().is_empty() {
                return;
            }
        }
        // The sender lives in the agent that is borrowed here.
        let _ = links.wait_for(BTreeMap::is_empty).await;
        patience = idle;
    }
}

enum Acceptor {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Acceptor {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
            Listener::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
        })
    }
}

/// Takes connections for ever.
async fn accept(agent: &Arc<Agent>, listener: Acceptor) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        // Beyond the bound newcomers wait in the kernel; each stranger is out after a few seconds.
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let agent = Arc::clone(agent);
        let accepted = match &listener {
            Acceptor::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let (reader, writer) = stream.into_split();
                tokio::spawn(link::serve(agent, reader, writer, permit));
            }),
            Acceptor::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "small frames may wait");
                }
                let (reader, writer) = stream.into_split();
                tokio::spawn(link::serve(agent, reader, writer, permit));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_write_alike() {
        for text in ["unix:/run/a.sock", "tcp:127.0.0.1:0", "tcp:[::1]:7000"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in ["", "unix:relative", "tcp:localhost:1", "udp:1.2.3.4:5", "/run/a.sock"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
