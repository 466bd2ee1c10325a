//! `serve --ensure`: a daemon that answers, started if need be. The only thing that a client ever spawns.

use crate::rpc::client::Client;
use crate::state::StateFolder;
use protocol::ide::{DaemonStop, DaemonStopParams, Discovery, ErrorData, ErrorKind};
use std::fs::OpenOptions;
use std::io::{PipeReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_WITH_ANOTHER: Duration = Duration::from_secs(1);

/// Connects to the daemon, starting one if none answers. A daemon of another version gives way: sessions live on
/// without it and the new one takes them over.
pub fn ensure(state: &StateFolder) -> Result<(Client, Discovery), ErrorData> {
    if let Ok(mut client) = Client::connect(&state.socket())
        && let Some(discovery) = read(state)
    {
        if discovery.version == protocol::VERSION {
            return Ok((client, discovery));
        }
        client.call::<DaemonStop>(&DaemonStopParams { force: true })?;
        drop(client);
        wait_for_end(state);
    }
    let log_length = std::fs::metadata(state.log()).map_or(0, |metadata| metadata.len());
    let mut life = spawn(state).map_err(|error| {
        ErrorData::new(
            ErrorKind::DaemonUnreachable,
            "the daemon cannot be started",
            "check that the mirrord-ide file is still where it was started from",
        )
        .caused_by(&error)
    })?;
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        // In this order: what is read after somebody listens is not of a daemon that was killed.
        if let Ok(client) = Client::connect(&state.socket())
            && let Some(discovery) = read(state)
        {
            return Ok((client, discovery));
        }
        // It has given way to another one that is starting as well, or it failed.
        if life.take_if(has_ended).is_some() {
            deadline = deadline.min(Instant::now() + PATIENCE_WITH_ANOTHER);
        }
        if Instant::now() > deadline {
            return Err(not_up(state, log_length));
        }
        // bind(2) and listen(2) of another process cannot be waited for; a try costs microseconds.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The daemon that answers now, without starting one.
pub fn connect(state: &StateFolder) -> Option<Client> {
    Client::connect(&state.socket()).ok()
}

fn read(state: &StateFolder) -> Option<Discovery> {
    serde_json::from_slice(&std::fs::read(state.discovery()).ok()?).ok()
}

fn wait_for_end(state: &StateFolder) {
    let deadline = Instant::now() + PATIENCE;
    while state.socket().exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a daemon that is nobody's child: a front ends whatever descends from it, and this process may become one.
/// What comes back reads as ended when the daemon has ended.
fn spawn(state: &StateFolder) -> std::io::Result<Option<PipeReader>> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(state.log())?;
    let (life, held) = std::io::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("serve")
        .env("MIRRORD_IDE_STATE_DIR", state.root())
        // It is idle most of its life: an arena for each thread would only hold memory (1.5 MB of 27).
        .env("MALLOC_ARENA_MAX", "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(held)
        .stderr(log);
    // SAFETY: between fork and exec only fork(2), _exit(2) and setsid(2) are called, which are async-signal-safe, and
    // this process has no other thread.
    unsafe {
        command.pre_exec(|| match nix::unistd::fork() {
            Ok(nix::unistd::ForkResult::Parent { .. }) => libc::_exit(0),
            Ok(nix::unistd::ForkResult::Child) => nix::unistd::setsid().map(drop).map_err(Into::into),
            Err(error) => Err(error.into()),
        });
    }
    command.spawn()?.wait()?;
    nix::fcntl::fcntl(&life, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(Some(life))
}

fn has_ended(life: &mut PipeReader) -> bool {
    matches!(life.read(&mut [0; 64]), Ok(0))
}

/// The reason stands in what the daemon wrote since it was started.
fn not_up(state: &StateFolder, log_length: u64) -> ErrorData {
    let log = std::fs::read(state.log()).unwrap_or_default();
    let fresh = log.get(usize::try_from(log_length).unwrap_or(usize::MAX)..).unwrap_or_default();
    let mut error = ErrorData::new(
        ErrorKind::DaemonUnreachable,
        "the daemon was started and does not answer",
        format!("see {}", state.log().display()),
    )
    .retryable();
    error.cause = String::from_utf8_lossy(fresh).lines().last().map(str::to_owned).into_iter().collect();
    error
}
