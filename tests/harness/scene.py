"""Where the main job is proved: the sample service running somewhere, someone who sends it requests, and a laptop.

`LocalScene` is the pod of namespaces, `ClusterScene` a Deployment on the test cluster; tests written for a scene run on
both. A scene knows which values only the pod has, and what an answer from the local program must look like.
"""

import json
import subprocess
import threading
import time
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

from .cluster import Cluster, ClusterError, Sample, kubeconfig
from .laptop import Laptop, Session
from .local_pod import LocalPod
from .testing import equal, eventually


class Scene:
    """What the two kinds share. `target` and `options` are what `mirrord-ide exec` is given."""

    target: str
    options: list[str]
    config: dict | None = None
    greeting: str
    banner: str
    secret: str
    name: str
    name_address: str
    hostname: str
    port: int
    address: str
    laptop: Laptop

    def exec(self, command, *options, env=None, feature: dict | None = None) -> Session:
        """Runs a program under the product; `feature` is that part of its mirrord.json."""
        chosen = self.options
        if feature is not None:
            path = self.laptop.folder / "feature.json"
            path.write_text(json.dumps((self.config or {}) | {"feature": feature}))
            chosen = ["-f", str(path)]
        return self.laptop.exec(self.target, command, *chosen, *options, env=env)

    def values(self, text) -> dict:
        """The fields that an answer has wherever in the pod's world it was made."""
        return {"text": text, "greeting": self.greeting, "file": self.banner, "address": self.name_address, "hostname": self.hostname}

    def check(self, got: dict, text: str, program: str, local: bool):
        """The answer has the pod's values, and came from the program said: the pod's own is always process 1."""
        wanted = self.values(text) | {"program": program}
        equal({name: got.get(name) for name in wanted}, wanted, "the answer")
        assert (got["pid"] != 1) == local, f"process {got['pid']} answered"

    def own_answer(self, text="who answers", program="python"):
        self.check(self.say(text), text, program, local=False)

    def wait_until_taken(self, session: Session, seconds=20.0):
        """Waits until requests reach the local program; needs one that answers without a debugger's leave."""

        def taken():
            assert session.alive(), f"exec ended with {session.process.returncode}:\n{session.printed()}\n{self.laptop.logs()}"
            return self.say("are you there")["pid"] != 1

        eventually(taken, "requests reach the local program", seconds)

    def wait_until_released(self, seconds=10.0):
        """Waits until the pod answers itself; a request that is on its way to a session as that ends may break off."""

        def released():
            try:
                return self.say("are you back")["pid"] == 1
            except (OSError, HTTPException, ClusterError):
                return False

        eventually(released, "requests reach the pod's own program again", seconds)

    def check_nothing_left(self):
        """After `stop --all` nothing of the product is anywhere."""
        done = self.laptop.stop_all()
        equal(done.returncode, 0, done.stderr)
        equal(self.laptop.left_behind() + self.left_behind(), [])


class Asked:
    """One request in the background: a breakpoint holds its answer back."""

    def __init__(self, scene: Scene, text: str):
        self.got = self.error = None

        def ask():
            try:
                self.got = scene.say(text, timeout=40)
            except Exception as error:  # told to whoever waits for the answer
                self.error = error

        self.thread = threading.Thread(target=ask, daemon=True)
        self.thread.start()

    def answer(self, seconds=40.0) -> dict:
        self.thread.join(seconds)
        assert self.got is not None, f"no answer: {self.error or 'not in time'}"
        return self.got


class PeerHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"client": self.client_address[0], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # what was asked is seen in the answer


