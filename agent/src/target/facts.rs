//! What a session is told of its target at the start: environment, user, mounts, addresses, ports.
//!
//! Read anew for each session: the program may have been restarted by its entry script meanwhile. What cannot be read
//! is left empty and logged: a session without the one can still use the others.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bytes::Bytes;
use protocol::agent::Welcome;

use super::{Target, proc_file};
use crate::files::{Actor, Files};

const KERNEL_PLACES: [&str; 3] = ["/dev", "/proc", "/sys"];
const KERNEL_TYPES: [&str; 15] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "devtmpfs",
    "securityfs",
    "debugfs",
    "tracefs",
    "pstore",
    "bpf",
    "configfs",
    "binfmt_misc",
    "nsfs",
];

impl Target {
    /// Everything of a [`Welcome`] that the target itself tells (protocol and incoming are left to the caller), and as
    /// whom its files are changed.
    pub(crate) fn facts(&self, want_env: bool, files: &Files) -> (Welcome, Actor) {
        let program = self.program();
        let place = |name: &str| match program {
            Some(pid) => proc_file(pid, name),
            None => PathBuf::from(format!("/proc/self/{name}")),
        };
        let read = |name: &str| {
            fs::read(place(name)).unwrap_or_else(|error| {
                tracing::warn!(name, %error, "cannot read this of the target");
                Vec::new()
            })
        };
        let status = read("status");
        let actor = actor(&String::from_utf8_lossy(&status));
        let env = if want_env && self.has_env { variables(&read("environ")) } else { Vec::new() };
        let command = if self.first.is_some() { read("cmdline") } else { Vec::new() };
        let welcome = Welcome {
            hostname: if self.knows_hostname { None } else { hostname_file(files) }
                .unwrap_or_else(own_hostname),
            env,
            uid: self.ids.user(actor.uid),
            gid: self.ids.group(actor.gid),
            groups: actor.groups.iter().map(|id| self.ids.group(*id)).collect(),
            listening: listening(),
            mounts: volumes(&String::from_utf8_lossy(&read("mountinfo"))),
            addresses: addresses(),
            cwd: working_folder(place("cwd"), place("root")),
            nameservers: files.small("/etc/resolv.conf").map_or_else(Vec::new, |text| nameservers(&text)),
            command: Bytes::from(command),
            ..Welcome::default()
        };
        (welcome, actor)
    }
}

fn own_hostname() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.nodename().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn hostname_file(files: &Files) -> Option<String> {
    files.small("/etc/hostname").map(|text| text.trim().to_owned()).filter(|name| !name.is_empty())
}

fn variables(environ: &[u8]) -> Vec<Bytes> {
    environ
        .split(|byte| *byte == 0)
        .filter(|variable| !variable.is_empty())
        .map(Bytes::copy_from_slice)
        .collect()
}

/// Who a `/proc/PID/status` says that a process is, by its effective ids. What it does not say becomes an id that
/// nobody can be.
fn actor(status: &str) -> Actor {
    let words = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_ascii_whitespace()
    };
    let number = |name: &str| words(name).nth(1).and_then(|word| word.parse().ok()).unwrap_or(u32::MAX);
    Actor {
        uid: number("Uid:"),
        gid: number("Gid:"),
        groups: words("Groups:").filter_map(|word| word.parse().ok()).collect(),
        capabilities: words("CapEff:")
            .next()
            .and_then(|word| u64::from_str_radix(word, 16).ok())
            .unwrap_or(0),
    }
}

/// The mount points of volumes in a `/proc/PID/mountinfo`.
fn volumes(mountinfo: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(place) = left.split(' ').nth(4) else { continue };
        let kind = right.split(' ').next().unwrap_or_default();
        let place = unescape(place);
        let kernels = KERNEL_TYPES.contains(&kind)
            || KERNEL_PLACES.iter().any(|&of| place == of || place.starts_with(&format!("{of}/")));
        if place != "/" && !kernels && !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn nameservers(resolv_conf: &str) -> Vec<String> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned)).flatten()
        })
        .collect()
}

