"""The test runner: sets up, runs folder after folder, prints one line a test and the total.

Folders that debug on a local target run as an ordinary user, who when the runner is root is one without any
capability, in a network namespace that holds nothing but loopback: what leaks past the product fails at once.
"""

import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import freshness, places, setup  # noqa: E402
from harness.cluster import FOLDER  # noqa: E402
from harness.laptop import ORDINARY  # noqa: E402

# Where the tests of a folder run: in the checkout; as the ordinary user, alone in a network; or as root, who keeps the
# cluster, with the product as the ordinary user. The last two work on copies that the ordinary user can read.
CHECKOUT, ALONE, BESIDE_CLUSTER = "checkout", "alone", "beside a cluster"
FOLDERS = {
    "tidy": (["tidy"], CHECKOUT),
    "unit": (["tidy"], CHECKOUT),
    "conformance": (["local"], ALONE),
    "rpc": (["local"], ALONE),
    "adapters": (["local", "adapters"], ALONE),
    "cluster": (["local", "cluster"], BESIDE_CLUSTER),
    "editors": (["local", "adapters", "cluster", "editors"], BESIDE_CLUSTER),
}
CLONE_NEWNET = 0x40000000
# The status of `tests/cluster/up` where a cluster is up.
UP_ALREADY = 3


class Totals:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.minutes = 0, [], [], {}

    def add(self, name, outcome, text="", seconds=None):
        time = "" if seconds is None else f" ({seconds:.1f} s)"
        print(f"{outcome:4} {name}{time}{' - ' + text if outcome == 'skip' else ''}", flush=True)
        if outcome == "ok":
            self.passed += 1
        elif outcome == "skip":
            self.skipped.append((name, text))
        else:
            self.failed.append(name)
            print("     " + text.strip().replace("\n", "\n     "), flush=True)

    @contextmanager
    def timed(self, part):
        began = time.monotonic()
        try:
            yield
        finally:
            self.minutes[part] = (time.monotonic() - began) / 60

    def print(self):
        print("took " + ", ".join(f"{part} {minutes:.1f} min" for part, minutes in self.minutes.items()))
        for name, reason in self.skipped:
            print(f"skipped: {name} - {reason.splitlines()[0] if reason else 'no reason given'}")
        for name in self.failed:
            print(f"failed: {name}")
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped")


def files_of(folder):
    return sorted((places.ROOT / "tests" / folder).glob("test_*.py"))


def tests_in(path):
    return re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)


def unit(totals):
    """The unit tests of the workspace, counted one by one from what cargo prints."""
    environment = os.environ | {"CARGO_TERM_COLOR": "never"}
    cargo = subprocess.Popen(["cargo", "test", "--workspace", "--no-fail-fast"], cwd=places.ROOT, env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    crate, tail, counted = "?", [], 0
    for line in cargo.stdout:
        tail = [*tail[-60:], line]
        if found := re.match(r"\s+(?:Running .*\((.*)/deps/(\w+)-\w+\)|Doc-tests (\w+))", line):
            crate = found[2] or f"{found[3]} (doc)"
        elif found := re.match(r"test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, (.*))?$", line):
            outcome = {"ok": "ok", "FAILED": "FAIL", "ignored": "skip"}[found[2]]
            totals.add(f"unit {crate}::{found[1]}", outcome, found[3] or ("see cargo's output below" if outcome == "FAIL" else ""))
            counted += outcome == "FAIL"
    if cargo.wait() and not counted:
        totals.add("unit cargo test --workspace", "FAIL", "".join(tail))
    elif counted:
        print("".join(tail))


@contextmanager
def as_shipped_by_distributions(device="/dev/fuse", lock="/run/mirrord-ide-tests.fuse"):
    """/dev/fuse is everyone's on a distribution; on a machine where it is root's, opens it while any run of the tests goes on.

    Each run holds the lock together with the others. Who opened the device wrote down its mode, and the last one who
    leaves gives it back: also after a run that was killed.
    """
    if os.geteuid() != 0 or not os.path.exists(device):
        yield
        return
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), "r+") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        mode = os.stat(device).st_mode & 0o7777
        if mode != 0o666:
            os.pwrite(held.fileno(), f"{mode:04o}".encode(), 0)  # twice the same where two runs begin at once
            os.chmod(device, 0o666)
        try:
            yield
        finally:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if was := held.read():
                    os.chmod(device, int(was, 8))
                    os.truncate(lock, 0)
            except BlockingIOError:
                pass  # another run still needs it


@contextmanager
def cluster():
    """The test cluster, started unless it is up already, then with the images of now; whoever started it stops it."""
    scripts = places.ROOT / "tests/cluster"
    # Where the scripts keep it, which CLUSTER_DIR decides and not the cache.
    if (FOLDER / "run/etcd.pid").exists():
        subprocess.run([scripts / "load"], check=True)
        yield
        return
    started = subprocess.run([scripts / "up"], stdout=subprocess.DEVNULL)
    if started.returncode == UP_ALREADY:
        started.check_returncode()  # what `up` would not touch is somebody else's, and not ours to stop
    try:
        started.check_returncode()
        yield
    finally:
        subprocess.run([scripts / "down"], check=False)


