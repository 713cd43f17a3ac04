"""Applying changes to a manifest: new and changed entries, removals, places of uploaded bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.kernels import pc
from dataset_tasks.manifest.build import LIMITS, Builder, Built, Limits, Piece, Whole
from dataset_tasks.manifest.columns import (
    PLACEMENT_SCHEMA,
    SCHEMA,
    STORAGE_COLUMNS,
    binaries,
    bounds_of,
    conform,
    entry_problem,
    flat,
    lower_bound,
    path_problem,
    quoted,
)
from dataset_tasks.manifest.reading import BATCH_ROWS, Manifest, cut
from dataset_tasks.manifest.segments import PathRange, Segment
from dataset_tasks.model import ObjectRef

Removal: TypeAlias = bytes | PathRange
"""One path, or all paths of a range."""


def apply(
    base: Manifest,
    upserts: Iterable[pa.Table] = (),
    removals: Iterable[Removal] = (),
    *,
    new_key: Callable[[], str],
    store_id: str,
    objects: Mapping[str, ObjectRef] = MappingProxyType({}),
    limits: Limits = LIMITS,
) -> Built:
    """The manifest that results from removing some paths from `base` and then putting some entries in.

    Only segments that a change touches are read; memory grows with the new packs (some 45 bytes an entry) alone.

    Args:
        base: What to start from.
        upserts: Tables of entries (see `entries`), strictly increasing by path over all tables; read once, one by
            one. An entry whose path the base has takes its place.
        removals: Paths and ranges of paths, increasing and not overlapping; those the base does not have are ignored.
            A path that is put in as well is not removed.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        objects: References of chunks, by key, that upserts refer to and `base` does not know.
        limits: Sizes of the layout, for tests.

    Raises:
        InvalidArgumentError: The entries are not valid or not increasing, refer to an unknown chunk, or make a path
            both a file and a folder; the removals are not increasing.
        IntegrityError: A segment of the base can't be read.
    """
    builder = Builder([base], new_key=new_key, store_id=store_id, objects=objects, limits=limits)
    overlay = _Overlay(base, _Sorted(upserts, SCHEMA, entry_problem), _Removals(removals))
    index, packs = builder.build(overlay.pieces())
    return Built(index=index, packs=packs, added=overlay.added, replaced=overlay.replaced, removed=overlay.removed)


def place(
    base: Manifest,
    placed: Iterable[pa.Table],
    *,
    new_key: Callable[[], str],
    store_id: str,
    objects: Mapping[str, ObjectRef] = MappingProxyType({}),
    limits: Limits = LIMITS,
) -> Built:
    """The manifest with the same content as `base` in which some files lie elsewhere: what an upload does.

    Args:
        base: What to start from.
        placed: Tables of placements (see `placements`), strictly increasing by path over all tables; read once.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        objects: References of chunks, by key, that the placements refer to and `base` does not know.
        limits: Sizes of the layout, for tests.

    Raises:
        InvalidArgumentError: The placements are not increasing, refer to an unknown chunk, or are not about files of
            the base with just these hashes.
        IntegrityError: A segment of the base can't be read.
    """
    builder = Builder([base], new_key=new_key, store_id=store_id, objects=objects, limits=limits)
    changes = _Sorted(placed, PLACEMENT_SCHEMA, lambda table: path_problem(flat(table["path"])))
    replaced = 0
    for segment in base.index.segments:
        parts = list(changes.through(segment.last))
        whole = Whole(segment, base)
        if not parts:
            builder.keep(whole)
            continue
        table = pa.concat_tables(parts)
        builder.rewrite(whole, _placed(whole.rows(), table))
        replaced += len(table)
    beyond = changes.peek()
    if beyond is not None:
        raise _not_there(beyond)
    index, packs = builder.finish()
    return Built(index=index, packs=packs, replaced=replaced)


def _placed(table: pa.Table, placed: pa.Table) -> pa.Table:
    """A segment's rows with the storage columns of some of them replaced."""
    paths, hashes = flat(placed["path"]), flat(placed["hash"])
    positions = pc.index_in(paths, value_set=flat(table["path"]))
    if positions.null_count:
        raise _not_there(pc.filter(paths, pc.is_null(positions))[0].as_py())
    differs = pc.not_equal(flat(table["hash"]).take(positions), hashes)
    if pc.any(differs).as_py():
        raise InvalidArgumentError(
            f"bytes were stored for {quoted(pc.filter(paths, differs)[0].as_py())} whose hash is not that of the entry",
            hint="The file changed in between: add it again, then upload.",
        )
    back = pc.index_in(flat(table["path"]), value_set=paths)
    hit = pc.is_valid(back)
    for name in STORAGE_COLUMNS:
        column = pc.if_else(hit, flat(placed[name]).take(back), flat(table[name]))
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
    problem = entry_problem(table)
    if problem is not None:
        raise InvalidArgumentError(
            f"places of bytes are not valid: {problem}", hint="Only files have a place; offsets and sizes are bytes."
        )
    return table


def _not_there(path: bytes) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"bytes were stored for {quoted(path)}, which the manifest does not have",
        hint="It was removed in between: run the upload again.",
    )


