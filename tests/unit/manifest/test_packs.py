from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.build import Limits
from dataset_tasks.manifest.codec import PackDecoder, PackEncoder
from dataset_tasks.manifest.columns import COLUMNS, SCHEMA, entries
from dataset_tasks.manifest.digest import segment_digest
from dataset_tasks.manifest.index import Index
from dataset_tasks.manifest.overlay import apply
from dataset_tasks.manifest.packs import PackReader, PackWriter
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.manifest.segments import CutRule
from dataset_tasks.testing.manifests import SMALL, STORE_ID, Shelf, chunk_ref, file_entry, stored_in, table_of


def _entries(count: int, content: int = 0):
    return [stored_in(file_entry(b"folder/%05d.bin" % n, content + n), f"chunk-{n // 10}") for n in range(count)]


def _manifest(shelf: Shelf, count: int = 40) -> Manifest:
    objects = {f"chunk-{n}": chunk_ref(f"chunk-{n}") for n in range(count // 10 + 1)}
    built = apply(
        Manifest.empty(),
        [table_of(_entries(count))],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        objects=objects,
        limits=replace(SMALL, max_segments=1000),
    )
    return shelf.land(built)


def _pack(*tables: pa.Table) -> bytes:
    encoder = PackEncoder()
    for table in tables:
        encoder.add(table)
    return encoder.finish()


def test_row_groups_come_back_in_any_order_with_any_columns():
    tables = [table_of(_entries(5, content)) for content in (0, 100, 200)]
    decoder = PackDecoder(pa.BufferReader(_pack(*tables)), "pack")
    assert decoder.group_count() == 3
    assert decoder.read([1], COLUMNS).equals(tables[1])
    assert decoder.read([2, 0], ["path", "size"]).equals(
        pa.concat_tables([tables[2], tables[0]]).select(["path", "size"])
    )


def test_a_pack_is_written_with_the_encodings_of_the_format_page():
    data = _pack(table_of(_entries(600)))
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert "DELTA_BYTE_ARRAY" in columns["path"].encodings
    for name in ("size", "offset", "stored"):
        assert "DELTA_BINARY_PACKED" in columns[name].encodings
    assert "PLAIN" in columns["hash"].encodings
    assert "RLE_DICTIONARY" not in columns["hash"].encodings
    for name in ("kind", "owner", "chunk", "method", "link", "pin"):
        assert "RLE_DICTIONARY" in columns[name].encodings
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert not any(column.is_stats_set for column in columns.values())


def test_an_entry_takes_less_than_50_bytes_in_a_pack():
    shelf = Shelf()
    rng = random.Random(1)
    count = 20_000
    table = entries(
        paths=[b"images/train/class_%04d/IMG_%08d.jpg" % (n // 1000, n) for n in range(count)],
        sizes=[rng.randrange(1000, 200_000) for _ in range(count)],
        hashes=rng.randbytes(32 * count),
        owner="a" * 32,
        chunks="chunk",
        offsets=[n * 100_000 for n in range(count)],
        stored=[rng.randrange(1000, 200_000) for _ in range(count)],
        methods=[8] * count,
    )
    built = apply(
        Manifest.empty(), [table], new_key=shelf.new_key, store_id=STORE_ID, objects={"chunk": chunk_ref("chunk")}
    )
    assert sum(len(data) for _, data in built.packs) < 50 * count


def test_duckdb_reads_a_pack(tmp_path):
    path = tmp_path / "pack.parquet"
    path.write_bytes(_pack(table_of(_entries(20))))
    found = duckdb.sql(f"select path, size, hex(hash), owner, chunk, method from '{path}' order by path").fetchall()
    assert found == [(e.path, e.size, e.hash.hex().upper(), e.owner, e.chunk, e.method) for e in _entries(20)]


def test_a_full_pack_is_followed_by_another():
    keys = iter(["one", "two", "three"])
    writer = PackWriter(lambda: next(keys), "store", max_segments=2)
    places = [writer.add(table_of(_entries(3, n))) for n in range(5)]
    packs, refs = writer.finish()
    assert places == [("one", 0), ("one", 1), ("two", 0), ("two", 1), ("three", 0)]
    assert [key for key, _ in packs] == ["one", "two", "three"]
    assert [(ref.key, ref.size, ref.store_id) for ref in refs] == [(key, len(data), "store") for key, data in packs]


def test_what_is_no_pack_is_an_integrity_error():
    for data in (b"", b"PAR1", b"hello world" * 100, _pack(table_of(_entries(5)))[:-1]):
        with pytest.raises(IntegrityError, match="pack 'the-key' can't be decoded"):
            PackDecoder(pa.BufferReader(data), "the-key")


def test_a_parquet_file_with_other_columns_is_no_pack():
    sink = pa.BufferOutputStream()
    pq.write_table(table_of(_entries(3)).drop_columns(["pin"]), sink)
    with pytest.raises(IntegrityError, match=r"has the columns path binary required, .* expected"):
        PackDecoder(pa.BufferReader(sink.getvalue()), "pack")


def test_a_flipped_bit_in_a_page_never_goes_unnoticed():
    expected = table_of(_entries(200))
    whole = _pack(expected)
    data = bytearray(whole)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rng = random.Random(7)
    unnoticed = 0
    for position in rng.sample(range(4, footer), 150):
        data[position] ^= 1 << rng.randrange(8)
        try:
            unnoticed += not PackDecoder(pa.BufferReader(bytes(data)), "pack").read([0], COLUMNS).equals(expected)
        except IntegrityError:
            pass
        data[position] = whole[position]
    assert unnoticed == 0


def test_text_that_is_not_utf8_is_an_integrity_error():
    table = table_of([file_entry(b"a", owner="xx")])
    wrong = pa.Array.from_buffers(
        pa.string(), 1, [None, table["owner"].chunk(0).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    data = _pack(table.set_column(4, SCHEMA.field("owner"), wrong))
    with pytest.raises(IntegrityError, match="can't be decoded"):
        PackDecoder(pa.BufferReader(data), "pack").read([0], COLUMNS)


def _tampered(shelf: Shelf, manifest: Manifest, **changes) -> Manifest:
    """The manifest whose first segment is described otherwise."""
    first, *others = manifest.index.segments
    return Manifest(Index.of([replace(first, **changes), *others], manifest.index.objects), shelf.read)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 3000}, "entries, expected 3000"),
        ({"first": b"a"}, "expected 'a' to"),
        ({"last": b"folder/00000.bin"}, "to 'folder/00000.bin'"),
        ({"digest": bytes(32)}, "is not the content that the index names"),
        ({"group": 1000}, "row groups, the index refers to \\[1000\\]"),
    ],
)
def test_a_segment_that_is_not_what_the_index_says_is_an_integrity_error(changes, message):
    shelf = Shelf()
    manifest = _tampered(shelf, _manifest(shelf), **changes)
    with pytest.raises(IntegrityError, match=message) as caught:
        manifest.read(manifest.index.segments[0])
    assert "backup" in caught.value.hint


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([b"a", b"x/../y", b"z"], "part `..`"),
        ([b"a", b"/etc/passwd", b"z"], "strictly increasing"),
        ([b"/a", b"/etc/passwd", b"/z"], "is absolute"),
        ([b"a", b"c", b"b", b"d"], "path 'b' comes after 'c'"),
        ([b"a", b"b", b"b", b"c"], "path 'b' comes after 'b'"),
        ([b"a", b"b\0", b"c"], "NUL"),
    ],
)
@pytest.mark.parametrize("columns", [COLUMNS, ("path", "size")])
def test_paths_are_checked_when_they_are_read(paths, message, columns):
    shelf = Shelf()
    count = len(paths)
    table = entries(paths=paths, sizes=range(count), hashes=bytes(32 * count), owner="a" * 32)
    writer = PackWriter(shelf.new_key, STORE_ID)
    pack, group = writer.add(table)
    packs, refs = writer.finish()
    shelf.objects.update(packs)
    manifest = _manifest(shelf)
    segment = replace(
        manifest.index.segments[0],
        first=paths[0],
        last=paths[-1],
        count=count,
        pack=pack,
        group=group,
        digest=segment_digest(table),
        chunks=(),
    )
    reader = PackReader(Index.of([segment], {ref.key: ref for ref in refs}), shelf.read)
    with pytest.raises(IntegrityError, match=message):
        reader.read(segment, columns)


