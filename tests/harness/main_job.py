"""The main job as steps that any scene can be put through: a breakpoint hit by live traffic, and all that goes with it.

Each function runs one program under `mirrord-ide exec` and proves what a user sees. Each fails when the product lets
the program run as it is: no value exists locally, and requests do not come to this machine by themselves.
"""

import json
import os
import signal
from urllib.parse import quote

from . import places
from .dap import Dap, free_port, line_of
from .inspector import Inspector
from .jdb import Jdb
from .scene import Asked, Scene
from .testing import equal, eventually

PYTHON = places.EXAMPLES / "python/app.py"
NODE = places.EXAMPLES / "node/app.js"
JAVA = places.EXAMPLES / "java/App.java"
LISTENING = "sample service on"


def check_held_answer(scene: Scene, asked: Asked, text: str, mode: str, program: str, own: str, pid: int | None = None):
    """Under steal the local program's answer comes back; under mirror the pod's own did, breakpoint or not."""
    got = asked.answer()
    if mode == "steal":
        scene.check(got, text, program, local=True)
        if pid:
            equal(got["pid"], pid, "the process that answered")
    else:
        scene.check(got, text, own, local=False)


def python_breakpoint(scene: Scene, mode: str):
    port = free_port()
    command = [places.venv_python(), "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client", PYTHON]
    session = scene.exec(command, f"--{mode}")
    debugger = Dap.dial(port, alive=session.alive)
    assert debugger.attach(str(PYTHON), [line_of(PYTHON, "a breakpoint here")])[0]["verified"]
    pid = debugger.process()
    session.wait_for(LISTENING)
    text = f"stopped in {mode}"
    asked = Asked(scene, text)
    if mode == "mirror":
        scene.check(asked.answer(), text, "python", local=False)
    thread, frames, variables = debugger.stop_at_breakpoint(20)
    equal([frame["name"] for frame in frames[:2]], ["say", "do_GET"])
    wanted = {"text": text, "greeting": scene.greeting, "file": scene.banner, "address": scene.name_address}
    equal({name: variables[name] for name in wanted}, {name: repr(value) for name, value in wanted.items()}, "the stop's variables")
    debugger.proceed(thread)
    check_held_answer(scene, asked, text, mode, "python", "python", pid)
    debugger.close()
    return session


def node_breakpoint(scene: Scene, mode: str):
    port = free_port()
    session = scene.exec(["node", f"--inspect-brk=127.0.0.1:{port}", NODE], f"--{mode}")
    debugger = Inspector(port, alive=session.alive)
    debugger.attach(str(NODE), line_of(NODE, "return { text, greeting"))
    session.wait_for(LISTENING)
    text = f"node in {mode}"
    asked = Asked(scene, text)
    stack, values = debugger.stop_at_breakpoint(["text", "greeting", "file", "address"])
    equal((stack[0], values), ("say", {"text": text, "greeting": scene.greeting, "file": scene.banner, "address": scene.name_address}))
    debugger.proceed()
    check_held_answer(scene, asked, text, mode, "node", "python")
    debugger.close()
    return session


def java_breakpoint(scene: Scene, mode: str):
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:{port}"
    session = scene.exec(["java", agent, "-cp", places.cache() / "java", "App"], f"--{mode}")
    session.wait_for("Listening for transport")
    debugger = Jdb(port, alive=session.alive)
    line = line_of(JAVA, 'fields.put("text", text)')
    debugger.tell(f"stop at App:{line}")
    debugger.wait_for("Deferring|Set breakpoint")
    debugger.tell("cont")
    session.wait_for(LISTENING)
    text = f"java in {mode}"
    asked = Asked(scene, text)
    debugger.wait_for(rf"Breakpoint hit: .* App\.say\(\), line={line}")
    debugger.tell("locals")
    debugger.wait_for(f'text = "{text}"')
    debugger.tell("cont")
    check_held_answer(scene, asked, text, mode, "java", "python")
    debugger.close()
    return session


def static_program(scene: Scene, program: str):
    """A static program, which nothing can be preloaded into: env, file, name, outgoing connection, stolen port."""
    session = scene.exec(places.sample(program), "--steal")
    session.wait_for(LISTENING)
    scene.wait_until_taken(session)
    scene.check(scene.say("static"), "static", program, local=True)
    outgoing(scene)
    return session


def outgoing(scene: Scene):
    """Has the local program call something that only the pod reaches, and which tells whose address it saw."""
    got = scene.get("/call?url=" + quote(scene.outgoing, safe=""))
    body = json.loads(got["body"])
    if "client" in body:
        equal(body["client"], scene.outgoing_from, "the caller's address")
    else:
        equal(body, {"ok": True})


def two_targets(first: Scene, second: Scene):
    """Two sessions at once: the local program of each reaches the other's through the other's own address."""
    sessions = [first.exec(places.sample("go"), "--steal"), second.exec(places.sample("python"), "--steal")]
    for scene, session in zip((first, second), sessions):
        session.wait_for(LISTENING)
        scene.wait_until_taken(session)
    for scene, other, program in ((first, second, "python"), (second, first, "go")):
        got = scene.get("/call?url=" + quote(f"http://{other.address}/say?text=across", safe=""))
        assert "body" in got, got
        other.check(json.loads(got["body"]), "across", program, local=True)
    for session in sessions:
        session.terminate()
        session.wait()
    for scene in (first, second):
        scene.wait_until_released()
        scene.own_answer()


