"""Debuggees that another program starts: wrappers, task runners and a debug adapter that asks for a terminal.

Each ends in the sample's server answering the pod's requests with the pod's values; what any step of the way loses,
is lost for the answer.
"""

import json
import os
import shutil
import subprocess

from harness import main_job, places
from harness.dap import Dap, free_port, line_of
from harness.scene import Asked, LocalScene
from harness.testing import Skip, equal, limit


def answers(command, program="python", cwd=None, env=None):
    """Runs the command under the product; the server that it starts in the end is the one that answers."""
    with LocalScene() as scene:
        command = command(scene) if callable(command) else command
        session = scene.laptop.exec(scene.target, command, "--steal", cwd=cwd and cwd(scene), env=env)
        session.wait_for(main_job.LISTENING)
        scene.wait_until_taken(session)
        scene.check(scene.say("through it"), "through it", program, local=True)
        main_job.outgoing(scene)
        # A signal would end the wrapper alone; what it started is the session's all the same.
        equal(scene.laptop.stop_all().returncode, 0)
        session.wait()
        main_job.ends_cleanly(scene, session)


def script(scene, name, text):
    """An executable file of the developer's."""
    path = scene.laptop.folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_through_a_new_venvs_python():
    def command(scene):
        venv = scene.laptop.folder / "venv"
        subprocess.run([places.venv_python(), "-m", "venv", "--without-pip", venv], check=True, timeout=30)
        return [venv / "bin/python", main_job.PYTHON]

    answers(command)


def test_through_uv_run():
    def project(scene):
        folder = scene.laptop.folder / "project"
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.8"\n')
        shutil.copy(main_job.PYTHON, folder / "app.py")
        return folder

    uv = places.venv_python().with_name("uv")
    answers([uv, "run", "--offline", "--no-python-downloads", "--python", places.venv_python(), "app.py"], cwd=project)


def test_through_a_shell_wrapper():
    answers(lambda scene: ["sh", script(scene, "run", f"set -e\ncd /\n{places.venv_python()} {main_job.PYTHON} &\nwait $!\n")])


def test_through_a_script_and_env():
    path = f"{places.venv_python().parent}:{os.environ['PATH']}"
    text = "#!/usr/bin/env python\n" + main_job.PYTHON.read_text()
    answers(lambda scene: [script(scene, "serve", text)], env={"PATH": path})


def test_through_a_script_of_a_script():
    def command(scene):
        inner = script(scene, "inner", f"#!{places.venv_python()}\n" + main_job.PYTHON.read_text())
        return [script(scene, "outer", f"#!/bin/sh\nexec {inner}\n")]

    answers(command)


def test_through_npm_run_dev():
    if not shutil.which("npm"):
        raise Skip("no npm here: apt-get install npm")

    def project(scene):
        folder = scene.laptop.folder / "project"
        folder.mkdir()
        (folder / "package.json").write_text('{"name": "shop", "version": "1.0.0", "scripts": {"dev": "node app.js"}}')
        shutil.copy(main_job.NODE, folder / "app.js")
        return folder

    answers(["npm", "run", "dev"], program="node", cwd=project)


@limit(90)
def test_a_debug_adapter_that_asks_for_a_terminal():
    port = free_port()
    with LocalScene() as scene:
        adapter = subprocess.Popen([places.venv_python(), "-m", "debugpy.adapter", "--host", "127.0.0.1", "--port", str(port)],
                                   stdin=subprocess.DEVNULL, env=scene.laptop.env, **scene.laptop.user)
        try:
            debugger = Dap.dial(port, alive=lambda: adapter.poll() is None)
            debugger.initialize(supportsRunInTerminalRequest=True)
            launched = debugger.send("launch", {"program": str(main_job.PYTHON), "console": "integratedTerminal", "justMyCode": False,
                                                "python": [str(places.venv_python())], "cwd": str(scene.laptop.folder)})
            asked = debugger.asked_for("runInTerminal")
            equal(asked["arguments"]["kind"], "integrated")
            given = {name: value for name, value in (asked["arguments"].get("env") or {}).items() if value is not None}
            session = scene.laptop.exec(scene.target, asked["arguments"]["args"], "--steal", env=given, cwd=asked["arguments"]["cwd"])
            debugger.reply(asked, {"shellProcessId": session.process.pid})
            line = line_of(main_job.PYTHON, "a breakpoint here")
            assert debugger.configure(launched, str(main_job.PYTHON), [line])[0]["verified"]
            session.wait_for(main_job.LISTENING)
            request = Asked(scene, "in a terminal")
            thread, _, variables = debugger.stop_at_breakpoint()
            equal((variables["text"], variables["greeting"], variables["file"]), (repr("in a terminal"), repr(scene.greeting), repr(scene.banner)))
            debugger.proceed(thread)
            scene.check(request.answer(), "in a terminal", "python", local=True)
            debugger.request("disconnect", {"terminateDebuggee": True})
            debugger.close()
            session.wait()
        finally:
            adapter.terminate()
            adapter.wait()
        main_job.ends_cleanly(scene, session)


# What js-debug has a node of its own do before it opens the program's inspector, and a server that looks much like it.
PROBE = ('require("net").createServer().on("listening",()=>process.exit(0)).on("error",()=>process.exit(1)).listen(+process.env.PORT)')
SERVER = 'require("net").createServer().on("listening",()=>setTimeout(()=>process.exit(0),300)).listen(+process.env.PORT,"0.0.0.0")'


def test_a_port_that_a_debugger_tries_is_nobodys_and_one_that_stays_local_is_told():
    with LocalScene() as scene:
        for code, told in ((PROBE, False), (SERVER, True)):
            # The pod has a PORT of its own, which a program may set anew for what it starts.
            session = scene.exec(["env", f"PORT={free_port()}", "node", "-e", code], "--steal")
            equal(session.wait(), 0, session.printed())
            equal("stays local" in session.stderr, told, session.stderr)
        scene.check_nothing_left()


def test_a_port_that_a_debugger_has_tried_is_not_taken_though_the_pod_has_it():
    with LocalScene() as scene:
        # The probe ends; whoever tried the port for itself has it then, here a server of the parent's.
        code = f"const {{ spawnSync }} = require('child_process'); spawnSync(process.execPath, ['-e', {json.dumps(PROBE)}]); "
        serve = "require('http').createServer((_, answer) => answer.end()).listen(+process.env.PORT, '127.0.0.1', () => console.log('is up'))"
        session = scene.exec(["node", "-e", code + serve], "--steal", env={"PORT": str(scene.port)})
        session.wait_for("is up")
        scene.own_answer()
        equal(scene.laptop.stop_all().returncode, 0)
        session.wait()
        main_job.ends_cleanly(scene, session)
