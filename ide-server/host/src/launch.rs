//! Starts the debuggee: a child that puts the filter on itself, waits for its environment, and becomes the program.
//!
//! The child is forked while the host has one thread, so that it may allocate; the host's helpers start after it.

use crate::env::Environment;
use crate::sys::{self, Errno};
use crate::traps::filter;
use crate::traps::notify::Listener;
use std::ffi::{CString, OsString};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why the program cannot be started covered.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Not in PATH, or not a file.
    #[error("{program} is not found")]
    NotFound {
        /// As given.
        program: String,
    },
    /// Programs with raised privileges lose them under no_new_privs, and may not be looked into.
    #[error("{program} is {what}")]
    Privileged {
        /// Its path.
        program: String,
        /// `setuid` …
        what: &'static str,
    },
    /// Only 64-bit programs of this machine's architecture are covered.
    #[error("{program} is not a 64-bit program of this machine's architecture")]
    OtherArchitecture {
        /// Its path.
        program: String,
    },
    /// The kernel or an outer filter refuses the listener.
    #[error("the kernel refuses the filter that watches the program's calls: {}", describe(*.errno))]
    Filter {
        /// EBUSY, EINVAL, EPERM, ENOSYS …
        errno: Errno,
    },
    /// The program's memory may not be read, or not be written.
    #[error("the kernel refuses to look into the program's memory: {}", describe(*.errno))]
    Memory {
        /// EPERM …
        errno: Errno,
    },
    /// No descriptor can be given to the program.
    #[error("the kernel refuses to give the program open files: {}", describe(*.errno))]
    Giving {
        /// EPERM, ENOSYS …
        errno: Errno,
    },
    /// execve(2) failed.
    #[error("{program} cannot be run: {}", describe(*.errno))]
    Exec {
        /// Its path.
        program: String,
        /// Why.
        errno: Errno,
    },
    /// The child went away before it became the program.
    #[error("the child process ended before the program ran: {0}")]
    Child(#[from] std::io::Error),
}

fn describe(errno: Errno) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl LaunchError {
    /// A stable word for each kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "program-not-found",
            Self::Privileged { .. } => "program-privileged",
            Self::OtherArchitecture { .. } => "program-architecture",
            Self::Filter { .. } => "seccomp-refused",
            Self::Memory { .. } => "memory-refused",
            Self::Giving { .. } => "giving-refused",
            Self::Exec { .. } => "program-not-run",
            Self::Child(_) => "launch-failed",
        }
    }

    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::NotFound { .. } => "check the spelling, or give the program's full path".into(),
            Self::Privileged { what: "a snap launcher", .. } => {
                "name the program itself, which is under /snap/NAME/current".into()
            }
            Self::Privileged { .. } => "run the program that it would start, without the privileges".into(),
            Self::OtherArchitecture { .. } => "build it for this machine, 64 bits".into(),
            Self::Filter { errno: libc::EBUSY } => {
                "another tool (a sandbox, WSL's init, mirrord-ide itself) already watches this process; start it outside".into()
            }
            Self::Filter { errno: libc::EINVAL } => "Linux 5.19 or newer is needed".into(),
            Self::Filter { .. } => {
                "this container or sandbox forbids seccomp filters; run outside it or allow seccomp(2)".into()
            }
            Self::Memory { .. } => {
                "set kernel.yama.ptrace_scope to 1 or 0; in a container, start it with --cap-add SYS_PTRACE".into()
            }
            Self::Giving { .. } => {
                "this container or sandbox forbids ioctl(2) on seccomp listeners; run outside it or allow it".into()
            }
            Self::Exec { .. } => "try the same command without mirrord-ide".into(),
            Self::Child(_) => "try again; the session's host.log says more".into(),
        }
    }
}

/// The filters to choose from, by what the kernel lets this process do to a child of its own.
#[derive(Debug)]
pub struct Filters {
    /// Where descriptors can be copied from the child.
    pub copying: Vec<libc::sock_filter>,
    /// Where not: then the program's sockets are made for it.
    pub making: Vec<libc::sock_filter>,
}

/// The child, with its filter on.
#[derive(Debug)]
pub struct Waiting {
    /// Its process id.
    pub pid: i32,
    /// Why descriptors cannot be copied from it, if they cannot.
    pub no_copies: Option<Errno>,
    /// The listening end of its filter.
    listener: OwnedFd,
    child: Ready,
}

