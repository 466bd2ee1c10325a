"""The developer's side: the mirrord-ide command line with a state folder of its own, and what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from . import places
from .wire import Gone, Wire


ORDINARY = 65534  # nobody


class Laptop:
    """A developer's machine as the product sees it; a context manager that ends with `stop --all`.

    Everything it starts names the state folder in its environment or arguments, which is how leftovers are found.
    """

    def __init__(self, env: dict[str, str] | None = None, binary: Path | None = None):
        self.binary = binary or places.product()
        self.folder = Path(tempfile.mkdtemp(prefix="lap-"))
        self.state = self.folder / "state"
        self.cache = self.folder / "cache"
        unwanted = ("SAMPLE_", "MIRRORD_IDE_", "MIRRORD_TEST_", "PORT", "LD_PRELOAD", "KUBECONFIG")
        # A debug build carries none of its pieces: it is told where they are.
        pieces = ("MIRRORD_IDE_AGENT", "MIRRORD_IDE_LAYER", "MIRRORD_IDE_STAGE0")
        self.env = {name: value for name, value in os.environ.items() if name in pieces or not name.startswith(unwanted)}
        self.env |= {"MIRRORD_IDE_STATE_DIR": str(self.state), "XDG_CACHE_HOME": str(self.cache), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        self.env |= env or {}
        self.started: list[Session] = []
        # What the product is run by, if anything.
        self.prefix: list[str] = []
        self.user: dict = {}
        if os.geteuid() == 0 and "MIRRORD_TEST_ROOT" in os.environ:
            # Under the runner root keeps the cluster, and the product runs without any privilege.
            self.user = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
            os.chown(self.folder, ORDINARY, ORDINARY)
            self.env |= {"HOME": str(self.folder), "TMPDIR": "/tmp"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def command(self, words) -> list[str]:
        return [*self.prefix, str(self.binary), *map(str, words)]

    def run(self, *words, timeout=30.0, env=None, cwd=None, input=None) -> subprocess.CompletedProcess:
        """Runs one command of the product to its end."""
        return subprocess.run(self.command(words), env=self.env | (env or {}), cwd=cwd or self.folder, capture_output=True, text=True,
                              timeout=timeout, input=input, **self.user)

    def json(self, *words, **options):
        done = self.run(*words, **options)
        if done.returncode:
            raise AssertionError(f"mirrord-ide {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def start(self, *words, env=None, cwd=None) -> "Session":
        """Starts `mirrord-ide WORDS` in the background, as an IDE would."""
        session = Session(self, words, env, cwd)
        self.started.append(session)
        return session

    def exec(self, target: str, command, *options, env=None, cwd=None) -> "Session":
        return self.start("exec", "-t", target, *options, "--", *command, env=env, cwd=cwd)

    def processes(self) -> list[tuple[int, str]]:
        """Every living process that was started from here, told by the state folder in its environment or arguments."""
        mark, found = str(self.state).encode(), []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                command = (process / "cmdline").read_bytes()
                if mark in (process / "environ").read_bytes() or mark in command:
                    found.append((int(process.name), command.replace(b"\0", b" ").decode(errors="replace").strip()))
            except OSError:
                continue  # ended meanwhile, or another user's
        return found

    def daemon(self) -> dict | None:
        """What the daemon wrote about itself, if one was started."""
        for path in self.state.glob("ide-v*.json"):
            try:
                return json.loads(path.read_text())
            except FileNotFoundError:
                return None  # it ended meanwhile
        return None

    def end_daemon(self):
        """Has the daemon end, unless it does so already as after `stop --all`; `left_behind` tells whether it did."""
        if told := self.daemon():
            try:
                with Wire(told["socket"]) as wire:
                    wire.request("daemon/stop", {"force": True})
            except (Gone, OSError):
                pass

    def left_behind(self, seconds=5.0, daemon_may_live=True) -> list[str]:
        """What is still there after `seconds` at most: processes and sockets."""
        end = time.monotonic() + seconds
        while True:
            daemon = self.daemon() if daemon_may_live else None
            found = [f"process {pid}: {command}" for pid, command in self.processes() if not daemon or pid != daemon["pid"]]
            found += [f"socket {path}" for path in self.state.rglob("*") if path.is_socket() and not (daemon and str(path) in (daemon["socket"], daemon["httpSocket"]))]
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.05)

    def logs(self) -> str:
        """The end of every log the product wrote."""
        parts = []
        for path in sorted(self.state.rglob("*.log")):
            try:
                lines = path.read_text(errors="replace").splitlines()[-30:]
            except FileNotFoundError:
                continue  # its session was cleared away meanwhile
            parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)

    def stop_all(self) -> subprocess.CompletedProcess:
        return self.run("stop", "--all")

    def close(self):
        try:
            if self.processes():
                self.run("stop", "--all", timeout=15)
        except subprocess.TimeoutExpired:
            pass  # its processes are ended below all the same
        for session in self.started:
            session.kill()
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)


class Session:
    """One `mirrord-ide` process in the background, with what it printed."""

    def __init__(self, laptop: Laptop, words, env, cwd):
        number = len(laptop.started)
        self.out, self.err = laptop.folder / f"out-{number}", laptop.folder / f"err-{number}"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(laptop.command(words), env=laptop.env | (env or {}), cwd=cwd or laptop.folder,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, **laptop.user)
        self.laptop = laptop

    @property
    def stdout(self) -> str:
        return self.out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.err.read_text(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def printed(self) -> str:
        return f"{self.stdout}{self.stderr}"

    def wait_for(self, text: str, seconds=20.0) -> str:
        """Waits until the program or the product printed `text`."""
        end = time.monotonic() + seconds
        while text not in (printed := self.printed()):
            if not self.alive() and text not in self.printed():
                raise AssertionError(f"ended with {self.process.returncode} before it printed {text!r}:\n{self.printed()}\n{self.laptop.logs()}")
            if time.monotonic() > end:
                raise AssertionError(f"did not print {text!r} within {seconds:g} s:\n{printed}\n{self.laptop.logs()}")
            time.sleep(0.02)
        return printed

    def wait(self, seconds=20.0) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {seconds:g} s:\n{self.printed()}\n{self.laptop.logs()}") from None

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()
