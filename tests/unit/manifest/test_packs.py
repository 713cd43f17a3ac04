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
from dataset_tasks.manifest.columns import COLUMNS, LINK, SCHEMA, entries
from dataset_tasks.manifest.digest import segment_digest
from dataset_tasks.manifest.index import Index
from dataset_tasks.manifest.overlay import apply
from dataset_tasks.manifest.packs import PackReader, PackWriter
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.manifest.segments import CUTS, CutRule
from dataset_tasks.manifest.sources import NO_SOURCES, PACK_SCHEMA, Sources, join, split
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


def _sources(table: pa.Table) -> Sources:
    return split(table)[1]


def test_row_groups_come_back_in_any_order_with_any_columns():
    tables = [table_of(_entries(5, content)) for content in (0, 100, 200)]
    decoder = PackDecoder(pa.BufferReader(_pack(*tables)), "pack")
    assert decoder.group_count() == 3
    for group in (1, 2, 0):
        table = tables[group]
        assert decoder.read(group, COLUMNS, _sources(table)).equals(table)
        assert decoder.read(group, ["path", "size"], NO_SOURCES).equals(table.select(["path", "size"]))
        assert decoder.read(group, ["owner"], _sources(table)).equals(table.select(["owner"]))
        assert decoder.read(group, ["chunk", "offset"], _sources(table)).equals(table.select(["chunk", "offset"]))


def test_the_sources_of_a_segment_are_sorted_and_each_row_has_the_number_of_its_own():
    rows = [
        file_entry(b"a", owner="v2", chunk="chunk-b"),
        file_entry(b"b", owner="v1"),
        file_entry(b"c", owner="v1", chunk="chunk-a"),
        file_entry(b"d", owner="v1", chunk="chunk-b"),
        file_entry(b"e", owner="v2", chunk="chunk-b"),
    ]
    stored, sources = split(table_of(rows))
    assert list(sources) == [("", "v1"), ("chunk-a", "v1"), ("chunk-b", "v1"), ("chunk-b", "v2")]
    assert stored["source"].to_pylist() == [3, 0, 1, 2, 3]
    assert stored.schema.equals(PACK_SCHEMA)
    assert join(stored, sources, COLUMNS).equals(table_of(rows))
    sliced, of_slice = split(table_of(rows).slice(2, 2))
    assert (list(of_slice), sliced["source"].to_pylist()) == ([("chunk-a", "v1"), ("chunk-b", "v1")], [0, 1])


def test_as_many_sources_as_a_segment_has_entries_come_back():
    count = CUTS.most
    rows = [file_entry(b"%05d" % n, owner=f"v{n % 4000}", chunk=f"chunk-{n * 7 % count}") for n in range(count)]
    table = table_of(rows)
    decoder = PackDecoder(pa.BufferReader(_pack(table)), "pack")
    assert decoder.read(0, COLUMNS, _sources(table)).equals(table)


def test_a_number_of_no_source_is_an_integrity_error():
    table = table_of([file_entry(b"a", chunk="c"), file_entry(b"b", chunk="d")])
    decoder = PackDecoder(pa.BufferReader(_pack(table)), "the-key")
    with pytest.raises(IntegrityError, match="pack 'the-key' can't be decoded"):
        decoder.read(0, COLUMNS, Sources.of(list(_sources(table))[:1]))


def test_a_pack_of_layout_1_which_names_chunks_and_owners_itself_is_read():
    table = table_of(_entries(20))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, store_schema=False)
    decoder = PackDecoder(pa.BufferReader(sink.getvalue()), "pack")
    assert decoder.read(0, COLUMNS, NO_SOURCES).equals(table)
    assert decoder.read(0, ["path", "owner"], Sources.of([("chunk-0", "")])).equals(table.select(["path", "owner"]))


def test_a_pack_is_written_with_the_encodings_of_the_format_page():
    data = _pack(table_of(_entries(600)))
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert "DELTA_BYTE_ARRAY" in columns["path"].encodings
    for name in ("size", "source", "offset", "stored"):
        assert "DELTA_BINARY_PACKED" in columns[name].encodings
    assert "PLAIN" in columns["hash"].encodings
    assert "RLE_DICTIONARY" not in columns["hash"].encodings
    for name in ("kind", "method", "link", "pin"):
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
    table = table_of(_entries(20))
    path.write_bytes(_pack(table))
    found = duckdb.sql(f"select path, size, hex(hash), source, method from '{path}' order by path").fetchall()
    number = {source: at for at, source in enumerate(_sources(table))}
    assert found == [(e.path, e.size, e.hash.hex().upper(), number[e.chunk, e.owner], e.method) for e in _entries(20)]


