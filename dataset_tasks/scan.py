"""Finds and hashes the files of a source, and yields them as sorted columns.

`Source.locate` (`sources.py`) settles what an `add_files` call means before anything is read. `Scan` walks it (`walk.py`),
takes hashes of unchanged files from the stat cache, reads the others (`hashing.py`), and yields batches in byte order of
the dataset paths, with bounded memory whatever the number of files. The source is never written to.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dataset_tasks import paths
from dataset_tasks.errors import SourceError
from dataset_tasks.hashing import REPORTED_FROM, Reader, Reading, look_at, open_source
from dataset_tasks.progress import Task
from dataset_tasks.sources import Source
from dataset_tasks.statcache import StatCache, trusted
from dataset_tasks.walk import Files, Findings, Problem, Walk

__all__ = ["BATCH_ROWS", "HINT_UNREADABLE", "Batch", "Problem", "Scan", "Source", "open_source"]

#: Rows of every batch but the last.
BATCH_ROWS = 4096
HINT_UNREADABLE = 'Mend them, leave them out with `exclude`, or go on without them: `on_error="skip"`, `--skip-errors` of add and sync.'

_ROWS_AHEAD = 4 * BATCH_ROWS
_MESSAGE_LINES = 100
_LAST = (1 << 63) - 1


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

    def extend(self, path: list[bytes], source: list[bytes], stats: list[os.stat_result], hash: list[bytes]) -> None:
        """Appends files."""
        self.path.extend(path)
        self.source.extend(source)
        self.hash.extend(hash)
        self.size.extend([status.st_size for status in stats])
        self.device.extend([status.st_dev for status in stats])
        self.inode.extend([status.st_ino for status in stats])
        self.mtime_ns.extend(_in_64_bits([status.st_mtime_ns for status in stats]))
        self.ctime_ns.extend(_in_64_bits([status.st_ctime_ns for status in stats]))

    def join(self, other: Batch) -> None:
        """Appends the files of another batch."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))

    def take(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, as a batch of their own."""
        columns = (getattr(self, name) for name in self.__slots__)
        return Batch(*([column[row] for row in rows] for column in columns))

    def cut(self, rows: int) -> Batch:
        """Takes the first rows out, as a batch of their own."""
        columns = [getattr(self, name) for name in self.__slots__]
        taken = Batch(*[column[:rows] for column in columns])
        for column in columns:
            del column[:rows]
        return taken


def _in_64_bits(times: list[int]) -> list[int]:
    """The times, those before 1678 and after 2261 moved there: some file systems have dates out of all reason."""
    if times and (min(times) < -_LAST or max(times) > _LAST):
        return [max(-_LAST, min(_LAST, time)) for time in times]
    return times


@dataclass(slots=True)
class _Piece:
    """Consecutive files of one folder on their way out; `reading` has those that stand at `unread`.

    A file that became a problem keeps its stat at None.
    """

    folder: bytes
    names: list[bytes]
    paths: list[bytes]
    stats: list[os.stat_result | None]
    hashes: list[bytes]
    unread: list[int]
    began: int
    reading: Reading


class Keeper(Protocol):
    """Who reads files for a scan, because they are wanted for more than their hashes."""

    def read(
        self, reader: Reader, names: Sequence[bytes], places: Sequence[bytes], folder: int, links: frozenset[bytes]
    ) -> Reading:
        """As `Reader.read`; `places` are the dataset paths of the names."""


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
        keeper: Reads in place of the scan and keeps what it reads.
        may_follow: As for `Walk`; None follows every link to a file.

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
        keeper: Keeper | None = None,
        may_follow: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._may_follow = may_follow
        self._keeper = keeper
        self.files = self.bytes = self.read_bytes = 0
        self._source = source
        self._raises = on_error == "raise"
        self._workers = max(1, max_workers or min(8, len(os.sched_getaffinity(0)) + 2))
        self._cache = cache
        self._task = task
        self._findings = Findings()
        self._pieces: deque[_Piece] = deque()
        self._rows_ahead = 0

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
        with Reader(self._workers, self._on_block) as reader:
            for files in self._walk():
                self._take(files, reader)
                while self._pieces and (self._rows_ahead > _ROWS_AHEAD or not self._pieces[0].reading.jobs):
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
            hint=HINT_UNREADABLE,
        )

    # --- from the walk into the queue --------------------------------------------------------------------------------

    def _walk(self) -> Iterator[Files]:
        source = self._source
        if source.name is None:
            yield from Walk(source.folder, source.wanted, self._findings, self._may_follow)
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

    def _take(self, files: Files, reader: Reader) -> None:
        """Queues files: with the hash the cache knows, to be read, or as problems."""
        prefix = self._source.prefix + files.folder
        folder = self._source.folder.rstrip(b"/") + b"/" + files.folder
        names = files.names
        places = [prefix + name for name in names]
        if paths.first_fault(places) is not None:
            names, places = self._well_named(names, places, folder)
        stats: list[os.stat_result | None] = [None] * len(names)
        hashes = [b""] * len(names)
        known = self._cache.known(folder, names) if self._cache is not None else None
        unread = self._look_up(names, files, folder, known, stats, hashes) if known else list(range(len(names)))
        began = self._cache.now() if self._cache is not None else 0
        wanted = [names[at] for at in unread]
        if self._failed:
            reading = Reading([look_at(name, files.fd, follow=name in files.links) for name in wanted])
        else:
            reading = self._reading(reader, wanted, [places[at] for at in unread], files)
        self._pieces.append(_Piece(folder, names, places, stats, hashes, unread, began, reading))
        self._rows_ahead += len(names)

    def _reading(self, reader: Reader, names: list[bytes], places: list[bytes], files: Files) -> Reading:
        if self._keeper is None:
            return reader.read(names, files.fd, files.links)
        return self._keeper.read(reader, names, places, files.fd, files.links)

    def _well_named(self, names: list[bytes], places: list[bytes], folder: bytes) -> tuple[list[bytes], list[bytes]]:
        """The files whose dataset path is one; the others are problems."""
        good = []
        for at, place in enumerate(places):
            if why := paths.fault(place):
                self._findings.problem(folder + names[at], f"its dataset path would be wrong: it {why}")
            else:
                good.append(at)
        return [names[at] for at in good], [places[at] for at in good]

    def _look_up(
        self,
        names: list[bytes],
        files: Files,
        folder: bytes,
        known: Mapping[bytes, bytes],
        stats: list[os.stat_result | None],
        hashes: list[bytes],
    ) -> list[int]:
        """Fills in what the cache knows; the places of the files that must be read."""
        fd, links = files.fd, files.links
        unread = []
        for at, name in enumerate(names):
            if name in known:
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=name in links)
                except OSError as error:
                    self._findings.problem(folder + name, error)
                    continue
                if digest := trusted(known[name], status):
                    stats[at], hashes[at] = status, digest
                    continue
            unread.append(at)
        return unread

    def _on_block(self, count: int) -> None:
        if self._task is not None:
            self._task.advance(bytes=count)

    # --- from the queue into batches ---------------------------------------------------------------------------------

    def _emit(self, batch: Batch) -> None:
        """Moves the first piece of the queue, once it is read, to the batch."""
        piece = self._pieces.popleft()
        self._rows_ahead -= len(piece.names)
        piece.reading.wait()
        reported = self._collect(piece) if piece.unread else 0
        if self._failed:
            return
        stats = [status for status in piece.stats if status is not None]
        places, hashes, names = piece.paths, piece.hashes, piece.names
        if len(stats) < len(names):
            good = [at for at, status in enumerate(piece.stats) if status is not None]
            places, hashes, names = ([column[at] for at in good] for column in (places, hashes, names))
        folder, rows = piece.folder, len(batch)
        batch.extend(places, [folder + name for name in names], stats, hashes)
        count = sum(batch.size[rows:])
        self.files += len(names)
        self.bytes += count
        if self._task is not None:
            self._task.advance(files=len(names), bytes=count - reported)

    def _collect(self, piece: _Piece) -> int:
        """Fills in what was read; the bytes of it that were reported already."""
        rows: list[tuple[bytes, os.stat_result, bytes]] = []
        reported = 0
        for at, outcome in zip(piece.unread, piece.reading.outcomes, strict=True):
            name = piece.names[at]
            if isinstance(outcome, tuple):
                status, digest = outcome
                if not digest:  # it was only looked at
                    continue
                piece.stats[at], piece.hashes[at] = outcome
                rows.append((name, status, digest))
                self.read_bytes += status.st_size
                if status.st_size >= REPORTED_FROM:
                    reported += status.st_size
            else:
                self._findings.problem(piece.folder + name, outcome)
        if self._cache is not None and not self._failed:
            self._cache.record(piece.folder, rows, piece.began)
        return reported
