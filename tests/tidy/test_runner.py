"""The runner leaves alone what is not its own: a cluster that somebody else uses, a device that another run needs."""

import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from harness import run
from harness.testing import Skip, equal


def scripts_called(folder: Path, up: int) -> list[str]:
    """What `cluster()` calls where the cluster's folder is this one and `up` ends with that status."""
    called = []

    def fake(command, check=False, **_):
        called.append(Path(command[0]).name)
        status = up if called[-1] == "up" else 0
        return subprocess.CompletedProcess(command, status)

    kept = run.FOLDER, run.subprocess
    run.FOLDER, run.subprocess = folder, SimpleNamespace(run=fake, DEVNULL=subprocess.DEVNULL)
    try:
        with run.cluster():
            called.append("tests")
    except subprocess.CalledProcessError:
        called.append("failed")
    finally:
        run.FOLDER, run.subprocess = kept
    return called


def test_only_a_cluster_that_the_runner_started_is_stopped():
    with tempfile.TemporaryDirectory() as folder:
        equal(scripts_called(Path(folder), up=0), ["up", "tests", "down"])
        equal(scripts_called(Path(folder), up=1), ["up", "down", "failed"], "half a cluster is cleaned up")
        equal(scripts_called(Path(folder), up=run.UP_ALREADY), ["up", "failed"], "a cluster that `up` would not touch")
        (Path(folder) / "run").mkdir()
        (Path(folder) / "run/etcd.pid").touch()
        equal(scripts_called(Path(folder), up=0), ["load", "tests"], "a cluster that is up")


def test_up_refuses_where_a_cluster_is_up():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("bin/kube", "run/etcd.pid"):
            (Path(folder) / name).parent.mkdir()
            (Path(folder) / name).touch(0o755)
        up = run.places.ROOT / "tests/cluster/up"
        done = subprocess.run([up], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CLUSTER_DIR": folder}, capture_output=True, text=True, timeout=10)
        if "needs root" not in done.stderr:
            equal(done.returncode, run.UP_ALREADY, done.stderr)


def test_the_device_is_open_until_the_last_run_ends():
    if os.geteuid() != 0:
        raise Skip("only root's runs open the device")
    with tempfile.TemporaryDirectory() as folder:
        device, lock = Path(folder) / "fuse", Path(folder) / "lock"
        device.touch(0o600)

        def mode():
            return f"{device.stat().st_mode & 0o777:o}"

        def a_run():
            return run.as_shipped_by_distributions(str(device), str(lock))

        first, second = a_run(), a_run()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        equal(mode(), "666", "while the second runs")
        second.__exit__(None, None, None)
        equal(mode(), "600", "after both")
        # A run that was killed: the device is open, the mode written down, nobody holds the lock.
        device.chmod(0o666)
        lock.write_text("600")
        with a_run():
            equal(mode(), "666")
        equal(mode(), "600", "after the run that came next")
        device.chmod(0o666)
        with a_run():
            pass
        equal(mode(), "666", "where it was everyone's before")
