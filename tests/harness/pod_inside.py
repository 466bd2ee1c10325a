"""The inside of the stand-in pod: runs in namespaces, commanded by `local_pod` over a socket.

Started in a user namespace of its own where it is root. This first process keeps the "client" network, a place from
which requests reach the pod over a veth pair as they would from another node. A child keeps a pod's network and
starts containers in it, each a process 1 in mount, PID and hostname namespaces of its own. Both hand out sockets made
in their network (a socket stays where it was made, whoever holds it). All of it ends when the command socket closes.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP = 0x20000000, 0x40000000, 0x2000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
MNT_DETACH, PR_SET_PDEATHSIG, PR_SET_NAME = 2, 1, 15
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def checked(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags):
    checked(libc.unshare(flags), "unshare")


def mount(source, target, kind=None, flags=0, data=None):
    encoded = [None if word is None else word.encode() for word in (source, target, kind)]
    checked(libc.mount(*encoded, ctypes.c_ulong(flags), None if data is None else data.encode()), f"mount {target}")


def die_with_parent():
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def volume(path, files):
    """A read-only volume with the links a ConfigMap or Secret has: NAME -> ..data/NAME, ..data -> a dated folder."""
    mount("volume", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    dated = time.strftime("..%Y_%m_%d_%H_%M_%S.0", time.gmtime())
    for name, content in files.items():
        write(f"{path}/{dated}/{name}", content)
        os.symlink(f"..data/{name}", f"{path}/{name}")
    os.symlink(dated, f"{path}/..data")
    mount(None, path, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def image_root(base, image, upper):
    """The container's root as one mount: the image below, what this container adds in `upper`."""
    root = f"{base}/root"
    os.makedirs(root)
    os.makedirs(f"{base}/work")
    if image is None:
        mount(upper, root, None, MS_BIND)
        return root
    try:
        mount("overlay", root, "overlay", 0, f"lowerdir={image},upperdir={upper},workdir={base}/work,userxattr")
    except OSError:  # a kernel that keeps overlays from users: a copy of the image serves as well
        shutil.copytree(image, root, symlinks=True, dirs_exist_ok=True)
        shutil.copytree(upper, root, symlinks=True, dirs_exist_ok=True)
        mount(root, root, None, MS_BIND)
    return root


def build_root(base, spec):
    """Mounts the container's file system and makes it this process's root."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    os.makedirs(base)
    mount("pod", base, "tmpfs", 0, "mode=755")
    upper = f"{base}/upper"
    for folder, mode in [("tmp", 0o1777), ("run", 0o755), ("var/tmp", 0o1777), ("etc", 0o755), ("proc", 0o555), ("dev", 0o755)]:
        os.makedirs(f"{upper}/{folder}", exist_ok=True)
        os.chmod(f"{upper}/{folder}", mode)
    for path, content in spec["files"].items():
        write(upper + path, content)
    for path, source in spec["programs"].items():
        with open(source, "rb") as file:
            write(upper + path, file.read())
        os.chmod(upper + path, 0o755)
    for path, target in spec["links"].items():
        os.symlink(target, upper + path)
    kubelet_files = {"/etc/hosts": spec["hosts"], "/etc/resolv.conf": spec["resolv_conf"], "/etc/hostname": spec["hostname"] + "\n"}
    for path, content in kubelet_files.items():
        write(f"{base}/kubelet{path}", content)
        write(upper + path, "")
    for path in [*spec["volumes"], *spec["scratch"]]:
        os.makedirs(upper + path, exist_ok=True)
    root = image_root(base, spec["image"], upper)
    for path in kubelet_files:
        mount(f"{base}/kubelet{path}", root + path, None, MS_BIND)
    for path, files in spec["volumes"].items():
        volume(root + path, files)
    for path, size in spec["scratch"].items():
        mount("scratch", root + path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=777,size={size}")
    for path, source in (spec["shared"] | {path: path for path in spec["binds"]}).items():
        if os.path.isdir(source):
            os.makedirs(root + path, exist_ok=True)
        elif not os.path.exists(root + path):
            write(root + path, "")
        mount(source, root + path, None, MS_BIND)
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("dev", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        write(f"{root}/dev/{name}", "")
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    for name, to in [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")]:
        os.symlink(to, f"{root}/dev/{name}")
    os.chdir(root)
    checked(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir(spec["cwd"])


def start_container(base, spec):
    """Starts process 1 of a container; answers with its pid as this machine knows it, once it has become its program."""
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        try:
            die_with_parent()
            unshare(CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
            started_reader, started_writer = os.pipe()
            first = os.fork()
            if first == 0:
                run_container(base, spec, started_writer)
            os.close(started_writer)
            with os.fdopen(started_reader) as started:
                error = started.read()
            os.write(writer, json.dumps({"error": error} if error else {"pid": first}).encode())
            os.close(writer)
            os.waitpid(first, 0)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        return json.loads(answer.read() or '{"error": "the keeper of the container ended"}')


def run_container(base, spec, started):
    """Becomes the container's program; says why when it cannot. Does not return."""
    try:
        die_with_parent()
        unshare(CLONE_NEWNS | CLONE_NEWCGROUP)
        null, log = os.open("/dev/null", os.O_RDONLY), os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        socket.sethostname(spec["hostname"])
        build_root(base, spec)
        os.dup2(null, 0), os.dup2(log, 1), os.dup2(log, 2)
        os.set_inheritable(started, False)
        os.closerange(3, started)
        os.closerange(started + 1, 1024)
        os.execve(spec["argv"][0], spec["argv"], spec["env"])
    except BaseException as error:  # whatever it is, the parent must hear of it
        os.write(started, f"{type(error).__name__}: {error}".encode())
    os._exit(1)


