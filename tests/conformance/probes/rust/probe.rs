//! The probe in Rust, linked static with musl: `probe NAME=VALUE... CASE...` does each case and prints what it saw, one
//! line of JSON each. Std alone, so that rustc builds it without a registry.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[path = "network.rs"]
mod network;

unsafe extern "C" {
    fn mmap(at: *mut u8, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn umask(mask: u32) -> u32;
    fn dup(fd: i32) -> i32;
    fn lseek(fd: i32, offset: i64, whence: i32) -> i64;
}

static ARGUMENTS: OnceLock<BTreeMap<String, String>> = OnceLock::new();

fn arg(name: &str) -> &'static str {
    ARGUMENTS.get().and_then(|all| all.get(name)).unwrap_or_else(|| panic!("no argument {name}"))
}
fn dir(name: &str) -> String {
    format!("{}/{name}", arg("dir"))
}
fn near(name: &str) -> String {
    format!("{}/{name}", arg("local"))
}

/// What the case at hand saw.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn saw(&mut self, key: &str, value: impl Display) {
        self.0.push((key.to_owned(), value.to_string()));
    }
    /// Notes a value, or the name of the error.
    fn gives<T: Display>(&mut self, key: &str, result: io::Result<T>) {
        let value = result.map_or_else(|error| named(&error), |value| value.to_string());
        self.saw(key, value);
    }
    fn does<T>(&mut self, key: &str, result: io::Result<T>) {
        self.gives(key, result.map(|_| "ok"));
    }
}

fn named(error: &io::Error) -> String {
    const NAMES: &[(i32, &str)] = &[
        (1, "EPERM"), (2, "ENOENT"), (5, "EIO"), (6, "ENXIO"), (9, "EBADF"), (11, "EAGAIN"), (13, "EACCES"), (14, "EFAULT"), (16, "EBUSY"),
        (17, "EEXIST"), (18, "EXDEV"), (20, "ENOTDIR"), (21, "EISDIR"), (22, "EINVAL"), (27, "EFBIG"), (30, "EROFS"), (32, "EPIPE"),
        (36, "ENAMETOOLONG"), (38, "ENOSYS"), (39, "ENOTEMPTY"), (40, "ELOOP"), (95, "EOPNOTSUPP"), (98, "EADDRINUSE"), (99, "EADDRNOTAVAIL"),
        (101, "ENETUNREACH"), (104, "ECONNRESET"), (107, "ENOTCONN"), (110, "ETIMEDOUT"), (111, "ECONNREFUSED"), (113, "EHOSTUNREACH"),
        (115, "EINPROGRESS"),
    ];
    match error.raw_os_error() {
        Some(number) => NAMES.iter().find(|(known, _)| *known == number).map_or(format!("errno {number}"), |(_, name)| (*name).to_owned()),
        None => format!("{:?}", error.kind()),
    }
}

fn content(path: impl AsRef<Path>) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned(),
        Err(error) => format!("[{}]", named(&error)),
    }
}

