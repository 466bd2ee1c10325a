"""Every kind of target on the real cluster: which of its pods and containers a session gets, and how `ls` lists it.

Each object is found by labels of its own; every pod has a value that no other has, so that a program which shows it
says whose world it lived in. One laptop serves them all.
"""

import json

from harness.cluster import Cluster, container, kubeconfig
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.testing import contains, equal, eventually, limit, refused

SHOW = ["sh", "-c", "echo $SAMPLE_GREETING"]
ROLLOUTS = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "rollouts.argoproj.io"},
    "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"},
             "versions": [{"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}},
                           "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]},
}


class Targets:
    """A namespace of its own in which the developer may do what `edit` allows, and see Rollouts; a context manager."""

    def __init__(self):
        self.cluster = Cluster(kubeconfig(), made_up("targets"))
        self.greetings: dict[str, str] = {}

    def __enter__(self):
        namespace, group = self.cluster.namespace, "rbac.authorization.k8s.io"
        developer = [{"kind": "ServiceAccount", "name": "developer", "namespace": "sample"}]

        def binding(name, kind):
            return {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace},
                    "roleRef": {"apiGroup": group, "kind": kind, "name": name}, "subjects": developer}

        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, binding("edit", "ClusterRole"),
                           {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "rollouts", "namespace": namespace},
                            "rules": [{"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get", "list"]}]},
                           binding("rollouts", "Role"))
        eventually(lambda: self.cluster.kubectl("get", "serviceaccount", "default", check=False), "the namespace has its service account")
        self.laptop = Laptop(env={"KUBECONFIG": str(kubeconfig("developer"))})
        (self.laptop.folder / "mirrord.json").write_text(json.dumps({"agent": {"image": "localhost/mirrord-ide-agent:test"}}))
        return self

    def __exit__(self, *_):
        self.laptop.close()
        self.cluster.kubectl("delete", "namespace", self.cluster.namespace, "--wait=false", check=False)

    def meta(self, name):
        return {"name": name, "namespace": self.cluster.namespace, "labels": {"app": name}}

    def template(self, name, *containers, **spec):
        """A pod with one container, or with those named; the value of each is kept by `name` and by `name/container`."""
        made = []
        for one in containers or ("app",):
            greeting = self.greetings[f"{name}/{one}"] = made_up("hello")
            self.greetings.setdefault(name, greeting)
            made.append(container(one, "localhost/pause:1", None, env={"SAMPLE_GREETING": greeting}))
        return {"metadata": {"labels": {"app": name}},
                "spec": {"containers": made, "terminationGracePeriodSeconds": 0, "nodeSelector": {"kubernetes.io/hostname": "node-2"}} | spec}

    def workload(self, kind, name, *containers, version="apps/v1", **spec):
        return {"apiVersion": version, "kind": kind, "metadata": self.meta(name),
                "spec": {"selector": {"matchLabels": {"app": name}}, "template": self.template(name, *containers)} | spec}

    def job(self, name, *containers):
        return {"template": self.template(name, *containers, restartPolicy="Never")}

    def pod(self, name, *containers):
        return {"apiVersion": "v1", "kind": "Pod"} | self.template(name, *containers) | {"metadata": self.meta(name)}

    def ready(self, *names):
        """Waits until each has a ready pod."""
        for name in names:
            selector = f"app={name}"
            eventually(lambda: self.cluster.get("pods", "-l", selector)["items"], f"{name} has a pod")
            self.cluster.kubectl("wait", "pod", "-l", selector, "--for=condition=Ready", "--timeout=60s")

    def run(self, target, command=SHOW):
        return self.laptop.run("exec", "-f", self.laptop.folder / "mirrord.json", "-n", self.cluster.namespace, "-t", target, "--progress", "plain", "--",
                               *command)

    def lives_in(self, target, *whose):
        """A program with this target has the value of one of the containers named; answers with what was said."""
        done = self.run(target)
        equal(done.returncode, 0, f"{target}: {done.stderr}")
        shown = done.stdout.strip()
        assert shown in [self.greetings[one] for one in whose], f"{target} is {shown!r}, not of {whose}: {self.greetings}"
        return done.stderr

    def listed(self, *words):
        done = self.laptop.run("ls", "-n", self.cluster.namespace, *words)
        equal((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def is_clean(self):
        equal(self.laptop.stop_all().returncode, 0)
        equal(self.laptop.left_behind(), [])
        eventually(lambda: not self.cluster.kubectl("get", "jobs,pods,configmaps", "-l", "app.kubernetes.io/managed-by=mirrord-ide", "-o", "name"),
                   "nothing is left in the cluster", 20)


@limit(120)
def test_a_pod_and_each_of_its_containers():
    with Targets() as targets:
        targets.cluster.apply(targets.pod("two", "istio-proxy", "app", "other"))
        targets.ready("two")
        targets.lives_in("pod/two", "two/app")
        targets.lives_in("pod/two/container/other", "two/other")
        targets.lives_in("pod/two/container/istio-proxy", "two/istio-proxy")
        targets.is_clean()


@limit(120)
def test_every_kind_of_workload_and_its_containers():
    kinds = {"statefulset": "set", "daemonset": "daemons", "replicaset": "replicas", "job": "once", "cronjob": "nightly"}
    with Targets() as targets:
        made = [targets.workload("StatefulSet", "set", "app", "other", serviceName="set"), targets.workload("DaemonSet", "daemons", "app", "other"),
                targets.workload("ReplicaSet", "replicas", "app", "other"),
                {"apiVersion": "batch/v1", "kind": "Job", "metadata": targets.meta("once"), "spec": targets.job("once", "app", "other")},
                {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": targets.meta("nightly"),
                 "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": targets.job("nightly", "app", "other")}}}]
        targets.cluster.apply(*made)
        refused(targets.run("cronjob/nightly"), "target-unusable", 66, "has made no job yet", "--from=cronjob/nightly")
        targets.cluster.kubectl("create", "job", "--from=cronjob/nightly", "nightly-now")
        targets.ready(*kinds.values())
        for kind, name in kinds.items():
            targets.lives_in(f"{kind}/{name}", f"{name}/app")
            targets.lives_in(f"{kind}/{name}/container/other", f"{name}/other")
        targets.is_clean()


