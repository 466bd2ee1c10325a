"""Changes files below a folder in every way there is, and prints what each call answered.

Run where the kernel serves the folder and where a session does, the lines must be the same. `changes.c` does the same.
"""

import ctypes
import errno
import mmap
import os
import subprocess
import sys

base = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)


def at(name):
    return f"{base}/{name}"


def tell(name, work):
    try:
        print(name, work(), flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)


def write(name, flags, content, mode=0o666):
    descriptor = os.open(at(name), flags, mode)
    try:
        return os.write(descriptor, content)
    finally:
        os.close(descriptor)


def read(name):
    with open(at(name), "rb") as file:
        return file.read().decode()


def size_by_descriptor():
    descriptor = os.open(at("made"), os.O_RDWR)
    try:
        os.pwrite(descriptor, b"far", 5000)
        before = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, 4)
        os.fsync(descriptor)
        return before, os.fstat(descriptor).st_size, os.stat(at("made")).st_size
    finally:
        os.close(descriptor)


def mapped():
    descriptor = os.open(at("mapped"), os.O_RDWR | os.O_CREAT, 0o600)
    os.write(descriptor, b"." * 100)
    with mmap.mmap(descriptor, 100) as memory:
        memory[50:54] = b"here"
        memory.flush()
    os.close(descriptor)
    return read("mapped").strip(".")


def removed_while_open():
    descriptor = os.open(at("gone"), os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(at("gone"))
    os.write(descriptor, b"still")
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return os.read(descriptor, 10).decode(), os.fstat(descriptor).st_nlink, os.path.exists(at("gone"))
    finally:
        os.close(descriptor)


def relative():
    folder = os.open(at("dir"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        descriptor = os.open("relative", os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=folder)
        os.close(descriptor)
        os.mkdir("below", dir_fd=folder)
        os.rename("relative", "below/renamed", src_dir_fd=folder, dst_dir_fd=folder)
        return sorted(os.listdir(folder))
    finally:
        os.close(folder)


def mode_of(name):
    return oct(os.lstat(at(name)).st_mode)


os.umask(0o027)
tell("create", lambda: write("made", os.O_WRONLY | os.O_CREAT, b"content"))
tell("its mode", lambda: mode_of("made"))
tell("create once more", lambda: write("made", os.O_WRONLY | os.O_CREAT | os.O_EXCL, b"x"))
tell("append", lambda: write("made", os.O_WRONLY | os.O_APPEND, b" and more"))
tell("read", lambda: read("made"))
tell("empty", lambda: write("made", os.O_WRONLY | os.O_TRUNC, b"new"))
tell("read it", lambda: read("made"))
tell("in a folder that is not there", lambda: write("none/made", os.O_WRONLY | os.O_CREAT, b"x"))
tell("sizes", size_by_descriptor)
tell("mapping", mapped)
tell("removed while open", removed_while_open)
tell("mkdir", lambda: os.mkdir(at("dir"), 0o777))
tell("mode of dir", lambda: mode_of("dir"))
tell("mkdir again", lambda: os.mkdir(at("dir")))
tell("open a folder for writing", lambda: write("dir", os.O_WRONLY, b"x"))
tell("relative", relative)
tell("rmdir full", lambda: os.rmdir(at("dir")))
tell("unlink a folder", lambda: os.unlink(at("dir")))
tell("rmdir a file", lambda: os.rmdir(at("made")))
tell("rename", lambda: os.rename(at("made"), at("dir/moved")))
tell("old name", lambda: os.stat(at("made")))
tell("new name", lambda: read("dir/moved"))
tell("rename into itself", lambda: os.rename(at("dir"), at("dir/below/dir")))
tell("symlink", lambda: os.symlink("dir/moved", at("link")))
tell("through it", lambda: write("link", os.O_WRONLY | os.O_APPEND, b"!"))
tell("not through it", lambda: write("link", os.O_WRONLY | os.O_NOFOLLOW, b"!"))
tell("text", lambda: os.readlink(at("link")))
tell("hard link", lambda: os.link(at("dir/moved"), at("second")))
tell("names", lambda: os.stat(at("second")).st_nlink)
tell("hard link of a folder", lambda: os.link(at("dir"), at("other")))
tell("chmod", lambda: os.chmod(at("second"), 0o4751))
tell("mode set", lambda: mode_of("second"))
tell("utime", lambda: os.utime(at("second"), ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321)))
tell("times", lambda: (os.stat(at("second")).st_atime_ns, os.stat(at("second")).st_mtime_ns))
tell("utime of a link", lambda: os.utime(at("link"), (5, 6), follow_symlinks=False))
tell("its time", lambda: os.lstat(at("link")).st_mtime_ns)
tell("truncate", lambda: os.truncate(at("second"), 2))
tell("size", lambda: os.stat(at("second")).st_size)
tell("truncate a folder", lambda: os.truncate(at("dir"), 0))
tell("own it", lambda: os.chown(at("second"), os.getuid(), os.getgid()))
tell("mine", lambda: os.stat(at("second")).st_uid == os.getuid())
tell("unlink", lambda: os.unlink(at("link")))
tell("unlink again", lambda: os.unlink(at("link")))
tell("mkfifo", lambda: os.path.exists(at("fifo")))
tell("chdir", lambda: os.chdir(at("dir")))
tell("where", lambda: os.getcwd()[len(base):])
tell("write there", lambda: os.close(os.open("here", os.O_WRONLY | os.O_CREAT, 0o666)))
tell("make there", lambda: os.makedirs("one/two"))
tell("go on", lambda: os.chdir("one/two"))
tell("where now", lambda: os.getcwd()[len(base):])
tell("go up", lambda: os.chdir("../.."))
tell("and see", lambda: (os.getcwd()[len(base):], sorted(os.listdir("."))))
tell("real path", lambda: os.path.realpath("one/../here")[len(base):])
tell("child", lambda: subprocess.run(["pwd"], capture_output=True, text=True).stdout[len(base):])
tell("into a file", lambda: os.chdir("here"))
tell("into nothing", lambda: os.chdir("nothing"))
tell("of this machine", lambda: os.path.samefile(os.path.relpath("/usr/bin", os.getcwd()), "/usr/bin"))
tell("back home", lambda: (os.chdir("/usr"), os.getcwd()))
tell("left", lambda: sorted(os.listdir(base)))
