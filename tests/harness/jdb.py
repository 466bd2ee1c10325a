"""The JDK's own command-line debugger, driven through its pipes."""

import re
import subprocess
import threading
import time


class JdbError(Exception):
    """jdb did not say what was waited for."""


class Jdb:
    """jdb attached to a Java program that listens for its debugger on loopback."""

    def __init__(self, port: int, seconds=30.0, alive=lambda: True):
        end = time.monotonic() + seconds
        while True:
            self.text = ""
            self.jdb = subprocess.Popen(["jdb", "-attach", f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=0)
            threading.Thread(target=self.read, daemon=True).start()
            try:
                self.wait_for(r"Initializing jdb|VM Started|> ", 10)
                if self.jdb.poll() is None:
                    return
            except JdbError:
                pass  # the program may not listen yet
            self.close()
            if time.monotonic() > end or not alive():
                raise JdbError(f"jdb cannot attach to 127.0.0.1:{port}:\n{self.text}")
            time.sleep(0.1)

    def read(self):
        while part := self.jdb.stdout.read(1):
            self.text += part

    def wait_for(self, pattern: str, seconds=20.0) -> re.Match:
        """Waits until jdb prints the pattern; what stands before it is forgotten."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            if time.monotonic() > end or self.jdb.poll() is not None:
                raise JdbError(f"jdb did not print {pattern!r}:\n{self.text}")
            time.sleep(0.02)
        self.text = self.text[found.end():]
        return found

    def tell(self, line: str):
        self.jdb.stdin.write(line + "\n")

    def close(self):
        self.jdb.kill()
        self.jdb.wait()
