"""What the scripts here share: the product on a stand-in pod, interleaved rounds, and figures held against limits.

Machines differ and are busy, so a figure is a ratio: each round measures plain, hybrid (the layer in front of the
traps) and traps alone one after the other, and the figure is the median of the rounds. MIRRORD_IDE_BIN names the
product, else it is target/release/mirrord-ide; a debug build needs MIRRORD_IDE_AGENT and MIRRORD_IDE_LAYER too.
ROUNDS=n in the environment changes the number of rounds.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness.laptop import Laptop  # noqa: E402
from harness.local_pod import LocalPod  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", 5))


class Stage:
    """A pod, a laptop, and the program that measures, in the three ways; a context manager."""

    def __enter__(self):
        self.pod = LocalPod()
        self.pod.__enter__()
        try:
            pid = self.pod.start_sample("python")
            self.target = f"process/{pid}"
            self.laptop = Laptop()
            self.measure = self.laptop.folder / "measure"
            source = Path(__file__).with_name("measure.c")
            subprocess.run(["cc", "-O2", "-Wall", "-o", self.measure, source], check=True)
            self.measure.chmod(0o755)
        except BaseException:
            self.pod.close()
            raise
        return self

    def __exit__(self, *_):
        self.laptop.close()
        self.pod.close()

    def plain(self, *words) -> dict[str, float]:
        done = subprocess.run([self.measure, *words], env=self.laptop.env, cwd=self.laptop.folder, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        return parsed(done.stdout, done, with_layer=False)

    def hybrid(self, *words) -> dict[str, float]:
        return self.covered([str(self.measure), *words], with_layer=True)

    def traps(self, *words) -> dict[str, float]:
        return self.covered(["env", "-u", "LD_PRELOAD", str(self.measure), *words], with_layer=False)

    def covered(self, command, with_layer: bool) -> dict[str, float]:
        session = self.laptop.exec(self.target, command)
        code = session.wait(120)
        told = subprocess.CompletedProcess(command, code, session.stdout, session.stderr)
        return parsed(session.stdout, told, with_layer)

    def ways(self):
        return {"plain": self.plain, "hybrid": self.hybrid, "traps": self.traps}


def values(text: str) -> dict[str, float]:
    """What a measuring program printed: `name value` a line."""
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


def parsed(text: str, done, with_layer: bool) -> dict[str, float]:
    if done.returncode:
        raise SystemExit(f"{done.args} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    measured = values(text)
    if bool(measured.pop("layer")) != with_layer:
        raise SystemExit("the layer is not where it should be: is this a debug build without MIRRORD_IDE_LAYER?")
    return measured


def rounds(stage: Stage, *words) -> dict[str, list[dict[str, float]]]:
    """What each way measured in each round."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in stage.ways()}
    for _ in range(ROUNDS):
        for way, run in stage.ways().items():
            found[way].append(run(*words))
    return found


class Figures:
    """Prints figures and remembers which are over their limit."""

    def __init__(self):
        self.over = 0

    def ratio(self, name: str, found, key: str, limit: float | None):
        plain, hybrid, traps = ([values[key] for values in found[way]] for way in ("plain", "hybrid", "traps"))
        ratio = median(h / p for h, p in zip(hybrid, plain))
        alone = median(t / p for t, p in zip(traps, plain))
        note = f"plain {shown(median(plain))}, traps alone {alone:.2f}"
        self.line(name, f"{ratio:.2f}", ratio, limit, f"{limit:g}" if limit else "none", note)

    def more(self, name: str, found, key: str, limit: float, floor: str):
        """The figure is a difference in nanoseconds. `floor` is what nothing can be less than on this machine now.

        A limit below the floor, give or take a tenth, says something of the machine and not of the product.
        """
        more = median(h[key] - p[key] for h, p in zip(found["hybrid"], found["plain"]))
        least = median(p[floor] - p[key] for p in found["plain"])
        note = f"plain {shown(median(p[key] for p in found['plain']))}, an empty filter alone {least:+.0f}ns"
        self.line(name, f"{more:+.0f}ns", more, max(limit, least * 1.1), f"{limit:+.0f}ns", note)

    def line(self, name, text, value, limit, limit_text, note):
        over = limit is not None and value > limit
        self.over += over
        print(f"{name} {text} ({limit_text}){' OVER' if over else ''}  # {note}", flush=True)

    def end(self):
        sys.exit(1 if self.over else 0)


def shown(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.1f}ms" if nanoseconds > 1e6 else f"{nanoseconds:.0f}ns"


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing")
