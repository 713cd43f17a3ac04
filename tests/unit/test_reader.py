"""Reading one entry as a file while bytes turn on the way, or in the store."""

from __future__ import annotations

import hashlib
import io
import random
import zlib
from collections.abc import Callable

import pytest

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest import Entry
from dataset_tasks.reader import EntryReader

NOISE = random.Random(8).randbytes(3 << 20)
OFFSET = 100
BUFFER = 1 << 16


class Chunk:
    """Holds an entry's data; the first `damaged` opened ones give a wrong byte at a place of it."""

    def __init__(self, data: bytes, at: int, damaged: int) -> None:
        self.data = bytes(OFFSET) + data
        self.at, self.damaged, self.opened = OFFSET + at, damaged, 0

    def open(self) -> Chunk:
        self.opened += 1
        given = bytearray(self.data)
        if self.opened <= self.damaged:
            given[self.at] ^= 1
        made = Chunk(b"", 0, 0)
        made.data = bytes(given)
        return made

    def pread(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def reader(chunk: Chunk, method: int) -> io.BufferedReader:
    entry = Entry(
        path=b"file",
        size=len(NOISE),
        hash=hashlib.sha256(NOISE).digest(),
        chunk="c",
        offset=OFFSET,
        stored=len(chunk.data) - OFFSET,
        method=method,
        kind=0,
        owner=None,
        link=None,
        pin=None,
    )
    return io.BufferedReader(EntryReader(chunk.open, entry), buffer_size=BUFFER)


def in_pieces(file: io.BufferedReader) -> bytes:
    return b"".join(iter(lambda: file.read(BUFFER), b""))


WAYS = pytest.mark.parametrize("way", [io.BufferedReader.read, in_pieces])
METHODS = pytest.mark.parametrize(("method", "pack"), [(0, bytes), (8, deflated)], ids=["stored", "deflated"])


@WAYS
@METHODS
def test_the_end_of_a_file_that_arrives_damaged_is_read_again(
    way: Callable[[io.BufferedReader], bytes], method: int, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(NOISE)
    chunk = Chunk(data, len(data) - 100, damaged=1)
    assert way(reader(chunk, method)) == NOISE
    assert chunk.opened == 2


@WAYS
@METHODS
def test_a_file_that_is_damaged_in_the_store_is_refused_after_the_second_reading(
    way: Callable[[io.BufferedReader], bytes], method: int, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(NOISE)
    chunk = Chunk(data, len(data) - 100, damaged=1000)
    with pytest.raises(IntegrityError, match="file is damaged in the store"):
        way(reader(chunk, method))
    assert chunk.opened == 2


def test_a_file_of_which_wrong_bytes_were_handed_out_is_never_said_to_be_right() -> None:
    with pytest.raises(IntegrityError, match="damaged on its way") as caught:
        in_pieces(reader(Chunk(NOISE, 5, damaged=1), 0))
    assert "again" in caught.value.hint
    assert caught.value.paths == ("file",)


def test_who_looked_at_the_head_and_begins_anew_hears_of_damage_too() -> None:
    file = reader(Chunk(NOISE, len(NOISE) // 2, damaged=1000), 0)
    file.raw.read(7)
    file.seek(-1, io.SEEK_END)
    file.seek(0)
    with pytest.raises(IntegrityError):
        in_pieces(file)


def test_the_whole_file_at_once_is_checked_before_it_is_handed_out() -> None:
    assert reader(Chunk(NOISE, 5, damaged=1), 0).read() == NOISE
    file = reader(Chunk(NOISE, 5, damaged=0), 0)
    file.seek(7)
    assert file.read() == NOISE[7:]
    assert file.read() == b""
