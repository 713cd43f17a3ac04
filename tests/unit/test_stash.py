"""Tables kept outside memory come back as they were, as often as one likes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from dataset_tasks.errors import StorageError
from dataset_tasks.manifest.columns import placements
from dataset_tasks.ops.reuse import Placed
from dataset_tasks.pending import Encoder, Pending, overlay, table
from dataset_tasks.scan import Batch
from dataset_tasks.stash import Stash


def placed(numbers: range) -> pa.Table:
    return placements(
        paths=[b"%05d" % number for number in numbers],
        hashes=[bytes([number % 256]) * 32 for number in numbers],
        chunks="chunks/a.zip",
        offsets=numbers,
        stored=numbers,
        methods=[0] * len(numbers),
    )


@pytest.mark.parametrize("most_in_memory", [0, 1000, 1 << 20])
def test_tables_come_back_in_their_order_wherever_they_were_kept(most_in_memory: int) -> None:
    stash = Stash(most_in_memory)
    assert not stash
    tables = [placed(range(start, start + 7)) for start in range(0, 70, 7)]
    for each in tables:
        stash.append(each)
    assert len(stash) == len(tables)
    for _ in range(2):
        assert all(found.equals(each) for found, each in zip(stash, tables, strict=True))


def test_a_slice_is_kept_without_the_rows_around_it() -> None:
    stash = Stash(0)
    stash.append(placed(range(10_000)).slice(5000, 2))
    assert stash[0].equals(placed(range(5000, 5002)))
    assert stash[0].nbytes < 1000


def test_a_folder_that_takes_no_temporary_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="temporary file"):
        Stash(0).append(placed(range(3)))


def test_the_temporary_file_goes_with_the_stash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count_open: Callable[[], int]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stash = Stash(0)
    stash.append(placed(range(3)))
    assert list(tmp_path.iterdir()) == []
    assert count_open() == 1
    del stash
    assert count_open() == 0


def test_placements_come_sorted_also_where_tables_reach_into_each_other() -> None:
    held = Placed()
    for numbers in (range(50, 60), range(1, 20, 2), range(0, 20, 2)):
        held.add(placed(numbers))
    rows = pa.concat_tables(held.in_order())
    assert rows["offset"].to_pylist() == [*range(20), *range(50, 60)]
    paths = placed(range(15, 55))["path"].chunk(0)
    assert held.known(paths).to_pylist() == [number < 20 or number >= 50 for number in range(15, 55)]


def batch(numbers: range, root: bytes) -> pa.Table:
    paths = [b"%06d" % number for number in numbers]
    ones = [1] * len(paths)
    return table(Batch(paths, ones, [b""] * len(paths), [root + path for path in paths], ones, ones, ones, ones))


def test_the_list_of_pending_files_finds_sources_of_any_part_in_any_order() -> None:
    encoder = Encoder()
    for start in range(0, 100_000, 20_000):
        encoder.add(batch(range(start, start + 20_000, 2), b"/a/"))
    data = encoder.finish()
    for pending in (Pending(data), Pending(overlay(data, data))):
        for start in (99_000, 0, 50_000, 19_990):
            wanted = batch(range(start, start + 20), b"")["path"].chunk(0)
            expected = [b"/a/%06d" % n if n % 2 == 0 and n < 100_000 else None for n in range(start, start + 20)]
            assert pending.sources(wanted) == expected
        assert pending.sources(batch(range(200_000, 200_003), b"")["path"].chunk(0)) == [None] * 3
        assert pending.sources(batch(range(0), b"")["path"].chunk(0)) == []
    assert Pending.nothing().sources(wanted) == [None] * len(wanted)


def test_of_two_lists_of_pending_files_the_later_one_holds() -> None:
    old, new = Encoder(), Encoder()
    old.add(batch(range(40), b"/old/"))
    new.add(batch(range(30, 50), b"/new/"))
    both = Pending(overlay(old.finish(), new.finish()))
    sources = both.sources(batch(range(50), b"")["path"].chunk(0))
    assert sources == [b"/%s/%06d" % (b"old" if n < 30 else b"new", n) for n in range(50)]
