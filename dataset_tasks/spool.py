"""Keeps bytes until it is known how many they are: in memory, or in a temporary file without a name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Self

from dataset_tasks.filesystem import pread_all, storage_error, write_all
from dataset_tasks.members import PIECE


class Spool:
    """A place for bytes; a context manager.

    Args:
        on_disk: In a temporary file, else in memory.
        folder: Where the file is; None is the system's.

    Attributes:
        size: Bytes so far.

    Raises:
        StorageError: The file can't be made.
    """

    def __init__(self, on_disk: bool, folder: str | os.PathLike[str] | None) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._folder = os.fspath(folder) if folder is not None else tempfile.gettempdir()
        self._fd = -1
        if on_disk:
            try:
                with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                    self._fd = os.dup(file.fileno())
            except OSError as error:
                raise storage_error(error, "make a temporary file in", self._folder) from error

    def write(self, data: bytes) -> None:
        """Appends bytes.

        Raises:
            StorageError: The disk is full or fails.
        """
        self.size += len(data)
        if self._fd < 0:
            self._parts.append(data)
            return
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise storage_error(error, "write a temporary file in", self._folder) from error

    def pieces(self) -> Iterator[bytes]:
        """What was written, in pieces of at most 1 MiB or as they came.

        Raises:
            StorageError: The disk fails.
        """
        if self._fd < 0:
            yield from self._parts
            return
        offset = 0
        while offset < self.size:
            try:
                piece = pread_all(self._fd, offset, min(PIECE, self.size - offset))
            except OSError as error:
                raise storage_error(error, "read a temporary file in", self._folder) from error
            if not piece:
                raise AssertionError("a file without a name was cut by nobody")
            offset += len(piece)
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._parts = []
        if self._fd >= 0:
            os.close(self._fd)
