"""Copies: from chunks straight into a folder, every file verified by its hash on the way.

Entries come as tables with the columns of `manifest.columns`. Neighbours in a chunk are read together, a few MiB at a
time; small files are handled one after another in this thread, where a second one would only fight over the
interpreter, larger ones by a few threads, because hashing, inflating and writing let it go.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dataset_tasks.errors import IntegrityError, ObjectMissingError, StateError, TargetError
from dataset_tasks.filesystem import AnyPath, Buffer, shown
from dataset_tasks.members import Member, RangedReader, member_pieces, unpack
from dataset_tasks.paths import first_fault, show, to_text
from dataset_tasks.progress import Task
from dataset_tasks.targets import Target, Twins

Table: TypeAlias = "pa.Table | pa.RecordBatch"
OpenChunk: TypeAlias = Callable[[str], RangedReader]
#: Of a table of entries, for each row the absolute path of a file with that content to be hard-linked, or None.
Reuse: TypeAlias = Callable[[Table], Sequence[bytes | None]]
#: Told of each table once all of its files stand, with what `stat` says of each.
Written: TypeAlias = Callable[[Table, Sequence[os.stat_result]], None]

COLUMNS: Final = ("path", "kind", "size", "hash", "chunk", "offset", "stored", "method")

_RUN: Final = 4 << 20
_GAP: Final = 32 << 10
_LARGE: Final = 8 << 20
_THREADS_PAY: Final = 128 << 10
_THREADS: Final = 2
_MOST_OPEN_CHUNKS: Final = 8
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy holds; `linked` of its `files` share their bytes with a cached tree. `bytes` counts them all."""

    files: int = 0
    bytes: int = 0
    linked: int = 0


def extract(
    entries: Iterable[Table],
    open_chunk: OpenChunk,
    target: AnyPath,
    *,
    read_only: bool = False,
    reuse: Reuse | None = None,
    written: Written | None = None,
    workers: int | None = None,
    task: Task | None = None,
) -> Copied:
    """Writes the files of entries below a folder.

    On an error files of the copy may stand in the folder: give a folder that nobody looks at yet, and drop it.

    Args:
        entries: Tables with at least `COLUMNS`; every path once. Memory is bounded by the largest table and, per
            thread, a few MiB.
        open_chunk: Opens the chunk with that key; readers are used from several threads.
        target: An existing folder, best empty.
        read_only: Files 0444, folders 0555 (and the target with them); else 0644 and 0755; less the umask.
        reuse: Offers files to be hard-linked. They must hold what the entry says: nothing is verified here.
        written: Is told what stands.
        workers: Threads; None chooses. More pay where the chunks are far away.
        task: Is told of progress.

    Raises:
        IntegrityError: Stored bytes are missing or are not what they should be; `paths` names every file concerned,
            all others are written. Or an entry's path is none.
        StateError: An entry is pending or a link.
        TargetError: The folder can't take the files; `hint` says why.
        StorageError: The disk is full or fails, or the store does not answer.
    """
    with Target(target, read_only=read_only) as folder:
        extraction = _Extraction(folder, open_chunk, workers, task, look=written is not None)
        twins = None if folder.tells_apart() else Twins()
        try:
            for table in entries:
                extraction.add(table, reuse, written, twins)
        finally:
            extraction.close()
        extraction.raise_damage()
        if read_only:
            folder.seal()
        return Copied(files=extraction.files, bytes=extraction.bytes, linked=extraction.linked)


def examine(
    entries: Iterable[Table], open_chunk: OpenChunk, *, workers: int | None = None, task: Task | None = None
) -> dict[bytes, str]:
    """Reads every file of entries from its chunk and verifies it, writing nothing.

    Links, whose bytes are not stored, are passed over.

    Args:
        entries: As for `extract`.
        open_chunk: As for `extract`.
        workers: As for `extract`.
        task: As for `extract`.

    Returns:
        Path and what is wrong with it, of every file whose bytes are missing or not what they should be.

    Raises:
        StateError: An entry is pending.
        StorageError: The store does not answer.
    """
    extraction = _Extraction(_Nowhere(), open_chunk, workers, task, look=False)
    try:
        for table in entries:
            stored = table.filter(pc.is_null(table.column("link")))
            extraction.add(stored, None, None, None)
    finally:
        extraction.close()
    return extraction.damage


class _Place(Protocol):
    """Where files go."""

    @property
    def path(self) -> str: ...

    def link(self, source: bytes, path: bytes) -> os.stat_result | None: ...

    def write(self, path: bytes, data: Buffer, *, look: bool = True) -> os.stat_result | None: ...

    def write_pieces(self, path: bytes, pieces: Iterator[Buffer]) -> os.stat_result | None: ...


