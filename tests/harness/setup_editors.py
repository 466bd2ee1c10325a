"""What the editor tests need beyond the others: VS Code's server, a browser with its driver, debuggers, our extension."""

import os
import shutil
import subprocess
from pathlib import Path

from . import places
from .code_server import VERSION, cached
from .laptop import ORDINARY

PLAYWRIGHT, DLV, LLDB = "1.65.1", "1.27.2", 19
NPM = ["npm", "--no-fund", "--no-audit", "--no-update-notifier"]


def header(name: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", name], capture_output=True).returncode == 0 if shutil.which("pkg-config") else False


def wanted_by_adapters() -> dict[str, bool]:
    """The Debian packages of the debug adapters, each with whether it is there already."""
    return {f"lldb-{LLDB}": shutil.which(f"lldb-dap-{LLDB}") is not None, "golang-go": shutil.which("go") is not None}


def wanted() -> dict[str, bool]:
    """Debian packages, each with whether it is there already."""
    programs = {"chromium": "chromium", "ripgrep": "rg", "pkg-config": "pkg-config", "g++": "g++", "make": "make", "npm": "npm"}
    found = {package: shutil.which(program) is not None for package, program in programs.items()}
    libraries = {"libkrb5-dev": "krb5-gssapi", "libsecret-1-dev": "libsecret-1", "libx11-dev": "x11", "libxkbfile-dev": "xkbfile"}
    found |= {package: header(name) for package, name in libraries.items()}
    # Without any font the browser draws boxes.
    return found | {"fonts-dejavu-core": Path("/usr/share/fonts/truetype/dejavu").exists()}


def code_server(say, run):
    made = places.cache() / f"code-server-{VERSION}"
    if not made.exists():
        say(f"building code-server {VERSION} (a minute or two, once)")
        run([places.ROOT / "tests/editors/build-code-server", VERSION, made])


def tools(run):
    """playwright-core without a browser of its own."""
    package = cached("node/node_modules/playwright-core/package.json")
    if not package.exists() or f'"version": "{PLAYWRIGHT}"' not in package.read_text():
        cached("node").mkdir(parents=True, exist_ok=True)
        (cached("node") / "package.json").write_text('{"private": true}\n')
        run([*NPM, "install", "--ignore-scripts", f"playwright-core@{PLAYWRIGHT}"], cwd=cached("node"))


def dlv(run):
    dlv = places.cache() / "bin/dlv"
    if not dlv.exists() or DLV not in subprocess.run([dlv, "version"], capture_output=True, text=True).stdout:
        run(["go", "install", f"github.com/go-delve/delve/cmd/dlv@v{DLV}"],
            env=os.environ | {"GOBIN": str(dlv.parent), "GOFLAGS": "-trimpath", "GOTOOLCHAIN": "local"})


def go_cache(run):
    """The standard library built for debugging, so that the first F5 on Go does not take a minute."""
    folder = cached("go-build")
    if not folder.exists():
        made = folder.with_name("go-build.making")
        shutil.rmtree(made, ignore_errors=True)
        run(["go", "build", "-gcflags", "all=-N -l", "-o", os.devnull, "."], cwd=places.EXAMPLES / "go",
            env=os.environ | {"GOCACHE": str(made), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off"})
        made.rename(folder)
    if os.geteuid() == 0:
        for base, folders, files in os.walk(folder):
            for name in [".", *folders, *files]:
                os.chown(os.path.join(base, name), ORDINARY, ORDINARY, follow_symlinks=False)


def extension(run, stamped):
    """The VSIX, made beside the tree from the extension's sources and the product."""
    source, work, product = places.ROOT / "extensions/vscode", cached("extension"), places.product(build=False)
    schema = places.ROOT / "schemas/ide-protocol.schema.json"
    parts = ["package.json", "package-lock.json", "tsconfig.json", "README.md", ".vscodeignore", "src", "test", "scripts"]

    def install():
        shutil.copyfile(source / "package-lock.json", work / "package-lock.json")
        shutil.copyfile(source / "package.json", work / "package.json")
        run([*NPM, "ci", "--ignore-scripts"], cwd=work)

    def copy():
        for part in parts:
            if (source / part).is_dir():
                shutil.rmtree(work / part, ignore_errors=True)
                shutil.copytree(source / part, work / part)
            else:
                shutil.copyfile(source / part, work / part)
        shutil.copyfile(places.ROOT / "LICENSE", work / "LICENSE")
        shutil.copyfile(schema, work / schema.name)
        run(["npm", "run", "--silent", "check"], cwd=work)
        run(["node", "scripts/package.mjs", product, cached("mirrord-ide.vsix")], cwd=work)

    work.mkdir(parents=True, exist_ok=True)
    stamped(work / "node_modules", [source / "package-lock.json"], install)
    stamped(cached("mirrord-ide.vsix"), [*(source / part for part in parts), schema, product], copy)