fn working_folder(cwd: PathBuf, root: PathBuf) -> String {
    let Ok(cwd) = fs::read_link(cwd) else { return "/".to_owned() };
    // A process with a root of its own in our mount namespace: the link shows the path from our root.
    let cwd = match fs::read_link(root) {
        Ok(root) if root.as_os_str().as_bytes() != b"/" => {
            cwd.strip_prefix(&root).map(|inside| PathBuf::from("/").join(inside)).unwrap_or(cwd)
        }
        _ => cwd,
    };
    String::from_utf8_lossy(&cwd.into_os_string().into_vec()).into_owned()
}

/// One line of `/proc/net/tcp` or `tcp6`.
struct Line {
    port: u16,
    state: u8,
}

const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0a;

fn tcp_lines() -> Vec<Line> {
    // The thread's own: it is in the target's network, and no right over the target is needed.
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(tcp_line).collect::<Vec<_>>())
        .collect()
}

fn tcp_line(line: &str) -> Option<Line> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (_, port) = words.next()?.rsplit_once(':')?;
    let state = words.nth(1)?;
    Some(Line { port: u16::from_str_radix(port, 16).ok()?, state: u8::from_str_radix(state, 16).ok()? })
}

fn listening() -> Vec<u32> {
    let ports: BTreeSet<u32> =
        tcp_lines().iter().filter(|line| line.state == LISTEN).map(|line| u32::from(line.port)).collect();
    ports.into_iter().collect()
}

/// How many established connections have `port` as their own end in the target's network.
pub(crate) fn established(port: u16) -> u32 {
    tcp_lines().iter().filter(|line| line.state == ESTABLISHED && line.port == port).count() as u32
}

/// The addresses of the target's network, without loopback and link-local ones.
fn addresses() -> Vec<String> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "cannot list the pod's addresses");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for address in interfaces.filter_map(|interface| interface.address) {
        let ip = if let Some(v4) = address.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = address.as_sockaddr_in6() {
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        if of_the_pod(ip) && !found.contains(&ip.to_string()) {
            found.push(ip.to_string());
        }
    }
    found
}

fn of_the_pod(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && ip != Ipv4Addr::UNSPECIFIED && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && ip != Ipv6Addr::UNSPECIFIED && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_neither_the_root_nor_the_kernels() {
        let mountinfo = "\
600 500 0:100 / / rw,relatime - overlay overlay rw,lowerdir=/a
601 600 0:101 / /proc rw,nosuid - proc proc rw
602 600 0:102 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
603 602 0:103 / /dev/shm rw - tmpfs shm rw
604 600 0:104 / /sys ro - sysfs sysfs ro
605 604 0:105 / /sys/fs/cgroup ro - cgroup2 cgroup rw
606 600 8:1 /var/lib/kubelet/pods/x/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw
607 600 0:106 / /run/secrets/kubernetes.io/serviceaccount ro - tmpfs tmpfs rw
608 600 8:1 /v /srv/with\\040space rw shared:1 master:2 - ext4 /dev/sda1 rw
";
        assert_eq!(
            volumes(mountinfo),
            ["/etc/hosts", "/run/secrets/kubernetes.io/serviceaccount", "/srv/with space"]
        );
    }

    #[test]
    fn effective_ids_groups_and_capabilities_are_read_from_a_status() {
        let status =
            "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t5\t6\t7\t8\nGroups:\t1 22 \nCapEff:\t00000000000000c3\n";
        let expected = Actor { uid: 1000, gid: 6, groups: vec![1, 22], capabilities: 0xc3 };
        assert_eq!(actor(status), expected);
    }

    #[test]
    fn a_line_of_proc_net_tcp_gives_port_and_state() {
        let text =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 1 1";
        let line = tcp_line(text).unwrap();
        assert_eq!((line.port, line.state), (8080, LISTEN));
        let text =
            "   1: 00000000000000000000000001000000:0050 00000000000000000000000001000000:D431 01 0:0 0";
        let line = tcp_line(text).unwrap();
        assert_eq!((line.port, line.state), (80, ESTABLISHED));
    }

    #[test]
    fn an_environment_may_hold_anything_but_nul() {
        assert_eq!(variables(b"A=1\0B=x=y\0\0C=\xff\0"), [&b"A=1"[..], b"B=x=y", b"C=\xff"]);
        assert_eq!(
            nameservers("# x\nnameserver 10.0.0.10\nsearch a b\nnameserver fd00::a\n"),
            ["10.0.0.10", "fd00::a"]
        );
    }
}
