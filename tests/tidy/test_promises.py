"""docs/promises.md names tests that exist."""

import re

from harness import places
from harness.testing import equal


def test_every_promise_names_a_test_that_exists():
    text = (places.ROOT / "docs/promises.md").read_text()
    named = re.findall(r"`(\w+/\w+): (test_\w+)`", text)
    assert len(named) > 10, "the table is not read"
    missing = []
    for file, name in named:
        path = places.ROOT / "tests" / f"{file}.py"
        if not path.exists() or f"def {name}(" not in path.read_text():
            missing.append(f"{file}: {name}")
    equal(missing, [])
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) <= 20, "more promises than anybody repeats"
