"""A scan compared with a manifest gives the edit that a comparison of two dicts gives, and reads only what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.manifest import LINK, NO_HASH, Manifest, PathRange, apply
from dataset_tasks.ops.content import Comparer, Edit
from dataset_tasks.scan import Batch
from dataset_tasks.testing.manifests import SMALL, STORE_ID, Shelf, file_entry, table_of

_CONTENT = st.dictionaries(
    st.integers(0, 60).map(lambda number: b"%s/%03d" % (b"ab"[number % 2 : number % 2 + 1], number)),
    st.integers(0, 3),
    max_size=40,
)


def manifest(shelf: Shelf, content: Mapping[bytes, int], links: frozenset[bytes] = frozenset()) -> Manifest:
    rows = [file_entry(path, number) for path, number in content.items()]
    rows = [
        replace(row, kind=LINK, hash=NO_HASH, link=f"s3://b/{row.size}", chunk=None) if row.path in links else row
        for row in rows
    ]
    built = apply(Manifest.empty(), [table_of(rows)], new_key=shelf.new_key, store_id=STORE_ID, limits=SMALL)
    return shelf.land(built)


def compared(base: Manifest, found: Mapping[bytes, int], size: int, within: PathRange | None) -> Edit:
    comparer = Comparer(base, within)
    rows = sorted(found.items())
    for start in range(0, len(rows), size):
        part = [file_entry(path, number) for path, number in rows[start : start + size]]
        ones = [1] * len(part)
        paths = [row.path for row in part]
        comparer.add(
            Batch(paths, [row.size for row in part], [row.hash for row in part], paths, ones, ones, ones, ones)
        )
    return comparer.finish()


@given(_CONTENT, _CONTENT, st.integers(1, 9), st.booleans(), st.sampled_from([b"", b"a"]))
def test_the_edit_is_that_of_two_dicts(
    base: dict[bytes, int], found: dict[bytes, int], size: int, removes: bool, folder: bytes
) -> None:
    span = PathRange.under(folder)
    found = {path: number for path, number in found.items() if span.contains(path)}
    edit = compared(manifest(Shelf(), base), found, size, span if removes else None)
    put = {path for path, number in found.items() if base.get(path) != number}
    assert [path for part in edit.upserts for path in part["path"].to_pylist()] == sorted(put)
    assert (edit.added, edit.modified) == (len(put - base.keys()), len(put & base.keys()))
    gone = sorted(path for path in base if span.contains(path) and path not in found) if removes else []
    assert edit.removals == gone
    assert (edit.files, edit.bytes) == (len(found), sum(found.values()))


@given(_CONTENT, st.integers(1, 9))
def test_what_was_a_link_is_replaced_by_the_file(content: dict[bytes, int], size: int) -> None:
    links = frozenset(sorted(content)[::5])
    edit = compared(manifest(Shelf(), content, links), content, size, PathRange())
    assert [path for part in edit.upserts for path in part["path"].to_pylist()] == sorted(links)


def test_segments_that_are_as_they_were_are_not_read() -> None:
    shelf = Shelf()
    content = {b"%06d" % number: number for number in range(0, 400, 2)}
    base = manifest(shelf, content)
    assert compared(base, content, 7, PathRange()).is_empty
    assert shelf.reads == []
    edit = compared(base, {b"%06d" % 201: 5}, 7, None)
    assert (edit.added, edit.modified, edit.removed) == (1, 0, 0)
    assert len(shelf.reads) <= 1
