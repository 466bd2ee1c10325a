//! The session host: an ancestor of the debuggee that answers its trapped calls and outlives its last descendant.
//!
//! Order matters at the start: what forks comes first, while there is one thread (the mount helper, the child that
//! becomes the program); then the link to the agent, the files, the sockets; then the program runs.

use crate::agent_link::{AgentLink, LinkError, LinkEvent, Supervised};
use crate::control::{self, Commands, Journal};
use crate::files::{self, FileServer, PodFs};
use crate::launch::{self, LaunchError};
use crate::places::Places;
use crate::sockets::{PodFacts, Sockets};
use crate::traps::notify::Listener;
use crate::traps::paths::Paths;
use crate::traps::process::Callers;
use crate::traps::{Engine, filter};
use crate::{env, skip, sys};
use protocol::agent::{Response, Welcome, request::Op};
use protocol::host::{
    AgentState, Failure, FromFront, HostCommand, HostEvent, HostStatus, Launch, SessionEvent, Ticket, ToFront,
};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What wakes the host's main thread.
enum Event {
    Front(FromFront),
    FrontGone,
    ProgramEnded {
        code: Option<i32>,
        signal: Option<i32>,
    },
    NobodyLeft,
    Stop {
        grace: Duration,
    },
    /// Something the user should see where the program's own output is.
    Notice(String),
}

/// Serves the session whose [`Launch`] comes in on `front_fd`, to its end. Answers the host's own exit status.
pub fn main(front_fd: RawFd) -> i32 {
    // `/proc/self/exe` would show as "exe" in ps(1). A process without a name is one all the same.
    let _ = sys::name_process(c"mirrord-ide");
    // SAFETY: the front made this descriptor for us and told its number.
    let front = unsafe { UnixStream::from_raw_fd(front_fd) };
    // The program must not hold the host's end: the front knows by its closing that the host is gone.
    // SAFETY: no memory is passed.
    unsafe { libc::fcntl(front_fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    let mut front = Front { socket: front };
    match serve(&mut front) {
        Ok(()) => 0,
        Err(failure) => {
            tracing::error!(kind = failure.kind, "{}", failure.message);
            front.tell(&ToFront::Failed(*failure));
            1
        }
    }
}

struct Front {
    socket: UnixStream,
}

impl Front {
    fn tell(&mut self, message: &ToFront) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            // A front that is gone shows as the end of its own stream.
            let _ = self.socket.write_all(&line);
        }
    }
}

fn failure(kind: &str, message: impl Into<String>, help: impl Into<String>) -> Box<Failure> {
    Box::new(Failure {
        kind: kind.into(),
        message: message.into(),
        help: help.into(),
        retryable: false,
        cause: vec![],
    })
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Box<Failure> {
    Box::new(Failure {
        cause: vec![error.to_string()],
        retryable: true,
        ..*failure("host-failed", format!("{what} on this machine"), "see the session's host.log")
    })
}

impl From<LaunchError> for Box<Failure> {
    fn from(error: LaunchError) -> Self {
        failure(error.kind(), error.to_string(), error.help())
    }
}

fn agent_unreachable(ticket: &Ticket, error: &LinkError) -> Box<Failure> {
    let mut cause = Vec::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        cause.push(error.to_string());
        source = error.source();
    }
    Box::new(Failure {
        kind: "agent-unreachable".into(),
        message: format!("the agent of {} does not answer", ticket.target.path),
        help: "start again: a new agent is made; `mirrord-ide status` shows what is running".into(),
        retryable: error.retryable(),
        cause,
    })
}

fn read_launch(front: &Front) -> Result<Launch, Box<Failure>> {
    // Byte by byte, since what follows the line is for the thread that reads on.
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    let mut socket = &front.socket;
    loop {
        match std::io::Read::read(&mut socket, &mut byte) {
            Ok(1) if byte[0] == b'\n' => break,
            Ok(1) => line.push(byte[0]),
            Ok(_) => {
                return Err(failure(
                    "launch-failed",
                    "the front left before it said what to run",
                    "try again",
                ));
            }
            Err(error) => return Err(internal("the front cannot be heard", &error)),
        }
    }
    serde_json::from_slice(&line).map_err(|error| internal("the front's launch cannot be read", &error))
}

