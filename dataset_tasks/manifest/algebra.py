"""Manifests compared and laid over each other, skipping the segments they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dataset_tasks.filesystem import Buffer
from dataset_tasks.kernels import pc
from dataset_tasks.manifest.build import LIMITS, Builder, Built, Limits, Piece, Whole
from dataset_tasks.manifest.columns import COLUMNS, CONTENT_COLUMNS, FALSE, SCHEMA, bounds_of, empty, flat
from dataset_tasks.manifest.overlay import apply, merged_rows
from dataset_tasks.manifest.reading import Manifest, cut, ordered
from dataset_tasks.manifest.segments import PathRange, Segment
from dataset_tasks.model import Change, Diff


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffColumns:
    """What differs between two manifests, as columns; the three tables partition the difference.

    Attributes:
        added: `path` and `size` (bytes) of entries only the new one has, sorted by path.
        modified: `path`, `old_size` and `new_size` of entries with other content, sorted by path.
        removed: `path` and `size` of entries only the old one has, sorted by path.
    """

    added: pa.Table
    modified: pa.Table
    removed: pa.Table

    def __len__(self) -> int:
        return len(self.added) + len(self.modified) + len(self.removed)

    def to_model(self) -> Diff:
        """The difference as values, one object a path."""
        added = zip(*(column.to_pylist() for column in self.added.columns), strict=True)
        modified = zip(*(column.to_pylist() for column in self.modified.columns), strict=True)
        removed = zip(*(column.to_pylist() for column in self.removed.columns), strict=True)
        return Diff(
            added=tuple(Change(path=path.decode(), new_size=size) for path, size in added),
            modified=tuple(Change(path=path.decode(), old_size=old, new_size=new) for path, old, new in modified),
            removed=tuple(Change(path=path.decode(), old_size=size) for path, size in removed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """One stretch of the difference between two manifests; each table is sorted by path and may be empty.

    `before` and `after` are the modified entries, row by row the same paths.
    """

    added: pa.Table
    before: pa.Table
    after: pa.Table
    removed: pa.Table


def changes(old: Manifest, new: Manifest, columns: Sequence[str] = CONTENT_COLUMNS) -> Iterator[Changes]:
    """The difference between two manifests stretch by stretch, sorted by path, with some columns.

    Equal segments are skipped; memory does not grow with the manifests.

    Raises:
        IntegrityError: A segment can't be read.
    """
    wanted = (*CONTENT_COLUMNS, *columns)
    left, right = _Head(old, wanted), _Head(new, wanted)
    while left.first is not None or right.first is not None:
        if left.same_segment(right):
            left.skip()
            right.skip()
            continue
        bound = min(head.last for head in (left, right) if head.first is not None)
        yield _compared(left.through(bound), right.through(bound))


def diff(old: Manifest, new: Manifest) -> DiffColumns:
    """What was added, modified and removed from `old` to `new`, by content: path, kind, size, hash, link and pin.

    Equal segments are skipped, so the cost follows the change.

    Raises:
        IntegrityError: A segment can't be read.
    """
    added, modified, removed = [_sizes(empty(), "size")], [_both_sizes(empty(), empty())], [_sizes(empty(), "size")]
    for part in changes(old, new):
        added.append(_sizes(part.added, "size"))
        modified.append(_both_sizes(part.before, part.after))
        removed.append(_sizes(part.removed, "size"))
    return DiffColumns(
        added=pa.concat_tables(added), modified=pa.concat_tables(modified), removed=pa.concat_tables(removed)
    )


def merge(
    manifests: Sequence[Manifest],
    *,
    new_key: Callable[[], str],
    store_id: str,
    limits: Limits = LIMITS,
) -> Built:
    """All entries of some manifests; of a path that several have, the entry of the last of these stands.

    Segments that are equal in all that reach there, or alone in their range, are taken over unread.

    Args:
        manifests: In the order in which they are laid over each other.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        limits: Sizes of the layout, for tests.

    Raises:
        InvalidArgumentError: A path would be both a file and a folder.
        IntegrityError: A segment can't be read.
    """
    builder = Builder(manifests, new_key=new_key, store_id=store_id, limits=limits)
    index, packs = builder.build(_merged(manifests))
    return Built(index=index, packs=packs)


def squash(
    base: Manifest,
    steps: Iterable[tuple[Manifest, Manifest]],
    *,
    new_key: Callable[[], str],
    store_id: str,
    limits: Limits = LIMITS,
) -> Built:
    """The manifest that results from making the changes of several versions to `base`, one after the other.

    Of each step everything that its second manifest has added or modified against its first is put in, everything it
    has removed is taken out. Entries keep their owner and their place. Counts are summed over the steps.

    Args:
        base: What to start from.
        steps: Pairs of what a version started from and what it became.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        limits: Sizes of the layout, for tests.

    Raises:
        InvalidArgumentError: A path would be both a file and a folder after one of the steps.
        IntegrityError: A segment can't be read.
    """
    built = Built(index=base.index)
    packs: dict[str, Buffer] = {}
    for old, new in steps:
        after = apply(
            Built(index=built.index, packs=tuple(packs.items())).manifest(base.read_object),
            _put(old, new),
            _gone(old, new),
            new_key=new_key,
            store_id=store_id,
            objects=new.index.objects,
            limits=limits,
        )
        packs.update(after.packs)
        packs = {key: data for key, data in packs.items() if key in after.index.objects}
        built = Built(
            index=after.index,
            packs=tuple(packs.items()),
            added=built.added + after.added,
            replaced=built.replaced + after.replaced,
            removed=built.removed + after.removed,
        )
    return built


class _Head:
    """Where a sweep through sorted manifests stands in one of them: before a segment, or within one it has read."""

    def __init__(self, manifest: Manifest, columns: Sequence[str] = COLUMNS) -> None:
        self.manifest = manifest
        self._columns = columns
        self._following = iter(manifest.index.segments)
        self.skip()

    def skip(self) -> None:
        """Goes on to the next segment without reading this one."""
        segment = next(self._following, None)
        self.segment: Segment | None = segment
        self._rows = empty()
        self.first = None if segment is None else segment.first
        self.last = b"" if segment is None else segment.last

    def same_segment(self, other: _Head) -> bool:
        """Whether both stand before segments with the same content."""
        return self.segment is not None and other.segment is not None and self.segment.digest == other.segment.digest

    def through(self, bound: bytes) -> pa.Table:
        """The rows up to and with a path that is not behind the present segment; goes on behind them."""
        if self.first is None or self.first > bound:
            return empty(pa.schema([SCHEMA.field(name) for name in ordered(self._columns)]))
        rows = self._rows
        if self.segment is not None:
            rows = self.manifest.read(self.segment, self._columns)
            self.segment = None
        if self.last <= bound:
            self.skip()
            return rows
        here = cut(rows, PathRange(end=bound + b"\0"))
        self._rows = rows.slice(len(here))
        self.first, _ = bounds_of(self._rows)
        return here


def _merged(manifests: Sequence[Manifest]) -> Iterator[Piece]:
    """The sorted stream of pieces of a merge."""
    heads = [_Head(manifest) for manifest in manifests]
    while reached := [(head.first, head) for head in heads if head.first is not None]:
        _, lead = min(reached, key=lambda item: item[0])
        near = [head for first, head in reached if first <= lead.last]
        winner = near[-1]
        if winner.segment is not None and all(head.same_segment(winner) for head in near):
            yield Whole(winner.segment, winner.manifest)
            for head in near:
                head.skip()
        else:
            bound = min(head.last for head in near)
            yield _laid_over([head.through(bound) for head in near])


def _laid_over(layers: Sequence[pa.Table]) -> pa.Table:
    """Sorted tables as one; of a path that several have, the row of the last of these stands."""
    below = layers[0]
    for layer in layers[1:]:
        if not len(layer):
            continue
        hidden = pc.is_in(flat(below["path"]), value_set=flat(layer["path"]))
        below = merged_rows(below.filter(pc.invert(hidden)), layer)
    return below


def _compared(old: pa.Table, new: pa.Table) -> Changes:
    """What differs between two sorted tables."""
    if not len(old) or not len(new):
        return Changes(added=new, before=old.slice(0, 0), after=new.slice(0, 0), removed=old)
    if flat(old["path"]).equals(flat(new["path"])):
        differs = _content_differs(old, new)
        return Changes(
            added=new.slice(0, 0), before=old.filter(differs), after=new.filter(differs), removed=old.slice(0, 0)
        )
    positions = pc.index_in(flat(new["path"]), value_set=flat(old["path"]))
    before, after = old.take(pc.drop_null(positions)), new.filter(pc.is_valid(positions))
    differs = _content_differs(before, after)
    return Changes(
        added=new.filter(pc.is_null(positions)),
        before=before.filter(differs),
        after=after.filter(differs),
        removed=old.filter(pc.invert(pc.is_in(flat(old["path"]), value_set=flat(new["path"])))),
    )


def _content_differs(before: pa.Table, after: pa.Table) -> pa.Array:
    """Row by row, whether two tables with the same paths differ in any content column."""
    differs = pc.not_equal(flat(before["hash"]), flat(after["hash"]))
    for name in CONTENT_COLUMNS:
        if name in {"path", "hash"}:
            continue
        left, right = flat(before[name]), flat(after[name])
        if left.null_count == len(left) and right.null_count == len(right):
            continue
        one_is_null = pc.xor(pc.is_valid(left), pc.is_valid(right))
        values_differ = pc.fill_null(pc.not_equal(left, right), FALSE)
        differs = pc.or_(differs, pc.or_(one_is_null, values_differ))
    return differs


def _sizes(table: pa.Table, name: str) -> pa.Table:
    return pa.Table.from_arrays([table["path"], table["size"]], names=["path", name])


def _both_sizes(before: pa.Table, after: pa.Table) -> pa.Table:
    return pa.Table.from_arrays([after["path"], before["size"], after["size"]], names=["path", "old_size", "new_size"])


def _put(old: Manifest, new: Manifest) -> Iterator[pa.Table]:
    for part in changes(old, new, COLUMNS):
        if len(part.added) or len(part.after):
            yield merged_rows(part.added, part.after) if len(part.after) else part.added


def _gone(old: Manifest, new: Manifest) -> Iterator[bytes]:
    for part in changes(old, new):
        yield from part.removed["path"].to_pylist()
