"""The one file that is installed, and the two pieces that it carries."""

import re
import subprocess

from harness import places
from harness.local_pod import LocalPod
from harness.laptop import Laptop
from harness.testing import equal


def unpacked():
    """The agent and the layer as they are unpacked for a session."""
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        done = laptop.exec(f"process/{pid}", ["true"])
        equal(done.wait(), 0, done.printed())
        yield from (path for path in (laptop.cache / "mirrord-ide").rglob("*") if path.is_file())


def test_agent_and_layer_are_small_and_run_on_old_systems():
    kinds = set()
    for path in unpacked():
        size = path.stat().st_size
        headers = subprocess.run(["readelf", "--wide", "--dynamic", "--version-info", str(path)], capture_output=True, text=True).stdout
        if path.suffix == ".so":
            kinds.add("layer")
            newest = max((tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_(\d+\.\d+)", headers)), default=(0, 0))
            assert newest <= (2, 28), f"the layer needs GLIBC_{newest}"
            assert size <= 500_000, f"the layer has {size} bytes"
        else:
            kinds.add("agent")
            assert "(NEEDED)" not in headers, f"the agent is not static:\n{headers}"
            assert size <= 8_000_000, f"the agent has {size} bytes"
    assert "agent" in kinds, kinds


def test_the_installed_file_is_not_too_large():
    size = places.product().stat().st_size
    assert size <= 40_000_000, f"{size} bytes"
