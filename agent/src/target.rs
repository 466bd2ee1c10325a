//! The target: which process it is, its root and namespaces, and what a session is told of it.
//!
//! [`find`] and [`Target::enter`] run while the process has one thread: joining a user namespace demands it, and
//! every thread and socket made afterwards is then in the target's network.

mod cgroup;
mod choose;
mod facts;

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use choose::Process;
pub(crate) use facts::established;

/// How the target is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The agent's own container.
    Own,
    /// No target: the agent's own place, without anybody's environment.
    Nothing,
    /// A process of this PID namespace.
    Pid(i32),
    /// A container, by its runtime's id.
    Container(String),
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "self" => Ok(Self::Own),
            None if text == "none" => Ok(Self::Nothing),
            Some(("pid", pid)) => match pid.parse() {
                Ok(pid) if pid > 0 => Ok(Self::Pid(pid)),
                _ => Err(format!("{pid:?} is no process id")),
            },
            Some(("container-id", id)) if !id.is_empty() => Ok(Self::Container(id.to_owned())),
            _ => Err("a target is self, none, pid:N or container-id:ID".to_owned()),
        }
    }
}

/// Why there is no target to serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("no process of container {id} is on this machine (or /proc is not the node's own)")]
    NoSuchContainer { id: String },
    #[error("there is no process {pid}")]
    NoSuchProcess { pid: i32 },
    #[error("cannot watch process {pid} (Linux 5.3 and later can; it must be a process, not a thread)")]
    Watch {
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the processes of this machine")]
    Processes {
        #[source]
        source: io::Error,
    },
    #[error("cannot open {} of process {pid} (of another user, or CAP_SYS_PTRACE is missing)", what.display())]
    Closed {
        pid: i32,
        what: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot join the {namespace} namespace of process {pid}")]
    Namespace {
        pid: i32,
        namespace: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The target, found.
#[derive(Debug)]
pub(crate) struct Target {
    /// The container's first process; `None` for the agent's own place.
    first: Option<i32>,
    /// What its processes are known by.
    container: Option<String>,
    /// Its root folder, as a path descriptor.
    root: OwnedFd,
    /// Readable when the first process has ended.
    pidfd: Option<OwnedFd>,
    ids: Ids,
    /// Whether there is an environment to give.
    has_env: bool,
    /// Whether uname(2) here gives the target's host name.
    knows_hostname: bool,
    /// The target is a process in the network that the agent was started in.
    shares_network: bool,
}

/// User and group ids as the target's user namespace shows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    users: Vec<Range>,
    groups: Vec<Range>,
    /// The kernel shows them so already.
    translated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// What the kernel shows for an id that has no place in a user namespace.
const NOBODY: u32 = 65534;

impl Ids {
    /// The kernel shows them to us as to the target.
    pub(crate) fn unchanged() -> Self {
        Self { translated: true, ..Self::default() }
    }

    pub(crate) fn user(&self, id: u32) -> u32 {
        if self.translated { id } else { inside(&self.users, id) }
    }

    pub(crate) fn group(&self, id: u32) -> u32 {
        if self.translated { id } else { inside(&self.groups, id) }
    }

    /// The id that our kernel is told for one of the target's; EINVAL for one that has no place there.
    pub(crate) fn user_outside(&self, id: u32) -> Result<u32, Errno> {
        if self.translated { Ok(id) } else { outside(&self.users, id) }
    }

    pub(crate) fn group_outside(&self, id: u32) -> Result<u32, Errno> {
        if self.translated { Ok(id) } else { outside(&self.groups, id) }
    }
}

fn inside(ranges: &[Range], id: u32) -> u32 {
    ranges
        .iter()
        .find_map(|range| {
            let offset = id.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
            range.inside.checked_add(offset)
        })
        .unwrap_or(NOBODY)
}

fn outside(ranges: &[Range], id: u32) -> Result<u32, Errno> {
    ranges
        .iter()
        .find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
            range.outside.checked_add(offset)
        })
        .ok_or(Errno::EINVAL)
}

fn ranges(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().map(|word| word.parse().ok());
            Some(Range { inside: words.next()??, outside: words.next()??, count: words.next()?? })
        })
        .collect()
}

