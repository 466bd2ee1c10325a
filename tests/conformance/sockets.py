"""What a program finds out about its sockets, printed as one line of JSON: the debuggee of test_without.py.

sockets.py PEER PORT: a service of the pod's network listens at PEER:8090; PORT is the pod's own, on which two requests
are awaited. Nothing printed depends on a port that the kernel chose.
"""

import ctypes
import errno
import json
import os
import select
import socket
import sys
import tempfile
import threading
import time

PEER, PORT = (sys.argv[1], 8090), int(sys.argv[2])
# Less than the time for which the product may keep a socket of which it does not know that it was closed.
AT_ONCE = 0.15
found = {}


def finds(step):
    try:
        found[step.__name__] = step()
    except OSError as error:
        found[step.__name__] = f"{type(error).__name__} {errno.errorcode.get(error.errno, error)}"


def word(number):
    return errno.errorcode.get(number, number)


def ask(connection):
    connection.settimeout(10)
    connection.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = b""
    while part := connection.recv(65536):
        text += part
    return json.loads(text.partition(b"\r\n\r\n")[2])["client"]


def ends_at_once(server):
    server.settimeout(AT_ONCE)
    return server.recv(1) == b""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@finds
def options_and_epoll_from_before():
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    poll = select.epoll()
    poll.register(made, select.EPOLLOUT | select.EPOLLET)
    poll.poll(0)
    began = word(made.connect_ex(PEER))
    events = poll.poll(5)
    return {"began": began in (0, "EINPROGRESS"), "ready": [event & select.EPOLLOUT for _, event in events], "error": made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
            "again": word(made.connect_ex(PEER)), "nodelay": made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            "buffer": made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), "flags": (made.getblocking(), made.get_inheritable()),
            "peer": made.getpeername(), "own": made.getsockname()[0]}


@finds
def refused_then_connected():
    made = socket.socket()
    return [word(made.connect_ex((PEER[0], 1))), word(made.connect_ex(PEER)), ask(made)]


@finds
def after_a_while():
    made = socket.socket()
    time.sleep(2.5)
    return [word(made.connect_ex(PEER)), ask(made)]


@finds
def six_to_four():
    made = socket.socket(socket.AF_INET6)
    made.connect(("::ffff:" + PEER[0], PEER[1]))
    return [made.getpeername()[:2], made.getsockname()[0], ask(made)]


@finds
def by_a_child_and_a_copy():
    made = socket.socket()
    copy = os.dup(made.fileno())
    child = os.fork()
    if child == 0:
        os._exit(0 if made.connect_ex(PEER) == 0 else 1)
    status = os.waitpid(child, 0)[1]
    return [status, socket.socket(fileno=copy).getpeername(), ask(made)]


@finds
def by_whom_it_was_sent_to():
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
        os._exit(0 if ask_of(socket.socket(fileno=fd)) else 1)
    made = socket.socket()
    socket.send_fds(ours, [b"x"], [made.fileno()])
    made.close()
    return os.waitpid(child, 0)[1]


def ask_of(made):
    made.connect(PEER)
    return ask(made)


@finds
def from_a_thread_that_ended():
    made = []
    thread = threading.Thread(target=lambda: made.append(socket.socket()))
    thread.start()
    thread.join()
    return ask_of(made[0])


@finds
def an_end_is_seen_at_once():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    client.close()
    return ends_at_once(server)


@finds
def unix_sockets():
    with tempfile.TemporaryDirectory() as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/s")
        listener.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{folder}/s")
        server, _ = listener.accept()
        client.close()
        return ends_at_once(server)


@finds
def a_port_is_free_once_its_socket_is_closed():
    port, results = free_port(), []
    for kind, listens in ((socket.SOCK_STREAM, False), (socket.SOCK_STREAM, True), (socket.SOCK_DGRAM, False)):
        for _ in range(2):
            made = socket.socket(type=kind)
            made.bind(("127.0.0.1", port))
            if listens:
                made.listen()
            results.append(made.getsockname() == ("127.0.0.1", port))
            made.close()
    return results


@finds
def a_closed_listener_refuses():
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.close()
    end = time.monotonic() + 1
    while (result := socket.socket().connect_ex(address)) == 0 and time.monotonic() < end:
        time.sleep(0.02)
    return word(result)


@finds
def datagrams():
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.connect((PEER[0], 9))
    first = [made.getpeername(), made.getsockname()[0]]
    made.connect((PEER[0], 10))
    return [first, made.getpeername(), made.getsockname()[0]]


@finds
def who_asks():
    listener = socket.create_server(("0.0.0.0", PORT))
    print("listening", flush=True)
    answers = []
    for number in range(2):
        select.select([listener], [], [], 30)
        if number == 0:
            connection, peer = listener.accept()
            answers.append(peer[0])
        else:
            connection = socket.socket(fileno=ctypes.CDLL(None).accept(listener.fileno(), None, None))
        connection.recv(65536)
        answers += [connection.getpeername()[0], connection.getsockname()]
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}')
        connection.close()
    # A connection to the pod's own port comes to the listener itself.
    client = socket.create_connection((PEER[0], PEER[1]))
    own = client.getsockname()[0]
    client = socket.create_connection((own, PORT))
    server, _ = listener.accept()
    answers.append(client.getpeername() == (own, PORT))
    client.close()
    return [*answers, ends_at_once(server)]


print(json.dumps(found))
