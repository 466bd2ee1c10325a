"""The way into the cluster: credential plugins, logins that run out, proxies, and who may speak to an agent."""

import json
import os
import socket
import struct
import subprocess
import tempfile
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager
from pathlib import Path

from harness import main_job, places, survival
from harness.cluster import MANAGED, Cluster, ClusterError, kubeconfig
from harness.dap import free_port
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.proxy import HttpsProxy, ImpatientProxy
from harness.scene import ClusterScene
from harness.testing import alive, contains, equal, eventually, limit, refused, retried
from harness.wire import Wire

CONFIG = {"agent": {"image": "localhost/mirrord-ide-agent:test"}}
SHOW = ["python3", "-c", "import os; print(os.environ['SAMPLE_GREETING'], open('/etc/sample/banner.txt').read())"]
# The API server has looked a token up, and believes in it for 10 s more.
BELIEF = 25.0
# After 10 s of silence a session says something, and it looks every 2.5 s whether it is time.
PATIENCE = 14.0


def given() -> dict:
    return json.loads(Cluster(kubeconfig("developer"), "sample").kubectl("config", "view", "--raw", "-o", "json"))


def api_server() -> tuple[str, int]:
    host, _, port = given()["clusters"][0]["cluster"]["server"].removeprefix("https://").rpartition(":")
    return host, int(port)


def write_kubeconfig(laptop, name, user=None, **cluster) -> dict:
    """The developer's kubeconfig with another login or another way to the cluster; as an environment."""
    config = given()
    config["clusters"][0]["cluster"].update(cluster)
    if user:
        config["users"][0]["user"] = user
    path = laptop.folder / name
    path.write_text(json.dumps(config))
    return {"KUBECONFIG": str(path)}


def plugin(laptop, text, name="log-in") -> dict:
    """A credential plugin that only the client's own PATH leads to; as a login."""
    path = laptop.folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    laptop.env["PATH"] = f"{path.parent}:{os.environ['PATH']}"
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": name, "args": ["get-token"], "interactiveMode": "IfAvailable",
                     "env": [{"name": "FLAVOUR", "value": "of the kubeconfig"}], "installHint": "get it from the intranet"}}


def credential(laptop, token):
    """What the plugin prints from now on."""
    told = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    fresh = laptop.folder / "credential.new"
    fresh.write_text(json.dumps(told))
    fresh.rename(laptop.folder / "credential")


def attempt(laptop, env, target="deployment/shop"):
    """Runs `exec` for a program that must never run; answers with what came and when it was started."""
    config = laptop.folder / "attempt.json"
    config.write_text(json.dumps(CONFIG))
    began = time.monotonic()
    return laptop.run("exec", "-f", config, "-n", "sample", "-t", target, "--", "echo", "ran", env=env), began


def shows_the_pod(scene, env):
    done = scene.laptop.run("exec", "-t", scene.target, *scene.options, "--", *SHOW, env=env)
    equal((done.returncode, done.stdout.split()), (0, [scene.greeting, scene.banner]), done.stderr + scene.laptop.logs())
    return done


@contextmanager
def someone(rules):
    """A user of the cluster with these rights in `sample`; gives the token."""
    admin, name, group = Cluster(kubeconfig(), "sample"), made_up("someone"), "rbac.authorization.k8s.io"
    meta = {"name": name, "namespace": "sample"}
    admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
                {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules},
                {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                 "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "sample"}]})
    try:
        yield admin.kubectl("create", "token", name).strip()
    finally:
        admin.kubectl("delete", "serviceaccount,role,rolebinding", name, "--ignore-not-found", check=False)


@contextmanager
def token_that_ends():
    """A token of the developer's that is valid as long as a Secret is there, and what ends it and waits until it has ended."""
    admin, name = Cluster(kubeconfig(), "sample"), made_up("login")
    admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "sample"}})
    uid = admin.get("secret", name)["metadata"]["uid"]
    token = admin.kubectl("create", "token", "developer", "--bound-object-kind=Secret", f"--bound-object-name={name}", f"--bound-object-uid={uid}").strip()

    def known():
        command = [*admin.command, "--kubeconfig=/dev/null", f"--server={given()['clusters'][0]['cluster']['server']}", "--insecure-skip-tls-verify",
                   f"--token={token}", "get", "--raw", "/api"]
        return "Unauthorized" not in subprocess.run(command, capture_output=True, text=True, timeout=10).stderr

    def end():
        admin.kubectl("delete", "secret", name)
        eventually(lambda: not known(), "the API server does not know the token any more", BELIEF)

    try:
        assert known(), "the token is no good from the start"
        yield token, end
    finally:
        admin.kubectl("delete", "secret", name, "--ignore-not-found", check=False)


