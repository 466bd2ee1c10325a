//! The session host: an ancestor of the debuggee that answers its trapped calls and outlives its last descendant.
//!
//! Order matters at the start: what forks comes first, while there is one thread (the mount helper, the child that
//! becomes the program); then the link to the agent, the files, the sockets; then the program runs.

mod explain;
mod failure;
mod held;
mod layer;
mod mode;
mod processes;
mod running;
mod streams;

use crate::agent_link::{AgentLink, LinkEvent, Supervised};
use crate::control::{self, Journal};
use crate::files::{self, FileServer, PodFs};
use crate::launch;
use crate::places::Places;
use crate::sockets::{PodFacts, Sockets};
use crate::traps::notify::Listener;
use crate::traps::paths::Paths;
use crate::traps::process::Callers;
use crate::traps::{Engine, filter};
use crate::{env, skip, sys};
use failure::{agent_unreachable, failure, internal};
use held::{Held, Outputs};
use layer::{is_preloadable, preload};
use processes::{end_all, reap};
use protocol::agent::{Response, Welcome, request::Op};
use protocol::host::{AgentState, Failure, FromFront, HostEvent, Launch, SessionEvent, Ticket, ToFront};
use running::Running;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use streams::{close_inherited, leave_terminal, put_in_foreground};

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
    let Launch { ticket, command, outlives_editor } = read_launch(front)?;
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
    let held = if outlives_editor { Held::open() } else { Ok(Held::default()) };
    let held = held.map_err(|error| internal("no pipes can be made for the program", &error))?;
    let copying = filter::program(&traps, cookie);
    if network {
        traps.extend(filter::making_traps(!ticket.network.unix_streams.is_empty()));
    }
    let filters = launch::Filters { copying, making: filter::program(&traps, cookie) };
    let child = launch::fork(program, &filters, cookie)?;
    let child_pid = child.pid;
    put_in_foreground(child_pid).map_err(|error| internal("the program cannot have its terminal", &error))?;
    let outcome = serve_child(front, &ticket, command, Forked { child, held, helpers, cookie }, prepared);
    if outcome.is_err() {
        // It waits for an environment that never comes.
        let _ = sys::kill(child_pid, libc::SIGKILL);
    }
    outcome
}

/// What was forked while there was one thread.
struct Forked {
    child: launch::Waiting,
    /// What stands for the editor's streams.
    held: Held,
    /// Processes below the host that are none of the program's.
    helpers: Vec<i32>,
    cookie: u64,
}

/// How long the front may be kept for the agent to give the ports back.
const GIVE_BACK: Duration = Duration::from_secs(1);
/// How long the front may be kept for an editor to take the program's last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The processes below the host.
struct Debuggee {
    pid: i32,
    helpers: Vec<i32>,
    outputs: Outputs,
}

impl Debuggee {
    /// Whether the program has left no process behind.
    fn is_alone(&self) -> bool {
        sys::descendants(std::process::id() as i32).iter().all(|pid| self.helpers.contains(pid))
    }
}

fn serve_child(
    front: &mut Front,
    ticket: &Ticket,
    command: Vec<String>,
    forked: Forked,
    prepared: files::Prepared,
) -> Result<(), Box<Failure>> {
    let Forked { child, held, helpers, cookie } = forked;
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
    let no_copies = child.no_copies.filter(|_| Sockets::enabled(&ticket.network));
    let mode = mode::words(engine, &server, no_copies);
    let less = mode::less(&server, no_copies);
    let places = Places::compile(&ticket.files, &welcome.mounts, server.view())
        .map_err(|error| failure("config-invalid", error.to_string(), "check feature.fs"))?;
    let policy = policy::to_text(places.table().to_bytes());
    let mut paths = Paths::new(places, Arc::new(server), Arc::clone(&journal));
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
        no_copies.is_some(),
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
        sockets: Arc::clone(&sockets),
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
    if let Some(less) = less {
        journal.warn("less-than-usual", less);
    }
    child.run(&command, &environment)?;
    close_inherited(&front.socket);
    let outputs =
        held.start().map_err(|error| internal("the program's output cannot be passed on", &error))?;
    front.tell(&ToFront::Started { pid, mode });

    watch_front(front, events_tx.clone())?;
    spawn("reaper", move || reap(pid, &events_tx))?;
    attend(front, &events, &journal, &Debuggee { pid, helpers, outputs }, &sockets);
    link.leave();
    let _ = std::fs::remove_file(folder.join("host.sock"));
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(())
}

fn attend(
    front: &mut Front,
    events: &mpsc::Receiver<Event>,
    journal: &Journal,
    debuggee: &Debuggee,
    sockets: &Sockets,
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
                sockets.let_go_of_closed();
                // What the program left running may go on serving.
                if debuggee.is_alone() {
                    sockets.give_all_back(GIVE_BACK);
                }
                debuggee.outputs.drain(LAST_WORDS);
                journal.note(SessionEvent::Ended { code, signal });
                front.tell(&ToFront::Exited { code, signal });
            }
            Event::Notice(message) => front.tell(&ToFront::Notice { message }),
            Event::Stop { grace } => end_all(grace, &debuggee.helpers),
            Event::NobodyLeft => break,
        }
    }
    if !program_ended {
        sockets.give_all_back(GIVE_BACK);
        // The last process under the filter is gone; its status follows at once.
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while let Ok(event) =
            events.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()))
        {
            if let Event::ProgramEnded { code, signal } = event {
                debuggee.outputs.drain(LAST_WORDS);
                journal.note(SessionEvent::Ended { code, signal });
                front.tell(&ToFront::Exited { code, signal });
                break;
            }
        }
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
