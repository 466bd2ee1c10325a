"""The far side of the conformance cases: files to be read and servers to be talked to.

Runs as process 1 of the stand-in pod, and on this machine for the runs without one; `far.py SETTINGS`, a JSON object:
`dir` (the folder to be filled), `outside` (a folder that links lead to), `token` (what only this world says), `hosts`
(addresses to serve on, IPv4 and IPv6), `ports` (name to number), `unix` (a path), `abstract` (a name), and `ends_with_stdin`.
"""

import json
import os
import socket
import struct
import sys
import threading
import time

MANY, BLOCK, BIG = 10_000, 65_536, (4 << 30) + (1 << 20)
FAR_IN = (4 << 30) + 123


def write(path, content, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(path, mode)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def fill(folder, outside, token):
    os.chmod(folder, 0o755)
    write(f"{folder}/file", f"{token} of the file\n")
    write(f"{folder}/sub/deep/leaf", f"{token} of the leaf\n")
    write(f"{outside}/file", f"{token} from outside\n")
    write(f"{folder}/closed", f"{token} of the closed one\n", 0)
    write(f"{folder}/xattr", f"{token}\n")
    try:
        os.setxattr(f"{folder}/xattr", "user.probe", f"{token} of the attribute".encode())
    except OSError:
        pass  # a kernel whose tmpfs has none: what is compared is then the same failure
    for name, target in [("link", "file"), ("dirlink", "sub"), ("loop", "loop"), ("abslink", f"{folder}/sub/deep/leaf"),
                         ("outlink", f"{outside}/file"), ("dangling", "/no/such/file")]:
        os.symlink(target, f"{folder}/{name}")
    for name in ("a.txt", "b.txt", "c.dat"):
        write(f"{folder}/tree/{name}", f"{token} {name}\n")
    write(f"{folder}/tree/inner/d.txt", f"{token}\n" * 100)
    os.symlink("a.txt", f"{folder}/tree/up")
    write(f"{folder}/block", f"{token} of the block ".encode().ljust(64, b".") * (BLOCK // 64))
    with open(f"{folder}/big", "wb") as file:
        os.pwrite(file.fileno(), f"{token} far in".encode(), FAR_IN)
        os.ftruncate(file.fileno(), BIG)
    os.mkdir(f"{folder}/many")
    for number in range(MANY):
        os.close(os.open(f"{folder}/many/{token}-{number:05}", os.O_CREAT | os.O_WRONLY, 0o644))


def swap(folder, token):
    """What the kubelet does to a ConfigMap, over and over: a new folder, and one rename of `..data`."""
    os.mkdir(folder)
    for name in ("version", "stable"):
        os.symlink(f"..data/{name}", f"{folder}/{name}")
    number, before = 0, None
    while True:
        dated = f"..{number}"
        write(f"{folder}/{dated}/version", f"{('even', 'odd')[number % 2]} {token}\n")
        write(f"{folder}/{dated}/stable", f"{token} stays\n")
        os.symlink(dated, f"{folder}/..data_tmp")
        os.rename(f"{folder}/..data_tmp", f"{folder}/..data")
        if before:
            for name in ("version", "stable"):
                os.unlink(f"{folder}/{before}/{name}")
            os.rmdir(f"{folder}/{before}")
        before, number = dated, number + 1
        yield
        time.sleep(0.15)


def plain(address):
    return address[0].removeprefix("::ffff:") if address and isinstance(address, tuple) else "unix"


def echo(connection, peer, token):
    """Says whose it is and whom it sees, repeats what comes, and counts it once the other side has shut down."""
    with connection:
        connection.sendall(f"{token} {plain(peer)} {peer[1] if isinstance(peer, tuple) else 0}\n".encode())
        count = 0
        while got := connection.recv(65536):
            count += len(got)
            connection.sendall(got)
        connection.sendall(f"end {count}\n".encode())


def reset(connection, *_):
    """Answers one request and is gone with a reset."""
    with connection:
        connection.recv(100)
        connection.sendall(b"x")
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def serve(listener, handle, token):
    def one(connection, peer):
        try:
            handle(connection, peer, token)
        except OSError:
            pass  # the probe has gone

    while True:
        connection, peer = listener.accept()
        threading.Thread(target=one, args=(connection, peer), daemon=True).start()


def datagrams(udp, token):
    """Answers each datagram with whose it is, whom it sees, and what it got; `big` with 2,000 bytes, `late` after a while."""
    while True:
        got, peer = udp.recvfrom(65536)
        answer = f"{token} {plain(peer)} ".encode() + got
        if got == b"big":
            answer = answer.ljust(2000, b"=")
        if got == b"late":
            threading.Timer(0.3, udp.sendto, (answer, peer)).start()
        else:
            udp.sendto(answer, peer)


def background(work, *words):
    threading.Thread(target=work, args=words, daemon=True).start()


def listen(family, address):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
    listener.listen(64)
    return listener


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


def main():
    settings = json.loads(sys.argv[1])
    if settings.get("ends_with_stdin"):
        background(end_with_stdin)
    token, ports = settings["token"], settings["ports"]
    fill(settings["dir"], settings["outside"], token)
    for host in settings["hosts"]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        background(serve, listen(family, (host, ports["echo"])), echo, token)
        background(serve, listen(family, (host, ports["reset"])), reset, token)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((host, ports["udp"]))
        background(datagrams, udp, token)
    background(serve, listen(socket.AF_UNIX, settings["unix"]), echo, token)
    background(serve, listen(socket.AF_UNIX, "\0" + settings["abstract"]), echo, token)
    os.chmod(settings["unix"], 0o777)
    versions = swap(f"{settings['dir']}/config", token)
    next(versions)
    print("ready", flush=True)
    for _ in versions:
        pass


if __name__ == "__main__":
    main()