def new_login() -> str:
    return Cluster(kubeconfig(), "sample").kubectl("create", "token", "developer").strip()


def test_a_credential_plugin_of_the_kubeconfig_logs_in():
    with ClusterScene(config=CONFIG) as scene:
        laptop = scene.laptop
        login = plugin(laptop, 'echo "$1 $FLAVOUR, $AWS_PROFILE" >>"$(dirname "$0")/../calls"\nexec cat "$(dirname "$0")/../credential"\n')
        credential(laptop, new_login())
        env = write_kubeconfig(laptop, "with-plugin", login) | {"AWS_PROFILE": "of the client"}
        contains(shows_the_pod(scene, env).stderr, "system:serviceaccount:sample:developer")
        # With its arguments, and the environment of the kubeconfig and of whoever asks; by daemon and session host alike.
        equal(set((laptop.folder / "calls").read_text().splitlines()), {"get-token of the kubeconfig, of the client"})
        session = scene.exec(places.sample("go"), "--steal", env=env)
        scene.wait_until_taken(session)
        scene.check(scene.say("by plugin"), "by plugin", "go", local=True)
        session.terminate()
        session.wait()
        survival.released(scene)


def test_a_credential_plugin_that_is_not_there_fails_or_prints_nonsense():
    with Laptop() as laptop:
        secret = made_up("secret")
        env = {"AWS_SECRET_ACCESS_KEY": secret}
        login = plugin(laptop, "exit 0\n")
        login["exec"]["command"] = "no-such-plugin"
        done, began = attempt(laptop, env | write_kubeconfig(laptop, "not-there", login))
        refused(done, "unauthorized", 77, "no-such-plugin", "plugin", began=began)
        for mode in ("IfAvailable", "Never"):
            login = plugin(laptop, f"echo '{{\"token\": \"{secret}\"}}'\necho 'your session has ended: run company-login' >&2\nexit 1\n")
            login["exec"]["interactiveMode"] = mode
            done, began = attempt(laptop, env | write_kubeconfig(laptop, f"fails-{mode}", login))
            refused(done, "unauthorized", 77, "log-in", "your session has ended: run company-login", began=began)
            # Neither what it printed nor the client's environment stands in the error.
            assert secret not in done.stderr + laptop.logs(), done.stderr + laptop.logs()
        done, began = attempt(laptop, env | write_kubeconfig(laptop, "nonsense", plugin(laptop, f"echo '{{{secret}'\n")))
        refused(done, "unauthorized", 77, "plugin", began=began)
        assert secret not in done.stderr + laptop.logs(), done.stderr + laptop.logs()
        # A plugin that waits for a browser keeps nobody else waiting.
        waits = laptop.start("ls", "-n", "sample", env=write_kubeconfig(laptop, "waits", plugin(laptop, "exec sleep 1000\n", "waits")))
        more = laptop.start("ls", "-n", "sample", env=write_kubeconfig(laptop, "waits-too", plugin(laptop, "exec sleep 1001\n", "waits")))
        eventually(lambda: len([1 for _, command in laptop.processes() if command.startswith("sleep 100")]) == 2, "both plugins run")
        done, began = attempt(laptop, {"KUBECONFIG": "/nowhere"})
        refused(done, "kubeconfig-invalid", 67, began=began)
        daemon = laptop.daemon()["pid"]
        for session in (waits, more):
            session.kill()
        equal(laptop.stop_all().returncode, 0)
        eventually(lambda: not alive(daemon), "the daemon ends")


