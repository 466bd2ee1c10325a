//! Stage 0: what runs in a pod before the agent does, where no registry holds an image of it.
//!
//! It is small enough for a ConfigMap. It listens where the agent will, takes the agent's binary from whoever connects,
//! checks it against the hash in its own command line, and becomes it. This file is the command line; `upload` takes
//! the bytes, `program` keeps and runs them.

mod program;
mod upload;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use upload::Outcome;

const USAGE: &str = "usage: stage0 --listen tcp:ADDRESS:PORT --size BYTES --sha256 HEX --to FOLDER \
                     [--stall-seconds N] [--patience-seconds N] -- ARGUMENTS...";
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;
/// Nobody brought the agent.
const EXIT_NO_UPLOAD: u8 = 3;
/// This container does not let us listen, or run what was brought.
const EXIT_CANNOT: u8 = 4;

/// What to take, and what to do with it.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    listen: SocketAddr,
    size: u64,
    sha256: [u8; 32],
    to: PathBuf,
    /// A connection without a byte for so long is dropped.
    stall: Duration,
    /// Without any byte for so long there will be none.
    patience: Duration,
    /// What the agent is called with.
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let order = match parse(std::env::args_os().skip(1)) {
        Ok(order) => order,
        Err(wrong) => return fail(EXIT_USAGE, &[&wrong, "; ", USAGE]),
    };
    end_on_signals();
    let program = match upload::take(&order) {
        Ok(Outcome::Taken(program)) => program,
        Ok(Outcome::NobodyCame) => {
            return fail(
                EXIT_NO_UPLOAD,
                &[
                    "nobody brought the agent in time; run mirrord-ide again, and see that port-forward to this pod works",
                ],
            );
        }
        Err(error) => return fail(EXIT_CANNOT, &["cannot listen: ", &error.to_string()]),
    };
    let error = program.run(&order.arguments);
    let hint = match error.raw_os_error() {
        Some(libc::ENOEXEC) => " (it is for another kind of processor)",
        Some(libc::EACCES | libc::EPERM) => " (this pod lets no new file be run; use agent.image)",
        _ => "",
    };
    fail(EXIT_CANNOT, &["cannot run the agent: ", &error.to_string(), hint])
}

/// One line on standard error.
fn say(parts: &[&str]) {
    let line = ["stage0: ", &parts.concat(), "\n"].concat();
    // Nothing is left to do when standard error is gone too.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn fail(code: u8, parts: &[&str]) -> ExitCode {
    say(parts);
    ExitCode::from(code)
}

/// The first process of a container only gets the signals that it asks for.
fn end_on_signals() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit(2) is async-signal-safe and touches no memory.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only calls what may be called in one; execve(2) resets it.
        unsafe { libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Order, String> {
    let (mut listen, mut size, mut sha256, mut to) = (None, None, None, None);
    let (mut stall, mut patience) = (10, 60);
    while let Some(name) = words.next() {
        if name == "--" {
            let missing = |name: &str| format!("{name} is missing");
            return Ok(Order {
                listen: listen.ok_or_else(|| missing("--listen"))?,
                size: size.ok_or_else(|| missing("--size"))?,
                sha256: sha256.ok_or_else(|| missing("--sha256"))?,
                to: to.ok_or_else(|| missing("--to"))?,
                stall: Duration::from_secs(stall),
                patience: Duration::from_secs(patience),
                arguments: words.collect(),
            });
        }
        let value = words.next().unwrap_or_default();
        let text = value.to_str().unwrap_or_default();
        let wrong = || ["wrong value of ", &name.to_string_lossy(), ": ", &value.to_string_lossy()].concat();
        match name.as_bytes() {
            b"--listen" => {
                let address = text.strip_prefix("tcp:").and_then(|address| address.parse().ok());
                listen = Some(address.ok_or_else(wrong)?);
            }
            b"--size" => size = Some(positive(text).ok_or_else(wrong)?),
            b"--sha256" => sha256 = Some(hash(text).ok_or_else(wrong)?),
            b"--to" if value.as_bytes().first() == Some(&b'/') => to = Some(PathBuf::from(value)),
            b"--to" => return Err(wrong()),
            b"--stall-seconds" => stall = positive(text).ok_or_else(wrong)?,
            b"--patience-seconds" => patience = positive(text).ok_or_else(wrong)?,
            _ => return Err(["unknown option ", &name.to_string_lossy()].concat()),
        }
    }
    Err("-- and the agent's arguments are missing".into())
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let digits = OsStr::new(text).as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Order, String> {
        parse(text.split(' ').map(OsString::from))
    }

    #[test]
    fn a_command_line_is_read_whole_or_refused() {
        let hash = "ab".repeat(32);
        let good = format!("--listen tcp:127.0.0.1:70 --size 9 --sha256 {hash} --to /x -- serve --listen y");
        let order = parsed(&good).unwrap();
        assert_eq!((order.listen, order.size), ("127.0.0.1:70".parse().unwrap(), 9));
        assert_eq!((order.sha256, order.to), ([0xab; 32], "/x".into()));
        assert_eq!((order.stall.as_secs(), order.patience.as_secs()), (10, 60));
        assert_eq!(order.arguments, ["serve", "--listen", "y"]);
        for (part, by) in [
            ("tcp:127.0.0.1:70", "127.0.0.1:70"),
            ("--size 9", "--size 0"),
            ("--size 9 ", ""),
            ("abab", "abxy"),
            ("abab", "ab"),
            ("/x", "x"),
            ("--to", "--into"),
            (" -- ", " "),
        ] {
            assert!(parsed(&good.replacen(part, by, 1)).is_err(), "{part} by {by}");
        }
    }
}