def test_a_full_pack_is_followed_by_another():
    keys = iter(["one", "two", "three"])
    writer = PackWriter(lambda: next(keys), "store", max_segments=2)
    places = [writer.add(table_of(_entries(3, n)))[:2] for n in range(5)]
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
            found = PackDecoder(pa.BufferReader(bytes(data)), "pack").read(0, COLUMNS, _sources(expected))
            unnoticed += not found.equals(expected)
        except IntegrityError:
            pass
        data[position] = whole[position]
    assert unnoticed == 0


def test_text_that_is_not_utf8_is_an_integrity_error():
    table = table_of([replace(file_entry(b"a"), kind=LINK, link="xx")])
    wrong = pa.Array.from_buffers(
        pa.string(), 1, [None, table["link"].chunk(0).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    data = _pack(table.set_column(COLUMNS.index("link"), SCHEMA.field("link"), wrong))
    with pytest.raises(IntegrityError, match="can't be decoded"):
        PackDecoder(pa.BufferReader(data), "pack").read(0, COLUMNS, _sources(table))


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
    pack, group, sources = writer.add(table)
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
        sources=sources,
    )
    reader = PackReader(Index.of([segment], {ref.key: ref for ref in refs}), shelf.read)
    with pytest.raises(IntegrityError, match=message):
        reader.read(segment, columns)


def test_entries_that_contradict_themselves_are_found_when_they_are_read():
    shelf = Shelf()
    table = table_of([replace(file_entry(b"a"), chunk="c", offset=-5)])
    writer = PackWriter(shelf.new_key, STORE_ID)
    pack, group, sources = writer.add(table)
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
        sources=sources,
    )
    with pytest.raises(IntegrityError, match="'offset' holds values from -5"):
        PackReader(Index.of([segment], {"c": chunk_ref("c")} | {ref.key: ref for ref in refs}), shelf.read).read(
            segment
        )


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


def _decoded(monkeypatch) -> list[int]:
    """The row groups that are decoded from now on, in order."""
    groups: list[int] = []
    read = PackDecoder.read

    def noted(self, group, columns, sources):
        groups.append(group)
        return read(self, group, columns, sources)

    monkeypatch.setattr(PackDecoder, "read", noted)
    return groups


def test_a_segment_that_is_kept_is_decoded_once_whatever_columns_are_asked_for(monkeypatch):
    shelf = Shelf()
    manifest = _manifest(shelf)
    expected = Manifest(manifest.index, shelf.read).to_table()
    groups = _decoded(monkeypatch)
    first, second = manifest.index.segments[:2]
    found = [manifest.read(first, ("size", "path"), keep=True), manifest.read(first), manifest.read(first, ("owner",))]
    here = expected.slice(0, first.count)
    assert [table.equals(here.select(table.column_names)) for table in found] == [True] * 3
    assert [table.column_names for table in found] == [["path", "size"], list(COLUMNS), ["owner"]]
    manifest.read(second)
    manifest.read(second)
    assert groups == [first.group, second.group, second.group]


def test_only_so_many_rows_are_kept(monkeypatch):
    shelf = Shelf()
    manifest = _manifest(shelf)
    first, second, third = manifest.index.segments[:3]
    monkeypatch.setattr("dataset_tasks.manifest.packs.KEPT_ROWS", first.count + second.count)
    manifest = Manifest(manifest.index, shelf.read)
    groups = _decoded(monkeypatch)
    for _ in range(2):
        for segment in (first, second, third):
            assert len(manifest.read(segment, ("path",), keep=True)) == segment.count
    assert groups == [first.group, second.group, third.group, third.group]


def test_what_is_kept_is_checked_as_anything_that_is_read():
    shelf = Shelf()
    manifest = _tampered(shelf, _manifest(shelf), digest=bytes(32))
    for _ in range(2):
        with pytest.raises(IntegrityError, match="is not the content that the index names"):
            manifest.read(manifest.index.segments[0], ("path",), keep=True)


def test_several_threads_may_read_one_manifest():
    shelf = Shelf()
    manifest = _manifest(shelf, 200)
    expected = _entries(200)

    def read(number: int) -> bool:
        return manifest.find(f"folder/{number:05d}.bin") == expected[number]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, [n % 200 for n in range(600)]))
