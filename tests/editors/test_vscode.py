"""F5 in a real VS Code on the test cluster: code-server, a browser, real debug adapters, requests from inside the cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import places
from harness.code_server import VERSION, CodeServer, Window
from harness.dap import free_port, line_of
from harness.scene import Asked, ClusterScene
from harness.testing import alive, contains, equal, eventually, limit

EXAMPLES = places.EXAMPLES
LLDB_DAP = "/usr/bin/lldb-dap-19"


class Program:
    """A sample program with its launch configuration, and the line at which it is to stop."""

    def __init__(self, name: str, files: list[str], mark: str, launch: dict, shows: dict[str, str] | None = None, prepare=None):
        self.name, self.files, self.mark, self.prepare = name, [EXAMPLES / file for file in files], mark, prepare
        self.launch = {"request": "launch", "name": name, "mirrord": {"feature": {"network": {"incoming": "steal"}}}} | launch
        self.line = line_of(self.files[0], mark)
        self.file = self.files[0].name
        self.shows = shows or {"text": "text", "greeting": "greeting", "file": "file", "address": "address"}

    def folder(self, server: CodeServer, name: str, config: dict | None = None, **launch) -> Path:
        """A folder with the program, its launch configuration, and a mirrord.json if there is one."""
        files = {file.name: file.read_text() for file in self.files}
        if config is not None:
            files[".mirrord/mirrord.json"] = json.dumps(config, indent=4)
            launch = {"mirrord": True} | launch
        made = server.workspace(name, files, {"configurations": [self.launch | launch]})
        if self.prepare:
            subprocess.run(self.prepare, cwd=made, check=True)
            server.own(made)
        return made


NODE = Program("node", ["node/app.js"], "return { text, greeting", {"type": "node", "program": "${workspaceFolder}/app.js"})
PYTHON = Program("python", ["python/app.py"], "a breakpoint here", {
    "type": "debugpy", "program": "${workspaceFolder}/app.py", "python": str(places.venv_python()), "console": "internalConsole"})
GO = Program("go", ["go/main.go", "go/go.mod"], '"text":     r.URL', {
    "type": "go", "mode": "debug", "program": "${workspaceFolder}", "cwd": "${workspaceFolder}", "dlvToolPath": str(places.cache() / "bin/dlv")}, {"r": ""})
C = Program("c", ["c/app.c"], "gethostname(host", {
    "type": "lldb-dap", "program": "${workspaceFolder}/app", "cwd": "${workspaceFolder}", "debugAdapterExecutable": LLDB_DAP},
    {"text": "text", "file": "file"}, prepare=["gcc", "-g", "-O0", "-o", "app", "app.c"])


@contextmanager
def scene_with_editor(**options):
    """The sample on the cluster and an editor beside it; when both are closed nothing is left of the product."""
    with ClusterScene(**options) as scene:
        try:
            with CodeServer(scene.laptop) as server:
                yield scene, server
            scene.check_nothing_left()
        except BaseException:
            print(f"--- extension\n{server.extension_log()[-4000:]}\n--- events", file=sys.stderr)
            for event in server.events()[-12:]:
                print(json.dumps(event)[:400], file=sys.stderr)
            print(scene.laptop.logs()[-6000:], file=sys.stderr)
            raise


def sessions(scene) -> list[dict]:
    return scene.laptop.json("status", "--json")["sessions"]


def wait_until_stolen(scene, count=1, seconds=90.0):
    """Waits until the programs of so many sessions have the pod's port."""

    def stolen():
        taken = [one for one in sessions(scene) if one["state"] == "running" and one["host"] and one["host"]["ports"]]
        return taken if len(taken) == count else None

    return eventually(stolen, f"{count} sessions have the pod's port", seconds)


def stop_by_request(scene, server, window, program: Program, text: str, name: str | None = None) -> Asked:
    """A request from inside the cluster stops at the breakpoint, and the variables view shows it."""
    before = server.stops()
    asked = Asked(scene, text)
    eventually(lambda: server.stops() > before, "an adapter says that the program stopped", 40)
    window.wait_for(".codicon-debug-stackframe")
    wanted = {"text": text, "greeting": scene.greeting, "file": scene.banner, "address": scene.name_address}

    def shown():
        variables = window.variables()
        return all(wanted.get(of, "") in variables.get(name, "-") for name, of in program.shows.items()) and variables

    eventually(shown, f"the variables view shows {program.shows}: {window.variables()}", 20)
    return asked


