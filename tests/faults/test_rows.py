"""Every row of the fault catalogue has tests that exist, or a reason why it has none."""

from __future__ import annotations

import pytest

from tests.faults.guards import GUARDS, ROOT
from tests.faults.rows import ROWS, functions, held_by


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
    assert {guard.row for guard in GUARDS} <= set(ROWS)
