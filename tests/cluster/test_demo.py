"""The demo on a Kubernetes: the test cluster's own sample, and any cluster by its kubeconfig."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import places
from harness.cluster import FOLDER, kubeconfig
from harness.testing import contains, equal, limit


def demo(*words, **environment):
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"} | environment
        return subprocess.run([sys.executable, str(places.EXAMPLES / "demo"), *words], env=environment, capture_output=True, text=True, timeout=110)


def check(done, text):
    equal(done.returncode, 0, done.stdout + done.stderr)
    contains(done.stdout, f"text = {text!r}")
    contains(done.stdout, "through the Service")
    assert re.search(r"✓ clean", done.stdout), done.stdout


@limit(120)
def test_the_demo_on_the_test_cluster():
    check(demo("--cluster", "--say", "made up for the cluster"), "made up for the cluster")


@limit(120)
def test_the_demo_on_a_cluster_of_the_users_that_has_no_image_of_ours():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        config = Path(folder) / "config"
        config.write_bytes(kubeconfig().read_bytes())  # which the ordinary user, whom the product runs as, cannot read
        done = demo("--kube", "--image", "localhost/sample-python:1", "--say", "made up for any cluster",
                    KUBECONFIG=str(config), PATH=f"{FOLDER / 'bin'}:{os.environ['PATH']}")
        check(done, "made up for any cluster")