/// The child, waiting for its environment.
#[derive(Debug)]
pub struct Ready {
    socket: UnixStream,
    program: PathBuf,
}

/// Looks a command up as execvp(3) would, and refuses what cannot be covered.
///
/// # Errors
/// Not found, or with raised privileges, or of another architecture.
pub fn find(program: &str) -> Result<PathBuf, LaunchError> {
    let path = if program.contains('/') {
        PathBuf::from(program)
    } else {
        let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        std::env::split_paths(&search)
            .map(|folder| folder.join(program))
            .find(|path| is_executable(path))
            .ok_or_else(|| LaunchError::NotFound { program: program.into() })?
    };
    if !path.is_file() {
        return Err(LaunchError::NotFound { program: program.into() });
    }
    refuse_privileged(&path)?;
    Ok(path)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn refuse_privileged(path: &Path) -> Result<(), LaunchError> {
    let program = path.display().to_string();
    let refuse = |what| Err(LaunchError::Privileged { program: program.clone(), what });
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real == Path::new("/usr/bin/snap") || path.starts_with("/snap/bin") {
        return refuse("a snap launcher");
    }
    let meta = path.metadata()?;
    let own = nix::unistd::Uid::effective().as_raw();
    if meta.mode() & libc::S_ISUID != 0 && meta.uid() != own {
        return refuse("setuid");
    }
    if meta.mode() & libc::S_ISGID != 0 && meta.gid() != nix::unistd::Gid::effective().as_raw() {
        return refuse("setgid");
    }
    if own != 0 && has_capabilities(&real) {
        return refuse("given file capabilities");
    }
    let mut head = [0u8; 20];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    // An executable that may not be read, or a short script: nothing to learn.
    if read.is_ok() && head.starts_with(b"\x7fELF") {
        let machine = u16::from_le_bytes([head[18], head[19]]);
        let ours = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        if head[4] != 2 || machine != ours {
            return Err(LaunchError::OtherArchitecture { program });
        }
    }
    Ok(())
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both strings end with NUL; no value is asked for.
    let size =
        unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    size > 0
}

/// Forks the child. It has the filter on when this returns.
///
/// # Errors
/// The filter was refused, or something without which no trapped call can be answered, or there is no room for a
/// process.
pub fn fork(program: PathBuf, filters: &Filters, cookie: u64) -> Result<Waiting, LaunchError> {
    let (mut ours, theirs) = UnixStream::pair()?;
    // The child has it at the same address.
    let known = Box::new(cookie);
    // SAFETY: this process has one thread, so the child may do as it likes.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(std::io::Error::last_os_error().into()),
        0 => {
            drop(ours);
            become_program(theirs, filters, cookie)
        }
        _ => {
            check_memory(pid, &known)?;
            let no_copies = check_copies(pid, theirs.as_raw_fd()).err();
            drop(theirs);
            ours.write_all(&[no_copies.is_some().into()])?;
            let listener = receive_listener(&ours)?;
            Listener::check_giving(&listener).map_err(|errno| LaunchError::Giving { errno })?;
            Ok(Waiting { pid, no_copies, listener, child: Ready { socket: ours, program } })
        }
    }
}

/// Tries what every trapped call with a pointer needs, on something that the child has too.
fn check_memory(child: i32, known: &u64) -> Result<(), LaunchError> {
    let address = std::ptr::from_ref(known) as u64;
    let mut bytes = [0u8; 8];
    let tried = sys::read_memory(child as u32, address, &mut bytes)
        .and_then(|n| if bytes[..n] == known.to_ne_bytes() { Ok(()) } else { Err(libc::EFAULT) })
        .and_then(|()| sys::write_memory(child as u32, address, &bytes));
    tried.map_err(|errno| LaunchError::Memory { errno })
}

/// Tries to copy a descriptor that the child has.
fn check_copies(child: i32, fd: RawFd) -> Result<(), Errno> {
    let pidfd = sys::pidfd_open(child as u32, 0)?;
    sys::pidfd_getfd(pidfd.as_fd(), fd).map(drop)
}

impl Waiting {
    /// The listening end of the filter, and the child.
    pub fn into_parts(self) -> (OwnedFd, Ready) {
        (self.listener, self.child)
    }
}

