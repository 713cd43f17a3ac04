"""Packing: what comes back, what does not shrink, sources that are not what they were, sinks that fail."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataset_tasks import chunks
from dataset_tasks.chunks import PIECE, ChunkWriter
from dataset_tasks.errors import IntegrityError, SourceError, StateError, StorageError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.members import Member, member_pieces, read_member
from dataset_tasks.store.base import ObjectReader
from dataset_tasks.testing.memory_store import MemoryStore

Source = int | io.BytesIO
Opened = Callable[[bytes], Source]
BOUNDARIES = [
    0,
    1,
    31,
    32,
    4096,
    65_535,
    65_536,
    65_537,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    3 * PIECE,
    5 * PIECE - 1,
    5 * PIECE,
]


class Sink:
    """Keeps what it gets; fails on the write with this number."""

    def __init__(self, fail_on: int = -1) -> None:
        self.data = bytearray()
        self.writes = 0
        self.fail_on = fail_on

    def write(self, data: Buffer) -> None:
        if self.writes == self.fail_on:
            raise StorageError("the disk is full", kind="no_space")
        self.writes += 1
        self.data += data


class Reader(ObjectReader):
    """The finished chunk, opened."""

    def __init__(self, sink: Sink) -> None:
        self.data = bytes(sink.data)

    def pread(self, offset: int, length: int) -> bytes:
        assert offset + length <= len(self.data)
        return self.data[offset : offset + length]


@contextmanager
def as_file(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


@contextmanager
def as_stream(data: bytes) -> Iterator[io.BytesIO]:
    yield io.BytesIO(data)


SOURCES = pytest.mark.parametrize("opened", [as_file, as_stream], ids=["file", "stream"])
NOISE = random.Random(3).randbytes(6 * PIECE)
WORDS = (b"some words that come again and again, %d\n" * 20 % tuple(range(20))) * 8000


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files above 4 MiB count as large, so that all three ways are taken."""
    monkeypatch.setattr(chunks, "MOST_IN_MEMORY", 4 * PIECE)
    monkeypatch.setattr(chunks, "_READ_TWICE", 4 * PIECE)


@SOURCES
@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("content", [NOISE, WORDS], ids=["noise", "words"])
@pytest.mark.parametrize("compression", ["deflate", "store"])
def test_every_file_reads_back_whole_by_us_and_by_zipfile(
    opened: Callable[..., object], size: int, content: bytes, compression: chunks.Compression
) -> None:
    data = content[:size]
    sink = Sink()
    writer = ChunkWriter(sink, compression)
    writer.add(io.BytesIO(b"before"), b"a", 6)
    with opened(data) as source:  # type: ignore[attr-defined]
        member = writer.add(source, b"b", size, hashlib.sha256(data).digest())
    writer.add(io.BytesIO(b"after"), b"c", 5)
    assert (member.path, member.size, member.sha256) == (b"b", size, hashlib.sha256(data).digest())
    assert writer.finish() == (len(sink.data), hashlib.sha256(sink.data).hexdigest())
    assert writer.count == 3
    reader = Reader(sink)
    assert read_member(reader, member) == data
    assert b"".join(member_pieces(reader, member)) == data
    with zipfile.ZipFile(io.BytesIO(reader.data)) as archive:
        assert archive.namelist() == ["a", "b", "c"]
        assert archive.read("b") == data
        assert archive.testzip() is None


@SOURCES
@pytest.mark.parametrize("size", [4096, 70_000, 2 * PIECE, 6 * PIECE])
def test_what_shrinks_is_deflated_and_what_does_not_is_stored(opened: Callable[..., object], size: int) -> None:
    for content, method in ((WORDS, 8), (NOISE, 0)):
        writer = ChunkWriter(Sink())
        with opened(content[:size]) as source:  # type: ignore[attr-defined]
            member = writer.add(source, b"a", size)
        assert member.method == method
        assert (member.stored < size / 2) if method else (member.stored == size)


def test_store_deflates_nothing() -> None:
    writer = ChunkWriter(Sink(), "store")
    assert {writer.add(io.BytesIO(WORDS[:size]), b"%d" % size, size).method for size in BOUNDARIES} == {0}


