"""Packs as objects: new ones being filled, stored ones being read with little memory."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

import pyarrow as pa

from dataset_tasks.errors import IntegrityError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.manifest.codec import HINT_DAMAGED, PackDecoder, PackEncoder
from dataset_tasks.manifest.columns import (
    COLUMNS,
    CONTENT_COLUMNS,
    bounds_of,
    entry_problem,
    flat,
    path_problem,
    quoted,
)
from dataset_tasks.manifest.digest import segment_digest
from dataset_tasks.manifest.index import Index
from dataset_tasks.manifest.segments import Segment
from dataset_tasks.manifest.sources import Sources
from dataset_tasks.model import ObjectRef

MAX_SEGMENTS = 1024
"""Segments in one pack, at most."""

CACHE_BYTES = 128 << 20
"""Bytes of encoded row groups that a reader keeps, about three million entries."""

KEPT_ROWS = 1 << 16
"""Rows that a reader keeps decoded for those who ask for it, some 13 MiB: a change looks at a segment, then rewrites it."""

ReadObject = Callable[[ObjectRef], Buffer]
"""Fetches a whole object and checks its size and SHA-256."""


class PackWriter:
    """Fills packs with segments, one after the other.

    Args:
        new_key: Gives a fresh object key for each pack.
        store_id: The store they will be put in.
        max_segments: Segments in one pack.
    """

    def __init__(self, new_key: Callable[[], str], store_id: str, max_segments: int = MAX_SEGMENTS) -> None:
        self._new_key = new_key
        self._store_id = store_id
        self._max_segments = max_segments
        self._encoder: PackEncoder | None = None
        self._key = ""
        self._finished: list[tuple[str, Buffer]] = []
        self._refs: list[ObjectRef] = []

    def add(self, table: pa.Table) -> tuple[str, int, Sources]:
        """Appends a segment and gives the key and row group where it will be, and the sources of its rows."""
        if self._encoder is not None and self._encoder.groups >= self._max_segments:
            self._close()
        if self._encoder is None:
            self._encoder, self._key = PackEncoder(), self._new_key()
        return self._key, *self._encoder.add(table)

    def finish(self) -> tuple[tuple[tuple[str, Buffer], ...], tuple[ObjectRef, ...]]:
        """All packs as pairs of key and data, and their references."""
        self._close()
        return tuple(self._finished), tuple(self._refs)

    def _close(self) -> None:
        if self._encoder is None:
            return
        data = self._encoder.finish()
        self._encoder = None
        self._finished.append((self._key, data))
        sha256 = hashlib.sha256(data).hexdigest()
        self._refs.append(ObjectRef(store_id=self._store_id, key=self._key, size=len(data), sha256=sha256))


class PackReader:
    """Reads the segments of one index; may be used by several threads, which then wait for each other.

    Of each pack only the row groups that the index refers to are kept, so that a version whose parents left many
    mostly dead packs behind takes no more memory than one with a single pack.
    """

    def __init__(self, index: Index, read_object: ReadObject, cache_bytes: int = CACHE_BYTES) -> None:
        self._objects: Mapping[str, ObjectRef] = index.objects
        self._read_object = read_object
        self._cache_bytes = cache_bytes
        self._groups: dict[str, list[int]] = {}
        for segment in index.segments:
            self._groups.setdefault(segment.pack, []).append(segment.group)
        self._open: OrderedDict[str, tuple[PackDecoder, int]] = OrderedDict()
        self._kept: dict[tuple[str, int], pa.Table] = {}
        self._room = KEPT_ROWS
        self._lock = Lock()

    def read(self, segment: Segment, columns: Sequence[str] = COLUMNS, *, keep: bool = False) -> pa.Table:
        """The rows of a segment, some columns in the order of the schema.

        Args:
            segment: One of the index.
            columns: Their names.
            keep: Whether it will soon be read again, with all columns: then it is not decoded again, as far as there is room.

        Raises:
            IntegrityError: They can't be decoded or are not what the index says.
        """
        wanted = [name for name in COLUMNS if name in columns]
        place = segment.pack, segment.group
        with self._lock:
            kept = self._kept.get(place)
            if kept is not None:
                return kept.select(wanted)
            # What is full is left as it is: to make room would throw out what a second pass wants first.
            keep = keep and segment.count <= self._room
            read = COLUMNS if keep else wanted
            table = self._decoder(segment.pack).read(segment.group, read, segment.sources)
        _check(table, segment)
        if keep:
            with self._lock:
                if self._kept.setdefault(place, table) is table:
                    self._room -= len(table)
        return table.select(wanted) if keep else table

    def _decoder(self, key: str) -> PackDecoder:
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][0]
        data = self._read_object(self._objects[key])
        decoder = PackDecoder(pa.BufferReader(data), key)
        missing = [group for group in self._groups[key] if group >= decoder.group_count()]
        if missing:
            raise IntegrityError(
                f"pack {key!r} has {decoder.group_count()} row groups, the index refers to {missing}",
                hint=HINT_DAMAGED,
            )
        size = len(data)
        if len(self._groups[key]) < decoder.group_count() // 2:  # to look at every group would take long
            spans = [decoder.group_span(group) for group in self._groups[key]]
            size = sum(end - start for start, end in spans)
            decoder = PackDecoder(pa.PythonFile(_SparseFile(data, spans), mode="r"), key, footer=decoder.footer)
        self._open[key] = (decoder, size)
        while len(self._open) > 1 and sum(kept for _, kept in self._open.values()) > self._cache_bytes:
            self._open.popitem(last=False)
        return decoder


def _check(table: pa.Table, segment: Segment) -> None:
    """Compares rows with what the index says of them.

    Raises:
        IntegrityError: They differ, or the paths are not valid.
    """
    what = f"segment {segment.group} of pack {segment.pack!r}"
    if len(table) != segment.count:
        raise IntegrityError(f"{what} has {len(table)} entries, expected {segment.count}", hint=HINT_DAMAGED)
    names = table.column_names
    if "path" not in names:
        return
    found = bounds_of(table)
    if found != (segment.first, segment.last):
        expected = f"{quoted(segment.first)} to {quoted(segment.last)}"
        raise IntegrityError(
            f"{what} goes from {quoted(found[0])} to {quoted(found[1])}, expected {expected}", hint=HINT_DAMAGED
        )
    problem = entry_problem(table) if len(names) == len(COLUMNS) else path_problem(flat(table["path"]))
    if problem is not None:
        raise IntegrityError(f"{what}: {problem}", hint=HINT_DAMAGED)
    if all(name in names for name in CONTENT_COLUMNS) and segment_digest(table) != segment.digest:
        raise IntegrityError(f"{what} is not the content that the index names", hint=HINT_DAMAGED)


class _SparseFile(io.RawIOBase):
    """A file of which only some spans are kept."""

    def __init__(self, data: Buffer, spans: Iterable[tuple[int, int]]) -> None:
        super().__init__()
        self._size = len(data)
        kept: list[list[int]] = []
        for start, end in sorted(spans):
            if kept and start <= kept[-1][1]:
                kept[-1][1] = max(kept[-1][1], end)
            else:
                kept.append([start, end])
        self._starts = [start for start, _ in kept]
        self._parts = [bytes(data[start:end]) for start, end in kept]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = self._size - self._position
        part = bisect_right(self._starts, self._position) - 1
        start = self._position - self._starts[part]
        found = self._parts[part][start : start + size]
        if len(found) < min(size, self._size - self._position):
            raise OSError(f"bytes {self._position} to {self._position + size} were not kept")
        self._position += len(found)
        return found
