"""The sample service in a container of podman: the target where this user may enter containers but make no namespaces.

The image is the stand-in pod's root file system, so no registry is asked. The container has loopback only; its requests
come from a second program in it, as they would from a sidecar.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from . import places
from .dap import free_port
from .image import python_root
from .local_pod import PodError, made_up
from .testing import retried

ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode())"
NO_ENGINE = "podman is not installed"


def podman(*words, timeout=30.0) -> str:
    try:
        done = subprocess.run(["podman", *map(str, words)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise PodError(NO_ENGINE) from None
    if done.returncode:
        raise PodError(f"podman {' '.join(map(str, words[:3]))} … failed: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    return done.stdout


class Container:
    """A context manager. PodError where there is no engine, or this user may not enter what it runs."""

    def __init__(self):
        self.label = made_up("shop")
        self.greeting, self.banner, self.hostname = made_up("hello"), made_up("banner"), made_up("container")
        self.name, self.address = f"{made_up('only')}.container", "10.77.0.7"
        self.port = free_port()

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="container-"))
        try:
            (self.folder / "banner.txt").write_text(self.banner + "\n")
            shutil.copy(places.EXAMPLES / "python/app.py", self.folder)
            self.run()
            self.pid = int(podman("inspect", "--format", "{{.State.Pid}}", self.label))
            self.enter()
            retried(lambda: self.say("are you there"), PodError, 10)
        except BaseException:
            self.close()
            raise
        return self

    def run(self, *runtime):
        """Starts it, by runc where podman's own crun cannot: it refuses machines with both versions of cgroups in use."""
        # The limits are those that a machine grants without privilege; podman asks for more unless told.
        words = ["run", "--detach", "--name", self.label, "--hostname", self.hostname, "--network", "none", "--add-host", f"{self.name}:{self.address}",
                 "--env", f"PORT={self.port}", "--env", f"SAMPLE_GREETING={self.greeting}", "--env", f"SAMPLE_NAME={self.name}",
                 "--volume", f"{self.folder}:/etc/sample:ro", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                 "--cgroup-manager", "cgroupfs", "--rootfs", f"{python_root()}:O", "python3", "/etc/sample/app.py"]
        try:
            podman(*runtime, *words)
        except PodError as error:
            if runtime or "cgroups in hybrid mode" not in str(error) or not shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
                raise
            podman("rm", "--force", "--ignore", self.label)
            self.run("--runtime", "runc")

    def __exit__(self, *_):
        self.close()

    def command(self, *words) -> list[str]:
        """A command in the container's network; in its user namespace first where that is one of its own."""
        own = os.readlink(f"/proc/{self.pid}/ns/user") != os.readlink("/proc/self/ns/user")
        return ["nsenter", f"--target={self.pid}", *(["--user", "--preserve-credentials"] if own else []), "--net", "--mount", *words]

    def enter(self):
        done = subprocess.run(self.command("sh", "-c", ":"), capture_output=True, text=True)
        if done.returncode:
            raise PodError(f"container {self.label} runs but cannot be entered: {done.stderr.strip()}")

    def say(self, text, timeout=20.0) -> dict:
        url = f"http://127.0.0.1:{self.port}/say?text={quote(text)}"
        return json.loads(podman("exec", self.label, "python3", "-c", ASK, url, timeout, timeout=timeout + 15))

    def rules(self) -> list[str]:
        """nftables tables in the container's network, as far as `nft` can tell."""
        if not shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return []
        entered = self.command()
        entered.remove("--mount")  # nft is this machine's
        listed = subprocess.run([*entered, "nft", "list", "tables"], capture_output=True, text=True)
        if listed.returncode:
            raise PodError(f"the container's rules cannot be listed: {listed.stderr.strip()}")
        return listed.stdout.splitlines()

    def close(self):
        try:
            podman("rm", "--force", "--ignore", "--time", "0", self.label)
        except PodError as error:
            if str(error) != NO_ENGINE:
                raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def left_behind(self) -> list[str]:
        there = podman("ps", "--all", "--quiet", "--filter", f"name={self.label}").split()
        return [f"container {name}" for name in there]
