"""Cases 59-70 in Python."""

import os
import signal
import subprocess
import threading
import time


def read(path):
    with open(path) as file:
        return file.read().rstrip("\n")


def children(p):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, read(p.dir("file")).encode())
        os._exit(3)
    os.close(writing)
    p.saw("fork", (os.read(reading, 200), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    p.does("run", lambda: subprocess.run(["cat", p.dir("file")], capture_output=True).stdout)
    p.does("shell", lambda: subprocess.run(f"exec sh -c 'exec cat {p.dir('file')}'", shell=True, capture_output=True).stdout)
    child = os.posix_spawn("/bin/cat", ["cat", "none"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, p.dir("file"), os.O_RDONLY, 0),
                                                                        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
    p.saw("posix_spawn", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def empty_environment(p):
    p.does("no environment", lambda: subprocess.run(["/bin/cat", p.dir("file")], env={}, capture_output=True).stdout)
    p.does("env -i", lambda: subprocess.run(["env", "-i", "/bin/cat", p.dir("file")], capture_output=True).stdout)


def threads(p):
    over = threading.Event()

    def reads_on():
        while not over.is_set():
            read(p.dir("file"))

    all_of_them = [threading.Thread(target=reads_on) for _ in range(4)]
    for one in all_of_them:
        one.start()
    p.saw("children", {subprocess.run(["cat", p.dir("file")], capture_output=True).stdout for _ in range(5)})
    over.set()
    for one in all_of_them:
        one.join()


def daemon(p):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(0.1)
            os.write(writing, read(p.dir("file")).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    p.saw("daemon", os.read(reading, 200))


def storm(p):
    alarms, read_well = [], 0
    signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    count = 0
    while count < 200 or len(alarms) < 3:
        count += 1
        read_well += read(p.dir("file")) != ""
    signal.setitimer(signal.ITIMER_REAL, 0)
    p.saw("read", (read_well == count, read(p.dir("file"))))


CASES = {59: children, 60: empty_environment, 61: threads, 63: daemon, 70: storm}
