//! Real uploads over loopback: what is taken, what is dropped, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "a test's failure is a panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

const PATIENCE: Duration = Duration::from_secs(20);
const STAGE0: &str = env!("CARGO_BIN_EXE_stage0");
const GREETING: &str = "mirrord-ide stage0 1\n";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stage0-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn words(address: SocketAddr, program: &[u8], folder: &Path) -> Vec<String> {
    let (address, size, folder) =
        (format!("tcp:{address}"), program.len().to_string(), folder.display().to_string());
    ["--listen", &address, "--size", &size, "--sha256", &hash(program), "--to", &folder]
        .map(str::to_owned)
        .into()
}

/// A stage 0 at work; killed when dropped.
struct Stage0 {
    child: Option<Child>,
    address: SocketAddr,
}

impl Stage0 {
    fn start(program: &[u8], folder: &Folder, options: &[&str], arguments: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new(STAGE0);
        command.args(words(address, program, &folder.0)).args(options).arg("--").args(arguments);
        Self::spawn(command, address)
    }

    fn spawn(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child), address }
    }

    /// Connects and reads the greeting, as soon as it listens.
    fn dial(&self) -> TcpStream {
        dial(self.address)
    }

    fn output(mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Stage0 {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    let since = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut greeting = [0; GREETING.len()];
            if stream.read_exact(&mut greeting).is_ok() {
                assert_eq!(greeting, GREETING.as_bytes());
                return stream;
            }
        }
        assert!(since.elapsed() < PATIENCE, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn upload(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = dial(address);
    stream.write_all(bytes).unwrap();
    rest(stream)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn echo() -> Vec<u8> {
    fs::read("/bin/echo").unwrap()
}

#[test]
fn what_has_the_right_hash_is_kept_and_run() {
    let (folder, program) = (Folder::new("good"), echo());
    let stage0 = Stage0::start(&program, &folder, &[], &["serve", "--listen", "x y"]);
    assert_eq!(upload(stage0.address, &program), "ok\n");
    let output = stage0.output();
    assert!(output.status.success());
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("serve --listen x y\n".into(), String::new()));
    assert_eq!(folder.names(), ["agent"]);
    let kept = folder.0.join("agent");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o500);
    assert!(fs::read(kept).unwrap() == program);
}

#[test]
fn its_successor_can_listen_on_the_same_port_at_once() {
    // The successor is another stage 0, which takes an upload there in turn.
    let (first, second) = (Folder::new("first"), Folder::new("second"));
    let (program, echo) = (fs::read(STAGE0).unwrap(), echo());
    let address = free_address();
    let mut command = Command::new(STAGE0);
    command.args(words(address, &program, &first.0)).arg("--");
    command.args(words(address, &echo, &second.0)).args(["--", "twice"]);
    let stage0 = Stage0::spawn(command, address);
    // Others that are connected meanwhile are in nobody's way.
    let _idle = stage0.dial();
    assert_eq!(upload(address, &program), "ok\n");
    assert_eq!(upload(address, &echo), "ok\n");
    assert_eq!(text(&stage0.output().stdout), "twice\n");
    assert_eq!((first.names(), second.names()), (vec!["agent".into()], vec!["agent".into()]));
}

#[test]
fn a_wrong_or_short_upload_is_dropped_and_the_next_may_come() {
    let (folder, program) = (Folder::new("wrong"), echo());
    let stage0 = Stage0::start(&program, &folder, &[], &["right"]);
    let mut wrong = program.clone();
    wrong[program.len() / 2] ^= 1;
    assert_eq!(upload(stage0.address, &wrong), "error: its SHA-256 is not the one ordered\n");
    let mut short = stage0.dial();
    short.write_all(&program[1..]).unwrap();
    short.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(short), "error: it ended too early\n");
    assert_eq!(folder.names(), Vec::<String>::new(), "what is dropped is removed");
    assert_eq!(upload(stage0.address, &program), "ok\n");
    let output = stage0.output();
    assert_eq!(text(&output.stdout), "right\n");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.starts_with("stage0: an upload is dropped: its SHA-256"), "{said}");
}

#[test]
fn a_client_that_falls_silent_is_dropped_and_does_not_keep_others_waiting() {
    let (folder, program) = (Folder::new("stall"), echo());
    let stage0 = Stage0::start(&program, &folder, &["--stall-seconds", "1"], &["right"]);
    let mut silent = stage0.dial();
    silent.write_all(&program[..100]).unwrap();
    let since = Instant::now();
    assert_eq!(rest(silent), "error: it fell silent\n");
    let took = since.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    let _silent = stage0.dial();
    let since = Instant::now();
    assert_eq!(upload(stage0.address, &program), "ok\n");
    assert!(since.elapsed() < Duration::from_millis(900));
}