impl Ready {
    /// Hands over the environment and lets the child become the program.
    ///
    /// # Errors
    /// What execve(2) failed with.
    pub fn run(mut self, arguments: &[String], env: &Environment) -> Result<(), LaunchError> {
        let mut message = Vec::new();
        let mut list = |items: Vec<&[u8]>| {
            message.extend((items.len() as u32).to_ne_bytes());
            for item in items {
                message.extend((item.len() as u32).to_ne_bytes());
                message.extend(item);
            }
        };
        let joined: Vec<Vec<u8>> =
            env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
        list(vec![self.program.as_os_str().as_bytes()]);
        list(arguments.iter().map(String::as_bytes).collect());
        list(joined.iter().map(Vec::as_slice).collect());
        self.socket.write_all(&message)?;
        // Close-on-exec ends the socket when the program runs; four bytes are an errno.
        let mut errno = Vec::new();
        self.socket.read_to_end(&mut errno)?;
        match errno.first_chunk::<4>() {
            None => Ok(()),
            Some(bytes) => Err(LaunchError::Exec {
                program: self.program.display().to_string(),
                errno: i32::from_ne_bytes(*bytes),
            }),
        }
    }
}

fn receive_listener(socket: &UnixStream) -> Result<OwnedFd, LaunchError> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut errno = [0u8; 4];
    let mut parts = [IoSliceMut::new(&mut errno)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(std::io::Error::from)?;
    let length = message.bytes;
    let fd = message.cmsgs().map_err(std::io::Error::from)?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match fd {
        // SAFETY: the kernel has just made this descriptor for us.
        Some(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        None if length == 4 => Err(LaunchError::Filter { errno: i32::from_ne_bytes(errno) }),
        None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}

/// The child's life. Whatever fails is told as an errno on the socket.
fn become_program(mut socket: UnixStream, filters: &Filters, cookie: u64) -> ! {
    let errno = match try_to_become_program(&mut socket, filters, cookie) {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    // Nobody to tell when the host is gone.
    let _ = socket.write_all(&errno.to_ne_bytes());
    // SAFETY: ends this process without running the host's exit handlers.
    unsafe { libc::_exit(127) }
}

fn try_to_become_program(
    socket: &mut UnixStream,
    filters: &Filters,
    cookie: u64,
) -> Result<std::convert::Infallible, Errno> {
    let io = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    // Should the host be killed, trapped calls would fail with ENOSYS for ever.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
    let mut chosen = [0u8; 1];
    socket.read_exact(&mut chosen).map_err(io)?;
    let listener = filter::install(if chosen == [0] { &filters.copying } else { &filters.making })?;
    send_listener(socket, &listener, cookie)?;
    drop(listener);
    let mut list = || -> Result<Vec<CString>, Errno> {
        let mut word = [0u8; 4];
        socket.read_exact(&mut word).map_err(io)?;
        (0..u32::from_ne_bytes(word))
            .map(|_| {
                socket.read_exact(&mut word).map_err(io)?;
                let mut item = vec![0; u32::from_ne_bytes(word) as usize];
                socket.read_exact(&mut item).map_err(io)?;
                CString::new(item).map_err(|_| libc::EINVAL)
            })
            .collect()
    };
    let (program, mut arguments, env) = (list()?, list()?, list()?);
    let program = program.into_iter().next().ok_or(libc::EINVAL)?;
    let errno = execute(&program, &arguments, &env);
    if errno != libc::ENOEXEC {
        return Err(errno);
    }
    // A script without `#!` is the shell's, as execvp(3) has it.
    arguments.splice(..1.min(arguments.len()), [c"sh".to_owned(), program]);
    Err(execute(c"/bin/sh", &arguments, &env))
}

fn execute(program: &std::ffi::CStr, arguments: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, env) = (pointers(arguments), pointers(env));
    // SAFETY: the lists end with null, the strings with NUL, and all outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), env.as_ptr()) };
    sys::errno()
}

/// Sends the listener past the filter that is already on: sendmsg(2) is trapped, but not with the cookie.
fn send_listener(socket: &UnixStream, listener: &OwnedFd, cookie: u64) -> Result<(), Errno> {
    let mut byte = [0u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 4];
    // SAFETY: zero is a value of this plain structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a size.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
    // SAFETY: the control buffer has room for one header with one descriptor, and is aligned for it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(listener.as_raw_fd());
    }
    // SAFETY: the message and what it points to are ours.
    let sent = unsafe {
        libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL, 0, 0, cookie)
    };
    if sent == 1 { Ok(()) } else { Err(sys::errno()) }
}

/// This process's environment.
pub fn own_environment() -> Environment {
    std::env::vars_os().collect::<std::collections::BTreeMap<OsString, OsString>>()
}
