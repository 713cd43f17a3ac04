from __future__ import annotations

from dataclasses import replace

import pytest

from dataset_tasks.errors import IntegrityError, InvalidArgumentError, ObjectMissingError
from dataset_tasks.manifest import Manifest, PathRange, apply, merge, place, placements
from dataset_tasks.manifest.build import Limits
from dataset_tasks.manifest.columns import LINK, NO_HASH
from dataset_tasks.manifest.reading import BATCH_ROWS
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

CHUNK = {"chunk": chunk_ref("chunk")}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def _apply(shelf: Shelf, base: Manifest, upserts=(), removals=(), *, objects=CHUNK, limits=SMALL):
    return apply(base, upserts, removals, new_key=shelf.new_key, store_id=STORE_ID, objects=objects, limits=limits)


def _numbered(shelf: Shelf, count: int, *, limits: Limits = SMALL, folder: bytes = b"f") -> Manifest:
    content = [file_entry(b"%s/%05d" % (folder, n), n) for n in range(count)]
    return shelf.land(_apply(shelf, Manifest.empty(), [table_of(content)], limits=limits))


def _place(shelf: Shelf, base: Manifest, paths: list[bytes], *, hashes=None, offsets=None, objects=CHUNK):
    table = placements(
        paths=paths,
        hashes=[content_of(base)[path].hash for path in paths] if hashes is None else hashes,
        chunks="chunk",
        offsets=[0] * len(paths) if offsets is None else offsets,
        stored=[1] * len(paths),
        methods=[8] * len(paths),
    )
    return place(base, [table], new_key=shelf.new_key, store_id=STORE_ID, objects=objects, limits=SMALL)


def test_nothing_changed_writes_nothing(shelf):
    base = _numbered(shelf, 50)
    built = _apply(shelf, base)
    assert built.index == base.index
    assert built.packs == ()


def test_removing_what_is_not_there_writes_nothing(shelf):
    base = _numbered(shelf, 50)
    built = _apply(shelf, base, (), [*(b"f/%05dx" % n for n in range(50)), PathRange.under(b"g"), b"z"])
    assert built.index == base.index
    assert built.packs == ()
    assert built.removed == 0


def test_one_change_in_100000_entries_writes_one_segment(shelf):
    base = _numbered(shelf, 100_000, limits=Limits())
    built = _apply(shelf, base, [table_of([file_entry(b"f/54321", 1)])], limits=Limits())
    new = [segment for segment in built.index.segments if segment not in base.index.segments]
    assert len(new) == 1
    assert new[0].first <= b"f/54321" <= new[0].last
    assert sum(len(data) for _, data in built.packs) < 44 * 4096 + 10_000
    assert (built.added, built.replaced, built.removed) == (0, 1, 0)


def test_one_more_and_one_less_in_100000_entries_write_few_segments(shelf):
    base = _numbered(shelf, 100_000, limits=Limits())
    built = _apply(shelf, base, [table_of([file_entry(b"f/54321.more", 1)])], [b"f/12345"], limits=Limits())
    new = [segment for segment in built.index.segments if segment not in base.index.segments]
    assert len(new) <= 6
    assert (built.added, built.replaced, built.removed) == (1, 0, 1)


def test_a_whole_folder_is_removed_without_reading_what_lies_in_it(shelf):
    base = _numbered(shelf, 200)
    more = shelf.land(_apply(shelf, base, [table_of(file_entry(b"g/%05d" % n) for n in range(30))]))
    del shelf.reads[:]
    reopened = Manifest(more.index, shelf.read)
    built = _apply(shelf, reopened, (), [PathRange.under(b"f")])
    assert built.removed == 200
    assert set(content_of(built.manifest(shelf.read))) == {b"g/%05d" % n for n in range(30)}
    # Only packs of the segments at its border were needed.
    assert len(set(shelf.reads)) < len(more.index.packs) / 4


def test_what_is_removed_and_put_in_is_replaced(shelf):
    base = _numbered(shelf, 20)
    built = _apply(shelf, base, [table_of([file_entry(b"f/00003", 99)])], [PathRange.under(b"f")])
    assert (built.added, built.replaced, built.removed) == (0, 1, 19)
    assert content_of(built.manifest(shelf.read)) == {b"f/00003": file_entry(b"f/00003", 99)}


