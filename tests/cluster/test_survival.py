"""What a session on the cluster survives: its agent's pod removed, its connections cut, its processes killed."""

import json
from pathlib import Path

from harness import survival
from harness.cluster import Cluster, kubeconfig
from harness.scene import ClusterScene
from harness.testing import contains, equal, eventually, limit

AGENT = {"agent": {"image": "localhost/mirrord-ide-agent:test"}}


def processes_of(container):
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if container in path.read_text():
                found.append(path.parent)
        except OSError:
            continue  # ended meanwhile
    return found


def remove_agents(scene):
    """Ends the agent's pod at once, as an eviction would; returns when its process has ended."""
    pods = [name.split()[0] for name in scene.cluster.managed(scene.sample.label, "pods")]
    equal(len(pods), 1, "agents")
    # The session runs before the API knows of the container.
    told = eventually(lambda: scene.cluster.get(pods[0])["status"].get("containerStatuses", [{}])[0].get("containerID"), "the container is known")
    container = told.rpartition("/")[2]
    processes = processes_of(container)
    assert processes, "the agent's process is not to be seen from here"
    scene.cluster.kubectl("delete", pods[0], "--grace-period=0", "--force", "--wait=false")
    eventually(lambda: not any(path.exists() for path in processes), "the agent's process has ended", 30)


@limit(120)
def test_the_agents_pod_is_removed():
    with ClusterScene(config=AGENT) as scene:
        session = survival.stolen(scene)
        remove_agents(scene)
        survival.goes_on(scene, session)
        contains(session.stderr.lower(), "agent")
        session.terminate()
        session.wait()
        survival.released(scene)


@limit(120)
def test_the_connections_to_the_api_server_are_cut():
    with ClusterScene(config=AGENT) as scene:
        given = json.loads(Cluster(kubeconfig("developer"), "sample").kubectl("config", "view", "--raw", "-o", "json"))
        host, _, port = given["clusters"][0]["cluster"]["server"].removeprefix("https://").rpartition(":")
        with survival.Proxy(host, int(port)) as proxy:
            given["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
            (scene.laptop.folder / "proxied").write_text(json.dumps(given))
            session = survival.stolen(scene, env={"KUBECONFIG": str(scene.laptop.folder / "proxied")})
            assert proxy.cut(), "nothing went through the proxy"
            survival.goes_on(scene, session)
            session.terminate()
            session.wait()
            survival.released(scene)


@limit(120)
def test_the_session_host_is_killed():
    with ClusterScene(config=AGENT) as scene:
        survival.session_host_killed(scene)


@limit(120)
def test_the_daemon_is_killed_and_the_session_goes_on():
    with ClusterScene(config=AGENT) as scene:
        survival.daemon_killed(scene)


@limit(120)
def test_agent_session_host_and_daemon_are_killed_at_once():
    with ClusterScene(config=AGENT) as scene:
        survival.all_killed(scene, lambda: remove_agents(scene))
