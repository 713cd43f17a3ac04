"""One stored file as something to read and seek in, by ranged reads of its chunk."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest import STORED, Entry
from dataset_tasks.members import Member, RangedReader, member_pieces
from dataset_tasks.paths import show


class EntryReader(io.RawIOBase):
    """Reads one entry. Stored members are read where one looks; deflated ones from the start, and again after a seek back.

    A read that goes through the whole file in order checks its hash at the end.

    Raises:
        IntegrityError: While reading: the bytes are not those of the entry.
    """

    def __init__(self, chunk: RangedReader, entry: Entry) -> None:
        super().__init__()
        self._chunk = chunk
        self._entry = entry
        self._at = 0
        self._sha = hashlib.sha256()
        self._hashed_to = 0
        self._pieces: Iterator[bytes] = iter(())
        self._piece = b""
        self._piece_at = -1

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position; behind the end nothing is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._entry.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # any writable buffer
        """Fills the buffer as far as the file goes; 0 at the end."""
        length = min(len(buffer), max(self._entry.size - self._at, 0))
        if not length:
            return 0
        data = self._stored(length) if self._entry.method == STORED else self._inflated(length)
        buffer[: len(data)] = data
        self._check(data)
        self._at += len(data)
        return len(data)

    def _stored(self, length: int) -> bytes:
        return self._chunk.pread(self._entry.offset + self._at, length)

    def _inflated(self, length: int) -> bytes:
        if self._piece_at < 0 or self._at < self._piece_at:
            entry = self._entry
            member = Member(entry.path, entry.size, entry.hash, entry.offset, entry.stored, entry.method)
            self._pieces, self._piece, self._piece_at = member_pieces(self._chunk, member), b"", 0
        while self._at >= self._piece_at + len(self._piece):
            self._piece_at += len(self._piece)
            piece = next(self._pieces, None)
            if piece is None:
                raise IntegrityError(f"{show(self._entry.path)} ends at {self._piece_at} of {self._entry.size} bytes")
            self._piece = piece
        start = self._at - self._piece_at
        return self._piece[start : start + length]

    def _check(self, data: bytes) -> None:
        if self._at != self._hashed_to:
            return
        self._sha.update(data)
        self._hashed_to += len(data)
        if self._hashed_to == self._entry.size and self._sha.digest() != self._entry.hash:
            raise IntegrityError(
                f"{show(self._entry.path)} is damaged in the store: its SHA-256 is not what was finalized",
                paths=(show(self._entry.path),),
                hint="Run `dataset-tasks verify` to see what else is.",
            )
