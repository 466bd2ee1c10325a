"""Steal with a header: on a target that others use too, only one's own requests come to this machine."""

import json
from urllib.parse import quote

from harness import places
from harness.main_job import LISTENING
from harness.scene import LocalScene
from harness.testing import eventually

MINE, OTHERS = {"X-Debug": "me"}, {"X-Debug": "somebody else"}


def exec_with_filter(scene, **http_filter):
    path = scene.laptop.folder / "mirrord.json"
    path.write_text(json.dumps({"feature": {"network": {"incoming": {"mode": "steal", "http_filter": http_filter}}}}))
    session = scene.exec(places.sample("go"), "-f", str(path))
    session.wait_for(LISTENING)
    eventually(lambda: scene.say("are you there", headers=MINE)["pid"] != 1, "a request with the header reaches the local program", 20)
    return session


def ask(connection, text, headers):
    connection.request("GET", "/say?text=" + quote(text), headers={"Host": "sample"} | headers)
    return json.loads(connection.getresponse().read())


def test_a_steal_by_a_header_takes_only_the_requests_that_carry_it():
    with LocalScene() as scene:
        session = exec_with_filter(scene, header_filter="^x-debug: me$")
        connection = scene.pod.client.http(scene.pod.address, scene.port)
        kept = connection.sock
        for number in range(3):
            scene.check(ask(connection, f"mine {number}", MINE), f"mine {number}", "go", local=True)
            scene.check(ask(connection, f"theirs {number}", OTHERS), f"theirs {number}", "python", local=False)
            scene.check(ask(connection, f"plain {number}", {}), f"plain {number}", "python", local=False)
        assert connection.sock is kept, "the connection was closed and made anew"
        # The session ends; the connection goes on, and is the pod's alone.
        session.terminate()
        session.wait()
        eventually(lambda: ask(connection, "mine still?", MINE)["pid"] == 1, "the pod answers again", 10)
        assert connection.sock is kept, "the connection was closed and made anew"
        connection.close()
        scene.check_nothing_left()


def test_ports_that_the_filter_does_not_name_are_stolen_whole():
    with LocalScene() as scene:
        session = exec_with_filter(scene, header_filter="^x-debug: me$", ports=[scene.port + 1])
        scene.check(scene.say("plain"), "plain", "go", local=True)
        session.terminate()
        session.wait()
        scene.wait_until_released()
        scene.check_nothing_left()
