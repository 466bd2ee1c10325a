"""The other end of benches/network, in a pod: its first byte says what a connection is for.

`e`: what comes goes back; `d` and eight bytes: so many bytes are sent; `u` and eight bytes: so many are taken, then one
is sent.
"""

import socket
import sys
import threading


def exactly(connection, count):
    while count:
        got = connection.recv(min(count, 1 << 18))
        if not got:
            return
        count -= len(got)


def serve(connection):
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind = connection.recv(1)
        if kind == b"e":
            while got := connection.recv(4096):
                connection.sendall(got)
            return
        size = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
        if kind == b"d":
            block = b"x" * (1 << 18)
            while size:
                size -= connection.send(block[:min(size, len(block))])
            connection.recv(1)
        elif kind == b"u":
            exactly(connection, size)
            connection.sendall(b"k")


listener = socket.create_server(("", int(sys.argv[1])), backlog=128)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
