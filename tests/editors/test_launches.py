"""What stands in launch.json and tasks.json, in a real VS Code on the test cluster: each form does there what it says."""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.code_server import Window
from harness.testing import contains, equal, eventually, limit
from test_vscode import NODE, agents, scene_with_editor, sessions, steals, stop_by_request, wait_until_stolen

# Says in a file whose world it ran in, and ends.
SAYS = """'use strict';
const { WHO, SAMPLE_GREETING, FROM_FILE, FROM_LAUNCH } = process.env;
const [file, ...words] = process.argv.slice(2);
require('node:fs').writeFileSync(file, JSON.stringify({ WHO, SAMPLE_GREETING, FROM_FILE, FROM_LAUNCH, words }));
"""


def config(scene, who: str) -> dict:
    """A config of the scene's target that tells itself apart by a variable."""
    return {"target": scene.target, "feature": {"network": {"incoming": "off"}, "env": {"override": {"WHO": who}}}}


def launch(name: str, mirrord, **more) -> dict:
    file = name.replace(" ", "-")
    return {"type": "node", "request": "launch", "name": name, "program": "${workspaceFolder}/says.js",
            "args": ["${workspaceFolder}/said-" + file], "mirrord": mirrord} | more


def said(folder: Path, name: str) -> dict:
    """What the program of that launch configuration wrote, once it has."""
    file = folder / ("said-" + name.replace(" ", "-"))
    return json.loads(eventually(lambda: file.exists() and file.read_text(), f"{name} ran", 60))


def world(folder: Path, name: str) -> tuple:
    got = said(folder, name)
    return got.get("WHO"), got.get("SAMPLE_GREETING")


@limit(240)
def test_each_form_of_mirrord_in_a_launch_configuration():
    with scene_with_editor() as (scene, server):
        worlds = {"alone": (False, None), "own": (True, "own"), "by path": ("configs/other.json", "other"),
                  "by whole path": ("${workspaceFolder}/configs/other.json", "other"), "by content": (config(scene, "content"), "content")}
        files = {"says.js": SAYS, ".mirrord/mirrord.json": json.dumps(config(scene, "own")), "configs/other.json": json.dumps(config(scene, "other"))}
        folder = server.workspace("forms", files, {"configurations": [launch(name, mirrord) for name, (mirrord, _) in worlds.items()]})
        with Window(server, folder, "forms") as window:
            for name, (_, who) in worlds.items():
                window.choose_launch(name)
                equal(world(folder, name), (who, scene.greeting if who else None), name)
                eventually(lambda: not window.debugging() and not sessions(scene), f"{name} has ended", 20)
            equal(window.toasts(), [])


@limit(240)
def test_members_of_two_folders_that_start_at_once_have_their_own_configs_and_one_agent():
    with scene_with_editor() as (scene, server):
        for name in ("one", "two"):
            server.workspace(f"multi-root/{name}", {"says.js": SAYS, ".mirrord/mirrord.json": json.dumps(config(scene, name))},
                             {"configurations": [launch("says", True)]})
        members = [{"name": "says", "folder": "one"}, {"name": "says", "folder": "two"}]
        root = server.workspace("multi-root", {"both.code-workspace": json.dumps({
            "folders": [{"path": "one"}, {"path": "two"}], "launch": {"version": "0.2.0", "compounds": [{"name": "both folders", "configurations": members}]}})})
        with Window(server, root / "both.code-workspace", "multi-root") as window:
            window.choose_launch("both folders")
            equal([world(root / name, "says") for name in ("one", "two")], [("one", scene.greeting), ("two", scene.greeting)])
            equal(len(agents(scene)), 1, "agents")
            equal(window.toasts(), [])


TASKS = {"version": "2.0.0", "tasks": [{"label": "build", "type": "process", "command": "sh", "args": ["-c", 'echo "built in ${config:kind}: $SAMPLE_GREETING" > built'],
                                        "problemMatcher": []}]}


@limit(240)
def test_a_task_before_the_launch_stays_here_unless_it_is_taken_along():
    with scene_with_editor() as (scene, server):
        there = config(scene, "program")
        after = {"program": "${workspaceFolder}/says.js", "preLaunchTask": "build"}
        folder = server.workspace("tasks", {"says.js": SAYS, ".vscode/tasks.json": json.dumps(TASKS), ".vscode/settings.json": '{"kind": "test"}'}, {
            "configurations": [launch("left here", there, **after), launch("taken along", there | {"tasks": True}, **after)]})
        with Window(server, folder, "tasks") as window:
            for name, greeting in (("left here", ""), ("taken along", scene.greeting)):
                (folder / "built").unlink(missing_ok=True)
                window.choose_launch(name)
                equal(world(folder, name), ("program", scene.greeting), name)
                equal((folder / "built").read_text().strip(), f"built in test: {greeting}".strip(), f"the task of {name}")
                assert (folder / "built").stat().st_mtime <= (folder / ("said-" + name.replace(" ", "-"))).stat().st_mtime, "the task came after the program"
                eventually(lambda: not window.debugging() and not sessions(scene), f"{name} has ended", 30)
            equal(window.toasts(), [])