def test_everything_may_go(shelf):
    built = _apply(shelf, _numbered(shelf, 20), (), [PathRange()])
    assert built.index == Manifest.empty().index
    assert built.removed == 20


def test_entries_that_go_back_are_refused_also_from_table_to_table(shelf):
    for tables in (
        [table_of([file_entry(b"b")]), table_of([file_entry(b"a")])],
        [table_of([file_entry(b"a")]), table_of([file_entry(b"a")])],
        [table_of([file_entry(b"%06d" % n) for n in range(BATCH_ROWS)]), table_of([file_entry(b"000001")])],
    ):
        with pytest.raises(InvalidArgumentError, match="strictly increasing paths expected") as caught:
            _apply(shelf, Manifest.empty(), tables)
        assert "sorted by their bytes" in caught.value.hint


def test_a_path_that_is_none_is_refused(shelf):
    with pytest.raises(InvalidArgumentError, match=r"has a part `\.\.`"):
        _apply(shelf, Manifest.empty(), [table_of([file_entry(b"a/../b")])])


@pytest.mark.parametrize(
    "removals",
    [
        [b"b", b"a"],
        [b"a", b"a"],
        [PathRange.under(b"f"), b"f/x"],
        [PathRange(b"a", None), b"b"],
        [PathRange(b"b", b"a")],
        [PathRange(b"b", b"b")],
    ],
)
def test_removals_that_overlap_or_go_back_are_refused(shelf, removals):
    with pytest.raises(InvalidArgumentError, match="overlaps the one before"):
        _apply(shelf, _numbered(shelf, 5), (), removals)


def test_an_unknown_chunk_is_refused(shelf):
    with pytest.raises(InvalidArgumentError, match=r"refer to chunks \['chunk'\]") as caught:
        _apply(shelf, Manifest.empty(), [table_of([stored_in(file_entry(b"a"), "chunk")])], objects={})
    assert "objects" in caught.value.hint


def test_a_chunk_the_base_knows_needs_no_reference(shelf):
    base = shelf.land(_apply(shelf, Manifest.empty(), [table_of([stored_in(file_entry(b"a"), "chunk")])]))
    built = _apply(shelf, base, [table_of([stored_in(file_entry(b"b"), "chunk")])], objects={})
    assert built.index.objects["chunk"] == CHUNK["chunk"]


def test_references_nobody_needs_any_more_go(shelf):
    base = shelf.land(_apply(shelf, Manifest.empty(), [table_of([stored_in(file_entry(b"a"), "chunk")])]))
    built = _apply(shelf, base, [table_of([file_entry(b"a", 2)])], objects={"other": chunk_ref("other")})
    assert built.index.chunks == ()
    assert set(built.index.objects) == set(built.index.packs)


def test_two_references_of_one_key_are_refused(shelf):
    base = shelf.land(_apply(shelf, Manifest.empty(), [table_of([stored_in(file_entry(b"a"), "chunk")])]))
    with pytest.raises(InvalidArgumentError, match="object 'chunk' has two references"):
        _apply(shelf, base, objects={"chunk": replace(CHUNK["chunk"], size=2)})


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"x", b"x/y"), (b"x/y", b"x"), (b"x/y/z", b"x"), (b"x", b"x/y/z"), (b"d/x", b"d/x/y"), (b"d/x/y", b"d/x")],
)
@pytest.mark.parametrize("between", [0, 1, 5, 60])
def test_a_path_can_not_be_both_a_file_and_a_folder(shelf, old, new, between):
    file, below = sorted([old, new])
    paths = {old, *(file + b"-%03d" % n for n in range(between)), b"a", b"z"}
    base = shelf.land(_apply(shelf, Manifest.empty(), [table_of(map(file_entry, paths))]))
    with pytest.raises(InvalidArgumentError) as caught:
        _apply(shelf, base, [table_of([file_entry(new)])])
    assert f"'{file.decode()}' can't be both a file and a folder: '{below.decode()}' lies below it" in str(caught.value)
    assert "another path" in caught.value.hint


def test_a_file_may_become_a_folder_when_it_is_removed(shelf):
    base = _numbered(shelf, 30, folder=b"x")
    file = shelf.land(_apply(shelf, base, [table_of([file_entry(b"x")])], [PathRange.under(b"x")]))
    assert set(content_of(file)) == {b"x"}
    folder = shelf.land(_apply(shelf, file, [table_of([file_entry(b"x/y")])], [b"x"]))
    assert set(content_of(folder)) == {b"x/y"}