@limit(120)
def test_a_login_that_ends_is_told_and_the_program_lives():
    with token_that_ends() as (token, end), ClusterScene(config=CONFIG) as scene, survival.Proxy(*api_server()) as proxy:
        laptop, server = scene.laptop, f"https://127.0.0.1:{proxy.port}"
        by_token = write_kubeconfig(laptop, "by-token", {"token": token}, server=server)
        by_plugin = write_kubeconfig(laptop, "by-plugin", plugin(laptop, 'exec cat "$(dirname "$0")/../credential"\n'), server=server)
        credential(laptop, token)
        equal(laptop.run("ls", "-n", "sample", env=by_token).returncode, 0, "ls before")
        session = survival.stolen(scene, env=by_plugin)
        local = scene.say("who")["pid"]
        end()
        done, began = attempt(laptop, by_token, scene.target)
        refused(done, "unauthorized", 77, server, "log in again", began=began)
        # The daemon keeps the login that has ended, and the plugin has the next.
        credential(laptop, new_login())
        shows_the_pod(scene, by_plugin)
        credential(laptop, token)
        # What was let in stays in, until its connection breaks.
        equal(scene.say("still")["pid"], local)
        told = len(session.stderr)
        assert proxy.cut(), "nothing went through the proxy"
        eventually(lambda: "nauthorized" in session.stderr[told:] or "log in again" in session.stderr[told:], "the session says what is wrong")
        assert session.alive() and alive(local), session.printed()
        credential(laptop, new_login())
        survival.goes_on(scene, session)
        equal(scene.say("the same")["pid"], local)
        session.terminate()
        session.wait()
        survival.released(scene)


@limit(120)
def test_an_idle_session_outlasts_a_proxy_that_cuts_idle_connections():
    with ClusterScene(config=CONFIG) as scene, ImpatientProxy(*api_server(), seconds=PATIENCE) as proxy:
        env = write_kubeconfig(scene.laptop, "proxied", server=f"https://127.0.0.1:{proxy.port}")
        # Nothing happens in this one, and it ends when its connection in the pod does.
        held = ("import os, socket; far = socket.create_connection((os.environ['SAMPLE_NAME'].replace('.', '-peer.', 1), 80)); print('held', flush=True); "
                "far.recv(1)")
        idle = scene.exec(["python3", "-c", held], env=env)
        idle.wait_for("held")
        session = survival.stolen(scene, env=env)
        time.sleep(PATIENCE + 3)
        assert proxy.gave_up, "the proxy had patience with every connection"
        assert "the agent is" not in session.stderr + idle.stderr, session.stderr + idle.stderr
        began = time.monotonic()
        scene.check(scene.say("after a pause"), "after a pause", "go", local=True)
        assert time.monotonic() - began < 5, "the first request after the pause was slow"
        assert idle.alive(), idle.printed()
        assert proxy.cut(), "nothing went through the proxy"
        survival.goes_on(scene, session, 10)
        contains(session.stderr, "the agent is back")
        assert idle.wait(), "its connection broke"
        session.terminate()
        session.wait()
        survival.released(scene)


def test_the_api_server_is_reached_through_an_https_proxy_that_alone_knows_its_name():
    name = "kubernetes.default.svc"
    host, port = api_server()
    try:
        raise AssertionError(f"{name} is known here: {socket.getaddrinfo(name, port)}")
    except socket.gaierror:
        pass  # so it must be
    with ClusterScene(config=CONFIG) as scene, HttpsProxy(name, host, port) as proxy:
        server, address = f"https://{name}:{port}", f"http://127.0.0.1:{proxy.port}"
        direct = write_kubeconfig(scene.laptop, "direct", server=server)
        done, began = attempt(scene.laptop, direct, scene.target)
        refused(done, "unreachable", 68, name, began=began)
        equal(proxy.asked, [])
        for env in (direct | {"HTTPS_PROXY": address}, direct | {"https_proxy": address},
                    write_kubeconfig(scene.laptop, "proxied", server=server, **{"proxy-url": address})):
            before = len(proxy.asked)
            shows_the_pod(scene, env)
            # The daemon's connections and the session host's own.
            assert len(proxy.asked) >= before + 2, proxy.asked
        equal(set(proxy.asked), {f"CONNECT {name}:{port}"})
        done, began = attempt(scene.laptop, direct | {"HTTPS_PROXY": address, "NO_PROXY": ".default.svc"}, scene.target)
        refused(done, "unreachable", 68, name, began=began)
        session = survival.stolen(scene, env=env)
        scene.check(scene.say("through the proxy"), "through the proxy", "go", local=True)
        session.terminate()
        session.wait()
        survival.released(scene)


