"""The engine of copies and of verify: entries read from their chunks in big pieces, each file verified, then handed on.

Neighbours in a chunk are read together, a few MiB at a time. Small files are handled one after another in this thread,
where a second one would only fight over the interpreter; larger ones by a few threads, because hashing, inflating and
writing let it go.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from dataset_tasks.errors import IntegrityError, ObjectMissingError, SourceError, StateError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.members import ForeseeingReader, Member, RangedReader, member_pieces, unpack
from dataset_tasks.paths import first_fault, show, to_text
from dataset_tasks.progress import Task

Table: TypeAlias = "pa.Table | pa.RecordBatch"
OpenChunk: TypeAlias = Callable[[str], RangedReader]
#: Of a link its URL, pin and size (bytes): gives the bytes of just that pin in pieces, or raises a `SourceError`.
FetchLink: TypeAlias = Callable[[str, str, int], Iterator[bytes]]
Stats: TypeAlias = "list[os.stat_result | None]"

_RUN: Final = 4 << 20
_GAP: Final = 32 << 10
_LARGE: Final = 8 << 20
_THREADS_PAY: Final = 128 << 10
_THREADS: Final = 2
_MOST_OPEN_CHUNKS: Final = 8
_LINKS_AT_ONCE: Final = 8
#: With so many links that can't be brought nothing more is asked: each may take as long as a time-out.
_MOST_BROKEN: Final = 20


class Place(Protocol):
    """Where verified files go; a `targets.Target` is one. Thread-safe."""

    def link(self, source: bytes, path: bytes) -> os.stat_result | None:
        """Makes a hard link to a file; None where that can't be."""

    def write(self, path: bytes, data: Buffer, *, look: bool) -> os.stat_result | None:
        """Makes a file of these bytes."""

    def write_pieces(self, path: bytes, pieces: Iterator[Buffer]) -> os.stat_result | None:
        """Makes a file of what the pieces hold; what they raise leaves no file."""


class Nowhere:
    """In the place of a target: takes everything and keeps nothing."""

    def link(self, _source: bytes, _path: bytes) -> None:
        """Nothing can be linked from nowhere."""

    def write(self, _path: bytes, _data: Buffer, *, look: bool) -> None:
        """Nothing to do: the content is verified already."""

    def write_pieces(self, _path: bytes, pieces: Iterator[Buffer]) -> None:
        """Lets the pieces verify themselves."""
        deque(pieces, maxlen=0)


class Rows(NamedTuple):
    """Columns of entries as Python lists: faster than objects, and than looking at each value in Arrow."""

    path: list[bytes]
    kind: list[int]
    size: list[int]
    hash: list[bytes]
    chunk: list[str]
    offset: list[int]
    stored: list[int]
    method: list[int]
    links: dict[int, tuple[str, str]]
    """URL and pin, by row, of the rows that are links."""

    def member(self, row: int) -> Member:
        """Where the bytes of a row are."""
        return Member(
            self.path[row], self.size[row], self.hash[row], self.offset[row], self.stored[row], self.method[row]
        )


