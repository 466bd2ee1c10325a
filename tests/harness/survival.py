"""What a session survives, and how it ends when it cannot: processes killed in any order, connections cut.

Steps for any scene, as `main_job` has them. After each, requests are the pod's own again and nothing is left behind.
"""

import os
import selectors
import signal
import socket
import threading

from . import places
from .laptop import Session
from .scene import Scene
from .testing import alive, contains, equal, eventually


def stolen(scene: Scene, env=None) -> Session:
    """A session whose program answers the pod's requests."""
    session = scene.exec(places.sample("go"), "--steal", env=env)
    scene.wait_until_taken(session)
    return session


def hosts(scene: Scene) -> list[int]:
    return [pid for pid, command in scene.laptop.processes() if " session-host " in command]


def kill(*victims: int):
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, victims)), "what was killed is dead")


def released(scene: Scene):
    scene.wait_until_released()
    scene.check_nothing_left()


def session_host_killed(scene: Scene):
    session = stolen(scene)
    local = scene.say("who")["pid"]
    kill(*hosts(scene))
    assert session.wait(5) not in (0, None)
    assert not alive(local), "the program outlived what it depends on"
    contains(session.stderr, "session host")
    released(scene)


def front_killed(scene: Scene):
    session = stolen(scene)
    local = scene.say("who")["pid"]
    session.kill()
    eventually(lambda: not alive(local), "the program ends with its front")
    released(scene)


def daemon_killed(scene: Scene):
    """The session goes on, and the next daemon knows it and ends it."""
    session = stolen(scene)
    kill(scene.laptop.daemon()["pid"])
    scene.check(scene.say("still here"), "still here", "go", local=True)
    listed = scene.laptop.json("status", "--json")["sessions"]
    equal(len(listed), 1, "sessions known to the next daemon")
    scene.check(scene.say("and now"), "and now", "go", local=True)
    equal(scene.laptop.run("stop", listed[0]["session"]).returncode, 0)
    session.wait(10)
    released(scene)


def all_killed(scene: Scene, agents):
    """Session host, daemon and agent at once; `agents` kills the last."""
    session = stolen(scene)
    victims = [*hosts(scene), scene.laptop.daemon()["pid"]]
    agents()
    kill(*victims)
    assert session.wait(5) != 0
    released(scene)


def goes_on(scene: Scene, session: Session, seconds=30.0):
    """After a loss the program is asked again, with all that it has of the pod."""

    def answered():
        assert session.alive(), session.printed()
        try:
            return scene.say("once more")["pid"] != 1
        except Exception:  # a request that the loss broke off is no answer
            return False

    eventually(answered, "requests reach the local program again", seconds)
    scene.check(scene.say("as before"), "as before", "go", local=True)


class Proxy:
    """Passes connections on to one address, until they are cut. A context manager."""

    def __init__(self, host: str, port: int):
        self.target, self.lock, self.pairs = (host, port), threading.Lock(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.cut()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target, timeout=10)
            except OSError:
                return
            far.settimeout(None)
            with self.lock:
                self.pairs.append((near, far))
            threading.Thread(target=self.carry, args=(near, far), daemon=True).start()

    def carry(self, near, far):
        with selectors.DefaultSelector() as ready:
            try:
                ready.register(near, selectors.EVENT_READ, far)
                ready.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _ in ready.select():
                        if not (data := key.fileobj.recv(65536)):
                            return self.end(near, far)
                        key.data.sendall(data)
            except (OSError, ValueError):
                self.end(near, far)

    def end(self, *ends):
        for one in ends:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its other side was first

    def cut(self) -> int:
        """Ends every connection that there is; how many."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for near, far in pairs:
            self.end(near, far)
        return len(pairs)
