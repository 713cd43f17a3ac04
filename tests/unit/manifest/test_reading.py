from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest import COLUMNS, Manifest, PathRange, apply
from dataset_tasks.manifest.reading import BATCH_ROWS
from dataset_tasks.testing.manifests import STORE_ID, Shelf, file_entry, table_of

COUNT = 40_000


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(scope="module")
def manifest(shelf: Shelf) -> Manifest:
    content = [file_entry(b"%s/%05d" % (b"train" if n % 2 else b"test", n), n) for n in range(COUNT)]
    return shelf.land(apply(Manifest.empty(), [table_of(content)], new_key=shelf.new_key, store_id=STORE_ID))


def test_opening_and_asking_for_totals_reads_nothing(shelf, manifest):
    del shelf.reads[:]
    opened = Manifest(manifest.index, shelf.read)
    assert len(opened) == COUNT
    assert opened.bytes == sum(range(COUNT))
    assert len(opened.content_hash) == 64
    assert repr(opened) == f"<Manifest of {COUNT} entries in {len(manifest.index.segments)} segments>"
    assert shelf.reads == []


def test_batches_are_of_middling_size_sorted_and_never_empty(manifest):
    tables = list(manifest.batches(("path",)))
    assert all(BATCH_ROWS <= len(table) < BATCH_ROWS + 4096 for table in tables[:-1])
    assert len(tables[-1])
    paths = [path for table in tables for path in table["path"].to_pylist()]
    assert paths == sorted(set(paths))
    assert len(paths) == COUNT


def test_columns_come_in_the_order_of_the_schema(manifest):
    assert manifest.to_table(("size", "path")).column_names == ["path", "size"]
    assert manifest.to_table().column_names == list(COLUMNS)


def test_an_unknown_column_is_refused_at_once(manifest):
    with pytest.raises(InvalidArgumentError, match=r"no columns \['sise'\]") as caught:
        manifest.batches(("sise",))
    assert "size" in caught.value.hint


def test_a_column_alone_can_be_read_for_part_of_a_segment(manifest):
    table = manifest.to_table(("size",), within=PathRange(b"test/00002", b"test/00008"))
    assert table["size"].to_pylist() == [2, 4, 6]
    assert table.column_names == ["size"]


def test_one_folder_reads_only_the_segments_it_lies_in(shelf, manifest):
    opened = Manifest(manifest.index, shelf.read)
    read: list[int] = []
    decode = opened._packs.read
    opened._packs.read = lambda segment, *how, **more: read.append(segment.group) or decode(segment, *how, **more)
    assert sum(len(table) for table in opened.entries_under("test", ("path",))) == COUNT // 2
    assert len(read) <= len(manifest.index.segments) / 2 + 1
    assert list(opened.entries_under("tes")) == []


def test_one_entry_decodes_one_segment(shelf, manifest):
    opened = Manifest(manifest.index, shelf.read)
    read: list[int] = []
    decode = opened._packs.read
    opened._packs.read = lambda segment, *how, **more: read.append(segment.group) or decode(segment, *how, **more)
    assert opened.find("train/00007") == file_entry(b"train/00007", 7)
    assert len(read) == 1
    assert opened.find("train/00008") is None
    assert opened.find("zzz") is None
    assert opened.find("") is None


def test_nothing_found_is_an_empty_table_with_columns(manifest):
    table = manifest.to_table(("path", "owner"), within=PathRange.under(b"none"))
    assert len(table) == 0
    assert table.column_names == ["path", "owner"]


def test_a_selection_asks_once_for_many_paths(manifest):
    asked: list[int] = []

    def matches(paths):
        asked.append(len(paths))
        return [path.endswith(b"7") for path in paths]

    found = list(manifest.select(matches, ("path",), within=PathRange.under(b"train")))
    assert sum(len(table) for table in found) == COUNT // 10
    assert len(asked) <= 3
    assert all(table.column_names == ["path"] for table in found)


def test_the_empty_manifest_has_nothing():
    empty = Manifest.empty()
    assert len(empty) == 0
    assert list(empty.batches()) == []
    assert empty.find("a") is None
    assert len(empty.to_table()) == 0
