"""Content digests: what a segment and a manifest contain, whatever memory or file they stand in.

Two tables with the same entries give the same digest, sliced or not, in one chunk or many, with dictionaries or
without, whatever lies under nulls. docs/format/manifest.md states the exact bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from struct import pack

import pyarrow as pa

from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import CONTENT_COLUMNS, SCHEMA, flat

LAYOUT = 1
"""Number of the layout of manifests; raised whenever the same entries would give another content hash."""

_SEGMENT_MAGIC = b"dataset-tasks/segment\0"
_MANIFEST_MAGIC = b"dataset-tasks/manifest\0"
_ALL_NULL, _BITMAP = b"\x00", b"\x01"


def segment_digest(table: pa.Table) -> bytes:
    """SHA-256 over the content columns of a table of entries in canonical form; 32 bytes."""
    digest = hashlib.sha256(_SEGMENT_MAGIC)
    digest.update(pack("<IQ", LAYOUT, len(table)))
    for tag, name in enumerate(CONTENT_COLUMNS, start=1):
        column = flat(table[name])
        digest.update(bytes((tag,)))
        if SCHEMA.field(name).nullable:
            if column.null_count == len(column):
                digest.update(_ALL_NULL)
                continue
            digest.update(_BITMAP + _validity(column))
            column = pc.drop_null(column)
        _update(digest, column)
    return digest.digest()


def content_hash(digests: Iterable[bytes]) -> str:
    """The root over the digests of all segments in order: the content hash of a version, as hex."""
    joined = b"".join(digests)
    head = pack("<IQ", LAYOUT, len(joined) // hashlib.sha256().digest_size)
    return hashlib.sha256(_MANIFEST_MAGIC + head + joined).hexdigest()


def _validity(column: pa.Array) -> bytes:
    """Which rows are not null: bit 0 of byte 0 is the first row, unused bits are 0."""
    count = len(column)
    bitmap = column.buffers()[0]
    if bitmap is None:
        bits = -1
    else:
        bits = int.from_bytes(bitmap, "little") >> column.offset
    return (bits & ((1 << count) - 1)).to_bytes(-(-count // 8), "little")


def _update(digest: hashlib._Hash, column: pa.Array) -> None:
    """Adds the values of a column without nulls: lengths if they vary, then the bytes."""
    start, count = column.offset, len(column)
    if not count:
        return
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        _, offsets, data = column.buffers()
        window = memoryview(offsets)[4 * start : 4 * (start + count + 1)].cast("B")
        digest.update(_differences(window))
        bounds = window.cast("i")
        if data is not None:
            digest.update(memoryview(data)[bounds[0] : bounds[count]])
    else:
        digest.update(_fixed(column, column.type.bit_width // 8))


def _differences(window: memoryview) -> bytes:
    """From each of some 32-bit integers in increasing order to the next.

    All in one subtraction, each being 32 digits of one long number: as none is below the one before, nothing is borrowed.
    """
    below, above = (int.from_bytes(part, "little") for part in (window[:-4], window[4:]))
    return (above - below).to_bytes(len(window) - 4, "little")


def _fixed(column: pa.Array, width: int) -> memoryview:
    return memoryview(column.buffers()[1])[column.offset * width : (column.offset + len(column)) * width]
