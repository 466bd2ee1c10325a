"""A small client of the Debug Adapter Protocol: enough to attach, stop at a breakpoint, look, and go on."""

import json
import socket
import threading
import time
from collections import deque


class DapError(Exception):
    """The adapter refused, went away or did not answer in time."""


class Dap:
    """One connection to a debug adapter. Events are kept until somebody waits for them."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        connection.settimeout(None)
        self.stream = connection.makefile("rb")
        self.sequence = 0
        self.answers: dict[int, dict] = {}
        self.asked: deque[dict] = deque()
        self.events: deque[dict] = deque()
        self.seen: list[dict] = []
        self.gone: str | None = None
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    @classmethod
    def dial(cls, port: int, seconds=30.0, alive=lambda: True) -> "Dap":
        """Connects to an adapter on loopback as soon as it listens; `alive` says whether waiting still makes sense."""
        end = time.monotonic() + seconds
        while True:
            try:
                return cls(socket.create_connection(("127.0.0.1", port), timeout=5))
            except OSError as error:
                if time.monotonic() > end or not alive():
                    raise DapError(f"no debug adapter listens on 127.0.0.1:{port}: {error}") from error
                time.sleep(0.03)

    def read(self):
        reason = "the debug adapter closed its connection"
        try:
            while line := self.stream.readline():
                length = 0
                while line.strip():
                    name, _, value = line.decode().partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                    line = self.stream.readline()
                message = json.loads(self.stream.read(length))
                with self.changed:
                    if message["type"] == "response":
                        self.answers[message["request_seq"]] = message
                    elif message["type"] == "event":
                        self.events.append(message)
                        self.seen.append(message)
                    else:
                        self.asked.append(message)
                    self.changed.notify_all()
        except (OSError, ValueError) as error:
            reason = f"the debug adapter's connection broke: {error}"
        with self.changed:
            self.gone = reason
            self.changed.notify_all()

    def send(self, command: str, arguments: dict | None = None) -> int:
        return self.write({"type": "request", "command": command, "arguments": arguments or {}})

    def write(self, message: dict) -> int:
        self.sequence += 1
        body = json.dumps({"seq": self.sequence} | message).encode()
        self.connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self.sequence

    def asked_for(self, command: str, seconds=20.0) -> dict:
        """The adapter's own next request, as `runInTerminal` is one; whoever takes it answers it by `reply`."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.asked or self.gone, seconds):
                raise DapError(f"the debug adapter did not ask for {command} within {seconds:g} s")
            if not self.asked:
                raise DapError(f"{self.gone} (waiting for {command})")
            asked = self.asked.popleft()
        if asked["command"] != command:
            raise DapError(f"the debug adapter asked for {asked['command']}, not for {command}")
        return asked

    def reply(self, asked: dict, body: dict):
        self.write({"type": "response", "request_seq": asked["seq"], "command": asked["command"], "success": True, "body": body})

    def answer(self, sequence: int, seconds=20.0) -> dict:
        with self.changed:
            if not self.changed.wait_for(lambda: sequence in self.answers or self.gone, seconds):
                raise DapError("the debug adapter did not answer in time")
            if sequence not in self.answers:
                raise DapError(self.gone)
            answer = self.answers.pop(sequence)
        if not answer["success"]:
            raise DapError(f"{answer['command']}: {answer.get('message', 'refused')}")
        return answer.get("body") or {}

    def request(self, command: str, arguments: dict | None = None, seconds=20.0) -> dict:
        return self.answer(self.send(command, arguments), seconds)

    def event(self, name: str, seconds=20.0) -> dict:
        """The next event of this name; the ones of other names that came before it are dropped."""
        found = None

        def look():
            nonlocal found
            while self.events and not found:
                one = self.events.popleft()
                found = one if one["event"] == name else None
            return found or self.gone

        with self.changed:
            if not self.changed.wait_for(look, seconds):
                raise DapError(f"no {name} event within {seconds:g} s")
        if not found:
            raise DapError(f"{self.gone} (waiting for {name})")
        return found.get("body") or {}

    def attach(self, file: str, lines: list[int], arguments: dict | None = None) -> list[dict]:
        """Attaches with breakpoints on the lines of one file, lets the program run; answers with the breakpoints."""
        self.initialize()
        attached = self.send("attach", {"justMyCode": False} | (arguments or {}))
        return self.configure(attached, file, lines)

    def initialize(self, **more):
        self.request("initialize", {"adapterID": "demo", "pathFormat": "path", "linesStartAt1": True, "columnsStartAt1": True} | more)

    def configure(self, begun: int, file: str, lines: list[int], seconds=20.0) -> list[dict]:
        """The rest of an attach or launch that has `begun`: the breakpoints, which are its answer, and off it goes."""
        self.event("initialized", seconds)
        breakpoints = self.request("setBreakpoints", {"source": {"path": file}, "breakpoints": [{"line": line} for line in lines]})["breakpoints"]
        self.request("configurationDone")
        self.answer(begun)
        return breakpoints

    def process(self, seconds=10.0) -> int:
        """The process that is debugged, as the adapter tells: after the breakpoints' answer where the machine is busy."""

        def told():
            return next((event["body"]["systemProcessId"] for event in self.seen if event["event"] == "process"), None)

        with self.changed:
            if not self.changed.wait_for(lambda: told() or self.gone, seconds):
                raise DapError(f"the debug adapter named no process within {seconds:g} s")
            if not told():
                raise DapError(f"{self.gone} (waiting for the process)")
            return told()

    def stop_at_breakpoint(self, seconds=20.0) -> tuple[int, list[dict], dict[str, str]]:
        """Waits for the stop: its thread, its stack, and the local variables of the topmost frame."""
        thread = self.event("stopped", seconds)["threadId"]
        frames = self.request("stackTrace", {"threadId": thread, "levels": 20})["stackFrames"]
        variables = {}
        for scope in self.request("scopes", {"frameId": frames[0]["id"]})["scopes"]:
            if scope["name"].lower().startswith("local"):
                listed = self.request("variables", {"variablesReference": scope["variablesReference"]})["variables"]
                variables = {one["name"]: one["value"] for one in listed}
        return thread, frames, variables

    def proceed(self, thread: int):
        self.request("continue", {"threadId": thread})

    def close(self):
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the adapter was first
        self.connection.close()


def line_of(file, text: str) -> int:
    """The number of the line in which `text` stands: a breakpoint that survives edits of the example."""
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if text in line:
                return number
    raise DapError(f"{text!r} stands nowhere in {file}")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]
