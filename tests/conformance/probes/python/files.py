"""Cases 1-32 in Python."""

import fcntl
import glob
import mmap
import os
import shutil
import stat
import subprocess
import tempfile
import time


def read(path, **options):
    with open(path, **options) as file:
        return file.read().rstrip("\n")


def read_at(folder, name):
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(fd, 4096).decode().rstrip("\n")
    finally:
        os.close(fd)


def climbing(path):
    return "../../../../../../../.." + path


def open_read_close(p):
    fd = os.open(p.dir("file"), os.O_RDONLY)
    p.does("content", os.read, fd, 4096)
    p.does("close", os.close, fd)
    p.does("close again", os.close, fd)
    p.does("as text", read, p.dir("file"))


def absolute_with_dirfd(p):
    local = os.open(p.local, os.O_RDONLY)
    p.does("a local one", read_at, local, p.dir("file"))
    p.does("a local path", read_at, local, p.near("near"))
    os.close(local)


def relative_to_remote(p):
    folder = os.open(p.dir("sub"), os.O_RDONLY | os.O_DIRECTORY)
    p.does("below", read_at, folder, "deep/leaf")
    p.does("above", read_at, folder, "../file")
    p.does("none", read_at, folder, "none")
    p.saw("size", os.stat("deep/leaf", dir_fd=folder).st_size)
    p.saw("access", os.access("deep/leaf", os.R_OK, dir_fd=folder))
    p.saw("listed", sorted(os.listdir(folder)))
    os.close(folder)


def relative_to_local(p):
    folder = os.open(p.local, os.O_RDONLY)
    p.does("near", read_at, folder, "near")
    p.does("far", read_at, folder, climbing(p.dir("file")))
    p.does("none", read_at, folder, "none")
    os.close(folder)


def dots_inside(p):
    p.does("one", read, p.dir("sub/../file"))
    p.does("two", read, p.dir("sub/deep/../../file"))
    p.does("slashes", read, p.dir("./sub//deep/./leaf"))
    p.does("through none", read, p.dir("none/../file"))


def dots_to_local(p):
    there = p.dir(climbing(p.near("near")))
    p.does("content", read, there)
    p.saw("stat", os.stat(there).st_size)
    p.saw("access", os.access(there, os.R_OK))
    p.does("none", read, p.dir(climbing("/none-of-that-name")))


def links(p):
    p.does("content", read, p.dir("link"))
    p.does("text", os.readlink, p.dir("link"))
    p.does("no link", os.readlink, p.dir("file"))
    p.saw("lstat", oct(stat.S_IFMT(os.lstat(p.dir("link")).st_mode)))
    p.does("below a link", read, p.dir("dirlink/deep/leaf"))
    p.does("not followed", os.open, p.dir("link"), os.O_RDONLY | os.O_NOFOLLOW)
    p.saw("is", (os.path.islink(p.dir("link")), os.path.isfile(p.dir("link")), os.path.isdir(p.dir("dirlink"))))


def absolute_links(p):
    p.does("in the volume", read, p.dir("abslink"))
    p.does("out of it", read, p.dir("outlink"))
    p.does("dangling", read, p.dir("dangling"))


def swapped(p):
    seen, end = set(), time.monotonic() + 5
    while time.monotonic() < end and len(seen) < 2:
        seen.add(read(p.dir("config/version")))
        time.sleep(0.005)
    p.saw("seen", sorted(seen))
    p.does("stable", read, p.dir("config/stable"))


def through_the_library(p):
    p.saw("scandir", sorted((entry.name, entry.is_dir(), entry.stat().st_size) for entry in os.scandir(p.dir("tree")) if entry.is_file()))
    p.saw("glob", len(glob.glob(p.dir("tree/**/*.txt"), recursive=True)))
    p.saw("walk", [(sorted(folders), sorted(files)) for _, folders, files in os.walk(p.dir("tree"))])
    p.does("realpath", os.path.realpath, p.dir("dirlink/../link"))
    fd, made = tempfile.mkstemp(dir=p.local)
    p.does("unlink", os.unlink, made)
    os.close(fd)


def offsets(p):
    first, second = os.open(p.dir("file"), os.O_RDONLY), os.open(p.dir("file"), os.O_RDONLY)
    same = os.dup(first)
    p.saw("read", [os.read(one, 3).decode() for one in (first, second, same)])
    p.saw("shared", os.lseek(first, 0, os.SEEK_CUR))
    for one in (first, second, same):
        os.close(one)


def positions(p):
    fd = os.open(p.dir("file"), os.O_RDONLY)
    one, two = bytearray(4), bytearray(4)
    p.saw("readv", os.readv(fd, [one, two]))
    p.saw("parts", (bytes(one), bytes(two)))
    p.saw("pread", os.pread(fd, 7, 1))
    p.saw("preadv", (os.preadv(fd, [one, two], 2), bytes(one), bytes(two)))
    p.saw("beyond", os.pread(fd, 4, 1 << 20))
    p.saw("end", os.lseek(fd, 0, os.SEEK_END))
    p.does("before", os.lseek, fd, -1, os.SEEK_SET)
    os.close(fd)


