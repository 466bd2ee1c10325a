//! Streams of the program's that outlast the editor's: a reloaded window closes its ends, and a program that writes into
//! a closed pipe dies of it.
//!
//! The program gets pipes of ours in place of pipes and sockets of the editor's. What it writes is passed on as long as
//! somebody takes it and dropped afterwards; its standard input stays open.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;
/// Between two looks at what is still on its way.
const LOOK: Duration = Duration::from_millis(2);

/// The editor's streams and what stands for them; passing on begins with [`Held::start`], as threads must not be there
/// before the program is forked.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The editor's end, and the one to write what comes of it.
    input: Option<(OwnedFd, OwnedFd)>,
    /// The ends to read, each with the editor's that it goes to.
    outputs: Vec<(OwnedFd, OwnedFd)>,
}

/// What is written by the program and not yet passed on.
#[derive(Debug, Default)]
pub(super) struct Outputs(Vec<Output>);

#[derive(Debug)]
struct Output {
    /// Our end of the program's pipe, to look at.
    pipe: OwnedFd,
    /// Whether something that was read is being written.
    busy: Arc<AtomicBool>,
}

impl Held {
    /// Puts pipes in the place of this process's standard streams, for a child that is forked next.
    pub(super) fn open() -> std::io::Result<Self> {
        let mut held = Self::default();
        if is_pipe_or_socket(0) {
            let (read, write) = pipe()?;
            held.input = Some((replace(0, &read)?, write));
        }
        let together = is_same(1, 2);
        if is_pipe_or_socket(1) {
            let (read, write) = pipe()?;
            let editor = replace(1, &write)?;
            if together {
                replace(2, &write)?;
            }
            held.outputs.push((read, editor));
        }
        if !together && is_pipe_or_socket(2) {
            let (read, write) = pipe()?;
            held.outputs.push((read, replace(2, &write)?));
        }
        Ok(held)
    }

    /// Begins to pass on.
    pub(super) fn start(self) -> std::io::Result<Outputs> {
        if let Some((editor, program)) = self.input {
            let (editor, mut program) = (std::fs::File::from(editor), std::fs::File::from(program));
            thread("stdin", move || {
                // The end of the editor's is none of the program's: the descriptor stays until this process ends.
                let _ = std::io::copy(&mut &editor, &mut program);
                std::mem::forget(program);
            })?;
        }
        let mut outputs = Vec::new();
        for (program, editor) in self.outputs {
            let output = Output { pipe: program.try_clone()?, busy: Arc::default() };
            let busy = Arc::clone(&output.busy);
            thread("output", move || pass_on(program.into(), editor.into(), &busy))?;
            outputs.push(output);
        }
        Ok(Outputs(outputs))
    }
}

impl Outputs {
    /// Waits until all that was written so far has been passed on.
    pub(super) fn drain(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.0.iter().any(Output::has_more) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

impl Output {
    fn has_more(&self) -> bool {
        let mut waiting: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer, ours.
        let known = unsafe { libc::ioctl(self.pipe.as_raw_fd(), libc::FIONREAD, &mut waiting) } == 0;
        // In this order: what leaves the pipe makes it busy first.
        (known && waiting > 0) || self.busy.load(Ordering::SeqCst)
    }
}

fn pass_on(mut program: std::fs::File, editor: std::fs::File, busy: &AtomicBool) {
    let mut editor = Some(editor);
    let mut chunk = vec![0; CHUNK];
    loop {
        // Nothing is taken out before it is seen, so that a pipe that looks empty is.
        let mut ready = libc::pollfd { fd: program.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd of ours.
        unsafe { libc::poll(&mut ready, 1, -1) };
        busy.store(true, Ordering::SeqCst);
        match program.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                // The editor has gone: from now on the program speaks to nobody.
                if editor.as_mut().is_some_and(|editor| editor.write_all(&chunk[..count]).is_err()) {
                    editor = None;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "the program's output cannot be read");
                break;
            }
        }
        busy.store(false, Ordering::SeqCst);
    }
    busy.store(false, Ordering::SeqCst);
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// A pipe: the end to read, the end to write.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Puts `with` in the place of a standard stream; gives the stream that was there.
fn replace(stream: RawFd, with: &OwnedFd) -> std::io::Result<OwnedFd> {
    // SAFETY: no memory is passed; the standard streams are open.
    let old = unsafe { libc::fcntl(stream, libc::F_DUPFD_CLOEXEC, 3) };
    if old < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let old = unsafe { OwnedFd::from_raw_fd(old) };
    // SAFETY: replaces a standard stream of this process's own.
    if unsafe { libc::dup2(with.as_raw_fd(), stream) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(old)
}

fn kind_of(fd: RawFd) -> Option<libc::stat> {
    // SAFETY: zero is a value of this plain structure, which the kernel fills.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    (unsafe { libc::fstat(fd, &mut stat) } == 0).then_some(stat)
}

fn is_pipe_or_socket(fd: RawFd) -> bool {
    kind_of(fd).is_some_and(|stat| matches!(stat.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK))
}

fn is_same(one: RawFd, other: RawFd) -> bool {
    let name = |fd| kind_of(fd).map(|stat| (stat.st_dev, stat.st_ino));
    name(one).is_some() && name(one) == name(other)
}
