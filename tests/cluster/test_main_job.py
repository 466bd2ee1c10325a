"""The main job on the real cluster, by a user with the built-in edit role: target on node 2, callers on node 1."""

from harness import main_job
from harness.scene import ClusterScene
from harness.setup import has
from harness.testing import Skip, equal, limit

AGENT = {"agent": {"image": "localhost/mirrord-ide-agent:test"}}


@limit(120)
def test_a_python_breakpoint_is_hit_by_a_stolen_request():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "steal"))


@limit(120)
def test_a_python_breakpoint_is_hit_by_a_mirrored_request():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "mirror"))


@limit(120)
def test_a_node_breakpoint_is_hit_by_a_stolen_request():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "steal"))


@limit(120)
def test_a_node_breakpoint_is_hit_by_a_mirrored_request():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "mirror"))


@limit(150)
def test_a_java_server_is_stopped_by_jdb():
    if not has("javac", "jdb"):
        raise Skip("no JDK here: apt-get install default-jdk-headless")
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.java_breakpoint(scene, "steal"))


@limit(120)
def test_a_stripped_static_go_server_has_the_pods_world():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


@limit(120)
def test_a_configmap_and_a_secret_are_read_and_listed():
    with ClusterScene(config=AGENT) as scene:
        main_job.mounted_files(scene)
        scene.check_nothing_left()


@limit(120)
def test_a_sidecar_reaches_the_local_program():
    with ClusterScene(config=AGENT, sidecar=True) as scene:
        main_job.sidecar_is_answered(scene)
        scene.check_nothing_left()


@limit(150)
def test_two_targets_at_once_reach_each_other_through_their_services():
    with ClusterScene(config=AGENT) as first, ClusterScene(config=AGENT, beside=first, port=8081, node="node-1") as second:
        main_job.two_targets(first, second)
        first.check_nothing_left()
        equal(second.left_behind(), [])


@limit(120)
def test_a_steal_with_a_header_leaves_the_rest_to_the_pod():
    with ClusterScene(config=AGENT) as scene:
        main_job.ends_cleanly(scene, main_job.only_with_header(scene))


@limit(120)
def test_a_connection_from_before_survives_a_steal():
    with ClusterScene(config=AGENT) as scene:
        main_job.keep_alive_survives(scene, "steal")
        scene.check_nothing_left()


@limit(120)
def test_a_connection_from_before_survives_a_mirror():
    with ClusterScene(config=AGENT) as scene:
        main_job.keep_alive_survives(scene, "mirror")
        scene.check_nothing_left()


@limit(120)
def test_an_image_with_a_user_of_its_own():
    with ClusterScene(config=AGENT, image="localhost/sample-python-user:1", port=8080) as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "steal"))


@limit(120)
def test_files_that_only_the_pods_own_user_may_read():
    user = {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}}
    with ClusterScene(config=AGENT, image="localhost/sample-python-user:1", port=8080, pod_spec=user, secret_mode=0o400) as scene:
        modes = "import os, sys; print(*(f'{one.st_mode & 0o777:o} {one.st_uid}' for one in map(os.stat, sys.argv[1:])))"
        shown = scene.sample.inside("python3", "-c", modes, "/srv/private.txt", "/var/run/secrets/sample/token", container="app")
        equal(shown.strip(), "600 1000 440 0", "the files' modes and owners")
        session = scene.exec(["cat", "/srv/private.txt", "/var/run/secrets/sample/token"], feature={"fs": "read"})
        equal(session.wait(), 0, session.printed())
        equal(session.stdout, f"for user 1000 alone\n{scene.secret}")
        scene.check_nothing_left()


@limit(120)
def test_the_agent_is_delivered_where_no_image_is_named():
    with ClusterScene() as scene:
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))
