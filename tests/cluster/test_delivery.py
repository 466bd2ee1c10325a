"""The agent without an image of it: brought to the target's node in the target's own image, and gone without a trace."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

from harness import places
from harness.cluster import Cluster, container, kubeconfig
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.testing import Skip, contains, equal, eventually, limit, refused

MANAGED = "app.kubernetes.io/managed-by=mirrord-ide"
SENDING = "sending the agent, "
SHOW = ["sh", "-c", "echo $SAMPLE_GREETING; cat /etc/hostname"]


class Place:
    """A namespace of its own with one pod on node 2, and a laptop whose user has the roles given there."""

    def __init__(self, image="localhost/pause:1", rules=None, user="developer"):
        self.cluster = Cluster(kubeconfig(), made_up("delivery"))
        self.image, self.rules, self.user = image, rules, user
        self.pod, self.greeting = made_up("still"), made_up("hello")

    def __enter__(self):
        namespace, group = self.cluster.namespace, "rbac.authorization.k8s.io"
        metadata = {"name": "tester", "namespace": namespace}
        role = {"kind": "ClusterRole", "name": "edit"} if self.rules is None else {"kind": "Role", "name": "tester"}
        roles = [{"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": self.rules}] if self.rules is not None else []
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, *roles,
                           {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role | {"apiGroup": group},
                            "subjects": [{"kind": "ServiceAccount", "name": self.user, "namespace": "sample"}]})
        try:
            eventually(lambda: self.cluster.kubectl("get", "serviceaccount", "default", check=False), "the namespace has its service account")
            env = {"SAMPLE_GREETING": self.greeting, "PORT": "8080"}
            self.apply_pod(self.pod, {"containers": [container("app", self.image, None, env=env)], "nodeSelector": {"kubernetes.io/hostname": "node-2"}})
            self.cluster.wait(f"pod/{self.pod}", "condition=Ready")
            self.laptop = Laptop(env={"KUBECONFIG": str(kubeconfig(self.user))})
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.laptop.close()
        self.remove()

    def remove(self):
        self.cluster.kubectl("delete", "namespace", self.cluster.namespace, "--ignore-not-found", "--wait=false", check=False)

    def apply_pod(self, name, spec):
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": self.cluster.namespace},
                            "spec": {"terminationGracePeriodSeconds": 0} | spec})

    def words(self, agent=None, command=SHOW):
        config = self.laptop.folder / "mirrord.json"
        config.write_text(json.dumps({"agent": agent or {}}))
        return ["exec", "-f", config, "-t", f"pod/{self.pod}", "-n", self.cluster.namespace, "--progress", "plain", "--", *command]

    def run(self, agent=None):
        return self.laptop.run(*self.words(agent))

    def shown(self, agent=None):
        """Runs a program that shows the pod's values; answers with what was said meanwhile."""
        done = self.run(agent)
        equal((done.returncode, done.stdout), (0, f"{self.greeting}\n{self.pod}\n"), done.stderr + self.laptop.logs())
        return done.stderr

    def made(self, kinds="jobs,configmaps,secrets,pods"):
        return self.cluster.kubectl("get", kinds, "-l", MANAGED, "-o", "name").split()

    def is_left_as_it_was(self, seconds=20):
        eventually(lambda: not self.made(), "nothing is left in the cluster", seconds)

    def kill_daemon(self):
        os.kill(self.laptop.daemon()["pid"], signal.SIGKILL)


@contextmanager
def forwarded(place, pod, port):
    """A connection to a pod's port by kubectl."""
    command = [*place.cluster.command, "-n", place.cluster.namespace, "port-forward", pod, f":{port}"]
    with subprocess.Popen(command, env=place.cluster.env, stdout=subprocess.PIPE, text=True) as process:
        try:
            local = int(process.stdout.readline().split(" -> ")[0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", local), 10) as connection:
                yield connection
        finally:
            process.kill()


def delivered_once(image):
    with Place(image) as place:
        contains(place.shown(), SENDING)
        assert SENDING not in place.shown(), "an agent that is warm was delivered again"
        equal(len(place.made("jobs")), 1)
        (job,), (held,), (pod,) = (place.cluster.get(kind, "-l", MANAGED)["items"] for kind in ("jobs", "configmaps", "pods"))
        equal(held["immutable"], True)
        equal([(owner["kind"], owner["uid"]) for owner in held["metadata"]["ownerReferences"]], [("Job", job["metadata"]["uid"])])
        agent = pod["spec"]["containers"][0]
        equal((agent["image"], agent["imagePullPolicy"]), (image, "IfNotPresent"))
        equal(agent["securityContext"]["readOnlyRootFilesystem"], True)
        equal(pod["spec"]["automountServiceAccountToken"], False)
        equal([volume["name"] for volume in pod["spec"]["volumes"]], ["stage0", "agent"])
        equal(place.laptop.stop_all().returncode, 0)
        equal(place.laptop.left_behind(), [])
        place.is_left_as_it_was()


@limit(90)
def test_the_agent_comes_without_an_image_of_it():
    delivered_once("localhost/sample-python:1")


@limit(90)
def test_the_agent_comes_into_an_image_with_a_user_of_its_own():
    delivered_once("localhost/sample-python-user:1")


@limit(90)
def test_the_agent_comes_into_an_image_with_nothing_but_a_program():
    delivered_once("localhost/sample-go:1")


@limit(90)
def test_a_daemon_killed_while_it_delivers_leaves_nothing():
    with Place() as place:
        for moment in ("creating job", "starting the agent", SENDING):
            session = place.laptop.start(*place.words())
            session.wait_for(moment)
            place.kill_daemon()
            session.wait()
            done = place.laptop.stop_all()
            equal(done.returncode, 0, done.stderr)
            place.is_left_as_it_was()


@limit(120)
def test_a_delivered_agent_that_nobody_uses_removes_all_it_brought():
    with Place() as place:
        place.shown({"idle": 1, "ttl": 0})
        place.kill_daemon()
        assert place.made("configmaps"), "it was gone before its time"
        # An agent's own idle time is 15 s at least; the rest is the cluster's.
        place.is_left_as_it_was(60)


def rules(*configmaps):
    everything = ["get", "list", "watch", "create", "delete"]
    return [{"apiGroups": [""], "resources": ["pods", "pods/portforward", "events", "pods/log"], "verbs": everything},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": everything},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete", *configmaps]}]


