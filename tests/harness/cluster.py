"""The real cluster for tests and the demo: kubectl, the sample deployed on it, requests from inside it."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import quote

from . import places
from .local_pod import made_up, sample_port
from .testing import retried

FOLDER = Path(os.environ.get("CLUSTER_DIR") or places.cache() / "cluster")


MANAGED = "app.kubernetes.io/managed-by=mirrord-ide"


class ClusterError(Exception):
    """kubectl refused, or the cluster did not get to where it was asked to be."""


def kubeconfig(user="admin") -> Path:
    return FOLDER / f"{user}.kubeconfig"


class Cluster:
    """One kubeconfig and one namespace, through kubectl."""

    def __init__(self, config: Path | None, namespace: str, context: str | None = None):
        self.config, self.namespace = config, namespace
        kubectl = FOLDER / "bin/kubectl"
        self.command = [str(kubectl) if config and kubectl.exists() else "kubectl"]
        self.command += ["--context", context] if context else []
        self.env = os.environ | ({"KUBECONFIG": str(config)} if config else {})

    def kubectl(self, *words, input=None, timeout=90.0, check=True) -> str:
        command = [*self.command, "-n", self.namespace, *map(str, words)]
        done = subprocess.run(command, env=self.env, input=input, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise ClusterError(f"kubectl {' '.join(map(str, words[:4]))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def get(self, *words) -> dict:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def managed(self, target: str, kinds="pods,jobs,configmaps,secrets") -> list[str]:
        """Objects of the product, in any namespace, that were made for the target named or say nothing of one."""
        found = []
        for item in self.get(kinds, "-A", "-l", MANAGED)["items"]:
            meta = item["metadata"]
            if target in meta.get("annotations", {}).get("mirrord-ide/target", target):
                found.append(f"{item['kind'].lower()}/{meta['name']} in {meta['namespace']}")
        return found

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def wait(self, what, condition, seconds=60):
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={seconds}s", timeout=seconds + 10)


def container(name, image, port, command=None, env=None, mounts=None, **more) -> dict:
    spec = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in (mounts or {}).items()]}
    if port:
        spec["ports"] = [{"containerPort": port}]
        spec["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 1}
    if command:
        spec["command"] = command
    return spec | more


class Sample:
    """The sample service as a Deployment with a Service, a ConfigMap and a Secret, and a pod to ask it from.

    A context manager; what it made is gone afterwards (the namespace stays, as the test may share it). Names and
    values are made up anew each time.
    """

    def __init__(self, cluster: Cluster, program="python", image: str | None = None, node: str | None = None, port: int | None = None,
                 client_image="localhost/sample-python:1", client_node: str | None = None, pod_spec: dict | None = None, sidecar=False,
                 app_in_config_map=False, secret_mode: int | None = None):
        self.cluster, self.program, self.port = cluster, program, port or sample_port()
        self.label = made_up(program)
        self.greeting, self.banner, self.secret = made_up("hello"), made_up("banner"), made_up("secret")
        self.image = image or f"localhost/sample-{program}:1"
        self.client_image, self.node, self.client_node = client_image, node, client_node
        self.pod_spec, self.sidecar, self.app_in_config_map, self.secret_mode = pod_spec or {}, sidecar, app_in_config_map, secret_mode
        self.name = f"{self.label}.{cluster.namespace}.svc.cluster.local"

    def objects(self):
        meta = {"name": self.label, "labels": {"app": self.label}}
        env = {"PORT": str(self.port), "SAMPLE_GREETING": self.greeting, "SAMPLE_NAME": self.name}
        config = {"banner.txt": self.banner + "\n"}
        mounts = {"config": "/etc/sample", "secret": "/var/run/secrets/sample"}
        volumes = [{"name": "config", "configMap": {"name": self.label}}, {"name": "secret", "secret": {"secretName": self.label} | ({"defaultMode": self.secret_mode} if self.secret_mode else {})}]
        command = None
        if self.app_in_config_map:
            config["app.py"] = (places.EXAMPLES / "python/app.py").read_text()
            command = ["python3", "/etc/sample/app.py"]
        containers = [container("app", self.image, self.port, command, env, mounts)]
        if self.sidecar:
            containers.append(container("sidecar", self.client_image, None, ["sleep", "100000"]))
        pod = {"containers": containers, "volumes": volumes, "terminationGracePeriodSeconds": 0} | self.pod_spec
        if self.node:
            pod["nodeSelector"] = {"kubernetes.io/hostname": self.node}
        # The client runs the sample too, so that it is also a peer whom the pod can call.
        peer = ["python3", "/etc/sample/app.py"] if self.app_in_config_map else None
        client = {"containers": [container("client", self.client_image, 80, peer, mounts={"config": "/etc/sample"})], "volumes": volumes[:1],
                  "terminationGracePeriodSeconds": 0}
        if self.client_node:
            client["nodeSelector"] = {"kubernetes.io/hostname": self.client_node}
        return [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": config},
            {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": self.secret}},
            {"apiVersion": "v1", "kind": "Service", "metadata": meta,
             "spec": {"selector": {"app": self.label, "role": "server"}, "ports": [{"port": 80, "targetPort": self.port}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": meta | {"name": f"{self.label}-peer"},
             "spec": {"selector": {"app": self.label, "role": "client"}, "ports": [{"port": 80}]}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
             "spec": {"replicas": 1, "selector": {"matchLabels": {"app": self.label, "role": "server"}},
                      "template": {"metadata": {"labels": {"app": self.label, "role": "server"}}, "spec": pod}}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{self.label}-client", "labels": {"app": self.label, "role": "client"}}, "spec": client},
        ]

    def __enter__(self):
        try:
            self.cluster.apply(*self.objects())
            self.cluster.wait(f"deployment/{self.label}", "condition=Available")
            self.cluster.wait(f"pod/{self.label}-client", "condition=Ready")
            self.look()
            self.wait_for_service()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def look(self):
        """Reads what the cluster chose: the pod's name and address, and the Service's."""
        pod = self.cluster.get("pods", "-l", f"app={self.label},role=server")["items"][0]
        self.hostname = self.pod_name = pod["metadata"]["name"]
        self.pod_uid, self.pod_node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
        self.pod_address = pod["status"]["podIP"]
        self.service_address = self.cluster.get("service", self.label)["spec"]["clusterIP"]

    def wait_for_service(self, seconds=20.0):
        """Waits until the Service leads to the pod, which is a moment after the pod is ready."""
        retried(lambda: self.get("/healthz", timeout=3), (ClusterError, ValueError), seconds, every=0.2)

    def inside(self, *command, timeout=30.0, container=None) -> str:
        """Runs a command in the client pod, or in a container of the server's."""
        where = [f"deployment/{self.label}", "-c", container] if container else [f"{self.label}-client"]
        return self.cluster.kubectl("exec", *where, "--", *command, timeout=timeout)

    def get(self, path, timeout=20.0, host=None, headers=None, container=None) -> dict:
        """One request from inside the cluster, through the Service unless `host` says otherwise."""
        url = f"http://{host or self.label}{path}"
        program = ("import sys, urllib.request as u; "
                   f"print(u.urlopen(u.Request(sys.argv[1], headers={headers or {}!r}), timeout={timeout}).read().decode())")
        return json.loads(self.inside("python3", "-c", program, url, timeout=timeout + 15, container=container))

    def say(self, text, timeout=20.0, **options) -> dict:
        return self.get("/say?text=" + quote(text), timeout, **options)

    def left_in_cluster(self) -> list[str]:
        """Objects made for this target that are still there, in any namespace."""
        return self.cluster.managed(self.label)

    def rules_left(self) -> list[str]:
        """nftables tables in any pod's network of the fixture, seen from its node (needs root)."""
        found = []
        for mount in FOLDER.glob("run/containerd-*/io.containerd.grpc.v1.cri/netns/*"):
            listed = subprocess.run(["nsenter", f"--net={mount}", "nft", "list", "tables"], capture_output=True, text=True)
            if listed.returncode and mount.exists():
                raise ClusterError(f"the rules in {mount.name} cannot be listed: {listed.stderr.strip()}")
            found += [f"{table} in {mount.name}" for table in listed.stdout.splitlines() if "mirrord" in table]
        return found

    def close(self):
        self.cluster.kubectl("delete", "deployment,service,pod,configmap,secret", "-l", f"app={self.label}", "--ignore-not-found", "--wait=false",
                             check=False)
