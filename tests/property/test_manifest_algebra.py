"""Whatever way a manifest comes about, it is the one that its entries give when cut from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest import (
    Built,
    Entry,
    Index,
    Manifest,
    PathRange,
    apply,
    diff,
    merge,
    place,
    placements,
    squash,
)
from dataset_tasks.manifest.columns import LINK, NO_HASH
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

Content = Mapping[bytes, Entry]

CHUNKS = ("chunk-1", "chunk-2")
OBJECTS = {key: chunk_ref(key) for key in CHUNKS}

# Few names, many of them beginnings of others, with bytes on both sides of `/`: collisions and conflicts are common.
_PART = st.sampled_from([b"a", b"a-1", b"a.b", b"a0", b"aa", b"b", b"b b", b"c", "é".encode(), b"\x01", b".x"])
_PATH = st.lists(_PART, min_size=1, max_size=3).map(b"/".join)
_NUMBERED = st.builds(lambda folder, number: b"%s/%03d" % (folder, number), _PART, st.integers(0, 60))
_SOME_PATH = st.one_of(_PATH, _NUMBERED)


@st.composite
def _entry(draw: st.DrawFn, path: bytes) -> Entry:
    made = file_entry(path, draw(st.integers(0, 3)), owner=draw(st.sampled_from(["a" * 32, "b" * 32])))
    kind = draw(st.sampled_from(["pending", "stored", "stored", "link"]))
    if kind == "stored":
        return stored_in(made, draw(st.sampled_from(CHUNKS)))
    if kind == "link":
        pin = draw(st.sampled_from([None, "etag"]))
        return replace(made, kind=LINK, hash=NO_HASH, link=f"s3://bucket/{made.size}", pin=pin)
    return made


@st.composite
def _any_content(draw: st.DrawFn, max_size: int = 60) -> Content:
    paths = draw(st.sets(_SOME_PATH, max_size=max_size))
    return {path: draw(_entry(path)) for path in sorted(paths)}


def _conflicts(paths: Iterable[bytes]) -> bool:
    """The rule itself: some path is a folder of another."""
    known = set(paths)
    return any(path[:at] in known for path in known for at in range(len(path)) if path[at : at + 1] == b"/")


def _without_conflicts(content: Content) -> Content:
    kept: dict[bytes, Entry] = {}
    for path, entry in content.items():
        if not _conflicts([*kept, path]):
            kept[path] = entry
    return kept


content = _any_content().map(_without_conflicts)


def _batches(draw: st.DrawFn, whole: Content) -> list:
    """The entries as tables, cut anywhere."""
    rows = [whole[path] for path in sorted(whole)]
    cuts = sorted(draw(st.sets(st.integers(0, len(rows)), max_size=3)) | {0, len(rows)})
    return [table_of(rows[start:stop]) for start, stop in pairwise(cuts)]


def _scratch(shelf: Shelf, whole: Content) -> Manifest:
    built = apply(
        Manifest.empty(),
        [table_of(whole.values())],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        objects=OBJECTS,
        limits=SMALL,
    )
    return shelf.land(built)


def _cuts_by_the_rule(paths: Sequence[bytes]) -> list[bytes]:
    """First paths of the segments: the rule of the format page, word by word."""
    rule = SMALL.cuts
    firsts: list[bytes] = []
    length = 0
    for path in sorted(paths):
        if not firsts or length >= rule.most or (length >= rule.least and crc32(path) % rule.modulus == 0):
            firsts.append(path)
            length = 0
        length += 1
    return firsts


def _assert_is(shelf: Shelf, built: Built, expected: Content) -> Manifest:
    """The manifest holds just these entries, is cut by the rule, and its index holds just what it needs."""
    landed = shelf.land(built)
    assert content_of(landed) == expected
    index = landed.index
    assert [segment.first for segment in index.segments] == _cuts_by_the_rule(list(expected))
    assert index.content_hash == _scratch(Shelf(), expected).content_hash
    assert index.files == len(expected)
    assert index.bytes == sum(entry.size for entry in expected.values())
    assert index.pending == sum(entry.is_pending for entry in expected.values())
    assert set(index.chunks) == {entry.chunk for entry in expected.values() if entry.chunk}
    assert set(index.objects) == {*index.packs, *index.chunks}
    assert all(key in index.objects for key, _ in built.packs)
    groups = [(segment.pack, segment.group) for segment in index.segments]
    assert len(set(groups)) == len(groups)
    assert Index.from_bytes(index.to_bytes()) == index
    return landed


@given(content, st.data())
def test_a_manifest_is_cut_by_the_rule_and_reads_back(whole: Content, data: st.DataObject) -> None:
    shelf = Shelf()
    batches = _batches(data.draw, whole)
    built = apply(Manifest.empty(), batches, new_key=shelf.new_key, store_id=STORE_ID, objects=OBJECTS, limits=SMALL)
    landed = _assert_is(shelf, built, whole)
    assert (built.added, built.replaced, built.removed) == (len(whole), 0, 0)
    for path in [*whole, data.draw(_SOME_PATH)]:
        assert landed.find(path.decode()) == whole.get(path)


@st.composite
def _removals(draw: st.DrawFn, base: Content) -> list[bytes | PathRange]:
    """Sorted paths (some of which the base does not have) and ranges, not overlapping."""
    spans = [PathRange.only(path) for path in draw(st.sets(st.one_of(_SOME_PATH, *_of(base)), max_size=8))]
    spans += [PathRange.under(folder) for folder in draw(st.sets(_PATH, max_size=2))]
    spans += [PathRange(start, None) for start in draw(st.sets(_SOME_PATH, max_size=1))]
    spans = draw(st.sampled_from([spans, [PathRange()]])) if draw(st.integers(0, 9)) == 0 else spans
    chosen: list[bytes | PathRange] = []
    end: bytes | None = b""
    for span in sorted(spans, key=lambda each: (each.start, each.end or b"\xff")):
        if end is not None and span.start >= end:
            chosen.append(span.start if span == PathRange.only(span.start) else span)
            end = span.end
    return chosen


def _of(base: Content) -> list[st.SearchStrategy[bytes]]:
    return [st.sampled_from(sorted(base))] if base else []


def _after(base: Content, upserts: Content, removals: Iterable[bytes | PathRange]) -> Content:
    spans = [PathRange.only(each) if isinstance(each, bytes) else each for each in removals]
    kept = {path: entry for path, entry in base.items() if not any(span.contains(path) for span in spans)}
    return {**kept, **upserts}


@given(content, _any_content(20), st.data())
def test_applying_changes_gives_what_cutting_the_result_from_scratch_gives(
    base: Content, upserts: Content, data: st.DataObject
) -> None:
    shelf = Shelf()
    removals = data.draw(_removals(base))
    expected = _after(base, upserts, removals)
    before = _scratch(shelf, base)
    arguments = {"new_key": shelf.new_key, "store_id": STORE_ID, "objects": OBJECTS, "limits": SMALL}
    if _conflicts(expected):
        with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
            apply(before, _batches(data.draw, upserts), removals, **arguments)
        return
    built = apply(before, _batches(data.draw, upserts), removals, **arguments)
    _assert_is(shelf, built, expected)
    assert built.added == len(expected.keys() - base.keys())
    assert built.replaced == len(upserts.keys() & base.keys())
    assert built.removed == len(base.keys() - expected.keys())


@given(content, st.lists(st.tuples(_any_content(6), st.data()), min_size=8, max_size=12))
def test_a_long_line_of_versions_reads_back_and_stays_within_its_packs(
    base: Content, edits: list[tuple[Content, st.DataObject]]
) -> None:
    shelf = Shelf()
    now, manifest = base, _scratch(shelf, base)
    for upserts, data in edits:
        removals = data.draw(_removals(now))
        expected = _after(now, upserts, removals)
        if _conflicts(expected):
            continue
        built = apply(
            manifest,
            [table_of(upserts.values())],
            removals,
            new_key=shelf.new_key,
            store_id=STORE_ID,
            objects=OBJECTS,
            limits=SMALL,
        )
        manifest, now = _assert_is(shelf, built, expected), expected
        live = [segment.pack for segment in manifest.index.segments]
        small = [
            pack for pack in set(live) - {key for key, _ in built.packs} if live.count(pack) < SMALL.max_segments // 2
        ]
        assert len(set(live)) <= SMALL.max_packs or len(small) <= SMALL.kept_packs


@given(content, content)
def test_a_diff_partitions_the_difference(old: Content, new: Content) -> None:
    shelf = Shelf()
    found = diff(_scratch(shelf, old), _scratch(shelf, new)).to_model()

    def identity(entry: Entry) -> tuple:
        return entry.kind, entry.size, entry.hash, entry.link, entry.pin

    assert {(c.path.encode(), c.old_size, c.new_size) for c in found.added} == {
        (path, None, new[path].size) for path in new.keys() - old.keys()
    }
    assert {(c.path.encode(), c.old_size, c.new_size) for c in found.removed} == {
        (path, old[path].size, None) for path in old.keys() - new.keys()
    }
    assert {(c.path.encode(), c.old_size, c.new_size) for c in found.modified} == {
        (path, old[path].size, new[path].size)
        for path in old.keys() & new.keys()
        if identity(old[path]) != identity(new[path])
    }
    for part in (found.added, found.modified, found.removed):
        paths = [change.path.encode() for change in part]
        assert paths == sorted(set(paths))


_BETWEEN = st.builds(
    lambda sign, number: b"a%s%03d" % (sign, number), st.sampled_from([b"-", b"."]), st.integers(0, 40)
)
_ELSEWHERE = st.builds(lambda number: b"b/%03d" % number, st.integers(0, 40))
_AT_ODDS = st.sets(st.sampled_from([b"a", b"a/x", b"a/y/z", b"a-007/x", b"a.011"]), max_size=2)


def _files(paths: Iterable[bytes]) -> Content:
    return {path: file_entry(path) for path in sorted(paths)}


@given(st.sets(_BETWEEN | _ELSEWHERE, min_size=20, max_size=80), _AT_ODDS, _AT_ODDS, st.sets(_ELSEWHERE, max_size=2))
def test_a_file_that_is_a_folder_too_is_found_across_segments_nobody_reads(
    between: set[bytes], old: set[bytes], new: set[bytes], also: set[bytes]
) -> None:
    shelf = Shelf()
    base = _without_conflicts(_files(between | old))
    upserts = _files(new | also)
    expected = {**base, **upserts}
    manifest = _scratch(shelf, base)
    if _conflicts(expected):
        with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
            apply(manifest, [table_of(upserts.values())], new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
    else:
        built = apply(manifest, [table_of(upserts.values())], new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
        _assert_is(shelf, built, expected)


@given(
    st.sets(_BETWEEN | _ELSEWHERE, min_size=20, max_size=80),
    st.lists(st.tuples(st.integers(0, 122), st.integers(0, 30), _AT_ODDS), min_size=2, max_size=3),
)
def test_a_merge_finds_files_that_are_folders_of_another_parent(
    paths: set[bytes], parts: list[tuple[int, int, set[bytes]]]
) -> None:
    shelf = Shelf()
    everything = sorted(paths)
    parents = [_without_conflicts(_files({*everything[start : start + length], *odd})) for start, length, odd in parts]
    expected = {path: entry for parent in parents for path, entry in parent.items()}
    manifests = [_scratch(shelf, parent) for parent in parents]
    if _conflicts(expected):
        with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
            merge(manifests, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
    else:
        _assert_is(shelf, merge(manifests, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL), expected)


@given(st.lists(content, max_size=4), st.data())
def test_in_a_merge_the_last_wins(parents: list[Content], data: st.DataObject) -> None:
    shelf = Shelf()
    if parents and data.draw(st.booleans()):
        # A sibling that shares most segments.
        first = parents[0]
        parents.append(_without_conflicts({**first, **data.draw(_any_content(4))}))
    manifests = [_scratch(shelf, parent) for parent in parents]
    expected: dict[bytes, Entry] = {}
    for parent in parents:
        expected.update(parent)
    if _conflicts(expected):
        with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
            merge(manifests, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
        return
    _assert_is(shelf, merge(manifests, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL), expected)


@given(content, st.lists(st.tuples(content, content), max_size=3))
def test_a_squash_makes_the_changes_of_its_steps_in_order(base: Content, steps: list[tuple[Content, Content]]) -> None:
    shelf = Shelf()
    expected = dict(base)
    fails = False
    for old, new in steps:
        for path in old.keys() - new.keys():
            expected.pop(path, None)
        for path, entry in new.items():
            was = old.get(path)
            if was is None or (was.kind, was.size, was.hash, was.link, was.pin) != (
                entry.kind,
                entry.size,
                entry.hash,
                entry.link,
                entry.pin,
            ):
                expected[path] = entry
        fails = fails or _conflicts(expected)
    pairs = [(_scratch(shelf, old), _scratch(shelf, new)) for old, new in steps]
    start = _scratch(shelf, base)
    if fails:
        with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
            squash(start, pairs, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
        return
    _assert_is(shelf, squash(start, pairs, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL), expected)


@given(content, st.data())
def test_placing_bytes_changes_where_they_are_and_nothing_else(base: Content, data: st.DataObject) -> None:
    shelf = Shelf()
    files = sorted(path for path, entry in base.items() if not entry.is_link)
    chosen = sorted(data.draw(st.sets(st.sampled_from(files))) if files else ())
    placed = {path: stored_in(base[path], data.draw(st.sampled_from(CHUNKS))) for path in chosen}
    before = _scratch(shelf, base)
    table = placements(
        paths=chosen,
        hashes=[base[path].hash for path in chosen],
        chunks=[placed[path].chunk or "" for path in chosen],
        offsets=[placed[path].offset for path in chosen],
        stored=[placed[path].stored for path in chosen],
        methods=[placed[path].method for path in chosen],
    )
    built = place(before, [table], new_key=shelf.new_key, store_id=STORE_ID, objects=OBJECTS, limits=SMALL)
    after = _assert_is(shelf, built, {**base, **placed})
    assert after.content_hash == before.content_hash
    assert built.replaced == len(chosen)
    untouched = [each for each in before.index.segments if not any(each.first <= path <= each.last for path in chosen)]
    assert {*untouched} <= {*after.index.segments} or len(after.index.packs) == SMALL.kept_packs


@given(content, content)
def test_content_hashes_are_equal_exactly_when_the_content_is(one: Content, other: Content) -> None:
    shelf = Shelf()
    left, right = _scratch(shelf, one), _scratch(shelf, other)

    def identity(whole: Content) -> list[tuple]:
        return [(p, e.kind, e.size, e.hash, e.link, e.pin) for p, e in sorted(whole.items())]

    assert (left.content_hash == right.content_hash) == (identity(one) == identity(other))


@given(content, st.data())
def test_ranges_and_selections_read_just_what_they_say(whole: Content, data: st.DataObject) -> None:
    manifest = _scratch(Shelf(), whole)
    span = data.draw(st.one_of(st.builds(PathRange, _SOME_PATH, st.none() | _SOME_PATH), _PATH.map(PathRange.under)))
    wanted = [path for path in sorted(whole) if span.contains(path)]
    assert manifest.to_table(("path",), within=span)["path"].to_pylist() == wanted
    assert [entry.path for entry in manifest.entries(within=span)] == wanted
    even = manifest.select(lambda paths: [len(path) % 2 == 0 for path in paths], ("size", "path"), within=span)
    chosen = [row for table in even for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    assert chosen == [(path, whole[path].size) for path in wanted if len(path) % 2 == 0]
