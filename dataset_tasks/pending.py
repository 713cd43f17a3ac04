"""Where the pending entries of a draft are read from: a Parquet object beside its manifest, gone with finalize."""

from __future__ import annotations

import socket
from bisect import bisect_left, bisect_right
from collections import OrderedDict

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.errors import IntegrityError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.kernels import pc
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
_GROUP_ROWS = 16384
_GROUPS_KEPT = 3  # they are read in the order of paths; each may take a few MB
_NO_SOURCES = pa.Table.from_batches([], schema=pa.schema([SCHEMA.field("path"), SCHEMA.field("source")]))


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
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, rows: pa.Table) -> None:
        """Appends rows."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= _GROUP_ROWS:
            self._flush()

    def finish(self) -> memoryview:
        """The whole file."""
        self._flush()
        self._writer.close()
        return memoryview(self._sink.getvalue()).cast("B")

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP_ROWS)
            self._waiting, self._waiting_rows = [], 0


class Pending:
    """The rows of one pending object, sorted by path, no path twice; decoded where one looks, a few groups at a time.

    Attributes:
        host: The machine that recorded them.

    Args:
        data: The object.

    Raises:
        IntegrityError: It can't be decoded.
    """

    def __init__(self, data: Buffer) -> None:
        with damaged("the list of pending files"):
            self._file = pq.ParquetFile(pa.BufferReader(data))
            schema = self._file.schema_arrow
            self._groups: int = self._file.metadata.num_row_groups
        if schema.names != SCHEMA.names:
            raise IntegrityError(
                "the list of pending files has other columns than expected", hint="Add the files again."
            )
        self.host: str = (schema.metadata or {}).get(b"host", b"").decode(errors="replace")
        self._firsts: list[bytes] = []
        self._decoded: OrderedDict[int, pa.Table] = OrderedDict()

    @classmethod
    def nothing(cls) -> Pending:
        """The list of a draft that has none."""
        return cls(Encoder().finish())

    def sources(self, paths: pa.Array) -> list[bytes | None]:
        """For each of some sorted paths where its file is, None where that is not known.

        Looks only at the rows between the first and the last of them.
        """
        if not len(paths):
            return []
        first, end = paths[0].as_py(), paths[len(paths) - 1].as_py() + b"\0"
        while len(self._firsts) < self._groups and (not self._firsts or self._firsts[-1] < end):
            self._firsts.append(self._group(len(self._firsts))["path"][0].as_py())
        start = max(bisect_right(self._firsts, first) - 1, 0)
        groups = [self._group(group) for group in range(start, bisect_left(self._firsts, end))]
        near = cut(pa.concat_tables(groups or [_NO_SOURCES]), PathRange(first, end))
        found = pc.index_in(paths, value_set=flat(near["path"]))
        return list(flat(near["source"]).take(found).to_pylist())

    def rows(self) -> pa.Table:
        """All rows with all columns."""
        with damaged("the list of pending files"):
            return self._file.read(use_threads=False)

    def _group(self, group: int) -> pa.Table:
        """Path and source of the rows of a group; the last few groups are kept."""
        table = self._decoded.pop(group, None)
        if table is None:
            with damaged("the list of pending files"):
                table = self._file.read_row_group(group, columns=_NO_SOURCES.column_names, use_threads=False)
        self._decoded[group] = table
        while len(self._decoded) > _GROUPS_KEPT:
            self._decoded.popitem(last=False)
        return table


def overlay(old: Buffer | None, new: Buffer) -> Buffer:
    """Both lists as one; where both have a path, the new one holds."""
    if old is None:
        return new
    before, after = Pending(old).rows(), Pending(new).rows()
    stays = pc.invert(pc.is_in(before["path"], value_set=flat(after["path"])))
    both = pa.concat_tables([before.filter(stays), after.cast(before.schema)])
    encoder = Encoder()
    encoder.add(both.take(pc.sort_indices(flat(both["path"]))).replace_schema_metadata(SCHEMA.metadata))
    return encoder.finish()
