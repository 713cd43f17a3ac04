from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest.columns import (
    LINK,
    NO_HASH,
    PLACEMENT_SCHEMA,
    SCHEMA,
    conform,
    constant,
    digests,
    empty,
    entries,
    entry_problem,
    flat,
    int64s,
    path_problem,
    placements,
    rows,
    strings,
)
from dataset_tasks.model import FileEntry, LinkEntry
from dataset_tasks.testing.manifests import file_entry, stored_in, table_of

OWNER = "a" * 32


def _file(path: bytes = b"a.txt", **changes):
    return replace(file_entry(path, 3), **changes)


def _link(**changes):
    return replace(_file(kind=LINK, hash=NO_HASH, link="s3://bucket/a", pin="etag"), **changes)


def test_entries_come_back_as_they_were_given():
    given = [_file(b"a"), stored_in(_file(b"b"), "chunk"), replace(_link(), path=b"c")]
    table = table_of(given)
    assert table.schema.equals(SCHEMA)
    assert list(rows(table)) == given


def test_left_out_columns_say_that_everything_is_a_pending_file():
    (entry,) = rows(entries(paths=[b"a"], sizes=[7], hashes=bytes(32), owner=OWNER))
    assert entry.is_pending
    assert (entry.chunk, entry.offset, entry.stored, entry.method, entry.link, entry.pin) == (None, 0, 0, 0, None, None)


def test_links_given_make_links():
    first, second = rows(entries(paths=[b"a", b"b"], sizes=[1, 2], hashes=bytes(64), owner=OWNER, links=["u", None]))
    assert first.is_link
    assert not second.is_link


def test_an_empty_pin_is_no_pin():
    (entry,) = rows(entries(paths=[b"a"], sizes=[1], hashes=[NO_HASH], owner=OWNER, links=["u"], pins=[""]))
    assert entry.pin is None


def test_users_see_files_and_links():
    stored = stored_in(_file(), "chunk")
    assert stored.to_model() == FileEntry("a.txt", stored.hash.hex(), 3, OWNER, "chunk")
    assert _link().to_model() == LinkEntry("a.txt", "s3://bucket/a", 3, OWNER, "etag", "")
    assert replace(_link(), hash=b"\1" * 32).to_model().hash == "01" * 32


@pytest.mark.parametrize("hashes", [[b"short"], b"short", ["00" * 32]])
def test_hashes_of_another_length_are_refused(hashes):
    with pytest.raises(InvalidArgumentError, match="bytes") as caught:
        digests(hashes)
    assert "not hex" in caught.value.hint


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidArgumentError, match="differ in length"):
        entries(paths=[b"a", b"b"], sizes=[1], hashes=bytes(64), owner=OWNER)
    with pytest.raises(InvalidArgumentError, match="differ in length"):
        placements(paths=[b"a"], hashes=bytes(64), chunks="c", offsets=[0], stored=[0], methods=[0])


def test_a_constant_column_repeats_its_value():
    assert constant("ab", 3).to_pylist() == ["ab"] * 3
    assert constant("", 2).to_pylist() == ["", ""]
    assert constant(None, 2).to_pylist() == [None, None]
    assert constant("ab", 0).to_pylist() == []


def test_strings_know_null_from_empty():
    values = ["x", None, "", "é"] * 5
    assert strings(values).to_pylist() == values


def test_conform_orders_columns_decodes_dictionaries_and_drops_what_is_not_of_the_schema():
    table = table_of([_file(b"a"), _file(b"b")])
    owner = table["owner"].combine_chunks().dictionary_encode()
    mixed = table.set_column(4, "owner", owner).append_column("other", table["size"])
    mixed = mixed.select(list(reversed(mixed.column_names)))
    assert conform(mixed).equals(table)


def test_conform_refuses_a_missing_column():
    with pytest.raises(InvalidArgumentError, match="no column 'hash'"):
        conform(table_of([_file()]).drop_columns(["hash"]))


def test_conform_refuses_another_type():
    table = table_of([_file()])
    with pytest.raises(InvalidArgumentError, match="column 'size' of entries has type int32, int64 expected"):
        conform(table.set_column(2, "size", table["size"].cast(pa.int32())))


def test_conform_refuses_nulls_where_none_may_be():
    table = table_of([_file()])
    with pytest.raises(InvalidArgumentError, match="column 'size' of entries holds 1 nulls"):
        conform(table.set_column(2, "size", pa.nulls(1, pa.int64())))


