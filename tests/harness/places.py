"""Where things are: the checkout, the cache outside it, and the programs found there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("MIRRORD_TEST_ROOT") or Path(__file__).resolve().parents[2])
EXAMPLES = ROOT / "examples"


def cache() -> Path:
    """The folder of everything that is built once; root's must be readable by the user whom tests run as."""
    if chosen := os.environ.get("MIRRORD_TEST_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mirrord-ide-tests"
    return Path("/var/cache/mirrord-ide-tests") if os.geteuid() == 0 else Path.home() / ".cache/mirrord-ide-tests"


def venv_python() -> Path:
    return cache() / "venv/bin/python"


def sample(program: str) -> list[str]:
    """The command that runs the sample service in the language given."""
    return {
        "python": [str(venv_python()), str(EXAMPLES / "python/app.py")],
        "go": [str(cache() / "bin/sample-go")],
        "c": [str(cache() / "bin/sample-c")],
        "node": ["node", str(EXAMPLES / "node/app.js")],
        "java": ["java", "-cp", str(cache() / "java"), "App"],
    }[program]


def target_folder() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


class NotBuilt(Exception):
    """The product's binary is not there and could not be built."""


def product(build=True) -> Path:
    """The mirrord-ide binary: the one named by MIRRORD_IDE_BIN, else the checkout's own, built when missing."""
    if chosen := os.environ.get("MIRRORD_IDE_BIN"):
        if not os.access(chosen, os.X_OK):
            raise NotBuilt(f"MIRRORD_IDE_BIN names {chosen}, which is no program")
        return Path(chosen)
    binary = target_folder() / "release/mirrord-ide"
    if build and not binary.exists():
        if not shutil.which("cargo"):
            raise NotBuilt("cargo is missing: install Rust from https://rustup.rs")
        built = subprocess.run(["cargo", "build", "--release", "-p", "ide-server"], cwd=ROOT, stdout=sys.stderr)
        if built.returncode:
            raise NotBuilt("cargo build --release -p ide-server failed")
    if not binary.exists():
        raise NotBuilt(f"{binary} is missing: cargo build --release -p ide-server")
    return binary


def agent() -> Path | None:
    """The static agent: the one named by MIRRORD_IDE_AGENT, else the one that the checkout's product was made with."""
    if chosen := os.environ.get("MIRRORD_IDE_AGENT"):
        return Path(chosen)
    found = target_folder().glob(f"embedded/{os.uname().machine}-*/embedded/agent")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
