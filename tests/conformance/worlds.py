"""Where a probe runs: on this machine, in the pod itself, or in a session; each run gives what every case saw.

The pod has a second container with this machine's programs beside the one that is the target: what a probe prints there,
by the pod's own kernel objects, is what it must print under a session. Paths are the same in both.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from glob import glob
from pathlib import Path

import far
from harness import places
from harness.image import PYTHON, python_root
from harness.laptop import Laptop
from harness.local_pod import DNS_ADDRESS, LocalPod
from harness.testing import alive, eventually

HERE = Path(__file__).parent
POD_PORTS = {"echo": 7001, "reset": 7002, "udp": 7003, "refused": 7009, "serve": 7080, "second": 7081}
# A case that takes longer has gone wrong: a probe is told nothing else of time.
PATIENCE = 20.0


def free_ports(names):
    """A port that nobody has for each name; all are held until all are chosen."""
    held = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    ports = {name: listener.getsockname()[1] for name, listener in held.items()}
    for listener in held.values():
        listener.close()
    return ports


class Run:
    """A probe's output as it grows."""

    def __init__(self, process, read, stop):
        self.process, self.read, self.stop = process, read, stop

    def lines(self):
        text = self.read()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines() if line.startswith("{") and '"case":' in line]


class World:
    """One way to run probes; `arguments` is what they are told."""

    arguments: dict[str, str]

    def start(self, command, words) -> Run:
        raise NotImplementedError

    def run(self, command, cases, patience=PATIENCE) -> dict[int, dict]:
        """What each case saw. One that ends the probe or never ends saw just that, and the rest is run by a new probe."""
        saw, left = {}, list(cases)
        while left:
            run = self.start(command, [f"{name}={value}" for name, value in self.arguments.items()] + [str(case) for case in left])
            known, since = 0, time.monotonic()
            while run.process.poll() is None and time.monotonic() - since < patience:
                if (count := len(run.lines())) > known:
                    known, since = count, time.monotonic()
                time.sleep(0.01)
            status = run.process.poll()
            run.stop()
            for line in run.lines():
                saw[line.pop("case")] = line
            left = [case for case in left if case not in saw]
            if left:
                culprit = left.pop(0)
                saw[culprit] = {"probe": "never ended" if status is None else f"ended with {status}", "errors": run.errors()[-2000:]}
        return saw


