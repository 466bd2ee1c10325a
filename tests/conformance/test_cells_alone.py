"""Cases that are no matter of a probe's language."""

import os
import re
import shutil
import socket
import struct
from pathlib import Path

from cells import MODES
from harness.scene import LocalScene
from harness.testing import Skip, contains, equal, refused

# Connects to somewhere in the pod and keeps the connection until it is told to end.
CONNECTED = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected from", connection.getsockname()[1], flush=True)
time.sleep(30)
"""


def test_the_layer_is_loaded_in_the_hybrid_and_not_with_traps_only():
    look = 'test -n "$LD_PRELOAD" && grep -q "${LD_PRELOAD%%:*}" /proc/self/maps && echo loaded || echo bare'
    with LocalScene() as scene:
        for mode, before in MODES.items():
            session = scene.exec([*before, "sh", "-c", look])
            equal((session.wait(), session.stdout.strip()), (0, "loaded" if mode == "hybrid" else "bare"), session.printed())
        scene.check_nothing_left()


def listeners_of(pids):
    """The TCP ports of 127.0.0.1 that these processes listen on, from /proc."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
            except OSError:
                continue  # closed meanwhile
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A" and line[9] in inodes and line[1].startswith("0100007F")]


def test_case_49_the_relay_refuses_a_stranger():
    with LocalScene() as scene:
        host, port = scene.outgoing.removeprefix("http://").split("/")[0].split(":")
        session = scene.exec(["/usr/bin/python3", "-c", CONNECTED, host, port])
        session.wait_for("connected from")
        hosts = [pid for pid, command in scene.laptop.processes() if "session-host" in command]
        relays = listeners_of(hosts)
        assert relays, f"no relay found among {hosts}"
        for relay in relays:
            with socket.create_connection(("127.0.0.1", relay), 5) as stranger:
                stranger.settimeout(10)
                stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                try:
                    equal(stranger.recv(100), b"", f"what a stranger hears on port {relay}")
                except ConnectionResetError:
                    pass  # as good
        session.terminate()
        session.wait()
        scene.check_nothing_left()


# Reads a file of the pod, then makes itself one that nobody may look at, and tries again.
NOT_DUMPABLE = """
import ctypes
def read():
    try:
        return open("/etc/sample/banner.txt").read().strip()
    except OSError as error:
        return type(error).__name__
before = read()
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
print(before, read(), flush=True)
"""


def test_case_66_a_program_that_may_not_be_looked_at_is_local():
    with LocalScene() as scene:
        session = scene.exec(["/usr/bin/python3", "-c", NOT_DUMPABLE])
        equal((session.wait(), session.stdout.split()), (0, [scene.banner, "FileNotFoundError"]), session.printed())
        scene.check_nothing_left()


def test_case_67_a_session_in_a_session_is_refused_with_the_reason():
    with LocalScene() as scene:
        inner = scene.laptop.command(["exec", "-t", scene.target, "--", "sh", "-c", "echo ran within"])
        done = scene.laptop.run("exec", "-t", scene.target, "--", *inner)
        assert done.returncode != 0 and "ran within" not in done.stdout, done.stdout
        contains(done.stderr, "[seccomp-refused]")
        contains(done.stderr, "already watches this process")
        scene.check_nothing_left()


def program_of_32_bits() -> bytes:
    """The smallest ELF program for i386: exit(0)."""
    code = b"\xb8\x01\0\0\0\x31\xdb\xcd\x80"  # mov eax, 1; xor ebx, ebx; int 0x80
    base, size = 0x8048000, 52 + 32 + len(code)
    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000) + code


def test_case_68_a_32_bit_program_is_refused_and_never_runs():
    with LocalScene() as scene:
        program = scene.laptop.folder / "old"
        program.write_bytes(program_of_32_bits())
        program.chmod(0o755)
        refused(scene.laptop.run("exec", "-t", scene.target, "--", program), "program-architecture", 125, str(program), "64 bits")
        scene.check_nothing_left()


def test_case_69_a_program_that_wants_io_uring_falls_back():
    if not shutil.which("node"):
        raise Skip("no node here: apt-get install nodejs")
    with LocalScene() as scene:
        read = 'require("fs").readFile("/etc/sample/banner.txt", "utf8", (error, text) => console.log(error ? error.code : text.trim()))'
        session = scene.exec(["node", "-e", read], env={"UV_USE_IO_URING": "1"})
        equal((session.wait(), session.stdout.strip()), (0, scene.banner), session.printed())
        scene.check_nothing_left()
