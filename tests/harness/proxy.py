"""What stands between a laptop and its API server in a company: a middlebox without patience, an HTTPS proxy."""

import selectors
import threading

from .survival import Proxy


class ImpatientProxy(Proxy):
    """Ends each connection on which nothing was said for some seconds, in either direction."""

    def __init__(self, host: str, port: int, seconds: float):
        self.seconds, self.gave_up = seconds, 0
        super().__init__(host, port)

    def carry(self, near, far):
        with selectors.DefaultSelector() as ready:
            try:
                ready.register(near, selectors.EVENT_READ, far)
                ready.register(far, selectors.EVENT_READ, near)
                while events := ready.select(self.seconds):
                    for key, _ in events:
                        if not (data := key.fileobj.recv(65536)):
                            return self.end(near, far)
                        key.data.sendall(data)
                self.gave_up += 1
            except (OSError, ValueError):
                pass  # closed by one side, or cut
            self.end(near, far)


class HttpsProxy(Proxy):
    """Takes CONNECT for one name, which only it knows the address of; `asked` is what it was asked for."""

    def __init__(self, name: str, host: str, port: int):
        self.name, self.asked, self.counted = f"{name}:{port}", [], threading.Lock()
        super().__init__(host, port)

    def carry(self, near, far):
        try:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += (one := near.recv(1))
                if not one or len(head) > 8192:
                    return self.end(near, far)
            method, wanted = head.decode().split()[:2]
            with self.counted:
                self.asked.append(f"{method} {wanted}")
            if (method, wanted) != ("CONNECT", self.name):
                near.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return self.end(near, far)
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        except (OSError, ValueError):
            return self.end(near, far)
        super().carry(near, far)
