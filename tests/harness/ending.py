"""How a session ends, as those see it who send requests to the pod; the same for the stand-in pod and the cluster."""

from . import places
from .testing import equal


def first_requests_are_the_pods(scene, rounds):
    """Ends a stealing program and asks at once, again and again: nobody may be sent to a program that is no more."""
    for _ in range(rounds):
        server = scene.exec(places.sample("go"), "--steal")
        scene.wait_until_taken(server)
        server.terminate()
        server.wait()
        answers = [scene.say("after", timeout=2.0)["pid"] for _ in range(20)]
        equal(answers, [1] * 20)
