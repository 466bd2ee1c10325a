"""A client of the daemon's socket: JSON-RPC with LSP framing, as an editor speaks it.

When it is closed it says goodbye, and insists that nothing arrived which nobody waited for.
"""

import json
import socket
import threading
from collections import deque


class Refused(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: dict):
        self.code, self.message, self.data = error["code"], error["message"], error.get("data") or {}
        super().__init__(f"{self.code} {self.message} {self.data}")


class Gone(AssertionError):
    """The daemon closed the connection."""


class Wire:
    """One connection. Requests may overlap; notifications are kept until somebody takes them."""

    def __init__(self, path: str, editor=False, initialize=True):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(10)
        self.connection.connect(path)
        self.connection.settimeout(None)
        self.stream = self.connection.makefile("rb")
        self.sequence, self.gone, self.initialized = 0, False, initialize
        self.answers: dict[int, dict] = {}
        self.waited_for: set[int] = set()
        self.notices: deque[dict] = deque()
        self.strays: list[dict] = []
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()
        if initialize:
            options = {"client": "tests", "clientVersion": "0", "editor": editor}
            self.welcome = self.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}, "initializationOptions": options})
            self.notify("initialized", {})

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close(strict=kind is None)

    def read(self):
        try:
            while (message := self.message()) is not None:
                with self.changed:
                    if "method" in message:
                        self.notices.append(message)
                    elif message.get("id") in self.waited_for:
                        self.answers[message["id"]] = message
                    else:
                        self.strays.append(message)
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass  # told to whoever waits, as the connection being gone
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def message(self) -> dict | None:
        length = None
        while line := self.stream.readline():
            if not line.strip():
                break
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        return None if length is None else json.loads(self.stream.read(length))

    def send_raw(self, body: bytes):
        self.connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def notify(self, method: str, params):
        self.send_raw(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def send(self, method: str, params=None) -> int:
        self.sequence += 1
        self.waited_for.add(self.sequence)
        message = {"jsonrpc": "2.0", "id": self.sequence, "method": method} | ({} if params is None else {"params": params})
        self.send_raw(json.dumps(message).encode())
        return self.sequence

    def answer(self, sequence: int, seconds=20.0):
        with self.changed:
            self.changed.wait_for(lambda: sequence in self.answers or self.gone, seconds)
            if sequence not in self.answers:
                raise Gone("the daemon closed the connection") if self.gone else AssertionError(f"no answer within {seconds:g} s")
            answer = self.answers.pop(sequence)
            self.waited_for.discard(sequence)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def request(self, method: str, params=None, seconds=20.0):
        return self.answer(self.send(method, params), seconds)

    def notice(self, method: str, wanted=lambda params: True, seconds=10.0) -> dict:
        """Takes the next notification of this name that is wanted; its parameters."""
        found = None

        def look():
            nonlocal found
            for message in self.notices:
                if message["method"] == method and wanted(message["params"]):
                    found = message
                    self.notices.remove(message)
                    return True
            return self.gone

        with self.changed:
            self.changed.wait_for(look, seconds)
        assert found is not None, f"no {method} within {seconds:g} s"
        return found["params"]

    def drop(self):
        """Goes away without a word, as an editor that was killed."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the daemon was first
        self.connection.close()

    def close(self, strict=True):
        try:
            if not self.gone:
                if self.initialized:
                    self.request("shutdown", seconds=5)
                self.notify("exit", None)
            with self.changed:
                self.changed.wait_for(lambda: self.gone, 5)
        finally:
            self.drop()
        if strict:
            unexpected = [message for message in self.notices if message["method"] not in ("$/progress", "session/event")]
            assert not self.strays and not unexpected, f"arrived without anybody waiting: {self.strays + unexpected}"
            assert self.gone, "the daemon did not close after exit"
