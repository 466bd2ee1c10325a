"""Calls that containers and sandboxes refuse, refused by a filter as theirs is: what is done instead, or what is said.

The filter is around `exec` alone. The daemon and its agent, which for a local target need more, run outside of it.
"""

import json
import sys
from pathlib import Path

import harness.without
from harness import ending, main_job, places
from harness.scene import LocalScene
from harness.setup import has
from harness.testing import Skip, contains, equal, limit

SOCKETS = Path(__file__).with_name("sockets.py")
NO_COPIES = "pidfd_getfd is refused here"


class Without(LocalScene):
    """The local scene, where `exec` and what it starts run without the calls that the rules name."""

    def __init__(self, *rules):
        super().__init__()
        self.rules = rules

    def __enter__(self):
        super().__enter__()
        try:
            equal(self.laptop.run("serve", "--ensure").returncode, 0)
        except BaseException:
            self.__exit__()
            raise
        self.laptop.prefix = [sys.executable, "-B", harness.without.__file__, *self.rules, "--"]
        return self

    def refused(self, word, *parts):
        """The program did not run; the word says why, and the parts what is to be done."""
        done = self.laptop.run("exec", "-t", self.target, "--", "sh", "-c", "echo it ran")
        equal((done.returncode, done.stdout), (125, ""), done.stderr)
        for part in (f"[{word}]", *parts):
            contains(done.stderr, part)
        self.check_nothing_left()


def test_a_python_breakpoint_is_hit_where_sockets_cannot_be_copied():
    with Without("pidfd_getfd=EPERM") as scene:
        session = main_job.python_breakpoint(scene, "steal")
        contains(session.stderr, NO_COPIES)
        main_job.ends_cleanly(scene, session)


def test_a_node_breakpoint_is_hit_where_sockets_cannot_be_copied():
    with Without("pidfd_getfd=EPERM") as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "mirror"))


@limit(120)
def test_a_java_server_is_stopped_by_jdb_where_sockets_cannot_be_copied():
    if not has("javac", "jdb"):
        raise Skip("no JDK here: apt-get install default-jdk-headless")
    with Without("pidfd_getfd=EPERM") as scene:
        main_job.ends_cleanly(scene, main_job.java_breakpoint(scene, "steal"))


def test_a_session_that_ends_leaves_no_request_behind_where_sockets_cannot_be_copied():
    with Without("pidfd_getfd=EPERM") as scene:
        ending.first_requests_are_the_pods(scene, 5)
        scene.check_nothing_left()


def test_a_static_go_server_has_the_pods_world_where_sockets_cannot_be_copied():
    for error in ("EPERM", "ENOSYS"):
        with Without(f"pidfd_getfd={error}") as scene:
            session = main_job.static_program(scene, "go")
            equal(scene.say("whose")["client"], scene.pod.client_address, "the client's address")
            main_job.ends_cleanly(scene, session)


@limit(90)
def test_a_socket_that_was_made_for_the_program_is_as_its_own():
    """What the program of sockets.py finds out is the same where its sockets are copied and where they are made."""
    with LocalScene() as scene:
        wanted = sockets(scene)
        client, pod = scene.pod.client_address, scene.pod.address
        equal(wanted["who_asks"], [client, client, [pod, scene.port], client, [pod, scene.port], True, True])
        equal((wanted["refused_then_connected"], wanted["an_end_is_seen_at_once"]), (["ECONNREFUSED", 0, pod], True))
        assert not [step for step, result in wanted.items() if "Error" in str(result)], wanted
    with Without("pidfd_getfd=EPERM") as scene:
        got = sockets(scene)
        for step, result in wanted.items():
            equal(got[step], result, step)


# A server that answers once, listens no more, and lives on.
ONCE = """
import socket, sys, time
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listening", flush=True)
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
connection.close()
listener.close()
print("closed", flush=True)
time.sleep(60)
"""


def test_a_listener_that_was_closed_has_the_next_request_go_to_the_pod():
    for scene in (LocalScene(), Without("pidfd_getfd=EPERM")):
        with scene:
            session = scene.exec([places.venv_python(), "-c", ONCE, scene.port], "--steal")
            session.wait_for("listening")
            equal(scene.get("/once"), {})
            session.wait_for("closed")
            scene.own_answer()
            main_job.ends_cleanly(scene, session)


def sockets(scene) -> dict:
    session = scene.exec([places.venv_python(), SOCKETS, scene.pod.client_address, scene.port], "--steal")
    session.wait_for("listening")
    for _ in range(2):
        scene.get("/anything")
    equal(session.wait(), 0, session.printed())
    return json.loads(session.stdout.splitlines()[-1])


def test_without_namespaces_and_mounts_files_are_copied_into_memory():
    with Without("unshare=EPERM", "mount=EPERM", "fsopen=EPERM", "fsmount=EPERM", "move_mount=EPERM") as scene:
        main_job.mounted_files(scene)
        session = main_job.open_folders(scene)
        contains(session.stderr, "files of the pod are copied into memory")
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


def test_without_calls_for_memory_the_programs_memory_is_read_by_proc():
    with Without("process_vm_readv=EPERM", "process_vm_writev=ENOSYS") as scene:
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


def test_where_memory_cannot_be_looked_into_the_program_never_runs():
    # As under kernel.yama.ptrace_scope 2: neither the calls nor /proc/PID/mem, which is read far beyond 4 GiB.
    with Without("process_vm_readv=EPERM", "process_vm_writev=EPERM", "pread64:3:high=EPERM") as scene:
        scene.refused("memory-refused", "kernel.yama.ptrace_scope", "--cap-add SYS_PTRACE")


def test_where_no_files_can_be_given_the_program_never_runs():
    # SECCOMP_IOCTL_NOTIF_ADDFD; its flags lie in memory, where no filter looks.
    for error in ("EPERM", "ENOSYS"):
        with Without(f"ioctl:1:0x40182103={error}") as scene:
            scene.refused("giving-refused", "ioctl(2) on seccomp listeners")


def test_where_no_filter_is_allowed_the_program_never_runs():
    with Without("seccomp=EPERM") as scene:
        scene.refused("seccomp-refused", "forbids seccomp filters")


def test_on_a_kernel_without_killable_waits_the_program_never_runs():
    with Without("seccomp:1:&0x20=EINVAL") as scene:
        scene.refused("seccomp-refused", "Linux 5.19 or newer")


def test_where_another_listener_is_the_program_never_runs():
    with Without("listener") as scene:
        scene.refused("seccomp-refused", "another tool", "start it outside")
