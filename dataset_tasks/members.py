"""Reading the bytes of entries out of chunks: bounded by the manifest's size, verified by its hash.

Nothing of a zip's own headers is looked at: the manifest says where a member's data is, how it is packed and what it
must be. So no archive, however it was made, leads to a read or a write elsewhere, or to more bytes than were promised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, runtime_checkable

from isal import igzip_lib, isal_zlib

from dataset_tasks.errors import IntegrityError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.paths import show, to_text
from dataset_tasks.zipformat import DEFLATED, STORED

#: Large members are read, hashed and handed out in pieces of this many bytes.
PIECE: Final = 1 << 20
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # the stub says instance, it is the class


class RangedReader(Protocol):
    """A chunk opened for reading; a `store.ObjectReader` is one."""

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""


@runtime_checkable
class ForeseeingReader(RangedReader, Protocol):
    """One that reads ahead, and no more than is wanted, when it is told what is."""

    def expect(self, offset: int, length: int) -> None:
        """Tells that a range is about to be read from front to back."""


class Member(NamedTuple):
    """Where an entry's bytes are in a chunk: what the manifest keeps. A tuple, for there may be a million.

    `path` as bytes; `size` of the file in bytes; `sha256` its digest (32 bytes); `offset` of the member's data (not of
    its header) in the chunk; `stored` its length there in bytes; `method` 0 (stored) or 8 (deflate).
    """

    path: bytes
    size: int
    sha256: bytes
    offset: int
    stored: int
    method: int


def unpack(data: Buffer, path: bytes, size: int, sha256: bytes, method: int) -> Buffer:
    """The bytes of a file from its member's data, verified.

    Never makes more than `size` + 1 bytes of them, whatever the data would inflate to.

    Args:
        data: What the chunk holds for the member.
        path: Dataset path, for the error.
        size: Bytes of the file.
        sha256: Its digest (32 bytes).
        method: 0 (stored) or 8 (deflate).

    Raises:
        IntegrityError: It is not that file.
    """
    if method == DEFLATED:
        inflater = isal_zlib.decompressobj(-15)
        try:
            data = inflater.decompress(data, size + 1)
        except _IsalError as error:
            raise damaged(path, f"its data can't be inflated ({error})") from error
        if not inflater.eof or inflater.unused_data:
            raise damaged(path, "its data does not end where it should")
    elif method != STORED:
        raise damaged(path, f"packed by method {method}, expected 0 or 8")
    if len(data) != size:
        raise damaged(path, f"expected {size} bytes, found {len(data)}")
    digest = hashlib.sha256(data).digest()
    if digest != sha256:
        raise damaged(path, f"expected SHA-256 {sha256.hex()}, found {digest.hex()}")
    return data


def read_member(chunk: RangedReader, member: Member) -> bytes:
    """The bytes of one file, verified. Holds the whole file: for large ones take `member_pieces`.

    Raises:
        IntegrityError: The chunk does not hold that file there.
        StorageError: From the chunk.
    """
    data = chunk.pread(member.offset, member.stored)
    return bytes(unpack(data, member.path, member.size, member.sha256, member.method))


def member_pieces(chunk: RangedReader, member: Member) -> Iterator[bytes]:
    """The bytes of one file in pieces of at most 1 MiB; never more than `member.size`.

    What was handed out counts only once the iterator has ended: the hash is known then.

    Raises:
        IntegrityError: The chunk does not hold that file there.
        StorageError: From the chunk.
    """
    sha = hashlib.sha256()
    done = 0
    for piece in _raw_pieces(chunk, member):
        done += len(piece)
        if done > member.size:
            raise damaged(member.path, f"expected {member.size} bytes, found more")
        sha.update(piece)
        yield piece
    if done != member.size:
        raise damaged(member.path, f"expected {member.size} bytes, found {done}")
    if sha.digest() != member.sha256:
        raise damaged(member.path, f"expected SHA-256 {member.sha256.hex()}, found {sha.hexdigest()}")


def _raw_pieces(chunk: RangedReader, member: Member) -> Iterator[bytes]:
    stored = (
        chunk.pread(member.offset + start, min(PIECE, member.stored - start))
        for start in range(0, member.stored, PIECE)
    )
    if member.method == STORED:
        yield from stored
        return
    if member.method != DEFLATED:
        raise damaged(member.path, f"packed by method {member.method}, expected 0 or 8")
    inflater = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE)
    for data in stored:
        todo = data
        while todo or not (inflater.needs_input or inflater.eof):
            if inflater.eof:
                raise damaged(member.path, "its data does not end where it should")
            try:
                yield inflater.decompress(todo, PIECE)
            except _IsalError as error:
                raise damaged(member.path, f"its data can't be inflated ({error})") from error
            todo = b""
    if not inflater.eof or inflater.unused_data:
        raise damaged(member.path, "its data does not end where it should")


def damaged(path: bytes, what: str) -> IntegrityError:
    """The error for stored bytes that are not the file they should be."""
    return IntegrityError(
        f"{show(path)} is damaged in the store: {what}",
        paths=(to_text(path),),
        hint="Run `dataset-tasks verify` to see what else is; a version that is built or added to again stores it anew.",
    )
