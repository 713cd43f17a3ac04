"""Reading members: any altered byte, bad inflate, bombs, lies about sizes are found and named."""

from __future__ import annotations

import hashlib
import io
import random
import zlib

import pytest

from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.errors import IntegrityError
from dataset_tasks.members import PIECE, Member, member_pieces, read_member, unpack
from dataset_tasks.store.base import ObjectReader
from dataset_tasks.testing.memory_store import MemoryStore

WORDS = b"words that shrink " * 300_000
NOISE = random.Random(5).randbytes(2 * PIECE + 17)


def packed(data: bytes) -> tuple[MemoryStore, Member]:
    store = MemoryStore()
    with store.create("c") as sink:
        writer = ChunkWriter(sink)
        member = writer.add(io.BytesIO(data), b"dir/name", len(data))
        writer.finish()
        sink.commit()
    return store, member


def read_all(store: MemoryStore, member: Member) -> list[bytes]:
    """By both ways of reading."""
    reader = store.open("c")
    return [read_member(reader, member), b"".join(member_pieces(reader, member))]


def refused(store: MemoryStore, member: Member, what: str) -> None:
    reader: ObjectReader = store.open("c")
    for attempt in (lambda: read_member(reader, member), lambda: b"".join(member_pieces(reader, member))):
        with pytest.raises(IntegrityError, match=what) as caught:
            attempt()
        assert caught.value.paths == ("dir/name",)
        assert "dir/name" in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"x", WORDS[:5000], NOISE[:5000], WORDS, NOISE])
def test_a_sound_member_reads_the_same_both_ways(data: bytes) -> None:
    store, member = packed(data)
    assert read_all(store, member) == [data, data]


def is_harmless(store: MemoryStore, member: Member, data: bytes) -> bool:
    """Whether the file comes back all the same: the last bits of a deflate stream mean nothing."""
    try:
        return read_all(store, member) == [data, data]
    except IntegrityError:
        return False


@pytest.mark.parametrize("data", [WORDS[:5000], NOISE[:5000], WORDS[: 3 * PIECE]])
def test_any_flipped_bit_is_found(data: bytes) -> None:
    store, member = packed(data)
    sound = store.get("c")
    dice = random.Random(1)
    found = 0
    for _ in range(200):
        at = member.offset + dice.randrange(member.stored)
        bad = bytearray(sound)
        bad[at] ^= 1 << dice.randrange(8)
        store.objects["c"] = bytes(bad)
        if not is_harmless(store, member, data):
            refused(store, member, "damaged in the store")
            found += 1
    assert found > 190


@pytest.mark.parametrize("data", [WORDS[:5000], NOISE[:5000], WORDS, NOISE])
def test_a_chunk_that_was_cut_is_found(data: bytes) -> None:
    store, member = packed(data)
    store.objects["c"] = store.objects["c"][: member.offset + member.stored - 1]
    reader = store.open("c")
    for attempt in (lambda: read_member(reader, member), lambda: b"".join(member_pieces(reader, member))):
        with pytest.raises(IntegrityError, match="shorter"):
            attempt()


@pytest.mark.parametrize("data", [WORDS[:5000], NOISE[:5000], WORDS, NOISE])
@pytest.mark.parametrize("difference", [-1, 1, -1000, 1000])
def test_a_manifest_that_lies_about_the_size_is_found(data: bytes, difference: int) -> None:
    store, member = packed(data)
    refused(store, member._replace(size=member.size + difference), "dir/name")


@pytest.mark.parametrize("data", [WORDS[:5000], NOISE[:5000], WORDS, NOISE])
@pytest.mark.parametrize("difference", [-1, 1, -20])
def test_a_manifest_that_lies_about_the_range_is_found(data: bytes, difference: int) -> None:
    store, member = packed(data)
    refused(store, member._replace(stored=member.stored + difference), "dir/name")
    refused(store, member._replace(offset=member.offset + difference), "dir/name")


def test_a_manifest_that_lies_about_the_method_is_found() -> None:
    store, member = packed(WORDS[:5000])
    refused(store, member._replace(method=0), "expected 5000 bytes")
    refused(store, member._replace(method=12), "method 12")
    store, member = packed(NOISE[:5000])
    refused(store, member._replace(method=8), "inflated|end where")


def test_an_empty_member_that_claims_to_be_deflated_is_found() -> None:
    store, member = packed(b"")
    refused(store, member._replace(method=8), "end where")
    with pytest.raises(IntegrityError):
        unpack(b"", b"x", 0, hashlib.sha256(b"").digest(), 8)


def bomb(size: int) -> bytes:
    """Deflates zeros: about a thousandth of the size."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join([*(deflater.compress(bytes(PIECE)) for _ in range(size // PIECE)), deflater.flush()])


def test_a_bomb_is_never_inflated_beyond_the_size_of_the_manifest() -> None:
    import tracemalloc

    data = bomb(256 * PIECE)
    store = MemoryStore()
    store.put("c", data)
    member = Member(b"dir/name", 1000, bytes(32), 0, len(data), 8)
    tracemalloc.start()
    try:
        refused(store, member, "dir/name")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * PIECE


def test_a_large_member_that_inflates_much_is_read_in_small_pieces() -> None:
    size = 64 * PIECE
    data = bomb(size)
    store = MemoryStore()
    store.put("c", data)
    member = Member(b"dir/name", size, hashlib.sha256(bytes(size)).digest(), 0, len(data), 8)
    assert max(map(len, member_pieces(store.open("c"), member))) <= PIECE


def test_pieces_after_the_end_of_the_deflate_stream_are_found() -> None:
    data = bomb(3 * PIECE)
    padded = data + bytes(2 * PIECE)
    store = MemoryStore()
    store.put("c", padded)
    refused(
        store, Member(b"dir/name", 3 * PIECE, hashlib.sha256(bytes(3 * PIECE)).digest(), 0, len(padded), 8), "end where"
    )


def test_a_path_can_t_move_the_cursor_of_a_terminal() -> None:
    with pytest.raises(IntegrityError) as caught:
        unpack(b"x", b"\x1b[31m\n", 1, bytes(32), 0)
    assert "\x1b" not in str(caught.value)
