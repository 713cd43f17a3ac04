"""Where the pending entries of a draft are read from: a Parquet object beside its manifest, gone with finalize."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest import PathRange
from dataset_tasks.manifest.codec import damaged
from dataset_tasks.manifest.columns import binaries, flat, int64s
from dataset_tasks.manifest.reading import cut
from dataset_tasks.scan import Batch

SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("source", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.int64(), nullable=False),
        pa.field("device", pa.int64(), nullable=False),
    ],
    metadata={"host": socket.gethostname()},
)
_DELTAS = ("size", "mtime_ns", "ctime_ns", "inode", "device")
_ENCODINGS = {"path": "DELTA_BYTE_ARRAY", "source": "DELTA_BYTE_ARRAY"} | dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED")
_SIGN = 1 << 63


def table(batch: Batch) -> pa.Table:
    """The rows of a scanned batch."""
    columns = [
        binaries(batch.path),
        binaries(batch.source),
        int64s(batch.size),
        int64s(batch.mtime_ns),
        int64s(batch.ctime_ns),
        int64s(map(_signed, batch.inode)),
        int64s(map(_signed, batch.device)),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _signed(number: int) -> int:
    """Inodes and devices are unsigned; two's complement keeps all of them in a signed column."""
    return (number + _SIGN) % (2 * _SIGN) - _SIGN


class Encoder:
    """Writes batches, sorted by path, into one Parquet file in memory as they come."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            column_encoding=_ENCODINGS,
            write_statistics=False,
        )

    def add(self, rows: pa.Table) -> None:
        """Appends rows."""
        self._writer.write_table(rows)

    def finish(self) -> bytes:
        """The whole file."""
        self._writer.close()
        data: bytes = self._sink.getvalue().to_pybytes()
        return data


@dataclass(frozen=True, slots=True)
class Pending:
    """The rows of one pending object, sorted by path, no path twice; `host` is the machine that recorded them."""

    rows: pa.Table
    host: str

    @classmethod
    def decode(cls, data: bytes) -> Pending:
        """Reads a pending object.

        Raises:
            IntegrityError: It can't be decoded.
        """
        with damaged("the list of pending files"):
            file = pq.ParquetFile(pa.BufferReader(data))
            rows = file.read(use_threads=False)
            metadata = file.schema_arrow.metadata or {}
        if rows.schema.names != SCHEMA.names:
            raise IntegrityError(
                "the list of pending files has other columns than expected", hint="Add the files again."
            )
        return cls(rows, metadata.get(b"host", b"").decode())

    @classmethod
    def nothing(cls) -> Pending:
        """The list of a draft that has none."""
        return cls(pa.Table.from_batches([], schema=SCHEMA), "")

    def sources(self, paths: pa.Array) -> list[bytes | None]:
        """For each of some sorted paths where its file is, None where that is not known.

        Looks only at the rows between the first and the last of them.
        """
        if not len(paths):
            return []
        near = cut(self.rows, PathRange(paths[0].as_py(), paths[len(paths) - 1].as_py() + b"\0"))
        found = pc.index_in(paths, value_set=flat(near["path"]))
        return list(flat(near["source"]).take(found).to_pylist())


def overlay(old: bytes | None, new: bytes) -> bytes:
    """Both lists as one; where both have a path, the new one holds."""
    if old is None:
        return new
    before, after = Pending.decode(old).rows, Pending.decode(new).rows
    stays = pc.invert(pc.is_in(before["path"], value_set=flat(after["path"])))
    both = pa.concat_tables([before.filter(stays), after.cast(before.schema)])
    encoder = Encoder()
    encoder.add(both.take(pc.sort_indices(flat(both["path"]))).replace_schema_metadata(SCHEMA.metadata))
    return encoder.finish()
