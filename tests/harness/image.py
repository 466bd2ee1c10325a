"""Root file systems for the stand-in pod and for the images of the test cluster, put together from this machine."""

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
from glob import glob
from pathlib import Path

from . import places

PYTHON = "/usr/bin/python3"
TOOLS = ["sh", "cat", "ls", "env", "sleep", "id", "hostname"]
LEFT_OUT = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "dist-packages",
                                  "site-packages", "config-3*", "_tkinter*", "_dbm*", "_gdbm*")
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n"


def libraries(programs: list[str]) -> set[str]:
    """Every shared library that the programs need, with their loader."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


def put(source: str, root: Path):
    """Copies a file to the same path below `root`, as the links on its way mean it."""
    target = root / source.lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def fill(root: Path):
    # On a merged-usr system /lib is a link to usr/lib, and the loader's path goes through it.
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            (root / os.readlink(f"/{name}")).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(os.readlink(f"/{name}"))
    real = os.path.realpath(PYTHON)
    standard = subprocess.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"], capture_output=True, text=True,
                              check=True).stdout.strip()
    shutil.copytree(standard, root / standard.lstrip("/"), ignore=LEFT_OUT, symlinks=True, ignore_dangling_symlinks=True)
    programs = [real, *(path for tool in TOOLS if (path := shutil.which(tool, path="/usr/bin:/bin"))), *glob(f"{standard}/lib-dynload/*.so")]
    for path in [*programs, *libraries(programs)]:
        if not path.startswith(f"{standard}/lib-dynload"):
            put(path, root)
    # glibc before 2.34 loads its resolver at run time.
    for path in glob(f"/lib/{sysconfig.get_config_var('MULTIARCH')}/libnss_[fd]*.so.2"):
        put(path, root)
    for name in ("python3", "python"):
        link = root / "usr/bin" / name
        if not link.exists():
            link.symlink_to(real)
    for name, content in {"passwd": PASSWD, "group": GROUP, "nsswitch.conf": "hosts: files dns\n"}.items():
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / name).write_text(content)
    for name in ("tmp", "proc", "sys", "dev", "run", "var/tmp", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)


def python_root() -> Path:
    """A root file system with Python, a shell and a few tools; made once."""
    root = places.cache() / "rootfs-python"
    stamp = root.with_name(".rootfs-python.stamp")
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest() + f" {os.stat(PYTHON).st_mtime_ns}"
    if not root.exists() or not stamp.exists() or stamp.read_text() != version:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        fill(root)
        stamp.write_text(version)
    return root
