"""What a test file imports: how a test is skipped, limited in time, and waits for an event."""

import re
import time

DEFAULT_LIMIT = 60


class Skip(Exception):
    """This test cannot run here; the text says why, and the run counts it."""


def limit(seconds):
    """Gives a test more (or less) time than the default."""

    def mark(test):
        test.limit = seconds
        return test

    return mark


def eventually(check, what: str, seconds=10.0):
    """Asks `check` until it gives something true, and answers with that; `what` stands in the error."""
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.02)


def retried(attempt, errors, seconds: float, alive=lambda: True, every=0.02):
    """Tries until it does not fail with one of `errors`, and answers with what it gives.

    Its last error is raised when the time is up, or when what it asks is not alive.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except errors:
            if time.monotonic() > end or not alive():
                raise
            time.sleep(every)


def equal(got, wanted, what=""):
    """Asserts equality and shows both sides, which a bare assert does not."""
    if got != wanted:
        raise AssertionError(f"{what + ': ' if what else ''}got {got!r}, wanted {wanted!r}")


def contains(text, part, what=""):
    if part not in text:
        raise AssertionError(f"{what + ': ' if what else ''}{part!r} is not in:\n{text}")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but whose parent has not yet asked for its status does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def refused(done, word, status, *parts, began=None, seconds=5.0):
    """Asserts one line of what failed with its word, one of what to do, the kind's exit status, and all of that soon."""
    equal(done.returncode, status, done.stderr)
    first, second = done.stderr.strip().splitlines()[-2:]
    assert re.fullmatch(rf"mirrord-ide: .+ \[{word}\]", first), done.stderr
    assert second.startswith("  ") and len(second) > 12, done.stderr
    for part in parts:
        contains(done.stderr, part)
    equal(done.stdout, "")
    if began:
        assert time.monotonic() - began < seconds, f"took {time.monotonic() - began:.1f} s"