def data_and_holes(p):
    fd = os.open(p.dir("big"), os.O_RDONLY)
    p.does("data", os.lseek, fd, 1 << 20, os.SEEK_DATA)
    p.does("hole", os.lseek, fd, 0, os.SEEK_HOLE)
    os.close(fd)


def mapped(p):
    with open(p.dir("block"), "rb") as file:
        for name, access in (("to read", mmap.ACCESS_READ), ("to copy", mmap.ACCESS_COPY)):
            with mmap.mmap(file.fileno(), 0, access=access) as mapping:
                p.saw(name, (mapping[:40], mapping[32768:32808], sum(mapping[:])))
        p.does("to write", mmap.mmap, file.fileno(), 0, access=mmap.ACCESS_WRITE)


def same_stat(p):
    for name in ("file", "sub", "big"):
        by_path = os.stat(p.dir(name))
        fd = os.open(p.dir(name), os.O_RDONLY)
        by_fd = os.fstat(fd)
        os.close(fd)
        p.saw(name, (os.path.samestat(by_path, by_fd), oct(by_path.st_mode), by_path.st_size, by_path.st_nlink, int(by_path.st_mtime)))
    p.saw("inode", next(entry.inode() for entry in os.scandir(p.dir()) if entry.name == "file") == os.stat(p.dir("file")).st_ino)