class _Nowhere:
    """Takes files and keeps nothing."""

    path = "nowhere"

    def link(self, source: bytes, path: bytes) -> None:
        raise AssertionError("nothing is reused where nothing is written")

    def write(self, path: bytes, data: Buffer, *, look: bool = True) -> None:
        pass

    def write_pieces(self, path: bytes, pieces: Iterator[Buffer]) -> None:
        for _ in pieces:
            pass


class _Rows(NamedTuple):
    """The columns of a table as Python lists: faster than objects, and than looking at each value in Arrow."""

    path: list[bytes]
    size: list[int]
    hash: list[bytes]
    chunk: list[str]
    offset: list[int]
    stored: list[int]
    method: list[int]

    def member(self, row: int) -> Member:
        return Member(
            self.path[row], self.size[row], self.hash[row], self.offset[row], self.stored[row], self.method[row]
        )


class _Run(NamedTuple):
    """Members of one chunk that are read in one go: `length` bytes from `start`."""

    chunk: str
    start: int
    length: int
    rows: list[int]


class _Extraction:
    def __init__(
        self, folder: _Place, open_chunk: OpenChunk, workers: int | None, task: Task | None, *, look: bool
    ) -> None:
        self.files = self.bytes = self.linked = 0
        self._folder = folder
        self._open_chunk = open_chunk
        self._workers = workers
        self._look = look
        self._task = task
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._chunks: dict[str, RangedReader] = {}
        self.damage: dict[bytes, str] = {}

    def add(self, table: Table, reuse: Reuse | None, written: Written | None, twins: Twins | None) -> None:
        """Writes the files of one table."""
        rows = _rows(table)
        found = twins.first(rows.path) if twins else None
        if found:
            raise TargetError(
                f"the file system of {shown(self._folder.path)} can't tell {show(found[0])} from {show(found[1])}",
                hint="Choose a folder on a file system that minds case and Unicode forms, or rename one of the two.",
            )
        stats: list[os.stat_result | None] = [None] * len(rows.path)
        todo: Iterable[int] = range(len(rows.path))
        if reuse is not None:
            todo = self._link(rows, reuse(table), stats)
        self._do(list(_runs(rows, todo)), rows, stats)
        if written is not None and not self.damage:
            written(table, [found for found in stats if found is not None])

    def close(self) -> None:
        """Ends the threads; what they have not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def raise_damage(self) -> None:
        """Raises what was found damaged, all of it at once."""
        if not self.damage:
            return
        paths = sorted(self.damage)
        if len(paths) == 1:
            message = self.damage[paths[0]]
        else:
            lines = [f"- {self.damage[path]}" for path in paths[:_MOST_SHOWN]]
            more = [f"- and {len(paths) - _MOST_SHOWN} more"] if len(paths) > _MOST_SHOWN else []
            message = "\n".join([f"{len(paths)} files are damaged in the store:", *lines, *more])
        raise IntegrityError(
            message,
            paths=tuple(map(to_text, paths)),
            hint="Run `dataset-tasks verify` on the version; what is added again with the same content is stored anew.",
        )

    def _link(self, rows: _Rows, sources: Sequence[bytes | None], stats: list[os.stat_result | None]) -> list[int]:
        rest = []
        files = size = 0
        for row, source in enumerate(sources):
            found = self._folder.link(source, rows.path[row]) if source is not None else None
            if found is None:
                rest.append(row)
            else:
                stats[row] = found
                files += 1
                size += rows.size[row]
        self.linked += files
        self._count(files, size)
        return rest

    def _do(self, runs: Sequence[_Run], rows: _Rows, stats: list[os.stat_result | None]) -> None:
        files = sum(len(run.rows) for run in runs)
        pays = sum(run.length for run in runs) >= files * _THREADS_PAY
        workers = self._workers or (_THREADS if pays else 1)
        if workers == 1 or len(runs) < 2:
            for run in runs:
                self._extract(run, rows, stats)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="dataset-tasks-copy")
        futures = [self._pool.submit(self._extract, run, rows, stats) for run in runs]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

    def _extract(self, run: _Run, rows: _Rows, stats: list[os.stat_result | None]) -> None:
        try:
            chunk = self._chunk(run.chunk)
            if len(run.rows) == 1 and run.length > _LARGE:
                self._extract_large(chunk, run.rows[0], rows, stats)
            else:
                self._extract_small(chunk, run, rows, stats)
        except (IntegrityError, ObjectMissingError) as error:
            if len(run.rows) > 1 and isinstance(error, IntegrityError):  # cut short somewhere: which ones are whole?
                for row in run.rows:
                    self._extract(_Run(run.chunk, rows.offset[row], rows.stored[row], [row]), rows, stats)
                return
            with self._lock:
                for row in run.rows:
                    path = rows.path[row]
                    about = str(error.message) if show(path) in error.message else f"{show(path)}: {error.message}"
                    self.damage[path] = about

    def _extract_small(self, chunk: RangedReader, run: _Run, rows: _Rows, stats: list[os.stat_result | None]) -> None:
        data = memoryview(chunk.pread(run.start, run.length))
        files = size = 0
        write, look = self._folder.write, self._look
        paths, sizes, hashes, offsets, stored, methods = (
            rows.path,
            rows.size,
            rows.hash,
            rows.offset,
            rows.stored,
            rows.method,
        )
        for row in run.rows:
            start = offsets[row] - run.start
            packed = data[start : start + stored[row]]
            try:
                content = unpack(packed, paths[row], sizes[row], hashes[row], methods[row])
            except IntegrityError as error:
                with self._lock:
                    self.damage[paths[row]] = error.message
                continue
            stats[row] = write(paths[row], content, look=look)
            files += 1
            size += sizes[row]
        self._count(files, size)

    def _extract_large(self, chunk: RangedReader, row: int, rows: _Rows, stats: list[os.stat_result | None]) -> None:
        stats[row] = self._folder.write_pieces(rows.path[row], self._counted(member_pieces(chunk, rows.member(row))))
        self._count(1, 0)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._count(0, len(piece))

    def _count(self, files: int, size: int) -> None:
        with self._lock:
            self.files += files
            self.bytes += size
            if self._task is not None:
                self._task.advance(files=files, bytes=size)

    def _chunk(self, key: str) -> RangedReader:
        with self._lock:
            chunk = self._chunks.pop(key, None)
            if chunk is not None:
                self._chunks[key] = chunk
                return chunk
        chunk = self._open_chunk(key)
        with self._lock:
            self._chunks[key] = chunk
            for oldest in list(islice(self._chunks, max(len(self._chunks) - _MOST_OPEN_CHUNKS, 0))):
                del self._chunks[oldest]
        return chunk


def _rows(table: Table) -> _Rows:
    """The rows of a table, checked: every path is one, and every entry a file whose bytes are stored.

    Raises:
        IntegrityError: A path is none.
        StateError: An entry is pending or a link.
    """
    paths: list[bytes] = table.column("path").to_pylist()
    bad = first_fault(paths)
    if bad:
        raise IntegrityError(
            f"the manifest is damaged: path {show(bad[0])} {bad[1]}",
            paths=(to_text(bad[0]),),
            hint="Nothing was written there; restore the store from a copy.",
        )
    kinds: list[int] = table.column("kind").to_pylist()
    if any(kinds):
        path = paths[next(row for row, kind in enumerate(kinds) if kind)]
        raise StateError(
            f"{show(path)} is an external link, which a copy can't bring yet",
            hint="Copy the other files with `files=`.",
        )
    chunks: list[str | None] = table.column("chunk").to_pylist()
    known = [chunk for chunk in chunks if chunk is not None]
    if len(known) != len(chunks):
        raise StateError(
            f"{show(paths[chunks.index(None)])} is not stored yet", hint="Upload first.", kind="pending_uploads"
        )
    return _Rows(
        path=paths,
        size=table.column("size").to_pylist(),
        hash=table.column("hash").to_pylist(),
        chunk=known,
        offset=table.column("offset").to_pylist(),
        stored=table.column("stored").to_pylist(),
        method=table.column("method").to_pylist(),
    )


def _runs(rows: _Rows, todo: Iterable[int]) -> Iterator[_Run]:
    """Rows in the order of their bytes, those together that lie together."""
    chunks, offsets, stored = rows.chunk, rows.offset, rows.stored
    members: list[int] = []
    start = end = 0
    chunk = ""
    for row in sorted(todo, key=lambda row: (chunks[row], offsets[row])):
        offset = offsets[row]
        stop = offset + stored[row]
        if members and (chunks[row] != chunk or offset > end + _GAP or stop - start > _RUN):
            yield _Run(chunk, start, end - start, members)
            members = []
        if not members:
            chunk, start, end = chunks[row], offset, offset
        members.append(row)
        end = max(end, stop)
    if members:
        yield _Run(chunk, start, end - start, members)
