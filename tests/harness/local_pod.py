"""A pod made of nothing but namespaces, by any user: the target of the demo and of most tests.

`LocalPod` has an address on a veth pair, a resolver that knows names nobody else does, host name, files, volumes and
containers, and a second network from which requests reach it. See `pod_inside` for how it is made. The address ranges
are those kept for documentation, so that a request which escapes does no harm.
"""

import errno
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from . import places
from .dap import free_port
from .dns_server import DnsServer
from .image import PYTHON, python_root
from .testing import retried

CLIENT_ADDRESS, DNS_ADDRESS = "198.51.100.1", "203.0.113.53"
SECRET_NAME_ADDRESS = "203.0.113.77"


class PodError(Exception):
    """The stand-in pod could not be made or asked; the text says what failed."""


def user_namespaces_allowed() -> str | None:
    """None when this user may make user namespaces, else the reason why not."""
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--net", "--mount", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip() or "unshare failed"


class Network:
    """One network namespace, through the process that keeps it; makes sockets there."""

    def __init__(self, control: socket.socket):
        self.control = control

    def ask(self, command, timeout=20.0, descriptors=()):
        self.control.settimeout(timeout)
        try:
            socket.send_fds(self.control, [json.dumps(command).encode()], descriptors)
            message, received, _, _ = socket.recv_fds(self.control, 1 << 20, 1)
        except OSError as error:
            raise PodError(f"the stand-in pod does not answer ({command['do']}): {error}") from error
        if not message:
            raise PodError(f"the stand-in pod ended ({command['do']})")
        answer = json.loads(message)
        if "error" in answer:
            raise PodError(answer["error"])
        return answer, received

    def new_socket(self, kind=socket.SOCK_STREAM, family=socket.AF_INET, bind=None, listen=None) -> socket.socket:
        """A socket that lives in this network though it is used from here."""
        command = {"do": "socket", "family": family, "kind": kind}
        if bind:
            command["bind"] = bind
        if listen:
            command["listen"] = listen
        _, descriptors = self.ask(command)
        return socket.socket(fileno=descriptors[0])

    def connect(self, address: str, port: int, timeout=10.0) -> socket.socket:
        made = self.new_socket(family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def http(self, address: str, port: int, timeout=10.0) -> http.client.HTTPConnection:
        """An HTTP connection, kept alive between its requests, that starts in this network."""
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        connection.sock = self.connect(address, port, timeout)
        return connection

    def get(self, address: str, port: int, path: str, timeout=10.0, headers=None) -> dict:
        """One request on a connection of its own; the answer's JSON."""
        connection = self.http(address, port, timeout)
        try:
            connection.request("GET", path, headers={"Host": "sample", "Connection": "close"} | (headers or {}))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def nft_tables(self) -> list[str]:
        return self.ask({"do": "nft"})[0]["tables"]


def made_up(prefix: str) -> str:
    """A value that cannot be mistaken for any other run's."""
    return f"{prefix}-{secrets.token_hex(4)}"


def sample_port() -> int:
    """Where the sample listens: on port 80, or where this machine's own is taken, on one that is free.

    The debuggee asks for the same port of this machine as its pod has. An ordinary user gets another for one below 1024.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", 80))
        except OSError as error:
            return free_port() if error.errno == errno.EADDRINUSE else 80
    return 80


class LocalPod:
    """The pod; a context manager. Values that only the pod has are made up anew for each."""

    def __init__(self, names: dict[str, list[str]] | None = None, beside: "LocalPod | None" = None):
        self.beside = beside
        self.port = sample_port()
        self.number = beside.number + 1 if beside else 0
        # A network of four addresses each: the client's end and the pod's.
        self.client_address, self.address = (f"198.51.100.{4 * self.number + end}" for end in (1, 2))
        self.client_address6, self.address6 = (f"2001:db8:{self.number}::{end}" for end in (1, 2))
        self.hostname = made_up("sample")
        self.greeting = made_up("hello")
        self.banner = made_up("banner")
        self.secret = made_up("secret")
        self.name = made_up("shop") + ".example"
        self.names = {self.name: [SECRET_NAME_ADDRESS]} | (names or {})
        self.folder = Path(tempfile.mkdtemp(prefix="pod-"))
        self.log = self.folder / "log"
        self.containers: list[int] = []
        self.namespaces: set[str] = set()

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def make(self):
        if self.beside:
            self.keeper, self.client = self.beside.keeper, self.beside.client
        else:
            self.make_client()
        pod, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pod = Network(pod)
        with inside:
            self.pod_process = self.client.ask({"do": "pod"}, descriptors=[inside.fileno()])[0]["pod_process"]
        self.pod.ask({"do": "ip", "words": ["link", "set", "lo", "up"]})  # its answer says that it has its own network
        self.network()
        self.namespaces.add(os.readlink(f"/proc/{self.pod_process}/ns/net"))
        self.dns = DnsServer(self.pod.new_socket(socket.SOCK_DGRAM, bind=[DNS_ADDRESS, 53]),
                             self.pod.new_socket(bind=[DNS_ADDRESS, 53], listen=16), self.names)

    def make_client(self):
        """Starts the process that everything else is a child of, in a user namespace and the client's network."""
        base = self.folder / "base"
        base.mkdir()
        client, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client = Network(client)
        with inside:
            self.keeper = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--net", "--mount", "--", sys.executable, "-I", "-B",
                 str(Path(__file__).with_name("pod_inside.py")), str(base), str(inside.fileno())],
                pass_fds=[inside.fileno()], stdin=subprocess.DEVNULL)
        try:
            self.client.ask({"do": "ip", "words": ["link", "set", "lo", "up"]})
        except PodError as error:
            raise PodError("user namespaces are not to be had here: " + (user_namespaces_allowed() or str(error))) from error
        self.client.ask({"do": "forward"})
        self.namespaces |= {os.readlink(f"/proc/{self.keeper.pid}/ns/{kind}") for kind in ("net", "user")}

    def network(self):
        def client(*words):
            self.client.ask({"do": "ip", "words": words})

        def pod(*words):
            self.pod.ask({"do": "ip", "words": words})

        device = f"to-pod-{self.number}"
        client("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(self.pod_process))
        client("address", "add", f"{self.client_address}/30", "dev", device)
        client("address", "add", f"{self.client_address6}/64", "dev", device, "nodad")
        client("link", "set", device, "up")
        pod("address", "add", f"{self.address}/30", "dev", "eth0")
        pod("address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")
        pod("address", "add", f"{DNS_ADDRESS}/32", "dev", "lo")
        pod("link", "set", "eth0", "up")
        pod("route", "add", "default", "via", self.client_address)
        pod("route", "add", "default", "via", self.client_address6)

    def start(self, argv: list[str], *, image: Path | None, env=None, files=None, programs=None, volumes=None, scratch=None, shared=None, binds=(),
              links=None, cwd="/") -> int:
        """Starts a container in the pod and answers with the pid of its first process, as this machine knows it.

        `image` is the root file system below (None: an empty one); `programs` maps a path in the container to a file of this machine, `files` a path to its content, `volumes` a
        mount point to its files, `scratch` one that is written to (as an emptyDir is) to its size, `shared` one to a folder that `share` made; `binds` are paths of this machine that are there too;
        `links` maps a link to its text. What every pod of these tests has (greeting, banner, secret) comes with it.
        """
        spec = {
            "argv": argv, "image": image and str(image), "cwd": cwd, "hostname": self.hostname, "log": str(self.log),
            "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "PORT": str(self.port), "SAMPLE_GREETING": self.greeting,
                    "SAMPLE_FILE": "/etc/sample/banner.txt", "SAMPLE_NAME": self.name} | (env or {}),
            "files": files or {}, "programs": programs or {},
            "volumes": {"/etc/sample": {"banner.txt": self.banner + "\n"}, "/var/run/secrets/sample": {"token": self.secret}} | (volumes or {}),
            "scratch": scratch or {},
            "shared": shared or {}, "binds": [str(path) for path in binds], "links": links or {},
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n{self.address} {self.hostname}\n203.0.113.9 only-in-hosts\n",
            "resolv_conf": f"search sample.svc.example svc.example\nnameserver {DNS_ADDRESS}\noptions ndots:5\n",
        }
        pid = self.pod.ask({"do": "start", "spec": spec})[0]["pid"]
        self.containers.append(pid)
        kinds = ("pid", "mnt", "uts")
        self.namespaces |= {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds}
        return pid

    def share(self, name: str) -> str:
        """An empty file system that containers of this pod can have mounted together; what `shared` names."""
        at = f"{self.folder}/base/shared-{name}"
        self.pod.ask({"do": "share", "at": at})
        return at

    def start_sample(self, program="python", **options) -> int:
        """Starts the sample service, waits until it answers inside the pod, and gives its pid."""
        if program == "python":
            pid = self.start([PYTHON, "/srv/app.py"], image=python_root(), programs={"/srv/app.py": str(places.EXAMPLES / "python/app.py")}, **options)
        else:
            pid = self.start(["/srv/app"], image=None, programs={"/srv/app": places.sample(program)[0]}, **options)
        port = int((options.get("env") or {}).get("PORT", self.port))
        self.wait_for_port(port, pid)
        return pid

    def wait_for_port(self, port, pid, seconds=10.0):
        try:
            retried(lambda: self.pod.connect("127.0.0.1", port, 1.0).close(), OSError, seconds, lambda: os.path.exists(f"/proc/{pid}"))
        except OSError as error:
            raise PodError(f"nothing listens on port {port} in the pod ({error}); its log:\n{self.log_text()}") from error

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def say(self, text, port: int | None = None, timeout=10.0, headers=None) -> dict:
        """Asks the service over the veth pair, as someone elsewhere in a cluster would."""
        return self.client.get(self.address, port or self.port, "/say?text=" + quote(text), timeout, headers)

    def left_behind(self) -> list[str]:
        """Processes that still live in the pod's namespaces."""
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if any(os.readlink(link) in self.namespaces for link in (process / "ns").iterdir()):
                    found.append(f"{process.name} {(process / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
            except OSError:
                continue  # ended meanwhile, or another user's
        return found

    def close(self):
        """Ends everything in the pod: its keeper's end is the end of them all."""
        if hasattr(self, "dns"):
            self.dns.close()
        if hasattr(self, "pod"):
            self.pod.control.close()
        if hasattr(self, "keeper") and not self.beside:
            self.client.control.close()
            try:
                self.keeper.wait(5)
            except subprocess.TimeoutExpired:
                self.keeper.send_signal(signal.SIGKILL)
                self.keeper.wait()
        end = time.monotonic() + 2
        while self.left_behind() and time.monotonic() < end:
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)
