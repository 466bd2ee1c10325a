"""A real VS Code for tests: code-server with our extension and the shim, and a window of it in a real browser.

What is drawn is looked at as a user would, by text and by the classes that VS Code has kept for years. What debug
adapters say is read beside it from the shim's file. A picture of every step is kept in the cache, `editors/pictures`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from contextlib import contextmanager
from pathlib import Path

from . import places
from .dap import free_port
from .laptop import Laptop
from .testing import eventually

VERSION = "4.100.3"  # the newest whose VS Code runs on Node 20
FOLDER = "editors"
OURS = "mirrord-ide.mirrord-ide-0.1.0"


def cached(name) -> Path:
    return places.cache() / FOLDER / name


class CodeServer:
    """VS Code's server on a free port, as the laptop's user; a context manager."""

    def __init__(self, laptop: Laptop, env=None, settings=None):
        self.laptop, self.port = laptop, free_port()
        self.folder = laptop.folder / "code-server"
        self.events_file = self.folder / "events.jsonl"
        self.env = laptop.env | {
            "SHIM_EVENTS": str(self.events_file), "SHIM_PYTHON": str(places.venv_python()), "SHIM_DLV": str(places.cache() / "bin/dlv"),
            "SHIM_LLDB_DAP": "/usr/bin/lldb-dap-19", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local",
            "GOCACHE": str(cached("go-build")), "GOMODCACHE": str(laptop.folder / "go-mod"), "SHELL": "/bin/bash",
            "PATH": os.environ["PATH"] + ":/usr/local/go/bin", "HOME": str(self.folder / "home"),
        } | (env or {})
        self.settings = {"workbench.startupEditor": "none", "security.workspace.trust.enabled": False, "telemetry.telemetryLevel": "off",
                         "debug.internalConsoleOptions": "neverOpen", "extensions.ignoreRecommendations": True, "extensions.autoUpdate": False,
                         "extensions.autoCheckUpdates": False, "typescript.disableAutomaticTypeAcquisition": True, "git.enabled": False,
                         "debug.javascript.autoAttachFilter": "disabled", "terminal.integrated.gpuAcceleration": "off",
                         "workbench.tips.enabled": False, "window.commandCenter": False, "remote.autoForwardPorts": False, "chat.commandCenter.enabled": False} | (settings or {})

    def __enter__(self):
        data, extensions = self.folder / "data", self.folder / "extensions"
        for path in (data / "User", data / "Machine", extensions, self.folder / "home"):
            path.mkdir(parents=True)
        # Where the window is a browser, what a setting says of this machine stands on this machine.
        for path in ("User", "Machine"):
            (data / path / "settings.json").write_text(json.dumps(self.settings))
        self.events_file.touch()
        # VS Code takes its environment from a login shell, which may set PATH anew.
        (self.folder / "home/.bash_profile").write_text(f"export PATH={shlex.quote(self.env['PATH'])}\n")
        with open(self.folder / "config.yaml", "w") as config:
            config.write("")
        self.install(extensions)
        self.own(self.folder)
        self.log = open(self.folder / "log", "wb")
        node = shutil.which("node")
        self.process = subprocess.Popen(
            [node, places.cache() / f"code-server-{VERSION}/out/node/entry.js", "--auth", "none", "--bind-addr", f"127.0.0.1:{self.port}",
             "--config", self.folder / "config.yaml", "--user-data-dir", data, "--extensions-dir", extensions, "--disable-telemetry",
             "--disable-update-check", "--disable-workspace-trust", "--disable-getting-started-override"],
            env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True, **self.laptop.user)
        eventually(lambda: "HTTP server listening" in self.logged(), "code-server listens", 30)
        return self

    @staticmethod
    def install(extensions: Path):
        """Puts the extensions where `--install-extension` would, without starting a program for it."""
        shim = extensions / "test.debug-shim-0.0.1"
        shutil.copytree(Path(__file__).resolve().parents[1] / "editors/shim", shim)
        (shim / "bundled/libs").mkdir(parents=True)
        (shim / "bundled/libs/debugpy").symlink_to(places.debugpy_adapter().parent)
        ours = extensions / OURS
        with zipfile.ZipFile(cached("mirrord-ide.vsix")) as package:
            for name in package.namelist():
                if name.startswith("extension/"):
                    made = ours / name.removeprefix("extension/")
                    made.parent.mkdir(parents=True, exist_ok=True)
                    made.write_bytes(package.read(name))
        (ours / "bin/mirrord-ide").chmod(0o755)

    def own(self, folder: Path):
        """Gives a folder to the user whom the editor runs as."""
        if user := self.laptop.user.get("user"):
            for base, folders, files in os.walk(folder):
                for name in [".", *folders, *files]:
                    os.chown(os.path.join(base, name), user, user, follow_symlinks=False)

    def logged(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def workspace(self, name: str, files: dict[str, str], launch: dict | None = None) -> Path:
        """A folder with these files and this launch.json, which the editor can open."""
        made = self.laptop.folder / name
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(content)
        if launch is not None:
            (made / ".vscode").mkdir(parents=True, exist_ok=True)
            (made / ".vscode/launch.json").write_text(json.dumps({"version": "0.2.0"} | launch, indent=4))
        self.own(made)
        return made

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.events_file.read_text().splitlines() if line.endswith("}")]

    def stops(self, name: str | None = None) -> int:
        """How often an adapter said that the program stopped."""
        return len([one for one in self.events() if one["what"] == "from" and one["message"].get("event") == "stopped" and name in (None, one["name"])])

    def extension_log(self) -> str:
        """What the extension wrote to its output channel."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.rglob("*mirrord*.log")))

    def host_logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-6000:] for path in sorted(self.folder.rglob("remoteexthost.log")))

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Browser:
    """Chromium under playwright-core; `run` has it do what the code says."""

    def __init__(self, server: CodeServer):
        home = server.folder / "home"
        env = server.env | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": "/tmp"}
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
        self.errors = open(server.folder / "driver-log", "ab")
        self.process = subprocess.Popen(
            ["node", str(Path(__file__).resolve().parents[1] / "editors/driver.cjs"), str(cached("node/node_modules/playwright-core")), chromium],
            env=env, cwd=server.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, **server.laptop.user)

    def run(self, code: str, argument=None):
        self.process.stdin.write(json.dumps({"code": code, "argument": argument}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the browser's driver ended with {self.process.wait()}"
        answer = json.loads(line)
        assert "error" not in answer, f"{answer.get('error')}\nin: {code} ({argument!r})"
        return answer["value"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.errors.close()


class Window:
    """One VS Code window; a context manager. Each of its acts is something that a user does or sees."""

    def __init__(self, server: CodeServer, folder: Path, name: str):
        self.server, self.folder, self.name, self.shots = server, folder, name, 0
        self.pictures = cached("pictures") / name

    def __enter__(self):
        shutil.rmtree(self.pictures, ignore_errors=True)
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.browser = Browser(self.server)
        try:
            self.open()
        except BaseException:
            self.keep("failed-to-open")
            self.browser.close()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.keep("failed")
        self.browser.close()

    def open(self):
        query = "workspace" if self.folder.suffix == ".code-workspace" else "folder"
        activated = self.activations()
        self.run("await page.goto(argument); await page.waitForSelector('.monaco-workbench', {timeout: 60000})", f"http://127.0.0.1:{self.server.port}/?{query}={self.folder}")
        self.wait_for(".statusbar-item:has-text('mirrord')", 60)
        eventually(lambda: self.activations() > activated, "the shim is there", 60)

    def activations(self) -> int:
        return len([one for one in self.server.events() if one["what"] == "activated"])

    def run(self, code: str, argument=None):
        return self.browser.run(code, argument)

    def keep(self, step: str, of: str | None = None):
        """Keeps a picture of what is seen now, or of one element of it."""
        self.shots += 1
        path = self.pictures / f"{self.shots:02}-{step}.png"
        image = path.with_suffix(".part")
        taken = self.server.folder / "shot.png"
        try:
            self.run("await (argument[1] ? page.locator(argument[1]).first() : page).screenshot({path: argument[0]})", [str(taken), of])
            shutil.copyfile(taken, image)
            image.rename(path)
        except AssertionError:
            pass  # the browser is gone: the test that wanted a picture fails by itself

    def wait_for(self, selector: str, seconds=20.0):
        self.run("await page.waitForSelector(argument[0], {timeout: argument[1]})", [selector, seconds * 1000])

    def wait_until_gone(self, selector: str, seconds=20.0):
        self.run("await page.waitForSelector(argument[0], {timeout: argument[1], state: 'detached'})", [selector, seconds * 1000])

    def count(self, selector: str) -> int:
        return self.run("return await page.locator(argument).count()", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return await page.locator(argument).allInnerTexts()", selector)

    def click(self, selector: str):
        self.run("await page.locator(argument).first().click({timeout: 10000})", selector)

    def press(self, *keys: str):
        for key in keys:
            self.run("await page.keyboard.press(argument)", key)

    def type(self, text: str):
        self.run("await page.keyboard.type(argument)", text)

    def command(self, title: str):
        """Runs a command from the palette."""
        self.press("F1")
        self.wait_for(".quick-input-widget input")
        self.run("await page.locator('.quick-input-widget input').first().fill(argument)", ">" + title)
        self.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(title)})")
        self.press("Enter")

    def open_file(self, name: str):
        self.press("Control+P")
        self.wait_for(".quick-input-widget input")
        self.run("await page.locator('.quick-input-widget input').first().fill(argument)", name)
        self.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(name)})")
        self.press("Enter")
        self.wait_for(f".tab.active:has-text({json.dumps(name)})")
        self.wait_for(".view-lines .view-line")

    def set_breakpoint(self, file: str, line: int):
        self.open_file(file)
        self.press("Control+G")
        self.wait_for(".quick-input-widget input")
        self.run("await page.locator('.quick-input-widget input').first().fill(argument)", f":{line}")
        self.press("Enter")
        eventually(lambda: any(f"Ln {line}," in text for text in self.texts(".statusbar-item")), f"the cursor is in line {line}")
        self.press("F9")
        self.wait_for(".codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified")

    def choose_launch(self, name: str):
        """Starts the launch configuration of this name, as the quick access does."""
        self.press("Control+P")
        self.wait_for(".quick-input-widget input")
        self.run("await page.locator('.quick-input-widget input').first().fill(argument)", f"debug {name}")
        self.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(name)})")
        self.press("Enter")

    def pick(self, text: str, picture: str | None = None):
        """Picks a row of the picker that is shown."""
        self.wait_for(f".quick-input-list .monaco-list-row:has-text({json.dumps(text)})", 30)
        if picture:
            self.keep(picture)
        self.run("await page.locator('.quick-input-widget input').first().fill(argument)", text)
        self.wait_for(f".quick-input-list .monaco-list-row.focused:has-text({json.dumps(text)})")
        self.press("Enter")

    def variables(self) -> dict[str, str]:
        """What the variables view shows: names and values of the rows that are drawn."""
        rows = self.run("""return await page.locator('.debug-variables .monaco-list-row .expression').evaluateAll(rows => rows.map(row => [
            row.querySelector('.name')?.innerText ?? '', row.querySelector('.value')?.innerText ?? '']))""")
        return {re.sub(r"\s*[:=]?\s*$", "", name): value for name, value in rows}

    def toasts(self) -> list[str]:
        return self.texts(".notification-toast .notification-list-item-message")

    def status(self) -> str:
        """The text of our live item in the status bar; empty when nothing runs."""
        return " ".join(self.texts("[id='mirrord-ide.mirrord-ide.mirrord.sessions']")).strip()

    def warnings(self) -> list[str]:
        """The lines of our live item's tooltip, if it warns of anything."""
        if not self.count("[id='mirrord-ide.mirrord-ide.mirrord.sessions'] .codicon-warning"):
            return []
        self.run("await page.hover(argument)", "[id='mirrord-ide.mirrord-ide.mirrord.sessions']")
        self.wait_for(".monaco-hover .codicon-warning")
        return self.texts(".monaco-hover p")

    def debugging(self) -> bool:
        return self.run("return await page.locator('.debug-toolbar').isVisible()")


@contextmanager
def editor(laptop: Laptop, **options):
    with CodeServer(laptop, **options) as server:
        yield server
