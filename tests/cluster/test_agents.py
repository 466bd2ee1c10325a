"""Where the agent is: as an ephemeral container of the target's pod, and as one that several users share."""

import json
from contextlib import contextmanager

from harness import main_job, places
from harness.cluster import MANAGED, Cluster, container, kubeconfig
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.scene import ClusterScene
from harness.testing import contains, equal, eventually, limit, refused

IMAGE = {"image": "localhost/mirrord-ide-agent:test"}
EPHEMERAL = {"agent": IMAGE | {"ephemeral": True}}


@contextmanager
def may_add_containers(namespace="sample", user="developer"):
    """The right that `edit` lacks, while the block runs."""
    admin, name = Cluster(kubeconfig(), namespace), made_up("ephemeral")
    group, meta = "rbac.authorization.k8s.io", {"name": name, "namespace": namespace}
    admin.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta,
                 "rules": [{"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]}]},
                {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                 "subjects": [{"kind": "ServiceAccount", "name": user, "namespace": "sample"}]})
    try:
        yield
    finally:
        admin.kubectl("delete", "role,rolebinding", name, "--ignore-not-found", check=False)


def ended_entries(cluster, pod):
    """The exit codes of the pod's ephemeral containers; None for one that has not ended."""
    statuses = cluster.get(f"pod/{pod}")["status"].get("ephemeralContainerStatuses", [])
    return [status["state"].get("terminated", {}).get("exitCode") for status in statuses]


@limit(120)
def test_an_ephemeral_container_has_a_breakpoint_hit_by_a_stolen_request():
    with may_add_containers(), ClusterScene(config=EPHEMERAL, sidecar=True) as scene:
        session = main_job.python_breakpoint(scene, "steal")
        contains(session.stderr, "its ended entry stays")
        equal(scene.cluster.kubectl("get", "jobs,configmaps", "-l", MANAGED, "-o", "name").split(), [], "made besides")
        main_job.ends_cleanly(scene, session)
        equal(ended_entries(scene.cluster, scene.sample.pod_name), [0], "the ended entry")


@limit(120)
def test_a_sidecar_and_a_static_program_beside_an_ephemeral_container():
    with may_add_containers(), ClusterScene(config=EPHEMERAL, sidecar=True) as scene:
        main_job.sidecar_is_answered(scene)
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


@limit(120)
def test_an_ephemeral_container_where_the_pods_processes_are_shared():
    with may_add_containers(), ClusterScene(config=EPHEMERAL, pod_spec={"shareProcessNamespace": True}) as scene:
        session = scene.exec(["sh", "-c", "echo $SAMPLE_GREETING; cat /etc/sample/banner.txt"])
        equal((session.wait(), session.stdout.split()), (0, [scene.greeting, scene.banner]), session.printed())
        scene.check_nothing_left()


def test_a_user_who_may_not_add_containers():
    with ClusterScene(config=EPHEMERAL) as scene:
        done = scene.laptop.run("exec", "-t", scene.target, *scene.options, "--", "echo", "ran")
        refused(done, "forbidden", 77, "may not patch pods/ephemeralcontainers in namespace sample")
        equal(ended_entries(scene.cluster, scene.sample.pod_name), [])
        scene.check_nothing_left()


def test_an_ephemeral_container_without_an_image():
    with ClusterScene(config={"agent": {"ephemeral": True}}) as scene:
        refused(scene.laptop.run("exec", "-t", scene.target, *scene.options, "--", "echo", "ran"), "agent-failed", 69, "agent.image")


@limit(120)
def test_a_restricted_namespace_allows_an_ephemeral_container_without_incoming_traffic():
    namespace, greeting, name = made_up("restricted"), made_up("hello"), made_up("still")
    admin, group = Cluster(kubeconfig(), namespace), "rbac.authorization.k8s.io"
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
                {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": "developer", "namespace": namespace},
                 "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "edit"},
                 "subjects": [{"kind": "ServiceAccount", "name": "developer", "namespace": "sample"}]})
    try:
        eventually(lambda: admin.kubectl("get", "serviceaccount", "default", check=False), "the namespace has its service account")
        allowed = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000,
                   "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
        app = container("app", "localhost/sample-python:1", None, env={"SAMPLE_GREETING": greeting, "PORT": "8080"}, securityContext=allowed)
        admin.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
                     "spec": {"containers": [app], "terminationGracePeriodSeconds": 0, "nodeSelector": {"kubernetes.io/hostname": "node-2"}}})
        admin.wait(f"pod/{name}", "condition=Ready")
        with may_add_containers(namespace), Laptop(env={"KUBECONFIG": str(kubeconfig("developer"))}) as laptop:

            def run(incoming):
                config = laptop.folder / "mirrord.json"
                config.write_text(json.dumps(EPHEMERAL | {"feature": {"network": {"incoming": incoming}}}))
                return laptop.run("exec", "-f", config, "-t", f"pod/{name}", "-n", namespace, "--", "sh", "-c",
                                  "echo $SAMPLE_GREETING; cat /etc/hostname; getent hosts kubernetes.default.svc | cut -d' ' -f1")

            refused(run("steal"), "forbidden", 77, "restricted", "feature.network.incoming")
            done = run("off")
            equal((done.returncode, done.stdout.split()), (0, [greeting, name, "10.96.0.1"]), done.stderr + laptop.logs())
            equal(laptop.stop_all().returncode, 0)
            equal(ended_entries(admin, name), [0])
            equal(laptop.left_behind(), [])
    finally:
        admin.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false", check=False)


