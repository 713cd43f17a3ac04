"""Putting a manifest together from a sorted stream of rows and of whole segments of other manifests.

Whatever the pieces are, the outcome is cut as if all entries had been cut from the start; a whole segment is taken over
by reference wherever it fits between the cuts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import bounds_of, empty, flat, quoted
from dataset_tasks.manifest.digest import segment_digest
from dataset_tasks.manifest.index import Index
from dataset_tasks.manifest.packs import MAX_SEGMENTS, PackWriter, ReadObject
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.manifest.segments import CUTS, CutRule, Segment
from dataset_tasks.manifest.sources import chunk_keys
from dataset_tasks.manifest.tree import TreeCheck
from dataset_tasks.model import ObjectRef

MAX_PACKS = 32
"""An index that would refer to more packs than this gets the smallest ones folded into the new one."""

KEPT_PACKS = 16
"""How many small packs a fold leaves; folding half of them at a time keeps the work per version constant."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A segment of a manifest that is taken over with all its rows."""

    segment: Segment
    manifest: Manifest

    def rows(self) -> pa.Table:
        """Reads it."""
        return self.manifest.read(self.segment)


Piece: TypeAlias = "Whole | pa.Table"
"""Part of a sorted stream: a whole segment, or a table of entries with at least one row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A manifest that is not stored yet.

    Attributes:
        index: The new index; store `index.to_bytes()` after the packs.
        packs: Pairs of key and bytes of the packs to store; none if every segment could be taken over.
        added: How many paths the base did not have; 0 for a merge.
        replaced: How many of its paths got a new entry; 0 for a merge.
        removed: How many of its paths are gone; 0 for a merge.
    """

    index: Index
    packs: tuple[tuple[str, Buffer], ...] = ()
    added: int = 0
    replaced: int = 0
    removed: int = 0

    @property
    def refs(self) -> tuple[ObjectRef, ...]:
        """References to the packs to store, in their order."""
        return tuple(self.index.objects[key] for key, _ in self.packs)

    def manifest(self, read_object: ReadObject) -> Manifest:
        """The manifest itself, readable before its packs are stored; others are read through `read_object`."""
        packs = dict(self.packs)

        def read(ref: ObjectRef) -> Buffer:
            return packs[ref.key] if ref.key in packs else read_object(ref)

        return Manifest(self.index, read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes of the layout; other numbers than the defaults are for tests."""

    cuts: CutRule = CUTS
    max_segments: int = MAX_SEGMENTS
    max_packs: int = MAX_PACKS
    kept_packs: int = KEPT_PACKS


LIMITS = Limits()


class Builder:
    """Cuts a stream of pieces into segments and writes those that are new.

    Args:
        sources: The manifests that pieces come from.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        objects: References of chunks, by key, that new entries refer to and no source knows.
        limits: Sizes of the layout.

    Raises:
        InvalidArgumentError: Two references of one key differ.
    """

    def __init__(
        self,
        sources: Sequence[Manifest],
        *,
        new_key: Callable[[], str],
        store_id: str,
        objects: Mapping[str, ObjectRef] = MappingProxyType({}),
        limits: Limits = LIMITS,
    ) -> None:
        self._limits = limits
        self._writer = PackWriter(new_key, store_id, limits.max_segments)
        self._objects = _united([*(source.index.objects for source in sources), objects])
        self._segments: list[Segment] = []
        self._owners: list[Manifest | None] = []
        self._tree = TreeCheck()
        self._table = empty()
        self._paths: list[bytes] = []

    def build(self, pieces: Iterable[Piece]) -> tuple[Index, tuple[tuple[str, Buffer], ...]]:
        """Makes the index and the packs, as pairs of key and bytes, from all pieces in order.

        Raises:
            InvalidArgumentError: A path is both a file and a folder, or an entry refers to an unknown chunk.
            IntegrityError: A segment of a source can't be read.
        """
        for piece, following in _with_next(pieces):
            if isinstance(piece, Whole):
                self._tree.segment(piece.segment, piece.manifest)
                if not self._paths and self._limits.cuts.closes(piece.segment.count, following):
                    self.keep(piece)
                else:
                    self._cut(piece.rows(), following)
            else:
                self._tree.rows(flat(piece["path"]))
                self._cut(piece, following)
        return self.finish()

    def finish(self) -> tuple[Index, tuple[tuple[str, Buffer], ...]]:
        """The index and the packs of all that was taken in; the last call."""
        self._fold()
        packs, refs = self._writer.finish()
        return Index.of(self._segments, {**self._objects, **{ref.key: ref for ref in refs}}), packs

    def keep(self, piece: Whole) -> None:
        """Appends a segment by reference, which must end and begin at cuts."""
        self._segments.append(piece.segment)
        self._owners.append(piece.manifest)

    def rewrite(self, piece: Whole, table: pa.Table) -> None:
        """Appends a segment whose content stays and whose other columns are those of `table`."""
        self._write(table, piece.segment.digest)

    def _cut(self, table: pa.Table, following: bytes | None) -> None:
        """Takes rows in and writes every segment whose end is known by now."""
        cuts, known = self._limits.cuts, len(self._paths)
        self._paths += table["path"].to_pylist()
        self._table = pa.concat_tables([self._table, table])
        start = 0
        while (end := cuts.next_cut(self._paths, start, known)) is not None:
            self._write(self._table.slice(start, end - start))
            start = end
        rest = len(self._paths) - start
        if rest and cuts.closes(rest, following):
            self._write(self._table.slice(start))
            start = len(self._paths)
        self._paths = self._paths[start:]
        self._table = self._table.slice(start)

    def _write(self, table: pa.Table, digest: bytes | None = None) -> None:
        table = table.combine_chunks()
        first, last = bounds_of(table)
        pack, group, sources = self._writer.add(table)
        unknown = sorted(key for key in chunk_keys([sources]) if key not in self._objects)
        if unknown:
            raise InvalidArgumentError(
                f"entries from {quoted(first)} to {quoted(last)} refer to chunks {unknown} of which no reference is known",
                hint="Give the references of new chunks as `objects`.",
            )
        is_stored = pc.or_(pc.is_valid(table["chunk"]), table["kind"].cast(pa.bool_()))
        self._segments.append(
            Segment(
                first=first,
                last=last,
                count=len(table),
                bytes=pc.sum(table["size"]).as_py(),
                digest=segment_digest(table) if digest is None else digest,
                pack=pack,
                group=group,
                sources=sources,
                pending=len(table) - pc.sum(is_stored).as_py(),
            )
        )
        self._owners.append(None)

    def _fold(self) -> None:
        """Moves the segments of the smallest packs into the new one when there are too many packs.

        A pack that is at least half as full as one may be is left alone: moving its segments would not save a pack.
        """
        limits = self._limits
        live = Counter(segment.pack for segment in self._segments)
        if len(live) <= limits.max_packs:
            return
        written = {segment.pack for segment, owner in zip(self._segments, self._owners, strict=True) if owner is None}
        small = sorted(
            (count, pack) for pack, count in live.items() if count < limits.max_segments // 2 and pack not in written
        )
        folded = {pack for _, pack in small[: max(len(small) - limits.kept_packs, 0)]}
        for position, (segment, owner) in enumerate(zip(self._segments, self._owners, strict=True)):
            if owner is not None and segment.pack in folded:
                pack, group, sources = self._writer.add(owner.read(segment))
                self._segments[position] = replace(segment, pack=pack, group=group, sources=sources)


def _with_next(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, bytes | None]]:
    """Each piece with the first path of the one after it."""
    before: Piece | None = None
    for piece in pieces:
        if before is not None:
            yield before, _first(piece)
        before = piece
    if before is not None:
        yield before, None


def _first(piece: Piece) -> bytes:
    if isinstance(piece, Whole):
        return piece.segment.first
    first: bytes = piece["path"][0].as_py()
    return first


def _united(parts: Iterable[Mapping[str, ObjectRef]]) -> dict[str, ObjectRef]:
    united: dict[str, ObjectRef] = {}
    for part in parts:
        for key, ref in part.items():
            if united.setdefault(key, ref) != ref:
                raise InvalidArgumentError(
                    f"object {key!r} has two references: {united[key]} and {ref}",
                    hint="Keys must be unique in a catalog: make a fresh one for each attempt.",
                )
    return united
