from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dataset_tasks.manifest import EMPTY, Manifest, apply, diff, merge, squash
from dataset_tasks.manifest.build import KEPT_PACKS, LIMITS, MAX_PACKS
from dataset_tasks.manifest.columns import LINK, NO_HASH
from dataset_tasks.manifest.packs import MAX_SEGMENTS
from dataset_tasks.manifest.segments import CutRule
from dataset_tasks.testing.manifests import SMALL, STORE_ID, Shelf, content_of, file_entry, table_of

# Small segments, but packs with room for many.
ROOMY = replace(LIMITS, cuts=SMALL.cuts)


def _version(shelf: Shelf, base: Manifest, content, limits=ROOMY):
    return apply(base, [table_of(content)], new_key=shelf.new_key, store_id=STORE_ID, limits=limits)


def _numbered(shelf: Shelf, count: int) -> Manifest:
    return shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"f/%05d" % n, n) for n in range(count)]))


def test_the_numbers_of_layout_1():
    assert (MAX_PACKS, KEPT_PACKS, MAX_SEGMENTS) == (32, 16, 1024)


def test_after_1000_versions_an_index_still_refers_to_few_packs():
    shelf = Shelf()
    expected = {b"f/%05d" % n: file_entry(b"f/%05d" % n, n) for n in range(400)}
    manifest = _numbered(shelf, 400)
    written = 0
    for number in range(1000):
        path = b"f/%05d" % (number * 37 % 400)
        expected[path] = file_entry(path, 1000 + number)
        built = _version(shelf, manifest, [expected[path]])
        written += sum(Counter(segment.pack for segment in built.index.segments)[key] for key, _ in built.packs)
        manifest = shelf.land(built)
        assert len(manifest.index.packs) <= MAX_PACKS
    assert content_of(manifest) == expected
    assert written < 4 * 1000  # segments; one a version is the least


def test_a_fold_changes_no_content_and_leaves_the_larger_packs():
    shelf = Shelf()
    limits = replace(ROOMY, max_packs=4, kept_packs=2)
    manifest = _numbered(shelf, 200)
    for number in range(4):
        before = manifest
        change = [file_entry(b"f/%05d" % (number * 40), 5000)]
        built = _version(shelf, manifest, change, limits)
        manifest = shelf.land(built)
    assert "pack-0" in manifest.index.packs
    assert len(manifest.index.packs) == 3
    assert len(diff(before, manifest)) == 1


def test_packs_that_are_at_least_half_full_are_never_folded():
    shelf = Shelf()
    limits = replace(LIMITS, cuts=CutRule(least=2, modulus=3, most=6), max_segments=4, max_packs=3, kept_packs=1)
    manifest = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"f/%05d" % n, n) for n in range(100)], limits))
    assert len(manifest.index.packs) > 3
    built = _version(shelf, manifest, [file_entry(b"f/00000", 7)], limits)
    assert len([s for s in built.index.segments if s not in manifest.index.segments]) == 1


def test_a_merge_of_equal_or_disjoint_manifests_writes_and_reads_nothing():
    shelf = Shelf()
    one = _numbered(shelf, 100)
    twin = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"f/%05d" % n, n) for n in range(100)]))
    other = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"g/%05d" % n, n) for n in range(100)]))
    del shelf.reads[:]
    built = merge([one, twin], new_key=shelf.new_key, store_id=STORE_ID, limits=ROOMY)
    assert (built.index, built.packs, shelf.reads) == (twin.index, (), [])
    both = merge([one, other], new_key=shelf.new_key, store_id=STORE_ID, limits=ROOMY)
    # The last segment of the first is open at its end; it may have to be read.
    assert len(set(both.index.segments) & {*one.index.segments, *other.index.segments}) >= len(both.index.segments) - 3
    assert both.index.files == 200


def test_a_merge_of_none_is_empty():
    assert merge([], new_key=Shelf().new_key, store_id=STORE_ID).index == EMPTY


def test_equal_content_of_two_manifests_never_shares_storage_by_itself():
    shelf = Shelf()
    one = _numbered(shelf, 50)
    twin = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"f/%05d" % n, n) for n in range(50)]))
    assert one.content_hash == twin.content_hash
    assert not set(one.index.packs) & set(twin.index.packs)


def test_a_diff_of_versions_that_share_segments_reads_only_the_others():
    shelf = Shelf()
    one = _numbered(shelf, 400)
    two = shelf.land(_version(shelf, one, [file_entry(b"f/00200", 9999)]))
    read: list[bytes] = []
    for manifest in (one, two):
        decode = manifest._packs.read
        manifest._packs.read = lambda segment, *columns, decode=decode, **how: (
            read.append(segment.first) or decode(segment, *columns, **how)
        )
    (change,) = diff(one, two).to_model().modified
    assert (change.path, change.old_size, change.new_size) == ("f/00200", 200, 9999)
    assert len(read) == 2


@pytest.mark.parametrize(
    "changes",
    [{"size": 8}, {"hash": bytes(32)}, {"kind": LINK, "link": "u"}, {"kind": LINK, "link": "u", "pin": "p"}],
)
def test_any_content_column_makes_a_modified_entry(changes):
    shelf = Shelf()
    old = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"a", 7)]))
    new = shelf.land(_version(shelf, Manifest.empty(), [replace(file_entry(b"a", 7), **changes)]))
    assert [change.path for change in diff(old, new).to_model().modified] == ["a"]


def test_a_new_pin_alone_makes_a_modified_entry():
    shelf = Shelf()
    link = replace(file_entry(b"a"), kind=LINK, hash=NO_HASH, link="u")
    old, new, other = (
        shelf.land(_version(shelf, Manifest.empty(), [replace(link, pin=pin)])) for pin in (None, "p", "q")
    )
    assert len(diff(old, new)) == len(diff(new, old)) == len(diff(new, other)) == 1
    assert len(diff(new, new)) == 0


def test_another_owner_or_place_is_no_difference():
    shelf = Shelf()
    old = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"a", 7)]))
    new = shelf.land(_version(shelf, Manifest.empty(), [file_entry(b"a", 7, owner="b" * 32)]))
    assert len(diff(old, new)) == 0
    assert old.content_hash == new.content_hash


def test_a_squash_keeps_no_pack_of_a_step_between():
    shelf = Shelf()
    one = _numbered(shelf, 40)
    two = shelf.land(_version(shelf, one, [file_entry(b"f/00001", 100)]))
    three = shelf.land(_version(shelf, two, [file_entry(b"f/00001", 200), file_entry(b"g", 1)]))
    built = squash(
        Manifest.empty(),
        [(Manifest.empty(), one), (one, two), (two, three)],
        new_key=shelf.new_key,
        store_id=STORE_ID,
        limits=ROOMY,
    )
    assert {key for key, _ in built.packs} == set(built.index.packs)
    assert content_of(built.manifest(shelf.read)) == content_of(three)
    assert built.index.content_hash == three.content_hash


def test_a_squash_of_no_steps_is_its_base():
    shelf = Shelf()
    base = _numbered(shelf, 10)
    assert squash(base, [], new_key=shelf.new_key, store_id=STORE_ID).index == base.index