def test_a_new_file_beside_many_others_reads_no_other_segment(shelf):
    limits = Limits()
    base = _numbered(shelf, 20_000, limits=limits)
    read: list[int] = []
    watched = Manifest(base.index, shelf.read)
    read_segment = watched._packs.read

    def counted(segment, *columns, **how):
        read.append(segment.group)
        return read_segment(segment, *columns, **how)

    watched._packs.read = counted
    _apply(shelf, watched, [table_of([file_entry(b"f/10000.more")])], limits=limits)
    assert len(read) == 1


def test_parents_whose_paths_are_at_odds_can_not_be_merged(shelf):
    one = _numbered(shelf, 30)
    other = shelf.land(_apply(shelf, Manifest.empty(), [table_of([file_entry(b"f")])]))
    for parents in ([one, other], [other, one]):
        with pytest.raises(
            InvalidArgumentError, match="'f' can't be both a file and a folder: 'f/00000' lies below it"
        ):
            merge(parents, new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)


def test_an_upload_keeps_content_and_rewrites_only_what_it_touches(shelf):
    base = _numbered(shelf, 60)
    built = _place(shelf, base, [b"f/00010", b"f/00011"])
    assert built.index.content_hash == base.index.content_hash
    assert [segment.digest for segment in built.index.segments] == [segment.digest for segment in base.index.segments]
    assert built.index.pending == 58
    changed = [segment for segment in built.index.segments if segment not in base.index.segments]
    assert len(changed) <= 2
    found = built.manifest(shelf.read).find("f/00010")
    assert found is not None
    assert (found.chunk, found.stored, found.method) == ("chunk", 1, 8)


@pytest.mark.parametrize("path", [b"a", b"f/00010x", b"z"])
def test_bytes_of_a_file_that_is_not_there_are_refused(shelf, path):
    base = _numbered(shelf, 60)
    with pytest.raises(InvalidArgumentError, match=f"'{path.decode()}', which the manifest does not have") as caught:
        _place(shelf, base, [path], hashes=bytes(32))
    assert "upload again" in caught.value.hint


def test_bytes_with_another_hash_are_refused(shelf):
    base = _numbered(shelf, 60)
    with pytest.raises(InvalidArgumentError, match="'f/00010' whose hash is not that of the entry") as caught:
        _place(shelf, base, [b"f/00010"], hashes=bytes(32))
    assert "add it again" in caught.value.hint


def test_a_link_has_no_place(shelf):
    link = replace(file_entry(b"a"), kind=LINK, hash=NO_HASH, link="s3://x")
    base = shelf.land(_apply(shelf, Manifest.empty(), [table_of([link])]))
    with pytest.raises(InvalidArgumentError, match="a link has a chunk"):
        _place(shelf, base, [b"a"])


def test_an_impossible_place_is_refused(shelf):
    with pytest.raises(InvalidArgumentError, match="'offset' holds values from -1"):
        _place(shelf, _numbered(shelf, 5), [b"f/00001"], offsets=[-1])


def test_a_place_in_an_unknown_chunk_is_refused(shelf):
    with pytest.raises(InvalidArgumentError, match=r"refer to chunks \['chunk'\]"):
        _place(shelf, _numbered(shelf, 5), [b"f/00001"], objects={})


def test_a_damaged_pack_is_told_from_a_missing_one(shelf):
    base = _numbered(shelf, 5)
    upserts = [table_of([file_entry(b"f/00001", 7)])]
    key = base.index.packs[0]
    data = shelf.objects.pop(key)
    with pytest.raises(ObjectMissingError):
        _apply(shelf, base, upserts)
    shelf.objects[key] = data[:-1]
    with pytest.raises(IntegrityError):
        _apply(shelf, base, upserts)


def test_an_unstored_manifest_reads_its_own_packs_from_memory(shelf):
    base = _numbered(shelf, 30)
    built = _apply(shelf, base, [table_of([file_entry(b"f/00001", 7)])])
    assert [ref.key for ref in built.refs] == [key for key, _ in built.packs]
    assert content_of(built.manifest(shelf.read))[b"f/00001"].size == 7
    assert not set(shelf.reads) & {key for key, _ in built.packs}
