"""Tables at the widths of terminals: ids and numbers stay whole, what finds no room is left out."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from dataset_tasks.cli.describe import DatasetSummary, datasets_table, versions_table
from dataset_tasks.cli.fitting import Fitted
from dataset_tasks.model import State, Version

WIDTHS = [40, 60, 80, 120]
IDS = [f"{number:x}" * 32 for number in range(10, 14)]


def version(number: int, name: str = "orders", **more: object) -> Version:
    return Version(  # type: ignore[arg-type]  # what a test gives
        id=IDS[number], catalog_id="c" * 32, project="shop", name=name, version=f"1.0.{number}", state=State.PUBLISHED,
        revision=1, created=datetime(2026, 1, 1, tzinfo=UTC), sequence=number, files=1_234_567, bytes=98_765_432,
        new_bytes=1_000, tags=("good", "checked"), **more,
    )  # fmt: skip


def lines(fitted: Fitted, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(fitted[0])
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_version_has_one_line_and_nothing_in_it_is_cut(width: int) -> None:
    versions = [version(number) for number in range(4)]
    fitted = versions_table(versions, {IDS[0]: ["prod"]}, width)
    shown = lines(fitted, width)

    assert len(shown) == 2 + len(versions)
    assert max(map(cell_len, shown)) <= width
    for number, line in enumerate(shown[2:]):
        assert f"1.0.{number}" in line
        assert "published" in line
        assert ("id" in fitted[1]) is not (IDS[number] in line)
    assert ("id" in fitted[1]) is (width == 40)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_dataset_has_one_line_and_nothing_in_it_is_cut(width: int) -> None:
    found = [DatasetSummary(version(n, name), versions=12) for n, name in enumerate(["orders", "報告書", "x" * 12])]
    shown = lines(datasets_table(found, width), width)

    assert len(shown) == 2 + len(found)
    assert max(map(cell_len, shown)) <= width
    assert [line.split()[0] for line in shown[2:]] == ["shop/orders", "shop/報告書", "shop/" + "x" * 12]


def test_a_wide_terminal_leaves_nothing_out() -> None:
    assert versions_table([version(1)], {}, 200)[1] == ()
    assert datasets_table([DatasetSummary(version(1))], 200)[1] == ()


def test_names_that_find_no_room_are_folded_and_what_is_whole_stays_whole() -> None:
    shown = lines(versions_table([version(1, "n" * 100), version(2)], {}, 60), 60)

    assert max(map(cell_len, shown)) <= 60
    assert "".join(line.split()[0] for line in shown[2:-1]) == "shop/" + "n" * 100


def test_the_same_dataset_in_every_line_gives_way_to_the_id() -> None:
    assert "dataset" in versions_table([version(1), version(2)], {}, 80)[1]
    assert "dataset" not in versions_table([version(1), version(2, "other")], {}, 80)[1]


def test_no_rows_are_only_heads() -> None:
    assert lines(datasets_table([], 120), 120)[0].split()[0] == "dataset"