def become_ordinary():
    """Run in the child before its program: a network of its own with loopback only, then no privilege at all."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.setgroups([])
    os.setresgid(ORDINARY, ORDINARY, ORDINARY)
    os.setresuid(ORDINARY, ORDINARY, ORDINARY)


@contextmanager
def workplace(where):
    """The folder and environment tests run in; the ordinary user gets a copy of what it might not be able to read."""
    base = Path(tempfile.mkdtemp(prefix="mit-"))
    environment = os.environ | {"MIRRORD_TEST_CACHE": str(places.cache()), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(base / "tmp")}
    (base / "tmp").mkdir()
    root = places.ROOT
    try:
        if where != CHECKOUT:
            (base / "home").mkdir()
            environment |= {"HOME": str(base / "home"), "XDG_CACHE_HOME": str(base / "home/.cache")}
            environment.pop("XDG_RUNTIME_DIR", None)
            binary = shutil.copy(places.product(build=False), base / "mirrord-ide")
            environment["MIRRORD_IDE_BIN"] = str(binary)
            if os.geteuid() == 0:
                root = base / "checkout"
                ignored = shutil.ignore_patterns("__pycache__", "node_modules", "kube")
                for part in ("tests", "examples"):
                    shutil.copytree(places.ROOT / part, root / part, ignore=ignored)
                environment["MIRRORD_TEST_ROOT"] = str(root)
                for folder, folders, files in os.walk(base):
                    for name in [".", *folders, *files]:
                        os.chown(os.path.join(folder, name), ORDINARY, ORDINARY, follow_symlinks=False)
        yield root, environment
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run_file(path, root, environment, where, totals, names):
    """Runs one file's tests in a process of its own and counts what it reports."""
    local_path = root / path.relative_to(places.ROOT)
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-B", str(root / "tests/harness/run_file.py"), str(local_path), str(writer), *names],
        env=environment, cwd=root, pass_fds=[writer], stdin=subprocess.DEVNULL,
        preexec_fn=become_ordinary if where == ALONE and os.geteuid() == 0 else None)
    os.close(writer)
    label, running, reported = f"{path.parent.name}/{path.stem}", None, set()
    with os.fdopen(reader) as results:
        for line in results:
            result = json.loads(line)
            running = result.get("begin")
            if running is None:
                reported.add(result["test"])
                totals.add(f"{label} {result['test']}", result["outcome"], result["text"], result["seconds"])
    code = child.wait()
    wanted = set(names)
    for name in sorted(wanted - reported):
        totals.add(f"{label} {name}", "FAIL", "was running when its process ended" if name == running else f"never ran: the file's process ended with {code}")
    if code and wanted <= reported:
        totals.add(f"{label} (its process)", "FAIL", f"ended with {code}")


def run_folder(folder, totals, reasons, name=None):
    parts, where = FOLDERS[folder]
    reason = next((reasons[part] for part in parts if part in reasons), None)
    if folder == "unit":
        if reason:
            totals.add("unit", "skip", reason)
        else:
            unit(totals)
        return
    chosen = [(path, [test for test in tests_in(path) if not name or name in test]) for path in files_of(folder)]
    if reason:
        for path, names in chosen:
            for test in names:
                totals.add(f"{folder}/{path.stem} {test}", "skip", reason)
        return
    with ExitStack() as around:
        if where != CHECKOUT:
            around.enter_context(as_shipped_by_distributions())
        if where == BESIDE_CLUSTER:
            around.enter_context(cluster())
        root, environment = around.enter_context(workplace(where))
        for path, names in chosen:
            if names:
                run_file(path, root, environment, where, totals, names)


def main():
    # Whoever starts this in a script's background has Ctrl-C ignored, and all programs below would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words, install, name = sys.argv[1:], False, None
    folders = []
    while words:
        word = words.pop(0)
        if word == "--install":
            install = True
        elif word == "-k" and words:
            name = words.pop(0)
        elif word.rstrip("/").removeprefix("tests/") in FOLDERS:
            folders.append(word.rstrip("/").removeprefix("tests/"))
        else:
            sys.exit(f"usage: tests/run [--install] [-k PART_OF_NAME] [{'|'.join(FOLDERS)}]...")
    folders = [folder for folder in folders or FOLDERS if folder == "unit" or files_of(folder)]
    parts = [part for part in setup.PARTS if any(part in FOLDERS[folder][0] for folder in folders)]
    totals = Totals()
    try:
        with freshness.noted(places.ROOT, places.target_folder()):
            with totals.timed("setup"):
                reasons = setup.set_up(parts, install)
            for part, reason in reasons.items():
                print(f"cannot set up {part}: {reason}", flush=True)
            for folder in folders:
                with totals.timed(folder):
                    run_folder(folder, totals, reasons, name)
    except KeyboardInterrupt:
        totals.failed.append("interrupted")
    totals.print()
    sys.exit(1 if totals.failed else 0)


if __name__ == "__main__":
    main()
