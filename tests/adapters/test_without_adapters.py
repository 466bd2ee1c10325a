"""Rows of the table whose adapters are not to be had here: what those would start is started, and told what they would tell."""

import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

from harness import main_job, places
from harness.dap import free_port, line_of
from harness.local_pod import made_up
from harness.scene import Asked, LocalScene
from harness.testing import Skip, contains, equal, eventually, limit
from test_adapters import Editor, environment, started


class Talk:
    """A debugger of the command line, at its pipes."""

    def __init__(self, words, scene, cwd):
        self.text = ""
        self.process = started(words, scene, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while part := self.process.stdout.read1(4096):
            self.text += part.decode(errors="replace")

    def tell(self, *lines: str):
        for line in lines:
            self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, pattern: str, seconds=30.0) -> re.Match:
        """Waits for the pattern; what stands before it is forgotten."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end and self.process.poll() is None, f"{pattern!r} is not in:\n{self.text}"
            time.sleep(0.02)
        self.text = self.text[found.end():]
        return found


@contextmanager
def ready(debug: dict, files: list[str], *needed: str):
    """A pod, a folder with the files, and the configuration that VS Code would launch; nothing is left afterwards."""
    for program in needed:
        if not shutil.which(program):
            raise Skip(f"no {program} here")
    with LocalScene() as scene:
        folder = scene.laptop.folder / "project"
        folder.mkdir()
        for file in files:
            shutil.copy(places.EXAMPLES / file, folder)
        editor = Editor(scene.laptop)
        steal = {"target": scene.target, "feature": {"network": {"incoming": "steal"}}}
        try:
            plan, launch = editor.ready({"request": "launch", "name": "app", "cwd": str(folder), "mirrord": steal} | debug)
            yield scene, folder, editor, launch
            editor.forgets(plan)
        except BaseException as error:
            editor.wire.drop()
            error.add_note(scene.laptop.logs()[-6000:])
            raise
        editor.wire.close()
        scene.wait_until_released()
        scene.check_nothing_left()


@limit(120)
def test_gdb_as_cppdbg_starts_it_stops_by_a_request_of_the_pod():
    with ready({"type": "cppdbg", "MIMode": "gdb", "program": "app"}, ["c/app.c"], "gdb", "gcc") as (scene, folder, editor, launch):
        subprocess.run(["gcc", "-g", "-O0", "-o", "app", "app.c"], cwd=folder, check=True)
        debugger = Talk([launch["miDebuggerPath"], "--interpreter=mi"], scene, folder)
        line = line_of(folder / "app.c", "gethostname(host")
        debugger.wait_for(r"\(gdb\)")
        own = made_up("own")
        debugger.tell("-gdb-set mi-async on", f"-file-exec-and-symbols {folder}/app", f'-interpreter-exec console "set env OWN_VALUE={own}"',
                      f"-break-insert app.c:{line}", "-exec-run")
        editor.stolen()
        text = made_up("text")
        asked = Asked(scene, text)
        debugger.wait_for('stopped,reason="breakpoint-hit"')
        debugger.tell("-data-evaluate-expression text")
        debugger.wait_for(re.escape(text))
        debugger.tell("-exec-continue")
        got = asked.answer()
        scene.check(got, text, "c", local=True)
        values = environment(got["pid"])
        equal((values.get("SAMPLE_GREETING"), values.get("OWN_VALUE")), (scene.greeting, own))
        programs = editor.programs()
        assert str(folder / "app") in programs["covered"], programs
        assert any("gdb" in path for what, paths in programs.items() if what != "covered" for path in paths), programs
        debugger.tell("-gdb-exit")
        debugger.process.wait(10)


@limit(120)
def test_java_as_its_extension_starts_it_stops_by_a_request_of_the_pod():
    with ready({"type": "java", "mainClass": "App"}, ["java/App.java"], "java", "javac", "jdb") as (scene, folder, editor, launch):
        # The adapter listens, and the program dials out to it.
        port = free_port()
        debugger = Talk(["jdb", "-listen", str(port)], scene, folder)
        debugger.wait_for("Listening at address")
        agent = f"-agentlib:jdwp=transport=dt_socket,server=n,suspend=y,address=localhost:{port}"
        program = Talk([launch["javaExec"], agent, "-cp", places.cache() / "java", "App"], scene, folder)
        line = line_of(folder / "App.java", 'fields.put("text", text)')
        debugger.wait_for("VM Started")
        debugger.tell(f"stop at App:{line}")
        debugger.wait_for("Deferring|Set breakpoint")
        debugger.tell("cont")
        program.wait_for(main_job.LISTENING)
        editor.stolen()
        text = made_up("text")
        asked = Asked(scene, text)
        debugger.wait_for(rf"Breakpoint hit: .*App\.say\(\), line={line}")
        debugger.tell("locals")
        debugger.wait_for(f'text = "{text}"')
        debugger.tell("cont")
        scene.check(asked.answer(), text, "java", local=True)
        # As the stop button of a program that the adapter launched.
        program.process.terminate()
        program.process.wait(20)
        debugger.process.wait(10)


# Each debug type that starts programs, with the field by which it does.
TYPES = {"node": "runtimeExecutable", "pwa-node": "runtimeExecutable", "node-terminal": "command", "debugpy": "python", "python": "python",
         "go": "dlvToolPath", "lldb-dap": "debugAdapterExecutable", "cppdbg": "miDebuggerPath", "java": "javaExec", "coreclr": "pipeTransport"}


@limit(60)
def test_a_program_that_is_not_started_by_the_plan_is_an_error_with_reason_and_fix_for_every_type():
    with LocalScene() as scene:
        editor = Editor(scene.laptop)
        plans = {}
        # A shell of the user's may take its time, so nothing is told of that yet.
        for kind in ("mirrord-terminal", *TYPES):
            debugger = {"pipeTransport": {"debuggerPath": "/opt/vsdbg"}} if kind == "coreclr" else {}
            plan, _ = editor.ready({"type": kind, "request": "launch", "name": kind, "mirrord": {"target": scene.target}} | debugger)
            plans[plan] = kind

        def told():
            found = {}
            for notice in list(editor.wire.notices):
                params = notice["params"]
                happened = params.get("event", {}).get("happened") or {} if notice["method"] == "session/event" else {}
                if happened.get("code") == "not-covered":
                    found[plans[params["plan"]]] = happened["message"]
            return found if set(TYPES) <= set(found) else None

        messages = eventually(told, "every type's session is told of", 20)
        equal(set(messages), set(TYPES), "who is told of")
        for kind, message in messages.items():
            contains(message, "within 5 s", kind)
            contains(message, TYPES[kind], kind)
            contains(message, "mirrord-ide exec", kind)
        for plan in plans:
            editor.wire.request("session/forget", {"plan": plan})
        editor.wire.close()
        scene.check_nothing_left()
