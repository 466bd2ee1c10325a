"""Cases 33-47 in Python; `host`, `host6` and the ports are told in the C probe."""

import array
import asyncio
import os
import select
import socket
import struct
import threading


def lines(connection):
    connection.settimeout(5)
    return connection.makefile("rb")


def greeting(reader):
    token, peer, port = reader.readline().decode().split()
    return f"{token} {peer}", int(port)


def talk(p, connection, what):
    reader = lines(connection)
    said, port = greeting(reader)
    p.saw(f"{what}: greeting", said)
    if connection.family != socket.AF_UNIX:
        own = connection.getsockname()
        p.saw(f"{what}: own", (own[0], own[1] == port, connection.getpeername()[:1]))
    connection.sendall(b"over and back\n")
    p.saw(f"{what}: echo", reader.readline())
    connection.shutdown(socket.SHUT_WR)
    p.saw(f"{what}: end", (reader.readline(), reader.readline()))
    reader.close()
    connection.close()


def blocking_connect(p):
    talk(p, socket.create_connection((p.host, int(p.echo))), "tcp")

    async def asynchronously():
        reader, writer = await asyncio.open_connection(p.host, int(p.echo))
        token = (await reader.readline()).decode().split()[:2]
        writer.write(b"async\n")
        echo = await reader.readline()
        writer.close()
        return token, echo, writer.get_extra_info("peername")[0]

    p.saw("asyncio", asyncio.run(asynchronously()))


