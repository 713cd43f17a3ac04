"""Packing files into chunks: zip archives that hold the bytes of entries. `members` reads them, `deflating` gives the bytes.

Sizes stand before the data (no data descriptors), so an archive can be written to any sink in one go and opened by any
unzip. How a member is packed follows from its size:

- up to 1 MiB: read, hashed and compressed in one piece;
- up to 64 MiB: in pieces, what comes out is kept in memory until its size is known;
- larger: as that, with a temporary file in place of memory. Read twice instead, first for what stands in the header, then
  to be written, are files above 8 MiB that deflate does not help, and larger streams that can be rewound: nothing of them
  is kept, and the sink gets their first bytes at once.

So a source that turns out to be another than expected leaves no trace in the chunk, but for one case: one that is read
twice and changed makes the chunk `broken`, and it can only be dropped.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final, Protocol

from isal import isal_zlib

from dataset_tasks.deflating import (
    FIRST,
    Compression,
    Packing,
    Prepared,
    Read,
    Reader,
    Rewindable,
    check_read,
    compressed,
    file_reader,
    other_size,
    pieces_of,
    sample_of,
    shrinks,
    stream_reader,
)
from dataset_tasks.errors import SourceError, StateError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.members import PIECE, Member, RangedReader, damaged, member_pieces
from dataset_tasks.paths import show, to_text
from dataset_tasks.spool import Spool
from dataset_tasks.zipformat import DEFLATED, STORED, central_header, end_of_archive, local_header, member_name

MOST_IN_MEMORY: Final = 64 << 20
#: A file of more bytes than this, which deflate does not help, is read twice rather than kept.
_READ_TWICE: Final = 8 << 20
#: A chunk is best closed at this many members: its directory stays small, and any unzip of any age opens it.
MOST_MEMBERS: Final = 50_000
_BATCH: Final = 1 << 20


class Sink(Protocol):
    """Where a chunk goes; a `store.Writer` is one."""

    def write(self, data: Buffer) -> None:
        """Appends bytes."""


class ChunkWriter:
    """Packs files into one archive. Not thread-safe; two writers may run in two threads.

    Args:
        sink: Gets the bytes in order, in writes of about 1 MiB.
        compression: "deflate" stores a file as it is where deflate does not help; "store" stores all.
        scratch: Folder for temporary files of members above 64 MiB; None is the system's.

    Attributes:
        size: Bytes of the archive so far, what is not yet flushed included.
        count: Members so far.
        broken: The archive is of no use and must be dropped: the sink failed, or a large file changed (see the module).
    """

    def __init__(
        self, sink: Sink, compression: Compression = "deflate", *, scratch: str | os.PathLike[str] | None = None
    ) -> None:
        self.size = 0
        self.count = 0
        self.broken = False
        self._sink = sink
        self._deflate = compression == "deflate"
        self._scratch = scratch
        self._sha = hashlib.sha256()
        self._directory = bytearray()
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._result: tuple[int, str] | None = None

    def add(self, source: int | Reader, path: bytes, size: int, sha256: bytes | None = None) -> Member:
        """Packs one file.

        Args:
            source: Descriptor of a regular file, read from its beginning whatever its position, or a reader.
            path: Dataset path (bytes, UTF-8); each may come once in a chunk.
            size: Bytes that the source must give.
            sha256: Digest that it must have (32 bytes); None: not known yet, the member tells.

        Returns:
            Where the bytes are.

        Raises:
            SourceError: The source can't be read, or has another size or hash. Unless `broken`, go on with the next.
            StorageError: The sink, or the folder for temporary files, refused; the chunk can only be dropped.
            StateError: The chunk is finished or broken.
        """
        self._check_open(path)
        read = file_reader(source, path) if isinstance(source, int) else stream_reader(source, path)
        name = member_name(path)
        if size <= PIECE:
            return self._add_small(read, path, name, size, sha256)
        sample = sample_of(read, size) if isinstance(source, int) else b""
        if size > _READ_TWICE and isinstance(source, int) and not (self._deflate and shrinks(sample)):
            return self._add_twice_read(read, path, name, size, sha256)
        if size > MOST_IN_MEMORY and isinstance(source, Rewindable):
            return self._add_rewound(source, path, name, size, sha256)
        return self._add_spooled(read, path, name, size, sha256, sample)

    def add_prepared(self, path: bytes, ready: Prepared) -> Member:
        """Takes a file that was packed elsewhere.

        Raises:
            StorageError, StateError: As `add`.
        """
        self._check_open(path)
        self.broken = True
        self._head(member_name(path), ready.method, ready.crc, ready.stored, ready.size)
        member = Member(path, ready.size, ready.sha256, self.size, ready.stored, ready.method)
        for piece in ready.pieces:
            self._put(piece)
        self.broken = False
        return member

    def add_member(self, chunk: RangedReader, member: Member) -> Member:
        """Takes over a file from another chunk: inflated once to verify it, its data copied as it is.

        Args:
            chunk: The other chunk.
            member: Where the file is in it.

        Returns:
            Where it is here; path, size and digest stay.

        Raises:
            IntegrityError: The other chunk does not hold that file there. Unless `broken`, go on with the next.
            StorageError: The other chunk can't be read, or the sink refused; the latter makes this one `broken`.
            StateError: The chunk is finished or broken.
        """
        self._check_open(member.path)
        crc = 0
        watched = _Watched(chunk)
        for piece in member_pieces(watched, member):
            crc = isal_zlib.crc32(piece, crc)
        again = _Watched(chunk)
        small = watched.only if member.stored <= PIECE else None
        self.broken = True
        self._head(member_name(member.path), member.method, crc, member.stored, member.size)
        moved = member._replace(offset=self.size)
        if small is not None:
            self._put(small)
        else:
            for start in range(0, member.stored, PIECE):
                self._put(again.pread(member.offset + start, min(PIECE, member.stored - start)))
            if again.sha.digest() != watched.sha.digest():
                raise damaged(member.path, "its data is another each time that it is read")
        self.broken = False
        return moved

    def finish(self) -> tuple[int, str]:
        """Writes the directory.

        Returns:
            The archive's size in bytes and its SHA-256 (hex). Again: the same.

        Raises:
            StorageError: The sink refused.
            StateError: The chunk is broken.
        """
        if self.broken:
            raise StateError(
                "a chunk that broke can't be finished", hint="Drop it and pack its files again.", kind="chunk_closed"
            )
        if self._result is None:
            start = self.size
            directory = bytes(self._directory)
            self._put(directory)
            self._put(end_of_archive(self.count, len(directory), start))
            self._flush()
            self._result = (self.size, self._sha.hexdigest())
        return self._result

    def _check_open(self, path: bytes) -> None:
        if self.broken or self._result:
            raise StateError(
                f"{show(path)} can't go into a chunk that is {'broken' if self.broken else 'finished'}",
                hint="Begin a new chunk.",
                kind="chunk_closed",
            )

    def _add_small(self, read: Read, path: bytes, name: bytes, size: int, sha256: bytes | None) -> Member:
        data = read(0, size + 1)
        digest = hashlib.sha256(data).digest()
        check_read(path, size, len(data), sha256, digest)
        packed = compressed(data) if self._deflate else data
        method = STORED if packed is data else DEFLATED
        self.broken = True
        self._head(name, method, isal_zlib.crc32(data), len(packed), size)
        member = Member(path, size, digest, self.size, len(packed), method)
        self._put(packed)
        self.broken = False
        return member

    def _add_spooled(
        self, read: Read, path: bytes, name: bytes, size: int, sha256: bytes | None, sample: bytes
    ) -> Member:
        sha = hashlib.sha256()
        crc = found = 0
        deflater: isal_zlib.Compress | None = None
        with Spool(size > MOST_IN_MEMORY, self._scratch) as spool:
            for piece in pieces_of(read, size):
                if not found and self._deflate and shrinks(sample or piece[:FIRST]):
                    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
                sha.update(piece)
                crc = isal_zlib.crc32(piece, crc)
                found += len(piece)
                spool.write(deflater.compress(piece) if deflater else piece)
            if deflater:
                spool.write(deflater.flush())
            digest = sha.digest()
            check_read(path, size, found, sha256, digest)
            method = DEFLATED if deflater else STORED
            self.broken = True
            self._head(name, method, crc, spool.size, size)
            member = Member(path, size, digest, self.size, spool.size, method)
            for piece in spool.pieces():
                self._put(piece)
            self.broken = False
        return member

    def _add_twice_read(self, read: Read, path: bytes, name: bytes, size: int, sha256: bytes | None) -> Member:
        expected_crc = found = 0
        for piece in pieces_of(read, size):
            expected_crc = isal_zlib.crc32(piece, expected_crc)
            found += len(piece)
        if found != size:
            raise other_size(path, size, found)
        self.broken = True
        self._head(name, STORED, expected_crc, size, size)
        offset = self.size
        sha = hashlib.sha256()
        crc = found = 0
        for piece in pieces_of(read, size):
            sha.update(piece)
            crc = isal_zlib.crc32(piece, crc)
            found += len(piece)
            self._put(piece)
        digest = sha.digest()
        check_read(path, size, found, sha256, digest)
        if crc != expected_crc:
            raise SourceError(
                f"{show(path)} changed while it was packed", paths=(to_text(path),), hint="Add the file again."
            )
        self.broken = False
        return Member(path, size, digest, offset, size, STORED)

    def _add_rewound(self, source: Rewindable, path: bytes, name: bytes, size: int, sha256: bytes | None) -> Member:
        """Packs a stream that was packed once before for what stands in the header; neither memory nor disk holds it."""
        read = stream_reader(source, path)
        first = Packing(deflates=self._deflate)
        for piece in pieces_of(read, size):
            first.take(piece)
        first.end()
        check_read(path, size, first.found, sha256, first.sha.digest())
        source.rewind()
        self.broken = True
        self._head(name, first.method, first.crc, first.stored, size)
        offset = self.size
        second = Packing(deflates=first.method == DEFLATED)
        for piece in pieces_of(read, size):
            self._put(second.take(piece))
        self._put(second.end())
        if (second.found, second.sha.digest(), second.stored) != (size, first.sha.digest(), first.stored):
            raise SourceError(
                f"{show(path)} gave other bytes when it was read again", paths=(to_text(path),), hint="Try again."
            )
        self.broken = False
        return Member(path, size, first.sha.digest(), offset, first.stored, first.method)

    def _head(self, name: bytes, method: int, crc: int, stored: int, size: int) -> None:
        self._directory += central_header(name, method, crc, stored, size, self.size)
        self.count += 1
        self._put(local_header(name, method, crc, stored, size))

    def _put(self, data: Buffer) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.size += len(data)
        if self._waiting_bytes >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        """One hash update and one write for many members: cheaper than a call for each, or than `writev`."""
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._sha.update(data)
        self._sink.write(data)


class _Watched:
    """A chunk whose reads are hashed in order; keeps the data where one read was all."""

    def __init__(self, chunk: RangedReader) -> None:
        self.sha = hashlib.sha256()
        self.only = b""
        self._chunk = chunk

    def pread(self, offset: int, length: int) -> bytes:
        self.only = self._chunk.pread(offset, length)
        self.sha.update(self.only)
        return self.only