fn serve(front: &mut Front) -> Result<(), Box<Failure>> {
    let Launch { ticket, command } = read_launch(front)?;
    let os = |errno| std::io::Error::from_raw_os_error(errno);
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(|errno| internal("no subreaper", &os(errno)))?;
    let name = command
        .first()
        .ok_or_else(|| failure("launch-failed", "no program was given", "name one after --"))?;
    let program = launch::find(name)?;
    let cookie = random_cookie().map_err(|error| internal("no random number", &error))?;

    let prepared = files::prepare();
    let helpers = sys::descendants(std::process::id() as i32);
    let network = Sockets::enabled(&ticket.network);
    let mut traps = filter::process_traps();
    if ticket.files.enabled {
        traps.extend(filter::file_traps());
    }
    if network {
        traps.extend(filter::socket_traps());
    }
    if ticket.hostname {
        traps.extend(filter::hostname_traps());
    }
    let child = launch::fork(program, &filter::program(&traps, cookie), cookie)?;
    let child_pid = child.pid;
    let outcome = serve_child(front, &ticket, command, Forked { child, helpers, cookie }, prepared);
    if outcome.is_err() {
        // It waits for an environment that never comes.
        let _ = sys::kill(child_pid, libc::SIGKILL);
    }
    outcome
}

/// Whether the loader can be told of this file: it splits its list at spaces and colons, and programs would start with
/// a complaint of its about every piece.
fn is_preloadable(layer: &str) -> bool {
    let fits = !layer.contains([' ', ':']) && Path::new(layer).is_file();
    if !fits {
        tracing::warn!(
            layer,
            "the fast path for local calls cannot be preloaded from there: they will be slower"
        );
    }
    fits
}

/// Puts the layer in front of what the user has preloaded.
fn preload(environment: &mut env::Environment, layer: &str) {
    let list = environment.entry("LD_PRELOAD".into()).or_default();
    *list = joined(layer.as_ref(), list);
    // Programs built for the address sanitizer by gcc end at once when any library is loaded before its own.
    let options = environment.entry("ASAN_OPTIONS".into()).or_default();
    *options = joined(options, "verify_asan_link_order=0".as_ref());
}

/// Two lists with a colon between them, if both are there.
fn joined(first: &std::ffi::OsStr, second: &std::ffi::OsStr) -> std::ffi::OsString {
    let colon = if first.is_empty() || second.is_empty() { "" } else { ":" };
    [first, colon.as_ref(), second].into_iter().collect()
}

/// What was forked while there was one thread.
struct Forked {
    child: launch::Waiting,
    /// Processes below the host that are none of the program's.
    helpers: Vec<i32>,
    cookie: u64,
}

/// The processes below the host.
struct Debuggee {
    pid: i32,
    helpers: Vec<i32>,
}

