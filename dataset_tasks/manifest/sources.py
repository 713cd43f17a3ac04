"""Where entries come from: who brought them and which chunk holds their bytes, told once a segment and by number in its rows.

A long history leaves a segment with entries from hundreds of versions. Their ids are 75 bytes of text an entry, which no
compression makes small; so a pack holds numbers of a byte or two, and the index, once, what they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pyarrow as pa

from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import NO_TEXT, SCHEMA, flat, int32s, strings

Source: TypeAlias = tuple[str, str]
"""What some entries of a segment have in common: the key of their chunk, and the id of the version that brought them.

The key is empty for links and while bytes are pending; the id where only the pack says it, as those of layout 1 do.
"""


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


def split(table: pa.Table) -> tuple[pa.Table, tuple[Source, ...]]:
    """The rows of a segment as a pack holds them, and its sources in the order that the numbers mean: sorted, none twice."""
    owners = flat(table["owner"]).dictionary_encode()
    chunks = pc.fill_null(flat(table["chunk"]), NO_TEXT).dictionary_encode()
    # Both numbers of a row are below 2^16, as a segment has 4,096 rows at most: one long number holds all pairs.
    pairs = (_as_number(chunks.indices) << 16 | _as_number(owners.indices)).to_bytes(4 * len(table), "little")
    found = pa.Array.from_buffers(pa.int32(), len(table), [None, pa.py_buffer(pairs)]).dictionary_encode()
    halves = memoryview(found.dictionary.buffers()[1])[: 4 * len(found.dictionary)].cast("B").cast("H").tolist()
    distinct = pa.Table.from_arrays(
        [chunks.dictionary.take(int32s(halves[1::2])), owners.dictionary.take(int32s(halves[::2]))],
        names=["chunk", "owner"],
    )
    by_name = [("chunk", "ascending"), ("owner", "ascending")]
    order = pc.sort_indices(distinct, sort_keys=by_name)
    sources = zip(*(column.to_pylist() for column in distinct.take(order).columns), strict=True)
    numbers = pc.sort_indices(order).cast(pa.int32()).take(found.indices)
    columns = [numbers if name == "source" else table[name] for name in PACK_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=PACK_SCHEMA), tuple(sources)


def join(table: pa.Table, sources: Sequence[Source], columns: Sequence[str]) -> pa.Table:
    """Some columns of a manifest from those of a pack that they need (`stored_columns`).

    Raises:
        IndexError: A number is that of no source.
    """
    made = {}
    for name, values in (
        ("chunk", [chunk or None for chunk, _ in sources]),
        ("owner", [owner for _, owner in sources]),
    ):
        if name in columns:
            made[name] = strings(values).take(flat(table["source"]))
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    return pa.Table.from_arrays([made[name] if name in made else table[name] for name in columns], schema=schema)


def stored_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a pack that some columns of a manifest are made of."""
    wanted = {"source" if name in ("owner", "chunk") else name for name in columns}
    return [name for name in PACK_SCHEMA.names if name in wanted]


def _as_number(indices: pa.Array) -> int:
    """The values of a column of 32-bit integers, each being 32 digits of one number."""
    start = 4 * indices.offset
    return int.from_bytes(memoryview(indices.buffers()[1])[start : start + 4 * len(indices)], "little")
