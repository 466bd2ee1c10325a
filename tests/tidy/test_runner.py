"""The runner leaves alone what is not its own: a cluster that somebody else uses, a device that another run needs."""

import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from harness import freshness, run
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


def cargo_runs(checkout: Path, target: Path) -> list[str]:
    """What cargo builds anew in that checkout."""
    with freshness.noted(checkout, target):
        built = subprocess.run(["cargo", "build", "--offline", "--workspace"], cwd=checkout, env=os.environ | {"CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"},
                               capture_output=True, text=True, timeout=60)
        equal(built.returncode, 0, built.stderr)
    return [line.split()[1] for line in built.stderr.splitlines() if line.strip().startswith("Compiling")]


def checkout_of(folder: Path, said: str) -> Path:
    for name in ("agent", "policy"):
        (folder / name / "src").mkdir(parents=True)
        (folder / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2024"\n')
    (folder / "Cargo.toml").write_text('[workspace]\nresolver = "3"\nmembers = ["agent", "policy"]\n')
    (folder / "agent/src/main.rs").write_text(f'fn main() {{ println!("{said}"); }}\n')
    (folder / "policy/src/lib.rs").write_text("")
    subprocess.run(["cargo", "generate-lockfile", "--offline", "--quiet"], cwd=folder, check=True, timeout=60)
    return folder


def test_another_checkout_builds_what_differs_and_nothing_else():
    with tempfile.TemporaryDirectory() as base:
        folder, target = Path(base), Path(base) / "target"
        first = checkout_of(folder / "first", "one")
        equal(sorted(cargo_runs(first, target)), ["agent", "policy"])
        second = checkout_of(folder / "second", "one")
        equal(cargo_runs(second, target), [], "a second checkout of the same sources")
        (second / "agent/src/main.rs").write_text('fn main() { println!("two"); }\n')
        equal(cargo_runs(second, target), ["agent"])
        # The first one's file is the older, and yet it is not what was built.
        equal(cargo_runs(first, target), ["agent"], "back in the first checkout")
        said = subprocess.run([target / "debug/agent"], capture_output=True, text=True, timeout=10).stdout
        equal(said, "one\n")
        # A build that nobody noted: its sources are not known.
        (second / "agent/src/main.rs").write_text('fn main() { println!("three"); }\n')
        subprocess.run(["cargo", "build", "--offline", "--quiet"], cwd=second, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True, timeout=60)
        (second / "policy/src/lib.rs").write_text("// newer\n")
        equal(cargo_runs(second, target), ["policy"], "times are left alone then")
