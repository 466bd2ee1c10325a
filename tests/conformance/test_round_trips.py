"""How often a call of the program goes to the pod and back: a delay on the way to the agent makes that countable."""

import json
import queue
import socket
import sys
import threading
import time

from harness.scene import LocalScene
from harness.testing import contains

# One way, so that there and back takes twice as long. Far longer than everything else that a call does.
DELAY = 0.1
CALLS = """
import json, os, socket, sys, time

def measured(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start

def read():
    with open("/etc/sample/banner.txt") as file:
        os.fstat(file.fileno())
        file.read()

def folder():
    for entry in os.scandir("/var/run/secrets/sample"):
        entry.stat(follow_symlinks=False)

name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

def look_up():
    socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)

print(json.dumps({
    "a file opened, looked at and read": measured(read),
    "stat of a file that is not there": measured(lambda: os.path.exists("/etc/sample/none.txt")),
    "a folder listed and its entries looked at": measured(folder),
    "a name, with the resolver's files": measured(look_up),
    "the same a moment later": measured(look_up),
    "a connection": measured(lambda: socket.create_connection((address, port)).close()),
}), flush=True)
"""


class Delay:
    """A Unix socket in the place of another, which is reached through it a while later; a context manager."""

    def __init__(self, path):
        self.path, self.real = path, path.with_suffix(".real")

    def __enter__(self):
        self.path.rename(self.real)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.path.chmod(0o777)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.real.rename(self.path)

    def accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return  # closed: the test is over
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self.real))
            for source, sink in ((near, far), (far, near)):
                self.carry(source, sink)

    def carry(self, source, sink):
        waiting = queue.Queue()

        def read():
            got = b"more"
            while got:
                try:
                    got = source.recv(1 << 16)
                except OSError:
                    got = b""
                waiting.put((time.monotonic() + DELAY, got))

        def write():
            got = b"more"
            while got:
                due, got = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    sink.sendall(got) if got else sink.shutdown(socket.SHUT_WR)
                except OSError:
                    return  # its reader has gone

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()


def test_each_of_the_common_calls_goes_to_the_pod_once():
    with LocalScene() as scene:
        keeper = scene.exec(["sh", "-c", "echo kept; exec sleep 1000"])
        keeper.wait_for("kept")
        agent, = (scene.laptop.state / "agents").glob("*.sock")
        with Delay(agent):
            address, port = scene.outgoing.removeprefix("http://").split("/")[0].split(":")
            session = scene.exec([sys.executable, "-c", CALLS, scene.name + ".", address, port])
            # The name is whole: the pod's search list would be tried first, one query after the other.
            assert session.wait(30) == 0, session.printed()
            contains(session.stderr, "mirrord-ide: ")
            took = json.loads(session.stdout)
            trips = {name: seconds / (2 * DELAY) for name, seconds in took.items()}
            # What goes there and back takes that long at least, and a second time would double it.
            most = {"a name, with the resolver's files": 2}
            wrong = {name: round(count, 2) for name, count in trips.items() if not 1 <= count < most.get(name, 1) + 0.8}
            assert not wrong, f"round trips: {wrong}"
        scene.laptop.stop_all()
