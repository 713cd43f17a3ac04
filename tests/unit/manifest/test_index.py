from __future__ import annotations

import json
import random
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest import EMPTY, Index, Manifest, PathRange, apply
from dataset_tasks.manifest.sources import NO_SOURCES, Sources
from dataset_tasks.model import ObjectRef
from dataset_tasks.testing.manifests import SMALL, STORE_ID, Shelf, chunk_ref, file_entry, stored_in, table_of

CHUNKS = {key: chunk_ref(key) for key in ("chunk-a", "chunk-b")}


def _index(count: int = 40) -> Index:
    content = [file_entry(b"f/%03d" % n, n) for n in range(count)]
    content = [
        stored_in(each, random.Random(n).choice(sorted(CHUNKS))) if n % 3 else each for n, each in enumerate(content)
    ]
    shelf = Shelf()
    return apply(
        Manifest.empty(), [table_of(content)], new_key=shelf.new_key, store_id=STORE_ID, objects=CHUNKS, limits=SMALL
    ).index


INDEX = _index()


def test_an_index_comes_back_as_it_was():
    assert Index.from_bytes(INDEX.to_bytes()) == INDEX
    assert Index.from_bytes(EMPTY.to_bytes()) == EMPTY


def test_the_bytes_of_an_index_are_always_the_same():
    assert INDEX.to_bytes() == Index.from_bytes(INDEX.to_bytes()).to_bytes()


def test_totals_and_objects_follow_from_the_segments():
    assert (INDEX.files, INDEX.bytes, INDEX.pending) == (40, sum(range(40)), 14)
    assert INDEX.chunks == ("chunk-a", "chunk-b")
    assert set(INDEX.objects) == {*INDEX.packs, *INDEX.chunks}
    assert len(INDEX.packs) > 1


def test_an_empty_index_holds_nothing():
    assert (EMPTY.files, EMPTY.bytes, EMPTY.pending, EMPTY.packs, EMPTY.chunks) == (0, 0, 0, (), ())
    assert EMPTY.locate(b"a") is None


def test_duckdb_reads_an_index(tmp_path):
    path = tmp_path / "index.parquet"
    path.write_bytes(INDEX.to_bytes())
    needs = {
        number: rest
        for number, *rest in duckdb.sql(
            f"select number, owner, object, store, length, hex(sha256) from '{path}' where number is not null"
        ).fetchall()
    }
    listed = {
        (key, ObjectRef(store_id=store, key=key, size=size, sha256=sha256.lower()))
        for _, key, store, size, sha256 in needs.values()
        if key is not None
    }
    assert listed == set(INDEX.objects.items())
    found = duckdb.sql(f"select first, count, pack, \"group\", sources from '{path}' where number is null").fetchall()
    assert found == [
        (s.first, s.count, s.pack, s.group, [_number(needs, source) for source in s.sources]) for s in INDEX.segments
    ]
    ((described,),) = duckdb.sql(
        f"select value from parquet_kv_metadata('{path}') where key = 'dataset-tasks.manifest'"
    ).fetchall()
    assert json.loads(described)["content_hash"] == INDEX.content_hash


def _number(needs: dict[int, list], source: tuple[str, str]) -> int:
    (number,) = (n for n, (owner, key, *_) in needs.items() if (key or "", owner or "") == source)
    return number


def test_a_path_is_located_in_its_segment_or_nowhere():
    first, second = INDEX.segments[:2]
    assert INDEX.locate(first.first) is first
    assert INDEX.locate(first.last) is first
    assert INDEX.locate(second.first) is second
    assert INDEX.locate(first.last + b"\0") is None
    assert INDEX.locate(b"a") is None
    assert INDEX.locate(b"z") is None