def test_a_proxy_that_is_not_there_is_named():
    with Laptop() as laptop:
        gone = f"http://127.0.0.1:{free_port()}"
        for env in (write_kubeconfig(laptop, "gone", **{"proxy-url": gone}), write_kubeconfig(laptop, "plain") | {"HTTPS_PROXY": gone}):
            done, began = attempt(laptop, env)
            refused(done, "unreachable", 68, gone.removeprefix("http://"), began=began)


def test_who_joins_a_warm_agent_goes_there_by_a_way_of_the_own():
    with ClusterScene(config=CONFIG) as scene:
        host, port = api_server()
        with HttpsProxy(host, host, port) as proxy:
            shows_the_pod(scene, {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})
            assert proxy.asked, "the proxy was not used"
        # That way is closed. The agent is still there, and is removed by the way that is open.
        made = scene.sample.left_in_cluster()
        shows_the_pod(scene, {})
        equal(scene.sample.left_in_cluster(), made)
        scene.check_nothing_left()


# The wire to an agent as far as its handshake (schemas/protocol/src/agent.rs): frames of protobuf fields.


def field(number: int, value) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def fields(message: bytes) -> dict:
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        value = number()
        if tag & 7 == 2:
            value, at = message[at:at + value], at + value
        found[tag >> 3] = value
    return found


class Key:
    """An Ed25519 key pair from its 32 bytes, by openssl."""

    def __init__(self, seed: bytes):
        self.seed = seed
        self.der = bytes.fromhex("302e020100300506032b657004220420") + seed
        self.public = self.openssl("pkey", "-inform", "DER", "-pubout", "-outform", "DER", input=self.der)[-32:]

    @staticmethod
    def openssl(*words, input=None) -> bytes:
        return subprocess.run(["openssl", *words], input=input, capture_output=True, check=True).stdout

    def sign(self, statement: bytes) -> bytes:
        # openssl takes what is to be signed from a file alone.
        with tempfile.NamedTemporaryFile() as text:
            text.write(statement)
            text.flush()
            return self.openssl("pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", "/dev/stdin", "-in", text.name, input=self.der)


