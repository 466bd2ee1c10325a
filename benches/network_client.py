"""The measuring end of benches/network: one figure a line, `name value`, times in microseconds, bulk in bytes a second.

    network_client.py echo HOST PORT COUNT       round trips of 64 bytes on one connection
    network_client.py connect HOST PORT COUNT    a new connection each, to its first byte back
    network_client.py down|up HOST PORT BYTES    bulk on one connection
    network_client.py file PATH COUNT            a file opened and read; stat of it
    network_client.py http HOST PORT COUNT keep|new     GET /healthz, on one connection or on one each
    network_client.py load HOST PORT SECONDS     requests a second of four connections
"""

import gc
import os
import socket
import sys
import threading
import time


def told(name, times):
    times.sort()
    print(f"{name}_p50 {times[len(times) // 2] * 1e6:.1f}")
    print(f"{name}_p99 {times[len(times) * 99 // 100] * 1e6:.1f}")


def timed(name, count, call):
    call()  # what only the first one pays for is not the figure
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    told(name, times)


def dial(host, port):
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exactly(connection, count):
    while count:
        got = connection.recv(min(count, 1 << 18))
        if not got:
            raise SystemExit("the connection was closed early")
        count -= len(got)


def echo(host, port, count):
    with dial(host, port) as connection:
        connection.sendall(b"e")

        def once():
            connection.sendall(b"x" * 64)
            exactly(connection, 64)

        timed("echo", int(count), once)


def connect(host, port, count):
    def once():
        with dial(host, port) as connection:
            connection.sendall(b"e" + b"x" * 64)
            exactly(connection, 64)

    timed("connect", int(count), once)


def bulk(way, host, port, size):
    size = int(size)
    with dial(host, port) as connection:
        connection.sendall((b"d" if way == "down" else b"u") + size.to_bytes(8, "big"))
        start = time.perf_counter()
        if way == "down":
            exactly(connection, size)
        else:
            block, left = b"x" * (1 << 18), size
            while left:
                left -= connection.send(block[:min(left, len(block))])
            exactly(connection, 1)
        print(f"{way} {size / (time.perf_counter() - start):.0f}")


def file(path, count):
    def read():
        fd = os.open(path, os.O_RDONLY)
        if len(os.read(fd, 8192)) != 4096:
            raise SystemExit(f"{path} is not the file that was made")
        os.close(fd)

    timed("file", int(count), read)
    timed("stat", int(count), lambda: os.stat(path))


def ask(connection, host):
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            raise SystemExit(f"closed after {got!r}")
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    exactly(connection, length - len(body))


def http(host, port, count, kind):
    if kind == "keep":
        with dial(host, port) as connection:
            timed("keep", int(count), lambda: ask(connection, host))
        return

    def once():
        with dial(host, port) as connection:
            ask(connection, host)

    timed("new", int(count), once)


def load(host, port, seconds):
    until, counts = time.perf_counter() + float(seconds), []

    def one():
        done = 0
        with dial(host, port) as connection:
            while time.perf_counter() < until:
                ask(connection, host)
                done += 1
        counts.append(done)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) != 4:
        raise SystemExit("a connection broke off")
    print(f"load {sum(counts) / float(seconds):.1f}")


gc.disable()
name, words = sys.argv[1], sys.argv[2:]
if name in ("down", "up"):
    bulk(name, *words)
else:
    {"echo": echo, "connect": connect, "file": file, "http": http, "load": load}[name](*words)