def test_a_file_is_read_from_its_beginning_whatever_its_position() -> None:
    with as_file(b"0123456789") as fd:
        os.lseek(fd, 7, os.SEEK_SET)
        assert ChunkWriter(Sink()).add(fd, b"a", 10).sha256 == hashlib.sha256(b"0123456789").digest()


def test_streams_may_give_less_than_asked() -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 1000))

    sink = Sink()
    writer = ChunkWriter(sink)
    members = [writer.add(Dribble(WORDS[:size]), b"%d" % size, size) for size in (5000, 2 * PIECE, 6 * PIECE)]
    writer.finish()
    assert [read_member(Reader(sink), member) for member in members] == [
        WORDS[:size] for size in (5000, 2 * PIECE, 6 * PIECE)
    ]


@SOURCES
@pytest.mark.parametrize("size", [0, 100, 2 * PIECE, 6 * PIECE])
@pytest.mark.parametrize("difference", [-1, 1, 5000])
@pytest.mark.parametrize("content", [NOISE, WORDS], ids=["noise", "words"])
def test_a_source_of_another_size_is_an_error_that_names_it_and_leaves_no_trace(
    opened: Callable[..., object], size: int, difference: int, content: bytes
) -> None:
    if size + difference < 0:
        return
    sink = Sink()
    writer = ChunkWriter(sink)
    writer.add(io.BytesIO(b"before"), b"a", 6)
    with opened((content + NOISE)[: size + difference]) as source, pytest.raises(SourceError, match="b/c") as caught:  # type: ignore[attr-defined]
        writer.add(source, b"b/c", size)
    assert caught.value.paths == ("b/c",)
    assert f"expected {size} bytes" in caught.value.message
    assert caught.value.hint
    _goes_on(writer, sink)


@SOURCES
@pytest.mark.parametrize("size", [1, 100, 2 * PIECE, 6 * PIECE])
def test_a_source_of_another_hash_is_an_error_that_names_it(opened: Callable[..., object], size: int) -> None:
    for content in (WORDS, NOISE):
        data = content[:size]
        sink = Sink()
        writer = ChunkWriter(sink)
        writer.add(io.BytesIO(b"before"), b"a", 6)
        with opened(data) as source, pytest.raises(SourceError, match="changed since") as caught:  # type: ignore[attr-defined]
            writer.add(source, b"\xff\n", size, bytes(32))
        assert caught.value.paths == (b"\xff\n".decode("utf-8", "surrogateescape"),)
        assert "00000000" in caught.value.message
        assert hashlib.sha256(data).hexdigest() in caught.value.message
        if not writer.broken:
            _goes_on(writer, sink)


def _goes_on(writer: ChunkWriter, sink: Sink) -> None:
    """Nothing of the file that failed is in the chunk, and the next one is."""
    assert not writer.broken
    member = writer.add(io.BytesIO(b"after"), b"z", 5)
    writer.finish()
    with zipfile.ZipFile(io.BytesIO(sink.data)) as archive:
        assert archive.namelist() == ["a", "z"]
        assert archive.testzip() is None
    assert read_member(Reader(sink), member) == b"after"


def test_a_large_file_that_changes_between_its_two_reads_breaks_the_chunk() -> None:
    class Changing(Sink):
        def write(self, data: Buffer) -> None:
            os.pwrite(fd, b"!", 5 * PIECE)
            super().write(data)

    with as_file(NOISE[: 6 * PIECE]) as fd:
        sink = Changing()
        writer = ChunkWriter(sink)
        with pytest.raises(SourceError, match="changed while") as caught:
            writer.add(fd, b"a", 6 * PIECE)
    assert caught.value.paths == ("a",)
    assert writer.broken
    for call in (writer.finish, lambda: writer.add(io.BytesIO(b""), b"b", 0)):
        with pytest.raises(StateError, match="chunk") as refused:
            call()
        assert refused.value.hint


