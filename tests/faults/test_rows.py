"""Every row of the fault catalogue has tests that exist, or a reason why it has none."""

from __future__ import annotations

import pytest

from tests.faults.guard_rows import GUARDS, UNGUARDED
from tests.faults.rows import ROWS, TESTS, functions, held_by

ROOT = TESTS.parent


def test_the_catalogue_is_whole() -> None:
    assert list(ROWS) == [f"R{n:02}" for n in range(1, 71)] + [f"S{n:02}" for n in range(1, 22)]


@pytest.mark.parametrize("row", list(ROWS))
def test_each_row_has_a_test_or_a_reason(row: str) -> None:
    assert bool(held_by(row)) != bool(ROWS[row].reason)


def test_the_tests_that_are_listed_exist() -> None:
    listed = {(row, part) for row, each in ROWS.items() for part in each.tests}
    assert {pair for pair in listed if not any(name.startswith(pair[1]) for name in functions())} == set()


def test_the_guards_that_are_taken_out_stand_where_they_are_said_to() -> None:
    missing = [
        (guard.row, guard.file, guard.before)
        for guard in GUARDS
        if (ROOT / guard.file).read_text(encoding="utf-8").count(guard.before) != 1
    ]
    assert missing == []
    assert {guard.row for guard in GUARDS} | set(UNGUARDED) <= set(ROWS)


@pytest.mark.parametrize("row", list(ROWS))
def test_each_row_has_a_guard_that_is_taken_out_or_a_reason_why_there_is_none(row: str) -> None:
    assert (row in {guard.row for guard in GUARDS}) != (row in UNGUARDED)


def test_no_guard_is_taken_out_twice_for_one_row() -> None:
    taken = [(guard.row, guard.file, guard.before) for guard in GUARDS]
    assert len(set(taken)) == len(taken)