def f5_to_answer(program: Program):
    """The whole of the main job: F5, the picker, a stop by a request from the cluster, its variables, the local answer."""
    # A port that may be had here, so that nothing is to be warned of.
    with scene_with_editor(port=free_port()) as (scene, server):
        folder = program.folder(server, program.name)
        with Window(server, folder, program.name) as window:
            window.set_breakpoint(program.file, program.line)
            window.keep("breakpoint")
            window.press("F5")
            window.pick(scene.target, "picker")
            wait_until_stolen(scene)
            eventually(lambda: scene.target in window.status() and "running" in window.status(), "the status item tells", 10)
            window.keep("running")
            asked = stop_by_request(scene, server, window, program, f"hello {program.name}")
            window.keep("stopped")
            window.press("F5")
            scene.check(asked.answer() | ({"address": scene.name_address} if program is C else {}), f"hello {program.name}", program.name, local=True)
            eventually(lambda: re.search(r"running\W+[1-9]", window.status()), f"the status item counts: {window.status()}", 10)
            equal(window.warnings(), [], "what the status item warns of")
            window.keep("answered")
            window.press("Shift+F5")
            eventually(lambda: not window.debugging(), "debugging ends", 20)
            eventually(lambda: not window.status(), "the status item goes", 20)
            window.keep("ended")
            equal(window.toasts(), [])
            scene.wait_until_released()
            scene.own_answer()


@limit(240)
def test_f5_on_node_stops_at_the_breakpoint_by_a_request_of_the_cluster():
    f5_to_answer(NODE)


@limit(240)
def test_f5_on_python_stops_at_the_breakpoint_by_a_request_of_the_cluster():
    f5_to_answer(PYTHON)


@limit(300)
def test_f5_on_go_stops_at_the_breakpoint_by_a_request_of_the_cluster():
    f5_to_answer(GO)


@limit(240)
def test_f5_on_c_stops_at_the_breakpoint_by_a_request_of_the_cluster():
    f5_to_answer(C)


def steals(scene, **more) -> dict:
    return {"target": scene.target, "feature": {"network": {"incoming": "steal"}}} | more


def agents(scene) -> list[str]:
    return [agent["agent"] for agent in scene.laptop.json("status", "--json")["daemon"]["agents"]]


@limit(400)
def test_ten_restarts_in_a_row_keep_the_agent_and_stop_at_the_breakpoint():
    with scene_with_editor() as (scene, server), Window(server, NODE.folder(server, "restarts", mirrord=steals(scene)), "restarts") as window:
        window.set_breakpoint(NODE.file, NODE.line)
        window.press("F5")
        first = wait_until_stolen(scene)[0]
        kept = agents(scene)
        for number in range(1, 11):
            window.press("Control+Shift+F5")

            def restarted():
                now = sessions(scene)
                return len(now) == 1 and now[0]["session"] != first["session"] and now[0]["host"] and now[0]["host"]["ports"] and now[0]

            first = eventually(restarted, f"restart {number} has the port", 40)
            asked = stop_by_request(scene, server, window, NODE, f"restart {number}")
            window.press("F5")
            scene.check(asked.answer(), f"restart {number}", "node", local=True)
            equal(agents(scene), kept, f"the agents after restart {number}")
            eventually(lambda: scene.target in window.status() and "running" in window.status(), "the status item follows", 10)
        window.keep("after-ten")
        window.press("Shift+F5")
        eventually(lambda: not window.debugging() and not window.status(), "all has ended", 20)
        equal(window.toasts(), [])
        scene.wait_until_released()


WATCHER = """'use strict';
console.log('greeting of the second:', process.env.SAMPLE_GREETING);
setInterval(() => {}, 1000);
"""


@limit(240)
def test_a_compound_of_two_shares_one_pick_and_one_agent():
    with scene_with_editor() as (scene, server):
        second = {"type": "node", "request": "launch", "name": "second", "program": "${workspaceFolder}/second.js", "mirrord": True}
        folder = server.workspace("compound", {"app.js": NODE.files[0].read_text(), "second.js": WATCHER}, {
            "configurations": [NODE.launch, second], "compounds": [{"name": "both of them", "configurations": ["node", "second"], "stopAll": True}]})
        with Window(server, folder, "compound") as window:
            window.set_breakpoint(NODE.file, NODE.line)
            window.choose_launch("both of them")
            window.pick(scene.target, "one-picker")
            eventually(lambda: len([one for one in sessions(scene) if one["state"] == "running"]) == 2, "both run", 60)
            equal(window.run("return await page.locator('.quick-input-widget').isVisible()"), False, "a second picker")
            equal(len(agents(scene)), 1, "agents")
            said = f"greeting of the second: {scene.greeting}"
            eventually(lambda: said in json.dumps(server.events()), "the second has the pod's world too", 20)
            eventually(lambda: any(one["host"] and one["host"]["ports"] for one in sessions(scene)), "the first has the port", 20)
            asked = stop_by_request(scene, server, window, NODE, "hello both")
            window.keep("stopped")
            window.press("F5")
            scene.check(asked.answer(), "hello both", "node", local=True)
            window.press("Shift+F5")
            eventually(lambda: not sessions(scene), "both have ended", 30)
            eventually(lambda: not window.status(), "the status item goes", 20)