def test_the_segments_of_a_range_are_those_that_may_hold_its_paths():
    first, second, third = INDEX.segments[:3]
    assert list(INDEX.overlapping(PathRange())) == list(INDEX.segments)
    assert list(INDEX.overlapping(PathRange(first.last, second.first))) == [first]
    assert list(INDEX.overlapping(PathRange(first.last, second.first + b"\0"))) == [first, second]
    assert list(INDEX.overlapping(PathRange(second.first, third.first))) == [second]
    assert list(INDEX.overlapping(PathRange(first.last + b"\0", second.first))) == []
    assert list(INDEX.overlapping(PathRange(b"z", None))) == []


def _changed(position: int = 0, **changes) -> Index:
    """The index with one segment described otherwise and all totals made to fit."""
    segments = list(INDEX.segments)
    segments[position] = replace(segments[position], **changes)
    return Index.of(segments, {**INDEX.objects, "other": chunk_ref("other")})


SECOND = INDEX.segments[1]


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (replace(INDEX, files=41), "files is 41, its segments give 40"),
        (replace(INDEX, bytes=1), "bytes is 1"),
        (replace(INDEX, pending=0), "pending is 0"),
        (replace(INDEX, content_hash="00"), "content_hash is 00"),
        (replace(INDEX, objects={**INDEX.objects, "other": chunk_ref("other")}), "other"),
        (replace(INDEX, objects={k: v for k, v in INDEX.objects.items() if k != "chunk-a"}), "chunk-a"),
        (_changed(digest=bytes(32), count=0), "impossible counts"),
        (_changed(count=5000), "impossible counts"),
        (_changed(pending=1000), "impossible counts"),
        (_changed(bytes=-1), "impossible counts"),
        (_changed(group=-1), "impossible counts"),
        (_changed(count=1, pending=0), "one entry but two ends"),
        (_changed(last=SECOND.first), "comes after"),
        (_changed(last=b"a"), "comes after"),
        (_changed(first=b"a/../b"), "part `..`"),
        (_changed(-1, last=b"z\0"), "NUL"),
    ],
)
def test_an_index_that_does_not_add_up_is_an_integrity_error(index, problem):
    with pytest.raises(IntegrityError, match="manifest index 'the-key' does not add up") as caught:
        Index.from_bytes(index.to_bytes(), "the-key")
    assert problem in caught.value.message
    assert "backup" in caught.value.hint


def _rewritten(metadata: dict | None = None, *, drop: str | None = None, table: pa.Table | None = None) -> bytes:
    """The index with other metadata, without a column, or with other rows."""
    file = pq.ParquetFile(pa.BufferReader(INDEX.to_bytes()))
    described = json.loads(file.metadata.metadata[b"dataset-tasks.manifest"])
    table = file.read() if table is None else table
    if drop is not None:
        table = table.drop_columns([drop])
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.add_key_value_metadata({"dataset-tasks.manifest": json.dumps({**described, **(metadata or {})})})
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_rewriting_alone_does_no_harm():
    assert Index.from_bytes(_rewritten()) == INDEX


def test_an_index_of_a_newer_layout_says_so():
    with pytest.raises(IntegrityError, match="has layout 3, expected 1 or 2") as caught:
        Index.from_bytes(_rewritten({"layout": 3}))
    assert caught.value.kind == "layout"
    assert "upgrade" in caught.value.hint


def test_an_index_without_a_column_is_an_integrity_error():
    with pytest.raises(IntegrityError, match="unexpected columns"):
        Index.from_bytes(_rewritten(drop="pending"))


@pytest.mark.parametrize(
    "metadata",
    [
        {"files": "many"},
        {"files": None},
        {"content_hash": 1},
    ],
)
def test_metadata_of_another_shape_is_an_integrity_error(metadata):
    with pytest.raises(IntegrityError, match="can't be decoded"):
        Index.from_bytes(_rewritten(metadata))


