"""The one file that is installed, and the two pieces that it carries."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile

from harness import places
from harness.local_pod import LocalPod
from harness.laptop import Laptop
from harness.testing import Skip, contains, equal, eventually


def unpacked():
    """The agent and the layer as they are unpacked for a session."""
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        done = laptop.exec(f"process/{pid}", ["true"])
        equal(done.wait(), 0, done.printed())
        yield from (path for path in (laptop.cache / "mirrord-ide").rglob("*") if path.is_file())


def test_agent_and_layer_are_small_and_run_on_old_systems():
    kinds = set()
    for path in unpacked():
        size = path.stat().st_size
        headers = subprocess.run(["readelf", "--wide", "--dynamic", "--version-info", str(path)], capture_output=True, text=True).stdout
        if path.suffix == ".so":
            kinds.add("layer")
            newest = max((tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_(\d+\.\d+)", headers)), default=(0, 0))
            assert newest <= (2, 28), f"the layer needs GLIBC_{newest}"
            assert size <= 500_000, f"the layer has {size} bytes"
        else:
            kinds.add("agent")
            assert "(NEEDED)" not in headers, f"the agent is not static:\n{headers}"
            assert size <= 8_000_000, f"the agent has {size} bytes"
    assert "agent" in kinds, kinds


def test_the_installed_file_is_not_too_large():
    size = places.product().stat().st_size
    assert size <= 40_000_000, f"{size} bytes"


def foreign(piece):
    """A piece for nodes of the other processor that the product was built with, and what runs it here."""
    machine = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    emulator = f"qemu-{machine}"
    if not shutil.which(emulator):
        raise Skip(f"no {emulator} here: apt-get install qemu-user")
    path = places.agent().parents[2] / f"{machine}-unknown-linux-musl/embedded" / piece
    if not path.exists():
        raise Skip(f"the product was built without an agent for {machine}: rustup target add {machine}-unknown-linux-musl")
    return [emulator, str(path)], path


def test_the_agent_for_nodes_of_another_processor_serves():
    command, path = foreign("agent")
    assert path.stat().st_size <= 8_000_000
    agent = subprocess.Popen([*command, "serve", "--listen", "tcp:127.0.0.1:0", "--admit", "ab" * 32, "--target", "self"], stdout=subprocess.PIPE, text=True)
    try:
        address = agent.stdout.readline().strip().removeprefix("ready tcp:127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(address)), 10) as connection:
            # It speaks first: a frame with a nonce to be signed, and its version.
            contains(connection.recv(4096).decode(errors="replace"), "0.1.0")
    finally:
        agent.kill()
        agent.wait()


def test_stage0_for_nodes_of_another_processor_takes_what_has_the_right_hash_alone():
    command, _ = foreign("stage0")
    brought = b"\x7fELF, but not really"
    for digest, answer in [(hashlib.sha256(brought).hexdigest(), b"ok\n"), ("ab" * 32, b"error: its SHA-256 is not the one ordered\n")]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            stage0 = subprocess.Popen([*command, "--listen", f"tcp:127.0.0.1:{port}", "--size", str(len(brought)), "--sha256", digest, "--to", folder,
                                       "--", "serve"], stderr=subprocess.DEVNULL)
            try:
                connection = eventually(lambda: dialled(port), "stage 0 listens", 10)
                with connection, connection.makefile("rb") as lines:
                    equal(lines.readline(), b"mirrord-ide stage0 1\n")
                    connection.sendall(brought)
                    equal(lines.readline(), answer)
            finally:
                stage0.kill()
                stage0.wait()


def dialled(port):
    try:
        return socket.create_connection(("127.0.0.1", port), 5)
    except OSError:
        return None