fn serve_child(
    front: &mut Front,
    ticket: &Ticket,
    command: Vec<String>,
    forked: Forked,
    prepared: files::Prepared,
) -> Result<(), Box<Failure>> {
    let Forked { child, helpers, cookie } = forked;
    let own_environment = launch::own_environment();
    let folder = Path::new(&ticket.folder);
    leave_terminal(folder).map_err(|error| internal("the session's log cannot be opened", &error))?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .thread_keep_alive(Duration::from_secs(30))
        .enable_all()
        .build()
        .map_err(|error| internal("no threads can be started", &error))?;
    let (supervised, welcome, incoming) = runtime
        .block_on(Supervised::connect(ticket, true))
        .map_err(|error| agent_unreachable(ticket, &error))?;
    let link = supervised.link().clone();
    let journal = Arc::new(Journal::default());
    follow_link(&runtime, &link, &journal);

    let creds = files::Creds { uid: welcome.uid, gid: welcome.gid, groups: welcome.groups.clone() };
    let server = FileServer::start(prepared, Arc::new(AgentFiles(link.clone())), creds, folder)
        .map_err(|error| internal("files of the pod cannot be served", &error))?;
    let layer = ticket.layer.as_deref().filter(|path| is_preloadable(path));
    let engine = if layer.is_some() { "hybrid" } else { "traps" };
    let mode = format!("{engine}, files by {}", server.backend());
    if !server.why_not().is_empty() {
        tracing::info!(why = server.why_not(), "a better way to serve files is not to be had");
    }
    let places = Places::compile(&ticket.files, &welcome.mounts)
        .map_err(|error| failure("config-invalid", error.to_string(), "check feature.fs"))?;
    let policy = policy::to_text(places.table().to_bytes());
    let mut paths = Paths::new(places, Arc::new(server));
    if ticket.network.dns && ticket.files.enabled {
        // glibc would ask this machine's resolvers as nsswitch.conf of this machine says.
        paths.make("/etc/nsswitch.conf", &nsswitch()).map_err(|errno| {
            internal("no file in memory can be made", &std::io::Error::from_raw_os_error(errno))
        })?;
    }
    let paths = Arc::new(paths);
    let sockets = Sockets::start(
        ticket.network.clone(),
        PodFacts::of(&welcome),
        link.clone(),
        incoming,
        runtime.handle(),
        Arc::clone(&journal),
    )
    .map_err(|error| internal("sockets cannot be served", &error))?;
    check_incoming(ticket, &welcome)?;

    let mut environment = env::build(own_environment, &welcome.env, &ticket.env)
        .map_err(|error| failure("config-invalid", error.to_string(), "check feature.env.mapping"))?;
    environment.insert(protocol::layer::SESSION_VAR.into(), ticket.session.clone().into());
    environment.insert(protocol::layer::COOKIE_VAR.into(), format!("{cookie:016x}").into());
    environment.insert(protocol::layer::POLICY_VAR.into(), policy.into());
    if let Some(layer) = layer {
        preload(&mut environment, layer);
    }

    let (events_tx, events) = mpsc::channel();
    let engine = Engine {
        paths: Arc::clone(&paths),
        sockets: Arc::clone(&sockets),
        hostname: ticket.hostname.then(|| welcome.hostname.clone()),
        workers: runtime.handle().clone(),
    };
    let rule = skip::Rule::new(&ticket.skip_processes, Arc::clone(&journal));
    let callers =
        Callers::new(Box::new(rule)).map_err(|error| internal("no thread can be started", &error))?;
    let pid = child.pid;
    let state = Arc::new(Running {
        ticket: ticket.clone(),
        command: command.clone(),
        mode: mode.clone(),
        started_at: control::now(),
        pid,
        link: link.clone(),
        supervised,
        sockets,
        paths,
        events: std::sync::Mutex::new(events_tx.clone()),
    });
    let (listener, child) = child.into_parts();
    spawn("traps", {
        let (listener, tx) = (Arc::new(Listener::new(listener)), events_tx.clone());
        move || {
            engine.run(listener, callers);
            // The main thread is gone when nobody receives.
            let _ = tx.send(Event::NobodyLeft);
        }
    })?;
    open_control(&runtime, folder, &journal, &state)?;
    runtime.spawn(show_notices(journal.follow(), events_tx.clone()));
    child.run(&command, &environment)?;
    close_inherited(&front.socket);
    front.tell(&ToFront::Started { pid, mode });

    watch_front(front, events_tx.clone())?;
    spawn("reaper", move || reap(pid, &events_tx))?;
    attend(front, &events, &journal, &Debuggee { pid, helpers }, &link);
    let _ = std::fs::remove_file(folder.join("host.sock"));
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(())
}

