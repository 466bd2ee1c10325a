"""Programs that outlive the pipes and the terminal of the editor that started them."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import places
from harness.scene import LocalScene
from harness.testing import contains, equal, eventually, limit

# Says more than a pipe or a terminal holds once its editor has gone, then whether it got so far.
SPEAKER = """
import os, select, sys, time
print("begin", os.getpid(), sys.stdout.isatty(), flush=True)
while not os.path.exists("gone"):
    time.sleep(0.02)
for number in range(3000):
    sys.stdout.write("x" * 99 + "\\n")
    sys.stdout.flush()
print("to the other stream", file=sys.stderr, flush=True)
ready, _, _ = select.select([sys.stdin], [], [], 0.2)
with open("survived.new", "w") as file:
    file.write("its input has ended" if ready else "its input is open")
os.rename("survived.new", "survived")
"""


# Says by two streams in turn what is too much for the editor's pipe and fits into those on the way to it.
TALKER = """
import sys
for number in range(850):
    print(number, "out" * 20, flush=True)
    print(number, "err" * 20, file=sys.stderr, flush=True)
open("done", "w").close()
sys.exit(7)
"""


def command(scene, program: str) -> list[str]:
    path = scene.laptop.folder / "program.py"
    path.write_text(program)
    return scene.laptop.command(["exec", "-t", scene.target, "--outlive-editor", "--progress", "off", "--", str(places.venv_python()), path])


def popen(scene, program: str, **streams) -> subprocess.Popen:
    return subprocess.Popen(command(scene, program), env=scene.laptop.env, cwd=scene.laptop.folder, **streams, **scene.laptop.user)


@limit(60)
def test_a_program_survives_the_end_of_the_pipes_that_it_was_given():
    with LocalScene() as scene:
        front = popen(scene, SPEAKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        contains(front.stdout.readline().decode(), "begin")
        for stream in (front.stdin, front.stdout, front.stderr):
            stream.close()
        (scene.laptop.folder / "gone").touch()
        survived = scene.laptop.folder / "survived"
        eventually(survived.exists, "the program got to its end", 20)
        equal(survived.read_text(), "its input is open")
        equal(front.wait(20), 0)


@limit(60)
def test_the_last_words_of_a_program_come_before_its_end():
    with LocalScene() as scene:
        front = popen(scene, TALKER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        eventually((scene.laptop.folder / "done").exists, "the program has said all", 20)
        # A slow reader: the program is gone before what it said is taken.
        time.sleep(0.3)
        said = front.stdout.read().decode().splitlines()
        equal(said, [f"{number} {word * 20}" for number in range(850) for word in ("out", "err")], "all of it, in the order in which it was said")
        equal(front.wait(20), 7)
        front.stdout.close()


def read_until(terminal: int, text: str, seconds=20.0) -> str:
    said = ""

    def there():
        nonlocal said
        if select.select([terminal], [], [], 0.05)[0]:
            said += os.read(terminal, 65536).decode()
        return text in said

    eventually(there, f"the terminal shows {text!r}: {said}", seconds)
    return said


class Shell:
    """A terminal with a shell in it that runs the program, as an editor has one."""

    def __init__(self, scene, program: str):
        words = command(scene, program)
        pid, self.terminal = pty.fork()
        if pid == 0:
            if user := scene.laptop.user.get("user"):
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.chdir(scene.laptop.folder)
            os.execve("/bin/bash", ["bash", "--norc", "-i"], scene.laptop.env | {"PS1": "$ "})
        self.pid = pid
        read_until(self.terminal, "$ ")
        os.write(self.terminal, (" ".join(map(str, words)) + "; echo ended with $?\n").encode())

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@limit(60)
def test_a_program_survives_the_end_of_its_terminal():
    with LocalScene() as scene:
        shell = Shell(scene, SPEAKER)
        contains(read_until(shell.terminal, "True"), "begin")
        shell.close()
        (scene.laptop.folder / "gone").touch()
        survived = scene.laptop.folder / "survived"
        eventually(survived.exists, "the program got to its end", 20)
        equal(survived.read_text(), "its input is open")


@limit(60)
def test_a_terminal_inside_a_terminal_takes_keys_shows_sizes_and_leaves_no_trace():
    asks = """
import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: print("now", os.get_terminal_size().columns, flush=True))
print("begin", os.get_terminal_size().columns, flush=True)
print("heard", input(), flush=True)
try:
    signal.pause()
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(5)
"""
    with LocalScene() as scene:
        shell = Shell(scene, asks)
        read_until(shell.terminal, "begin")
        os.write(shell.terminal, b"a line\r")
        read_until(shell.terminal, "heard a line")
        subprocess.run(["stty", "columns", "99"], stdin=shell.terminal, check=True)
        read_until(shell.terminal, "now 99")
        os.write(shell.terminal, b"\x03")
        contains(read_until(shell.terminal, "ended with 5"), "interrupted")
        os.write(shell.terminal, b"stty -a | grep -qw -- -echo && echo r'a'w || echo coo'k'ed\n")
        read_until(shell.terminal, "cooked")
        shell.close()