def _first_layout(**metadata) -> bytes:
    """The index as layout 1 wrote it: segments name chunks by key, objects stand in the metadata."""
    text, listed = pa.string(), pa.list_(pa.field("element", pa.string(), nullable=False))
    kinds = [pa.binary(), pa.binary(), pa.int32(), pa.int64(), pa.int32(), pa.binary(32), text, pa.int32(), listed]
    names = ["first", "last", "count", "bytes", "pending", "digest", "pack", "group", "chunks"]
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(names, kinds, strict=True)])
    described = {name: getattr(INDEX, name) for name in ("files", "bytes", "pending", "content_hash")} | {
        "layout": 1,
        "objects": {ref.key: [ref.store_id, ref.size, ref.sha256] for ref in INDEX.objects.values()},
    }
    rows = [[getattr(segment, name) for name in names] for segment in INDEX.segments]
    table = pa.table(
        [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)], schema=schema
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, store_schema=False) as writer:
        writer.add_key_value_metadata({"dataset-tasks.manifest": json.dumps(described | metadata)})
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_an_index_of_layout_1_is_read_and_written_as_one_of_layout_2():
    found = Index.from_bytes(_first_layout())
    assert (found.objects, found.chunks, found.packs) == (INDEX.objects, INDEX.chunks, INDEX.packs)
    assert (found.files, found.bytes, found.pending) == (INDEX.files, INDEX.bytes, INDEX.pending)
    assert found.content_hash == INDEX.content_hash
    assert [replace(s, sources=NO_SOURCES) for s in found.segments] == [
        replace(s, sources=NO_SOURCES) for s in INDEX.segments
    ]
    assert [s.sources for s in found.segments] == [Sources.of([(key, "") for key in s.chunks]) for s in INDEX.segments]
    assert Index.from_bytes(found.to_bytes()) == found


@pytest.mark.parametrize("objects", [[], {"a": 1}, {"a": ["s", "x", "y"]}])
def test_objects_of_another_shape_in_an_index_of_layout_1_are_an_integrity_error(objects):
    with pytest.raises(IntegrityError, match="can't be decoded"):
        Index.from_bytes(_first_layout(objects=objects))


@pytest.mark.parametrize("number", [-1, 10_000])
def test_a_source_that_is_not_there_is_an_integrity_error(number):
    table = pq.read_table(pa.BufferReader(INDEX.to_bytes()))
    position = table.schema.get_field_index("sources")
    wrong = table["sources"].combine_chunks()
    numbers = pa.array([number, *wrong.values.to_pylist()[1:]], pa.int32())
    mask = pa.array([value is None for value in table["sources"].to_pylist()])
    lists = pa.ListArray.from_arrays(wrong.offsets, numbers, type=table.schema.field(position).type, mask=mask)
    with pytest.raises(IntegrityError, match="can't be decoded"):
        Index.from_bytes(_rewritten(table=table.set_column(position, table.schema.field(position), lists)))


def test_rows_of_an_index_out_of_order_are_an_integrity_error():
    table = pq.read_table(pa.BufferReader(INDEX.to_bytes()))
    backwards = table.take(pa.array(range(len(table) - 1, -1, -1)))
    with pytest.raises(IntegrityError, match="not in order"):
        Index.from_bytes(_rewritten(table=backwards))


def test_what_is_no_index_is_an_integrity_error():
    sink = pa.BufferOutputStream()
    pq.write_table(table_of([file_entry(b"a")]), sink)
    for data in (b"", b"PAR1" * 4, b"nothing" * 50, INDEX.to_bytes()[:-9], sink.getvalue().to_pybytes()):
        with pytest.raises(IntegrityError, match="manifest index 'the-key' can't be decoded"):
            Index.from_bytes(data, "the-key")


def test_a_flipped_bit_in_an_index_is_found_or_changes_nothing_it_says_of_its_content():
    whole = INDEX.to_bytes()
    data = bytearray(whole)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rng = random.Random(3)
    for position in rng.sample(range(4, footer), 100):
        data[position] ^= 1 << rng.randrange(8)
        try:
            assert Index.from_bytes(bytes(data)) == INDEX
        except IntegrityError:
            pass
        data[position] = whole[position]
