"""Finds and hashes the files of a source, and yields them as sorted columns.

`Source.locate` (`sources.py`) settles what an `add_files` call means before anything is read. `Scan` walks it (`walk.py`),
takes hashes of unchanged files from the stat cache, reads the others (`hashing.py`), and yields batches in byte order of
the dataset paths, with bounded memory whatever the number of files. Small files are read where they are found: handing
them to threads costs twice the work (Python's lock). Large ones, and small ones that have to be waited for (a cold
disk, a network), are read by threads, while the order of what comes out stays the same.

The source is never written to.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from dataset_tasks import paths
from dataset_tasks.errors import SourceError
from dataset_tasks.hashing import REPORTED_FROM, Outcome, hash_file, look_at, open_source
from dataset_tasks.progress import Task
from dataset_tasks.sources import Source
from dataset_tasks.statcache import StatCache, trusted
from dataset_tasks.walk import Files, Findings, Problem, Walk

__all__ = ["BATCH_ROWS", "Batch", "Problem", "Scan", "Source", "open_source"]

#: Rows of every batch but the last.
BATCH_ROWS = 4096

_RUN_FILES, _RUN_BYTES = 256, 4 << 20
_WORTH_A_THREAD = 128 << 10  # mean size of the files of a run, bytes
_ROWS_AHEAD = 4 * BATCH_ROWS
_MESSAGE_LINES = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive files, sorted by `path`; all lists are equally long.

    `path` is the dataset path, `hash` the SHA-256 (32 bytes), `source` the absolute path on this machine. `device`,
    `inode`, `size` (bytes), `mtime_ns` and `ctime_ns` (since 1970) are the state in which the file had this hash.
    """

    path: list[bytes] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    hash: list[bytes] = field(default_factory=list)
    source: list[bytes] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    inode: list[int] = field(default_factory=list)
    mtime_ns: list[int] = field(default_factory=list)
    ctime_ns: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.path)

    def extend(self, prefix: bytes, folder: bytes, files: Sequence[tuple[bytes, os.stat_result, bytes]]) -> None:
        """Appends files of one folder: name, stat, hash; `prefix` and `folder` are put before the name."""
        self.path.extend([prefix + name for name, _, _ in files])
        self.source.extend([folder + name for name, _, _ in files])
        self.hash.extend([digest for _, _, digest in files])
        stats = [status for _, status, _ in files]
        self.size.extend([status.st_size for status in stats])
        self.device.extend([status.st_dev for status in stats])
        self.inode.extend([status.st_ino for status in stats])
        self.mtime_ns.extend([status.st_mtime_ns for status in stats])
        self.ctime_ns.extend([status.st_ctime_ns for status in stats])

    def cut(self, rows: int) -> Batch:
        """Takes the first rows out, as a batch of their own."""
        columns = [getattr(self, name) for name in self.__slots__]
        taken = Batch(*[column[:rows] for column in columns])
        for column in columns:
            del column[:rows]
        return taken


@dataclass(slots=True)
class _Run:
    """Files of one piece that have to be read: where they stand in it, and what came of it."""

    at: list[int]
    names: list[bytes]
    began: int
    outcomes: list[Outcome] | Future[list[Outcome]] = field(default_factory=list)
    fd: int = -1


@dataclass(slots=True)
class _Piece:
    """Consecutive files of one folder on their way out; those still without a hash are in `runs`."""

    prefix: bytes
    folder: bytes
    links: frozenset[bytes]
    names: list[bytes] = field(default_factory=list)
    stats: list[os.stat_result] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    runs: list[_Run] = field(default_factory=list)


