//! Containers of this machine as targets: which process is the container.
//!
//! Docker, Podman and nerdctl are asked by their own command lines, which know the user's sockets and rootless set-ups;
//! an id is found without them in the cgroups of the processes.

use protocol::ide::{ErrorData, ErrorKind};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const ENGINES: &[&str] = &["docker", "podman", "nerdctl"];
const PATIENCE: Duration = Duration::from_secs(3);
/// What `docker ps` shows of an id.
const SHORTEST_ID: usize = 12;

/// The first process of a container by its name or id.
pub(super) async fn process_of(name: &str) -> Result<u32, ErrorData> {
    let mut asked = Vec::new();
    for engine in ENGINES {
        match ask(engine, name).await {
            Answer::Pid(pid) => return Ok(pid),
            Answer::Stopped => {
                return Err(ErrorData::new(
                    ErrorKind::TargetUnusable,
                    format!("container {name} does not run"),
                    format!("start it: {engine} start {name}"),
                )
                .target(format!("container/{name}"))
                .retryable());
            }
            Answer::Unknown(words) => asked.push(format!("{engine}: {words}")),
            Answer::NoEngine => {}
        }
    }
    if let Some(pid) = by_id(name) {
        return Ok(pid);
    }
    let help = match asked.as_slice() {
        [] => "install docker, podman or nerdctl to name containers, or name its process: process/PID",
        _ => "see `docker ps` or `podman ps` for the names of those that run",
    };
    let mut error = ErrorData::new(
        ErrorKind::TargetNotFound,
        format!("there is no container {name} on this machine"),
        help,
    )
    .target(format!("container/{name}"));
    error.cause = asked;
    Err(error)
}

enum Answer {
    Pid(u32),
    Stopped,
    Unknown(String),
    NoEngine,
}

async fn ask(engine: &str, name: &str) -> Answer {
    let mut command = Command::new(engine);
    command
        .args(["inspect", "--type", "container", "--format", "{{.State.Pid}}", "--", name])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            match String::from_utf8_lossy(&output.stdout).trim().parse() {
                Ok(0) => Answer::Stopped,
                Ok(pid) => Answer::Pid(pid),
                Err(_) => Answer::Unknown("its answer is not understood".to_owned()),
            }
        }
        Ok(Ok(output)) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Answer::Unknown(words.lines().last().unwrap_or("no such container").trim().to_owned())
        }
        Ok(Err(_)) => Answer::NoEngine,
        Err(_) => Answer::Unknown("no answer within 3 s".to_owned()),
    }
}

/// The lowest process whose cgroup names a container id that begins so.
fn by_id(id: &str) -> Option<u32> {
    if id.len() < SHORTEST_ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|cgroups| names_container(&cgroups, id))
        })
        .min()
}

/// Whether cgroup lines name the container: `…/docker/ID`, `…/docker-ID.scope`, `…/cri-containerd-ID.scope`.
fn names_container(cgroups: &str, id: &str) -> bool {
    cgroups.split(['/', '\n', ':', '-', '.']).any(|part| {
        part.len() == 64 && part.starts_with(id) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_the_cgroups_of_docker_podman_and_containerd() {
        let id = "4f".repeat(32);
        for line in [
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("12:pids:/docker/{id}\n"),
            format!(
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container\n"
            ),
            format!("3:cpu:/kubepods/besteffort/pod1-2-3/{id}\n"),
        ] {
            assert!(names_container(&line, &id[..12]), "{line}");
            assert!(!names_container(&line, "0123456789ab"), "{line}");
        }
        assert_eq!(by_id("shop"), None);
    }

    #[tokio::test]
    async fn a_container_that_is_nowhere_is_not_found() {
        let error = process_of("mirrord-ide-no-such-container").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TargetNotFound);
    }
}