def registered_before(p):
    connection, queue = socket.socket(), select.epoll()
    connection.setblocking(False)
    queue.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    p.saw("connect", connection.connect_ex((p.host, int(p.echo))) in (0, 115))
    seen = 0
    for _ in range(25):
        for _, events in queue.poll(0.2):
            seen |= events
        if seen & select.EPOLLIN and seen & select.EPOLLOUT:
            break
    p.saw("events", seen & (select.EPOLLIN | select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR))
    p.saw("SO_ERROR", connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    p.saw("blocking", connection.getblocking())
    talk(p, connection, "then")
    queue.close()


def refused(p):
    p.does("blocking", socket.create_connection, (p.host, int(p.refused)))
    p.does("unreachable", socket.create_connection, (p.unreachable, 9))

    async def asynchronously():
        await asyncio.open_connection(p.host, int(p.refused))

    p.does("asyncio", asyncio.run, asynchronously())


def socket_names(p):
    connection = socket.create_connection((p.host, int(p.echo)))
    said, port = greeting(lines(connection))
    own, peer = connection.getsockname(), connection.getpeername()
    p.saw("names", (said, own[0], own[1] == port, peer[0], peer[1] == int(p.echo)))
    connection.close()
    p.does("peer of none", socket.socket().getpeername)


def version_six(p):
    talk(p, socket.create_connection((p.host6, int(p.echo))), "IPv6")
    mapped = socket.socket(socket.AF_INET6)
    p.does("mapped", mapped.connect, (f"::ffff:{p.host}", int(p.echo)))
    talk(p, mapped, "mapped")
    only = socket.socket(socket.AF_INET6)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    p.does("mapped where only IPv6", only.connect, (f"::ffff:{p.host}", int(p.echo)))


def unix_sockets(p):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        for where in (p.near(f"own-{os.getpid()}"), f"\0own-{os.getpid()}"):
            server, client = socket.socket(socket.AF_UNIX, kind), socket.socket(socket.AF_UNIX, kind)
            server.bind(where)
            if kind != socket.SOCK_DGRAM:
                server.listen()
            client.connect(where)
            end = server if kind == socket.SOCK_DGRAM else server.accept()[0]
            client.send(b"message")
            p.saw(f"{kind.name} {where[:1]!r}", (end.recv(20), len(client.getpeername()) == len(where)))
            for one in (server, client, end):
                one.close()
            if where[0] == "/":
                os.unlink(where)
    far = socket.socket(socket.AF_UNIX)
    p.does("far", far.connect, p.unix)
    talk(p, far, "far")


def datagrams(p):
    where = (p.host, int(p.udp))
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.settimeout(3)
    connected.connect(where)
    connected.send(b"one")
    p.saw("connected", (connected.recv(100), connected.getpeername() == where))
    loose = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    loose.settimeout(3)
    loose.sendto(b"two", where)
    got, source = loose.recvfrom(100)
    p.saw("loose", (got, source == where))
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.settimeout(3)
    six.sendto(b"six", (p.host6, int(p.udp)))
    got, source = six.recvfrom(100)
    p.saw("IPv6", (got, source[0] == p.host6, source[1] == where[1]))


def messages(p):
    connection = socket.create_connection((p.host, int(p.echo)))
    reader = connection.makefile("rb", 0)
    greeting(reader)
    p.saw("sendmsg", connection.sendmsg([b"in two ", b"parts\n"]))
    connection.settimeout(3)
    p.saw("peeked", connection.recv(3, socket.MSG_PEEK))
    one, two = bytearray(7), bytearray(6)
    got, _, flags, source = connection.recvmsg_into([one, two], 0, socket.MSG_WAITALL)
    p.saw("recvmsg", (got, one, two, flags & socket.MSG_TRUNC))
    loose = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    loose.settimeout(3)
    loose.sendmsg([b"b", b"ig"], [], 0, (p.host, int(p.udp)))
    data, _, flags, source = loose.recvmsg(10)
    p.saw("cut", (data, bool(flags & socket.MSG_TRUNC), source == (p.host, int(p.udp))))


def bound(host, port, family=socket.AF_INET, reuse=False):
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    made.listen()
    return made


def binding(p):
    p.does("low", lambda: bound("0.0.0.0", 80).getsockname())
    any_port = bound("127.0.0.1", 0)
    p.saw("any", any_port.getsockname()[1] > 0)
    p.does("the same once more", socket.socket().bind, any_port.getsockname())
    both = [bound("0.0.0.0", int(p.serve), reuse=True) for _ in range(2)]
    p.saw("shared", [one.getsockname() == ("0.0.0.0", int(p.serve)) for one in both])
    for one in both:
        one.close()
    two = [bound("0.0.0.0", int(p.serve)), bound("::", int(p.second), socket.AF_INET6)]
    p.saw("two", [one.getsockname()[0] for one in two])
    p.does("an address of nobody", bound, "192.0.2.77", 0)


def greet(p, connection, peer, what):
    port = int(lines(connection).readline().split()[1])
    told = connection.getpeername()
    p.saw(what, (peer[0], peer[1] == port, told[0], told[1] == port, connection.getsockname()[0], connection.getsockname()[1] == int(p.serve)))
    connection.sendall(b"bye\n")
    connection.close()


def accepting(p):
    server = bound("0.0.0.0", int(p.serve))
    server.settimeout(8)
    greet(p, *server.accept(), "accept")
    counted = []

    def one():
        connection, _ = server.accept()
        connection.sendall(b"bye\n")
        connection.close()
        counted.append(1)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p.saw("threads", len(counted))
    server.close()

    async def asynchronously():
        came = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            words = (await reader.readline()).split()
            peer = writer.get_extra_info("peername")
            writer.close()
            if not came.done():
                came.set_result((peer[0], len(words) > 1 and peer[1] == int(words[1])))

        async with await asyncio.start_server(serve, "0.0.0.0", int(p.serve), reuse_address=True):
            return await asyncio.wait_for(came, 8)

    p.saw("asyncio", asyncio.run(asynchronously()))


def handing_on(p):
    server = bound("0.0.0.0", int(p.serve))
    server.settimeout(8)
    child = os.fork()
    if child == 0:
        connection, _ = server.accept()
        connection.sendall(b"bye\n")
        os._exit(7)
    p.saw("forked", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    one, two = socket.socketpair()
    socket.send_fds(one, [b"x"], [server.fileno()])
    server.close()
    _, fds, _, _ = socket.recv_fds(two, 10, 1)
    passed = socket.socket(fileno=fds[0])
    passed.settimeout(8)
    greet(p, *passed.accept(), "passed")
    passed.close()


def own_port(p):
    try:
        server = bound("0.0.0.0", 80)
    except PermissionError:
        return p.saw("listen", "EACCES")
    server.settimeout(3)
    for host in ("127.0.0.1", p.own):
        connection = socket.create_connection((host, 80), 3)
        other, _ = server.accept()
        other.sendall(b"to myself\n")
        other.close()
        p.saw(host, (lines(connection).readline(), connection.getpeername() == (host, 80)))
        connection.close()


def endings(p):
    connection = socket.create_connection((p.host, int(p.echo)))
    reader = lines(connection)
    greeting(reader)
    connection.sendall(b"half\n")
    connection.shutdown(socket.SHUT_WR)
    p.saw("half", (reader.readline(), reader.readline(), reader.readline()))
    p.does("write after it", connection.send, b"x")
    connection = socket.create_connection((p.host, int(p.reset)))
    connection.settimeout(5)
    connection.sendall(b"x")
    p.saw("before", connection.recv(1))
    p.does("reset", connection.recv, 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3))
    connection.connect((p.host, int(p.echo)))
    p.saw("options", (connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                      array.array("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)).tolist()))
    talk(p, connection, "then")


def pairs(p):
    one, two = socket.socketpair()
    one.sendall(b"pair")
    p.saw("pair", two.recv(10))
    reading, writing = os.pipe()
    socket.send_fds(one, [b"x"], [reading])
    _, fds, _, _ = socket.recv_fds(two, 10, 1)
    os.write(writing, b"through")
    p.saw("pipe", os.read(fds[0], 20))


CASES = {33: blocking_connect, 34: registered_before, 35: refused, 36: socket_names, 37: version_six, 38: unix_sockets, 39: datagrams,
         40: messages, 41: binding, 42: accepting, 43: handing_on, 44: own_port, 45: endings, 47: pairs}