class Scan:
    """The files of a source with their hashes; iterate once.

    After the iteration `skipped` holds the sources that were left out because of `on_error="skip"`, `notes` one line
    for each thing that was passed over or deserves a look, `files` and `bytes` what was yielded, and `read_bytes` how
    much of it had to be read.

    Args:
        source: What to scan.
        on_error: `raise` ends the iteration with an error that names all problems; `skip` leaves them out.
        max_workers: Threads that read; 1 reads in the caller's. Default: one a core and two more, at most 8.
        cache: Hashes of unchanged files; None reads everything.
        task: Where progress goes.

    Raises:
        SourceError: While iterating. Something can't be read, changed meanwhile, or has a name that no dataset path
            can hold; `paths` names every one. What was yielded before must then be thrown away.
    """

    def __init__(
        self,
        source: Source,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        max_workers: int | None = None,
        cache: StatCache | None = None,
        task: Task | None = None,
    ) -> None:
        self.files = self.bytes = self.read_bytes = 0
        self._source = source
        self._raises = on_error == "raise"
        self._workers = max(1, max_workers or min(8, len(os.sched_getaffinity(0)) + 2))
        self._cache = cache
        self._task = task
        self._findings = Findings()
        self._pieces: deque[_Piece] = deque()
        self._rows_ahead = self._runs_ahead = self._runs = 0
        self._pool: ThreadPoolExecutor | None = None
        self._waits = False  # whether reading is mostly waiting
        self._stop = threading.Event()
        self._reporting = threading.Lock()

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """Sources that were left out, sorted by path."""
        return tuple(sorted(self._findings.problems, key=lambda problem: problem.path))

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the log, in the order of the walk."""
        return tuple(self._findings.notes)

    def __iter__(self) -> Iterator[Batch]:
        batch = Batch()
        try:
            for files in self._walk():
                self._take(files)
                while self._rows_ahead > _ROWS_AHEAD or self._runs_ahead > 2 * self._workers:
                    self._emit(batch)
                    while len(batch) >= BATCH_ROWS and not self._failed:
                        yield batch.cut(BATCH_ROWS)
            while self._pieces:
                self._emit(batch)
                while len(batch) >= BATCH_ROWS and not self._failed:
                    yield batch.cut(BATCH_ROWS)
            if self._failed:
                raise self._error()
            if batch.path:
                yield batch
        finally:
            self._end()

    @property
    def _failed(self) -> bool:
        """Whether it is sure that the scan will raise: from then on nothing is read, only looked at."""
        return self._raises and bool(self._findings.problems)

    def _error(self) -> SourceError:
        problems = self.skipped
        lines = [f"  {problem}" for problem in problems[:_MESSAGE_LINES]]
        if len(problems) > len(lines):
            lines.append(f"  and {len(problems) - len(lines):,} more")
        count = "1 source" if len(problems) == 1 else f"{len(problems):,} sources"
        return SourceError(
            f"{count} can't be added:\n" + "\n".join(lines),
            paths=tuple(paths.show(problem.path) for problem in problems),
            hint='Mend them, leave them out with `exclude`, or pass `on_error="skip"` to go on without them.',
        )

    # --- from the walk into the queue --------------------------------------------------------------------------------

    def _walk(self) -> Iterator[Files]:
        source = self._source
        if source.name is None:
            yield from Walk(source.folder, source.wanted, self._findings)
            return
        try:
            fd = os.open(source.folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._findings.problem(source.folder, error)
            return
        try:
            yield Files(fd, b"", [source.name], frozenset())
        finally:
            os.close(fd)

    def _take(self, files: Files) -> None:
        """Queues files: with the hash the cache knows, in runs to be read, or as problems."""
        prefix = self._source.prefix + files.folder
        folder = self._source.folder.rstrip(b"/") + b"/" + files.folder
        names = self._well_named(prefix, folder, files.names)
        piece = _Piece(prefix, folder, files.links)
        known = self._cache.known(folder, names) if self._cache is not None else {}
        for name in names:
            try:
                status = os.stat(name, dir_fd=files.fd, follow_symlinks=name in files.links)
            except OSError as error:
                self._findings.problem(folder + name, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                self._findings.problem(folder + name, OSError(errno.ELOOP, "replaced"))
                continue
            piece.names.append(name)
            piece.stats.append(status)
            piece.hashes.append((trusted(known.get(name), name, status) or b"") if known else b"")
        self._rows_ahead += len(piece.names)
        self._pieces.append(piece)
        for at in _runs(piece):
            self._start(at, piece, files.fd)

    def _well_named(self, prefix: bytes, folder: bytes, names: list[bytes]) -> list[bytes]:
        if paths.first_fault([prefix + name for name in names]) is None:
            return names
        good = []
        for name in names:
            if why := paths.fault(prefix + name):
                self._findings.problem(folder + name, f"its dataset path would be wrong: it {why}")
            else:
                good.append(name)
        return good

    def _start(self, at: list[int], piece: _Piece, fd: int) -> None:
        """Reads some files of a piece, here or in the pool, whichever is better for their kind."""
        names = [piece.names[i] for i in at]
        run = _Run(at, names, self._cache.now() if self._cache is not None else 0)
        piece.runs.append(run)
        if self._failed:
            run.outcomes = [look_at(name, fd, follow=name in piece.links) for name in names]
            return
        self._runs += 1
        is_large = sum(piece.stats[i].st_size for i in at) >= _WORTH_A_THREAD * len(at)
        # Whether there is waiting is measured again on every 32nd run, which is read here.
        if self._workers > 1 and (is_large or (self._waits and self._runs % 32)):
            self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="dataset-tasks-scan")
            run.fd = os.dup(fd)
            run.outcomes = self._pool.submit(self._read_and_close, run, piece.links)
            self._runs_ahead += 1
            return
        wall, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        run.outcomes = self._read(names, fd, piece.links)
        self._judge(len(names), time.perf_counter() - wall, used)

    def _judge(self, files: int, wall: float, before: resource.struct_rusage) -> None:
        """Tells from reading some files here whether reading is mostly waiting for a disk or a network.

        A busy machine makes wall time long as well: only blocks that came from a disk, or having gone to sleep for
        each file while no thread of ours held Python's lock, are taken as a sign.
        """
        after = resource.getrusage(resource.RUSAGE_THREAD)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if files < 16 or wall <= 4 * cpu:
            self._waits = self._waits and files < 16
        elif after.ru_inblock > before.ru_inblock:
            self._waits = True
        elif not self._runs_ahead and after.ru_nvcsw - before.ru_nvcsw >= files:
            self._waits = True

    def _read_and_close(self, run: _Run, links: frozenset[bytes]) -> list[Outcome]:
        try:
            return self._read(run.names, run.fd, links)
        finally:
            os.close(run.fd)

    def _read(self, names: Sequence[bytes], fd: int, links: frozenset[bytes]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for name in names:
            if self._stop.is_set():
                break
            outcomes.append(hash_file(name, fd, follow=name in links, on_block=self._on_block))
        return outcomes

    def _on_block(self, count: int) -> None:
        """Progress of a file so large that it reports itself; ends the reading when the scan was given up."""
        if self._stop.is_set():
            raise InterruptedError(errno.EINTR, "given up")
        self._advance(0, count)

    def _advance(self, files: int, count: int) -> None:
        if self._task is not None:
            with self._reporting:
                self._task.advance(files=files, bytes=count)

    # --- from the queue into batches ---------------------------------------------------------------------------------

    def _emit(self, batch: Batch) -> None:
        """Moves the first piece of the queue, once it is read, to the batch."""
        piece = self._pieces.popleft()
        self._rows_ahead -= len(piece.names)
        reported = sum(self._collect(run, piece) for run in piece.runs)
        if self._failed:
            return
        done = [row for row in zip(piece.names, piece.stats, piece.hashes, strict=True) if row[2]]
        batch.extend(piece.prefix, piece.folder, done)
        count = sum(status.st_size for _, status, _ in done)
        self.files += len(done)
        self.bytes += count
        self._advance(len(done), count - reported)

    def _collect(self, run: _Run, piece: _Piece) -> int:
        """Moves what came of a run to its piece; the bytes of it that were reported already."""
        outcomes = run.outcomes
        if isinstance(outcomes, Future):
            self._runs_ahead -= 1
            outcomes = outcomes.result()
        rows: list[tuple[bytes, os.stat_result, bytes]] = []
        reported = 0
        for at, name, outcome in zip(run.at, run.names, outcomes, strict=True):
            if isinstance(outcome, tuple):
                status, digest = outcome
                piece.stats[at], piece.hashes[at] = status, digest
                if digest:
                    rows.append((name, status, digest))
                    self.read_bytes += status.st_size
                    reported += status.st_size if status.st_size >= REPORTED_FROM else 0
            else:
                self._findings.problem(piece.folder + name, outcome)
        if self._cache is not None:
            self._cache.record(piece.folder, rows, run.began)
        return reported

    def _end(self) -> None:
        """Stops the threads, which may still be reading when the caller gave up, and closes what they had open."""
        self._stop.set()
        for run in (run for piece in self._pieces for run in piece.runs):
            if isinstance(run.outcomes, Future) and run.outcomes.cancel():
                os.close(run.fd)
        self._pieces.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def _runs(piece: _Piece) -> Iterator[list[int]]:
    """The files without a hash, in runs of at most 256 files; a run ends with the file that takes it over 4 MiB."""
    run: list[int] = []
    size = 0
    for at, digest in enumerate(piece.hashes):
        if not digest:
            run.append(at)
            size += piece.stats[at].st_size
            if len(run) == _RUN_FILES or size >= _RUN_BYTES:
                yield run
                run, size = [], 0
    if run:
        yield run
