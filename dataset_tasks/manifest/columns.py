"""Columns of entries: their schema, how they are made from Python values, and what makes them valid.

This is the only module that makes columns. `pa.array`, `pa.scalar` and comparisons with Python values import pandas
behind one's back (0.2 s and 40 MiB a process); buffers, and scalars taken out of arrays, don't.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise, repeat
from operator import lt

import pyarrow as pa

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.kernels import pc
from dataset_tasks.model import FileEntry, LinkEntry
from dataset_tasks.paths import first_fault, show

FILE = 0
LINK = 1
STORED = 0
DEFLATE = 8
HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)

SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("hash", pa.binary(HASH_BYTES), nullable=False),
        pa.field("owner", pa.string(), nullable=False),
        pa.field("chunk", pa.string()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("stored", pa.int64(), nullable=False),
        pa.field("method", pa.int8(), nullable=False),
        pa.field("link", pa.string()),
        pa.field("pin", pa.string()),
    ]
)
"""The columns of a manifest, one row an entry, sorted by path bytes, no path twice."""

COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
CONTENT_COLUMNS: tuple[str, ...] = ("path", "kind", "size", "hash", "link", "pin")
"""What an entry is; the other columns say who brought it and where its bytes are."""

STORAGE_COLUMNS: tuple[str, ...] = ("chunk", "offset", "stored", "method")
"""Where the bytes of an entry are: what an upload changes."""

PLACEMENT_SCHEMA = pa.schema([SCHEMA.field(name).with_nullable(False) for name in ("path", "hash", *STORAGE_COLUMNS)])
"""What an upload says of each file: the entry it is about (path and hash) and its new place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest as Python values, for the few entries that somebody looks at one by one.

    `size`, `offset` and `stored` are bytes; `chunk` is an object key, None while pending and for a link; `hash` is
    raw, zeros where a link has none; `method` is a zip method (0 stored, 8 deflate).
    """

    path: bytes
    kind: int
    size: int
    hash: bytes
    owner: str
    chunk: str | None
    offset: int
    stored: int
    method: int
    link: str | None
    pin: str | None

    @property
    def is_link(self) -> bool:
        """Whether the bytes stay at an external URL."""
        return self.kind == LINK

    @property
    def is_pending(self) -> bool:
        """Whether the bytes are not in the store yet."""
        return self.kind == FILE and self.chunk is None

    def to_model(self) -> FileEntry | LinkEntry:
        """The entry as users see it."""
        path = self.path.decode()
        if self.link is None:
            return FileEntry(path, self.hash.hex(), self.size, self.owner, self.chunk)
        known = "" if self.hash == NO_HASH else self.hash.hex()
        return LinkEntry(path, self.link, self.size, self.owner, self.pin or "", known)


def int64s(values: Iterable[int]) -> pa.Array:
    """A column of 64-bit integers."""
    return _integers("q", pa.int64(), values)


def int32s(values: Iterable[int]) -> pa.Array:
    """A column of 32-bit integers."""
    return _integers("i", pa.int32(), values)


def int8s(values: Iterable[int]) -> pa.Array:
    """A column of 8-bit integers."""
    return _integers("b", pa.int8(), values)


def _integers(code: str, kind: pa.DataType, values: Iterable[int]) -> pa.Array:
    data = array(code, values)
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def ints_of(column: pa.Array) -> list[int]:
    """The values of a column of 32-bit integers without nulls: many times faster than `to_pylist`."""
    held = column.buffers()[1]
    return memoryview(held).cast("B").cast("i")[column.offset : column.offset + len(column)].tolist() if held else []


def binaries(values: Sequence[bytes]) -> pa.Array:
    """A column of byte strings, 2 GiB at most in all."""
    return _variable(pa.binary(), values, None)


def strings(values: Sequence[str | None]) -> pa.Array:
    """A column of strings; None is null."""
    validity = None
    if None in values:
        bits = int("".join("0" if value is None else "1" for value in reversed(values)), 2)
        validity = pa.py_buffer(bits.to_bytes(-(-len(values) // 8), "little"))
    texts = [value or "" for value in values]
    joined = "".join(texts)
    if not joined.isascii():
        return _variable(pa.string(), [text.encode() for text in texts], validity)
    return _joined(pa.string(), joined.encode(), list(map(len, texts)), validity)


def _variable(kind: pa.DataType, values: Sequence[bytes], validity: pa.Buffer | None) -> pa.Array:
    return _joined(kind, b"".join(values), list(map(len, values)), validity)


def _joined(kind: pa.DataType, data: bytes, lengths: Sequence[int], validity: pa.Buffer | None) -> pa.Array:
    offsets = array("i", (0,))
    offsets.extend(accumulate(lengths))
    return pa.Array.from_buffers(kind, len(lengths), [validity, pa.py_buffer(offsets), pa.py_buffer(data)])


def digests(values: Sequence[bytes] | bytes) -> pa.Array:
    """A column of SHA-256 digests, from single ones or from all of them joined.

    Raises:
        InvalidArgumentError: One of them is not 32 bytes long.
    """
    if not isinstance(values, bytes):
        wrong = next((value for value in values if len(value) != HASH_BYTES), None)
        if wrong is not None:
            raise InvalidArgumentError(
                f"a hash has {len(wrong)} bytes, {HASH_BYTES} expected", hint="Give raw SHA-256 digests, not hex."
            )
        values = b"".join(values)
    if len(values) % HASH_BYTES:
        raise InvalidArgumentError(
            f"joined hashes have {len(values)} bytes, a multiple of {HASH_BYTES} expected",
            hint="Give raw SHA-256 digests, not hex.",
        )
    return pa.Array.from_buffers(pa.binary(HASH_BYTES), len(values) // HASH_BYTES, [None, pa.py_buffer(values)])


def constant(value: str | None, count: int) -> pa.Array:
    """A string column that says the same in every row, None for all null."""
    if value is None:
        return pa.nulls(count, pa.string())
    data = value.encode()
    offsets = array("i", range(0, len(data) * count + 1, len(data))) if data else array("i", bytes(4 * (count + 1)))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data * count)]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def entries(
    *,
    paths: Sequence[bytes],
    sizes: Iterable[int],
    hashes: Sequence[bytes] | bytes,
    owner: str | Sequence[str],
    kinds: Iterable[int] | None = None,
    chunks: str | Sequence[str | None] | None = None,
    offsets: Iterable[int] | None = None,
    stored: Iterable[int] | None = None,
    methods: Iterable[int] | None = None,
    links: Sequence[str | None] | None = None,
    pins: Sequence[str | None] | None = None,
) -> pa.Table:
    """Makes a table of entries (see `SCHEMA`) from Python sequences of equal length.

    Args:
        paths: UTF-8 paths, strictly increasing by bytes.
        sizes: Bytes of each file.
        hashes: Raw SHA-256 digests, one by one or joined; `NO_HASH` for a link without one.
        owner: Id of the version that brings the content, one for all or one each.
        kinds: `FILE` or `LINK`; all files when left out, unless `links` says otherwise.
        chunks: Object keys, None while pending; one for all or one each.
        offsets: Where the member's data begins in its chunk, in bytes.
        stored: Bytes the data takes in the chunk.
        methods: Zip methods.
        links: URL of each link, None for files.
        pins: ETag or version id of each link.

    Raises:
        InvalidArgumentError: The columns differ in length or a hash is not 32 bytes. Whether the entries themselves are
            valid is checked where they are used (`apply`), not here.
    """
    count = len(paths)
    if kinds is None:
        kinds = repeat(FILE, count) if links is None else [FILE if link is None else LINK for link in links]
    columns = (
        binaries(paths),
        int8s(kinds),
        int64s(sizes),
        digests(hashes),
        _owners(owner, count),
        constant(chunks, count) if chunks is None or isinstance(chunks, str) else strings(chunks),
        int64s(repeat(0, count) if offsets is None else offsets),
        int64s(repeat(0, count) if stored is None else stored),
        int8s(repeat(STORED, count) if methods is None else methods),
        constant(None, count) if links is None else strings(links),
        constant(None, count) if pins is None else strings([pin or None for pin in pins]),
    )
    return _table(columns, SCHEMA)


def _owners(owner: str | Sequence[str], count: int) -> pa.Array:
    return constant(owner, count) if isinstance(owner, str) else strings(owner)


def placements(
    *,
    paths: Sequence[bytes],
    hashes: Sequence[bytes] | bytes,
    chunks: str | Sequence[str],
    offsets: Iterable[int],
    stored: Iterable[int],
    methods: Iterable[int],
) -> pa.Table:
    """Makes a table of placements (see `PLACEMENT_SCHEMA`); arguments as for `entries`.

    Raises:
        InvalidArgumentError: The columns differ in length or a hash is not 32 bytes.
    """
    columns = (
        binaries(paths),
        digests(hashes),
        _owners(chunks, len(paths)),
        int64s(offsets),
        int64s(stored),
        int8s(methods),
    )
    return _table(columns, PLACEMENT_SCHEMA)


def _table(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.Table:
    lengths = {name: len(column) for name, column in zip(schema.names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InvalidArgumentError(
            f"columns of entries differ in length: {lengths}", hint="Give one value per path in every column."
        )
    return pa.Table.from_arrays(list(columns), schema=schema)


def empty(schema: pa.Schema = SCHEMA) -> pa.Table:
    """A table without rows; unlike `Schema.empty_table` it loads no pandas."""
    return pa.Table.from_batches([], schema=schema)


def conform(table: pa.Table, schema: pa.Schema = SCHEMA) -> pa.Table:
    """The columns of the schema, in its order, dictionaries decoded; other columns are dropped.

    Raises:
        InvalidArgumentError: A column is missing, has another type, or holds nulls where none may be.
    """
    columns = []
    for field in schema:
        position = table.schema.get_field_index(field.name)
        if position < 0:
            raise InvalidArgumentError(
                f"entries have no column {field.name!r}", hint="Make tables of entries with `entries(...)`."
            )
        column = table.column(position)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if column.type != field.type:
            raise InvalidArgumentError(
                f"column {field.name!r} of entries has type {column.type}, {field.type} expected",
                hint="Make tables of entries with `entries(...)`.",
            )
        if not field.nullable and column.null_count:
            raise InvalidArgumentError(
                f"column {field.name!r} of entries holds {column.null_count} nulls, none allowed",
                hint="Make tables of entries with `entries(...)`.",
            )
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One plain array: chunks combined, dictionaries decoded."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            column = column.chunk(0)
        else:
            # `ChunkedArray.combine_chunks` makes an array of an empty list, and so loads pandas, if there are no chunks.
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def path_problem(paths: pa.Array) -> str | None:
    """What is wrong with a column of paths, if anything: each on its own, and that they are strictly increasing."""
    listed: list[bytes] = paths.to_pylist()
    if not all(map(lt, listed, islice(listed, 1, None))):
        before, after = next(pair for pair in pairwise(listed) if not lt(*pair))
        return f"path {quoted(after)} comes after {quoted(before)}, strictly increasing paths expected"
    found = first_fault(listed)
    return None if found is None else f"path {quoted(found[0])} {found[1]}"


def entry_problem(table: pa.Table) -> str | None:
    """What is wrong with a table of entries of the right schema, if anything."""
    if not len(table):
        return None
    problem = path_problem(flat(table["path"]))
    if problem is not None:
        return problem
    for name, least, most in (("kind", FILE, LINK), ("size", 0, None), ("offset", 0, None), ("stored", 0, None)):
        bounds = pc.min_max(table[name]).as_py()
        if bounds["min"] < least or (most is not None and bounds["max"] > most):
            return f"column {name!r} holds values from {bounds['min']} to {bounds['max']}"
    is_link = flat(table["kind"]).cast(pa.bool_())
    if not pc.is_valid(flat(table["link"])).equals(is_link):
        return "a link URL stands where there is no link, or is missing where there is one"
    if pc.any(pc.and_(is_link, pc.is_valid(flat(table["chunk"])))).as_py():
        return "a link has a chunk, although its bytes are not stored"
    return None


def quoted(path: bytes) -> str:
    """A path as messages show it: in quotes, control characters and bad bytes escaped."""
    return f"'{show(path)}'"


def bounds_of(table: pa.Table) -> tuple[bytes, bytes]:
    """First and last path of a table that has rows."""
    paths = table["path"]
    first: bytes = paths[0].as_py()
    last: bytes = paths[len(paths) - 1].as_py()
    return first, last


def lower_bound(paths: pa.Array | pa.ChunkedArray, path: bytes) -> int:
    """Position of the first of some sorted paths that is not below `path`."""
    return bisect_left(range(len(paths)), path, key=lambda position: paths[position].as_py())


def rows(table: pa.Table) -> Iterator[Entry]:
    """The rows of a table with all columns as Python values, one by one, in order."""
    for batch in table.select(list(COLUMNS)).to_batches(max_chunksize=4096):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Entry(*values)


# Scalars for kernels, which would load pandas for Python's own values.
FALSE = pa.Array.from_buffers(pa.bool_(), 1, [None, pa.py_buffer(bytes(1))])[0]
NOTHING, AFTER_SLASH = binaries((b"", b"0"))
NO_TEXT = strings([""])[0]
