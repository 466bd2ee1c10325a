"""The conformance cells: a case, in a program of one language, in a mode; and what becomes of each.

Each program does a group's cases natively, under an idle session, in the pod itself, and in a session with that pod. A
cell is ok when the idle session saw what this machine's kernel gives, and the session what the pod's own kernel gives.
`cells.toml` names the cells that cannot work (`limited`) and those that do not yet (`open`); one of them that works is
a failure too, so that the lists say what is true.
"""

import json
import os
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path

from cases import CASES, GROUPS
from harness import places
from harness.laptop import Laptop
from harness.testing import Skip
from worlds import Caller, Covered, Native, Near, Pod

HERE = Path(__file__).parent
PROBES = HERE / "probes"
BUILT = places.cache() / "probes"
# Program -> its language, and its command.
PROGRAMS = {
    "c-glibc": ("c", [BUILT / "c-glibc"]),
    "c-glibc-static": ("c", [BUILT / "c-glibc-static"]),
    "c-musl": ("c", [BUILT / "c-musl"]),
    "go-static": ("go", [BUILT / "go-static"]),
    "go-cgo": ("go", [BUILT / "go-cgo"]),
    "rust-musl": ("rust", [BUILT / "rust-musl"]),
    "python": ("python", ["/usr/bin/python3", PROBES / "python/probe.py"]),
    "node": ("node", ["node", PROBES / "node/probe.js"]),
    "java": ("java", ["java", "-cp", BUILT / "java", "Probe"]),
    "ruby": ("ruby", ["ruby", PROBES / "ruby/probe.rb"]),
    "bash": ("bash", ["bash", PROBES / "bash/probe.sh"]),
}
# Without the layer every call is answered by the traps; static programs are in both modes the same.
MODES = {"hybrid": [], "traps": ["env", "-u", "LD_PRELOAD"]}
IDLE = {"env": False, "hostname": False, "network": {"incoming": "off", "dns": False, "outgoing": {"ignore_localhost": True}}}
# The resolver's files are the pod's whatever is said of names; so where names are about, files are local.
IDLE_NAMES = IDLE | {"fs": "local"}


def in_the_pod(ports):
    return {"network": {"incoming": {"mode": "steal", "ports": ports}, "outgoing": {"unix_streams": [f"^{Pod.UNIX}$"]}}}


class Lists:
    """The cells of `cells.toml` by (case, program, mode): "limited" or "open", and why."""

    def __init__(self, text: str):
        self.named = {}
        for kind, entries in tomllib.loads(text).items():
            for entry in entries:
                programs = entry.get("programs") or list(PROGRAMS)
                for case in entry["cases"]:
                    for program in programs:
                        for mode in entry.get("modes") or MODES:
                            if has(program, case):
                                self.named[case, program, mode] = (kind, entry["why"])


def has(program, case):
    """Whether the program has the case: a case names languages, or programs where the library makes the difference."""
    return not {program, PROGRAMS[program][0]}.isdisjoint(CASES[case].languages)


def chosen(group, program):
    """The cases to be run: the group's that the program has, or only those that CASES names (`CASES=3,14`)."""
    wanted = {int(word) for word in os.environ.get("CASES", "").split(",") if word}
    return [case for case in GROUPS[group] if has(program, case) and (not wanted or case in wanted)]