fn climbing(path: &str) -> String {
    format!("../../../../../../../..{path}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "")
}

fn listed(path: &str) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| format!("{} {}", entry.file_name().display(), entry.file_type().is_ok_and(|kind| kind.is_dir()))))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn file_case(number: u32, s: &mut Seen) -> bool {
    match number {
        1 => {
            s.saw("content", content(dir("file")));
            let mut file = File::open(dir("file")).unwrap();
            let mut all = String::new();
            s.gives("read", file.read_to_string(&mut all));
            s.saw("text", all);
        }
        5 => {
            s.saw("one", content(dir("sub/../file")));
            s.saw("two", content(dir("sub/deep/../../file")));
            s.saw("slashes", content(dir("./sub//deep/./leaf")));
            s.saw("through none", content(dir("none/../file")));
        }
        6 => {
            let there = dir(&climbing(&near("near")));
            s.saw("content", content(&there));
            s.gives("stat", fs::metadata(&there).map(|seen| seen.len()));
            s.saw("none", content(dir(&climbing("/none-of-that-name"))));
        }
        7 => {
            s.saw("content", content(dir("link")));
            s.gives("text", fs::read_link(dir("link")).map(|path| path.display().to_string()));
            s.does("no link", fs::read_link(dir("file")));
            s.gives("lstat", fs::symlink_metadata(dir("link")).map(|seen| seen.is_symlink()));
            s.saw("below a link", content(dir("dirlink/deep/leaf")));
            s.does("not followed", OpenOptions::new().read(true).custom_flags(0o400000).open(dir("link")));
        }
        8 => {
            s.saw("in the volume", content(dir("abslink")));
            s.saw("out of it", content(dir("outlink")));
            s.saw("dangling", content(dir("dangling")));
        }
        9 => {
            let mut found = std::collections::BTreeSet::new();
            let end = Instant::now() + Duration::from_secs(5);
            while found.len() < 2 && Instant::now() < end {
                found.insert(content(dir("config/version")));
                std::thread::sleep(Duration::from_millis(5));
            }
            s.saw("seen", format!("{found:?}"));
            s.saw("stable", content(dir("config/stable")));
        }
        10 => {
            s.gives("read_dir", listed(&dir("tree")).map(|names| names.join(", ")));
            s.gives("canonicalize", fs::canonicalize(dir("dirlink/../link")).map(|path| path.display().to_string()));
            s.gives("exists", fs::exists(dir("none")));
        }
        11 => {
            let (first, second) = (File::open(dir("file")).unwrap(), File::open(dir("file")).unwrap());
            // SAFETY: no memory is passed.
            let same = unsafe { dup(first.as_raw_fd()) };
            for (at, mut file) in [(0, &first), (1, &second)] {
                let mut piece = [0; 3];
                s.does(&format!("read {at}"), file.read_exact(&mut piece));
                s.saw(&format!("text {at}"), text(&piece));
            }
            // SAFETY: no memory is passed.
            s.saw("shared", unsafe { lseek(same, 0, 1) });
        }
        12 => {
            let mut file = File::open(dir("file")).unwrap();
            let mut piece = [0; 7];
            s.gives("read_at", file.read_at(&mut piece, 1));
            s.saw("text", text(&piece));
            s.gives("beyond", file.read_at(&mut piece, 1 << 20));
            let (mut one, mut two) = ([0; 4], [0; 4]);
            s.gives("vectored", file.read_vectored(&mut [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut two)]));
            s.saw("parts", format!("{}+{}", text(&one), text(&two)));
            s.gives("end", file.seek(SeekFrom::End(0)));
            let big = File::open(dir("big")).unwrap();
            // SAFETY: no memory is passed.
            s.saw("data, hole", unsafe { format!("{} {}", lseek(big.as_raw_fd(), 1 << 20, 3), lseek(big.as_raw_fd(), 0, 4)) });
        }
        13 => {
            let file = File::open(dir("block")).unwrap();
            // SAFETY: the kernel chooses the place; the file is that long.
            let (private, shared) = unsafe {
                (mmap(std::ptr::null_mut(), 65536, 3, 2, file.as_raw_fd(), 0), mmap(std::ptr::null_mut(), 65536, 1, 1, file.as_raw_fd(), 0))
            };
            if private as isize == -1 || shared as isize == -1 {
                s.saw("mmap", named(&io::Error::last_os_error()));
            } else {
                // SAFETY: both mappings are that long, and ours.
                let (private, shared) = unsafe { (std::slice::from_raw_parts_mut(private, 65536), std::slice::from_raw_parts(shared, 65536)) };
                private[0] = b'#';
                s.saw("text", text(&private[..40]) + &text(&shared[..40]) + &text(&shared[32768..32808]));
                s.saw("all of it", shared.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into())));
            }
        }
        14 => {
            for name in ["file", "sub", "big"] {
                let (by_path, by_fd) = (fs::metadata(dir(name)).unwrap(), File::open(dir(name)).unwrap().metadata().unwrap());
                let same = by_path.ino() == by_fd.ino() && by_path.dev() == by_fd.dev();
                s.saw(name, format!("{same} {:o} {} {} {}", by_path.mode(), by_path.size(), by_path.nlink(), by_path.mtime()));
            }
        }
        15 => {
            let copy = near(&format!("copy-{}", arg("name")));
            let (tree, whole) = (dir("tree"), arg("dir"));
            for words in [
                vec!["cp", "-r", &tree, &copy],
                vec!["diff", "-r", &tree, &copy],
                vec!["ls", "-lgo", "--time-style=+", &tree],
                vec!["tar", "-C", whole, "-cf", "/dev/null", "tree"],
            ] {
                let done = Command::new(words[0]).args(&words[1..]).output();
                s.gives(words[0], done.map(|done| format!("{} {}{}", done.status, text(&done.stdout), text(&done.stderr))));
            }
            s.does("removed", fs::remove_dir_all(copy));
        }
        17 => {
            for round in ["first", "second"] {
                let names = listed(&dir("many")).unwrap_or_default();
                s.saw(round, format!("{} {:?} {:?}", names.len(), names.first(), names.last()));
            }
        }
        18 => {
            let open = |name: &str| File::open(dir(name));
            s.does("ENOENT", open("none"));
            s.does("ENOTDIR", open("file/x"));
            s.does("EISDIR", OpenOptions::new().write(true).open(dir("sub")));
            s.does("ELOOP", open("loop"));
            s.does("ENAMETOOLONG of a name", open(&"x".repeat(299)));
            s.does("ENAMETOOLONG of a path", File::open("/y".repeat(3000)));
            s.does("EACCES", open("closed"));
            s.does("EISDIR on read", fs::read(dir("sub")));
        }
        19 => {
            let (name, new) = (format!("{}/banner.txt", arg("ro")), format!("{}/new", arg("ro")));
            s.does("write", OpenOptions::new().write(true).open(&name));
            s.does("append", OpenOptions::new().append(true).open(&name));
            s.does("new", File::create_new(&new));
            s.does("unlink", fs::remove_file(&name));
            s.does("mkdir", fs::create_dir(&new));
            s.does("chmod", fs::set_permissions(&name, fs::Permissions::from_mode(0o600)));
            s.does("rename", fs::rename(&name, &new));
            s.saw("content", content(&name));
        }
        20 => {
            let name = dir(&format!("w-{}", arg("name")));
            // SAFETY: no memory is passed.
            let before = unsafe { umask(0o027) };
            match OpenOptions::new().read(true).write(true).create_new(true).open(&name) {
                Err(error) => s.saw("new", named(&error)),
                Ok(mut file) => {
                    s.does("write", file.write_all(b"first line\n"));
                    s.saw("read at once", content(&name));
                    s.does("again", File::create_new(&name));
                    s.does("append", OpenOptions::new().append(true).open(&name).and_then(|mut more| more.write_all(b"second\n")));
                    s.does("write_at", file.write_at(b"F", 0));
                    s.saw("both", content(&name));
                    s.gives("mode and size", fs::metadata(&name).map(|seen| format!("{:o} {}", seen.mode(), seen.len())));
                    s.does("truncate", file.set_len(3));
                    s.does("sync", file.sync_all());
                    s.saw("cut", content(&name));
                    s.does("remove", fs::remove_file(&name));
                    s.saw("gone", content(&name));
                }
            }
            // SAFETY: no memory is passed.
            unsafe { umask(before) };
        }
        21 => {
            s.does("rename to there", fs::rename(near("near"), dir(&format!("near-{}", arg("name")))));
            s.does("rename from there", fs::rename(dir("file"), near("taken")));
            s.does("link from there", fs::hard_link(dir("file"), near("taken")));
            s.saw("near", content(near("near")));
        }
        22 => {
            let folder = dir(&format!("d-{}", arg("name")));
            let inside = |name: &str| format!("{folder}/{name}");
            s.does("mkdir", fs::create_dir(&folder));
            s.does("new", fs::write(inside("one"), "x"));
            s.does("link", fs::hard_link(inside("one"), inside("two")));
            s.does("symlink", symlink("one", inside("three")));
            s.gives("text", fs::read_link(inside("three")).map(|path| path.display().to_string()));
            s.does("chmod", fs::set_permissions(inside("one"), fs::Permissions::from_mode(0o600)));
            let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_234_567_890));
            s.does("times", OpenOptions::new().write(true).open(inside("one")).and_then(|file| file.set_times(times)));
            s.gives("stat", fs::metadata(inside("one")).map(|seen| format!("{:o} {} {}", seen.mode(), seen.nlink(), seen.mtime())));
            s.does("rename", fs::rename(inside("one"), inside("four")));
            s.does("rmdir of a full one", fs::remove_dir(&folder));
            s.does("remove all", fs::remove_dir_all(&folder));
            s.does("rmdir again", fs::remove_dir(&folder));
        }
        23 => {
            let name = near(&format!("sent-{}", arg("name")));
            s.gives("copy", fs::copy(dir("block"), &name));
            s.saw("start", &content(&name)[..40.min(content(&name).len())]);
            s.does("remove", fs::remove_file(name));
        }
        25 => {
            let file = File::open(dir("big")).unwrap();
            s.gives("size", file.metadata().map(|seen| seen.len()));
            let mut piece = [0; 32];
            s.gives("far in", file.read_at(&mut piece, (4 << 30) + 123));
            s.saw("text", text(&piece));
            s.gives("a hole", file.read_at(&mut piece, 3 << 30));
            s.saw("zeroes", piece == [0; 32]);
        }
        26 => {
            s.gives("size", fs::metadata(arg("sizeless")).map(|seen| seen.len()));
            s.saw("content", content(arg("sizeless")));
        }
        27 => {
            let back = std::env::current_dir().unwrap();
            s.does("chdir", std::env::set_current_dir(dir("sub")));
            s.gives("getcwd", std::env::current_dir().map(|path| path.display().to_string()));
            s.saw("below", content("deep/leaf"));
            s.saw("above", content("../file"));
            let child = Command::new("cat").arg("leaf").current_dir(dir("sub/deep")).output();
            s.gives("child's folder", child.map(|done| text(&done.stdout)));
            s.does("to none", std::env::set_current_dir(dir("none")));
            std::env::set_current_dir(back).unwrap();
            s.saw("near", content(near("near")));
        }
        28 => {
            s.does("O_PATH", OpenOptions::new().read(true).custom_flags(0o10000000).open(dir("file")).and_then(|mut file| file.read(&mut [0; 1])));
            s.does("O_DIRECTORY", OpenOptions::new().read(true).custom_flags(0o200000).open(dir("file")));
        }
        32 => {
            let file = File::open(dir("file")).unwrap();
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            s.gives("link", fs::read_link(&link).map(|path| path.display().to_string()));
            s.saw("reopened", content(&link));
            s.gives("the same", fs::metadata(&link).map(|seen| Some(seen.ino()) == file.metadata().ok().map(|own| own.ino())));
        }
        _ => return false,
    }
    true
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            other => out += &format!("\\u{:04x}", u32::from(other) & 0xffff),
        }
    }
    out + "\""
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let pairs = words.iter().filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    ARGUMENTS.set(pairs.collect()).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    for number in words.iter().filter_map(|word| word.parse::<u32>().ok()) {
        let mut seen = Seen::default();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| file_case(number, &mut seen) || network::case(number, &mut seen)));
        match done {
            Ok(true) => {}
            Ok(false) => seen.saw("missing", "the probe has no such case"),
            Err(reason) => seen.saw("raised", reason.downcast_ref::<String>().map_or("a panic", |text| text)),
        }
        let pairs: Vec<String> = seen.0.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
        println!("{{\"case\": {number}, {}}}", pairs.join(", "));
    }
}
