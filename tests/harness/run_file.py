"""Runs the tests of one file and writes one JSON line a test to the descriptor named; the runner reads them."""

import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.testing import DEFAULT_LIMIT, Skip  # noqa: E402


class OutOfTime(BaseException):
    """Not an Exception: code under test that catches those must not swallow the end of its time."""


def out_of_time(_signal, _frame):
    raise OutOfTime


def run(test):
    signal.signal(signal.SIGALRM, out_of_time)
    seconds = getattr(test, "limit", DEFAULT_LIMIT)
    signal.alarm(seconds)
    try:
        test()
        return "ok", ""
    except Skip as reason:
        return "skip", str(reason)
    except OutOfTime:
        return "FAIL", f"took longer than {seconds} s\n{traceback.format_exc()}"
    except Exception:  # whatever a test raises is its failure
        return "FAIL", traceback.format_exc()
    finally:
        signal.alarm(0)


def main():
    path, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    names = sys.argv[3:]
    # A module that cannot be imported ends this process with its traceback; the runner counts that as a failure.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    with os.fdopen(descriptor, "w") as results:
        for name, test in list(vars(module).items()):
            if not name.startswith("test_") or not callable(test) or (names and name not in names):
                continue
            results.write(json.dumps({"begin": name}) + "\n")
            results.flush()
            started = time.monotonic()
            outcome, text = run(test)
            results.write(json.dumps({"test": name, "outcome": outcome, "text": text, "seconds": time.monotonic() - started}) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
