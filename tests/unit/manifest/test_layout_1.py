"""Manifests whose packs are of layout 1: they are read, and children take their segments over."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.manifest import Index, Manifest, apply, diff, merge
from dataset_tasks.manifest.relocate import Place, relocate
from dataset_tasks.manifest.sources import Sources
from dataset_tasks.testing.manifests import (
    SMALL,
    STORE_ID,
    Shelf,
    chunk_ref,
    content_of,
    file_entry,
    stored_in,
    table_of,
)

CHUNKS = {key: chunk_ref(key) for key in ("chunk-a", "chunk-b", "chunk-c")}
OLD = {
    path: stored_in(file_entry(path, n, owner=f"v{n % 4}"), f"chunk-{'ab'[n % 2]}")
    for n, path in enumerate(b"f/%03d" % n for n in range(60))
}


def _old(shelf: Shelf) -> Manifest:
    """A manifest of `OLD` with one pack as layout 1 wrote it."""
    built = apply(
        Manifest.empty(),
        [table_of(OLD.values())],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        objects=CHUNKS,
        limits=replace(SMALL, max_segments=1000),
    )
    now = built.manifest(shelf.read)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table_of(OLD.values()).schema, store_schema=False) as writer:
        for segment in built.index.segments:
            writer.write_table(now.read(segment))
    data = sink.getvalue().to_pybytes()
    ref = replace(built.refs[0], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    shelf.objects[ref.key] = data
    segments = [
        replace(segment, sources=Sources.of([(key, "") for key in segment.chunks])) for segment in built.index.segments
    ]
    return Manifest(Index.of(segments, {**built.index.objects, ref.key: ref}), shelf.read)


def test_a_pack_of_layout_1_tells_owners_and_chunks_of_its_entries():
    manifest = _old(Shelf())
    assert content_of(manifest) == OLD
    assert manifest.find("f/007") == OLD[b"f/007"]
    assert manifest.index.chunks == ("chunk-a", "chunk-b")


def test_a_child_of_a_manifest_of_layout_1_takes_segments_over_and_writes_layout_2():
    shelf = Shelf()
    parent = _old(shelf)
    changed = {b"f/030": stored_in(file_entry(b"f/030", 99, owner="new"), "chunk-c")}
    built = apply(
        parent,
        [table_of(changed.values())],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        objects=CHUNKS,
        limits=SMALL,
    )
    child = shelf.land(built)
    child = Manifest(Index.from_bytes(child.index.to_bytes()), shelf.read)
    assert content_of(child) == {**OLD, **changed}
    kept = [segment for segment in child.index.segments if segment.pack == "pack-0"]
    assert kept
    assert all(segment in parent.index.segments for segment in kept)
    (new,) = (segment for segment in child.index.segments if segment.pack != "pack-0")
    assert all(owner for _, owner in new.sources)
    assert [change.path for change in diff(parent, child).to_model().modified] == ["f/030"]


def test_the_same_content_has_the_same_hash_in_both_layouts():
    shelf = Shelf()
    built = apply(
        Manifest.empty(),
        [table_of(OLD.values())],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        objects=CHUNKS,
        limits=SMALL,
    )
    assert built.index.content_hash == _old(Shelf()).content_hash


def test_a_fold_of_packs_of_layout_1_keeps_owners_and_chunks():
    shelf = Shelf()
    manifest, content = _old(shelf), dict(OLD)
    for step in range(8):
        path = b"f/%03d" % (step * 7)
        content[path] = stored_in(file_entry(path, 200 + step, owner=f"new{step}"), "chunk-c")
        built = apply(
            manifest,
            [table_of([content[path]])],
            new_key=shelf.new_key,
            store_id=STORE_ID,
            objects=CHUNKS,
            limits=replace(SMALL, max_segments=1000, max_packs=2, kept_packs=0),
        )
        manifest = shelf.land(built)
    assert "pack-0" not in manifest.index.packs
    assert content_of(manifest) == content


def test_merging_and_relocating_know_both_layouts():
    shelf = Shelf()
    parent = _old(shelf)
    over = {b"f/010": stored_in(file_entry(b"f/010", 7, owner="x"), "chunk-c"), b"g": file_entry(b"g", 1, owner="x")}
    where = {"new_key": shelf.new_key, "store_id": STORE_ID}
    upper = shelf.land(apply(Manifest.empty(), [table_of(over.values())], objects=CHUNKS, limits=SMALL, **where))
    both = shelf.land(merge([parent, upper], limits=SMALL, **where))
    assert content_of(both) == {**OLD, **over}
    moves = {"chunk-a": {7: Place("chunk-b", 11, 3, 8)}}
    made = relocate(parent, moves, {}, objects=CHUNKS, **where)
    assert made is not None
    expected = {
        path: replace(each, chunk="chunk-b", offset=11, stored=3) if each.chunk == "chunk-a" else each
        for path, each in OLD.items()
    }
    assert content_of(shelf.land(made)) == expected
