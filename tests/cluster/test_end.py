"""How a session with a pod ends."""

from harness.ending import first_requests_are_the_pods
from harness.scene import ClusterScene
from harness.testing import limit


@limit(120)
def test_the_first_requests_after_the_end_are_the_pods():
    with ClusterScene(config={"agent": {"image": "localhost/mirrord-ide-agent:test"}}) as scene:
        first_requests_are_the_pods(scene, rounds=2)
