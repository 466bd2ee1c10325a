//! The same tests as an ordinary user: this test program once more, under another user.

use super::*;
use std::process::Command;

/// Opens `/dev/fuse` to all, as distributions ship it, and puts it back.
struct OpenDevice(Option<u32>);

impl OpenDevice {
    fn new() -> Self {
        let Ok(meta) = std::fs::metadata("/dev/fuse") else { return Self(None) };
        let mode = meta.permissions().mode();
        std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(0o666)).unwrap();
        Self(Some(mode))
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        if let Some(mode) = self.0 {
            std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

#[test]
fn an_ordinary_user_gets_the_same() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ide-files-user-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let device = OpenDevice::new();
    // fusermount3 wants a user with a name.
    let named = ["games", "news", "backup"];
    let user = named.iter().find_map(|name| nix::unistd::User::from_name(name).unwrap());
    let (uid, gid) = user.map_or((1001, 1001), |user| (user.uid.as_raw(), user.gid.as_raw()));
    let output = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}")])
        .args(["--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args([
            "files::tests::kernel",
            "files::tests::behaviour",
            "files::tests::endings",
            "--nocapture",
            "--test-threads=4",
        ])
        .env("TMPDIR", &folder)
        .current_dir("/")
        .output();
    drop(device);
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in said.lines().filter(|line| line.starts_with("SKIPPED") || line.starts_with("test result")) {
        println!("{line}");
    }
    assert!(!said.contains("running 0 tests"));
}