def by_header(laptop, scene, user, sample):
    """A session of one user that takes the requests with that user's header alone."""
    config = laptop.folder / "mirrord.json"
    incoming = {"mode": "steal", "http_filter": {"header_filter": f"^x-user: {user}$"}}
    config.write_text(json.dumps({"agent": IMAGE, "feature": {"network": {"incoming": incoming}}}))
    session = laptop.exec(scene.target, places.sample(sample), "-f", str(config), "--progress", "plain")
    session.wait_for(main_job.LISTENING)
    eventually(lambda: scene.say("whose", headers={"X-User": user})["program"] == sample, f"the requests of {user} are taken")
    return session


def agents(scene):
    return [pod["metadata"]["name"] for pod in scene.cluster.get("pods", "-l", f"{MANAGED},mirrord-ide/target-uid={scene.sample.pod_uid}")["items"]]


@limit(120)
def test_two_users_share_one_agent_and_the_last_one_out_removes_it():
    with ClusterScene() as scene, Laptop(env={"KUBECONFIG": str(kubeconfig("developer"))}) as other:
        first = by_header(scene.laptop, scene, "ann", "go")
        second = by_header(other, scene, "ben", "c")
        contains(second.stderr, "joining the agent of")
        equal(len(agents(scene)), 1, "agents")
        equal([scene.say("who", headers=headers)["program"] for headers in ({"X-User": "ann"}, {"X-User": "ben"}, {})], ["go", "c", "python"])
        # Whoever made it goes, and the other does not notice.
        first.terminate()
        first.wait()
        equal(scene.laptop.stop_all().returncode, 0)
        equal(scene.laptop.left_behind(), [])
        equal([scene.say("who", headers=headers)["program"] for headers in ({"X-User": "ann"}, {"X-User": "ben"}, {})], ["python", "c", "python"])
        equal(len(agents(scene)), 1, "agents")
        second.terminate()
        second.wait()
        equal(other.stop_all().returncode, 0)
        scene.wait_until_released()
        equal(other.left_behind() + scene.left_behind(), [])


@limit(120)
def test_sessions_with_other_configs_share_the_targets_agent():
    with ClusterScene() as scene:
        first = scene.exec(["sleep", "100"], "--steal")
        eventually(lambda: len(agents(scene)) == 1, "an agent")
        contains(scene.laptop.json("status", "--json")["daemon"]["agents"][0]["target"], scene.sample.label)
        feature = {"network": {"incoming": "off"}, "env": {"override": {"WHO": "second"}}}
        second = scene.exec(["sh", "-c", "echo $WHO $SAMPLE_GREETING"], feature=feature)
        equal((second.wait(), second.stdout.split()), (0, ["second", scene.greeting]), second.printed())
        equal((len(agents(scene)), len(scene.laptop.json("status", "--json")["daemon"]["agents"])), (1, 1), "agents")
        first.terminate()
        first.wait()
        scene.check_nothing_left()


@limit(120)
def test_a_port_that_another_user_steals_whole_is_refused_by_name():
    with ClusterScene(config={"agent": IMAGE}) as scene, Laptop(env={"KUBECONFIG": str(kubeconfig("developer"))}) as other:
        first = scene.exec(places.sample("go"), "--steal")
        first.wait_for(main_job.LISTENING)
        scene.wait_until_taken(first)
        second = other.exec(scene.target, places.sample("c"), "-f", scene.options[1], "--steal")
        second.wait_for("nobody@")
        equal(scene.say("who")["program"], "go")
        equal(len(agents(scene)), 1, "agents")
        first.terminate()
        first.wait()
        second.terminate()
        second.wait()
        equal([scene.laptop.stop_all().returncode, other.stop_all().returncode], [0, 0])
        scene.wait_until_released()
        equal(other.left_behind() + scene.laptop.left_behind() + scene.left_behind(), [])


@limit(120)
def test_without_the_right_to_run_programs_in_its_pod_nobody_joins_an_agent():
    namespace, group = "sample", "rbac.authorization.k8s.io"
    with ClusterScene() as scene:
        admin, name = Cluster(kubeconfig(), namespace), made_up("no-exec")
        rules = [{"apiGroups": ["", "apps", "batch"], "resources": ["pods", "deployments", "jobs", "configmaps", "secrets", "events"],
                  "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
                 {"apiGroups": [""], "resources": ["pods/portforward", "pods/log"], "verbs": ["get", "create"]}]
        meta = {"name": name, "namespace": namespace}
        admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
                    {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules},
                    {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                     "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]})
        try:
            given = json.loads(Cluster(kubeconfig("developer"), namespace).kubectl("config", "view", "--raw", "-o", "json"))
            given["users"][0]["user"] = {"token": admin.kubectl("create", "token", name).strip()}
            with Laptop() as other:
                (other.folder / "kubeconfig").write_text(json.dumps(given))
                other.env["KUBECONFIG"] = str(other.folder / "kubeconfig")
                first = by_header(scene.laptop, scene, "ann", "go")
                second = other.exec(scene.target, ["sh", "-c", "echo $SAMPLE_GREETING; sleep 100"], *scene.options)
                second.wait_for(scene.greeting)
                equal(len(agents(scene)), 2, "agents")
                for laptop, session in ((other, second), (scene.laptop, first)):
                    session.terminate()
                    session.wait()
                    equal(laptop.stop_all().returncode, 0)
                scene.wait_until_released()
                equal(other.left_behind() + scene.laptop.left_behind() + scene.left_behind(), [])
        finally:
            admin.kubectl("delete", "serviceaccount,role,rolebinding", name, "--ignore-not-found", check=False)