/// Finds the target and opens what only its `/proc` entry gives.
pub(crate) fn find(named: &Named) -> Result<Target, TargetError> {
    let (first, container) = match named {
        Named::Own | Named::Nothing => (None, None),
        Named::Pid(pid) => (Some(*pid), None),
        Named::Container(id) => {
            let processes = processes(|pid| in_container(pid, id))?;
            let first =
                choose::first(&processes).ok_or_else(|| TargetError::NoSuchContainer { id: id.clone() })?;
            (Some(first), Some(id.clone()))
        }
    };
    let Some(pid) = first else {
        let root = open_path(Path::new("/")).map_err(|source| TargetError::Processes { source })?;
        let has_env = *named == Named::Own;
        return Ok(Target {
            first,
            container,
            root,
            pidfd: None,
            ids: Ids::unchanged(),
            has_env,
            knows_hostname: true,
            shares_network: false,
        });
    };
    let closed = |what: &Path| {
        let what = what.to_owned();
        move |source| TargetError::Closed { pid, what, source }
    };
    let pidfd = pidfd_open(pid).map_err(|source| match source.raw_os_error() {
        Some(libc::ESRCH) => TargetError::NoSuchProcess { pid },
        _ => TargetError::Watch { pid, source },
    })?;
    let root_path = proc_file(pid, "root");
    let root = open_path(&root_path).map_err(closed(&root_path))?;
    let ids = if same_namespace(pid, "user").map_err(closed(&proc_file(pid, "ns/user")))? {
        Ids::unchanged()
    } else {
        let read =
            |name: &str| fs::read_to_string(proc_file(pid, name)).map_err(closed(&proc_file(pid, name)));
        Ids { users: ranges(&read("uid_map")?), groups: ranges(&read("gid_map")?), translated: false }
    };
    Ok(Target {
        first,
        container,
        root,
        pidfd: Some(pidfd),
        ids,
        has_env: true,
        knows_hostname: true,
        shares_network: false,
    })
}

impl Target {
    /// Joins the target's network (and host name), for good. Call it while the process has one thread.
    ///
    /// Without the right to join it directly, the target's user namespace is joined first: its owner may, and holds
    /// every capability inside.
    pub(crate) fn enter(&mut self) -> Result<(), TargetError> {
        let Some(pid) = self.first else { return Ok(()) };
        let failed = |namespace| move |source| TargetError::Namespace { pid, namespace, source };
        let differs = |name| same_namespace(pid, name).map(|same| !same);
        // Opened before anything is joined: afterwards the process may count as a stranger's.
        let uts = differs("uts").and_then(|other| other.then(|| open_namespace(pid, "uts")).transpose());
        if differs("net").map_err(failed("network"))? {
            let net = open_namespace(pid, "net").map_err(failed("network"))?;
            if let Err(refused) = setns(&net, CloneFlags::CLONE_NEWNET) {
                if !differs("user").map_err(failed("user"))? {
                    return Err(failed("network")(refused.into()));
                }
                let user = open_namespace(pid, "user").map_err(failed("user"))?;
                setns(&user, CloneFlags::CLONE_NEWUSER).map_err(|error| failed("user")(error.into()))?;
                self.ids = Ids::unchanged();
                setns(&net, CloneFlags::CLONE_NEWNET).map_err(|error| failed("network")(error.into()))?;
            }
        } else {
            self.shares_network = true;
        }
        let joined = uts.and_then(|uts| match uts {
            Some(uts) => setns(&uts, CloneFlags::CLONE_NEWUTS).map_err(io::Error::from),
            None => Ok(()),
        });
        if let Err(error) = joined {
            tracing::debug!(%error, "the target's host name is read from its files");
            self.knows_hostname = false;
        }
        Ok(())
    }

    /// Whether the target's network is the one that the agent was started in. Known once it is [entered](Self::enter).
    pub(crate) fn shares_network(&self) -> bool {
        self.shares_network
    }

