//! An agent on this machine, inside the namespaces of one process: the "pod" of a local target.

use super::record::{AgentRecord, Place};
use super::{AgentSpec, Order, process};
use crate::embedded;
use crate::state::{self, StateFolder};
use protocol::auth::PublicKey;
use protocol::host::Endpoint;
use protocol::ide::{ErrorData, ErrorKind};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long an agent of this machine may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an agent of this machine is to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LocalSpec {
    /// The target.
    pub pid: i32,
    /// The target's start time.
    pub start_time: u64,
    /// What the agent logs.
    pub log_level: String,
}

impl LocalSpec {
    /// Equal for sessions that can share an agent.
    pub fn key(&self) -> String {
        format!("process:{}:{}", self.pid, self.start_time)
    }
}

/// Starts an agent and waits until it listens. On failure, or when `cancel` comes, nothing of it is left.
pub(crate) async fn create(
    state: &StateFolder,
    spec: &LocalSpec,
    order: &Order,
) -> Result<AgentRecord, ErrorData> {
    let Order { agent, keys, idle, cancel, .. } = order;
    let program = embedded::agent()?;
    let socket = state.agent(agent, "sock");
    let admin = state.agent(agent, "admin");
    let log = state.agent(agent, "log");
    let stderr = OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(|error| {
        failed("the agent's log cannot be written", "make room in the state folder").caused_by(&error)
    })?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()))
        .args(keys.iter().flat_map(|key| ["--admit".to_owned(), key.to_string()]))
        .arg("--admin")
        .arg(&admin)
        .args(["--target", &format!("pid:{}", spec.pid), "--hold"])
        .args(["--idle-seconds", &idle.as_secs().max(1).to_string()])
        .args(["--log", log_level(&spec.log_level)])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let mut child = spawn(&mut command)
        .await
        .map_err(|error| failed("the agent cannot be started", "see the cause").caused_by(&error))?;
    let ready = tokio::select! {
        ready = wait_until_ready(&mut child) => ready,
        () = tokio::time::sleep(PATIENCE) => Err("it did not say that it is ready".to_owned()),
        () = cancel.cancelled() => Err("it was not wanted any more".to_owned()),
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let started = pid.and_then(|pid| Some((pid, process::start_time(pid)?)));
    match (ready, started) {
        (Ok(()), Some((pid, start_time))) => {
            // The kernel needs a parent that waits, for as long as we are the parent.
            tokio::spawn(async move { child.wait().await });
            Ok(AgentRecord {
                agent: agent.clone(),
                key: spec.key(),
                own: Some(order.own.clone()),
                ready: false,
                spare: Vec::new(),
                spec: Some(AgentSpec::Local(spec.clone())),
                target: format!("process/{}", spec.pid),
                endpoint: Endpoint::Unix { path: socket.display().to_string() },
                idle_seconds: idle.as_secs(),
                place: Place::Process { pid, start_time, admin: admin.display().to_string() },
            })
        }
        (ready, _) => {
            let reason = ready.err().unwrap_or_else(|| "it ended at once".to_owned());
            if let Err(error) = child.kill().await {
                tracing::debug!(%error, "the agent had ended before it was killed");
            }
            let told = last_lines(&std::fs::read_to_string(&log).unwrap_or_default());
            remove_files(state, agent);
            let message = match told.first() {
                Some(_) => format!("the agent for process/{} failed: {}", spec.pid, told.join("; ")),
                None => format!("the agent for process/{} failed: {reason}", spec.pid),
            };
            let help = "entering another process's namespaces needs its user and, for network and mount namespaces, \
                        root or a user namespace of one's own";
            Err(failed(&message, help).fact("phase", "start").target(format!("process/{}", spec.pid)))
        }
    }
}

/// Starts a program that may have been unpacked a moment ago: until its exec, a process that was forked meanwhile for
/// another session still has it open for writing, and the kernel refuses to run it (ETXTBSY).
async fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < 50 => tries += 1,
            spawned => return spawned,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The level in what `agent.log_level` says, which may be a filter: `agent=debug`.
pub(crate) fn log_level(text: &str) -> &str {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    text.split([',', '='])
        .map(str::trim)
        .find(|word| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)))
        .unwrap_or("info")
}

async fn wait_until_ready(child: &mut Child) -> Result<(), String> {
    let Some(stdout) = child.stdout.take() else { return Err("it has no standard output".to_owned()) };
    let mut lines = BufReader::new(stdout).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) if line.starts_with("ready") => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => return Err("it ended before it was ready".to_owned()),
            Err(error) => return Err(format!("its standard output broke: {error}")),
        }
    }
}

/// What an agent said last: its errors where there are any, else its last line.
fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<String> =
        lines.iter().filter_map(|line| line.strip_prefix("error: ")).map(str::to_owned).collect();
    if errors.is_empty() { lines.last().map(|line| (*line).to_owned()).into_iter().collect() } else { errors }
}

/// Lets one more session in.
pub async fn admit(admin: &str, key: PublicKey) -> Result<(), ErrorData> {
    let output = Command::new(embedded::agent()?)
        .args(["admit", "--socket", admin, &key.to_string()])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed("the agent's program cannot be run", "see the cause").caused_by(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(&format!("the agent lets no further session in: {}", said.trim()), "try again").retryable())
}

/// Ends an agent and removes its files.
pub async fn remove(state: &StateFolder, agent: &str, pid: i32, start_time: u64) {
    if process::lives(pid, start_time) {
        process::terminate(pid);
        if tokio::time::timeout(Duration::from_secs(3), process::wait_for_end(pid)).await.is_err()
            && process::lives(pid, start_time)
        {
            tracing::warn!(agent, pid, "an agent did not end in time and is killed");
            process::kill(pid);
            process::wait_for_end(pid).await;
        }
    }
    remove_files(state, agent);
}

fn remove_files(state: &StateFolder, agent: &str) {
    for extension in ["sock", "admin", "log", "json"] {
        if let Err(error) = state::remove(&state.agent(agent, extension)) {
            tracing::error!(agent, extension, %error, "a file of an agent cannot be removed");
        }
    }
}

fn failed(message: &str, help: &str) -> ErrorData {
    ErrorData::new(ErrorKind::AgentFailed, message, help)
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn an_agents_errors_are_told_before_its_other_lines() {
        assert_eq!(last_lines("INFO a\nerror: no such process\n"), ["no such process"]);
        assert_eq!(last_lines("INFO a\nINFO b\n\n"), ["INFO b"]);
        assert!(last_lines("").is_empty());
    }
}
