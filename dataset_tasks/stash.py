"""Keeps tables until they are needed: the first ones in memory, what is too much in a temporary file without a name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pyarrow as pa

from dataset_tasks.filesystem import pread_all, storage_error, write_all

MOST_IN_MEMORY = 8 << 20
"""Bytes of tables that stay in memory; a quarter of a million files need more."""


class Stash:
    """Tables in the order in which they came; read as often as one likes, one at a time.

    Args:
        most_in_memory: Bytes that stay in memory.

    Raises:
        StorageError: The folder for temporary files can't take more.
    """

    def __init__(self, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._left = most_in_memory
        self._kept: list[pa.Table | tuple[int, int]] = []
        self._fd = -1
        self._end = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[pa.Table]:
        return (self[position] for position in range(len(self._kept)))

    def __getitem__(self, position: int) -> pa.Table:
        kept = self._kept[position]
        if not isinstance(kept, tuple):
            return kept
        start, length = kept
        try:
            data = pread_all(self._fd, start, length)
        except OSError as error:
            raise storage_error(error, "read a temporary file in", tempfile.gettempdir()) from error
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()

    def append(self, table: pa.Table) -> None:
        """Takes one more table."""
        if table.nbytes <= self._left:
            self._left -= table.nbytes
            self._kept.append(table)
            return
        self._left = 0
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        data = memoryview(sink.getvalue()).cast("B")
        try:
            if self._fd < 0:
                with tempfile.TemporaryFile(buffering=0) as file:
                    self._fd = os.dup(file.fileno())
            write_all(self._fd, data)
        except OSError as error:
            raise storage_error(error, "write a temporary file in", tempfile.gettempdir()) from error
        self._kept.append((self._end, len(data)))
        self._end += len(data)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
