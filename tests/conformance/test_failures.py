"""What goes wrong, and what the user is told: a stable word, an exit status, what failed, and what to do."""

import json
import os
import socket
import time

from harness import main_job, places, survival
from harness.laptop import Laptop
from harness.local_pod import LocalPod
from harness.scene import LocalScene
from harness.testing import contains, equal, eventually, refused

# Opens a file of the pod and makes a connection through it five times a second, and prints how each went.
WATCHER = """
import socket, time
while True:
    for what, attempt in [("file", lambda: open("/etc/sample/banner.txt").read()), ("dial", lambda: socket.create_connection(("198.51.100.1", 8090), 20).close())]:
        began = time.monotonic()
        try:
            attempt(); how = "ok"
        except OSError as error:
            how = type(error).__name__
        print(what, how, round(time.monotonic() - began, 2), flush=True)
    time.sleep(0.2)
"""


def test_no_such_process():
    with Laptop() as laptop:
        began = time.monotonic()
        refused(laptop.run("exec", "-t", "process/2147483000", "--", "true"), "target-not-found", 66, "2147483000", began=began)


def test_no_config_of_that_name():
    with Laptop() as laptop:
        refused(laptop.run("exec", "-f", "nowhere.json", "-t", "process/1", "--", "true"), "config-not-found", 65, "nowhere.json")


def test_a_bad_config_says_all_that_is_wrong_with_it():
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        (laptop.folder / "bad.json").write_text('{\n  "tarjet": "pod/x",\n  "feature": {"network": {"incoming": {"outgoing": true}}}\n}\n')
        done = laptop.run("exec", "-f", "bad.json", "-t", f"process/{pid}", "--", "sh", "-c", "echo ran")
        equal((done.returncode, done.stdout), (65, ""))
        for part in ("[config-invalid]", "tarjet", "target", "feature.network.outgoing", ":3:"):
            contains(done.stderr, part)


def test_a_config_is_verified_from_a_file():
    with Laptop() as laptop:
        (laptop.folder / "talk.json").write_text('{"feature": {"network": {"incoming": {"mode": "steal", "outgoing": true}}}}')
        done = laptop.run("verify-config", "talk.json", "--json")
        equal(done.returncode, 65, done.stderr)
        got = json.loads(done.stdout)
        equal((got["ok"], len(got["diagnostics"])), (False, 1))
        contains(got["diagnostics"][0]["message"], "feature.network.outgoing")
        (laptop.folder / "good.json").write_text('{"feature": {"network": {"incoming": "steal"}}}')
        equal(laptop.run("verify-config", "good.json").returncode, 0)


def test_a_program_that_is_not_there_or_privileged_never_runs():
    with LocalScene() as scene:
        for command, word in [("/nowhere/program", "program-not-found"), ("/usr/bin/su", "program-privileged")]:
            if not os.path.exists(command) and word == "program-privileged":
                continue
            done = scene.laptop.run("exec", "-t", scene.target, "--", command)
            refused(done, word, 125)
        scene.check_nothing_left()


def test_a_port_that_is_taken_on_this_machine():
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        with LocalScene(port=port) as scene:
            session = scene.exec(places.sample("go"), "--steal")
            equal(session.wait(), 1, session.printed())
            contains(session.stderr, f"port {port} is in use on this machine")
            contains(session.stderr, "listen_ports")
            scene.own_answer()
            scene.check_nothing_left()


def test_the_agent_is_killed():
    with LocalScene() as scene:
        watcher = scene.exec([places.venv_python(), "-u", "-c", WATCHER])
        server = scene.exec(places.sample("go"), "--steal")
        watcher.wait_for("file ok")
        watcher.wait_for("dial ok")
        scene.wait_until_taken(server)
        survival.kill(*agents_of(scene))
        began = time.monotonic()
        # The pod answers, or the program again where a new agent was quicker; nobody waits for a dead one.
        eventually(lambda: is_answered(scene), "a new connection is answered", 1.0 + 0.5)
        assert time.monotonic() - began < 1.5
        assert watcher.alive() and server.alive(), watcher.printed() + server.printed()
        before = len(watcher.stdout.splitlines())
        # Each may wait for a link for a while before it fails.
        eventually(lambda: len(watcher.stdout.splitlines()) > before + 3, "remote calls go on, well or badly", 25)
        slowest = max(float(line.split()[2]) for line in watcher.stdout.splitlines() if len(line.split()) == 3)
        assert slowest < 10, f"a remote call took {slowest} s:\n{watcher.stdout}"
        contains(server.stderr.lower(), "agent")
        scene.check_nothing_left()


def test_a_killed_agent_is_made_anew():
    with LocalScene() as scene:
        session = survival.stolen(scene)
        survival.kill(*agents_of(scene))
        survival.goes_on(scene, session)
        session.terminate()
        session.wait()
        survival.released(scene)


def agents_of(scene):
    agents = [pid for pid, command in scene.laptop.processes() if " serve --listen " in command]
    assert agents, scene.laptop.processes()
    return agents


def is_answered(scene):
    try:
        return "pid" in scene.say("whose", timeout=1.0)
    except (OSError, ValueError):
        return False


def test_the_session_host_is_killed():
    with LocalScene() as scene:
        survival.session_host_killed(scene)


def test_the_front_is_killed():
    with LocalScene() as scene:
        survival.front_killed(scene)


def test_the_port_of_a_killed_session_is_waited_for():
    with LocalScene() as scene:
        first = main_job.static_program(scene, "c")
        second = scene.exec(places.sample("go"), "--steal")
        running = lambda: [one for one in scene.laptop.json("status", "--json")["sessions"] if one["state"] == "running"]
        eventually(lambda: len(running()) == 2, "both programs run")
        first.kill()
        eventually(lambda: scene.say("whose is it")["program"] == "go", "the second has the port")
        assert "not taken over" not in second.stderr, second.stderr
        main_job.ends_cleanly(scene, second)


def test_the_daemon_is_killed_and_the_session_goes_on():
    with LocalScene() as scene:
        survival.daemon_killed(scene)


def test_agent_session_host_and_daemon_are_killed_at_once():
    with LocalScene() as scene:
        survival.all_killed(scene, lambda: survival.kill(*agents_of(scene)))
