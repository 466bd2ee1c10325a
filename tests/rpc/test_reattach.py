"""An editor that comes back: how its debugger gets hold of the program again, and whose program it is by then."""

import json
import subprocess
import time
import urllib.request
from contextlib import contextmanager

from harness.scene import LocalScene
from harness.testing import alive, contains, equal, eventually, limit
from harness.wire import Wire

LEASE = 30  # seconds that an editor may be away
NODE = "console.log('ready'); setInterval(() => {}, 1000);"


def editor(laptop) -> Wire:
    return Wire(laptop.json("serve", "--ensure")["socket"], editor=True)


def listed(wire) -> list[dict]:
    return wire.request("session/list", {})["sessions"]


class Run:
    """A program of a plan, started by the words that the daemon gave the debugger."""

    def __init__(self, scene, wire, debug: dict):
        config = {"folder": str(scene.laptop.folder), "text": json.dumps({"target": scene.target})}
        self.scene = scene
        self.planned = wire.request("session/plan", {"config": config, "mirrord": True, "debug": debug, "editor": "vscode"})
        self.plan = self.planned["plan"]
        self.session = wire.request("session/start", {"plan": self.plan})["session"]

    def start(self) -> subprocess.Popen:
        (self.scene.laptop.folder / "app.js").write_text(NODE)
        return subprocess.Popen([self.planned["patch"]["runtimeExecutable"], "--inspect=127.0.0.1:0", "app.js"], env=self.scene.laptop.env,
                                cwd=self.scene.laptop.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **self.scene.laptop.user)


def running(wire, other_than="") -> dict:
    def runs():
        found = [one for one in listed(wire) if one["state"] == "running" and one["host"] and one["session"] != other_than]
        return found[0] if len(found) == 1 else None

    return eventually(runs, "the program runs", 20)


@contextmanager
def node():
    """A program of Node's that runs by the plan of an editor which is connected."""
    with LocalScene() as scene:
        wire = editor(scene.laptop)
        try:
            run = Run(scene, wire, {"type": "pwa-node", "request": "launch", "name": "app"})
            run.program = run.start()
            equal(run.program.stdout.readline(), b"ready\n")
            yield scene, wire, run
            equal(scene.laptop.stop_all().returncode, 0)
            run.program.wait(10)
        finally:
            wire.close(strict=False)


def reattach(wire, session: str) -> dict:
    return wire.request("session/attach", {"session": session, "reattach": True})


@limit(60)
def test_an_editor_that_comes_back_is_told_where_the_inspector_is():
    with node() as (scene, wire, run):
        equal((run.planned["editorStops"], run.planned["patch"]["killBehavior"]), (True, "none"))
        one = running(wire)
        equal(one["attended"], True)
        with Wire(scene.laptop.daemon()["socket"], editor=True) as other:
            told = reattach(other, one["session"])
            equal((told["reattach"], told["reattachRefused"]), (None, "another window debugs it"))
            wire.close()
            eventually(lambda: not running(other)["attended"], "the editor has left")
            told = reattach(other, one["session"])
            equal((told["reattach"]["request"], told["session"], told["attended"]), ("attach", one["session"], True))
            address = f"http://{told['reattach']['address']}:{told['reattach']['port']}"
            contains(json.load(urllib.request.urlopen(f"{address}/json/version", timeout=5))["Browser"], "node.js/")
            contains(json.load(urllib.request.urlopen(f"{address}/json/list", timeout=5))[0]["url"], "app.js")
            # Who only follows a session does not ask for it.
            equal(other.request("session/attach", {"session": one["session"]})["reattach"], None)


@limit(60)
def test_an_editor_that_crashed_does_not_get_its_program_back():
    with node() as (scene, wire, run):
        one = running(wire)
        wire.drop()
        with Wire(scene.laptop.daemon()["socket"], editor=True) as other:
            eventually(lambda: not running(other)["attended"], "the editor is gone")
            told = reattach(other, one["session"])
            equal((told["reattach"], told["reattachRefused"]), (None, "its editor crashed"))
            assert alive(one["host"]["debuggee_pid"]), "nobody has ended it yet"


@limit(120)
def test_an_editor_that_leaves_again_has_all_of_its_lease():
    with node() as (scene, wire, run):
        one = running(wire)
        wire.close()
        left = time.monotonic()
        socket = scene.laptop.daemon()["socket"]
        with Wire(socket) as watching:
            eventually(lambda: not running(watching)["attended"], "the editor has left")
            time.sleep(LEASE - 8)
            with Wire(socket, editor=True) as back:
                reattach(back, one["session"])
            # The first lease would be over now, while the editor is away for the second time.
            time.sleep(max(0.0, left + LEASE + 4 - time.monotonic()))
            equal([(each["session"], each["state"]) for each in listed(watching)], [(one["session"], "running")])


@limit(60)
def test_a_plan_that_is_run_anew_ends_its_former_program_first():
    with node() as (scene, wire, run):
        former = running(wire)
        second = run.start()
        equal(second.stdout.readline(), b"ready\n")
        now = running(wire, other_than=former["session"])
        assert not alive(former["host"]["debuggee_pid"]), "the former program"
        equal((len(listed(wire)), now["plan"]), (1, run.plan))