fn attend(
    front: &mut Front,
    events: &mpsc::Receiver<Event>,
    journal: &Journal,
    debuggee: &Debuggee,
    link: &AgentLink,
) {
    let mut program_ended = false;
    let mut front_left = false;
    for event in events {
        match event {
            Event::Front(FromFront::Signal { number }) => {
                // A program that is just gone is told by its own event.
                let _ = sys::kill(debuggee.pid, number);
            }
            Event::Front(FromFront::Goodbye) => front_left = true,
            Event::FrontGone if program_ended || front_left => {}
            Event::FrontGone => {
                tracing::warn!("the front was killed: the program is ended");
                end_all(Duration::from_millis(500), &debuggee.helpers);
            }
            Event::ProgramEnded { code, signal } => {
                program_ended = true;
                journal.note(SessionEvent::Ended { code, signal });
                front.tell(&ToFront::Exited { code, signal });
            }
            Event::Notice(message) => front.tell(&ToFront::Notice { message }),
            Event::Stop { grace } => end_all(grace, &debuggee.helpers),
            Event::NobodyLeft => break,
        }
    }
    if !program_ended {
        // The last process under the filter is gone; its status follows at once.
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while let Ok(event) =
            events.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()))
        {
            if let Event::ProgramEnded { code, signal } = event {
                journal.note(SessionEvent::Ended { code, signal });
                front.tell(&ToFront::Exited { code, signal });
                break;
            }
        }
    }
    link.close();
}

/// Asks all descendants to end, then ends them.
fn end_all(grace: Duration, helpers: &[i32]) {
    let own = std::process::id() as i32;
    let others =
        || sys::descendants(own).into_iter().filter(|pid| !helpers.contains(pid)).collect::<Vec<_>>();
    for pid in others() {
        let _ = sys::kill(pid, libc::SIGTERM);
    }
    let deadline = std::time::Instant::now() + grace;
    while std::time::Instant::now() < deadline && !others().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..50 {
        let left = others();
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Box<Failure>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|error| internal("no thread can be started", &error))
}

fn watch_front(front: &Front, events: mpsc::Sender<Event>) -> Result<(), Box<Failure>> {
    let socket = front.socket.try_clone().map_err(|error| internal("the front cannot be heard", &error))?;
    spawn("front", move || {
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            if let Ok(message) = serde_json::from_str(&line)
                && events.send(Event::Front(message)).is_err()
            {
                return;
            }
        }
        let _ = events.send(Event::FrontGone);
    })
}

/// Reaps what ends below this process, and tells of the program.
fn reap(program: i32, events: &mpsc::Sender<Event>) {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
        if pid < 0 {
            if sys::errno() == libc::EINTR {
                continue;
            }
            return;
        }
        if pid == program {
            let (code, signal) = if libc::WIFEXITED(status) {
                (Some(libc::WEXITSTATUS(status)), None)
            } else {
                (None, Some(libc::WTERMSIG(status)))
            };
            if events.send(Event::ProgramEnded { code, signal }).is_err() {
                return;
            }
        }
    }
}

/// The terminal is the program's: the host leaves its process group and writes to its log alone.
fn leave_terminal(folder: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    for signal in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTOU,
        libc::SIGTTIN,
        libc::SIGHUP,
        libc::SIGPIPE,
    ] {
        sys::ignore_signal(signal);
    }
    nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))?;
    let log =
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("host.log"))?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for (from, to) in [(null.as_raw_fd(), 0), (null.as_raw_fd(), 1), (log.as_raw_fd(), 2)] {
        // SAFETY: replaces this process's own standard streams.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let level = std::env::var("MIRRORD_IDE_LOG").unwrap_or_else(|_| "info".into());
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_else(|_| "info".into());
    // A second subscriber in one process is a test's; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    Ok(())
}