@limit(120)
def test_rollouts_with_pods_of_their_own_and_of_a_deployment():
    with Targets() as targets:
        # No controller is here: the pods of the first are a ReplicaSet's that the test makes, as Argo would.
        own = targets.workload("Rollout", "own", "app", "other", version="argoproj.io/v1alpha1")
        referring = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": targets.meta("refers"),
                     "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}}}
        targets.cluster.apply(ROLLOUTS)
        targets.cluster.wait("crd/rollouts.argoproj.io", "condition=Established")
        try:
            replicas = own | {"apiVersion": "apps/v1", "kind": "ReplicaSet"}
            targets.cluster.apply(own, referring, replicas, targets.workload("Deployment", "shop", "app", "other"))
            targets.cluster.kubectl("patch", "rollout", "own", "--subresource=status", "--type=merge", "-p", '{"status": {"readyReplicas": 1}}')
            targets.ready("own", "shop")
            targets.lives_in("rollout/own", "own/app")
            targets.lives_in("rollout/own/container/other", "own/other")
            targets.lives_in("rollout/refers", "shop/app")
            targets.lives_in("rollout/refers/container/other", "shop/other")
            refused(targets.run("rollout/nowhere"), "target-not-found", 66, "no rollout nowhere")
            equal(set(targets.listed("rollout").splitlines()), {"rollout/own  containers app, other", "rollout/refers  not ready: no pod is ready"})
        finally:
            targets.cluster.kubectl("delete", "crd", "rollouts.argoproj.io", check=False)
        targets.is_clean()


@limit(120)
def test_a_service_and_labels_lead_to_one_ready_pod_and_say_so():
    with Targets() as targets:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": targets.meta("shop"), "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}}
        nobody = {"apiVersion": "v1", "kind": "Service", "metadata": targets.meta("nobody"), "spec": {"ports": [{"port": 80}]}}
        never = targets.pod("never", "app")
        never["spec"]["containers"][0]["image"] = "localhost/never-made:1"
        targets.cluster.apply(service, nobody, never, targets.workload("Deployment", "shop", "app", "other", replicas=2))
        targets.cluster.wait("deployment/shop", "condition=Available")
        targets.ready("shop")
        names = [item["metadata"]["name"] for item in targets.cluster.get("pods", "-l", "app=shop")["items"]]
        for target in ("deployment/shop", "service/shop", "label/app=shop"):
            said = targets.lives_in(target, "shop/app")
            contains(said, f"has 2 ready pods; this session works with {min(names)} alone")
        for target in ("deployment/shop", "service/shop", "label/app=shop"):
            targets.lives_in(f"{target}/container/other", "shop/other")
        refused(targets.run("service/nobody"), "target-unusable", 66, "selects no pods")
        refused(targets.run("label/app=none"), "target-unusable", 66, "has no pod")
        refused(targets.run("pod/never"), "target-unusable", 66, "never", "Image")
        targets.is_clean()


def test_without_a_target_there_is_an_agent_all_the_same():
    with Targets() as targets:
        done = targets.run("targetless", ["sh", "-c", "cat /proc/self/comm; python3 -c \"import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))\""])
        equal((done.returncode, done.stdout), (0, "cat\n10.96.0.1\n"), done.stderr)
        targets.is_clean()


@limit(90)
def test_all_kinds_are_listed_with_what_can_be_said_of_them():
    with Targets() as targets:
        never = targets.pod("never", "app")
        never["spec"]["containers"][0]["image"] = "localhost/never-made:1"
        targets.cluster.apply(
            never, targets.pod("two", "istio-proxy", "app", "other"), targets.workload("Deployment", "shop"),
            targets.workload("Deployment", "none", replicas=0), targets.workload("StatefulSet", "set", serviceName="set"),
            targets.workload("DaemonSet", "daemons"), targets.workload("ReplicaSet", "replicas"),
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": targets.meta("once"), "spec": targets.job("once")},
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": targets.meta("nightly"),
             "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": targets.job("nightly")}}},
            {"apiVersion": "v1", "kind": "Service", "metadata": targets.meta("shop"), "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}})
        targets.ready("two", "shop", "set", "daemons", "replicas", "once")
        wanted = {"pod/two  containers app, other", "deployment/shop", "deployment/none  not ready: no pod is ready", "statefulset/set",
                  "daemonset/daemons", "replicaset/replicas", "job/once", "cronjob/nightly  not ready: no job of it runs now", "service/shop"}
        # What a workload keeps is not listed beside it, but for its pods.
        eventually(lambda: {line for line in targets.listed().splitlines() if not line.startswith("pod/") or line.startswith("pod/two")} == wanted,
                   f"it lists {wanted}, and not {targets.listed()}")
        contains(targets.listed("pod"), "pod/never  not ready: container app waits: ")
        items = json.loads(targets.listed("--json", "daemonset"))
        equal([(item["path"], item["ready"], item["containers"]) for item in items], [("daemonset/daemons", True, ["app"])])
