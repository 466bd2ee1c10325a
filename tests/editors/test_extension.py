"""The extension without an editor: its unit tests, and what its package holds."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import places
from harness.code_server import cached
from harness.testing import equal, limit


@limit(120)
def test_the_unit_tests_of_the_extension_pass():
    done = subprocess.run(["npm", "test", "--silent"], cwd=cached("extension"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    print(f"{done.stdout.count(chr(10) + 'ok ')} unit tests of the extension", file=sys.stderr)


def test_the_package_is_the_whole_product_and_nothing_else():
    with zipfile.ZipFile(cached("mirrord-ide.vsix")) as package:
        held = {name.removeprefix("extension/") for name in package.namelist() if name.startswith("extension/")}
        equal(held, {"package.json", "readme.md", "LICENSE.txt", "dist/extension.js", "dist/daemon.js", "bin/mirrord-ide"})
        assert package.getinfo("extension/bin/mirrord-ide").external_attr >> 16 & 0o111, "the program cannot be started"
        equal(len(package.read("extension/bin/mirrord-ide")), os.stat(places.product(build=False)).st_size, "the program's size")
        manifest = json.loads(package.read("extension/package.json"))
        code = (package.read("extension/dist/extension.js") + package.read("extension/dist/daemon.js")).decode()
    equal(manifest["extensionKind"], ["workspace"])
    for word in ("applicationinsights", "createTelemetryLogger", "https://dc.services"):
        assert word not in code, f"the extension speaks of {word}"