def nft_tables():
    """The names of all nftables tables in this network, asked over netlink: nft need not be installed."""
    nfnl, get_table, dump = 12, (10 << 8) | 1, 0x301
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nfnl) as link:
        link.send(struct.pack("=IHHII", 20, get_table, dump, 1, 0) + bytes(4))
        names = []
        while True:
            data = link.recv(65536)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == 3:
                    return names
                if kind == 2:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    if number:
                        raise OSError(number, "nftables: " + os.strerror(number))
                attributes = data[20:length]
                while len(attributes) >= 4:
                    size, what = struct.unpack_from("=HH", attributes)
                    if what == 1:
                        names.append(attributes[4:size].rstrip(b"\0").decode())
                    attributes = attributes[(size + 3) & ~3:]
                data = data[(length + 3) & ~3:]


def make_socket(command):
    made = socket.socket(command["family"], command["kind"])
    if "bind" in command:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(tuple(command["bind"]))
    if "listen" in command:
        made.listen(command["listen"])
    return made


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, env=os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"})
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def start_pod(control, base, command_socket):
    """Starts the process that keeps one more pod's network and obeys the socket given; answers with its pid."""
    pod_process = os.fork()
    if pod_process == 0:
        die_with_parent()
        control.close()
        unshare(CLONE_NEWNET)
        serve(socket.socket(fileno=command_socket), base)
        os._exit(0)
    os.close(command_socket)
    return pod_process


def serve(control, base):
    """Obeys one command after the other until the other side is gone."""
    while True:
        message, received, _, _ = socket.recv_fds(control, 1 << 20, 1)
        if not message:
            return
        command, descriptors = json.loads(message), []
        try:
            match command["do"]:
                case "pod":
                    answer = {"pod_process": start_pod(control, base, received[0])}
                case "socket":
                    made = make_socket(command)
                    descriptors, answer = [made.detach()], {}
                case "start":
                    answer = start_container(f"{base}/{len(os.listdir(base))}", command["spec"])
                case "share":
                    os.makedirs(command["at"])
                    mount("shared", command["at"], "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
                    answer = {}
                case "nft":
                    answer = {"tables": nft_tables()}
                case "ip":
                    ip(*command["words"])
                    answer = {}
                case "forward":
                    write("/proc/sys/net/ipv4/ip_forward", "1")
                    answer = {}
        except OSError as error:
            answer = {"error": str(error)}
        socket.send_fds(control, [json.dumps(answer).encode()], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def main():
    """Keeps the client's network, and dies with whoever started it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[1])


if __name__ == "__main__":
    main()
