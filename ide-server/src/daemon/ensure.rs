//! `serve --ensure`: a daemon that answers, started if need be. The only thing that a client ever spawns.

use crate::rpc::client::Client;
use crate::state::StateFolder;
use protocol::ide::{DaemonStop, DaemonStopParams, Discovery, ErrorData, ErrorKind};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

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
    let mut child = spawn(state).map_err(|error| {
        ErrorData::new(
            ErrorKind::DaemonUnreachable,
            "the daemon cannot be started",
            "check that the mirrord-ide file is still where it was started from",
        )
        .caused_by(&error)
    })?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(discovery) = read(state)
            && let Ok(client) = Client::connect(&state.socket())
        {
            return Ok((client, discovery));
        }
        let ended = matches!(child.try_wait(), Ok(Some(status)) if !status.success());
        if ended || Instant::now() > deadline {
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

fn spawn(state: &StateFolder) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(state.log())?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("serve")
        .env("MIRRORD_IDE_STATE_DIR", state.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    command.spawn()
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