def test_entries_that_contradict_themselves_are_found_when_they_are_read():
    shelf = Shelf()
    table = table_of([replace(file_entry(b"a"), chunk="c", offset=-5)])
    writer = PackWriter(shelf.new_key, STORE_ID)
    pack, group = writer.add(table)
    packs, refs = writer.finish()
    shelf.objects.update(packs)
    segment = replace(
        _manifest(shelf).index.segments[0],
        first=b"a",
        last=b"a",
        count=1,
        pack=pack,
        group=group,
        digest=segment_digest(table),
        chunks=(),
    )
    with pytest.raises(IntegrityError, match="'offset' holds values from -5"):
        PackReader(Index.of([segment], {ref.key: ref for ref in refs}), shelf.read).read(segment)


def test_a_pack_is_fetched_once():
    shelf = Shelf()
    manifest = _manifest(shelf)
    assert len(list(manifest.entries())) == 40
    assert manifest.find("folder/00005.bin") is not None
    assert shelf.reads == ["pack-0"]


def test_packs_that_do_not_fit_the_cache_are_fetched_again():
    shelf = Shelf()
    manifest = _manifest(shelf)
    built = apply(
        manifest,
        [table_of([file_entry(b"folder/00020.bin", 9)])],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        limits=replace(SMALL, max_segments=1000),
    )
    child = shelf.land(built)
    del shelf.reads[:]
    small = Manifest(child.index, shelf.read, cache_bytes=1)
    assert len(list(small.entries())) == 40
    assert shelf.reads == ["pack-0", "pack-1", "pack-0"]


def test_of_a_mostly_dead_pack_only_the_live_row_groups_are_kept():
    shelf = Shelf()
    limits = Limits(cuts=CutRule(least=64, modulus=8, most=128))
    count = 4000
    objects = {f"chunk-{n}": chunk_ref(f"chunk-{n}") for n in range(count // 10)}
    where = {"new_key": shelf.new_key, "store_id": STORE_ID, "limits": limits}
    whole = shelf.land(apply(Manifest.empty(), [table_of(_entries(count))], objects=objects, **where))
    segments = whole.index.segments[3:6] + whole.index.segments[20:22]
    part = Manifest(Index.of(segments, whole.index.objects), shelf.read)
    for segment in (*segments, *reversed(segments)):
        assert part.read(segment).equals(whole.read(segment))
        assert part.read(segment, ("size",)).equals(whole.read(segment, ("size",)))
    ((_, kept),) = part._packs._open.values()
    assert kept < whole.index.objects["pack-0"].size / 4


def test_several_threads_may_read_one_manifest():
    shelf = Shelf()
    manifest = _manifest(shelf, 200)
    expected = _entries(200)

    def read(number: int) -> bool:
        return manifest.find(f"folder/{number:05d}.bin") == expected[number]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, [n % 200 for n in range(600)]))