@limit(240)
def test_a_program_in_a_mirrord_terminal_outlives_a_reload_and_is_followed_again():
    with scene_with_editor() as (scene, server):
        with Window(server, NODE.folder(server, "terminal", steals(scene)), "terminal") as window:
            window.command("mirrord: New Terminal in a Pod's World")
            window.wait_for(".terminal-wrapper.active .xterm")
            eventually(lambda: [one for one in sessions(scene) if one["state"] == "running"], "the shell runs in a session", 30)
            window.click(".terminal-wrapper.active .xterm")
            window.type("echo $SAMPLE_GREETING > seen; node app.js")
            window.press("Enter")
            session = wait_until_stolen(scene)[0]
            equal((window.folder / "seen").read_text().strip(), scene.greeting)
            scene.check(scene.say("before"), "before", "node", local=True)
            window.keep("before")
            window.open()
            eventually(lambda: scene.target in window.status() and "running" in window.status(), "the status item is back", 30)
            window.keep("after")
            equal([one["session"] for one in sessions(scene)], [session["session"]])
            assert alive(session["host"]["debuggee_pid"]), "the shell did not outlive the reload"
            scene.check(scene.say("after"), "after", "node", local=True)
            window.command("mirrord: Sessions")
            window.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(scene.target)})")
            window.keep("sessions")
            window.run("await page.locator('.quick-input-list .monaco-list-row').first().hover()")
            window.run("await page.locator('.quick-input-list .monaco-list-row .codicon-debug-stop').first().click({timeout: 5000})")
            eventually(lambda: not sessions(scene), "the session is ended from the list", 20)
            window.press("Escape")
            eventually(lambda: not window.status(), "the status item goes", 20)
        scene.wait_until_released()


def reload(scene, server, window, pid: int):
    """Reloads the window; its debugger, its status item and the program are as before."""
    before, began = len(server.events()), time.monotonic()
    window.open()
    opened = time.monotonic()

    def attached():
        # A breakpoint is known to be set by the answer, or by an event soon after it.
        said = [event["message"] for event in server.events()[before:] if event["what"] == "from"]
        answers = [one["body"]["breakpoints"] for one in said if one.get("command") == "setBreakpoints" and one.get("success")]
        events = [[one["body"]["breakpoint"]] for one in said if one.get("event") == "breakpoint"]
        return any(one.get("verified") for some in answers + events for one in some)

    eventually(attached, "a debugger is attached again, with its breakpoints", 40)
    print(f"reload {opened - began:.1f} s, its debugger {time.monotonic() - opened:.1f} s after it", file=sys.stderr)
    eventually(window.debugging, "the toolbar is back", 20)
    eventually(lambda: scene.target in window.status() and "running" in window.status(), "the status item is back", 20)
    equal([one["host"]["debuggee_pid"] for one in sessions(scene)], [pid], "the program")


def answered(scene, window, program: Program, asked: Asked, text: str):
    window.press("F5")
    scene.check(asked.answer() | ({"address": scene.name_address} if program is C else {}), text, program.name, local=True)


def reload_mid_session(program: Program, name: str, holds_stop: bool, **launch):
    """A reload between two stops, one in the middle of a stop, and the end by Stop.

    `holds_stop`: whether the adapter outlives the window, and with it a stop at a breakpoint.
    """
    with scene_with_editor() as (scene, server), Window(server, program.folder(server, name, mirrord=steals(scene), **launch), name) as window:
        window.set_breakpoint(program.file, program.line)
        window.press("F5")
        pid = wait_until_stolen(scene)[0]["host"]["debuggee_pid"]
        answered(scene, window, program, stop_by_request(scene, server, window, program, "before"), "before")
        reload(scene, server, window, pid)
        window.keep("reloaded")
        answered(scene, window, program, stop_by_request(scene, server, window, program, "after"), "after")
        asked = stop_by_request(scene, server, window, program, "in the middle")
        reload(scene, server, window, pid)
        if holds_stop:
            window.wait_for(".codicon-debug-stackframe")
            window.press("F5")
        scene.check(asked.answer() | ({"address": scene.name_address} if program is C else {}), "in the middle", program.name, local=True)
        # The kubelet's probes are stolen too: a stop this long may take the pod out of its Service for a while.
        time.sleep(5)
        eventually(lambda: any(one.get("addresses") for one in scene.cluster.get("endpoints", scene.sample.label).get("subsets") or []), "the Service has its pod", 30)
        answered(scene, window, program, stop_by_request(scene, server, window, program, "at last"), "at last")
        window.keep("at-last")
        window.press("Shift+F5")
        eventually(lambda: not window.debugging() and not sessions(scene), "all has ended", 20)
        assert not alive(pid), "the program outlived its Stop"
        eventually(lambda: not window.status(), "the status item goes", 20)
        equal(window.toasts(), [])
        scene.wait_until_released()