def test_a_source_that_can_t_be_read_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bad(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    writer = ChunkWriter(Sink())
    with pytest.raises(SourceError, match="Input/output error") as caught:
        writer.add(Bad(), b"a", 1)
    assert caught.value.paths == ("a",)
    folder = os.open("/", os.O_RDONLY)
    with pytest.raises(SourceError, match="directory"):
        writer.add(folder, b"b", 1)
    os.close(folder)
    assert not writer.broken


@pytest.mark.parametrize("fail_on", range(8))
def test_a_sink_that_fails_breaks_the_chunk(fail_on: int) -> None:
    sink = Sink(fail_on)
    writer = ChunkWriter(sink)
    failures = 0
    for number in range(7):
        try:
            writer.add(io.BytesIO(NOISE[: PIECE + number % 2]), b"%d" % number, PIECE + number % 2)
        except StorageError:
            failures += 1
            break
    if failures:
        assert writer.broken
        with pytest.raises(StateError):
            writer.finish()
    else:
        with pytest.raises(StorageError):
            writer.finish()


def test_nothing_is_added_after_the_end_and_the_end_may_be_asked_again() -> None:
    writer = ChunkWriter(Sink())
    writer.add(io.BytesIO(b"x"), b"a", 1)
    first = writer.finish()
    assert writer.finish() == first
    with pytest.raises(StateError, match="finished"):
        writer.add(io.BytesIO(b"x"), b"b", 1)


def test_size_and_count_tell_when_a_chunk_is_full() -> None:
    sink = Sink()
    writer = ChunkWriter(sink)
    for number in range(1000):
        writer.add(io.BytesIO(NOISE[:5000]), b"%d" % number, 5000)
        assert writer.size > 5000 * writer.count
    assert writer.count == 1000
    total, _ = writer.finish()
    assert total == writer.size == len(sink.data)


def test_small_files_go_out_in_few_large_writes() -> None:
    sink = Sink()
    writer = ChunkWriter(sink)
    for number in range(2000):
        writer.add(io.BytesIO(NOISE[:2000]), b"%d" % number, 2000)
    writer.finish()
    assert sink.writes <= len(sink.data) / PIECE + 1


def test_temporary_files_are_where_they_should_be_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **options: made.append(options["dir"]) or temporary(**options)
    )
    writer = ChunkWriter(Sink(), scratch=tmp_path)
    writer.add(io.BytesIO(WORDS[: 6 * PIECE]), b"a", 6 * PIECE)
    assert made == [str(tmp_path)]
    assert list(tmp_path.iterdir()) == []
    missing = ChunkWriter(Sink(), scratch=tmp_path / "missing")
    with pytest.raises(StorageError, match="temporary") as caught:
        missing.add(io.BytesIO(WORDS[: 6 * PIECE]), b"a", 6 * PIECE)
    assert caught.value.hint


@pytest.mark.parametrize("size", [0, 1, 4096, PIECE, 3 * PIECE, 6 * PIECE])
@pytest.mark.parametrize("content", [NOISE, WORDS], ids=["noise", "words"])
def test_a_member_is_taken_over_as_it_is_packed(size: int, content: bytes) -> None:
    first, second = Sink(), Sink()
    writer = ChunkWriter(first)
    writer.add(io.BytesIO(b"before"), b"a", 6)
    member = writer.add(io.BytesIO(content[:size]), b"b", size)
    writer.finish()
    other = ChunkWriter(second, "store")
    moved = other.add_member(Reader(first), member)
    other.finish()
    assert moved == member._replace(offset=moved.offset)
    assert read_member(Reader(second), moved) == content[:size]
    packed = first.data[member.offset : member.offset + member.stored]
    assert second.data[moved.offset : moved.offset + moved.stored] == packed
    with zipfile.ZipFile(io.BytesIO(second.data)) as archive:
        assert archive.testzip() is None
        assert archive.read("b") == content[:size]


