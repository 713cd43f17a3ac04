from __future__ import annotations

import hashlib
import struct

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.manifest.columns import LINK, entries, int64s
from dataset_tasks.manifest.digest import content_hash, segment_digest

TWO_ENTRIES = entries(
    paths=[b"a/x.txt", "é".encode()],
    kinds=[0, LINK],
    sizes=[5, 2**40],
    hashes=[bytes(range(32)), bytes(32)],
    owner="a" * 32,
    chunks=["chunk", None],
    links=[None, "s3://b/k"],
)


def test_the_bytes_are_those_of_the_format_page():
    expected = (
        b"dataset-tasks/segment\0"
        + struct.pack("<IQ", 1, 2)
        + b"\x01" + struct.pack("<II", 7, 2) + b"a/x.txt" + "é".encode()
        + b"\x02" + bytes([0, 1])
        + b"\x03" + struct.pack("<qq", 5, 2**40)
        + b"\x04" + bytes(range(32)) + bytes(32)
        + b"\x05" + b"\x01" + bytes([0b10]) + struct.pack("<I", 8) + b"s3://b/k"
        + b"\x06" + b"\x00"
    )  # fmt: skip
    assert segment_digest(TWO_ENTRIES) == hashlib.sha256(expected).digest()


def test_digests_never_change():
    assert segment_digest(TWO_ENTRIES).hex() == "78b54c4b70ada2cb58b52b8d1b486b1c5f3d43ee7576daac917bd587b40d7e0b"
    assert (
        content_hash([segment_digest(TWO_ENTRIES)])
        == "dd0a6a0805fd3f64f11cdee2d10164b73686469a6e77899b49679750ce2af468"
    )
    assert content_hash([]) == "c9723acecfab3e83a90941cd132dc9a23fba463f2cd1a9460b168177f706d434"


def test_the_root_is_over_layout_count_and_digests():
    digests = [bytes([n]) * 32 for n in range(3)]
    expected = b"dataset-tasks/manifest\0" + struct.pack("<IQ", 1, 3) + b"".join(digests)
    assert content_hash(digests) == hashlib.sha256(expected).hexdigest()


def test_who_brought_it_and_where_it_lies_is_not_content():
    other = entries(
        paths=[b"a/x.txt", "é".encode()],
        kinds=[0, LINK],
        sizes=[5, 2**40],
        hashes=[bytes(range(32)), bytes(32)],
        owner="b" * 32,
        offsets=[1, 2],
        stored=[3, 4],
        methods=[8, 0],
        links=[None, "s3://b/k"],
    )
    assert segment_digest(other) == segment_digest(TWO_ENTRIES)


_TEXT = st.none() | st.text(max_size=4)
_ROWS = st.lists(
    st.tuples(
        st.binary(max_size=5),
        st.integers(0, 1),
        st.integers(0, 2**62),
        st.binary(min_size=32, max_size=32),
        _TEXT,
        _TEXT,
    ),
    min_size=1,
    max_size=40,
)


def _table(rows: list) -> pa.Table:
    paths, kinds, sizes, hashes, links, pins = zip(*rows, strict=True)
    return entries(paths=paths, kinds=kinds, sizes=sizes, hashes=hashes, owner="o", links=links, pins=pins)


@given(_ROWS, _ROWS, _ROWS)
def test_a_digest_does_not_depend_on_how_the_columns_lie_in_memory(before: list, rows: list, after: list) -> None:
    plain = _table(rows)
    expected = segment_digest(plain)
    sliced = _table([*before, *rows, *after]).slice(len(before), len(rows))
    assert segment_digest(sliced) == expected
    middle = len(rows) // 2
    chunked = pa.concat_tables(
        [_table(rows[:middle]) if middle else plain.slice(0, 0), _table([*before, *rows[middle:]]).slice(len(before))]
    )
    assert segment_digest(chunked) == expected
    for name in ("link", "pin", "path"):
        position = plain.schema.get_field_index(name)
        encoded = plain.set_column(position, name, sliced[name].combine_chunks().dictionary_encode())
        assert segment_digest(encoded) == expected


@given(_ROWS, _ROWS)
def test_digests_are_equal_exactly_when_the_content_is(one: list, other: list) -> None:
    def normal(rows: list) -> list:
        return [(*row[:5], row[5] or None) for row in rows]

    assert (segment_digest(_table(one)) == segment_digest(_table(other))) == (normal(one) == normal(other))


def test_bytes_under_nulls_do_not_count():
    column = TWO_ENTRIES["link"].combine_chunks()
    validity, _, _ = column.buffers()
    offsets = pa.py_buffer(struct.pack("<iii", 0, 3, 11))
    dirty = pa.Array.from_buffers(pa.string(), 2, [validity, offsets, pa.py_buffer(b"???s3://b/k")])
    assert dirty.equals(column)
    table = TWO_ENTRIES.set_column(TWO_ENTRIES.schema.get_field_index("link"), "link", dirty)
    assert segment_digest(table) == segment_digest(TWO_ENTRIES)


def test_unused_bits_of_a_bitmap_do_not_count():
    column = TWO_ENTRIES["link"].combine_chunks()
    _, offsets, data = column.buffers()
    dirty = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(bytes([0b11111110])), offsets, data])
    table = TWO_ENTRIES.set_column(TWO_ENTRIES.schema.get_field_index("link"), "link", dirty)
    assert segment_digest(table) == segment_digest(TWO_ENTRIES)


def test_a_slice_of_integers_is_taken_where_it_begins():
    table = TWO_ENTRIES.set_column(2, "size", int64s([9, 5, 2**40, 9]).slice(1, 2))
    assert segment_digest(table) == segment_digest(TWO_ENTRIES)