def tools(p):
    copy = p.near(f"copy-{p.name}")
    for command in (["cp", "-r", p.dir("tree"), copy], ["diff", "-r", p.dir("tree"), copy], ["ls", "-lgo", "--time-style=+", p.dir("tree")],
                    ["tar", "-C", p.dir(), "-cf", "/dev/null", "tree"], ["find", p.dir("tree"), "-name", "*.txt", "-size", "-2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        p.saw(command[0], (done.returncode, sorted(done.stdout.splitlines()), done.stderr))
    shutil.rmtree(copy, ignore_errors=True)
    p.does("copytree", lambda: shutil.copytree(p.dir("tree"), copy) and None)
    shutil.rmtree(copy, ignore_errors=True)


def attributes(p):
    p.does("get", os.getxattr, p.dir("xattr"), "user.probe")
    p.does("none", os.getxattr, p.dir("xattr"), "user.none")
    p.does("listed", lambda: "user.probe" in os.listxattr(p.dir("xattr")))
    with open(p.dir("xattr")) as file:
        p.does("of a descriptor", os.getxattr, file.fileno(), "user.probe")


def many_entries(p):
    first = os.listdir(p.dir("many"))
    p.saw("first", (len(first), len(set(first)), sum(hash_of(name) for name in first)))
    p.saw("second", sorted(os.listdir(p.dir("many"))) == sorted(first))


def hash_of(name):
    return sum((at + 1) * ord(letter) for at, letter in enumerate(name))


def failures(p):
    p.does("ENOENT", open, p.dir("none"))
    p.does("ENOTDIR", open, p.dir("file/x"))
    p.does("ENOTDIR for a slash", open, p.dir("file/"))
    p.does("EISDIR", open, p.dir("sub"))
    p.does("ELOOP", open, p.dir("loop"))
    p.does("ENAMETOOLONG of a name", open, p.dir("x" * 299))
    p.does("ENAMETOOLONG of a path", open, "/y" * 3000)
    p.does("EACCES", read, p.dir("closed"))
    p.saw("access", (os.access(p.dir("file"), os.R_OK), os.access(p.dir("file"), os.X_OK)))
    p.does("not a folder", os.listdir, p.dir("file"))


def read_only(p):
    name = f"{p.ro}/banner.txt"
    p.does("write", open, name, "w")
    p.does("append", open, name, "a")
    p.does("new", open, f"{p.ro}/new", "x")
    p.does("unlink", os.unlink, name)
    p.does("mkdir", os.mkdir, f"{p.ro}/new")
    p.does("chmod", os.chmod, name, 0o600)
    p.does("truncate", os.truncate, name, 0)
    p.does("rename", os.rename, name, f"{p.ro}/other")
    p.saw("access", os.access(name, os.W_OK))
    p.does("content", read, name)


def written(p):
    name = p.dir(f"w-{p.name}")
    before = os.umask(0o027)
    with open(name, "x") as file:
        file.write("first line\n")
        file.flush()
        p.does("read at once", read, name)
        p.does("again", open, name, "x")
        with open(name, "a") as more:
            more.write("second\n")
        os.pwrite(file.fileno(), b"F", 0)
        p.does("both", read, name)
        p.saw("mode and size", (oct(os.stat(name).st_mode), os.stat(name).st_size))
        p.does("truncate", file.truncate, 3)
        p.does("fsync", os.fsync, file.fileno())
        p.does("cut", read, name)
    p.does("unlink", os.unlink, name)
    p.does("gone", read, name)
    os.umask(before)


def across(p):
    p.does("rename to there", os.rename, p.near("near"), p.dir(f"near-{p.name}"))
    p.does("rename from there", os.rename, p.dir("file"), p.near("taken"))
    p.does("link from there", os.link, p.dir("file"), p.near("taken"))
    p.does("near", read, p.near("near"))


def changed(p):
    folder = p.dir(f"d-{p.name}")
    p.does("mkdir", os.mkdir, folder, 0o750)
    with open(f"{folder}/one", "w"):
        pass
    p.does("link", os.link, f"{folder}/one", f"{folder}/two")
    p.saw("links", os.stat(f"{folder}/one").st_nlink)
    p.does("symlink", os.symlink, "one", f"{folder}/three")
    p.does("text", os.readlink, f"{folder}/three")
    p.does("chmod", os.chmod, f"{folder}/one", 0o600)
    p.does("utime", os.utime, f"{folder}/one", (1000000000, 1234567890))
    seen = os.stat(f"{folder}/one")
    p.saw("mode and time", (oct(seen.st_mode), seen.st_mtime))
    p.does("rename", os.rename, f"{folder}/one", f"{folder}/four")
    p.does("rmdir of a full one", os.rmdir, folder)
    p.does("rmtree", shutil.rmtree, folder)
    p.does("rmdir again", os.rmdir, folder)


def copied(p):
    name = p.near(f"sent-{p.name}")
    with open(p.dir("block"), "rb") as source, open(name, "w+b") as target:
        p.does("sendfile", os.sendfile, target.fileno(), source.fileno(), 0, 65536)
        p.does("copy_file_range", os.copy_file_range, source.fileno(), target.fileno(), 65536, 0, 0)
        p.saw("start", os.pread(target.fileno(), 40, 0))
    p.does("copyfile", lambda: shutil.copyfile(p.dir("block"), name) and None)
    p.saw("size", os.stat(name).st_size)
    os.unlink(name)


def locks(p):
    with open(p.dir("file")) as one, open(p.dir("file")) as two:
        p.does("shared", fcntl.flock, one, fcntl.LOCK_SH | fcntl.LOCK_NB)
        p.does("shared twice", fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        p.does("exclusive beside it", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        p.does("exclusive", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        p.does("range to read", fcntl.lockf, one, fcntl.LOCK_SH | fcntl.LOCK_NB, 4)


def large(p):
    with open(p.dir("big"), "rb") as file:
        p.saw("size", os.fstat(file.fileno()).st_size)
        file.seek((4 << 30) + 123)
        p.saw("far in", file.read(32).rstrip(b"\0"))
        file.seek(3 << 30)
        p.saw("a hole", file.read(8))


def without_size(p):
    p.saw("size", os.stat(p.sizeless).st_size)
    p.does("content", read, p.sizeless)


def folder_of_work(p):
    back = os.open(".", os.O_RDONLY)
    p.does("chdir", os.chdir, p.dir("sub"))
    p.does("getcwd", os.getcwd)
    p.does("below", read, "deep/leaf")
    p.does("above", read, "../file")
    p.does("child", lambda: subprocess.run(["cat", "deep/leaf"], capture_output=True, text=True).stdout)
    p.does("chdir further", os.chdir, "deep")
    p.does("getcwd then", os.getcwd)
    p.does("to none", os.chdir, p.dir("none"))
    os.fchdir(back)
    os.close(back)
    p.does("near", read, p.near("near"))


def flags(p):
    fd = os.open(p.dir("file"), os.O_PATH)
    p.saw("size", os.fstat(fd).st_size)
    os.close(fd)
    p.does("O_DIRECTORY", os.open, p.dir("file"), os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(p.dir("file"), os.O_RDONLY)
    p.saw("inheritable", os.get_inheritable(fd))
    os.set_inheritable(fd, True)
    p.saw("inherited", subprocess.run(["cat", f"/proc/self/fd/{fd}"], pass_fds=[fd], capture_output=True, text=True).stdout)
    os.close(fd)


def own_descriptors(p):
    with open(p.dir("file")) as file:
        link = f"/proc/self/fd/{file.fileno()}"
        p.does("link", os.readlink, link)
        p.does("reopened", read, link)
        p.saw("the same", os.path.samefile(link, p.dir("file")))


def positions_and_holes(p):
    positions(p)
    data_and_holes(p)


CASES = {1: open_read_close, 2: absolute_with_dirfd, 3: relative_to_remote, 4: relative_to_local, 5: dots_inside, 6: dots_to_local, 7: links,
         8: absolute_links, 9: swapped, 10: through_the_library, 11: offsets, 12: positions_and_holes, 13: mapped, 14: same_stat, 15: tools,
         16: attributes, 17: many_entries, 18: failures, 19: read_only, 20: written, 21: across, 22: changed, 23: copied, 24: locks, 25: large,
         26: without_size, 27: folder_of_work, 28: flags, 32: own_descriptors}
