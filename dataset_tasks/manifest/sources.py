"""Where entries come from: who brought them and which chunk holds their bytes, told once a segment and by number in its rows.

A long history leaves a segment with entries from hundreds of versions. Their ids are 75 bytes of text an entry, which no
compression makes small; so a pack holds numbers of a byte or two, and the index, once, what they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import NO_TEXT, SCHEMA, flat, int32s, ints_of, strings


class Sources:
    """The pairs of chunk and owner that entries of a segment have: sorted, none twice. They never change.

    The key of the chunk is empty for links and while bytes are pending; the id of the owner where only the pack says it, as
    those of layout 1 do. Thousands of them stay columns: rows of two that many segments share.

    >>> list(Sources.of([("chunk", "owner")]))
    [('chunk', 'owner')]
    """

    __slots__ = ("_chunks", "_owners", "_rows")

    def __init__(self, chunks: pa.Array, owners: pa.Array, rows: pa.Array | None = None) -> None:
        self._chunks = chunks
        self._owners = owners
        self._rows = rows

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> Sources:
        """From pairs of chunk and owner that are in order."""
        return cls(strings([chunk for chunk, _ in pairs]), strings([owner for _, owner in pairs]))

    @property
    def chunks(self) -> pa.Array:
        """The key of each one's chunk."""
        return self._chunks if self._rows is None else self._chunks.take(self._rows)

    @property
    def owners(self) -> pa.Array:
        """The id of each one's owner."""
        return self._owners if self._rows is None else self._owners.take(self._rows)

    def chunk_rows(self) -> tuple[pa.Array, Sequence[int]]:
        """A column of keys that others may share, and which rows of it are those of its chunks."""
        return self._chunks, range(len(self._chunks)) if self._rows is None else ints_of(self._rows)

    def __len__(self) -> int:
        return len(self._chunks if self._rows is None else self._rows)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.chunks.to_pylist(), self.owners.to_pylist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sources) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Sources.of({list(self)})"


NO_SOURCES = Sources.of(())


def chunk_keys(all_sources: Iterable[Sources]) -> set[str]:
    """The keys of all chunks that some sources name."""
    by_column: dict[int, tuple[pa.Array, set[int]]] = {}  # segments of an index share one
    for sources in all_sources:
        column, rows = sources.chunk_rows()
        by_column.setdefault(id(column), (column, set()))[1].update(rows)
    found: set[str] = set()
    for column, used in by_column.values():
        keys = column.to_pylist()
        found.update(keys[row] for row in used)
    return found - {""}


def numbered(chunks: pa.Array, owners: pa.Array) -> tuple[Sources, pa.Array]:
    """The different ones of some pairs, neither of which is null, and the number among these of each."""
    keys, ids = chunks.dictionary_encode(), owners.dictionary_encode()
    # One long number holds all pairs, 64 digits of it each.
    joined = (_as_number(keys.indices) << 32 | _as_number(ids.indices)).to_bytes(8 * len(chunks), "little")
    pairs = pa.Array.from_buffers(pa.int64(), len(chunks), [None, pa.py_buffer(joined)]).dictionary_encode()
    halves = memoryview(pairs.dictionary.buffers()[1])[: 8 * len(pairs.dictionary)].cast("B").cast("I").tolist()
    found = pa.Table.from_arrays(
        [keys.dictionary.take(int32s(halves[1::2])), ids.dictionary.take(int32s(halves[::2]))],
        names=["chunk", "owner"],
    )
    order = pc.sort_indices(found, sort_keys=[("chunk", "ascending"), ("owner", "ascending")])
    numbers = pc.sort_indices(order).cast(pa.int32()).take(pairs.indices)
    return Sources(flat(found["chunk"].take(order)), flat(found["owner"].take(order))), numbers


PACK_SCHEMA = pa.schema(
    [
        field
        for name in SCHEMA.names
        for field in {"owner": [pa.field("source", pa.int32(), nullable=False)], "chunk": []}.get(
            name, [SCHEMA.field(name)]
        )
    ]
)
"""The columns of a pack: those of a manifest with a number in place of owner and chunk."""


def split(table: pa.Table) -> tuple[pa.Table, Sources]:
    """The rows of a segment as a pack holds them, and the sources that its numbers mean."""
    sources, numbers = numbered(pc.fill_null(flat(table["chunk"]), NO_TEXT), flat(table["owner"]))
    columns = [numbers if name == "source" else table[name] for name in PACK_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=PACK_SCHEMA), sources


def join(table: pa.Table, sources: Sources, columns: Sequence[str]) -> pa.Table:
    """Some columns of a manifest from those of a pack that they need (`stored_columns`).

    Raises:
        IndexError: A number is that of no source.
    """
    made = {}
    if "chunk" in columns:
        chunks = sources.chunks
        none = pa.nulls(len(chunks), pa.string())
        made["chunk"] = pc.if_else(pc.equal(chunks, NO_TEXT), none, chunks).take(flat(table["source"]))
    if "owner" in columns:
        made["owner"] = sources.owners.take(flat(table["source"]))
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    return pa.Table.from_arrays([made[name] if name in made else table[name] for name in columns], schema=schema)


def stored_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a pack that some columns of a manifest are made of."""
    wanted = {"source" if name in ("owner", "chunk") else name for name in columns}
    return [name for name in PACK_SCHEMA.names if name in wanted]


def _as_number(indices: pa.Array) -> int:
    """The values of a column of integers, each being 64 digits of one number."""
    wide = indices.cast(pa.int64())
    start = 8 * wide.offset
    return int.from_bytes(memoryview(wide.buffers()[1])[start : start + 8 * len(wide)], "little")
