"""What goes wrong on a cluster, and what the user is told: a stable word, an exit status, what failed, what to do."""

import hashlib
import json
import os
import time
from contextlib import contextmanager

from harness import places
from harness.cluster import MANAGED, Cluster, container, kubeconfig
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.testing import Skip, contains, equal, eventually, limit, refused

IMAGE = "localhost/mirrord-ide-agent:test"


def user(name="developer"):
    return Laptop(env={"KUBECONFIG": str(kubeconfig(name))})


def attempt(laptop, target, *options, agent=None, env=None):
    """Runs `exec` for a program that must never run; answers with what came and when it was started."""
    config = laptop.folder / "mirrord.json"
    config.write_text(json.dumps({"agent": {"image": IMAGE} | (agent or {})}))
    began = time.monotonic()
    return laptop.run("exec", "-f", config, "-t", target, *options, "--", "echo", "ran", env=env), began


@contextmanager
def pod(namespace="sample", labels=None):
    """A pod that does nothing, on node 2, in the namespace named or in one of its own with these labels."""
    admin = Cluster(kubeconfig(), namespace)
    name, role = made_up("still"), {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    developer = {"kind": "ServiceAccount", "name": "developer", "namespace": "sample"}
    if labels:
        admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
                    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "developer", "namespace": namespace},
                     "roleRef": role, "subjects": [developer]})
        eventually(lambda: admin.kubectl("get", "serviceaccount", "default", check=False), "the namespace has its service account")
    try:
        admin.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
                     "spec": {"containers": [container("app", "localhost/pause:1", None)], "terminationGracePeriodSeconds": 0,
                              "nodeSelector": {"kubernetes.io/hostname": "node-2"}}})
        admin.wait(f"pod/{name}", "condition=Ready")
        yield f"pod/{name}"
    finally:
        admin.kubectl("delete", *(["namespace", namespace] if labels else ["pod", name]), "--ignore-not-found", "--wait=false", check=False)


def nothing_made(target):
    """No Job, and after a while no pod, is left of a start that failed."""
    admin = Cluster(kubeconfig(), "sample")
    equal(admin.managed(target, "jobs,configmaps,secrets"), [])
    eventually(lambda: not admin.managed(target), "its pod is gone", 20)


def test_a_kubeconfig_that_is_not_there_or_has_no_such_context():
    with user() as laptop:
        done, began = attempt(laptop, "deployment/shop", env={"KUBECONFIG": "/nowhere/config"})
        refused(done, "kubeconfig-invalid", 67, "/nowhere/config", began=began)
        done, began = attempt(laptop, "deployment/shop", "--context", "elsewhere")
        refused(done, "kubeconfig-invalid", 67, "elsewhere", "test-cluster", began=began)


def test_an_api_server_that_does_not_answer_and_a_login_that_is_not_valid():
    with user() as laptop:
        given = json.loads(Cluster(kubeconfig("developer"), "sample").kubectl("config", "view", "--raw", "-o", "json"))
        for word, status, change in [("unauthorized", 77, lambda: given["users"][0].update(user={"token": "made-up"})),
                                     ("unreachable", 68, lambda: given["clusters"][0]["cluster"].update(server="https://127.0.0.1:1"))]:
            change()
            (laptop.folder / "kubeconfig").write_text(json.dumps(given))
            done, began = attempt(laptop, "deployment/shop", env={"KUBECONFIG": str(laptop.folder / "kubeconfig")})
            refused(done, word, status, given["clusters"][0]["cluster"]["server"], began=began)


def test_no_such_target():
    with user() as laptop:
        for target in ("deployment/nowhere", "pod/nowhere", "service/nowhere", "statefulset/nowhere"):
            done, began = attempt(laptop, target)
            refused(done, "target-not-found", 66, "nowhere", "namespace sample", began=began)
        with pod() as target:
            done, began = attempt(laptop, f"{target}/container/other")
            refused(done, "target-not-found", 66, "other", "app", began=began)


def test_a_user_who_may_not_create_jobs():
    with user("viewer") as laptop, pod() as target:
        done, began = attempt(laptop, target)
        refused(done, "forbidden", 77, "may not create jobs in namespace sample", began=began)
        nothing_made(target)


def test_a_user_who_may_not_read_the_target():
    with user() as laptop:
        done, began = attempt(laptop, "deployment/shop", "-n", "default")
        refused(done, "forbidden", 77, "may not get deployments in namespace default", began=began)