@limit(300)
def test_a_reload_while_debugging_node_keeps_program_session_and_debugger():
    reload_mid_session(NODE, "reload", holds_stop=False)


@limit(300)
def test_a_reload_while_debugging_node_in_a_terminal_keeps_program_session_and_debugger():
    reload_mid_session(NODE, "reload-terminal", holds_stop=False, console="integratedTerminal")


@limit(300)
def test_a_reload_while_debugging_python_stands_where_it_stood():
    reload_mid_session(PYTHON, "reload-python", holds_stop=True)


@limit(240)
def test_a_restart_after_a_reload_runs_the_program_anew():
    with scene_with_editor() as (scene, server), Window(server, NODE.folder(server, "reload-restart", mirrord=steals(scene)), "reload-restart") as window:
        window.set_breakpoint(NODE.file, NODE.line)
        window.press("F5")
        first = wait_until_stolen(scene)[0]
        reload(scene, server, window, first["host"]["debuggee_pid"])
        window.press("Control+Shift+F5")

        def restarted():
            now = sessions(scene)
            return len(now) == 1 and now[0]["session"] != first["session"] and now[0]["host"] and now[0]["host"]["ports"] and now[0]

        second = eventually(restarted, "the program runs anew", 40)
        assert not alive(first["host"]["debuggee_pid"]), "the former program"
        answered(scene, window, NODE, stop_by_request(scene, server, window, NODE, "anew"), "anew")
        reload(scene, server, window, second["host"]["debuggee_pid"])
        answered(scene, window, NODE, stop_by_request(scene, server, window, NODE, "once more"), "once more")
        window.press("Shift+F5")
        eventually(lambda: not window.debugging() and not sessions(scene), "all has ended", 20)
        equal(window.toasts(), [])
        scene.wait_until_released()


@limit(240)
def test_two_windows_see_each_others_sessions_and_end_them():
    with scene_with_editor() as (scene, server):
        first, second = NODE.folder(server, "first", mirrord=steals(scene)), server.workspace("second", {"a.txt": ""})
        with Window(server, first, "first-window") as window, Window(server, second, "second-window") as other:
            window.press("F5")
            wait_until_stolen(scene)
            equal(other.status(), "", "what the other window shows of its own")
            other.command("mirrord: Sessions")
            row = f".quick-input-list .monaco-list-row:has-text({json.dumps(scene.target)})"
            other.wait_for(row)
            contains(" ".join(other.texts(row)), "not of this window")
            other.keep("sessions")
            other.run("await page.locator('.quick-input-list .monaco-list-row').first().hover()")
            other.run("await page.locator('.quick-input-list .monaco-list-row .codicon-debug-stop').first().click({timeout: 5000})")
            eventually(lambda: not sessions(scene), "the session is ended from the other window", 20)
            eventually(lambda: not window.debugging() and not window.status(), "the first window follows", 20)
            equal(window.toasts() + other.toasts(), [])
        scene.wait_until_released()


@limit(180)
def test_cancel_while_the_agent_starts_leaves_nothing():
    with scene_with_editor() as (scene, server):
        never_ready = {"image": "localhost/pause:1", "startup_timeout": 120}
        with Window(server, NODE.folder(server, "cancel", steals(scene, agent=never_ready)), "cancel") as window:
            window.press("F5")
            window.wait_for(".notification-toast .notification-list-item-message", 30)
            eventually(scene.sample.left_in_cluster, "the agent's Job is made", 30)
            window.keep("progress")
            window.run("await page.locator('.notification-toast').getByText('Cancel', {exact: true}).first().click()")
            eventually(lambda: not window.debugging() and not sessions(scene), "the run is taken back", 20)
            eventually(lambda: not scene.left_behind(0), "the cluster is clean", 30)
            window.keep("cancelled")
            equal(window.toasts(), [], "a cancelled run has nothing to say")