    /// A descriptor of its root for one more user.
    pub(crate) fn root(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    pub(crate) fn ids(&self) -> Ids {
        self.ids.clone()
    }

    /// A descriptor that reads as ready once the target has ended.
    pub(crate) fn end(&self) -> io::Result<Option<OwnedFd>> {
        self.pidfd.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// The process whose environment and user count right now.
    fn program(&self) -> Option<i32> {
        let first = self.first?;
        let processes = match &self.container {
            Some(id) => processes(|pid| in_container(pid, id)),
            // Without a container's name: the first process's descendants that see the same files and network.
            None => processes(|pid| same_place(first, pid)),
        };
        Some(processes.map_or(first, |processes| choose::program(first, &processes)))
    }
}

fn in_container(pid: i32, id: &str) -> bool {
    fs::read_to_string(proc_file(pid, "cgroup")).is_ok_and(|text| cgroup::holds(&text, id))
}

fn same_place(one: i32, other: i32) -> bool {
    ["ns/mnt", "ns/net"].iter().all(|name| {
        let both =
            fs::metadata(proc_file(one, name)).and_then(|a| Ok((a, fs::metadata(proc_file(other, name))?)));
        both.is_ok_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
    })
}

/// The processes that are `wanted`; those that end meanwhile are left out.
fn processes(wanted: impl Fn(i32) -> bool) -> Result<Vec<Process>, TargetError> {
    let folder = fs::read_dir("/proc").map_err(|source| TargetError::Processes { source })?;
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| wanted(*pid)).filter_map(process).collect())
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(proc_file(pid, "stat")).ok()?;
    let (parent, started) = parent_and_start(&stat)?;
    let command = fs::read(proc_file(pid, "cmdline")).ok()?;
    let command = command.strip_suffix(b"\0").unwrap_or(&command);
    let args = command.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    Some(Process { pid, parent, started, args })
}

/// The name, in parentheses, may hold anything, parentheses and spaces too: what counts stands behind the last one.
fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some((parent, started))
}

fn proc_file(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn open_namespace(pid: i32, name: &str) -> io::Result<OwnedFd> {
    let path = proc_file(pid, &format!("ns/{name}"));
    Ok(open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn same_namespace(pid: i32, name: &str) -> io::Result<bool> {
    let theirs = fs::metadata(proc_file(pid, &format!("ns/{name}")))?;
    let own = fs::metadata(format!("/proc/self/ns/{name}"))?;
    Ok((theirs.dev(), theirs.ino()) == (own.dev(), own.ino()))
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until the process behind `pidfd` has ended.
pub(crate) async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: the `AsyncFd` owns the descriptor, which stays the same open file until both are dropped here.
    let pidfd =
        unsafe { tokio::io::unix::AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) }?;
    let _ready = pidfd.readable().await?;
    tracing::info!("the target has ended");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_in_four_ways() {
        assert_eq!("self".parse(), Ok(Named::Own));
        assert_eq!("none".parse(), Ok(Named::Nothing));
        assert_eq!("pid:17".parse(), Ok(Named::Pid(17)));
        assert_eq!("container-id:containerd://ab".parse(), Ok(Named::Container("containerd://ab".into())));
        for wrong in ["", "pid:", "pid:-1", "pid:0", "container-id:", "docker"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 998877 1 1 1";
        assert_eq!(parent_and_start(stat), Some((7, 998_877)));
    }

    #[test]
    fn ids_outside_are_shown_as_inside_and_strangers_as_nobody() {
        let ids =
            Ids { users: ranges("0 100000 1000\n5000 7 1\n"), groups: ranges("0 1 1"), translated: false };
        assert_eq!(ids.user(100_000), 0);
        assert_eq!(ids.user(100_999), 999);
        assert_eq!(ids.user(101_000), NOBODY);
        assert_eq!(ids.user(7), 5000);
        assert_eq!(ids.group(1), 0);
        assert_eq!((ids.user_outside(999), ids.user_outside(5000)), (Ok(100_999), Ok(7)));
        assert_eq!(ids.group_outside(1), Err(Errno::EINVAL));
        assert_eq!(Ids::unchanged().user(101_000), 101_000);
    }
}