@limit(90)
def test_pod_security_refuses_the_agents_pod():
    namespace = made_up("guarded")
    with user() as laptop, pod(namespace, {"pod-security.kubernetes.io/enforce": "baseline"}) as target:
        done, began = attempt(laptop, target, "-n", namespace)
        refused(done, "forbidden", 77, "baseline", "hostPID", began=began)
        nothing_made(target)


def test_an_agent_that_fits_on_no_node():
    with user() as laptop, pod() as target:
        done, began = attempt(laptop, target, agent={"resources": {"requests": {"cpu": "1000"}, "limits": {"cpu": "1000"}}})
        refused(done, "agent-failed", 69, "node-2", "Insufficient cpu", began=began)
        nothing_made(target)


def test_an_image_that_cannot_be_had():
    with user() as laptop, pod() as target:
        done, began = attempt(laptop, target, agent={"image": "localhost/never-made:1", "image_pull_policy": "Never"})
        refused(done, "agent-failed", 69, "localhost/never-made:1", "ErrImageNeverPull", began=began)
        nothing_made(target)


def test_an_image_that_is_no_agent():
    with user() as laptop, pod() as target:
        done, _ = attempt(laptop, target, agent={"image": "localhost/sample-python:1"})
        refused(done, "agent-failed", 69, "it ended with status")
        nothing_made(target)


@contextmanager
def pod_on_a_node_of(architecture):
    """There is no such machine: Kubernetes believes what is said of the node and its pod. Gives the name of both."""
    admin, name = Cluster(kubeconfig(), "sample"), made_up("other")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
              "containerStatuses": [{"name": "app", "image": "shop", "imageID": "shop", "containerID": "containerd://0123", "ready": True,
                                     "restartCount": 0, "state": {"running": {}}}]}
    try:
        admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/arch": architecture}}},
                    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "sample"},
                     "spec": {"nodeName": name, "containers": [container("app", "shop", None)]}})
        room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
        admin.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"capacity": room, "allocatable": room}}))
        admin.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        yield name
    finally:
        admin.kubectl("delete", "pod,node", name, "--ignore-not-found", "--grace-period=0", "--force", check=False)


def test_a_node_of_another_architecture():
    with pod_on_a_node_of("s390x") as name, user() as laptop:
        began = time.monotonic()
        done = laptop.run("exec", "-n", "sample", "-t", f"pod/{name}", "--", "echo", "ran")
        refused(done, "agent-failed", 69, name, "s390x", "agent.image", began=began)
        nothing_made(f"pod/{name}")


def test_a_node_of_arm_is_brought_an_agent_of_arm():
    agents = list(places.agent().parents[2].glob("aarch64-*/embedded/agent"))
    if os.uname().machine != "x86_64" or not agents:
        raise Skip("the product carries no agent for another processor here")
    wanted = hashlib.sha256(max(agents, key=lambda path: path.stat().st_mtime).read_bytes()).hexdigest()
    admin = Cluster(kubeconfig(), "sample")
    with pod_on_a_node_of("arm64") as name, user() as laptop:
        starting = laptop.exec(f"pod/{name}", ["echo", "ran"], "-n", "sample")

        def made(kinds):
            found = [item["metadata"] | {"spec": item.get("spec")} for item in admin.get(kinds, "-l", MANAGED)["items"]]
            return [one for one in found if name in one["annotations"]["mirrord-ide/target"] and "deletionTimestamp" not in one]

        job, = eventually(lambda: made("jobs"), "the agent's Job is made")
        contains(json.dumps(job["spec"]["template"]["spec"]["containers"][0]), wanted, "the agent that is waited for")
        starting.interrupt()
        assert starting.wait() != 0, starting.printed()
        eventually(lambda: not made("jobs,pods,configmaps"), "all of it is deleted", 20)
        # There is no kubelet that would say that the pod has ended.
        admin.kubectl("delete", "pods", "-l", MANAGED, "--field-selector", f"spec.nodeName={name}", "--force", "--grace-period=0")


def test_targets_are_listed_for_who_names_none():
    with user() as laptop, pod() as target:
        contains(laptop.run("ls", "-n", "sample").stdout, target)
        config = laptop.folder / "mirrord.json"
        config.write_text(json.dumps({"agent": {"image": IMAGE}}))
        refused(laptop.run("exec", "-f", config, "--", "echo", "ran"), "target-ambiguous", 66, "mirrord.json: ", "/")
