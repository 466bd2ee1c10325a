"""A window that is reloaded, without an editor: the adapter's client leaves as VS Code does then, and comes back.

VS Code says `disconnect` without `terminateDebuggee`, waits for nothing, closes the adapter's connection, ends the
process that it has started for it, and its terminals. The next window launches the same patched configuration.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from test_adapters import C, GO, INTEGRATED, INTERNAL, PYTHON, Editor, Row, Run, debugging, scripts, stops_and_answers, window

from harness import main_job
from harness.dap import line_of
from harness.local_pod import made_up
from harness.scene import Asked
from harness.testing import alive, equal, eventually, limit
from harness.wire import Wire

LEASE = 30  # seconds


def holders(scene) -> list[str]:
    return [command for _, command in scene.laptop.processes() if "adapter-holder" in command]


def leaves(run: Run, editor: Editor, word=True):
    """The window is gone: first its debugger, then its terminals, then its connection to the daemon."""
    if word:
        run.debugger.send("disconnect", {"restart": False})
    run.debugger.close()
    for process in run.processes():
        process.send_signal(signal.SIGHUP if process is not run.adapter else signal.SIGTERM)
    for process in run.processes():
        process.wait(10)
    editor.wire.drop()


def waits(scene, plan: str) -> bool:
    return (scene.laptop.state / "plans" / plan / "adapter.waiting").exists()


def attached(editor: Editor, session: str):
    """The next window of the same editor follows the session."""
    again = Editor(editor.laptop)
    again.wire.request("session/attach", {"session": session, "fromSeq": 0})
    return again


def back(row: Row, scene, folder, launch) -> Run:
    """The next window's debugger, up to where it is told how things stand."""
    run = row.start(scene, launch)
    try:
        run.capabilities = run.debugger.request("initialize", {
            "adapterID": launch["type"], "clientID": "vscode", "pathFormat": "path", "linesStartAt1": True, "columnsStartAt1": True,
            "supportsRunInTerminalRequest": True, "supportsVariableType": True})
        begun = run.debugger.send("launch", launch)
        file = folder / row.files[0].name
        assert run.debugger.configure(begun, str(file), [line_of(file, row.mark)], 30)
    except BaseException as error:
        error.add_note(run.output()[-4000:])
        run.kill()
        raise
    return run


def stands(row: Row, run: Run) -> tuple:
    """Where the program stands, and what is seen there."""
    body = run.debugger.event("stopped", 30)
    frames = run.debugger.request("stackTrace", {"threadId": body["threadId"], "levels": 20})["stackFrames"]
    seen = {expression: run.debugger.request("evaluate", {"expression": expression, "frameId": frames[0]["id"], "context": "watch"})["result"]
            for expression in row.shows}
    return body["threadId"], body["reason"], [(frame["name"], frame["line"]) for frame in frames], seen


def reloaded(row: Row, word=True, **console):
    with window(row) as (scene, folder, editor):
        plan, launch = editor.ready(row.launch(folder, scene, **console))
        text = made_up("across")
        with debugging(row, scene, folder, launch) as run:
            session = editor.stolen()["session"]
            pid = stops_and_answers(row, scene, run, made_up("before"))
            told = None if row is GO else run.debugger.process()
            asked = Asked(scene, text)
            before = stands(row, run)
            leaves(run, editor, word)
        eventually(lambda: waits(scene, plan), "the adapter waits for a client", 10)
        time.sleep(4)  # as long as the daemon's lease for a session without a host, and a debugger's patience
        assert alive(pid), "the program did not outlive its window"
        editor = attached(editor, session)
        run = back(row, scene, folder, launch)
        try:
            equal(stands(row, run), before, "the stop")
            assert not waits(scene, plan), "a client is there, and another one is waited for"
            if row is not GO:
                equal(run.debugger.process(), told, "the process that the adapter tells")
            if console.get("console", INTERNAL) != INTERNAL:
                if row is not GO:
                    run.opens_terminal(scene, launch)
                equal(len(run.terminals), 1)
                eventually(lambda: main_job.LISTENING in run.output(), f"the terminal shows what was in it: {run.output()}", 10)
            run.debugger.proceed(before[0])
            got = asked.answer()
            scene.check(got, text, row.program, local=True)
            equal(got["pid"], pid, "the process that answered")
            # It is the same debugger in every respect: it stops again, and Stop ends everything.
            again = Asked(scene, made_up("after"))
            thread = run.debugger.event("stopped", 30)["threadId"]
            run.debugger.proceed(thread)
            equal(again.answer()["pid"], pid)
            run.end()
        except BaseException as error:
            error.add_note(run.output()[-4000:])
            run.kill()
            raise
        eventually(lambda: not alive(pid), "the program has ended", 10)
        eventually(lambda: not holders(scene), "nobody holds an adapter", 15)
        editor.forgets(plan)
        editor.wire.close()


@limit(120)
def test_python_stands_at_its_breakpoint_after_a_reload():
    reloaded(PYTHON, console=INTERNAL)


@limit(120)
def test_python_in_the_editors_terminal_stands_at_its_breakpoint_after_a_reload():
    reloaded(PYTHON, console=INTEGRATED)


@limit(180)
def test_go_stands_at_its_breakpoint_after_a_reload():
    reloaded(GO, console=INTERNAL)