@limit(90)
def test_a_user_who_may_not_create_or_patch_configmaps():
    for allowed, denied in [(["get"], "create"), (["create"], "patch")]:
        with Place(rules=rules(*allowed)) as place:
            began = time.monotonic()
            refused(place.run(), "forbidden", 77, f"may not {denied} configmaps in namespace {place.cluster.namespace}", began=began)
            place.is_left_as_it_was()


def test_rights_that_are_enough():
    with Place(rules=rules("create", "patch")) as place:
        contains(place.shown(), SENDING)


def test_delivery_can_be_forbidden():
    with Place() as place:
        refused(place.run({"delivery": "image"}), "config-invalid", 65, "agent.delivery", "agent.image")
        equal(place.made(), [])


@limit(90)
def test_stage0_takes_nothing_but_the_agent_whose_hash_it_was_given():
    binary = places.agent()
    if not binary:
        raise Skip("no agent is built that could be sent")
    with Place() as place:
        place.shown()
        (pod,), (held,) = (place.cluster.get(kind, "-l", MANAGED)["items"] for kind in ("pods", "configmaps"))
        spec = pod["spec"]["containers"][0]
        args, agent = spec["args"], binary.read_bytes()
        args[args.index("--size") + 1], args[args.index("--sha256") + 1] = str(len(agent)), "ab" * 32
        place.apply_pod("wrong", {"restartPolicy": "Never", "nodeSelector": {"kubernetes.io/hostname": "node-2"}, "containers": [
            {name: spec[name] for name in ("name", "image", "imagePullPolicy", "command", "args")}
            | {"volumeMounts": [mount for mount in spec["volumeMounts"] if "serviceaccount" not in mount["mountPath"]]}],
            "volumes": [{"name": "stage0", "configMap": {"name": held["metadata"]["name"], "defaultMode": 0o555}},
                        {"name": "agent", "emptyDir": {}}]})
        place.cluster.wait("pod/wrong", "condition=Ready")
        with forwarded(place, "wrong", args[args.index("--listen") + 1].rpartition(":")[2]) as connection:
            lines = connection.makefile("rb")
            equal(lines.readline(), b"mirrord-ide stage0 1\n")
            connection.sendall(agent)
            contains(lines.readline().decode(), "error: its SHA-256 is not the one ordered")


@limit(90)
def test_an_agent_whose_configmap_was_replaced_is_not_trusted():
    with Place() as place:
        for _ in range(5):
            watching = subprocess.Popen([*place.cluster.command, "-n", place.cluster.namespace, "get", "configmaps", "-l", MANAGED, "-w", "-o",
                                         "json"], env=place.cluster.env, stdout=subprocess.PIPE, text=True)
            try:
                session = place.laptop.start(*place.words())
                held = json.loads("".join([*iter(watching.stdout.readline, "}\n"), "}"]))
            finally:
                watching.kill()
                watching.wait()
            # The same to the byte, so that nothing but its uid tells it apart.
            name = held["metadata"]["name"]
            false = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": held["binaryData"]}
            place.cluster.kubectl("replace", "--force", "--grace-period=0", "-f", "-", input=json.dumps(false))
            status = session.wait(30)
            place.laptop.stop_all()
            place.cluster.kubectl("delete", "configmap", name, "--ignore-not-found")
            place.is_left_as_it_was()
            # The agent may have been there first, or have been looked for in the very moment between the two.
            if status and "was removed by somebody" not in session.stderr:
                equal((status, session.stdout), (69, ""), session.stderr)
                contains(session.stderr, "was replaced by somebody [agent-failed]")
                return
        raise AssertionError("no ConfigMap was replaced in time")