def only_with_header(scene: Scene):
    """A steal with a header leaves every other request to the pod, on one connection as well."""
    feature = {"network": {"incoming": {"mode": "steal", "http_filter": {"header_filter": "^x-user: me$", "ports": [scene.port]}}}}
    session = scene.exec(places.sample("go"), feature=feature)
    session.wait_for(LISTENING)
    ours = {"X-User": "me"}

    def taken():
        assert session.alive(), session.printed()
        return scene.say("mine", headers=ours)["pid"] != 1

    eventually(taken, "requests with the header reach the local program")
    for headers in ({}, {"X-User": "you"}, {"X-Other": "me"}):
        scene.check(scene.say("theirs", headers=headers), "theirs", "python", local=False)
    scene.check(scene.say("mine", headers=ours), "mine", "go", local=True)
    return session


def mounted_files(scene: Scene):
    """The ConfigMap's and the Secret's files, read by a program that opens them and lists their folders."""
    session = scene.exec(["cat", "/etc/sample/banner.txt", "/var/run/secrets/sample/token"])
    equal(session.wait(), 0, session.printed())
    equal(session.stdout, f"{scene.banner}\n{scene.secret}")
    session = scene.exec(["ls", "/etc/sample"])
    equal((session.wait(), session.stdout.split()), (0, ["banner.txt"]), session.stderr)


FOLDERS = """
import os
folder = os.open("/etc/sample", os.O_RDONLY)
file = os.open("banner.txt", os.O_RDONLY, dir_fd=folder)
same = os.fstat(file) == os.stat("banner.txt", dir_fd=folder) == os.stat("/etc/sample/banner.txt")
names = [sorted(name for name in os.listdir(where) if name[0] != ".") for where in ("/etc/sample", folder)]
again = open(os.readlink(f"/proc/self/fd/{folder}") + "/banner.txt").read().strip()
print(*names, os.read(file, 100).decode().strip(), same, again)
"""


def open_folders(scene: Scene):
    """A folder by path and by descriptor, a file by its folder's descriptor and by what /proc says that is."""
    session = scene.exec([places.venv_python(), "-c", FOLDERS])
    wanted = f"['banner.txt'] ['banner.txt'] {scene.banner} True {scene.banner}\n"
    equal((session.wait(), session.stdout), (0, wanted), session.printed())
    return session


def keep_alive_survives(scene: Scene, mode: str):
    """A connection opened before the session is used all through it, and goes on to the pod itself."""
    connection = scene.keep_alive()
    scene.check(connection.ask("before"), "before", "python", local=False)
    session = scene.exec(places.sample("go"), f"--{mode}")
    session.wait_for(LISTENING)
    for number in range(20):
        scene.check(connection.ask(f"during {number}"), f"during {number}", "python", local=False)
    if mode == "steal":
        scene.wait_until_taken(session)
        scene.check(connection.ask("taken"), "taken", "python", local=False)
    session.terminate()
    session.wait()
    scene.wait_until_released()
    scene.check(connection.ask("after"), "after", "python", local=False)
    connection.close()


def sidecar_is_answered(scene: Scene):
    """A caller in the same pod, on 127.0.0.1, reaches the local program as others do."""
    scene.check(scene.from_sidecar("before"), "before", "python", local=False)
    session = scene.exec(places.sample("go"), "--steal")
    session.wait_for(LISTENING)
    scene.wait_until_taken(session)
    scene.check(scene.from_sidecar("beside"), "beside", "go", local=True)
    session.terminate()
    session.wait()
    scene.wait_until_released()
    scene.check(scene.from_sidecar("after"), "after", "python", local=False)


def exit_code_and_signals(scene: Scene):
    """The exit code is the program's own, and a signal to exec is the program's."""
    session = scene.exec(["sh", "-c", "exit 7"])
    equal(session.wait(), 7, session.printed())
    session = scene.exec(["sh", "-c", "trap 'echo caught; exit 3' TERM; echo waiting; while :; do sleep 0.1; done"])
    session.wait_for("waiting")
    session.terminate()
    equal((session.wait(), "caught" in session.stdout), (3, True), session.printed())
    session = scene.exec(["sh", "-c", "kill -KILL $$"])
    equal(session.wait(), -signal.SIGKILL, session.printed())


def ends_cleanly(scene: Scene, session, program="python"):
    """After the program the pod answers itself, and after `stop --all` nothing is left."""
    if session.alive():
        session.terminate()
        session.wait()
    scene.wait_until_released()
    scene.own_answer(program=program)
    scene.check_nothing_left()


def processes_named(scene: Scene, part: str) -> list[int]:
    return [pid for pid, command in scene.laptop.processes() if part in command and pid != os.getpid()]