@limit(240)
def test_an_env_file_variables_and_inputs_reach_the_program():
    with scene_with_editor() as (scene, server):
        configuration = launch("with all", config(scene, "all"), envFile="${workspaceFolder}/own.env", windows={"runtimeExecutable": "C:\\none.exe"},
                               env={"FROM_LAUNCH": "${workspaceFolderBasename} of ${env:SHELL}"}, console="integratedTerminal")
        configuration["args"].append("${input:word}")
        folder = server.workspace("inputs", {"says.js": SAYS, "own.env": "FROM_FILE=a file's\n"}, {
            "configurations": [configuration], "inputs": [{"id": "word", "type": "pickString", "description": "A word", "options": ["first", "second"]}]})
        with Window(server, folder, "inputs") as window:
            window.choose_launch("with all")
            window.pick("second")
            got = said(folder, "with all")
            equal(got, {"WHO": "all", "SAMPLE_GREETING": scene.greeting, "FROM_FILE": "a file's", "FROM_LAUNCH": "inputs of /bin/bash", "words": ["second"]})


@limit(240)
def test_what_runs_in_the_javascript_debug_terminal_stops_by_a_request_of_the_cluster():
    with scene_with_editor() as (scene, server):
        folder = server.workspace("debug-terminal", {"app.js": NODE.files[0].read_text(), ".mirrord/mirrord.json": json.dumps(steals(scene))})
        with Window(server, folder, "debug-terminal") as window:
            window.set_breakpoint("app.js", NODE.line)
            # With the toggle on, too: that js-debug attaches to what runs in its terminal is nothing to be told of.
            window.click("[id='mirrord-ide.mirrord-ide.mirrord.toggle'] a")
            window.wait_for("[id='mirrord-ide.mirrord-ide.mirrord.toggle'] .codicon-circle-filled")
            window.command("mirrord: New JavaScript Debug Terminal in a Pod's World")
            window.wait_for(".terminal-wrapper.active .xterm")
            eventually(lambda: [one for one in sessions(scene) if one["state"] == "running"], "the shell runs in a session", 30)
            window.click(".terminal-wrapper.active .xterm")
            window.type("node app.js")
            window.press("Enter")
            wait_until_stolen(scene)
            asked = stop_by_request(scene, server, window, NODE, "hello terminal")
            window.keep("stopped")
            equal((len(sessions(scene)), window.toasts()), (1, []), "sessions and toasts")
            window.press("F5")
            scene.check(asked.answer(), "hello terminal", "node", local=True)
            window.click(".terminal-wrapper.active .xterm")
            window.press("Control+C")
            window.type("exit")
            window.press("Enter")
            eventually(lambda: not sessions(scene), "the session has ended", 30)
            scene.wait_until_released()


@limit(240)
def test_the_picker_shows_deployments_first_with_readiness_containers_and_who_is_on_them():
    with scene_with_editor(sidecar=True) as (scene, server):
        labels = {"app": scene.sample.label, "role": "down"}
        down = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"{scene.sample.label}-down", "labels": labels}, "spec": {
            "replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": "app", "image": "localhost/pause:1"}]}}}}
        scene.cluster.apply(down)
        try:
            idle = {"type": "node", "request": "launch", "program": "${workspaceFolder}/idle.js"}
            folder = server.workspace("picker", {"idle.js": "setInterval(() => {}, 1000);\n"}, {"configurations": [
                idle | {"name": "on it", "mirrord": config(scene, "first")}, idle | {"name": "to be picked", "mirrord": True}]})
            with Window(server, folder, "picker") as window:
                window.choose_launch("on it")
                session = eventually(lambda: [one for one in sessions(scene) if one["state"] == "running"], "it runs", 60)[0]["session"]
                window.choose_launch("to be picked")
                window.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(scene.target + '-down')})", 30)

                def rows():
                    # A row is read as it is drawn: its name, what stands beside it, and what below.
                    texts = [text.strip() for text in window.texts(".quick-input-list .monaco-list-row")]
                    found = {name: next((text for text in texts if re.match(name + "(?!-)", text)), "") for name in (scene.target, scene.target + "-down")}
                    return (texts, found) if all(found.values()) else None

                texts, found = eventually(rows, "both deployments are listed")
                window.keep("picker", of=".quick-input-widget")
                assert texts[0].startswith("deployment/"), texts
                contains(found[scene.target], "app, sidecar")
                contains(found[scene.target], f"in use by {session}")
                contains(found[scene.target + "-down"], "no pod is ready")
                window.press("Escape")
                eventually(lambda: not window.run("return await page.locator('.quick-input-widget').isVisible()"), "the picker is closed")
                window.press("Shift+F5")
                eventually(lambda: not window.debugging() and not sessions(scene), "all has ended", 20)
        finally:
            scene.cluster.kubectl("delete", "deployment", f"{scene.sample.label}-down", "--ignore-not-found", check=False)
