"""Opens and hashes source files, so that what comes out is one state of one file or an error.

Small files are read where they are found: handing them to threads costs twice the work (Python's lock). Large ones, and
all of them where reading is mostly waiting (a cold disk, a network), are read by threads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

#: Stat (taken before reading) and SHA-256, or what is wrong with the file.
Outcome: TypeAlias = "tuple[os.stat_result, bytes] | OSError | str"

#: From this size on (bytes) a file is reported block by block while it is read.
REPORTED_FROM = 64 << 20

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # should it have become a FIFO, the open does not hang
_BLOCK = 1 << 20
_PIECE = 2048  # bytes of a path given to one call: half of PATH_MAX
_LARGE = 256 << 10  # from here on a thread is worth its cost
_JOB_FILES, _JOB_BYTES = 8, 4 << 20
_WAITING_FILES = 32  # files a thread is given at once where reading is waiting
_REPLACED = "was replaced by something else while it was scanned"


def open_file(name: bytes, folder: int, *, follow: bool) -> tuple[int, os.stat_result] | OSError | str:
    """Opens a regular file in a folder: descriptor and stat, or what is wrong.

    Args:
        name: Name in the folder.
        folder: Descriptor of the folder.
        follow: Whether it may be a link.
    """
    try:
        fd = os.open(name, _READ if follow else _READ | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        return error
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return fd, status
    os.close(fd)
    return _REPLACED


def hash_opened(fd: int, before: os.stat_result, on_block: Callable[[int], None]) -> Outcome:
    """Hashes a file from its start and closes it; its stat must be the same before and after.

    Args:
        fd: From `open_file`.
        before: From `open_file`.
        on_block: Called with the bytes read since the last call, for files of at least `REPORTED_FROM` bytes only;
            an `OSError` that it raises ends the reading.
    """
    size = before.st_size
    try:
        if size < _BLOCK:
            data = os.read(fd, size + 1)  # one more than there should be: a short read is the end of the file
            count = len(data)
            digest = hashlib.sha256(data)
            if count != size:
                count += _hash_rest(fd, digest, None)
        else:
            digest = hashlib.sha256()
            count = _hash_rest(fd, digest, on_block if size >= REPORTED_FROM else None)
        after = os.fstat(fd)
    except OSError as error:
        return error
    finally:
        os.close(fd)
    return difference(before, after, count) or (before, digest.digest())


def difference(before: os.stat_result, after: os.stat_result, count: int) -> str:
    """What says that a file was not read as one state of it, if anything; `count` bytes were read."""
    size = before.st_size
    if size != after.st_size or before.st_mtime_ns != after.st_mtime_ns or before.st_ctime_ns != after.st_ctime_ns:
        return "changed while it was read"
    if count != size:  # as files of /proc do
        return f"says that it has {size:,} bytes, but {count:,} could be read"
    return ""


def look_at(name: bytes, folder: int, *, follow: bool) -> Outcome:
    """Whether a file could be read; the hash is empty."""
    opened = open_file(name, folder, follow=follow)
    if not isinstance(opened, tuple):
        return opened
    os.close(opened[0])
    return opened[1], b""


def open_source(path: bytes) -> int:
    """Opens a file for reading whose path may be longer than the kernel takes in one call.

    Args:
        path: Absolute path, as in `Batch.source`; a link to a file is followed.

    Returns:
        A descriptor, which the caller closes. Only its `fstat` tells whether it is still a regular file.

    Raises:
        OSError: As `os.open`.
    """
    folder: int | None = None
    try:
        while len(path) > _PIECE:
            cut = path.rindex(b"/", 0, _PIECE)
            inner = os.open(path[:cut] or b"/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            if folder is not None:
                os.close(folder)
            folder, path = inner, path[cut + 1 :]
        return os.open(path, _READ, dir_fd=folder)
    finally:
        if folder is not None:
            os.close(folder)


def _hash_rest(fd: int, digest: hashlib._Hash, on_block: Callable[[int], None] | None) -> int:
    """Adds what is left of a file to the digest; gives its length."""
    count = reported = 0
    buffer = memoryview(bytearray(_BLOCK))
    while got := os.readv(fd, [buffer]):
        digest.update(buffer[:got])
        count += got
        if on_block is not None and count - reported >= 16 * _BLOCK:
            on_block(count - reported)
            reported = count
    if on_block is not None:
        on_block(count - reported)
    return count


@dataclass(slots=True)
class Reading:
    """Files that are being hashed; `outcomes` has one for each, in their order, once `wait` has returned."""

    outcomes: list[Outcome]
    jobs: list[Future[Any]] = field(default_factory=list)  # Any: nobody looks at what they give

    def wait(self) -> None:
        """Returns when every file is read."""
        for job in self.jobs:
            job.result()


class Reader:
    """Hashes files, with at most `workers` threads beside the caller's; a context manager.

    Leaving it ends what is still being read within a block, and closes every descriptor.

    Args:
        workers: Threads; 1 means that the caller's own reads everything.
        on_block: Called, by any thread but never by two at once, as `hash_opened` says.
    """

    def __init__(self, workers: int, on_block: Callable[[int], None]) -> None:
        self._workers = workers
        self._report = on_block
        self._pool: ThreadPoolExecutor | None = None
        self._flying: deque[tuple[Future[None], list[int]]] = deque()
        self._waits = False  # whether reading is mostly waiting
        self._calls = 0
        self._stop = threading.Event()
        self._reporting = threading.Lock()
        few = resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 256
        self._job_files = 1 if few else _JOB_FILES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for job, fds in self._flying:
            if job.cancel():
                _close_all(fds)
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def read(self, names: Sequence[bytes], folder: int, links: frozenset[bytes]) -> Reading:
        """Starts to hash files of a folder, and may have finished on return.

        Args:
            names: Names in the folder.
            folder: Its descriptor, needed only until this returns.
            links: Those of the names that are links to files.
        """
        reading = Reading([_REPLACED] * len(names))
        self._calls += 1
        # Whether there is waiting is measured again on every 32nd call, which reads here.
        if self._waits and self._workers > 1 and self._calls % 32:
            for start in range(0, len(names), _WAITING_FILES):
                fds = [os.dup(folder)]
                self._submit(reading, self._read_named, fds, start, names[start : start + _WAITING_FILES], links)
            return reading
        wall, cpu, used = time.perf_counter(), time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD)
        if self._read_here(reading, names, folder, links) and len(names) >= 16:
            waited = time.perf_counter() - wall > 4 * (time.thread_time() - cpu)
            self._waits = waited and self._slept(len(names), used)
        return reading

    def _read_here(self, reading: Reading, names: Sequence[bytes], folder: int, links: frozenset[bytes]) -> bool:
        """Reads small files and hands over large ones; whether it did nothing but read small ones."""
        outcomes, large, size = reading.outcomes, list[tuple[int, os.stat_result]](), 0
        fds: list[int] = []
        for at, name in enumerate(names):
            opened = open_file(name, folder, follow=name in links)
            if not isinstance(opened, tuple):
                outcomes[at] = opened
            elif opened[1].st_size < _LARGE or self._workers == 1:
                outcomes[at] = hash_opened(*opened, self._on_block)
            else:
                fds.append(opened[0])
                large.append((at, opened[1]))
                size += opened[1].st_size
                if len(large) == self._job_files or size >= _JOB_BYTES:
                    self._submit(reading, self._read_opened, fds, large)
                    fds, large, size = [], [], 0
        if large:
            self._submit(reading, self._read_opened, fds, large)
        return not reading.jobs

    def _submit(self, reading: Reading, work: Callable[..., None], fds: list[int], *what: object) -> None:
        while len(self._flying) >= 2 * self._workers:  # bounds what is open and what is held
            self._flying.popleft()[0].result()
        self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="dataset-tasks-scan")
        job = self._pool.submit(work, reading.outcomes, fds, *what)
        reading.jobs.append(job)
        self._flying.append((job, fds))

    def _read_opened(self, outcomes: list[Outcome], fds: list[int], files: list[tuple[int, os.stat_result]]) -> None:
        try:
            for at, before in files:
                if self._stop.is_set():
                    return
                outcomes[at] = hash_opened(fds.pop(0), before, self._on_block)
        finally:
            _close_all(fds)

    def _read_named(
        self, outcomes: list[Outcome], fds: list[int], start: int, names: Sequence[bytes], links: frozenset[bytes]
    ) -> None:
        try:
            for at, name in enumerate(names, start):
                if self._stop.is_set():
                    return
                opened = open_file(name, fds[0], follow=name in links)
                outcomes[at] = hash_opened(*opened, self._on_block) if isinstance(opened, tuple) else opened
        finally:
            _close_all(fds)

    def _on_block(self, count: int) -> None:
        if self._stop.is_set():
            raise InterruptedError(errno.EINTR, "given up")
        with self._reporting:
            self._report(count)

    def _slept(self, files: int, before: resource.struct_rusage) -> bool:
        """Tells from reading some files here whether it was a disk or a network that made it long.

        A busy machine makes it long as well. Blocks that came from a disk are a sign, and having gone to sleep for each
        file, as long as it was not for Python's lock that another thread of ours held.
        """
        after = resource.getrusage(resource.RUSAGE_THREAD)
        if after.ru_inblock > before.ru_inblock:
            return True
        if all(job.done() for job, _ in self._flying):
            return after.ru_nvcsw - before.ru_nvcsw >= files
        return self._waits


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