class Native(World):
    """This machine's kernel, without the product. `before` stands in front of each command."""

    def __init__(self, arguments, before=()):
        self.arguments, self.before = arguments, list(before)

    def start(self, command, words):
        out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        local = self.arguments["local"]
        process = subprocess.Popen([*self.before, *command, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True,
                                   cwd=local, env=environment(), start_new_session=True)

        def text(file):
            return os.pread(file.fileno(), 1 << 22, 0).decode(errors="replace")

        def stop():
            try:
                os.killpg(process.pid, signal.SIGKILL)  # children too: they may hold a port
            except ProcessLookupError:
                pass  # all have ended
            process.wait()

        run = Run(process, lambda: text(out), stop)
        run.errors = lambda: text(err)
        return run


class Covered(World):
    """A session. `before` is a launcher between the product and the probe."""

    def __init__(self, arguments, laptop: Laptop, target, feature, before=()):
        self.arguments, self.laptop, self.target, self.before = arguments, laptop, target, list(before)
        self.config = laptop.folder / f"cells-{secrets.token_hex(3)}.json"
        self.config.write_text(json.dumps({"feature": feature}))

    def start(self, command, words):
        session = self.laptop.exec(self.target, [*self.before, *command, *words], "-f", str(self.config), cwd=self.arguments["local"])

        def stop():
            if session.alive():
                session.terminate()
                try:
                    session.wait(3)
                except AssertionError:
                    session.kill()

        run = Run(session.process, lambda: session.stdout, stop)
        run.errors = lambda: session.stderr
        return run


def environment():
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "USER")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Near:
    """This machine's own far side, for the runs that know of no pod; a context manager."""

    def __enter__(self):
        self.token = "near" + secrets.token_hex(4)
        self.local = Path(tempfile.mkdtemp(prefix="cells-"))
        # Another file system than `local`, so that what crosses the two fails as it does between machine and pod.
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="cells-", dir=shared))
        self.ports = free_ports(POD_PORTS)
        (self.local / "near").write_text("near by\n")
        read_only = self.local / "ro"
        read_only.mkdir()
        # Nobody's to change, neither the file nor the folder.
        (read_only / "banner.txt").symlink_to("/proc/version")
        read_only.chmod(0o555)
        settings = {"dir": str(self.folder), "outside": str(self.local / "outside"), "token": self.token, "hosts": ["127.0.0.1", "::1"],
                    "ports": self.ports, "unix": str(self.local / "unix.sock"), "abstract": self.token, "ends_with_stdin": True}
        self.far = subprocess.Popen([PYTHON, "-B", str(HERE / "far.py"), json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.far.stdout.readline() == "ready\n", "the far side of this machine did not start"
        self.arguments = {
            "name": "cell", "dir": str(self.folder), "local": str(self.local), "ro": str(read_only), "sizeless": "/proc/sys/kernel/hostname",
            "host": "127.0.0.1", "host6": "::1", "own": "127.0.0.1", "unreachable": "127.0.0.1", "unix": settings["unix"],
            "abstract": self.token, "known": "localhost", "known6": "localhost", "crowd": "localhost", "short": "localhost",
            "one-dot": "localhost", "whole": "localhost", "unknown": "localhost",
            "in-hosts": "localhost", "reverse": "127.0.0.1",
        } | {name: str(port) for name, port in self.ports.items()}
        return self

    def dial(self, port):
        return socket.create_connection(("127.0.0.1", port), 2)

    def __exit__(self, *_):
        self.far.stdin.close()
        self.far.wait()
        (self.local / "ro").chmod(0o755)
        for folder in (self.local, self.folder):
            shutil.rmtree(folder, ignore_errors=True)


class Pod:
    """The pod with its far side and its second container; a context manager. `local` is the same path as near by."""

    DIR, OUTSIDE, READ_ONLY, SIZELESS, UNIX = "/srv/world", "/srv/elsewhere", "/etc/sample", "/srv/world/sizeless", "/srv/world/unix.sock"

    def __init__(self, local: str):
        self.local = local

    def __enter__(self):
        self.token = "pod" + secrets.token_hex(4)
        self.pod = LocalPod(names={})
        try:
            self.start()
        except BaseException:
            self.pod.close()
            raise
        return self

    def start(self):
        pod = self.pod.__enter__()
        pod.pod.ask({"do": "ip", "words": ["route", "add", "unreachable", "203.0.113.200/32"]})
        names = {name: f"{name}-{self.token}.svc.example" for name in ("known", "known6")}
        names["crowd"] = f"crowd-{self.token}.svc.example"
        pod.names |= {names["known"]: ["203.0.113.81", "203.0.113.82"], names["known6"]: ["2001:db8:9::1"],
                      names["crowd"]: [f"203.0.113.{number}" for number in range(100, 200)],
                      "81.113.0.203.in-addr.arpa": ["name:" + names["known"]]}
        self.serve_on_another_host()
        shared = {self.DIR: pod.share("world"), self.SIZELESS: "/proc/sys/kernel/hostname"}
        settings = {"dir": self.DIR, "outside": self.OUTSIDE, "token": self.token, "hosts": [], "ports": POD_PORTS,
                    "unix": self.UNIX, "abstract": self.token}
        self.target = pod.start([PYTHON, "-B", "/srv/far.py", json.dumps(settings)], image=python_root(),
                                programs={"/srv/far.py": str(HERE / "far.py")}, shared=shared)
        eventually(lambda: "ready\n" in pod.log_text() or not alive(self.target), "the far side of the pod is ready", 20)
        assert alive(self.target), pod.log_text()
        here = [path for path in ("/usr", "/etc/alternatives", *glob("/etc/java*"), "/etc/ssl", str(places.cache() / "probes"), str(HERE)) if os.path.exists(path)]
        links = {f"/{name}": os.readlink(f"/{name}") for name in ("bin", "sbin", "lib", "lib64") if os.path.islink(f"/{name}")}
        files = {f"{self.local}/near": "near by\n", f"{self.OUTSIDE}/file": f"{self.token} from outside\n",
                 "/etc/passwd": Path("/etc/passwd").read_text(), "/etc/nsswitch.conf": "hosts: files dns\n"}
        self.oracle = pod.start(["/usr/bin/sleep", "infinity"], image=None, files=files, shared=shared, binds=here, links=links)
        self.arguments = {
            "name": "cell", "dir": self.DIR, "local": self.local, "ro": self.READ_ONLY, "sizeless": self.SIZELESS, "host": pod.client_address,
            "host6": pod.client_address6, "own": pod.address, "unreachable": "203.0.113.200", "unix": self.UNIX, "abstract": self.token,
            "known": names["known"], "known6": names["known6"], "crowd": names["crowd"], "short": names["known"].split(".")[0],
            "one-dot": names["known"].removesuffix(".example"), "whole": names["known"] + ".", "unknown": f"none.{names['known']}",
            "in-hosts": "only-in-hosts", "reverse": "203.0.113.81", "nameserver": DNS_ADDRESS,
        } | {name: str(port) for name, port in POD_PORTS.items()}

    def serve_on_another_host(self):
        pod, token = self.pod, self.token
        for host, family in ((pod.client_address, socket.AF_INET), (pod.client_address6, socket.AF_INET6)):
            for name, handle in (("echo", far.echo), ("reset", far.reset)):
                listener = pod.client.new_socket(family=family, bind=[host, POD_PORTS[name]], listen=64)
                far.background(far.serve, listener, handle, token)
            far.background(far.datagrams, pod.client.new_socket(socket.SOCK_DGRAM, family, bind=[host, POD_PORTS["udp"]]), token)

    def enter(self):
        """What stands before a command for it to run in the pod's second container."""
        change = 'cd "$0" && exec "$@"'
        return ["nsenter", "-t", str(self.oracle), "-U", "--preserve-credentials", "-m", "-u", "-n", "-i", "-p", "--",
                "/usr/bin/sh", "-c", change, self.local]

    def dial(self, port):
        return self.pod.client.connect(self.pod.address, port, 2)

    def __exit__(self, *_):
        self.pod.close()


class Caller:
    """Somebody who dials some ports of a world all the time, and says what port it dials from; a context manager."""

    def __init__(self, dial, ports):
        self.dial, self.ports, self.over = dial, ports, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.call, daemon=True)
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(10)

    def call(self):
        while not self.over.is_set():
            for port in self.ports:
                try:
                    with self.dial(port) as connection:
                        connection.settimeout(2)
                        connection.sendall(f"hello {connection.getsockname()[1]}\n".encode())
                        connection.recv(100)
                except OSError:
                    pass  # nobody listens there just now
            self.over.wait(0.03)