@limit(180)
def test_go_in_the_editors_terminal_stands_at_its_breakpoint_after_a_reload():
    reloaded(GO, console=INTEGRATED)


@limit(120)
def test_c_stands_at_its_breakpoint_after_a_reload():
    reloaded(C)


@limit(120)
def test_c_in_the_editors_terminal_stands_at_its_breakpoint_after_a_reload():
    reloaded(C, console=INTEGRATED)


@limit(120)
def test_an_editor_that_is_killed_may_come_back_too():
    reloaded(C, word=False)


def abandoned(row: Row, **console):
    """Nobody comes back a second time: after a lease of its own the debugger ends its program, and all is gone."""
    with window(row) as (scene, folder, editor):
        plan, launch = editor.ready(row.launch(folder, scene, **console))
        with debugging(row, scene, folder, launch) as run:
            session = editor.stolen()["session"]
            pid = stops_and_answers(row, scene, run, made_up("before"))
            leaves(run, editor)
        eventually(lambda: waits(scene, plan), "the adapter waits for a client", 10)
        editor = attached(editor, session)
        run = back(row, scene, folder, launch)
        time.sleep(8)  # what is left of the first lease is less than the second one
        left_at = time.monotonic()
        leaves(run, editor)
        watching = Wire(scene.laptop.json("serve", "--ensure")["socket"])
        time.sleep(LEASE - 5)
        assert alive(pid) and holders(scene) and scripts(scene.laptop) == [plan], "the lease was cut short"
        eventually(lambda: not alive(pid) and not holders(scene), "the lease is over", 30)
        assert time.monotonic() - left_at < LEASE + 15, "the end took long"
        eventually(lambda: not watching.request("session/list", {})["sessions"], "the session has ended", 15)
        eventually(lambda: scripts(scene.laptop) == [], "the plan's folder is gone", 15)
        watching.close()


@limit(150)
def test_what_nobody_comes_back_to_ends_after_the_lease():
    # Side by side, as each waits the lease out.
    with ThreadPoolExecutor(3) as windows:
        abandonings = [windows.submit(abandoned, PYTHON, console=INTEGRATED), windows.submit(abandoned, GO, console=INTERNAL), windows.submit(abandoned, C)]
    for abandoning in abandonings:
        abandoning.result()


@limit(120)
def test_a_session_that_is_stopped_while_no_window_is_there_leaves_no_debugger():
    with window(PYTHON) as (scene, folder, editor):
        _, launch = editor.ready(PYTHON.launch(folder, scene, console=INTERNAL))
        with debugging(PYTHON, scene, folder, launch) as run:
            session = editor.stolen()["session"]
            pid = stops_and_answers(PYTHON, scene, run, made_up("before"))
            leaves(run, editor)
        equal(scene.laptop.run("stop", session).returncode, 0)
        eventually(lambda: not alive(pid) and not holders(scene), "program and debugger have ended", 15)
        eventually(lambda: scripts(scene.laptop) == [], "the plan's folder is gone", 15)


@limit(120)
def test_a_debugger_whose_holder_is_killed_says_so_and_leaves_nothing():
    with window(C) as (scene, folder, editor):
        plan, launch = editor.ready(C.launch(folder, scene))
        with debugging(C, scene, folder, launch) as run:
            editor.stolen()
            pid = stops_and_answers(C, scene, run, made_up("before"))
            holder = next(number for number, command in scene.laptop.processes() if "adapter-holder" in command)
            os.kill(holder, signal.SIGKILL)
            equal(run.adapter.wait(10), 70)
            eventually(lambda: "was killed" in run.output(), "the user is told", 5)
            eventually(lambda: not alive(pid), "the program ends with its debugger", 15)
        editor.forgets(plan)


@limit(120)
def test_who_stops_the_debugger_before_the_program_runs_leaves_nothing():
    with window(PYTHON) as (scene, folder, editor):
        plan, launch = editor.ready(PYTHON.launch(folder, scene, console=INTERNAL))
        run = PYTHON.start(scene, launch)
        run.debugger.initialize()
        run.debugger.send("launch", launch)
        run.debugger.event("initialized", 30)
        run.debugger.close()
        run.adapter.wait(10)
        eventually(lambda: not holders(scene), "nobody holds an adapter", 20)
        editor.forgets(plan)


@limit(180)
def test_a_restart_of_the_plan_never_joins_the_run_before():
    with window(PYTHON) as (scene, folder, editor):
        plan, launch = editor.ready(PYTHON.launch(folder, scene, console=INTERNAL))
        with debugging(PYTHON, scene, folder, launch) as run:
            editor.stolen()
            first = stops_and_answers(PYTHON, scene, run, made_up("first"))
            # As the toolbar's restart: the next adapter starts as soon as the last one has answered.
            run.debugger.request("terminate", {"restart": True})
            run.debugger.event("terminated")
            run.debugger.request("disconnect", {"restart": True, "terminateDebuggee": False})
            run.debugger.close()
        with debugging(PYTHON, scene, folder, launch) as run:
            eventually(lambda: not alive(first), "the first program has ended", 10)
            eventually(lambda: len(editor.sessions()) == 1, "one session is left", 20)
            editor.stolen()
            assert stops_and_answers(PYTHON, scene, run, made_up("second")) != first
            run.end()
        editor.forgets(plan)
