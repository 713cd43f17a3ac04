"""What stands in a cached tree, kept beside it: path, size and hash of each file, and what `stat` said of it.

An Arrow file, one batch for each table of entries, in order of path; read by memory map, so a check holds one batch.
A listing that is missing or can't be read only means that the tree has to be hashed again.
"""

from __future__ import annotations

import bisect
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from dataset_tasks.extraction import Table
from dataset_tasks.filesystem import make_folders, storage_error, temporary_name
from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import flat, int64s
from dataset_tasks.targets import Target

_SCHEMA: Final = pa.schema(
    [
        pa.field("path", pa.binary()),
        pa.field("size", pa.int64()),
        pa.field("hash", pa.binary(32)),
        pa.field("inode", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("ctime_ns", pa.int64()),
    ]
)
_FACTS: Final = ("size", "inode", "mtime_ns", "ctime_ns")
_CONTENT: Final = b"content"


class ListingWriter:
    """Writes a listing under a temporary name; `commit` puts it in its place.

    Args:
        path: Where.
        content: Of what: see `Cache.get`.

    Raises:
        StorageError: The disk is full or fails.
    """

    def __init__(self, path: Path, content: str) -> None:
        self.files = self.bytes = 0
        self._path = path
        self._temporary = path.with_name(temporary_name(path.name))
        try:
            make_folders(str(path.parent), 0o700)
            self._sink = pa.OSFile(os.fspath(self._temporary), "wb")
        except OSError as error:
            raise storage_error(error, "write in", path.parent) from error
        self._writer = pa.ipc.new_file(self._sink, _SCHEMA.with_metadata({_CONTENT: content.encode()}))

    def add(self, table: Table, stats: Sequence[os.stat_result]) -> None:
        """Takes the entries of a table and what was found of each."""
        if not stats:
            return
        size = flat(table.column("size"))
        batch = pa.RecordBatch.from_arrays(
            [
                flat(table.column("path")),
                size,
                flat(table.column("hash")),
                int64s(_signed(found.st_ino) for found in stats),
                int64s(found.st_mtime_ns for found in stats),
                int64s(found.st_ctime_ns for found in stats),
            ],
            schema=_SCHEMA,
        )
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise storage_error(error, "write", self._temporary) from error
        self.files += len(stats)
        self.bytes += pc.sum(size).as_py() or 0

    def commit(self) -> None:
        """Puts the listing in its place, whatever was there."""
        try:
            self._writer.close()
            self._sink.close()
            self._temporary.rename(self._path)
        except OSError as error:
            raise storage_error(error, "write", self._path) from error

    def abort(self) -> None:
        """Drops it; after `commit` it does nothing."""
        with suppress(OSError):
            self._sink.close()
        with suppress(OSError):
            self._temporary.unlink()


class Listing:
    """A listing opened for reading."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(os.fspath(path), "r"))
        if not self._reader.schema.equals(_SCHEMA):
            raise pa.ArrowInvalid("other columns than a listing has")
        self._firsts: list[bytes] | None = None

    @classmethod
    def open(cls, path: Path) -> Listing | None:
        """The listing, or None where there is none that can be read."""
        try:
            return cls(path)
        except (OSError, pa.ArrowInvalid):
            return None

    @property
    def content(self) -> str:
        """Of what it is: what its writer was given; empty where an earlier release wrote it."""
        metadata: dict[bytes, bytes] = self._reader.schema.metadata or {}
        return metadata.get(_CONTENT, b"").decode()

    def totals(self) -> tuple[int, int]:
        """Files and bytes."""
        batches = list(self._batches())
        return sum(map(len, batches)), sum(pc.sum(batch.column("size")).as_py() or 0 for batch in batches)

    def paths(self) -> Iterator[list[bytes]]:
        """Paths, a batch at a time."""
        for batch in self._batches():
            yield batch.column("path").to_pylist()

    def describes(self, tree: Target) -> bool:
        """Whether every file is as it was: size, inode, times. One `stat` each."""
        look = tree.look
        for batch in self._batches():
            columns = (batch.column(name).to_pylist() for name in ("path", *_FACTS))
            for path, *expected in zip(*columns, strict=True):
                stands = look(path)
                if stands is None or facts(stands) != expected:
                    return False
        return True

    def find(self, table: Table) -> list[list[int] | None]:
        """For each entry of a table the `facts` of the file here with the same path and hash, or None."""
        paths = flat(table.column("path"))
        found: list[list[int] | None] = [None] * len(paths)
        if not len(paths):
            return found
        for batch in self._overlapping(paths[0].as_py(), paths[len(paths) - 1].as_py()):
            at = pc.index_in(paths, value_set=batch.column("path"))
            same = pc.equal(batch.column("hash").take(at), flat(table.column("hash")))
            columns = [batch.column(name).take(at).to_pylist() for name in _FACTS]
            for row, (is_same, *known) in enumerate(zip(same.to_pylist(), *columns, strict=True)):
                if is_same:
                    found[row] = known
        return found

    def _overlapping(self, first: bytes, last: bytes) -> Iterator[pa.RecordBatch]:
        if self._firsts is None:
            self._firsts = [batch.column("path")[0].as_py() for batch in self._batches()]
        start = max(bisect.bisect_right(self._firsts, first) - 1, 0)
        for number in range(start, bisect.bisect_right(self._firsts, last)):
            yield self._reader.get_batch(number)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            if len(batch):
                yield batch


def facts(found: os.stat_result) -> list[int]:
    """What tells that a regular file is as it was: size, inode, mtime and ctime (ns). Empty for anything else."""
    if not stat.S_ISREG(found.st_mode):
        return []
    return [found.st_size, _signed(found.st_ino), found.st_mtime_ns, found.st_ctime_ns]


def _signed(number: int) -> int:
    return number if number < 1 << 63 else number - (1 << 64)
