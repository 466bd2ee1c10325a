"""The probe in Python: `probe.py NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each."""

import errno
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.dont_write_bytecode = True


class Probe:
    """The run's arguments, and what the case at hand saw."""

    def __init__(self, words):
        self.arguments = dict(word.split("=", 1) for word in words if "=" in word)
        self.seen = {}

    def __getattr__(self, name):
        return self.arguments[name]

    def dir(self, name=""):
        return self.arguments["dir"] + (f"/{name}" if name else "")

    def near(self, name):
        return f"{self.arguments['local']}/{name}"

    def saw(self, key, value):
        self.seen[key] = value if isinstance(value, (str, bool)) else repr(value) if isinstance(value, float) else str(value)

    def does(self, key, action, *words, **options):
        """Notes what the action gives ("ok" for nothing), or the name of its errno; answers with it."""
        try:
            got = action(*words, **options)
        except OSError as error:
            self.saw(key, named(error))
            return None
        self.saw(key, "ok" if got is None else got.decode(errors="replace") if isinstance(got, bytes) else got)
        return got


def named(error):
    name = errno.errorcode.get(error.errno) if isinstance(error.errno, int) and error.errno > 0 else None
    return name or type(error).__name__


def main():
    probe = Probe(sys.argv[1:])
    cases = {}
    for group in ("files", "sockets", "names", "processes"):
        if (Path(__file__).parent / f"{group}.py").exists():
            cases |= __import__(group).CASES
    for word in sys.argv[1:]:
        if "=" in word:
            continue
        probe.seen = {}
        try:
            cases[int(word)](probe)
        except Exception as error:  # what a case did not expect is what it saw
            probe.saw("raised", f"{type(error).__name__} {named(error) if isinstance(error, OSError) else error}")
        print(json.dumps({"case": int(word)} | probe.seen), flush=True)


if __name__ == "__main__":
    main()