#[test]
fn of_two_clients_at_once_the_first_that_is_done_wins() {
    let (folder, program) = (Folder::new("two"), echo());
    let stage0 = Stage0::start(&program, &folder, &[], &["once"]);
    let (mut one, mut two) = (stage0.dial(), stage0.dial());
    let (head, tail) = program.split_at(program.len() / 2);
    for part in head.chunks(4096) {
        one.write_all(part).unwrap();
        two.write_all(part).unwrap();
    }
    two.write_all(tail).unwrap();
    assert_eq!(rest(two), "ok\n");
    // Closed without a word, whether it still talks or not.
    let _ = one.write_all(tail);
    let mut heard = String::new();
    let _ = one.read_to_string(&mut heard);
    assert_eq!(heard, "");
    assert_eq!(text(&stage0.output().stdout), "once\n");
    assert_eq!(folder.names(), ["agent"]);
}

#[test]
fn without_an_upload_it_ends_and_says_what_to_do() {
    let (folder, program) = (Folder::new("nobody"), echo());
    let stage0 = Stage0::start(&program, &folder, &["--patience-seconds", "1"], &[]);
    // Being connected is no upload.
    let _idle = stage0.dial();
    let output = stage0.output();
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.lines().count() == 1 && said.contains("run mirrord-ide again"), "{said}");
    assert_eq!(folder.names(), Vec::<String>::new());
}

/// A command in a mount namespace, where `folder` is mounted as said.
fn mounted(folder: &Folder, options: &str) -> Command {
    let root = is_root();
    let mut command = Command::new("unshare");
    command.args(if root { ["--mount"].as_slice() } else { &["--mount", "--map-root-user"] });
    command.args(["sh", "-ec", "mount -t tmpfs -o \"$1\" none \"$2\"; shift 2; exec \"$@\"", "sh", options]);
    command.arg(&folder.0);
    command
}

fn is_root() -> bool {
    // SAFETY: it only reads a number.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn from_memory_where_the_folder_lets_nothing_be_run_or_written() {
    for (options, said) in [("noexec", "nothing may be run from"), ("ro", "cannot be written")] {
        let (folder, program) = (Folder::new(options), echo());
        let address = free_address();
        let mut command = mounted(&folder, options);
        command.arg(STAGE0).args(words(address, &program, &folder.0)).args(["--", "from", "memory"]);
        let stage0 = Stage0::spawn(command, address);
        assert_eq!(upload(address, &program), "ok\n", "{options}");
        let output = stage0.output();
        assert_eq!(text(&output.stdout), "from memory\n", "{options}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{options}: {}", text(&output.stderr));
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let (folder, program) = (Folder::new("foreign"), b"\x7fELF of another kind of processor".to_vec());
    let stage0 = Stage0::start(&program, &folder, &[], &[]);
    assert_eq!(upload(stage0.address, &program), "ok\n");
    let output = stage0.output();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("another kind of processor"), "{}", text(&output.stderr));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let (folder, program) = (Folder::new("taken"), echo());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = Command::new(STAGE0)
        .args(words(taken.local_addr().unwrap(), &program, &folder.0))
        .arg("--")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("cannot listen"), "{}", text(&output.stderr));
}

/// The first process of a container gets no signal that it has no handler for.
#[test]
fn as_the_first_process_it_ends_when_told_to() {
    let (folder, program) = (Folder::new("first-process"), echo());
    let address = free_address();
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", STAGE0]).args(words(address, &program, &folder.0)).arg("--");
    let stage0 = Stage0::spawn(command, address);
    let _here = stage0.dial();
    let starter = stage0.child.as_ref().unwrap().id();
    let children = fs::File::open(format!("/proc/{starter}/task/{starter}/children")).unwrap();
    let mut line = String::new();
    BufReader::new(children).read_line(&mut line).unwrap();
    let since = Instant::now();
    // SAFETY: the process is our own child's child, which waits for it.
    assert_eq!(unsafe { libc::kill(line.trim().parse().unwrap(), libc::SIGTERM) }, 0);
    assert_eq!(stage0.output().status.code(), Some(143));
    assert!(since.elapsed() < Duration::from_secs(2));
}
