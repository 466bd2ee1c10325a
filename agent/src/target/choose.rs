//! Which process of a container is the program: whose environment, command line and user a session takes on.
//!
//! A container's first process is often only a starter: an init (tini), or a shell that runs an entry script and sets
//! variables before it starts the program. What the program sees is what counts.

/// What is known of one process; all of one container or one process tree.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Clock ticks between boot and its start.
    pub(crate) started: u64,
    /// Its command line.
    pub(crate) args: Vec<Vec<u8>>,
}

const INITS: [&[u8]; 10] = [
    b"tini",
    b"tini-static",
    b"docker-init",
    b"dumb-init",
    b"catatonit",
    b"pause",
    b"s6-svscan",
    b"s6-supervise",
    b"su-exec",
    b"gosu",
];
const SHELLS: [&[u8]; 6] = [b"sh", b"bash", b"dash", b"ash", b"zsh", b"ksh"];

/// The container's first process among `processes`: the oldest of those whose parent is outside.
///
/// What was brought in later (kubectl exec, probes) has its parent outside as well, and is younger.
pub(crate) fn first(processes: &[Process]) -> Option<i32> {
    processes
        .iter()
        .filter(|process| !processes.iter().any(|other| other.pid == process.parent))
        .min_by_key(|process| (process.started, process.pid))
        .map(|process| process.pid)
}

/// The program that `first` starts: `first` itself unless it is an init or a shell with one child.
pub(crate) fn program(first: i32, processes: &[Process]) -> i32 {
    let mut chosen = first;
    // A chain longer than this is no chain of starters.
    for _ in 0..8 {
        let Some(process) = processes.iter().find(|process| process.pid == chosen) else { break };
        let mut children: Vec<&Process> =
            processes.iter().filter(|child| child.parent == chosen && child.pid != chosen).collect();
        children.sort_by_key(|child| (child.started, child.pid));
        match (starter(&process.args), children.as_slice()) {
            // An init adopts orphans and may run several: its own child is the oldest.
            (Starter::Init, [oldest, ..]) => chosen = oldest.pid,
            (Starter::Shell, [only]) => chosen = only.pid,
            _ => break,
        }
    }
    chosen
}

enum Starter {
    No,
    Init,
    Shell,
}

fn starter(args: &[Vec<u8>]) -> Starter {
    let Some(program) = args.first() else { return Starter::No };
    let name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
    let program = name(program);
    if INITS.contains(&program.as_slice()) {
        return Starter::Init;
    }
    let (shell, rest) = match args {
        [_, applet, rest @ ..] if program == b"busybox" => (name(applet), rest),
        [_, rest @ ..] => (program.strip_prefix(b"-").unwrap_or(&program).to_vec(), rest),
        [] => return Starter::No,
    };
    // s6-overlay and friends run as `/bin/sh /init`; an interactive shell has no argument that is not an option.
    let runs_something = rest.iter().any(|arg| !arg.starts_with(b"-"));
    if SHELLS.contains(&shell.as_slice()) && runs_something { Starter::Shell } else { Starter::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, started: u64, command: &str) -> Process {
        let args = command.split('|').map(|arg| arg.as_bytes().to_vec()).collect();
        Process { pid, parent, started, args }
    }

    fn chosen(processes: &[Process]) -> i32 {
        program(first(processes).unwrap(), processes)
    }

    #[test]
    fn a_plain_program_is_itself_even_with_workers() {
        assert_eq!(chosen(&[process(100, 50, 9, "/srv/app"), process(101, 100, 10, "/srv/app|worker")]), 100);
    }

    #[test]
    fn an_init_is_skipped_to_its_own_child_not_to_an_orphan() {
        for init in [
            "/sbin/tini|--|app",
            "dumb-init|app",
            "/usr/bin/catatonit|-P",
            "/pause",
            "/sbin/docker-init|--|app",
        ] {
            let processes =
                [process(1, 0, 1, init), process(40, 1, 900, "orphan"), process(7, 1, 5, "node|server.js")];
            assert_eq!(chosen(&processes), 7, "{init}");
        }
    }

    #[test]
    fn starters_are_skipped_in_a_chain() {
        let processes = [
            process(1, 0, 1, "/usr/bin/tini|--|/entrypoint.sh"),
            process(6, 1, 2, "/bin/bash|/entrypoint.sh|serve"),
            process(9, 6, 3, "/bin/sh|-c|python app.py"),
            process(12, 9, 4, "python|app.py"),
            process(13, 12, 5, "python|app.py"),
        ];
        assert_eq!(chosen(&processes), 12);
    }

    #[test]
    fn a_shell_with_two_children_or_none_and_an_interactive_one_stay() {
        let two = [process(1, 0, 1, "sh|-c|a & b"), process(2, 1, 2, "a"), process(3, 1, 3, "b")];
        assert_eq!(chosen(&two), 1);
        assert_eq!(chosen(&[process(1, 0, 1, "sh|-c|while :; do :; done")]), 1);
        assert_eq!(chosen(&[process(1, 0, 1, "-bash"), process(2, 1, 2, "vi")]), 1);
        assert_eq!(chosen(&[process(1, 0, 1, "busybox|sh|-c|app"), process(2, 1, 2, "app")]), 2);
        assert_eq!(chosen(&[process(1, 0, 1, "busybox|httpd|-f"), process(2, 1, 2, "busybox|httpd")]), 1);
    }

    #[test]
    fn what_was_executed_into_the_container_later_is_not_its_first_process() {
        let processes =
            [process(900, 1, 700, "sh"), process(300, 250, 20, "app"), process(301, 300, 25, "child")];
        assert_eq!(chosen(&processes), 300);
        assert_eq!(first(&[]), None);
    }
}
