"""How a session with a process of this machine ends."""

from harness.ending import first_requests_are_the_pods
from harness.scene import LocalScene


def test_the_first_requests_after_the_end_are_the_pods():
    with LocalScene() as scene:
        first_requests_are_the_pods(scene, rounds=3)