class Stage:
    """Both worlds, kept for all tests of one file."""

    kept = None

    @classmethod
    def get(cls):
        if cls.kept is None:
            cls.kept = cls()
        return cls.kept

    def __init__(self):
        with ExitStack() as around:
            self.near = around.enter_context(Near())
            self.pod = around.enter_context(Pod(str(self.near.local)))
            self.laptop = around.enter_context(Laptop())
            self.around = around.pop_all()

    @classmethod
    def close(cls):
        if cls.kept:
            cls.kept.around.close()
            cls.kept = None

    def runs(self, command, cases, idle, calls):
        """What each run saw, by its name; `calls` are the ports that somebody dials meanwhile."""
        near, pod, target = self.near, self.pod, f"process/{self.pod.target}"
        ports = [int(pod.arguments[name]) for name in calls]
        feature = in_the_pod([80, *ports])
        saw = {}

        def near_by():
            with calling(near, calls):
                saw["natively"] = Native(near.arguments).run(command, cases)
                for mode, before in MODES.items():
                    saw[f"idle {mode}"] = Covered(near.arguments, self.laptop, target, idle, before).run(command, cases)

        def in_the_pod_itself():
            with calling(pod, calls):
                saw["in the pod"] = Native(pod.arguments, pod.enter()).run(command, cases)

        def blind():
            saw["blind"] = Native(pod.arguments).run(command, cases, patience=2)

        # They know nothing of each other; a session with the pod uses the ports and files of the others.
        with ThreadPoolExecutor() as pool:
            for work in [pool.submit(work) for work in (near_by, in_the_pod_itself, blind)]:
                work.result()
        with calling(pod, calls):
            for mode, before in MODES.items():
                saw[f"session {mode}"] = Covered(pod.arguments, self.laptop, target, feature, before).run(command, cases)
        return saw


def calling(world, calls):
    """Somebody who dials these ports of a world."""
    return Caller(world.dial, [int(world.arguments[name]) for name in calls]) if calls else nullcontext()


def check(group, program, calls=()):
    """Runs a group's cases in a program, prints a line each cell, and fails for those that are not as they should be."""
    _, command = PROGRAMS[program]
    if not (shutil.which(str(command[0])) if "/" not in str(command[0]) else Path(command[0]).exists()):
        raise Skip(f"{command[0]} is not there: tests/setup")
    cases = chosen(group, program)
    if not cases:
        raise Skip("none of these cases is asked for")
    saw = Stage.get().runs([str(word) for word in command], cases, IDLE_NAMES if group == "names" else IDLE, calls)
    lists = Lists((HERE / "cells.toml").read_text())
    wrong, totals = [], {"ok": 0, "limited": 0, "open": 0}
    for case in cases:
        if not CASES[case].near and saw["in the pod"][case] == saw["blind"][case]:
            wrong.append(f"case {case} {program}: without the product it sees the same, so it proves nothing: {saw['blind'][case]}")
        for run in ("natively", "in the pod"):
            if problem := unfit(saw[run][case]):
                wrong.append(f"case {case} {program}: {run} {problem}: {saw[run][case]}")
        for mode in MODES:
            differences = [*differs(saw["natively"][case], saw[f"idle {mode}"][case], "idle: "),
                           *differs(saw["in the pod"][case], saw[f"session {mode}"][case], "")]
            kind, why = lists.named.get((case, program, mode), ("ok", ""))
            told = f"case {case} {program} {mode}"
            if bool(differences) == (kind != "ok"):
                totals[kind] += 1
                print(f"{told} {kind}" + (f": {why}" if why else ""), flush=True)
            elif kind == "ok":
                print(f"{told} FAIL", flush=True)
                wrong.append("\n    ".join([told, *differences]))
            else:
                print(f"{told} FAIL", flush=True)
                wrong.append(f"{told} works, but cells.toml calls it {kind} ({why}): take it off the list")
    note(totals)
    assert not wrong, f"{len(wrong)} wrong:\n  " + "\n  ".join(wrong)


def unfit(seen):
    """Why what was seen without the product can be no measure."""
    return next((f"the probe {seen[key]}" for key in ("probe", "missing", "raised") if key in seen), None)


def differs(wanted, got, what):
    keys = [key for key in {**wanted, **got} if key != "errors"]
    return [f"{what}{key}: got {got.get(key)!r}, wanted {wanted.get(key)!r}" for key in keys if got.get(key) != wanted.get(key)]


def totals_file():
    return Path(os.environ.get("TMPDIR", "/tmp")) / "cells-totals.json"


def note(totals):
    """Adds to the totals of this run of the folder, which every file's process adds to."""
    path = totals_file()
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({kind: before.get(kind, 0) + count for kind, count in totals.items()}))
