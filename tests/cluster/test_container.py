"""A container of this machine as the target, by a real engine. Entering one takes root here, as the cluster's tests have."""

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
from contextlib import contextmanager

from harness import places
from harness.container import NO_ENGINE, Container, podman
from harness.laptop import Laptop
from harness.testing import Skip, contains, equal, eventually, limit

CLONE_NEWUSER = 0x10000000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
CALLS = {"x86_64": (56, 272, 435), "aarch64": (220, 97, 435)}  # clone, unshare, clone3


def bar_user_namespaces():
    """In the child before its program: a seccomp filter by which no user namespace can be made.

    The limit in /proc/sys/user takes a capability to set that root of the test machine has not.
    """
    clone, unshare, clone3 = CALLS[os.uname().machine]
    load, equals, has_bits, answer = 0x20, 0x15, 0x45, 0x06
    steps = [(load, 0, 0, 0), (equals, 5, 0, clone3), (equals, 1, 0, clone), (equals, 0, 2, unshare), (load, 0, 0, 16),
             (has_bits, 2, 0, CLONE_NEWUSER), (answer, 0, 0, ALLOW), (answer, 0, 0, ENOSYS), (answer, 0, 0, EPERM)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def needs_podman():
    if not shutil.which("podman"):
        raise Skip(NO_ENGINE)


@contextmanager
def as_root():
    """The product as root: without MIRRORD_TEST_ROOT the harness does not make it the ordinary user."""
    root = os.environ.pop("MIRRORD_TEST_ROOT", None)
    try:
        yield
    finally:
        if root:
            os.environ["MIRRORD_TEST_ROOT"] = root


@limit(90)
def test_the_demo_takes_a_container_that_may_be_entered_where_user_namespaces_are_barred():
    needs_podman()
    environment = {name: value for name, value in os.environ.items() if name != "MIRRORD_TEST_ROOT"}
    barred = subprocess.run(["unshare", "--user", "true"], preexec_fn=bar_user_namespaces, capture_output=True, text=True)
    contains(barred.stderr, "unshare failed: Operation not permitted")
    done = subprocess.run([sys.executable, str(places.EXAMPLES / "demo"), "--say", "in a box"], env=environment, preexec_fn=bar_user_namespaces,
                          capture_output=True, text=True, timeout=80)
    equal(done.returncode, 0, done.stdout + done.stderr)
    equal(len(re.findall("✓ left out", done.stdout)), 1, done.stdout)
    assert re.search(r"✓ exec      mirrord-ide exec -t container/shop-\w+ --steal", done.stdout), done.stdout
    contains(done.stdout, "text = 'in a box'")
    assert re.search(r"✓ clean", done.stdout), done.stdout


def test_a_container_is_found_by_name_by_id_and_named_when_it_does_not_run():
    needs_podman()
    with Container() as container, as_root(), Laptop() as laptop:
        whole = podman("inspect", "--format", "{{.Id}}", container.label).strip()
        for name in (container.label, whole[:12]):
            shown = laptop.run("exec", "-t", f"container/{name}", "--", "printenv", "SAMPLE_GREETING")
            equal((shown.returncode, shown.stdout.strip()), (0, container.greeting), shown.stderr)
        podman("stop", "--time", "0", container.label)
        refused = laptop.run("exec", "-t", f"container/{container.label}", "--", "true")
        equal(refused.returncode, 66, refused.stderr)
        contains(refused.stderr, f"container {container.label} does not run")
        contains(refused.stderr, f"podman start {container.label}")
        laptop.stop_all()
        eventually(lambda: not laptop.left_behind(0, daemon_may_live=False), "nothing is left")
