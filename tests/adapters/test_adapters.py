"""F5 without an editor: each debug adapter that is to be had here, in each console it knows.

The test is VS Code, its debugger's extension and ours at once: it plans, starts, merges the patch into the launch
configuration, starts the adapter as the debugger's extension would, and answers what the adapter asks of a terminal.
"""

import fcntl
import json
import os
import pty
import shutil
import socket
import subprocess
import termios
import threading
from contextlib import contextmanager
from pathlib import Path

from harness import main_job, places
from harness.code_server import cached
from harness.dap import Dap, free_port, line_of
from harness.laptop import Laptop
from harness.local_pod import made_up
from harness.scene import Asked, LocalScene
from harness.setup_editors import LLDB
from harness.testing import Skip, contains, equal, eventually, limit
from harness.wire import Refused, Wire

DLV, LLDB_DAP = places.cache() / "bin/dlv", Path(f"/usr/bin/lldb-dap-{LLDB}")
INTERNAL, INTEGRATED, EXTERNAL = "internalConsole", "integratedTerminal", "externalTerminal"
# By which a Go debug build finds what setup has built already, and asks nobody else.
GO_ENV = {"GOCACHE": str(cached("go-build")), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}


def merged(target, patch):
    """RFC 7396, as the extension's merge.ts."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = merged(kept.get(name), value)
    return kept


def started(words, scene, descriptors=(), env=None, cwd=None, **streams):
    """A process of the editor's; its parent's signals are not its own."""
    return subprocess.Popen([str(word) for word in words], env=scene.laptop.env | GO_ENV | (env or {}), cwd=cwd or scene.laptop.folder,
                            pass_fds=descriptors, start_new_session=True, **streams, **scene.laptop.user)


class Shown:
    """What stands in a console, whatever wrote it there."""

    def __init__(self):
        self.text = ""

    def follow(self, descriptor: int):
        def read():
            try:
                while part := os.read(descriptor, 65536):
                    self.text += part.decode(errors="replace")
            except OSError:
                pass  # a terminal whose last program has gone
            os.close(descriptor)

        threading.Thread(target=read, daemon=True).start()


class Terminal(Shown):
    """The editor's terminal: those very words on a terminal of their own, no shell between."""

    def __init__(self, scene, arguments: dict):
        super().__init__()
        master, slave = pty.openpty()
        given = arguments.get("env") or {}
        env = {name: str(value) for name, value in given.items() if value is not None}
        words = ["env", *(word for name, value in given.items() if value is None for word in ("-u", name)), *arguments["args"]]
        self.process = started(words, scene, env=env, cwd=arguments.get("cwd"), stdin=slave, stdout=slave, stderr=slave,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.follow(master)


class Run:
    """One debug session of a launch configuration: the adapter, and where its program's output is shown."""

    def __init__(self, debugger: Dap, adapter: subprocess.Popen | None, console: Shown):
        self.debugger, self.adapter, self.console, self.terminals = debugger, adapter, console, []

    def output(self) -> str:
        if self.terminals:
            return "".join(terminal.text for terminal in self.terminals)
        return self.console.text + "".join(event["body"]["output"] for event in self.debugger.seen if event["event"] == "output")

    def processes(self) -> list[subprocess.Popen]:
        return [process for process in (self.adapter, *(terminal.process for terminal in self.terminals)) if process]

    def opens_terminal(self, scene, launch):
        """Answers what the adapter asks of a terminal, if this configuration is one that has it ask."""
        if launch.get("console", INTERNAL) != INTERNAL or launch.get("runInTerminal"):
            asked = self.debugger.asked_for("runInTerminal", 30)
            equal(asked["arguments"]["kind"], "external" if launch.get("console") == EXTERNAL else "integrated")
            self.terminals.append(Terminal(scene, asked["arguments"]))
            self.debugger.reply(asked, {"shellProcessId": self.terminals[-1].process.pid})

    def end(self):
        """As the stop button: `terminate` where the adapter knows it, then `disconnect`, then the adapter's process."""
        if self.capabilities.get("supportsTerminateRequest"):
            self.debugger.request("terminate", {"restart": False})
            self.debugger.event("terminated")
        try:
            self.debugger.request("disconnect", {"restart": False, "terminateDebuggee": True})
        finally:
            self.debugger.close()
        if self.adapter and self.adapter.poll() is None:
            self.adapter.terminate()
        for process in self.processes():
            process.wait(10)

    def kill(self):
        for process in self.processes():
            if process.poll() is None:
                process.kill()
                process.wait()


def over_stdio(words, scene) -> Run:
    """An adapter that VS Code starts itself, as a DebugAdapterExecutable."""
    ours, its = socket.socketpair()
    with its:
        console = Shown()
        errors, writer = os.pipe()
        adapter = started(words, scene, stdin=its, stdout=its, stderr=writer)
    os.close(writer)
    console.follow(errors)
    return Run(Dap(ours), adapter, console)


def debugpy(scene, launch) -> Run:
    """Python's extension starts the adapter by the interpreter it knows, not by what `python` says."""
    return over_stdio([places.venv_python(), launch["debugAdapterPath"]], scene)


def lldb(scene, launch) -> Run:
    return over_stdio([launch["debugAdapterExecutable"]], scene)


def dlv(scene, launch) -> Run:
    """Go's extension answers for the consoles itself: dlv listens and logs to descriptor 3, or dials out of a terminal."""
    console = launch.get("console", INTERNAL)
    if console != INTERNAL:
        with socket.create_server(("127.0.0.1", 0)) as waiting:
            waiting.settimeout(30)
            words = [launch["dlvToolPath"], "dap", f"--client-addr=:{waiting.getsockname()[1]}"]
            terminal = Terminal(scene, {"args": words, "env": launch.get("env"), "cwd": launch["cwd"]})
            try:
                run = Run(Dap(waiting.accept()[0]), None, terminal)
            except BaseException:
                terminal.process.kill()
                raise AssertionError(f"dlv did not dial: {terminal.text}") from None
        run.terminals.append(terminal)
        return run
    shown, port = Shown(), free_port()
    (reader, writer), (log, log_writer) = os.pipe(), os.pipe()
    # The shell gives the log its number, as Node's spawn does; sh itself may not know numbers of two digits.
    words = ["bash", "-c", f'exec "$0" "$@" 3>&{log_writer} {log_writer}>&-', launch["dlvToolPath"], "dap", f"--listen=127.0.0.1:{port}", "--log-dest=3"]
    adapter = started(words, scene, [log_writer], env=launch.get("env"), cwd=launch["cwd"], stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    for descriptor in (writer, log_writer):
        os.close(descriptor)
    shown.follow(reader)
    shown.follow(log)
    try:
        eventually(lambda: adapter.poll() is not None or "DAP server listening at:" in shown.text, "dlv tells that it listens", 30)
        return Run(Dap.dial(port, alive=lambda: adapter.poll() is None), adapter, shown)
    except BaseException:
        adapter.kill()
        raise AssertionError(f"dlv does not listen: {shown.text}") from None


class Row:
    """One debug type: its launch configuration, how its adapter starts, its program, and what is seen at the stop."""

    def __init__(self, start, program: str, files: list[str], mark: str, configuration: dict, shows: dict[str, str], prepare=None, needs: Path | None = None):
        self.start, self.program, self.mark, self.configuration, self.shows, self.prepare, self.needs = start, program, mark, configuration, shows, prepare, needs
        self.files = [places.EXAMPLES / program / file for file in files]

    def own_env(self, name: str, value: str):
        """A variable as this debug type writes them: lldb-dap before 20 reads no map."""
        return [f"{name}={value}"] if self.start is lldb else {name: value}

    def folder(self, scene) -> Path:
        """The developer's folder, made anew: nothing in it was ever built."""
        if self.needs and not self.needs.exists():
            raise Skip(f"no {self.needs} here: tests/setup adapters")
        folder = scene.laptop.folder / "project"
        folder.mkdir()
        for file in self.files:
            shutil.copy(file, folder)
        if self.prepare:
            subprocess.run(self.prepare, cwd=folder, check=True, timeout=60)
        return folder

    def launch(self, folder: Path, scene, **more) -> dict:
        """What VS Code hands over, its variables substituted."""
        given = json.loads(json.dumps(self.configuration).replace("${workspaceFolder}", str(folder)))
        steal = {"target": scene.target, "feature": {"network": {"incoming": "steal"}}}
        return {"request": "launch", "name": self.program, "cwd": str(folder), "mirrord": steal} | given | more


PYTHON = Row(debugpy, "python", ["app.py"], "a breakpoint here",
             {"type": "debugpy", "program": "${workspaceFolder}/app.py", "python": str(places.venv_python()), "justMyCode": False,
              "debugAdapterPath": str(places.debugpy_adapter())},
             {"text": "text", "greeting": "greeting", "file": "file", "address": "address"})
GO = Row(dlv, "go", ["main.go", "go.mod"], '"text":     r.URL',
         {"type": "go", "mode": "debug", "program": "${workspaceFolder}", "dlvToolPath": str(DLV)},
         {"r.URL.RawQuery": "text", "hostname": "hostname"}, needs=DLV)
C = Row(lldb, "c", ["app.c"], "gethostname(host",
        {"type": "lldb-dap", "program": "${workspaceFolder}/app", "debugAdapterExecutable": str(LLDB_DAP)},
        {"text": "text", "file": "file", "(char *)greeting": "greeting"}, ["gcc", "-g", "-O0", "-o", "app", "app.c"], LLDB_DAP)


class Editor:
    """One window: its connection to the daemon."""

    def __init__(self, laptop: Laptop):
        self.laptop = laptop
        self.wire = Wire(laptop.json("serve", "--ensure")["socket"], editor=True)

    def plan(self, debug: dict, **more) -> dict:
        config = {"folder": str(self.laptop.folder), "env": self.laptop.env}
        mirrord = {"mirrord": debug["mirrord"]} if "mirrord" in debug else {}
        return self.wire.request("session/plan", {"config": config, "debug": debug, "editor": "vscode", "enabled": False} | mirrord | more)

    def ready(self, debug: dict) -> tuple[str, dict]:
        """Plans and has the session made ready; the plan's name and the configuration that is launched."""
        planned = self.plan(debug)
        equal(planned["action"], "run")
        self.wire.request("session/start", {"plan": planned["plan"], "events": True})
        return planned["plan"], merged(debug, planned["patch"])

    def sessions(self) -> list[dict]:
        return self.wire.request("session/list", {})["sessions"]

    def stolen(self, others=()) -> dict:
        """Waits until a session, the only one and none of the `others`, has the pod's port."""

        def one():
            found = self.sessions()
            fits = len(found) == 1 and found[0]["session"] not in others and found[0]["host"] and found[0]["host"]["ports"]
            return fits and found[0]

        return eventually(one, "the program has the pod's port", 60)

    def programs(self) -> dict[str, set[str]]:
        """The executables that ran under the filter, by what became of them."""
        found: dict[str, set[str]] = {}
        for notice in list(self.wire.notices):
            happened = notice["params"].get("event", {}).get("happened") or {} if notice["method"] == "session/event" else {}
            if happened.get("what") == "process":
                found.setdefault(happened["coverage"], set()).add(happened["executable"])
        return found

    def forgets(self, plan: str):
        """The debug session is over: no session, no script of the plan's."""
        eventually(lambda: not self.sessions(), "the session has ended", 20)
        self.wire.request("session/forget", {"plan": plan})
        equal(scripts(self.laptop), [])


def scripts(laptop) -> list[str]:
    plans = laptop.state / "plans"
    return sorted(path.name for path in plans.iterdir()) if plans.exists() else []


@contextmanager
def window(row: Row):
    """A pod, the developer's folder, and the window; once it is closed nothing is left of anything."""
    with LocalScene() as scene:
        folder = row.folder(scene)
        editor = Editor(scene.laptop)
        try:
            yield scene, folder, editor
        except BaseException as error:
            editor.wire.drop()
            error.add_note(scene.laptop.logs()[-6000:])
            raise
        editor.wire.close()
        scene.wait_until_released()
        scene.own_answer()
        scene.check_nothing_left()


@contextmanager
def debugging(row: Row, scene, folder, launch):
    """The adapter, with a breakpoint set and the program on its way."""
    run = row.start(scene, launch)
    try:
        run.capabilities = run.debugger.request("initialize", {
            "adapterID": launch["type"], "clientID": "vscode", "pathFormat": "path", "linesStartAt1": True, "columnsStartAt1": True,
            "supportsRunInTerminalRequest": True, "supportsVariableType": True})
        begun = run.debugger.send("launch", launch)
        if row is not GO:
            run.opens_terminal(scene, launch)
        file = folder / row.files[0].name
        assert run.debugger.configure(begun, str(file), [line_of(file, row.mark)], 90)
        yield run
    except BaseException as error:
        error.add_note(run.output()[-4000:])
        run.kill()
        raise


def stops_and_answers(row: Row, scene, run: Run, text: str) -> int:
    """A request to the pod stops at the breakpoint, is seen there, and is answered by the program; which process that is."""
    eventually(lambda: main_job.LISTENING in run.output(), f"the console shows what the program prints: {run.output()}", 20)
    asked = Asked(scene, text)
    thread, frames, _ = run.debugger.stop_at_breakpoint(30)
    wanted = scene.values(text)
    for expression, of in row.shows.items():
        seen = run.debugger.request("evaluate", {"expression": expression, "frameId": frames[0]["id"], "context": "watch"})["result"]
        contains(seen, wanted[of], expression)
    run.debugger.proceed(thread)
    got = asked.answer()
    scene.check(got, text, row.program, local=True)
    return got["pid"]


def environment(pid: int) -> dict[str, str]:
    """What a process was started with, as the kernel tells."""
    return dict(word.split("=", 1) for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in word)


def f5(row: Row, **console):
    """The whole of the main job in one cell of the table."""
    with window(row) as (scene, folder, editor):
        own = made_up("own")
        plan, launch = editor.ready(row.launch(folder, scene, env=row.own_env("OWN_VALUE", own), **console))
        with debugging(row, scene, folder, launch) as run:
            editor.stolen()
            pid = stops_and_answers(row, scene, run, made_up("text"))
            values = environment(pid)
            equal((values.get("SAMPLE_GREETING"), values.get("OWN_VALUE")), (scene.greeting, own))
            run.end()
        editor.forgets(plan)


@limit(120)
def test_python_in_the_debug_console():
    f5(PYTHON, console=INTERNAL)


@limit(120)
def test_python_in_the_editors_terminal():
    f5(PYTHON, console=INTEGRATED)


@limit(120)
def test_python_in_a_terminal_of_its_own():
    f5(PYTHON, console=EXTERNAL)


@limit(180)
def test_go_in_the_debug_console():
    f5(GO, console=INTERNAL)


@limit(180)
def test_go_in_the_editors_terminal():
    f5(GO, console=INTEGRATED)


@limit(180)
def test_go_in_a_terminal_of_its_own():
    f5(GO, console=EXTERNAL)


@limit(120)
def test_lldb_in_the_debug_console():
    f5(C)


@limit(120)
def test_lldb_in_the_editors_terminal():
    f5(C, console=INTEGRATED)


@limit(120)
def test_lldb_in_the_editors_terminal_by_the_older_word():
    f5(C, runInTerminal=True)


def restart(row: Row, scene, folder, run: Run, launch):
    """The adapter's own restart. One that says `initialized` again gets the breakpoints again."""
    def happened():
        return len(run.output().split(main_job.LISTENING)), sum(event["event"] == "initialized" for event in run.debugger.seen)

    runs, initialized = happened()
    begun = run.debugger.send("restart", {"arguments": launch})
    if row is not GO:
        run.opens_terminal(scene, launch)
    run.debugger.answer(begun, 60)
    eventually(lambda: happened() > (runs, initialized), "the restart begins", 30)
    if happened()[1] > initialized:
        file = folder / row.files[0].name
        run.debugger.request("setBreakpoints", {"source": {"path": str(file)}, "breakpoints": [{"line": line_of(file, row.mark)}]})
        run.debugger.request("configurationDone")
    eventually(lambda: happened()[0] > runs, "the program runs anew", 30)
    run.debugger.events.clear()  # the stop that dlv makes for the restart is nobody's breakpoint


def restarted(row: Row, times=2, **console):
    """The toolbar's restart by the adapter itself. What it starts under the plan anew has a session of its own."""
    with window(row) as (scene, folder, editor):
        plan, launch = editor.ready(row.launch(folder, scene, **console))
        pids, sessions = [], []
        with debugging(row, scene, folder, launch) as run:
            assert run.capabilities.get("supportsRestartRequest"), "this adapter has no restart of its own"
            # An adapter that is in the session stays there.
            anew = row is C and run.terminals
            for again in range(times + 1):
                if again:
                    restart(row, scene, folder, run, launch)
                sessions.append(editor.stolen(sessions if anew else ())["session"])
                pids.append(stops_and_answers(row, scene, run, made_up(f"start-{again}")))
            run.end()
        equal((len(set(pids)), len(pids)), (times + 1, times + 1), "processes that answered")
        equal(len(set(sessions)), times + 1 if anew else 1, "sessions")
        editor.forgets(plan)


def launched_again(row: Row, times=2, **console):
    """The same patched configuration once more, as VS Code restarts an adapter that cannot do it itself: each time
    another session by the same plan."""
    with window(row) as (scene, folder, editor):
        plan, launch = editor.ready(row.launch(folder, scene, **console))
        pids, sessions = [], []
        for number in range(times + 1):
            with debugging(row, scene, folder, launch) as run:
                sessions.append(editor.stolen(sessions)["session"])
                pids.append(stops_and_answers(row, scene, run, made_up(f"start-{number}")))
                run.end()
            eventually(lambda: not editor.sessions(), "the session has ended", 20)
        equal((len(set(pids)), len(set(sessions))), (times + 1, times + 1), "processes that answered, and sessions")
        editor.forgets(plan)


@limit(180)
def test_a_restart_of_python_runs_by_the_same_plan():
    launched_again(PYTHON, console=INTEGRATED)


@limit(240)
def test_a_restart_of_go_runs_by_the_same_plan():
    restarted(GO)


@limit(240)
def test_a_second_launch_of_go_runs_by_the_same_plan():
    launched_again(GO)


@limit(180)
def test_a_restart_by_lldb_itself_stays_in_the_session():
    restarted(C)


@limit(180)
def test_a_restart_by_lldb_in_a_terminal_runs_by_the_same_plan():
    restarted(C, console=INTEGRATED)


@limit(180)
def test_a_second_launch_of_lldb_runs_by_the_same_plan():
    launched_again(C)


@limit(180)
def test_a_second_launch_of_lldb_in_a_terminal_runs_by_the_same_plan():
    launched_again(C, console=INTEGRATED)


@limit(180)
def test_the_build_of_go_is_not_covered_and_its_program_is():
    with window(GO) as (scene, folder, editor):
        # Never built with this text, so that compiler and linker have something to do.
        with open(folder / "main.go", "a") as source:
            source.write(f"\n// {made_up('never built')}\n")
        plan, launch = editor.ready(GO.launch(folder, scene))
        with debugging(GO, scene, folder, launch) as run:
            editor.stolen()
            pid = stops_and_answers(GO, scene, run, made_up("text"))
            program = os.readlink(f"/proc/{pid}/exe")
            found = editor.programs()
            run.end()
        # What becomes the program is the product itself until then.
        covered = found.pop("covered") - {str(scene.laptop.binary)}
        skipped = {Path(path).name for paths in found.values() for path in paths}
        equal(covered, {program}, "covered")
        assert {"dlv", "go", "compile", "link"} <= skipped, f"skipped: {skipped}"
        editor.forgets(plan)


def refused(editor: Editor, debug: dict) -> dict:
    try:
        planned = editor.plan(debug)
    except Refused as error:
        equal(error.data["kind"], "unsupported-debug-type")
        assert error.data["help"], "no help"
        return {"message": error.message, "help": error.data["help"]}
    raise AssertionError(f"was planned: {planned}")


def test_an_attach_request_is_explained():
    with Laptop() as laptop:
        editor = Editor(laptop)
        debug = {"type": "debugpy", "request": "attach", "name": "a", "connect": {"port": 5678}}
        asked = refused(editor, debug | {"mirrord": {"target": "process/2147483000"}})
        contains(asked["message"], "attach")
        contains(asked["help"], "mirrord-ide exec")
        # Where only the toggle says so the program is attached to as ever, and the reason told.
        planned = editor.plan(debug, enabled=True)
        equal((planned["action"], planned.get("plan")), ("off", None))
        contains(planned["reason"], "attach")
        equal(scripts(laptop), [])
        editor.wire.close()


def test_a_debug_type_that_is_not_known_leaves_no_plan():
    with Laptop() as laptop:
        editor = Editor(laptop)
        target = {"mirrord": {"target": "process/2147483000"}}
        known = editor.plan(GO.configuration | target | {"request": "launch"})
        equal(scripts(laptop), [known["plan"]])  # else an empty folder below would say nothing
        contains(refused(editor, {"type": "php", "request": "launch", "program": "a.php"} | target)["message"], "php")
        equal(scripts(laptop), [known["plan"]])
        editor.wire.request("session/forget", {"plan": known["plan"]})
        equal(scripts(laptop), [])
        editor.wire.close()
