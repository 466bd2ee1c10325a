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


def debugpy_adapter() -> Path:
    """What Python's extension for VS Code carries with it."""
    return next((cache() / "venv/lib").glob("python*/site-packages/debugpy/adapter"), cache() / "venv/debugpy-is-missing")


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
    """Where cargo builds for tests and demo: one folder for all checkouts, as most of it is the same for each."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or cache() / "target")


class NotBuilt(Exception):
    """The product's binary is not there and could not be built."""


def build_product() -> Path:
    """Builds what is installed. Also where there is a binary: another checkout may have made it."""
    if not shutil.which("cargo"):
        raise NotBuilt("cargo is missing: install Rust from https://rustup.rs")
    environment = os.environ | {"CARGO_TARGET_DIR": str(target_folder())}
    made = target_folder() / "release/mirrord-ide"
    # The first time takes minutes, which are not to pass in silence.
    quiet = ["--quiet"] if made.exists() else []
    if subprocess.run(["cargo", "build", *quiet, "--release", "-p", "ide-server"], cwd=ROOT, env=environment, stdout=sys.stderr).returncode:
        raise NotBuilt("cargo build --release -p ide-server failed")
    return made


def product(build=True) -> Path:
    """The mirrord-ide binary: the one named by MIRRORD_IDE_BIN, else one built in the checkout, else one made for it."""
    if chosen := os.environ.get("MIRRORD_IDE_BIN"):
        if not os.access(chosen, os.X_OK):
            raise NotBuilt(f"MIRRORD_IDE_BIN names {chosen}, which is no program")
        return Path(chosen)
    own, made = ROOT / "target/release/mirrord-ide", target_folder() / "release/mirrord-ide"
    if own.exists() and "CARGO_TARGET_DIR" not in os.environ:
        return own
    if build:
        return build_product()
    if not made.exists():
        raise NotBuilt(f"{made} is missing: tests/setup builds it")
    return made


def agent() -> Path | None:
    """The static agent: the one named by MIRRORD_IDE_AGENT, else the one that the product was made with."""
    if chosen := os.environ.get("MIRRORD_IDE_AGENT"):
        return Path(chosen)
    try:
        folder = product(build=False).parents[1]
    except NotBuilt:
        return None
    # The runner hands tests a copy of the product that lies elsewhere; what it was made with lies where it was built.
    found = [path for place in (folder, target_folder()) for path in place.glob(f"embedded/{os.uname().machine}-*/embedded/agent")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