@limit(180)
def test_escape_in_the_picker_takes_the_run_back():
    with scene_with_editor() as (scene, server), Window(server, NODE.folder(server, "escape"), "escape") as window:
        window.press("F5")
        window.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(scene.target)})", 30)
        window.press("Escape")
        eventually(lambda: not window.run("return await page.locator('.quick-input-widget').isVisible()"), "the picker is closed")
        equal((window.debugging(), sessions(scene), window.toasts()), (False, [], []))
        equal([event for event in server.events() if event["what"] == "started"], [])


@limit(180)
def test_a_wrong_config_is_opened_at_its_place_with_one_toast():
    with scene_with_editor() as (scene, server):
        wrong = {"target": scene.target, "feature": {"network": {"incoming": "steel"}}}
        folder = NODE.folder(server, "wrong", wrong)
        with Window(server, folder, "wrong") as window:
            window.press("F5")
            window.wait_for(".tab.active:has-text('mirrord.json')", 30)
            toast = eventually(window.toasts, "a toast")
            window.keep("wrong-config")
            equal(len(toast), 1)
            contains(toast[0], "steel")
            lines = json.dumps(wrong, indent=4).splitlines()
            number = next(at for at, line in enumerate(lines, 1) if "steel" in line)
            eventually(lambda: any(f"Ln {number}," in text for text in window.texts(".statusbar-item")), "the cursor stands at the wrong value")
            window.run("await page.locator('.notification-toast').getByText('Details', {exact: true}).first().click()")
            window.wait_for(".tab.active:has-text('run-')")
            window.keep("details")


@limit(240)
def test_the_run_menu_does_one_run_there_and_the_toggle_all_of_them():
    with scene_with_editor() as (scene, server):
        folder = NODE.folder(server, "toggle", steals(scene))
        launch = json.loads((folder / ".vscode/launch.json").read_text())
        del launch["configurations"][0]["mirrord"]
        (folder / ".vscode/launch.json").write_text(json.dumps(launch))

        def run_and_end(start, there: bool):
            before = len(server.events())
            start()
            eventually(lambda: any(event["what"] == "started" and not event["child"] for event in server.events()[before:]), "a debug session", 40)
            plan = next(event["configuration"].get("__mirrordPlan") for event in server.events()[before:] if event["what"] == "started" and not event["child"])
            equal(plan is not None, there, "in a pod's world")
            if there:
                wait_until_stolen(scene)
                scene.check(scene.say("who"), "who", "node", local=True)
            window.press("Shift+F5")
            eventually(lambda: not window.debugging() and not sessions(scene), "the run is over", 20)

        with Window(server, folder, "toggle") as window:
            window.open_file(NODE.file)
            window.wait_for(".editor-actions .codicon-debug-alt")
            window.keep("run-menu")
            run_and_end(lambda: window.press("F5"), there=False)
            run_and_end(lambda: window.click(".editor-actions .codicon-debug-alt"), there=True)
            run_and_end(lambda: window.press("F5"), there=False)
            window.click("[id='mirrord-ide.mirrord-ide.mirrord.toggle'] a")
            window.wait_for("[id='mirrord-ide.mirrord-ide.mirrord.toggle'] .codicon-circle-filled")
            run_and_end(lambda: window.press("F5"), there=True)
            window.keep("toggled")


@limit(240)
def test_a_crashed_extension_host_leaves_nothing():
    with scene_with_editor() as (scene, server), Window(server, NODE.folder(server, "crash", mirrord=steals(scene)), "crash") as window:
        window.set_breakpoint(NODE.file, NODE.line)
        window.press("F5")
        wait_until_stolen(scene)
        hosts = [pid for pid, command in scene.laptop.processes() if "--type=extensionHost" in command]
        equal(len(hosts), 1, "extension hosts")
        os.kill(hosts[0], signal.SIGKILL)
        eventually(lambda: not sessions(scene), "the session has ended", 60)
        scene.wait_until_released()
        window.keep("crashed")


@limit(240)
def test_a_window_that_never_comes_back_leaves_nothing_after_its_lease():
    with scene_with_editor() as (scene, server), Window(server, NODE.folder(server, "lease", mirrord=steals(scene)), "lease") as window:
        window.press("F5")
        program = wait_until_stolen(scene)[0]["host"]["debuggee_pid"]
        # All of the editor at once, as when its machine's memory runs out: nobody is there to say goodbye or to come back.
        for pid, command in scene.laptop.processes():
            if f"code-server-{VERSION}/" in command:
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not sessions(scene), "the lease is over", 60)
        assert not alive(program)
        scene.wait_until_released()