def shake_hands(port: int, session: str, key: Key, claimed: bytes | None = None) -> str:
    """Says hello to an agent; its answer: `welcome`, or the word it closes with."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        stream = wire.makefile("rb")

        def frame():
            (length,) = struct.unpack(">I", stream.read(4))
            return fields(stream.read(length))

        challenge = fields(frame()[1])
        nonce = challenge[1]
        statement = b"mirrord-ide agent link v1\0" + struct.pack(">I", len(nonce)) + nonce + session.encode()
        hello = field(1, field(1, session) + field(2, claimed or key.public) + field(3, key.sign(statement)) + field(4, challenge[2]))
        wire.sendall(struct.pack(">I", len(hello)) + hello)
        answer = frame()
        return "welcome" if 2 in answer else fields(answer[11])[1].decode()


@contextmanager
def forwarded(cluster: Cluster, pod: str, port: int):
    """The pod's port on this machine, by kubectl."""
    command = [*cluster.command, "-n", cluster.namespace, "port-forward", f"pod/{pod}", f":{port}"]
    process = subprocess.Popen(command, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        contains(line, "Forwarding from 127.0.0.1:")
        yield int(line.split(":")[1].split()[0])
    finally:
        process.kill()
        process.wait()


def strings(value):
    """Every name and text in an object, and what those decode to."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value
        try:
            yield b64decode(value, validate=True).decode("latin-1")
        except ValueError:
            pass  # not so written


def kept_keys(laptop) -> list[bytes]:
    """Every private key that the product keeps on the laptop: 32 numbers each."""
    found = []

    def look(value):
        if isinstance(value, list) and len(value) == 32 and all(isinstance(item, int) for item in value):
            found.append(bytes(value))
        elif isinstance(value, (list, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                look(item)

    for path in laptop.state.rglob("agents/*.json"):
        look(json.loads(path.read_text()))
    return found


@limit(90)
def test_who_reads_every_object_of_a_session_cannot_speak_to_its_agent():
    kinds = ["pods", "jobs", "configmaps", "secrets", "events"]
    rules = [{"apiGroups": ["", "batch", "events.k8s.io"], "resources": kinds, "verbs": ["get", "list", "watch"]},
             {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
             {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]
    with someone(rules) as token, ClusterScene(config=CONFIG) as scene:
        session = survival.stolen(scene)
        reader_config = write_kubeconfig(scene.laptop, "reader", {"token": token})["KUBECONFIG"]
        reader = Cluster(Path(reader_config), "sample")
        equal(reader.kubectl("auth", "can-i", "create", "pods/exec", check=False).strip(), "no")
        pod = reader.get("pods", "-l", f"{MANAGED},mirrord-ide/target-uid={scene.sample.pod_uid}")["items"][0]
        # The kubelet learns that a container runs a moment after it does.
        log = retried(lambda: reader.kubectl("logs", pod["metadata"]["name"]), ClusterError, 10)
        read = set(strings(reader.get(",".join(kinds)))) | {log}
        keys = [Key(seed) for seed in kept_keys(scene.laptop)]
        assert len(keys) >= 2, "the laptop keeps no keys"
        # These are the keys in question: their public halves are what the agent was started with.
        arguments = pod["spec"]["containers"][0]["args"]
        admitted = [value for name, value in zip(arguments, arguments[1:]) if name == "--admit"]
        assert {key.public.hex() for key in keys} < set(admitted) <= read, (len(keys), admitted)
        for key in keys:
            seed = key.seed
            for written in (seed.hex(), seed.hex().upper(), b64encode(seed).decode().rstrip("="), seed.decode("latin-1"), json.dumps(list(seed))):
                assert not [text for text in read if written in text], "a private key can be read"
        listen = arguments[arguments.index("--listen") + 1]
        name = pod["metadata"]["annotations"]["mirrord-ide/session"]
        with forwarded(reader, pod["metadata"]["name"], int(listen.rpartition(":")[2])) as port:
            stranger = Key(os.urandom(32))
            equal(shake_hands(port, name, stranger), "unauthorized", "with a key of one's own")
            for public in map(bytes.fromhex, admitted):
                equal(shake_hands(port, name, stranger, claimed=public), "unauthorized", "under an admitted name")
            # Nor is anything that can be read a key.
            for seed in [bytes.fromhex(text) for text in read if len(text) == 64 and not set(text) - set("0123456789abcdef")]:
                equal(shake_hands(port, name, Key(seed)), "unauthorized", "with what was read as a key")
            # The proof of all that: the same hello is welcome with a key of the laptop's.
            equal(shake_hands(port, "a-test", keys[-1]), "welcome")
        scene.check(scene.say("undisturbed"), "undisturbed", "go", local=True)
        session.terminate()
        session.wait()
        survival.released(scene)


# Answers requests, reads a file of the pod and holds a connection to another; tells what becomes of the last two.
LOOKS = """
import errno, json, os, socket, sys, threading, time
sys.path.insert(0, sys.argv[1])
import app

def tell(what, began, error=None):
    name = error and (errno.errorcode.get(error.errno) or str(error))
    print(json.dumps({"what": what, "began": began, "took": time.time() - began, "error": name}), flush=True)

def hold():
    began = time.time()
    try:
        with socket.create_connection((os.environ["SAMPLE_NAME"].replace(".", "-peer.", 1), 80)) as far:
            tell("connected", began)
            tell("closed", began, far.recv(1) and None)
    except OSError as error:
        tell("held", began, error)

def read():
    while True:
        began = time.time()
        try:
            open("/etc/sample/banner.txt").read()
            tell("read", began)
        except OSError as error:
            tell("read", began, error)
        time.sleep(0.2)

for task in hold, read:
    threading.Thread(target=task, daemon=True).start()
with app.Server(("0.0.0.0", int(os.environ["PORT"])), app.Handler) as server:
    server.serve_forever()
"""

# Asks the Service again and again, each time by a new connection; prints when it asked, for how long, and who answered.
ASKS = """
import json, sys, time, urllib.request
end = time.time() + float(sys.argv[2])
while time.time() < end:
    began = time.time()
    try:
        pid = json.load(urllib.request.urlopen(sys.argv[1], timeout=10))["pid"]
    except Exception as error:
        pid = str(error)
    print(json.dumps([began, time.time() - began, pid]), flush=True)
    time.sleep(0.02)
"""


def agents_process(scene) -> int:
    """The agent's process, seen from the machine that all nodes are."""
    pod = scene.cluster.get("pods", "-l", f"{MANAGED},mirrord-ide/target-uid={scene.sample.pod_uid}")["items"][0]["metadata"]["name"]
    # The session runs before the API knows of the container.
    told = eventually(lambda: scene.cluster.get(f"pod/{pod}")["status"].get("containerStatuses", [{}])[0].get("containerID"), "the container is known")
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if told.rpartition("/")[2] in (path / "cgroup").read_text():
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
    mothers = [pid for pid, parent in found.items() if parent not in found]
    equal(len(mothers), 1, f"processes of the agent's container: {found}")
    return mothers[0]


@contextmanager
def no_more_jobs():
    """Nobody gets a Job in `sample` while this lasts; the rights of all stay as they are."""
    admin, name = Cluster(kubeconfig(), "sample"), made_up("quota")
    admin.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": "sample"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    try:
        eventually(lambda: admin.get("resourcequota", name).get("status", {}).get("hard"), "the quota is in force")
        yield
    finally:
        admin.kubectl("delete", "resourcequota", name, check=False)


@contextmanager
def as_their_user(laptop):
    """A daemon speaks to its own user alone, as whom a socket is opened in here."""
    was = os.geteuid()
    os.seteuid(laptop.user.get("user", was))
    try:
        yield
    finally:
        os.seteuid(was)


@limit(120)
def test_the_agent_is_killed_and_cannot_be_made_again():
    with ClusterScene(config=CONFIG) as scene:
        session = scene.exec([places.venv_python(), "-c", LOOKS, main_job.PYTHON.parent], "--steal")
        scene.wait_until_taken(session)
        session.wait_for('"connected"')
        local = scene.say("who")["pid"]
        command = [*scene.cluster.command, "-n", "sample", "exec", f"{scene.sample.label}-client", "--", "python3", "-u", "-c", ASKS,
                   f"http://{scene.sample.label}/say?text=again", "4"]
        with no_more_jobs():
            victim = agents_process(scene)
            asking = subprocess.Popen(command, env=scene.cluster.env, stdout=subprocess.PIPE, text=True)
            first = asking.stdout.readline()
            equal(json.loads(first)[2], local, "who answers before")
            killed = time.time()
            survival.kill(victim)
            asked = [json.loads(line) for line in [first, *asking.communicate(timeout=30)[0].splitlines()]]
            later = [answer for answer in asked if answer[0] > killed + 1]
            assert len(later) > 20 and all(pid == 1 and took < 1 for _, took, pid in later), asked
            assert max(took for _, took, _ in asked) < 5, asked

            def told():
                return [json.loads(line) for line in session.stdout.splitlines() if line.startswith("{")]

            eventually(lambda: len([one for one in told() if one["began"] > killed + 1]) > 10, "calls fail and do not hang", 15)
            after = [one for one in told() if one["began"] > killed + 1]
            equal({one["error"] for one in after if one["what"] == "read"}, {"EIO"}, "remote files")
            assert max(one["took"] for one in told() if one["what"] == "read") < 7, told()
            # The program's own connection breaks at once, as it would with a peer that is killed.
            broken = [one for one in told() if one["what"] in ("held", "closed")]
            equal([one["error"] for one in broken], ["ECONNRESET"])
            assert broken[0]["began"] + broken[0]["took"] < killed + 2, broken
            contains(session.stderr, "the agent is lost")
            assert session.alive() and alive(local), session.printed()
            with as_their_user(scene.laptop):
                wire = Wire(scene.laptop.daemon()["socket"])
            with wire:
                (listed,) = wire.request("session/list")["sessions"]
                wire.request("session/attach", {"session": listed["session"]})
                wire.notice("session/event", lambda event: "exceeded quota" in json.dumps(event))
        session.terminate()
        session.wait()
        survival.released(scene)


@limit(120)
def test_the_agent_is_killed_and_another_takes_its_place():
    with ClusterScene(config=CONFIG) as scene:
        session = survival.stolen(scene)
        local = scene.say("who")["pid"]
        survival.kill(agents_process(scene))
        survival.goes_on(scene, session, 20)
        equal(scene.say("the same")["pid"], local)
        contains(session.stderr, "the agent is lost")
        contains(session.stderr, "the agent is back")
        session.terminate()
        session.wait()
        survival.released(scene)
