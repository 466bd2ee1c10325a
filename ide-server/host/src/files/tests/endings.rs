//! A host that is killed, and a machine that bars user namespaces: this test program once more as another process.

use super::*;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "FILES_TEST_ROLE";

/// Runs `role` of [`a_host_in_another_process`] by this program.
fn another(role: &str, folder: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "files::tests::endings::a_host_in_another_process", "--nocapture"]);
    command.env(ROLE, role).env("TMPDIR", folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("ide-files-host-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Does something only when another test starts it: serves by the named way until it is killed, or tells what the
/// default way is.
#[test]
fn a_host_in_another_process() {
    let Some(role) = std::env::var_os(ROLE).and_then(|role| role.into_string().ok()) else { return };
    if role == "default" {
        let folder = std::env::temp_dir();
        let pod = Arc::new(TestPod::new(&folder));
        let creds = Creds { uid: 0, gid: 0, groups: Vec::new() };
        let server = FileServer::start(prepare(), pod, creds, &folder).unwrap();
        std::fs::write(folder.join("file"), "content").unwrap();
        let mut content = String::new();
        File::from(server.open(b"/file", 0, 0, 0, Rights::Read).unwrap())
            .read_to_string(&mut content)
            .unwrap();
        println!("\nSERVED {content} by {:?}: {}", server.backend(), server.why_not());
        return;
    }
    let way = if role == "userns" { Backend::FuseUserns } else { Backend::FuseMount3 };
    let Some(scene) = Scene::new(way) else {
        println!("\nSKIPPED");
        return;
    };
    let before: Vec<u8> = (0..2u32 << 20).map(|number| (number >> 12) as u8).collect();
    scene.write("large", &before);
    let open = scene.open("/large", 0).unwrap();
    println!("\nSERVING {} {}", open.as_raw_fd(), scene.folder.display());
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
}

/// Processes with this name, their state aside from zombies.
fn helpers_of(parent: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/stat")).is_ok();
    assert!(children, "the host lives");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.lines().any(|line| line == format!("PPid:\t{parent}")))
        })
        .collect()
}

#[test]
fn a_killed_host_leaves_nothing_behind_and_nobody_waiting() {
    for role in ["userns", "fusermount"] {
        let folder = Folder::new();
        let mut host = another(role, &folder.0).spawn().unwrap();
        let mut said = BufReader::new(host.stdout.take().unwrap());
        let serving = loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "{role}: the host ended");
            if line.starts_with("SERVING") || line.starts_with("SKIPPED") {
                break line;
            }
        };
        let Some(("SERVING", rest)) = serving.trim().split_once(' ') else {
            println!("SKIPPED {role}");
            host.kill().unwrap();
            host.wait().unwrap();
            continue;
        };
        let (fd, _) = rest.split_once(' ').unwrap();
        let held = File::open(format!("/proc/{}/fd/{fd}", host.id())).unwrap();
        let mut byte = [0];
        held.read_exact_at(&mut byte, 4096).unwrap();
        assert_eq!(byte, [1]);
        let helpers = helpers_of(host.id());
        if role == "userns" {
            assert_eq!(helpers.len(), 1, "the helper that holds the namespaces");
        }
        host.kill().unwrap();
        host.wait().unwrap();
        let start = Instant::now();
        assert_eq!(
            held.read_at(&mut byte, 1 << 20).unwrap_err().raw_os_error(),
            Some(libc::ENOTCONN),
            "{role}: content that was not read before"
        );
        assert!(start.elapsed() < Duration::from_secs(1));
        let gone = || {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let alive = |pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/status"))
                    .is_ok_and(|status| !status.contains("State:\tZ"))
            };
            !mounts.contains(folder.0.to_str().unwrap()) && !helpers.iter().any(alive)
        };
        while !gone() {
            assert!(start.elapsed() < Duration::from_secs(5), "{role}: a mount or a helper is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn where_user_namespaces_are_barred_files_are_served_all_the_same() {
    let folder = Folder::new();
    // In a user namespace of its own the limit is its own too.
    let host = another("default", &folder.0);
    let mut barred = Command::new("unshare");
    barred
        .args(["-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"])
        .arg(host.get_program())
        .args(host.get_args())
        .envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    let output = barred.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let served = said.lines().find(|line| line.starts_with("SERVED")).unwrap();
    assert!(served.starts_with("SERVED content by "), "{served}");
    assert!(!served.contains("by FuseUserns"), "{served}");
    assert!(served.contains("no FUSE in a user namespace: cannot make a user namespace"), "{served}");
}

#[test]
fn the_best_way_is_taken_by_default() {
    let folder = Folder::new();
    let output = another("default", &folder.0).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let expected = if Scene::new(Backend::FuseUserns).is_some() { "FuseUserns: " } else { "" };
    assert!(said.contains(&format!("SERVED content by {expected}")), "{said}");
}
