"""The main job against the local target: the list of the cluster's tests, in seconds."""

from harness import main_job
from harness.scene import LocalScene
from harness.setup import has
from harness.testing import Skip, equal, limit


def test_a_python_breakpoint_is_hit_by_a_stolen_request():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "steal"))


def test_a_python_breakpoint_is_hit_by_a_mirrored_request():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.python_breakpoint(scene, "mirror"))


def test_a_node_breakpoint_is_hit_by_a_stolen_request():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "steal"))


def test_a_node_breakpoint_is_hit_by_a_mirrored_request():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.node_breakpoint(scene, "mirror"))


@limit(120)
def test_a_java_server_is_stopped_by_jdb():
    if not has("javac", "jdb"):
        raise Skip("no JDK here: apt-get install default-jdk-headless")
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.java_breakpoint(scene, "steal"))


def test_a_stripped_static_go_server_has_the_pods_world():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.static_program(scene, "go"))


def test_a_small_static_c_server_has_the_pods_world():
    with LocalScene() as scene:
        session = scene.exec(main_job.places.sample("c"), "--steal")
        session.wait_for(main_job.LISTENING)
        scene.wait_until_taken(session)
        scene.check(scene.say("static"), "static", "c", local=True)
        main_job.ends_cleanly(scene, session)


def test_mounted_files_are_read_and_listed():
    with LocalScene() as scene:
        main_job.mounted_files(scene)
        main_job.open_folders(scene)
        scene.check_nothing_left()


def test_a_caller_in_the_same_pod_reaches_the_local_program():
    with LocalScene() as scene:
        main_job.sidecar_is_answered(scene)
        scene.check_nothing_left()


def test_two_targets_at_once_reach_each_other():
    with LocalScene() as first, LocalScene(beside=first, port=8081) as second:
        main_job.two_targets(first, second)
        first.check_nothing_left()
        equal(second.left_behind(), [])


def test_a_steal_with_a_header_leaves_the_rest_to_the_pod():
    with LocalScene() as scene:
        main_job.ends_cleanly(scene, main_job.only_with_header(scene))


def test_a_connection_from_before_survives_a_steal():
    with LocalScene() as scene:
        main_job.keep_alive_survives(scene, "steal")
        scene.check_nothing_left()


def test_a_connection_from_before_survives_a_mirror():
    with LocalScene() as scene:
        main_job.keep_alive_survives(scene, "mirror")
        scene.check_nothing_left()


def test_exit_code_and_signals_are_the_programs_own():
    with LocalScene() as scene:
        main_job.exit_code_and_signals(scene)
        scene.check_nothing_left()
