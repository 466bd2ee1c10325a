"""A developer's machine that is a container, as Docker starts one unless told otherwise: a dev container, a CI job.

runc runs it, on containerd's default spec, whose capabilities, devices and masked paths are Docker's too, under the
seccomp profile that Docker's own code makes of that spec. Its files are this machine's; its network is a host on the
cluster's LAN, from where the API server can be reached and no pod and no Service.
"""

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import places
from .laptop import ORDINARY, Laptop
from .testing import eventually

CLONE_NEWNET = 0x40000000
ADDRESS = "10.123.0.200/24"
# `runc exec` with the variables and the folder of whoever runs this; what comes after is the program.
INTO = """#!/usr/bin/python3
import os, sys
variables = [word for name, value in os.environ.items() for word in ("--env", f"{name}={value}")]
os.execvp("runc", ["runc", "exec", "--user", "%(user)s", "--cwd", os.getcwd(), *variables, "%(name)s", *sys.argv[1:]])
"""


def run(*command, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=None if "input" in options else subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} failed: {done.stderr.strip()}")
    return done.stdout


def enter_network(path):
    with open(path) as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")


class DevContainer(Laptop):
    """The product inside the container, as `user`. This process is in the container's network meanwhile, as debuggers are."""

    def __init__(self, env=None, user=ORDINARY):
        super().__init__(env)
        self.user, self.inside = {}, user
        os.chown(self.folder, user, user)
        self.env |= {"HOME": str(self.folder)}
        self.name = "dev-" + self.folder.name.removeprefix("lap-").replace("_", "-")
        self.bundle = Path(tempfile.mkdtemp(prefix="bundle-"))
        self.outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.start_container()
        except BaseException:
            self.close()
            raise

    def spec(self) -> dict:
        spec = json.loads(run("ctr", "oci", "spec"))
        spec["process"] |= {"args": ["sleep", "100000"], "env": [f"PATH={os.environ['PATH']}"], "noNewPrivileges": False}
        spec["root"] = {"path": "root", "readonly": True}
        spec["hostname"] = self.name
        spec["linux"]["cgroupsPath"] = f"/{self.name}"
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{self.name}"
        # What tests work with; /tmp is the container's own otherwise.
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
        work = Path(os.environ["MIRRORD_TEST_ROOT"]).parent
        for folder, mode in ((work, "rw"), (places.cache(), "ro")):
            spec["mounts"].append({"destination": str(folder), "type": "bind", "source": str(folder), "options": ["rbind", mode]})
        return json.loads(run(places.cache() / "bin/docker-default", input=json.dumps(spec)))

    def start_container(self):
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", self.link, "master", "kube-lan", "up")
        for words in (["address", "add", ADDRESS, "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            run("ip", "-n", self.name, *words)
        (self.bundle / "config.json").write_text(json.dumps(self.spec()))
        (self.bundle / "root").mkdir()
        # This machine's files without what is mounted on them, seen by the container alone.
        run("unshare", "--mount", "--propagation", "private", "sh", "-ec",
            'mount --bind / "$0/root"; exec runc run --detach --bundle "$0" "$1" >"$0/log" 2>&1 || { cat "$0/log" >&2; exit 1; }', self.bundle, self.name)
        self.into = self.bundle / "into"
        self.into.write_text(INTO % {"user": f"{self.inside}:{self.inside}", "name": self.name})
        self.into.chmod(0o755)
        self.prefix = [str(self.into)]
        enter_network(f"/run/netns/{self.name}")

    @property
    def link(self) -> str:
        return "dev" + self.name[-8:]

    def run_inside(self, *command) -> str:
        """What a command prints that runs in the container."""
        return run(self.into, *command, env=self.env, cwd=self.folder)

    def daemon(self) -> dict | None:
        """The daemon knows its process by the container's number for it."""
        told = super().daemon()
        for pid, _ in self.processes() if told else []:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except FileNotFoundError:
                continue  # ended meanwhile
            if f"\nNSpid:\t{pid}\t{told['pid']}\n" in status:
                return told | {"pid": pid}
        return told

    def close(self):
        enter_network(f"/proc/self/fd/{self.outside}")
        os.close(self.outside)
        if hasattr(self, "into"):
            super().close()
        subprocess.run(["runc", "delete", "--force", self.name], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        eventually(lambda: not os.path.exists(f"/run/netns/{self.name}"), "the container's network is gone")
        shutil.rmtree(self.bundle, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
