"""Lets cargo see what has changed, where it looks at times alone.

All checkouts share one target folder, and cargo takes a file for changed when it is newer than what was built from it.
So a new clone would build everything again, and an older checkout could be taken for what another one has built. After
a run the content and the time of every source are written down; before the next one each file of the same content gets
that time back, and every other one the time of now.
"""

import hashlib
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

SOURCES = ["Cargo.toml", "Cargo.lock", "agent", "ide-server", "policy", "preload-layer", "schemas"]
NOTES = "sources.json"


@contextmanager
def noted(root: Path, target: Path):
    """Around a run that builds from `root` into `target`."""
    before = contents(root)
    restore(root, target, before)
    yield
    if target.is_dir() and contents(root) == before:
        files = {name: {"content": digest, "time": (root / name).stat().st_mtime_ns} for name, digest in before.items()}
        fresh = target / f"{NOTES}.new"
        fresh.write_text(json.dumps({"at": time.time_ns(), "files": files}))
        fresh.replace(target / NOTES)


def restore(root: Path, target: Path, now: dict[str, str]):
    """Gives the sources the times that cargo is to see."""
    try:
        notes = json.loads((target / NOTES).read_text())
    except (FileNotFoundError, ValueError):
        return
    built = newest_build(target)
    if notes["at"] < built:
        return  # what was built since then was built from sources that the notes do not know
    for name, digest in now.items():
        known, path = notes["files"].get(name), root / name
        time_now = path.stat().st_mtime_ns
        if known and known["content"] == digest:
            wanted = known["time"]
        else:
            wanted = time_now if time_now > built else time.time_ns()
        if wanted != time_now:
            try:
                os.utime(path, ns=(wanted, wanted))
            except PermissionError:
                return  # somebody else's checkout: cargo builds what it takes for new


def contents(root: Path) -> dict[str, str]:
    """A digest of every source, and of every folder's list of names: build scripts look at folders too."""
    found = {}
    for top in SOURCES:
        for path in [root / top, *sorted((root / top).rglob("*"))]:
            if path.is_dir():
                content = "\n".join(sorted(child.name for child in path.iterdir())).encode()
            elif path.is_file():
                content = path.read_bytes()
            else:
                continue
            found[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


def newest_build(target: Path) -> int:
    """When cargo built anything there last."""
    return max((path.stat().st_mtime_ns for path in target.glob("**/.fingerprint/*/invoked.timestamp")), default=0)
