"""A developer whose machine is a container of Docker's making: what is possible there is used, and what is not is said."""

import json
import sys

import harness.without
from harness import main_job, places
from harness.dev_container import DevContainer
from harness.laptop import ORDINARY, Laptop
from harness.scene import ClusterScene
from harness.testing import Skip, contains, equal, limit

AGENT = {"agent": {"image": "localhost/mirrord-ide-agent:test"}}
SOCKETS, FILES = "pidfd_getfd is refused here, so the program's sockets are made for it", "files of the pod are copied into memory"

# What Docker's profile refuses of that which the product would use, and what it allows of that which it must.
ALLOWED = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *words):
    return {name: "ok" if libc.syscall(number, *words) >= 0 else errno.errorcode[ctypes.get_errno()]}
fd = os.pidfd_open(os.getpid())
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps(call("pidfd_getfd", 438, fd, 0, 0) | call("unshare", 272, 0x10000000) | call("fsopen", 430, b"fuse", 0) | {
    "fuse": os.path.exists("/dev/fuse"), "bounding": status["CapBnd"].strip(), "effective": status["CapEff"].strip(),
    "seccomp": status["Seccomp"].strip(), "privileges": status["NoNewPrivs"].strip()}))
"""


def as_root(env=None):
    return DevContainer(env, user=0)


def mode(laptop) -> str:
    (session,) = laptop.json("status", "--json")["sessions"]
    return session["host"]["mode"]


@limit(120)
def test_the_container_is_one_of_dockers():
    for start, effective in ((DevContainer, "0000000000000000"), (as_root, "00000000a80425fb")):
        with start() as laptop:
            equal(json.loads(laptop.run_inside(places.venv_python(), "-c", ALLOWED)),
                  {"pidfd_getfd": "EPERM", "unshare": "EPERM", "fsopen": "EPERM", "fuse": False, "bounding": "00000000a80425fb", "effective": effective,
                   "seccomp": "2", "privileges": "0"})


@limit(150)
def test_a_python_breakpoint_is_hit_in_a_dev_container():
    with ClusterScene(config=AGENT, laptop=DevContainer) as scene:
        session = main_job.python_breakpoint(scene, "steal")
        contains(session.stderr, SOCKETS)
        contains(session.stderr, FILES)
        equal(mode(scene.laptop), "hybrid, files by memory copies, sockets made for the program")
        main_job.ends_cleanly(scene, session)


@limit(150)
def test_a_node_breakpoint_is_hit_in_a_dev_container():
    with ClusterScene(config=AGENT, laptop=DevContainer) as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "steal"))


@limit(150)
def test_a_mirrored_request_is_seen_in_a_dev_container():
    with ClusterScene(config=AGENT, laptop=DevContainer) as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "mirror"))


@limit(150)
def test_a_static_go_server_has_the_pods_world_in_a_dev_container():
    with ClusterScene(config=AGENT, laptop=DevContainer) as scene:
        session = main_job.static_program(scene, "go")
        client = scene.cluster.get("pod", f"{scene.sample.label}-client")["status"]["podIP"]
        equal(scene.say("whose")["client"], client, "the client's address")
        main_job.ends_cleanly(scene, session)


@limit(150)
def test_root_of_a_dev_container_does_the_same():
    with ClusterScene(config=AGENT, laptop=as_root) as scene:
        session = main_job.python_breakpoint(scene, "steal")
        session.terminate()
        session.wait()
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


@limit(150)
def test_files_and_folders_of_the_pod_in_a_dev_container():
    with ClusterScene(config=AGENT, laptop=DevContainer) as scene:
        main_job.mounted_files(scene)
        main_job.open_folders(scene)
        scene.check_nothing_left()


@limit(150)
def test_where_user_namespaces_are_refused_fusermount_mounts():
    """fusermount3 is a setuid program, so the filter is put on by root, as a container's is, before it is the user's."""
    if not places.shutil.which("fusermount3"):
        raise Skip("no fusermount3 here: apt-get install fuse3")

    def laptop(env=None):
        made = Laptop(env)
        made.user = {}
        made.prefix = [sys.executable, "-B", harness.without.__file__, "--as", str(ORDINARY), "unshare=EPERM", "--"]
        return made

    with ClusterScene(config=AGENT, laptop=laptop) as scene:
        main_job.mounted_files(scene)
        main_job.open_folders(scene)
        session = main_job.static_program(scene, "go")
        equal(mode(scene.laptop), "hybrid, files by FUSE by fusermount3")
        main_job.ends_cleanly(scene, session)
