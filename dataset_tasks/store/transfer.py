"""Moving bytes to and from object stores: trying again with an end in sight, several requests at once, reading ahead."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from dataset_tasks.errors import StorageUnavailableError
from dataset_tasks.store.base import ObjectReader, check_range, cut_short

T = TypeVar("T")
_log = logging.getLogger(__name__)

#: What one request moves at most (bytes), up or down; longer ranges are read as several requests at once.
BLOCK_BYTES: Final = 4 << 20
#: Requests that move bytes of one store at the same time.
THREADS: Final = 8
#: Blocks that a reader asks for before they are wanted, once it is read from front to back.
_AHEAD: Final = 4
#: Reads that follow one another with a gap of no more than this (bytes) are one stream.
_GAP: Final = 256 << 10
#: A stream that came so far (bytes) is read ahead of.
_STREAM: Final = 1 << 20
_STREAMS: Final = 8
#: A request that has failed for less (seconds) is asked again without a word.
_QUIET: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a store that does not answer is asked again.

    Between tries it waits, from `first` seconds on, twice as long each time, up to `most`; a random part of up to half is
    left out, so that many workers don't come back at once. It gives up when a request has failed for `seconds`, or when an
    object has lost five times as long over all of its requests together.
    """

    seconds: float = 120.0
    first: float = 0.2
    most: float = 10.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


class Trouble:
    """Asks for one object, again and again while the store may come back. Thread-safe: its parts share the patience.

    What fails for more than a second is told in the log each time, so that nobody takes the wait for a hang.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lost = 0.0
        self._lock = threading.Lock()

    def persist(self, ask: Callable[[], T]) -> T:
        """The answer, once there is one.

        Raises:
            StorageUnavailableError: There was none in time; says how often it was asked for, and for how long.
        """
        patience = self._patience
        begun = patience.clock()
        tries = 0
        while True:
            tries += 1
            asked = patience.clock()
            try:
                return ask()
            except StorageUnavailableError as error:
                wait = min(patience.most, patience.first * 2 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311 - no secret
                spent = patience.clock() - begun
                with self._lock:
                    self._lost += patience.clock() - asked + wait
                    lost = self._lost
                if spent + wait > patience.seconds or lost > 5 * patience.seconds:
                    raise StorageUnavailableError(
                        f"{error.message} (given up after {tries} tries in {spent:.1f} s)", hint=error.hint
                    ) from error
                if spent >= _QUIET:
                    told = "%s: try %d, asked again in %.1f s, for %.0f s at most"
                    _log.warning(told, error.message, tries, wait, patience.seconds - spent)
            patience.pause(wait)


class Threads:
    """A few threads that move bytes, made when first used, and anew in a forked child."""

    def __init__(self, count: int = THREADS) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begins the work; it must not wait for other work of these threads."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="dataset-tasks-store")
                self._pid = os.getpid()
            return self._pool.submit(work)

    def close(self) -> None:
        """Ends the threads; they start again when there is work."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(cancel_futures=True)


def read_blocks(read: Callable[[int, int], bytes], threads: Threads, offset: int, length: int) -> bytes:
    """A long range, read as blocks by several threads.

    Args:
        read: Gives exactly so many bytes (second) from an offset (first).
        threads: Who reads.
        offset: Where the range begins, in bytes.
        length: Its length in bytes.
    """
    if length <= BLOCK_BYTES:
        return read(offset, length)

    def begin(start: int) -> Future[bytes]:
        return threads.submit(lambda: read(start, min(BLOCK_BYTES, offset + length - start)))

    running = [begin(start) for start in range(offset, offset + length, BLOCK_BYTES)]
    try:
        return b"".join([future.result() for future in running])
    finally:
        for future in running:
            future.cancel()


class _Stream:
    """One reader from front to back: blocks from `start` to `until`, some of them asked for before they are wanted."""

    def __init__(self, start: int, until: int) -> None:
        self.start = self.end = start
        self.until = until
        self.blocks: dict[int, Future[bytes]] = {}
        self.read = 0
        self.first = self.last = self.ahead = 0

    def goes_on_with(self, offset: int, length: int) -> bool:
        """Whether a read is one of this stream: threads that take turns may come a little late."""
        is_within = self.start <= offset and offset + length <= self.until
        return is_within and -BLOCK_BYTES <= offset - self.end <= _GAP


