"""Reading a manifest: whole, in part, or one entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress

import pyarrow as pa

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest.columns import COLUMNS, SCHEMA, Entry, empty, int64s, lower_bound, rows
from dataset_tasks.manifest.index import EMPTY, Index
from dataset_tasks.manifest.packs import CACHE_BYTES, PackReader, ReadObject
from dataset_tasks.manifest.segments import Path, PathRange, Segment
from dataset_tasks.model import ObjectRef

EVERYTHING = PathRange()
"""The range of all paths."""

BATCH_ROWS = 16384
"""Rows of one batch, roughly: many small tables cost more than they save."""


class Manifest:
    """The entries of a version, read on demand; opening one reads nothing.

    Args:
        index: Which segments there are and where.
        read_object: Fetches a whole object and checks its size and SHA-256. It is called again for a pack that was
            dropped from the cache.
        cache_bytes: Encoded bytes to keep.

    >>> len(Manifest.empty())
    0
    """

    __slots__ = ("_packs", "index", "read_object")

    def __init__(self, index: Index, read_object: ReadObject, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.index = index
        self.read_object = read_object
        self._packs = PackReader(index, read_object, cache_bytes)

    @classmethod
    def empty(cls) -> Manifest:
        """The manifest without entries."""
        return cls(EMPTY, _nothing_to_read)

    def __len__(self) -> int:
        return self.index.files

    def __repr__(self) -> str:
        return f"<Manifest of {self.index.files} entries in {len(self.index.segments)} segments>"

    @property
    def bytes(self) -> int:
        """Sum of all sizes, from the index alone."""
        return self.index.bytes

    @property
    def content_hash(self) -> str:
        """Equal for two manifests exactly when they have the same content (path, kind, size, hash, link, pin)."""
        return self.index.content_hash

    def read(self, segment: Segment, columns: Sequence[str] = COLUMNS, *, keep: bool = False) -> pa.Table:
        """The rows of one segment of this manifest; with `keep` it is decoded once for this read and later ones.

        Raises:
            IntegrityError: They can't be decoded or are not what the index says.
        """
        return self._packs.read(segment, columns, keep=keep)

    def batches(self, columns: Sequence[str] = COLUMNS, *, within: PathRange = EVERYTHING) -> Iterator[pa.Table]:
        """All entries of a range as tables of about `BATCH_ROWS` rows, sorted by path, each with at least one row.

        Only segments that may hold such paths are read; a table has some columns in the order of the schema.

        Raises:
            InvalidArgumentError: There is no such column.
            IntegrityError: A segment can't be decoded or is not what the index says.
        """
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise InvalidArgumentError(f"manifests have no columns {unknown}", hint=f"They have {', '.join(COLUMNS)}.")
        return self._batches(columns, within)

    def _batches(self, columns: Sequence[str], within: PathRange) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        count = 0
        for segment in self.index.overlapping(within):
            if within.covers(segment.first, segment.last):
                table = self.read(segment, columns)
            else:
                table = cut(self.read(segment, (*columns, "path")), within).select(ordered(columns))
            waiting.append(table)
            count += len(table)
            if count >= BATCH_ROWS:
                yield pa.concat_tables(waiting)
                waiting, count = [], 0
        if count:
            yield pa.concat_tables(waiting)

    def to_table(self, columns: Sequence[str] = COLUMNS, *, within: PathRange = EVERYTHING) -> pa.Table:
        """All entries of a range as one table: some 200 bytes of memory an entry when all columns are taken.

        Raises:
            InvalidArgumentError: There is no such column.
            IntegrityError: A segment can't be decoded or is not what the index says.
        """
        tables = list(self.batches(columns, within=within))
        return (
            pa.concat_tables(tables) if tables else empty(pa.schema([SCHEMA.field(name) for name in ordered(columns)]))
        )

    def select(
        self,
        matches: Callable[[Sequence[Path]], Sequence[bool]],
        columns: Sequence[str] = COLUMNS,
        *,
        within: PathRange = EVERYTHING,
    ) -> Iterator[pa.Table]:
        """The entries of a range whose path fits, as for `batches`.

        Args:
            matches: Says of each of some paths whether it is wanted, as many answers as paths.
            columns: Columns to read.
            within: A range that is known to hold all of them; what lies outside is not read.

        Raises:
            InvalidArgumentError: There is no such column.
            IntegrityError: A segment can't be decoded or is not what the index says.
        """
        for table in self.batches((*columns, "path"), within=within):
            chosen = list(compress(range(len(table)), matches(table["path"].to_pylist())))
            if len(chosen) == len(table):
                yield table.select(ordered(columns))
            elif chosen:
                yield table.select(ordered(columns)).take(int64s(chosen))

    def entries_under(self, folder: str, columns: Sequence[str] = COLUMNS) -> Iterator[pa.Table]:
        """The entries below a folder at any depth, as for `batches`; the empty folder is the root."""
        return self.batches(columns, within=PathRange.under(folder.encode()))

    def find(self, path: str) -> Entry | None:
        """One entry, or None; decodes one segment.

        Raises:
            IntegrityError: The segment can't be decoded or is not what the index says.
        """
        wanted = path.encode(errors="surrogatepass")  # what is no UTF-8 is in no manifest
        segment = self.index.locate(wanted)
        if segment is None:
            return None
        table = self.read(segment)
        position = lower_bound(table["path"], wanted)
        found = next(rows(table.slice(position, 1)), None)
        return found if found is not None and found.path == wanted else None

    def entries(self, *, within: PathRange = EVERYTHING) -> Iterator[Entry]:
        """All entries of a range one by one, sorted by path."""
        for table in self.batches(within=within):
            yield from rows(table)


def ordered(columns: Sequence[str]) -> list[str]:
    """Column names in the order of the schema, none twice."""
    return [name for name in COLUMNS if name in columns]


def cut(table: pa.Table, span: PathRange) -> pa.Table:
    """The rows of a sorted table whose path lies in a range."""
    start = lower_bound(table["path"], span.start)
    stop = len(table) if span.end is None else lower_bound(table["path"], span.end)
    return table.slice(start, max(stop - start, 0))


def _nothing_to_read(ref: ObjectRef) -> bytes:
    raise AssertionError(f"an empty manifest has no objects, asked for {ref.key!r}")
