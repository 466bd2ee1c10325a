"""A small client of Node's inspector (Chrome DevTools protocol over a WebSocket): stop, look, go on."""

import base64
import json
import os
import socket
import struct
import threading
import time
import urllib.request
from collections import deque


class InspectorError(Exception):
    """The inspector refused, went away or did not answer in time."""


class Inspector:
    """One connection to a Node that was started with --inspect or --inspect-brk."""

    def __init__(self, port: int, seconds=20.0, alive=lambda: True):
        url = self.find(port, seconds, alive)
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.stream = self.connection.makefile("rb")
        self.shake_hands(url, port)
        self.connection.settimeout(None)
        self.sequence, self.gone = 0, None
        self.answers: dict[int, dict] = {}
        self.events: deque[dict] = deque()
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    @staticmethod
    def find(port, seconds, alive):
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as listed:
                    return json.load(listed)[0]["webSocketDebuggerUrl"]
            except (OSError, IndexError) as error:
                if time.monotonic() > end or not alive():
                    raise InspectorError(f"no inspector on 127.0.0.1:{port}: {error}") from error
                time.sleep(0.03)

    def shake_hands(self, url, port):
        path = "/" + url.split("/", 3)[3]
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        status = self.stream.readline()
        if b" 101 " not in status:
            raise InspectorError(f"the inspector refused: {status.decode().strip()}")
        while self.stream.readline().strip():
            pass

    def frame(self) -> bytes | None:
        """The next message; None when the other side closed."""
        whole = b""
        while True:
            head = self.stream.read(2)
            if len(head) < 2:
                return None
            length = head[1] & 0x7F
            if length == 126:
                length = struct.unpack("!H", self.stream.read(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self.stream.read(8))[0]
            data, kind = self.stream.read(length), head[0] & 0x0F
            if kind == 8:
                return None
            if kind in (0, 1):
                whole += data
                if head[0] & 0x80:
                    return whole

    def read(self):
        reason = "the inspector closed its connection"
        try:
            while (message := self.frame()) is not None:
                message = json.loads(message)
                with self.changed:
                    if "id" in message:
                        self.answers[message["id"]] = message
                    else:
                        self.events.append(message)
                    self.changed.notify_all()
        except (OSError, ValueError, struct.error) as error:
            reason = f"the inspector's connection broke: {error}"
        with self.changed:
            self.gone = reason
            self.changed.notify_all()

    def request(self, method: str, seconds=20.0, **params) -> dict:
        self.sequence += 1
        body = json.dumps({"id": self.sequence, "method": method, "params": params}).encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
        length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack("!H", len(body))
        self.connection.sendall(b"\x81" + length + mask + masked)
        with self.changed:
            if not self.changed.wait_for(lambda: self.sequence in self.answers or self.gone, seconds) or self.sequence not in self.answers:
                raise InspectorError(f"{method}: {self.gone or 'no answer in time'}")
            answer = self.answers.pop(self.sequence)
        if "error" in answer:
            raise InspectorError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def event(self, method: str, seconds=20.0) -> dict:
        """The next event of this name; others that came before it are dropped."""
        found = None

        def look():
            nonlocal found
            while self.events and not found:
                one = self.events.popleft()
                found = one if one["method"] == method else None
            return found or self.gone

        with self.changed:
            self.changed.wait_for(look, seconds)
        if not found:
            raise InspectorError(f"{self.gone or 'nothing in time'} (waiting for {method})")
        return found["params"]

    def attach(self, file: str, line: int):
        """Sets a breakpoint and lets a program go on that waits for its debugger."""
        self.request("Debugger.enable")
        self.request("Debugger.setBreakpointByUrl", lineNumber=line - 1, url=f"file://{file}")
        self.request("Runtime.enable")
        self.request("Runtime.runIfWaitingForDebugger")
        first = self.event("Debugger.paused")
        if not first.get("hitBreakpoints"):
            self.proceed()  # the stop at the first line, which --inspect-brk makes

    def stop_at_breakpoint(self, names: list[str], seconds=20.0) -> tuple[list[str], dict]:
        """Waits for the stop: the functions on its stack, and the values of the names asked for."""
        frames = self.event("Debugger.paused", seconds)["callFrames"]
        values = {}
        for name in names:
            got = self.request("Debugger.evaluateOnCallFrame", callFrameId=frames[0]["callFrameId"], expression=name, returnByValue=True)
            values[name] = got["result"].get("value")
        return [frame["functionName"] for frame in frames], values

    def proceed(self):
        self.request("Debugger.resume")

    def close(self):
        self.connection.close()
