"""The index of a manifest: its segments and every object they need."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.codec import HINT_DAMAGED
from dataset_tasks.manifest.columns import binaries, path_problem, quoted
from dataset_tasks.manifest.digest import content_hash
from dataset_tasks.manifest.index_file import Stored, decode, encode
from dataset_tasks.manifest.segments import CUTS, PathRange, Segment
from dataset_tasks.manifest.sources import chunk_keys
from dataset_tasks.model import ObjectRef

Raw: TypeAlias = bytes


def _needed(segments: Iterable[Segment]) -> set[str]:
    """Keys of the packs and chunks that segments refer to."""
    listed = tuple(segments)
    return {segment.pack for segment in listed}.union(chunk_keys(segment.sources for segment in listed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A whole manifest without its entries: its segments in order and every object it needs.

    Attributes:
        segments: Sorted by path, not overlapping.
        objects: Every pack and chunk that is referred to, by key: enough to read the version without a catalog.
        files: How many entries, links included.
        bytes: Sum of their sizes.
        pending: How many files have no bytes in the store yet.
        content_hash: Root over the segments' content digests, hex.
    """

    segments: tuple[Segment, ...]
    objects: Mapping[str, ObjectRef] = field(default_factory=lambda: MappingProxyType({}))
    files: int
    bytes: int
    pending: int
    content_hash: str

    @classmethod
    def of(cls, segments: Iterable[Segment], objects: Mapping[str, ObjectRef]) -> Index:
        """Makes the index of some segments, keeping of `objects` what they need.

        Raises:
            KeyError: A segment refers to an object that is not in `objects`.
        """
        listed = tuple(segments)
        return cls(
            segments=listed,
            objects=MappingProxyType({key: objects[key] for key in sorted(_needed(listed))}),
            files=sum(segment.count for segment in listed),
            bytes=sum(segment.bytes for segment in listed),
            pending=sum(segment.pending for segment in listed),
            content_hash=content_hash(segment.digest for segment in listed),
        )

    @property
    def packs(self) -> tuple[str, ...]:
        """Keys of the packs that are referred to, sorted."""
        return tuple(sorted({segment.pack for segment in self.segments}))

    @property
    def chunks(self) -> tuple[str, ...]:
        """Keys of the chunks that are referred to, sorted."""
        return tuple(sorted(self.objects.keys() - {segment.pack for segment in self.segments}))

    def locate(self, path: Raw) -> Segment | None:
        """The only segment that may hold a path, found in logarithmic time."""
        position = bisect_right(self.segments, path, key=lambda segment: segment.first) - 1
        if position < 0 or self.segments[position].last < path:
            return None
        return self.segments[position]

    def overlapping(self, span: PathRange) -> Sequence[Segment]:
        """The segments that may hold paths of a range."""
        start = bisect_left(self.segments, span.start, key=lambda segment: segment.last)
        stop = len(self.segments)
        if span.end is not None:
            stop = bisect_left(self.segments, span.end, key=lambda segment: segment.first)
        return self.segments[start : max(start, stop)]

    def to_bytes(self) -> Raw:
        """The index as it is stored."""
        return encode(
            Stored(
                segments=self.segments,
                objects=self.objects,
                files=self.files,
                bytes=self.bytes,
                pending=self.pending,
                content_hash=self.content_hash,
            )
        )

    @classmethod
    def from_bytes(cls, data: Raw, name: str = "index") -> Index:
        """Reads a stored index.

        Args:
            data: What `to_bytes` gave.
            name: How messages call the object: its key.

        Raises:
            IntegrityError: It can't be decoded, does not add up, or is of a layout this release does not know.
        """
        what = f"manifest index {name!r}"
        stored = decode(data, what)
        index = cls(
            segments=stored.segments,
            objects=MappingProxyType(dict(stored.objects)),
            files=stored.files,
            bytes=stored.bytes,
            pending=stored.pending,
            content_hash=stored.content_hash,
        )
        problem = _problem(index)
        if problem is not None:
            raise IntegrityError(f"{what} does not add up: {problem}", hint=HINT_DAMAGED)
        return index


EMPTY = Index.of((), {})
"""The index of a manifest without entries."""


def _problem(index: Index) -> str | None:
    """What contradicts itself in an index, if anything."""
    ends: list[bytes] = []
    for segment in index.segments:
        if (
            not (0 < segment.count <= CUTS.most and 0 <= segment.pending <= segment.count)
            or min(segment.bytes, segment.group) < 0
        ):
            return f"the segment from {quoted(segment.first)} has impossible counts"
        ends.append(segment.first)
        if segment.count > 1:
            ends.append(segment.last)
        elif segment.last != segment.first:
            return f"the segment from {quoted(segment.first)} has one entry but two ends"
    problem = path_problem(binaries(ends))
    if problem is not None:
        return f"at an end of a segment, {problem}"
    needed = _needed(index.segments)
    if needed != set(index.objects):
        return f"objects {sorted(needed ^ set(index.objects))} are referred to and missing, or not referred to"
    expected = Index.of(index.segments, index.objects)
    for label in ("files", "bytes", "pending", "content_hash"):
        found, wanted = getattr(index, label), getattr(expected, label)
        if found != wanted:
            return f"{label} is {found}, its segments give {wanted}"
    return None
