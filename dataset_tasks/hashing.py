"""Opens and hashes single source files, so that what comes out is one state of one file or an error."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from typing import TypeAlias

#: Stat (taken before reading) and SHA-256, or what is wrong with the file.
Outcome: TypeAlias = "tuple[os.stat_result, bytes] | OSError | str"

#: From this size on (bytes) a file is reported block by block while it is read.
REPORTED_FROM = 64 << 20

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # should it have become a FIFO, the open does not hang
_BLOCK = 1 << 20
_PIECE = 2048  # bytes of a path given to one call: half of PATH_MAX
_REPLACED = "was replaced by something else while it was scanned"


def hash_file(name: bytes, folder: int, *, follow: bool, on_block: Callable[[int], None]) -> Outcome:
    """Hashes a file from one descriptor, whose stat must be the same before and after.

    Args:
        name: Name in the folder.
        folder: Descriptor of the folder.
        follow: Whether it may be a link.
        on_block: Called with the bytes read since the last call, for files of at least `REPORTED_FROM` bytes only;
            what it raises ends the reading.
    """
    try:
        fd = os.open(name, _READ if follow else _READ | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        return error
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return _REPLACED
        if before.st_size < _BLOCK:
            digest, count = _hash_small(fd, before.st_size)
        else:
            digest, count = _hash_large(fd, on_block if before.st_size >= REPORTED_FROM else None)
        after = os.fstat(fd)
    except OSError as error:
        return error
    finally:
        os.close(fd)
    if _state(before) != _state(after):
        return "changed while it was read"
    if count != before.st_size:  # as files of /proc do
        return f"says that it has {before.st_size:,} bytes, but {count:,} could be read"
    return before, digest


def look_at(name: bytes, folder: int, *, follow: bool) -> Outcome:
    """Whether a file could be read; the hash is empty."""
    try:
        fd = os.open(name, _READ if follow else _READ | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        return error
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return (status, b"") if stat.S_ISREG(status.st_mode) else _REPLACED


def open_source(path: bytes) -> int:
    """Opens a file for reading whose path may be longer than the kernel takes in one call.

    Args:
        path: Absolute path, as in `Batch.source`; a link to a file is followed.

    Returns:
        A descriptor, which the caller closes. Only its `fstat` tells whether it is still a regular file.

    Raises:
        OSError: As `os.open`.
    """
    folder = -1
    try:
        while len(path) > _PIECE:
            cut = path.rindex(b"/", 0, _PIECE)
            inner = os.open(
                path[:cut] or b"/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder if folder >= 0 else None
            )
            if folder >= 0:
                os.close(folder)
            folder, path = inner, path[cut + 1 :]
        return os.open(path, _READ, dir_fd=folder if folder >= 0 else None)
    finally:
        if folder >= 0:
            os.close(folder)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_small(fd: int, size: int) -> tuple[bytes, int]:
    data = os.read(fd, size + 1)  # one more than there should be: a short read is the end of the file
    if len(data) == size:
        return hashlib.sha256(data).digest(), size
    digest, count = hashlib.sha256(data), len(data)
    while data := os.read(fd, _BLOCK):
        digest.update(data)
        count += len(data)
    return digest.digest(), count


def _hash_large(fd: int, on_block: Callable[[int], None] | None) -> tuple[bytes, int]:
    digest, count, reported = hashlib.sha256(), 0, 0
    buffer = memoryview(bytearray(_BLOCK))
    while got := os.readv(fd, [buffer]):
        digest.update(buffer[:got])
        count += got
        if on_block is not None and count - reported >= 16 * _BLOCK:
            on_block(count - reported)
            reported = count
    if on_block is not None:
        on_block(count - reported)
    return digest.digest(), count
