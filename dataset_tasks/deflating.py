"""One file before it is in a chunk: read in pieces, hashed, deflated where that helps, and held against what it should be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from isal import igzip_lib, isal_zlib

from dataset_tasks.errors import SourceError
from dataset_tasks.filesystem import Buffer, pread_all
from dataset_tasks.members import PIECE
from dataset_tasks.paths import show, to_text
from dataset_tasks.zipformat import DEFLATED, STORED

Compression: TypeAlias = Literal["deflate", "store"]

_SAMPLE: Final = 4096
_SAMPLED_FROM: Final = 1 << 16
#: Of a stream this many bytes are looked at: whether deflate helps.
FIRST: Final = 4 * _SAMPLE
_WORTH_IT: Final = 0.95


class Reader(Protocol):
    """A source that is no file."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


@runtime_checkable
class Rewindable(Reader, Protocol):
    """A source that is no file and can be read twice."""

    def rewind(self) -> None:
        """Goes back to the beginning."""


Read: TypeAlias = Callable[[int, int], bytes]
"""Up to so many bytes (second) from an offset on (first)."""


class Prepared(NamedTuple):
    """A file that was read and packed, but is in no chunk yet: its size, SHA-256 and CRC, and what a chunk will hold."""

    size: int
    sha256: bytes
    crc: int
    method: int
    stored: int
    pieces: list[Buffer]


def prepare(fd: int, path: bytes, size: int, compression: Compression = "deflate") -> Prepared:
    """Reads a file of bytes that fit into memory once, hashes and packs it. May run in any thread.

    Args:
        fd: Descriptor of a regular file, read from its beginning whatever its position.
        path: How messages call it.
        size: Bytes that it should have; the outcome tells how many there were, one more at most.
        compression: As for `ChunkWriter`.

    Raises:
        SourceError: It can't be read.
    """
    read = file_reader(fd, path)
    if size <= PIECE:
        return _prepared(read(0, size + 1), deflates=compression == "deflate")
    packing = Packing(deflates=compression == "deflate" and shrinks(sample_of(read, size)))
    pieces = [packing.take(piece) for piece in pieces_of(read, size)]
    pieces.append(packing.end())
    return Prepared(packing.found, packing.sha.digest(), packing.crc, packing.method, packing.stored, pieces)


def _prepared(data: bytes, *, deflates: bool) -> Prepared:
    packed = compressed(data) if deflates else data
    method = STORED if packed is data else DEFLATED
    return Prepared(
        len(data), hashlib.sha256(data).digest(), isal_zlib.crc32(data), method, len(packed), [packed] if packed else []
    )


def compressed(data: bytes) -> bytes:
    """The data deflated, or itself where that does not help."""
    if len(data) < 32:
        return data
    if len(data) > _SAMPLED_FROM and not shrinks(
        sample_of(lambda offset, length: data[offset : offset + length], len(data))
    ):
        return data
    packed = igzip_lib.compress(data, 1, igzip_lib.COMP_DEFLATE)
    return packed if len(packed) < _WORTH_IT * len(data) else data


class Packing:
    """One pass over a stream: what comes out of it, and what its header says in the end."""

    def __init__(self, *, deflates: bool) -> None:
        self.sha = hashlib.sha256()
        self.crc = self.found = self.stored = 0
        self._may_deflate = deflates
        self._deflater: isal_zlib.Compress | None = None

    @property
    def method(self) -> int:
        """How the bytes are stored."""
        return DEFLATED if self._deflater else STORED

    def take(self, piece: bytes) -> Buffer:
        """The next bytes as they are stored; the first ones decide whether they are deflated."""
        if not self.found and self._may_deflate and shrinks(piece[:FIRST]):
            self._deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        self.sha.update(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)
        self.found += len(piece)
        packed = self._deflater.compress(piece) if self._deflater else piece
        self.stored += len(packed)
        return packed

    def end(self) -> bytes:
        """What is left."""
        rest = self._deflater.flush() if self._deflater else b""
        self.stored += len(rest)
        return rest


def file_reader(fd: int, path: bytes) -> Read:
    """Reads a regular file; errors name its dataset path."""

    def read(offset: int, length: int) -> bytes:
        try:
            return pread_all(fd, offset, length, enough=length - 1)
        except OSError as error:
            raise _unreadable(path, error) from error

    return read


def stream_reader(stream: Reader, path: bytes) -> Read:
    """Gives what comes next: nobody asks for another offset."""

    def read(_offset: int, length: int) -> bytes:
        parts = []
        try:
            while length and (part := stream.read(length)):
                parts.append(part)
                length -= len(part)
        except OSError as error:
            raise _unreadable(path, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return read


def pieces_of(read: Read, size: int) -> Iterator[bytes]:
    """The source in pieces of at most 1 MiB, and up to one byte more than there should be."""
    offset = 0
    while offset <= size:
        piece = read(offset, min(PIECE, size + 1 - offset))
        if not piece:
            return
        offset += len(piece)
        yield piece


def sample_of(read: Read, size: int) -> bytes:
    """The first, middle and last bytes of a file."""
    return read(0, _SAMPLE) + read(size // 2, _SAMPLE) + read(size - _SAMPLE, _SAMPLE)


def shrinks(sample: bytes) -> bool:
    """Whether deflate helps with these bytes."""
    return len(igzip_lib.compress(sample, 1, igzip_lib.COMP_DEFLATE)) < _WORTH_IT * len(sample)


def check_read(path: bytes, size: int, found: int, sha256: bytes | None, digest: bytes) -> None:
    """Raises a `SourceError` where another size was found than expected, or another SHA-256 than one that is known."""
    if found != size:
        raise other_size(path, size, found)
    if sha256 is not None and digest != sha256:
        raise SourceError(
            f"{show(path)} changed since it was added: expected SHA-256 {sha256.hex()}, found {digest.hex()}",
            paths=(to_text(path),),
            hint="Add the file again, or put the old content back, then upload again.",
        )


def other_size(path: bytes, size: int, found: int) -> SourceError:
    """The error for a source with another size than it had."""
    more = "more than that" if found > size else str(found)
    return SourceError(
        f"{show(path)} changed since it was added: expected {size} bytes, found {more}",
        paths=(to_text(path),),
        hint="Add the file again, or put the old content back, then upload again.",
    )


def _unreadable(path: bytes, error: OSError) -> SourceError:
    return SourceError(
        f"can't read the source of {show(path)}: {error.strerror or error}",
        paths=(to_text(path),),
        hint="Make it readable, or add it again from where it is now.",
    )
