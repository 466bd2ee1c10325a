"""Clients of the daemon's second socket: JSON-RPC over HTTP and over WebSocket (RFC 6455), on a Unix socket."""

import base64
import json
import os
import socket
import struct
import threading
from collections import deque
from http.client import HTTPConnection

from .wire import Gone, Refused


class UnixHttp(HTTPConnection):
    """HTTP on a Unix socket; a context manager."""

    def __init__(self, path: str, timeout=20.0):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def post(self, body: bytes) -> tuple[int, bytes]:
        self.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = self.getresponse()
        return answer.status, answer.read()

    def status_of(self, body: bytes) -> int:
        """The answer to a body that need not be read to its end."""
        try:
            self.request("POST", "/", body, {"Content-Type": "application/json"})
        except BrokenPipeError:
            pass  # it was answered before
        return self.getresponse().status

    def call(self, method: str, params=None):
        message = {"jsonrpc": "2.0", "id": 1, "method": method} | ({} if params is None else {"params": params})
        status, body = self.post(json.dumps(message).encode())
        assert status == 200, f"status {status}: {body!r}"
        return result(json.loads(body))


def result(answer: dict):
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


class WebSocket:
    """JSON-RPC over a WebSocket; notifications are kept in `told` once subscribed to. A context manager."""

    def __init__(self, path: str):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(20)
        self.connection.connect(path)
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.stream = self.connection.makefile("rb")
        status = self.stream.readline()
        assert b" 101 " in status, status
        while self.stream.readline().strip():
            pass
        self.connection.settimeout(None)
        self.sequence, self.answers, self.told, self.gone = 0, {}, deque(), False
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    def drop(self):
        """Ends the connection as a killed client does."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def frame(self):
        head = self.stream.read(2)
        if len(head) < 2:
            return None
        length = head[1] & 127
        if length == 126:
            length = struct.unpack(">H", self.stream.read(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.stream.read(8))[0]
        return head[0] & 15, self.stream.read(length)

    def read(self):
        try:
            while frame := self.frame():
                kind, body = frame
                if kind == 9:
                    self.send_frame(10, body)
                elif kind == 8:
                    break
                elif kind == 1:
                    message = json.loads(body)
                    with self.changed:
                        if message.get("method") == "daemon/notification":
                            self.told.append(message["params"]["result"])
                        else:
                            self.answers[message.get("id")] = message
                        self.changed.notify_all()
        except (OSError, ValueError):
            pass  # told to whoever waits
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def send_frame(self, kind: int, body: bytes):
        mask = os.urandom(4)
        length = bytes([128 | len(body)]) if len(body) < 126 else bytes([128 | 126]) + struct.pack(">H", len(body))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        self.connection.sendall(bytes([128 | kind]) + length + mask + masked)

    def send(self, method: str, params=None) -> int:
        self.sequence += 1
        message = {"jsonrpc": "2.0", "id": self.sequence, "method": method, "params": params or {}}
        self.send_frame(1, json.dumps(message).encode())
        return self.sequence

    def call(self, method: str, params=None, seconds=20.0):
        sequence = self.send(method, params)
        with self.changed:
            self.changed.wait_for(lambda: sequence in self.answers or self.gone, seconds)
            if sequence not in self.answers:
                raise Gone("the daemon closed the connection")
            return result(self.answers.pop(sequence))
