"""The sample service as a plain process of this machine: the target where no namespaces can be made.

It has an environment and a port of its own, and nothing else: network, names and files are this machine's. So its port
cannot be redirected; the agent holds it, and `exec` says where requests are to be sent.
"""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from . import places
from .dap import free_port
from .laptop import Session
from .local_pod import PodError, made_up
from .testing import retried


class PlainProcess:
    """A context manager. `taken` learns from a session where the port is held; `say` asks there while it lives."""

    def __init__(self, program="python"):
        self.program, self.session, self.held = program, None, None
        self.port, self.local_port = free_port(), free_port()
        self.greeting, self.banner = made_up("hello"), made_up("banner")
        self.name, self.hostname = "localhost", socket.gethostname()
        self.names = {self.name: ["127.0.0.1"]}

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="plain-"))
        (self.folder / "banner.txt").write_text(self.banner + "\n")
        # Process and debuggee share the machine's ports, so the debuggee listens on another.
        self.config = self.folder / "mirrord.json"
        self.config.write_text(json.dumps({"feature": {"network": {"incoming": {"listen_ports": [[self.port, self.local_port]]}}}}))
        own = {"PORT": str(self.port), "SAMPLE_GREETING": self.greeting, "SAMPLE_FILE": str(self.folder / "banner.txt"), "SAMPLE_NAME": self.name}
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(places.sample(self.program), env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_for_port()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def wait_for_port(self, seconds=10.0):
        try:
            return retried(lambda: self.say("are you there"), OSError, seconds, lambda: self.process.poll() is None)
        except OSError as error:
            raise PodError(f"the sample service did not start ({error}):\n{(self.folder / 'log').read_text()}") from error

    def taken(self, session: Session):
        """Waits until the session says where the port is held."""
        printed = session.wait_for("cannot be redirected here; send requests to 127.0.0.1:")
        self.held = int(re.search(rf"port {self.port} cannot be redirected here; send requests to 127\.0\.0\.1:(\d+)", printed)[1])
        self.session = session

    def say(self, text, timeout=20.0) -> dict:
        """Asks where the port is held, and before and after a session at the port itself."""
        port = self.held if self.session and self.session.alive() else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request("GET", "/say?text=" + quote(text), headers={"Host": "sample", "Connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