class _Overlay:
    """The sorted stream of pieces that a base with changes gives, and how many paths were changed how."""

    def __init__(self, base: Manifest, upserts: _Sorted, removals: _Removals) -> None:
        self._base = base
        self._upserts = upserts
        self._removals = removals
        self.added = 0
        self.replaced = 0
        self.removed = 0

    def pieces(self) -> Iterator[Piece]:
        segments = self._base.index.segments
        for position, segment in enumerate(segments):
            # What lies between two segments belongs to the first of them, what lies before all to the first.
            bound = segments[position + 1].first if position + 1 < len(segments) else None
            changed = self._upserts.starts_below(bound)
            removals = self._removals.between(segment.first, segment.last)
            if not changed and not removals:
                yield Whole(segment, self._base)
            elif not changed and _covers(removals[0], segment):
                self.removed += segment.count
            elif not changed:
                kept = self._kept(Whole(segment, self._base).rows(), removals)
                # What was to be removed may not have been there.
                if len(kept) == segment.count:
                    yield Whole(segment, self._base)
                elif len(kept):
                    yield kept
            else:
                yield from self._merged(Whole(segment, self._base).rows(), removals, bound)
        if not segments:
            for table in self._upserts.below(None):
                self.added += len(table)
                yield table

    def _merged(self, old: pa.Table, removals: Sequence[Removal], bound: bytes | None) -> Iterator[pa.Table]:
        for new in self._upserts.below(bound):
            until = PathRange(end=bounds_of(new)[1] + b"\0")
            here = cut(old, until)
            old = old.slice(len(here))
            is_replaced = pc.is_in(flat(here["path"]), value_set=flat(new["path"]))
            rest = here.filter(pc.invert(is_replaced))
            self.replaced += len(here) - len(rest)
            self.added += len(new) - (len(here) - len(rest))
            yield merged_rows(self._kept(rest, removals), new)
        rest = self._kept(old, removals)
        if len(rest):
            yield rest

    def _kept(self, table: pa.Table, removals: Sequence[Removal]) -> pa.Table:
        count = len(table)
        paths = [removal for removal in removals if isinstance(removal, bytes)]
        if paths:
            table = table.filter(pc.invert(pc.is_in(flat(table["path"]), value_set=binaries(paths))))
        for removal in removals:
            if isinstance(removal, PathRange):
                inside = cut(table, removal)
                before = lower_bound(table["path"], removal.start)
                table = pa.concat_tables([table.slice(0, before), table.slice(before + len(inside))])
        self.removed += count - len(table)
        return table


def _covers(removal: Removal, segment: Segment) -> bool:
    return isinstance(removal, PathRange) and removal.covers(segment.first, segment.last)


def merged_rows(kept: pa.Table, new: pa.Table) -> pa.Table:
    """Two sorted tables that share no path as one sorted table."""
    if not len(kept):
        return new
    both = pa.concat_tables([kept, new])
    if bounds_of(kept)[1] < bounds_of(new)[0]:
        return both
    return both.take(pc.sort_indices(both["path"]))


class _Sorted:
    """Sorted tables read one by one, checked, and handed out up to a path."""

    def __init__(
        self, tables: Iterable[pa.Table], schema: pa.Schema, problem: Callable[[pa.Table], str | None]
    ) -> None:
        self._tables = _regrouped(conform(table, schema) for table in tables)
        self._problem = problem
        self._head: pa.Table | None = None
        self._last: bytes | None = None
        self._advance()

    def peek(self) -> bytes | None:
        """The next path, None at the end."""
        if self._head is None:
            return None
        path: bytes = self._head["path"][0].as_py()
        return path

    def starts_below(self, bound: bytes | None) -> bool:
        """Whether the next path exists and is below `bound` (None: any is)."""
        path = self.peek()
        return path is not None and (bound is None or path < bound)

    def through(self, path: bytes) -> Iterator[pa.Table]:
        """Hands out all rows up to and with a path."""
        return self.below(path + b"\0")

    def below(self, bound: bytes | None) -> Iterator[pa.Table]:
        """Hands out all rows below a bound, None for all that are left; each table has rows."""
        while self._head is not None and self.starts_below(bound):
            table = self._head
            stop = len(table) if bound is None else lower_bound(table["path"], bound)
            if stop < len(table):
                self._head = table.slice(stop)
            else:
                self._advance()
            yield table.slice(0, stop)

    def _advance(self) -> None:
        self._head = next(self._tables, None)
        if self._head is None:
            return
        problem = self._problem(self._head)
        first, last = bounds_of(self._head)
        if problem is None and self._last is not None and first <= self._last:
            problem = f"path {quoted(first)} comes after {quoted(self._last)}, strictly increasing paths expected"
        if problem is not None:
            raise InvalidArgumentError(
                f"entries to put into a manifest are not valid: {problem}",
                hint="Paths are UTF-8, relative and sorted by their bytes.",
            )
        self._last = last


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about `BATCH_ROWS`: many small ones joined, large ones cut up."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        for start in range(0, len(table), BATCH_ROWS):
            waiting.append(table.slice(start, BATCH_ROWS))
            count += len(waiting[-1])
            if count >= BATCH_ROWS:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, count = [], 0
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


class _Removals:
    """Paths and ranges to remove, sorted and not overlapping; there may be a million of them."""

    def __init__(self, removals: Iterable[Removal]) -> None:
        self._sorted = list(removals)
        free = b""
        for removal in self._sorted:
            start, end = _start(removal), _end(removal)
            if start < free or end <= start:
                raise InvalidArgumentError(
                    f"the removal from {quoted(start)} overlaps the one before, is empty or not in order",
                    hint="Give paths and ranges sorted by their bytes, none twice.",
                )
            free = end

    def between(self, first: bytes, last: bytes) -> Sequence[Removal]:
        """Those that may hit something from `first` to `last`, both included."""
        start = bisect_right(self._sorted, first, key=_end)
        stop = bisect_right(self._sorted, last, key=_start)
        return self._sorted[start:stop]


def _start(removal: Removal) -> bytes:
    return removal if isinstance(removal, bytes) else removal.start


def _end(removal: Removal) -> bytes:
    if isinstance(removal, bytes):
        return removal + b"\0"
    # No UTF-8 text has the byte 0xff, so this lies behind every path.
    return b"\xff" if removal.end is None else removal.end
