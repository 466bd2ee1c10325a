//! Acting as the target's program: what changes files is done with its user, groups and capabilities, so that the
//! kernel itself judges permissions and gives owners.
//!
//! All of it belongs to one thread and is taken back before the thread does anything else. Only what counts for files
//! is changed (setfsuid(2)): the agent stays the agent for signals and the like.

use std::io;

use nix::errno::Errno;

/// The capabilities that setfsuid(2) itself takes and gives: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID,
/// LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const FILE_CAPABILITIES: u64 = 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32;

/// Who the target's program is, as the agent's own user namespace numbers users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Its effective capabilities, a bit each.
    pub(crate) capabilities: u64,
}

/// The agent is not allowed to be the target's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Barred {
    pub(crate) what: &'static str,
    pub(crate) errno: Errno,
}

impl Actor {
    /// Does `work` as the target's program.
    pub(crate) fn act<T>(&self, work: impl FnOnce() -> T) -> Result<T, Barred> {
        let _acting = Acting::start(self)?;
        Ok(work())
    }

    /// The agent itself.
    #[cfg(test)]
    pub(crate) fn own() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            groups: own_groups().unwrap(),
            capabilities: u64::MAX,
        }
    }
}

/// What this thread was before; taken back when dropped.
#[derive(Default)]
struct Acting {
    capabilities: Option<Capabilities>,
    groups: Option<Vec<u32>>,
    gid: Option<u32>,
    uid: Option<u32>,
}

impl Acting {
    fn start(actor: &Actor) -> Result<Self, Barred> {
        let barred = |what| move |error: io::Error| Barred { what, errno: super::errno_of(&error) };
        let mut before = Self::default();
        // Groups come first: the right to set them goes with the user.
        let (mut own, mut wanted) = (own_groups().map_err(barred("read its groups"))?, actor.groups.clone());
        own.sort_unstable();
        wanted.sort_unstable();
        if own != wanted {
            set_groups(&wanted)
                .map_err(barred("take the groups of the target's program (it needs SETGID)"))?;
            before.groups = Some(own);
        }
        let gid = file_id(libc::SYS_setfsgid, actor.gid)
            .map_err(barred("take the group of the target's program (it needs SETGID)"))?;
        before.gid = (gid != actor.gid).then_some(gid);
        let uid = file_id(libc::SYS_setfsuid, actor.uid)
            .map_err(barred("take the user of the target's program (it needs SETUID)"))?;
        before.uid = (uid != actor.uid).then_some(uid);
        let own = Capabilities::read().map_err(barred("read its capabilities"))?;
        let less = own.without(FILE_CAPABILITIES & !actor.capabilities);
        if less != own {
            less.set().map_err(barred("do without capabilities that the target's program has not"))?;
            before.capabilities = Some(own);
        }
        Ok(before)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let restored = (|| -> io::Result<()> {
            if let Some(uid) = self.uid {
                file_id(libc::SYS_setfsuid, uid)?;
            }
            if let Some(gid) = self.gid {
                file_id(libc::SYS_setfsgid, gid)?;
            }
            if let Some(capabilities) = &self.capabilities {
                capabilities.set()?;
            }
            match &self.groups {
                Some(groups) => set_groups(groups),
                None => Ok(()),
            }
        })();
        if let Err(error) = restored {
            // The real and saved ids are still the agent's own, so the kernel has no reason to refuse. A thread that
            // went on as somebody else would act for other sessions with the wrong rights.
            tracing::error!(%error, "a thread cannot be the agent's own again: the agent ends");
            std::process::abort();
        }
    }
}

/// Sets the user or group id that counts for files, of this thread; gives the one before.
fn file_id(call: libc::c_long, id: u32) -> io::Result<u32> {
    // SAFETY: both calls take one integer and change nothing but this thread.
    let before = unsafe { libc::syscall(call, id) } as u32;
    // The call tells no error; asked for an impossible id, it says what holds.
    // SAFETY: as above.
    let now = unsafe { libc::syscall(call, u32::MAX) } as u32;
    if now == id { Ok(before) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

fn own_groups() -> io::Result<Vec<u32>> {
    // SAFETY: with no room the call writes nothing.
    let count = Errno::result(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: the buffer has room for `count` groups; only this thread changes its own.
    let count = Errno::result(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(groups)
}

/// Of this thread alone: libc's own function tells all threads.
fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads as many groups as are there.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(set).map(drop).map_err(Into::into)
}

/// A thread's capabilities, as capget(2) gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Capabilities([Half; 2]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

const VERSION_3: u32 = 0x2008_0522;

impl Capabilities {
    fn read() -> io::Result<Self> {
        let mut halves = Self([Half::default(); 2]);
        let header = Header { version: VERSION_3, pid: 0 };
        // SAFETY: both structures are as version 3 has them, and ours.
        let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut halves) };
        Errno::result(got)?;
        Ok(halves)
    }

    fn set(&self) -> io::Result<()> {
        let header = Header { version: VERSION_3, pid: 0 };
        // SAFETY: both structures are as version 3 has them; they are only read.
        let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const *self) };
        Errno::result(set).map(drop).map_err(Into::into)
    }

    fn without(mut self, dropped: u64) -> Self {
        self.0[0].effective &= !(dropped as u32);
        self.0[1].effective &= !((dropped >> 32) as u32);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_the_agents_own_again_afterwards() {
        let before = (own_groups().unwrap(), Capabilities::read().unwrap());
        let actor = match nix::unistd::geteuid().is_root() {
            true => Actor { uid: 1234, gid: 2345, groups: vec![7, 5], capabilities: 0 },
            false => Actor { capabilities: 0, ..Actor::own() },
        };
        let inside = actor.act(|| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let last =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            (
                last("Uid:").split_ascii_whitespace().last().unwrap().parse().unwrap(),
                last("Gid:").split_ascii_whitespace().last().unwrap().parse().unwrap(),
                own_groups().unwrap(),
                Capabilities::read().unwrap(),
            )
        });
        let (uid, gid, mut groups, capabilities): (u32, u32, Vec<u32>, Capabilities) = inside.unwrap();
        groups.sort_unstable();
        let mut wanted = actor.groups.clone();
        wanted.sort_unstable();
        assert_eq!((uid, gid, groups), (actor.uid, actor.gid, wanted));
        assert_eq!(capabilities, capabilities.without(FILE_CAPABILITIES));
        assert_eq!((own_groups().unwrap(), Capabilities::read().unwrap()), before);
        // SAFETY: takes an integer; asked for an impossible id, it changes nothing.
        let uid = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) } as u32;
        assert_eq!(uid, nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn an_agent_that_may_not_be_the_targets_user_says_so() {
        if nix::unistd::geteuid().is_root() {
            // As in a container that dropped it.
            let less = Capabilities::read().unwrap().without(1 << 7);
            std::thread::spawn(move || {
                less.set().unwrap();
                let stranger = Actor { uid: 1234, ..Actor::own() };
                let barred = stranger.act(|| ()).unwrap_err();
                assert!(barred.what.contains("SETUID"), "{barred:?}");
            })
            .join()
            .unwrap();
        }
    }
}