@pytest.mark.parametrize("size", [4096, 3 * PIECE])
def test_a_damaged_member_is_not_taken_over_and_leaves_no_trace(size: int) -> None:
    for content in (NOISE, WORDS):
        first, second = Sink(), Sink()
        writer = ChunkWriter(first)
        member = writer.add(io.BytesIO(content[:size]), b"b", size)
        writer.finish()
        first.data[member.offset + member.stored // 2] ^= 1
        other = ChunkWriter(second)
        other.add(io.BytesIO(b"before"), b"a", 6)
        with pytest.raises(IntegrityError) as caught:
            other.add_member(Reader(first), member)
        assert caught.value.paths == ("b",)
        _goes_on(other, second)


def test_a_chunk_that_reads_differently_each_time_breaks_the_new_one() -> None:
    first = Sink()
    writer = ChunkWriter(first)
    member = writer.add(io.BytesIO(NOISE[: 3 * PIECE]), b"b", 3 * PIECE)
    writer.finish()

    class Fickle(Reader):
        reads = 0

        def pread(self, offset: int, length: int) -> bytes:
            self.reads += 1
            data = super().pread(offset, length)
            return data if self.reads != 5 else bytes(length)

    other = ChunkWriter(Sink())
    with pytest.raises(IntegrityError, match="each time"):
        other.add_member(Fickle(first), member)
    assert other.broken
    with pytest.raises(StateError):
        other.add_member(Reader(first), member)


def test_a_store_is_a_sink() -> None:
    store = MemoryStore()
    with store.create("chunk") as sink:
        writer = ChunkWriter(sink)
        member = writer.add(io.BytesIO(WORDS[:3000]), b"a", 3000)
        size, digest = writer.finish()
        sink.commit()
    data = store.get("chunk")
    assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)
    assert read_member(store.open("chunk"), member) == WORDS[:3000]


def test_memory_does_not_grow_with_large_files(tmp_path: Path) -> None:
    import tracemalloc

    big = tmp_path / "big"
    big.write_bytes(NOISE * 8)

    class Drop:
        def write(self, data: Buffer) -> None:
            pass

    tracemalloc.start()
    try:
        with big.open("rb") as file:
            ChunkWriter(Drop()).add(file.fileno(), b"a", 48 * PIECE)
            ChunkWriter(Drop()).add(file, b"a", 48 * PIECE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * PIECE


def test_members_are_small_values() -> None:
    member = Member(b"a", 1, bytes(32), 2, 3, 0)
    assert tuple(member) == (b"a", 1, bytes(32), 2, 3, 0)


class Rewound(io.BytesIO):
    """A stream that may give other bytes the second time."""

    def __init__(self, *contents: bytes) -> None:
        super().__init__(contents[0])
        self.contents = list(contents)
        self.passes = 1

    def rewind(self) -> None:
        self.passes += 1
        content = self.contents[min(self.passes, len(self.contents)) - 1]
        self.seek(0)
        self.truncate()
        self.write(content)
        self.seek(0)


@pytest.mark.parametrize("content", [NOISE, WORDS], ids=["noise", "words"])
@pytest.mark.parametrize("known", [True, False])
def test_a_large_stream_is_read_twice_and_kept_nowhere(
    content: bytes, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MOST_IN_MEMORY", 2 * PIECE)
    monkeypatch.setattr(chunks, "Spool", None)
    data = content[: 3 * PIECE + 7]
    sink, stream = Sink(), Rewound(data)
    writer = ChunkWriter(sink)
    member = writer.add(stream, b"big", len(data), hashlib.sha256(data).digest() if known else None)
    writer.finish()
    assert (member.sha256, stream.passes) == (hashlib.sha256(data).digest(), 2)
    assert read_member(Reader(sink), member) == data
    with zipfile.ZipFile(io.BytesIO(sink.data)) as archive:
        assert archive.read("big") == data
    assert (member.stored < len(data)) == (content is WORDS)


@pytest.mark.parametrize("content", [NOISE, WORDS], ids=["noise", "words"])
def test_a_large_stream_that_gives_other_bytes_when_it_is_read_again_breaks_the_chunk(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MOST_IN_MEMORY", 2 * PIECE)
    data = content[: 3 * PIECE]
    for other in (b"x" + data[1:], data[:-1], data + b"x"):
        writer = ChunkWriter(Sink())
        with pytest.raises(SourceError, match="big gave other bytes when it was read again"):
            writer.add(Rewound(data, other), b"big", len(data))
        assert writer.broken


@pytest.mark.parametrize("size", [-1, 1])
def test_a_large_stream_of_another_size_or_hash_leaves_no_trace(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MOST_IN_MEMORY", 2 * PIECE)
    data = NOISE[: 3 * PIECE]
    sink = Sink()
    writer = ChunkWriter(sink)
    for expected, digest in ((len(data) + size, None), (len(data), bytes(32))):
        with pytest.raises(SourceError, match="big changed since it was added"):
            writer.add(Rewound(data), b"big", expected, digest)
    assert (writer.broken, writer.size, writer.count) == (False, 0, 0)
