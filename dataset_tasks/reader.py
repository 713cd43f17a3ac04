"""One file as something to read and seek in: by ranged reads of its chunk, or from where a link leads."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from dataset_tasks.errors import IntegrityError, ObjectMissingError
from dataset_tasks.manifest import STORED, Entry
from dataset_tasks.members import Member, RangedReader, member_pieces, read_member
from dataset_tasks.paths import show


class _Reader(io.RawIOBase):
    """What both kinds of reader have: a size and a position."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

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
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._at = base + offset
        return self._at


class EntryReader(_Reader):
    """Reads one entry. Stored members are read where one looks; deflated ones from the start, and again after a seek back.

    A read that goes through the whole file in order checks its hash at the end. What does not fit is read once more, from
    the store itself: damage that happened on the way is mended, unless bytes that were handed out already have it.

    Args:
        open_chunk: Opens the chunk, each time anew.
        entry: What to read.

    Raises:
        IntegrityError: The chunk is gone, or while reading: the bytes are not those of the entry. Names the file.
    """

    def __init__(self, open_chunk: Callable[[], RangedReader], entry: Entry) -> None:
        super().__init__(entry.size)
        self._open_chunk = open_chunk
        self._entry = entry
        with self._naming():
            self._chunk = open_chunk()
        self._member = Member(entry.path, entry.size, entry.hash, entry.offset, entry.stored, entry.method)
        self._sha = hashlib.sha256()
        self._hashed_to = 0
        self._pieces: Iterator[bytes] = iter(())
        self._piece = b""
        self._piece_at = -1

    def readall(self) -> bytes:
        """The rest; the whole file at once is checked before it is handed out."""
        if self._at or not self._size:
            return super().readall() or b""
        with self._naming():
            try:
                data = read_member(self._chunk, self._member)
            except IntegrityError:
                data = read_member(self._open_chunk(), self._member)
        self._at = self._size
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # any writable buffer
        """Fills the buffer as far as the file goes; 0 at the end."""
        length = min(len(buffer), max(self._entry.size - self._at, 0))
        if not length:
            return 0
        with self._naming():
            data = self._checked(self._stored(length) if self._entry.method == STORED else self._inflated(length))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Errors of the chunk say which file can't be read for them."""
        try:
            yield
        except (IntegrityError, ObjectMissingError) as error:
            if isinstance(error, IntegrityError) and error.paths:
                raise
            path = show(self._entry.path)
            raise IntegrityError(
                f"{path} can't be read: {error.message}", paths=(path,), hint=error.hint, kind=error.kind
            ) from error

    def _stored(self, length: int) -> bytes:
        return self._chunk.pread(self._entry.offset + self._at, length)

    def _inflated(self, length: int) -> bytes:
        try:
            self._inflate_to_here()
        except IntegrityError:  # on the way, or in the store?
            self._chunk, self._piece_at = self._open_chunk(), -1
            self._inflate_to_here()
        start = self._at - self._piece_at
        return self._piece[start : start + length]

    def _inflate_to_here(self) -> None:
        """Goes on, or begins, to the piece that holds the next byte."""
        if self._piece_at < 0 or self._at < self._piece_at:
            self._pieces, self._piece, self._piece_at = member_pieces(self._chunk, self._member), b"", 0
        while self._at >= self._piece_at + len(self._piece):
            self._piece_at += len(self._piece)
            piece = next(self._pieces, None)
            if piece is None:
                raise IntegrityError(f"{show(self._entry.path)} ends at {self._piece_at} of {self._entry.size} bytes")
            self._piece = piece

    def _checked(self, data: bytes) -> bytes:
        """The next bytes to hand out, hashed when they are in order; those that end the file have to fit its hash."""
        if not self._at:
            self._sha, self._hashed_to = hashlib.sha256(), 0  # whoever looked at the head first and begins anew
        if self._at != self._hashed_to:
            return data
        sha = self._sha.copy()
        sha.update(data)
        if self._at + len(data) == self._entry.size and sha.digest() != self._entry.hash:
            return self._read_again(len(data))
        self._sha = sha
        self._hashed_to += len(data)
        return data

    def _read_again(self, length: int) -> bytes:
        """The last bytes of the file, if the store has it whole and what was handed out of it is right."""
        before, tail = hashlib.sha256(), bytearray()
        left = self._at
        for piece in member_pieces(self._open_chunk(), self._member):
            before.update(piece[:left])
            tail += piece[left:]
            left = max(left - len(piece), 0)
        if before.digest() != self._sha.digest():
            raise IntegrityError(
                f"{show(self._entry.path)} was damaged on its way from the store: what was read of it is wrong",
                paths=(show(self._entry.path),),
                hint="Open and read it again: the store holds it whole.",
            )
        assert len(tail) == length
        return bytes(tail)


class LinkReader(_Reader):
    """Reads what a link leads to, from the start; after a seek back from the start again.

    Args:
        fetch: Gives the bytes in pieces.
        size: How many there are.

    Raises:
        SourceError: While reading: the bytes are gone, or not those that were pinned.
    """

    def __init__(self, fetch: Callable[[], Generator[bytes]], size: int) -> None:
        super().__init__(size)
        self._fetch = fetch
        self._pieces: Generator[bytes] | None = None
        self._piece = b""
        self._piece_at = 0

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # any writable buffer
        """Fills the buffer from the piece that is at hand; 0 at the end."""
        if self._pieces is None or self._at < self._piece_at:
            self._drop()
            self._pieces, self._piece, self._piece_at = self._fetch(), b"", 0
        while self._at >= self._piece_at + len(self._piece):
            self._piece_at += len(self._piece)
            self._piece = next(self._pieces, b"")  # the end too is asked for: it tells whether all was well
            if not self._piece:
                return 0
        start = self._at - self._piece_at
        data = self._piece[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Lets go of the connection."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