/// Lets go of descriptors that were the program's to inherit: pipes end when the program ends, not when the host does.
fn close_inherited(front: &UnixStream) {
    use std::os::fd::AsRawFd;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in numbers {
        if fd <= 2 || fd == front.as_raw_fd() {
            continue;
        }
        // Whatever was not made by us is not close-on-exec, and all that we make is.
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: inherited, so nothing of ours owns it.
            unsafe { libc::close(fd) };
        }
    }
}

fn random_cookie() -> std::io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is writable for its length.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } != 8 {
        return Err(std::io::Error::last_os_error());
    }
    // A program that leaves small numbers in the unused register must not hit it.
    Ok(u64::from_ne_bytes(bytes) | 1 << 63 | 1)
}

fn nsswitch() -> Vec<u8> {
    let own = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let mut text: String = own.lines().filter(|line| !line.trim_start().starts_with("hosts:")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    text.push_str("hosts: files dns\n");
    text.into_bytes()
}

fn check_incoming(ticket: &Ticket, welcome: &Welcome) -> Result<(), Box<Failure>> {
    let wanted = ticket.network.incoming.mode != protocol::host::IncomingMode::Off;
    if wanted && !welcome.incoming {
        return Err(failure(
            "incoming-unavailable",
            format!("the agent cannot take over ports of {}: {}", ticket.target.path, welcome.incoming_why),
            "set feature.network.incoming to off, or let the agent have NET_ADMIN",
        ));
    }
    Ok(())
}

fn follow_link(runtime: &tokio::runtime::Runtime, link: &AgentLink, journal: &Arc<Journal>) {
    let (mut events, journal) = (link.events(), Arc::clone(journal));
    runtime.spawn(async move {
        loop {
            match events.recv().await {
                Ok(LinkEvent::Agent(event)) => journal.warn(&event.kind, event.message),
                Ok(LinkEvent::Closing(closing)) => journal.warn(&closing.kind, closing.message),
                Ok(LinkEvent::State { state, message }) => {
                    tracing::warn!(?state, "{message}");
                    journal.note(SessionEvent::Agent { state, message });
                }
                Ok(LinkEvent::PortLost { port, message }) => {
                    journal.warn("port-lost", format!("port {port} is with the pod again: {message}"));
                }
                Ok(LinkEvent::PortBack { port }) => {
                    journal.warn("port-back", format!("port {port} is taken over again"));
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    });
}

/// Tells the front of what makes the debuggee behave unlike the pod.
async fn show_notices(mut journal: tokio::sync::broadcast::Receiver<HostEvent>, events: mpsc::Sender<Event>) {
    loop {
        let message = match journal.recv().await {
            Ok(HostEvent::Happened { event: SessionEvent::Warning { message, .. }, .. }) => message,
            Ok(HostEvent::Happened { event: SessionEvent::Agent { state, message }, .. }) => match state {
                AgentState::Connected => format!("the agent is back: {message}"),
                AgentState::Reconnecting => format!("the agent is lost, a new link is being made: {message}"),
                AgentState::Lost => format!("the agent is lost: {message}"),
            },
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        };
        if events.send(Event::Notice(message)).is_err() {
            return;
        }
    }
}

fn open_control(
    runtime: &tokio::runtime::Runtime,
    folder: &Path,
    journal: &Arc<Journal>,
    state: &Arc<Running>,
) -> Result<(), Box<Failure>> {
    let _inside = runtime.enter();
    let path = folder.join("host.sock");
    let listener = tokio::net::UnixListener::bind(&path)
        .map_err(|error| internal(&format!("{} cannot be made", path.display()), &error))?;
    runtime.spawn(control::serve(listener, Arc::clone(journal), Arc::clone(state)));
    Ok(())
}

/// The agent's files, for the file server.
struct AgentFiles(AgentLink);

impl PodFs for AgentFiles {
    fn request(&self, op: Op) -> Result<Response, i32> {
        self.0.request_blocking(op).map_err(|error| error.errno() as i32)
    }
}

/// What `host.sock` answers for.
struct Running {
    ticket: Ticket,
    command: Vec<String>,
    mode: String,
    started_at: u64,
    pid: i32,
    link: AgentLink,
    supervised: Supervised,
    sockets: Arc<Sockets>,
    paths: Arc<Paths>,
    events: std::sync::Mutex<mpsc::Sender<Event>>,
}

impl Commands for Running {
    async fn carry_out(&self, command: HostCommand) -> Option<HostEvent> {
        match command {
            HostCommand::Attach { .. } => Some(self.status()),
            HostCommand::Stop { grace_ms } => {
                let stop = Event::Stop { grace: Duration::from_millis(grace_ms.into()) };
                // A host that ends by itself needs no telling.
                let _ = crate::traps::process::lock(&self.events).send(stop);
                None
            }
            HostCommand::MoveAgent { endpoint } => {
                self.supervised.move_to(endpoint);
                None
            }
            HostCommand::Subscribe { pod_port, local_port } => {
                let sockets = Arc::clone(&self.sockets);
                let taken =
                    tokio::task::spawn_blocking(move || sockets.subscribe(pod_port, local_port)).await;
                match taken {
                    Ok(true) => Some(self.status()),
                    _ => Some(HostEvent::Refused(*failure(
                        "port-refused",
                        format!("port {pod_port} of the pod is not taken over"),
                        "the session's events say why",
                    ))),
                }
            }
            HostCommand::Explain { what } => Some(self.explain(&what)),
        }
    }

    fn status(&self) -> HostEvent {
        HostEvent::Status(HostStatus {
            session: self.ticket.session.clone(),
            host_pid: std::process::id() as i32,
            debuggee_pid: self.pid,
            target: self.ticket.target.clone(),
            mode: self.mode.clone(),
            agent: self.link.state(),
            endpoint: self.link.endpoint(),
            ports: self.sockets.ports(),
            command: self.command.clone(),
            started_at: self.started_at,
        })
    }
}

impl Running {
    fn explain(&self, what: &str) -> HostEvent {
        if what.starts_with('/') {
            let mut buffer = vec![0; what.len() + 1];
            let path = policy::normalize(what.as_bytes(), &mut buffer).unwrap_or(what.as_bytes());
            let (place, rule) = self.paths.places().explain(path);
            return HostEvent::Explained { place: format!("{place:?}"), rule };
        }
        HostEvent::Refused(*failure(
            "not-a-path",
            format!("{what} is no absolute path"),
            "give a path such as /etc/hosts",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_comes_before_what_the_user_preloads() {
        let mut environment = env::Environment::from([("LD_PRELOAD".into(), "/a.so:/b.so".into())]);
        preload(&mut environment, "/layer.so");
        let value = |name: &str| environment[std::ffi::OsStr::new(name)].to_string_lossy().into_owned();
        assert_eq!(value("LD_PRELOAD"), "/layer.so:/a.so:/b.so");
        assert_eq!(value("ASAN_OPTIONS"), "verify_asan_link_order=0");
        let mut environment = env::Environment::from([("ASAN_OPTIONS".into(), "detect_leaks=0".into())]);
        preload(&mut environment, "/layer.so");
        let value = |name: &str| environment[std::ffi::OsStr::new(name)].to_string_lossy().into_owned();
        assert_eq!(value("LD_PRELOAD"), "/layer.so");
        assert_eq!(value("ASAN_OPTIONS"), "detect_leaks=0:verify_asan_link_order=0");
    }

    #[test]
    fn a_layer_that_the_loader_would_split_is_not_preloaded() {
        assert!(is_preloadable("/proc/self/exe"));
        assert!(!is_preloadable("/no/such/layer.so"));
        let folder = std::env::temp_dir().join(format!("a layer {}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("layer.so"), "").unwrap();
        assert!(!is_preloadable(&folder.join("layer.so").display().to_string()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