class LocalScene(Scene):
    """The sample in a pod of namespaces. Another host of its network runs a service that only the pod can reach."""

    def __init__(self, program="python", port: int | None = None, beside: "LocalScene | None" = None, env=None, scratch=None):
        self.beside = beside
        self.pod = LocalPod(beside=beside and beside.pod)
        self.program, self.port, self.env, self.scratch = program, port or self.pod.port, env or {}, scratch
        self.options: list[str] = []

    def __enter__(self):
        try:
            self.pod.__enter__()
            self.pid = self.pod.start_sample(self.program, env={"PORT": str(self.port)} | self.env, scratch=self.scratch)
            self.target = f"process/{self.pid}"
            pod = self.pod
            self.greeting, self.banner, self.secret, self.name, self.hostname = pod.greeting, pod.banner, pod.secret, pod.name, pod.hostname
            self.name_address = pod.names[pod.name][0]
            self.address = f"{pod.address}:{self.port}"
            self.serve_peer()
            self.laptop = self.beside.laptop if self.beside else Laptop()
        except BaseException:
            self.pod.close()
            raise
        return self

    def __exit__(self, *_):
        if not self.beside:
            self.laptop.close()
        self.peer.shutdown()
        self.peer.server_close()
        self.pod.close()

    def serve_peer(self):
        self.peer = HTTPServer((self.pod.client_address, 8090), PeerHandler, bind_and_activate=False)
        self.peer.socket.close()
        self.peer.socket = self.pod.client.new_socket(bind=[self.pod.client_address, 8090], listen=16)
        threading.Thread(target=self.peer.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.outgoing = f"http://{self.pod.client_address}:8090/from-the-pod"
        self.outgoing_from = self.pod.address

    def say(self, text, timeout=20.0, headers=None):
        return self.pod.say(text, self.port, timeout, headers)

    def get(self, path, timeout=20.0):
        return self.pod.client.get(self.pod.address, self.port, path, timeout)

    def from_sidecar(self, text):
        """A request from inside the pod to 127.0.0.1."""
        return self.pod.pod.get("127.0.0.1", self.port, "/say?text=" + quote(text), 20)

    def keep_alive(self):
        return LocalKeepAlive(self)

    def left_behind(self):
        return [f"nftables table {name} in the pod" for name in self.pod.pod.nft_tables()]


class LocalKeepAlive:
    """One connection to the sample, used again and again."""

    def __init__(self, scene: LocalScene):
        self.connection = scene.pod.client.http(scene.pod.address, scene.port)
        self.socket = self.connection.sock

    def ask(self, text) -> dict:
        self.connection.request("GET", "/say?text=" + quote(text), headers={"Host": "sample"})
        got = json.loads(self.connection.getresponse().read())
        assert self.connection.sock is self.socket, "the connection was closed and made anew"
        return got

    def close(self):
        self.connection.close()


class ClusterScene(Scene):
    """The sample on node 2 of the test cluster, asked from node 1; the product runs as the cluster's developer."""

    def __init__(self, program="python", user="developer", port: int | None = None, config: dict | None = None,
                 beside: "ClusterScene | None" = None, node="node-2", laptop=Laptop, **options):
        self.beside = beside
        self.cluster = Cluster(kubeconfig(), "sample")
        self.sample = Sample(self.cluster, program, node=node, client_node="node-1", port=port, **options)
        self.user, self.config, self.port, self.program, self.new_laptop = user, config, self.sample.port, program, laptop

    def __enter__(self):
        sample = self.sample.__enter__()
        try:
            self.laptop = self.beside.laptop if self.beside else self.new_laptop(env={"KUBECONFIG": str(kubeconfig(self.user))})
            self.target = f"deployment/{sample.label}"
            self.options = []
            if self.config is not None:
                path = self.laptop.folder / "mirrord.json"
                path.write_text(json.dumps(self.config))
                self.options = ["-f", str(path)]
            self.greeting, self.banner, self.secret, self.name = sample.greeting, sample.banner, sample.secret, sample.name
            self.name_address, self.hostname = sample.service_address, sample.hostname
            self.outgoing = f"http://{sample.label}-peer/healthz"
            self.outgoing_from = sample.pod_address
            self.address = sample.label
        except BaseException:
            sample.close()
            raise
        return self

    def __exit__(self, *_):
        if not self.beside:
            self.laptop.close()
        self.sample.close()

    def say(self, text, timeout=20.0, headers=None):
        return self.sample.say(text, timeout, headers=headers)

    def get(self, path, timeout=20.0):
        return self.sample.get(path, timeout)

    def from_sidecar(self, text):
        return self.sample.say(text, host=f"127.0.0.1:{self.port}", container="sidecar")

    def keep_alive(self):
        return ClusterKeepAlive(self.sample)

    def left_behind(self, seconds=20.0):
        """The cluster itself removes the pod of a Job that is gone, which takes it a while."""
        end = time.monotonic() + seconds
        while (left := self.sample.left_in_cluster() + self.sample.rules_left()) and time.monotonic() < end:
            time.sleep(0.2)
        return left


KEEP_ALIVE = """
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=30)
connection.connect()
kept = connection.sock
for path in sys.stdin:
    connection.request("GET", path.strip())
    got = json.loads(connection.getresponse().read())
    print(json.dumps({"got": got, "kept": connection.sock is kept}), flush=True)
"""


class ClusterKeepAlive:
    """The same from a pod of the cluster, through the Service."""

    def __init__(self, sample: Sample):
        command = [*sample.cluster.command, "-n", sample.cluster.namespace, "exec", "-i", f"{sample.label}-client", "--",
                   "python3", "-u", "-c", KEEP_ALIVE, sample.label]
        self.process = subprocess.Popen(command, env=sample.cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, text) -> dict:
        self.process.stdin.write("/say?text=" + quote(text) + "\n")
        line = self.process.stdout.readline()
        assert line, "the connection broke"
        answer = json.loads(line)
        assert answer["kept"], "the connection was closed and made anew"
        return answer["got"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