def read_rows(table: Table, *, links: bool = False) -> Rows:
    """The rows of a table, checked: every path is one, and the bytes of every file are stored.

    Args:
        table: With the columns that `Rows` names, and `link` and `pin` where there are links.
        links: Let links pass; else they are refused.

    Raises:
        IntegrityError: A path is none.
        StateError: An entry is pending, or a link.
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
    chunks: list[str | None] = table.column("chunk").to_pylist()
    if None in chunks:
        _check_stored(paths, kinds, chunks, links=links)
    held = [row for row, kind in enumerate(kinds) if kind] if None in chunks else []
    return Rows(
        path=paths,
        kind=kinds,
        size=table.column("size").to_pylist(),
        hash=table.column("hash").to_pylist(),
        chunk=[chunk or "" for chunk in chunks],
        offset=table.column("offset").to_pylist(),
        stored=table.column("stored").to_pylist(),
        method=table.column("method").to_pylist(),
        links=_links(table, held) if held else {},
    )


def _links(table: Table, held: Iterable[int]) -> dict[int, tuple[str, str]]:
    urls, pins = table.column("link").to_pylist(), table.column("pin").to_pylist()
    return {row: (urls[row], pins[row] or "") for row in held}


def _check_stored(paths: list[bytes], kinds: list[int], chunks: list[str | None], *, links: bool) -> None:
    for path, kind, chunk in zip(paths, kinds, chunks, strict=True):
        if kind and not links:
            raise StateError(
                f"{show(path)} is an external link, which this copy does not bring",
                hint="Copy the other files with `files=`.",
                kind="external_link",
            )
        if chunk is None and not kind:
            raise StateError(f"{show(path)} is not stored yet", hint="Upload first.", kind="pending_uploads")


class _Run(NamedTuple):
    """Members of one chunk that are read in one go: `length` bytes from `start`. One alone may be `large`."""

    chunk: str
    start: int
    length: int
    rows: list[int]
    large: bool = False


def _runs(rows: Rows, todo: Iterable[int]) -> Iterator[_Run]:
    """Rows in the order of their bytes, those together that lie together."""
    chunks, offsets, stored, sizes = rows.chunk, rows.offset, rows.stored, rows.size
    members: list[int] = []
    start = end = 0
    chunk = ""
    for row in sorted(todo, key=lambda row: (chunks[row], offsets[row])):
        offset = offsets[row]
        if stored[row] > _LARGE or sizes[row] > _LARGE:
            yield _Run(chunks[row], offset, stored[row], [row], large=True)
            continue
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


class Extraction:
    """Brings the files of tables to a place, one table at a time.

    Args:
        place: Where they go.
        open_chunk: Opens the chunk with that key; readers are used from several threads.
        workers: Threads; None chooses.
        task: Is told of progress.
        look: Whether `add` is to tell what `stat` says of the files.
        fetch_link: Brings the bytes of external links; without it they are passed over.

    Attributes:
        files, bytes, linked: What was brought; `linked` of the files are hard links.
        broken: The error, by path, of the external links that can't be brought.
        damage: What is wrong, by path, of the files whose bytes are missing or not what they should be.
    """

    def __init__(
        self,
        place: Place,
        open_chunk: OpenChunk,
        workers: int | None,
        task: Task | None,
        *,
        look: bool,
        fetch_link: FetchLink | None = None,
    ) -> None:
        self.files = self.bytes = self.linked = 0
        self.damage: dict[bytes, str] = {}
        self.broken: dict[bytes, SourceError] = {}
        self._fetch_link = fetch_link
        self._place = place
        self._open_chunk = open_chunk
        self._workers = workers
        self._task = task
        self._look = look
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._chunks: dict[str, RangedReader] = {}

    def add(self, rows: Rows, sources: Sequence[bytes | None] | None = None) -> Stats:
        """Brings the files of some rows; those with a source as hard links to it, where that can be.

        Raises:
            TargetError: The place can't take them.
            StorageError: A disk is full or fails, or the store does not answer.
        """
        stats: Stats = [None] * len(rows.path)
        todo = [row for row, kind in enumerate(rows.kind) if not kind]
        if sources is not None:
            todo = [row for row in todo if not self._link(rows, row, sources[row], stats)]
        runs = list(_runs(rows, todo))
        workers = self._workers or self._choose(runs, len(todo))
        if workers == 1 or len(runs) < 2:
            for run in runs:
                self._extract(run, rows, stats)
        else:
            self._extract_all(workers, runs, rows, stats)
        if rows.links and self._fetch_link is not None:
            self._bring_links(self._fetch_link, rows, stats)
        return stats

    @property
    def is_hopeless(self) -> bool:
        """Whether so many links are broken that going on is a waste of time."""
        return len(self.broken) >= _MOST_BROKEN

    def close(self) -> None:
        """Ends the threads; what they have not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _choose(self, runs: Sequence[_Run], files: int) -> int:
        return _THREADS if sum(run.length for run in runs) >= files * _THREADS_PAY else 1

    def _link(self, rows: Rows, row: int, source: bytes | None, stats: Stats) -> bool:
        found = self._place.link(source, rows.path[row]) if source is not None else None
        if found is None:
            return False
        stats[row] = found
        self.linked += 1
        self._count(1, rows.size[row])
        return True

    def _bring_links(self, fetch: FetchLink, rows: Rows, stats: Stats) -> None:
        workers = min(self._workers or _LINKS_AT_ONCE, len(rows.links))
        with ThreadPoolExecutor(workers, thread_name_prefix="dataset-tasks-links") as pool:
            futures = [pool.submit(self._bring_link, fetch, row, rows, stats) for row in rows.links]
            try:
                for future in futures:
                    future.result()
            finally:
                for future in futures:
                    future.cancel()

    def _bring_link(self, fetch: FetchLink, row: int, rows: Rows, stats: Stats) -> None:
        if self.is_hopeless:
            return
        pieces = self._counted(fetch(*rows.links[row], rows.size[row]))
        try:
            stats[row] = self._place.write_pieces(rows.path[row], pieces)
        except SourceError as error:
            with self._lock:
                self.broken[rows.path[row]] = error
            return
        self._count(1, 0)

    def _extract_all(self, workers: int, runs: Sequence[_Run], rows: Rows, stats: Stats) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="dataset-tasks-copy")
        futures = [self._pool.submit(self._extract, run, rows, stats) for run in runs]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

    def _extract(self, run: _Run, rows: Rows, stats: Stats) -> None:
        try:
            chunk = self._chunk(run.chunk)
            if run.large:
                try:
                    self._extract_large(chunk, run.rows[0], rows, stats)
                except IntegrityError:  # on the way, or in the store? A reader of its own has nothing kept of the first
                    self._extract_large(self._open_chunk(run.chunk), run.rows[0], rows, stats)
            else:
                self._extract_small(chunk, run, rows, stats)
        except ObjectMissingError as error:
            self._damaged(run.rows, rows, error.message)
        except IntegrityError as error:
            if len(run.rows) == 1:
                self._damaged(run.rows, rows, error.message)
                return
            for row in run.rows:  # the chunk ends too early: which of them are whole?
                self._extract(_Run(run.chunk, rows.offset[row], rows.stored[row], [row]), rows, stats)

    def _extract_small(self, chunk: RangedReader, run: _Run, rows: Rows, stats: Stats) -> None:
        data = memoryview(chunk.pread(run.start, run.length))
        files = size = 0
        write, look = self._place.write, self._look
        for row in run.rows:
            path, expected = rows.path[row], rows.size[row]
            start = rows.offset[row] - run.start
            packed = data[start : start + rows.stored[row]]
            try:
                content = unpack(packed, path, expected, rows.hash[row], rows.method[row])
            except IntegrityError:
                again = self._read_again(run.chunk, row, rows)
                if again is None:
                    continue
                content = again
            stats[row] = write(path, content, look=look)
            files += 1
            size += expected
        self._count(files, size)

    def _read_again(self, chunk: str, row: int, rows: Rows) -> Buffer | None:
        """The bytes of a row that came damaged, if that happened on the way; None where they are so in the store."""
        try:
            data = self._open_chunk(chunk).pread(rows.offset[row], rows.stored[row])
            return unpack(data, rows.path[row], rows.size[row], rows.hash[row], rows.method[row])
        except IntegrityError as error:
            self._damaged([row], rows, error.message)
            return None

    def _extract_large(self, chunk: RangedReader, row: int, rows: Rows, stats: Stats) -> None:
        if isinstance(chunk, ForeseeingReader):
            chunk.expect(rows.offset[row], rows.stored[row])
        pieces = self._counted(member_pieces(chunk, rows.member(row)))
        stats[row] = self._place.write_pieces(rows.path[row], pieces)
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

    def _damaged(self, which: Iterable[int], rows: Rows, message: str) -> None:
        with self._lock:
            for row in which:
                name = show(rows.path[row])
                self.damage[rows.path[row]] = message if message.startswith(name) else f"{name}: {message}"

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
