"""Trying again with an end, reading in blocks, reading ahead: without a service."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable

import pytest

from dataset_tasks.errors import IntegrityError, InvalidArgumentError, StorageError, StorageUnavailableError
from dataset_tasks.store import transfer
from dataset_tasks.store.transfer import Patience, ReadAhead, Threads, Trouble, read_blocks

DATA = bytes(range(256)) * 400
BLOCK = 1000


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Source:
    """Answers reads of `DATA` and notes them; `fail` is called before each."""

    def __init__(self, fail: Callable[[int], None] = lambda _number: None) -> None:
        self.reads: list[tuple[int, int]] = []
        self.lock = threading.Lock()
        self.fail = fail

    def read(self, offset: int, length: int) -> bytes:
        with self.lock:
            self.reads.append((offset, length))
            number = len(self.reads)
        self.fail(number)
        assert offset + length <= len(DATA)
        return DATA[offset : offset + length]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(transfer, "_STREAM", 200)
    monkeypatch.setattr(transfer, "_GAP", 50)


def failing(times: int, error: type[StorageError] = StorageUnavailableError) -> Callable[[], str]:
    left = [times]

    def ask() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error("busy", hint="Try again.")
        return "answer"

    return ask


def patience(clock: Clock, seconds: float = 120) -> Patience:
    return Patience(seconds=seconds, clock=clock, pause=clock.pause)


def test_an_answer_that_comes_late_is_waited_for_with_growing_pauses() -> None:
    clock = Clock()
    assert Trouble(patience(clock)).persist(failing(5)) == "answer"
    assert 0.1 * 31 <= clock.now <= 0.2 * 31


def test_a_wait_of_more_than_a_second_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        return [record.message for record in caplog.records if record.name.startswith("dataset_tasks")]

    Trouble(patience(Clock())).persist(failing(2))
    assert said() == []
    Trouble(patience(Clock())).persist(failing(7))
    assert re.fullmatch(r"busy: try 7, asked again in \d+\.\d s, for 1\d\d s at most", said()[-1])
    assert 3 <= len(said()) <= 5


def test_the_deadline_ends_it_and_the_error_counts() -> None:
    clock = Clock()
    with pytest.raises(StorageUnavailableError, match=r"busy \(given up after \d+ tries in \d+\.\d s\)") as caught:
        Trouble(patience(clock, 30)).persist(failing(1000))
    assert caught.value.hint == "Try again."
    assert clock.now <= 30


def test_a_refusal_is_not_asked_again() -> None:
    clock = Clock()
    with pytest.raises(StorageError) as caught:
        Trouble(patience(clock)).persist(failing(1, StorageError))
    assert caught.value.message == "busy"
    assert clock.now == 0


def test_the_parts_of_an_object_share_its_patience() -> None:
    clock = Clock()
    trouble = Trouble(patience(clock, 10))
    answered = 0
    with pytest.raises(StorageUnavailableError):  # each part comes through in time, and still it ends
        for _ in range(100):
            trouble.persist(failing(4))
            answered += 1
    assert answered > 5
    assert clock.now <= 5 * 10 + 10


def test_a_long_range_is_read_as_blocks() -> None:
    source = Source()
    assert read_blocks(source.read, Threads(), 10, 3 * BLOCK + 5) == DATA[10 : 3 * BLOCK + 15]
    assert sorted(source.reads) == [(10, 1000), (1010, 1000), (2010, 1000), (3010, 5)]


def test_reads_here_and_there_ask_for_just_their_ranges() -> None:
    source = Source()
    reader = ReadAhead("k", len(DATA), source.read, Threads())
    asked = [(50_000, 20), (10, 900), (90_000, 20), (30_000, 900), (50_020, 20), (90_000, 20)]
    for at, length in asked:
        assert reader.pread(at, length) == DATA[at : at + length]
    assert source.reads == asked


@pytest.mark.parametrize("step", [100, 250, 999, 1000, 2500])
def test_a_reader_from_front_to_back_reads_each_byte_about_once(step: int) -> None:
    source = Source()
    with ReadAhead("k", len(DATA), source.read, Threads()) as reader:
        found = b"".join(reader.pread(at, min(step, len(DATA) - at)) for at in range(0, len(DATA), step))
    assert found == DATA
    assert sum(length for _, length in source.reads) <= len(DATA) + BLOCK
    assert len(source.reads) <= len(DATA) // BLOCK + 3


def test_blocks_are_asked_for_before_they_are_wanted() -> None:
    wanted = threading.Event()

    def fail(number: int) -> None:
        if number == 4:
            wanted.set()

    source = Source(fail)
    with ReadAhead("k", len(DATA), source.read, Threads()) as reader:
        reader.pread(0, 900)
        reader.pread(900, 900)
        reader.pread(1800, 900)
        assert wanted.wait(30)


def test_many_streams_at_once_do_not_take_each_others_blocks() -> None:
    source = Source()
    starts = [0, 30_000, 60_000]
    with ReadAhead("k", len(DATA), source.read, Threads()) as reader:
        for at in range(0, 20_000, 250):
            for start in starts:
                assert reader.pread(start + at, 250) == DATA[start + at : start + at + 250]
    assert sum(length for _, length in source.reads) <= 3 * (20_000 + 7 * BLOCK)


def test_what_is_held_in_memory_is_bounded() -> None:
    reader = ReadAhead("k", len(DATA), Source().read, Threads())
    for at in range(0, 90_000, 300):
        reader.pread(at, 300)
        assert sum(len(stream.blocks) for stream in reader._streams) <= transfer._AHEAD + 1
    reader.close()
    assert not reader._streams


@pytest.mark.parametrize("at_once", [1, 2])
def test_of_a_range_that_is_expected_each_byte_is_read_once_and_none_behind_it(at_once: int) -> None:
    source = Source()
    wanted = [(7 + 5030 * number, 5000) for number in range(4)]
    with ReadAhead("k", len(DATA), source.read, Threads()) as reader:
        for some in [wanted[:at_once], wanted[at_once:]]:
            for offset, length in some:
                reader.expect(offset, length)
            for start in range(0, 5000, 250):  # in turns, as by threads
                for offset, _ in some:
                    assert reader.pread(offset + start, 250) == DATA[offset + start : offset + start + 250]
        assert not any(stream.blocks for stream in reader._streams)
    assert all(length > 0 for _, length in source.reads)
    read = sorted(each for offset, length in source.reads for each in range(offset, offset + length))
    assert read == [each for offset, length in wanted for each in range(offset, offset + length)]


def test_nothing_is_held_of_what_was_read_to_its_end() -> None:
    reader = ReadAhead("k", 5 * BLOCK, Source().read, Threads())
    for at in range(0, 5 * BLOCK, 500):
        reader.pread(at, 500)
    assert [stream.blocks for stream in reader._streams] == [{}]


def test_a_thread_that_comes_late_reads_just_its_range() -> None:
    source = Source()
    reader = ReadAhead("k", len(DATA), source.read, Threads())
    for at in (0, 1000, 2000):
        reader.pread(at, 1000)
    assert reader.pread(2100, 250) == DATA[2100:2350]
    assert (2100, 250) in source.reads


def test_a_block_that_could_not_be_read_is_asked_for_anew() -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise StorageError("gone")

    source = Source(fail)
    reader = ReadAhead("k", len(DATA), source.read, Threads())
    reader.pread(0, 1000)
    with pytest.raises(StorageError, match="gone"):
        for at in range(1000, 5000, 1000):
            reader.pread(at, 1000)
    assert reader.pread(1000, 1000) == DATA[1000:2000]


def test_threads_may_share_a_reader() -> None:
    wrong: list[int] = []
    with ReadAhead("k", len(DATA), Source().read, Threads()) as reader:

        def look(start: int) -> None:
            wrong.extend(at for at in range(start, 90_000, 1400) if reader.pread(at, 350) != DATA[at : at + 350])

        threads = [threading.Thread(target=look, args=(350 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_range_beyond_the_size_is_damage_and_a_negative_one_a_mistake() -> None:
    reader = ReadAhead("k", 100, Source().read, Threads())
    assert reader.pread(100, 0) == b""
    with pytest.raises(IntegrityError, match="found 100"):
        reader.pread(99, 2)
    with pytest.raises(InvalidArgumentError):
        reader.pread(-1, 2)


def test_threads_start_again_after_close_and_in_a_forked_child() -> None:
    threads = Threads()
    assert threads.submit(lambda: 1).result() == 1
    child = os.fork()
    if not child:
        os._exit(threads.submit(lambda: 7).result(timeout=120))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    threads.close()
    threads.close()
    assert threads.submit(lambda: 2).result() == 2
