//! The layer as it is shipped, preloaded into real programs: what it passes, what it leaves to the trap, that it does
//! no harm, and that old systems can load it. `calls.c` is the program; its filter stands for the session host's.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by panicking")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs};

const COOKIE: &str = "1122334455667788";

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The shipped form: another profile than the tests' own, so cargo is run for it.
fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let target = scratch().join("shipped");
        let done = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--profile",
                "embedded",
                "-p",
                "preload-layer",
                "--target-dir",
            ])
            .arg(&target)
            .current_dir(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
            .env_remove("CARGO_TARGET_DIR")
            .status();
        assert!(done.unwrap().success(), "the shipped layer does not build");
        target.join("embedded/libpreload_layer.so")
    })
}

/// Compiles a C source of this folder. `cc` is there, being what rustc links with.
fn compiled(source: &str, output: &str, options: &[&str]) -> PathBuf {
    let output = scratch().join(output);
    let source = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests").join(source);
    let done =
        Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&output).arg(source).args(options).status();
    assert!(done.unwrap().success(), "the C program does not compile");
    output
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("calls.c", "calls", &["-pthread", "-ldl"]))
}

/// One tree of the pod's, all else local.
fn policy() -> String {
    let mut table = policy::PathTable::new(policy::Verdict::Local);
    table.push(policy::RuleKind::Tree, b"/remote", policy::Verdict::RemoteRead).unwrap();
    policy::to_text(table.to_bytes())
}

fn folder(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a program under the layer (and `more` behind it) and answers what it wrote; it has 30 seconds.
fn preloaded(command: &mut Command, more: &[&Path]) -> String {
    let mut list = OsString::from(layer());
    for library in more {
        list.push(":");
        list.push(library);
    }
    command.env("LD_PRELOAD", list).env("MIRRORD_IDE_COOKIE", COOKIE).env("MIRRORD_IDE_POLICY", policy());
    run(command)
}

fn run(command: &mut Command) -> String {
    let mut output = env::temp_dir();
    output.push(format!("layer-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = fs::File::create(&output).unwrap();
    let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
    fs::remove_file(&output).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {text}");
    text
}

/// Lines that name what they expect, as `what: expected found`.
fn check_expectations(text: &str) -> usize {
    let mut checked = 0;
    for line in text.lines() {
        let Some((what, rest)) = line.rsplit_once(": ") else { continue };
        let (expected, found) = rest.split_once(' ').unwrap();
        assert_eq!(found, expected, "{what}");
        checked += 1;
    }
    checked
}

#[test]
fn local_paths_pass_and_remote_ones_are_trapped() {
    let text = preloaded(Command::new(program()).arg("table").arg(folder("table")), &[]);
    let (functions, cases) = text.split_once("--\n").unwrap();
    assert!(functions.lines().count() >= 60, "{functions}");
    for line in functions.lines() {
        assert!(line.ends_with(" passed trapped"), "{line}");
    }
    assert!(check_expectations(cases) >= 33, "{cases}");
}

#[test]
fn without_a_session_nothing_is_passed() {
    let table = || {
        let mut command = Command::new(program());
        command
            .arg("table")
            .arg(folder("idle"))
            .env("MIRRORD_IDE_COOKIE", COOKIE)
            .env_remove("MIRRORD_IDE_POLICY");
        command
    };
    for text in [run(&mut table()), run(table().env("LD_PRELOAD", layer()))] {
        let (functions, _) = text.split_once("--\n").unwrap();
        for line in functions.lines() {
            assert!(line.ends_with(" trapped trapped"), "{line}");
        }
    }
}

#[test]
fn messages_without_an_address_pass_where_they_cannot_wait() {
    let text = preloaded(Command::new(program()).arg("messages"), &[]);
    assert_eq!(check_expectations(&text), 14, "{text}");
}

#[test]
fn threads_that_wait_for_messages_can_be_cancelled() {
    let text = preloaded(Command::new(program()).arg("cancel"), &[]);
    assert_eq!(text, "a thread in recvmsg is cancelled: yes\na thread in sendmsg is cancelled: yes\n");
}

#[test]
fn signal_handlers_on_small_stacks_threads_forks_and_vforks_meet_in_the_hooks() {
    let text = preloaded(Command::new(program()).arg("storm").arg(folder("storm")), &[]);
    assert_eq!(text, "0 failures, handlers ran\n");
}

#[test]
fn hooks_work_before_the_layers_own_constructor() {
    let early = compiled("early.c", "early.so", &["-shared", "-fPIC"]);
    assert_eq!(preloaded(Command::new("echo").arg("started"), &[&early]), "started\n");
}

#[test]
fn allocators_can_be_preloaded_before_and_behind() {
    let found: Vec<PathBuf> = ["libjemalloc.so.2", "libtcmalloc.so.4", "libtcmalloc_minimal.so.4"]
        .iter()
        .flat_map(|name| {
            ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
                .map(|f| Path::new(f).join(name))
        })
        .filter(|path| path.exists())
        .collect();
    if found.is_empty() {
        println!(
            "skipped: neither jemalloc nor tcmalloc is installed (apt install libjemalloc2 libtcmalloc-minimal4)"
        );
    }
    for allocator in found {
        let behind = preloaded(Command::new(program()).arg("storm").arg(folder("behind")), &[&allocator]);
        assert_eq!(behind, "0 failures, handlers ran\n", "{}", allocator.display());
        let mut list = OsString::from(&allocator);
        list.push(":");
        list.push(layer());
        let mut before = Command::new(program());
        before.arg("storm").arg(folder("before")).env("LD_PRELOAD", list);
        before.env("MIRRORD_IDE_COOKIE", COOKIE).env("MIRRORD_IDE_POLICY", policy());
        assert_eq!(run(&mut before), "0 failures, handlers ran\n", "{}", allocator.display());
    }
}

#[test]
fn the_shipped_layer_is_small_and_loads_on_old_systems() {
    let size = fs::metadata(layer()).unwrap().len();
    assert!(size <= 64 * 1024, "{size} bytes: every program that is started loads them");
    let output = Command::new("objdump").args(["-T", "-p"]).arg(layer()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let needed: Vec<_> =
        text.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect();
    assert_eq!(needed, ["libc.so.6"]);
    let mut versions = 0;
    for (at, _) in text.match_indices("GLIBC_") {
        let version = text[at + 6..].split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
        assert!((numbers.next(), numbers.next()) <= (Some(2), Some(28)), "GLIBC_{version}");
        versions += 1;
    }
    assert!(versions > 5, "{text}");
}