def test_a_placement_must_name_a_chunk():
    table = placements(paths=[b"a"], hashes=bytes(32), chunks="c", offsets=[0], stored=[0], methods=[0])
    with pytest.raises(InvalidArgumentError, match="column 'chunk' of entries holds 1 nulls"):
        conform(table.set_column(2, "chunk", constant(None, 1)), PLACEMENT_SCHEMA)


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        ([b"b", b"a"], "path 'a' comes after 'b'"),
        ([b"a", b"a"], "path 'a' comes after 'a'"),
        ([b"a", b"\xc3\xa9", b"z"], "path 'z' comes after 'é'"),
        ([b""], "is empty"),
        ([b"/a"], "is absolute"),
        ([b"a/"], "has an empty part"),
        ([b"a//b"], "has an empty part"),
        ([b"../x"], "part `..`"),
        ([b"a/../b"], "part `..`"),
        ([b"a/.."], "part `..`"),
        ([b"./a"], "part `.`"),
        ([b"a\0b"], "NUL"),
        ([b"a\\b"], "backslash"),
        ([b"C:/a"], "drive"),
        ([b"a\xff"], "not UTF-8"),
        ([b"a", b"a\xff", b"b"], "not UTF-8"),
    ],
)
def test_paths_that_are_wrong_are_named(paths, problem):
    found = path_problem(
        flat(entries(paths=paths, sizes=[0] * len(paths), hashes=bytes(32 * len(paths)), owner="")["path"])
    )
    assert found is not None
    assert problem in found


def test_paths_that_only_look_odd_are_fine():
    paths = sorted([b"..a", b"a..", b".a/..b/c.", b"a b", b"a\nb", "é".encode(), b"a:b", b"-", b"..."])
    assert (
        path_problem(
            flat(entries(paths=paths, sizes=[0] * len(paths), hashes=bytes(32 * len(paths)), owner="")["path"])
        )
        is None
    )


def test_a_path_in_a_message_can_not_move_the_cursor():
    found = path_problem(flat(entries(paths=[b"\x1b[2J/../x"], sizes=[0], hashes=bytes(32), owner="")["path"]))
    assert found is not None
    assert "\x1b" not in found


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (_file(kind=2), "'kind' holds values from 2 to 2"),
        (_file(size=-1), "'size' holds values from -1 to -1"),
        (_file(offset=-1), "'offset'"),
        (_file(stored=-1), "'stored'"),
        (_file(link="s3://x"), "a link URL stands where there is no link"),
        (_link(link=None), "or is missing where there is one"),
        (_link(chunk="c"), "a link has a chunk"),
    ],
)
def test_entries_that_contradict_themselves_are_refused(entry, problem):
    found = entry_problem(table_of([entry]))
    assert found is not None
    assert problem in found


def test_valid_entries_and_no_entries_have_no_problem():
    assert entry_problem(table_of([_file(b"a"), replace(_link(), path=b"b")])) is None
    assert entry_problem(empty()) is None


def test_flat_combines_chunks_and_decodes_dictionaries():
    column = pa.chunked_array([strings(["x", "y"]).dictionary_encode(), strings(["y", "z"]).dictionary_encode()])
    assert flat(column).to_pylist() == ["x", "y", "y", "z"]
    assert flat(pa.chunked_array([], pa.binary(32))).to_pylist() == []
    assert flat(int64s([1, 2])).to_pylist() == [1, 2]


_EVERYTHING = """
import sys
from dataclasses import replace
from dataset_tasks.manifest import *
from dataset_tasks.testing.manifests import *
shelf = Shelf()
where = {"new_key": shelf.new_key, "store_id": STORE_ID, "limits": SMALL}
objects = {"chunk": chunk_ref("chunk")}
link = entries(paths=[b"z"], sizes=[1], hashes=[NO_HASH], owner="o", links=["s3://x"], pins=["p"])
base = apply(Manifest.empty(), [table_of(file_entry(b"f%03d" % n) for n in range(50)), link], **where)
manifest = shelf.land(base)
upserts = [table_of([file_entry(b"f%03d" % n, 5) for n in range(0, 60, 7)])]
child = shelf.land(apply(manifest, upserts, [b"f003", PathRange(b"f02", b"f03")], **where))
assert Index.from_bytes(child.index.to_bytes()) == child.index
assert len(diff(manifest, child).to_model().added) == 1
assert len(diff(child, Manifest.empty())) == len(child)
merged = shelf.land(merge([child, manifest, Manifest.empty()], **where))
squashed = squash(manifest, [(manifest, child)], **where)
table = placements(paths=[b"f001"], hashes=[file_entry(b"f001").hash], chunks="chunk", offsets=[1], stored=[1], methods=[8])
placed = shelf.land(place(merged, [table], objects=objects, **where))
assert placed.find("f001").chunk == "chunk" and placed.find("none") is None
assert list(placed.entries_under("none")) == [] and len(placed.to_table(("size",))) == len(placed)
assert len(list(placed.select(lambda paths: [path < b"f001" for path in paths]))) == 1
assert [entry.to_model() for entry in placed.entries()]
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "pandas")
assert not loaded, loaded[:3]
"""


def test_nothing_loads_pandas():
    done = subprocess.run([sys.executable, "-c", _EVERYTHING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
