"""The lists of the conformance cells say what is true of the documentation, and the table of cases is whole."""

import re
import sys

from harness import places
from harness.testing import equal

sys.path.insert(0, str(places.ROOT / "tests/conformance"))
from cases import ALL, CASES, GROUPS, KEPT_ELSEWHERE, NOT_YET  # noqa: E402
from cells import HERE, PROGRAMS, Lists, has  # noqa: E402


def lists():
    return Lists((HERE / "cells.toml").read_text()).named


def test_each_limited_cell_is_a_row_of_the_limitations():
    text = (places.ROOT / "docs/limitations.md").read_text()
    named = {why for kind, why in lists().values() if kind == "limited"}
    assert named, "the list is not read"
    equal([why for why in sorted(named) if f"| {why}" not in text], [])


def test_at_most_25_cells_are_limited():
    limited = [cell for cell, (kind, _) in lists().items() if kind == "limited"]
    assert len(limited) <= 25, limited


def test_all_83_cases_are_in_the_table_once():
    equal(sorted([*CASES, *KEPT_ELSEWHERE, *NOT_YET]), list(range(1, 84)))
    equal(sorted(case for group in GROUPS.values() for case in group), sorted(CASES))
    for number, case in CASES.items():
        assert case.left_out or set(ALL.split()) <= set(case.languages), number


def test_tests_that_keep_a_case_elsewhere_exist():
    missing = []
    for case, tests in KEPT_ELSEWHERE.items():
        for test in tests:
            file, name = test.split(": ")
            path = places.ROOT / file
            if not path.exists() or f"fn {name}(" not in (text := path.read_text()) and f"def {name}(" not in text:
                missing.append((case, test))
    equal(missing, [])


def test_each_program_has_a_test_for_each_group_with_a_case_of_its():
    for group, cases in GROUPS.items():
        text = (places.ROOT / f"tests/conformance/test_cells_{group}.py").read_text()
        wanted = [program for program in PROGRAMS if any(has(program, case) for case in cases)]
        equal(re.findall(rf'check\("{group}", "([\w-]+)"', text), wanted, group)
