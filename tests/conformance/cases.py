"""The 83 cases: what each is about, which languages have it, and why the others are left out."""

from dataclasses import dataclass

ALL = "c go rust python node java ruby bash"
RAW = "its library has no such call"
SHELL = "a shell cannot say it"


@dataclass(frozen=True)
class Case:
    about: str
    languages: list[str]
    # Why the languages that are not named have none.
    left_out: str = ""
    # It is about this machine alone, so that a run without the product sees the same.
    near: bool = False


def case(about, languages, left_out="", near=False):
    names = languages.split()
    assert left_out or set(names) == set(ALL.split()), f"{about}: why are other languages left out?"
    return Case(about, names, left_out, near)


FILES = {
    1: case("open, read, close", ALL),
    2: case("openat of an absolute path with any dirfd", "c go python", RAW),
    3: case("openat relative to a remote dirfd", "c go python", RAW),
    4: case("openat relative to a local dirfd", "c go python", RAW),
    5: case("`..` inside the pod's folder", ALL),
    6: case("`..` from the pod's folder to this machine", ALL),
    7: case("a link inside the pod's folder", ALL),
    8: case("an absolute link of the pod's stays there", ALL),
    9: case("a ConfigMap's `..data` swaps", "c go rust python node java ruby", SHELL + " fast enough"),
    10: case("fopen, freopen, opendir, scandir, glob, nftw, realpath, mkstemp and their like", ALL),
    11: case("two opens have own offsets, dup shares one", "c go rust python node ruby", RAW),
    12: case("pread, readv, preadv, lseek, SEEK_DATA", "c go rust python node java ruby", SHELL),
    13: case("mmap, private and shared", "c go rust python java", RAW),
    14: case("fstat equals stat equals statx", "c go rust python node ruby bash", RAW),
    15: case("cp, tar, ls -l, find", "c go rust python node ruby bash", "it starts the same tools"),
    16: case("extended attributes", "c go python", RAW),
    17: case("10,000 entries, read twice", ALL),
    18: case("ENOENT, EACCES, EISDIR, ENOTDIR, ELOOP, ENAMETOOLONG", ALL),
    19: case("writing to a read-only volume: EROFS", ALL),
    20: case("writing, O_APPEND, O_TRUNC, O_EXCL, mode and umask", ALL),
    21: case("rename and link between the pod and this machine: EXDEV", "c go rust python node ruby", RAW),
    22: case("mkdir, rmdir, unlink, link, symlink, chmod, utimens", "c go rust python node ruby bash", RAW),
    23: case("sendfile, copy_file_range", "c go rust python node java ruby", SHELL),
    24: case("flock, fcntl locks", "c go python java ruby", RAW),
    25: case("more than 4 GiB, sparse", "c go rust python node java ruby", SHELL),
    26: case("a file of size 0 with content, as in /proc", ALL),
    27: case("chdir and getcwd in the pod's folders", "c go rust python node ruby bash", RAW),
    28: case("O_PATH, O_DIRECTORY, O_CLOEXEC kept", "c go rust python node", RAW),
    29: case("openat2 with RESOLVE_…", "c", RAW),
    30: case("inotify on a mounted ConfigMap", "c go node java", RAW),
    31: case("a path that ends at a page's border, a bad pointer: EFAULT", "c", "it makes its own copies of paths"),
    32: case("/proc/self/fd/N: readlink and reopen", "c go rust python node ruby bash", RAW),
}
SOCKETS = {
    33: case("connect that blocks", ALL),
    34: case("connect that does not block, registered in epoll before", "c go python node java", "it has no such sockets, or they are the same as in Go and Node"),
    35: case("ECONNREFUSED, EHOSTUNREACH", ALL),
    36: case("getpeername and getsockname, short buffers, lengths written back", "c go rust python node java ruby", SHELL),
    37: case("IPv6, mapped addresses, V6ONLY", "c go rust python node java ruby", SHELL),
    38: case("Unix sockets by path and by abstract name; one of the pod's", "c go rust python node ruby", RAW),
    39: case("UDP, connected and not, the source's address", "c go rust python node java ruby", SHELL),
    40: case("sendmsg, recvmsg and those for many, MSG_PEEK, MSG_TRUNC", "c go python", RAW),
    41: case("bind of port 80 and of any, again, SO_REUSEPORT, two listeners", "c go rust python node java ruby", SHELL),
    42: case("accept that blocks or not, by several threads; the client's address", "c go rust python node java ruby", SHELL),
    43: case("a listener that is dup'ed, forked, passed on", "c go rust python node", RAW),
    44: case("a connection to an own port that is another here", "c go python node", "the way there is the same as in Go's and Node's"),
    45: case("half-close, reset, linger and keepalive kept", "c go rust python node", RAW),
    46: case("TCP_FASTOPEN by sendto", "c", RAW),
    47: case("socketpair and pipes are untouched", "c go rust python", RAW, near=True),
}
NAMES = {
    50: case("getaddrinfo, gethostbyname", ALL),
    51: case("Go's own resolver", "go-static", "they have another"),
    52: case("c-ares", "node", "they have another"),
    53: case("musl's resolver: Debian's by recvfrom, Rust's by recvmsg", "c-musl rust-musl", "they have another"),
    54: case("search and ndots", "c go rust python node java ruby", "as the C library does"),
    55: case("unknown names, only IPv6, an answer that is cut and asked for by TCP", "c go rust python node java ruby", "as the C library does"),
    56: case("the pod's /etc/hosts", ALL),
    57: case("nscd and resolved are not asked", "c", "the C library would ask"),
    58: case("an address's name", "c go python node java ruby", RAW),
}
PROCESSES = {
    59: case("fork, vfork, posix_spawn, clone3, a chain of execve", "c python node", RAW),
    60: case("a child whose environment is empty", "c python node bash", "it starts the same children"),
    61: case("fork in a program with threads", "c python", RAW),
    62: case("a thread other than the leader, whose leader has ended", "c", RAW),
    63: case("a daemon, forked twice", "c python bash", RAW),
    65: case("a child in other namespaces", "c", "it starts the same child"),
}
SIGNALS = {
    70: case("a storm of SIGALRM, with and without SA_RESTART", "c python", RAW),
    71: case("SIGTERM and SIGKILL during a call", "c", "what is killed does not matter"),
    72: case("Go's preemption while its garbage is collected", "go", "they have no such signals"),
    75: case("stopped and continued, the exit code", "c", "the kernel's matter, whatever the language"),
    82: case("a call in a signal's handler", "c", "their handlers are no such"),
}
CASES = {**FILES, **SOCKETS, **NAMES, **PROCESSES, **SIGNALS}
GROUPS = {"files": list(FILES), "sockets": list(SOCKETS), "names": list(NAMES), "processes": list(PROCESSES), "signals": list(SIGNALS)}
# Cases that are no matter of a probe's language, and the tests that keep them.
KEPT_ELSEWHERE = {
    48: ["ide-server/host/src/debugger.rs: a_debuggers_ports_are_known_from_its_command_line",
         "tests/conformance/test_main_job.py: test_a_node_breakpoint_is_hit_by_a_stolen_request"],
    49: ["tests/conformance/test_cells_alone.py: test_case_49_the_relay_refuses_a_stranger"],
    64: ["tests/conformance/test_failures.py: test_a_program_that_is_not_there_or_privileged_never_runs"],
    66: ["tests/conformance/test_cells_alone.py: test_case_66_a_program_that_may_not_be_looked_at_is_local"],
    67: ["tests/conformance/test_cells_alone.py: test_case_67_a_session_in_a_session_is_refused_with_the_reason"],
    68: ["tests/conformance/test_cells_alone.py: test_case_68_a_32_bit_program_is_refused_and_never_runs"],
    69: ["tests/conformance/test_cells_alone.py: test_case_69_a_program_that_wants_io_uring_falls_back"],
    73: ["tests/conformance/test_main_job.py: test_a_python_breakpoint_is_hit_by_a_stolen_request",
         "tests/conformance/test_main_job.py: test_a_node_breakpoint_is_hit_by_a_stolen_request",
         "tests/conformance/test_main_job.py: test_a_java_server_is_stopped_by_jdb"],
    76: ["tests/conformance/test_failures.py: test_the_session_host_is_killed"],
    77: ["tests/conformance/test_failures.py: test_the_agent_is_killed"],
    78: ["tests/conformance/test_failures.py: test_the_front_is_killed"],
    79: ["preload-layer/tests/layer.rs: allocators_can_be_preloaded_before_and_behind"],
    80: ["preload-layer/tests/layer.rs: hooks_work_before_the_layers_own_constructor"],
    83: ["policy/tests/agreement.rs: ten_thousand_paths_are_decided_as_by_the_naive_implementation",
         "preload-layer/src/plan.rs: what_is_passed_is_what_the_session_host_calls_local"],
}
# Cases without a test, and what one needs.
NOT_YET = {
    74: "a debugger that attaches while a call waits for a slow agent: the delay of test_round_trips before the agent",
    81: "programs built with _FORTIFY_SOURCE, and binaries of a glibc before 2.33",
}