class ReadAhead(ObjectReader):
    """Reads an object through ranged requests, ahead of whoever reads it from front to back.

    A read that does not go on where one of the last few ended is answered by a request of just its range.

    Args:
        key: The object's.
        size: Its size in bytes.
        read: Gives exactly so many bytes (second) from an offset (first).
        threads: Who reads ahead.
    """

    def __init__(self, key: str, size: int, read: Callable[[int, int], bytes], threads: Threads) -> None:
        self.key, self.size = key, size
        self._read, self._threads = read, threads
        self._lock = threading.Lock()
        self._streams: deque[_Stream] = deque(maxlen=_STREAMS)

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; see `ObjectReader.pread`."""
        check_range(self.key, offset, length)
        if offset + length > self.size:
            raise cut_short(self.key, offset, length, self.size)
        if not length:
            return b""
        with self._lock:
            stream = self._stream(offset, length)
            stream.end = max(stream.end, offset + length)
            if stream.read < _STREAM:  # may be the only one: just its range is asked for
                stream.start, blocks = stream.end, {}
            else:
                blocks = self._wanted(stream, offset, length)
            stream.read += length
        if not blocks:
            return read_blocks(self._read, self._threads, offset, length)
        try:
            return _joined(stream.start, blocks, offset, length)
        except CancelledError:  # another thread met an error and let go of everything
            return read_blocks(self._read, self._threads, offset, length)
        except BaseException:
            self.close()  # what failed, or was not waited for, is asked for anew
            raise

    def expect(self, offset: int, length: int) -> None:
        """Reads ahead from the first byte of a range on, and nothing behind it; see `ObjectReader.expect`."""
        if length > BLOCK_BYTES and offset + length <= self.size:
            stream = _Stream(offset, offset + length)
            stream.read, stream.ahead = _STREAM, _AHEAD
            with self._lock:
                self._streams.append(stream)

    def _stream(self, offset: int, length: int) -> _Stream:
        for stream in self._streams:
            if stream.goes_on_with(offset, length):
                self._streams.remove(stream)
                break
        else:
            stream = _Stream(offset, self.size)
        self._streams.append(stream)  # the one not used for longest is let go
        return stream

    def _wanted(self, stream: _Stream, offset: int, length: int) -> dict[int, Future[bytes]]:
        """The blocks of a range, begun, and some behind it; those that it comes to the end of are let go."""
        first, last = (offset - stream.start) // BLOCK_BYTES, (offset + length - 1 - stream.start) // BLOCK_BYTES
        if first < stream.first:
            return {}  # another thread was faster, and what it left behind is gone
        if last > stream.last:
            stream.last, stream.ahead = last, min(stream.ahead + 1, _AHEAD)
        final = (stream.until - 1 - stream.start) // BLOCK_BYTES
        for number in range(first, min(last + stream.ahead, final) + 1):
            if number not in stream.blocks:
                stream.blocks[number] = self._begin(stream.start + number * BLOCK_BYTES, stream.until)
        wanted = {number: stream.blocks[number] for number in range(first, last + 1)}
        is_end = offset + length == stream.until
        stream.first = final + 1 if is_end else (offset + length - stream.start) // BLOCK_BYTES
        for number in [number for number in stream.blocks if number < stream.first]:
            del stream.blocks[number]
        return wanted

    def _begin(self, start: int, until: int) -> Future[bytes]:
        return self._threads.submit(lambda: self._read(start, min(BLOCK_BYTES, until - start)))

    def close(self) -> None:
        """Lets go of what was read ahead; see `ObjectReader.close`."""
        with self._lock:
            held = [future for stream in self._streams for future in stream.blocks.values()]
            self._streams.clear()
        for future in held:
            future.cancel()


def _joined(start: int, blocks: dict[int, Future[bytes]], offset: int, length: int) -> bytes:
    pieces = []
    for number, future in blocks.items():
        data = future.result()
        begun = start + number * BLOCK_BYTES
        pieces.append(data[max(offset - begun, 0) : offset + length - begun])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
