"""The index of a manifest: its segments, every object they need, and how that is stored.

An index is a small Parquet file with a row for each segment; totals and objects stand as JSON in its metadata.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.codec import HINT_DAMAGED, damaged
from dataset_tasks.manifest.columns import binaries, digests, flat, int32s, int64s, path_problem, quoted, strings
from dataset_tasks.manifest.digest import LAYOUT, content_hash
from dataset_tasks.manifest.segments import CUTS, PathRange, Segment
from dataset_tasks.model import ObjectRef

Raw: TypeAlias = bytes
_METADATA_KEY = b"dataset-tasks.manifest"
_SCHEMA = pa.schema(
    [
        pa.field("first", pa.binary(), nullable=False),
        pa.field("last", pa.binary(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("pending", pa.int32(), nullable=False),
        pa.field("digest", pa.binary(32), nullable=False),
        pa.field("pack", pa.string(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("chunks", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)


def _needed(segments: Iterable[Segment]) -> set[str]:
    """Keys of the packs and chunks that segments refer to."""
    listed = tuple(segments)
    return {segment.pack for segment in listed}.union(*(segment.chunks for segment in listed))


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
        return tuple(sorted(set().union(*(segment.chunks for segment in self.segments))))

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
        return _encode(self)

    @classmethod
    def from_bytes(cls, data: Raw, name: str = "index") -> Index:
        """Reads a stored index.

        Args:
            data: What `to_bytes` gave.
            name: How messages call the object: its key.

        Raises:
            IntegrityError: It can't be decoded, does not add up, or is of a layout this release does not know.
        """
        return _decode(data, name)


EMPTY = Index.of((), {})
"""The index of a manifest without entries."""


def _encode(index: Index) -> bytes:
    segments = index.segments
    starts = int32s(accumulate((len(segment.chunks) for segment in segments), initial=0))
    keys = index.chunks  # a long history names each in many segments: made into bytes once, then taken by position
    position = {key: at for at, key in enumerate(keys)}
    named = chain.from_iterable(segment.chunks for segment in segments)
    chunks = strings(keys).take(int32s(map(position.__getitem__, named)))
    columns = [
        binaries([segment.first for segment in segments]),
        binaries([segment.last for segment in segments]),
        int32s(segment.count for segment in segments),
        int64s(segment.bytes for segment in segments),
        int32s(segment.pending for segment in segments),
        digests([segment.digest for segment in segments]),
        strings([segment.pack for segment in segments]),
        int32s(segment.group for segment in segments),
        pa.ListArray.from_arrays(starts, chunks, type=_SCHEMA.field("chunks").type),
    ]
    described = {
        "layout": LAYOUT,
        "files": index.files,
        "bytes": index.bytes,
        "pending": index.pending,
        "content_hash": index.content_hash,
        "objects": {ref.key: [ref.store_id, ref.size, ref.sha256] for ref in index.objects.values()},
    }
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="zstd",
        use_dictionary=["pack", "chunks.list.element"],
        column_encoding={"first": "DELTA_BYTE_ARRAY", "last": "DELTA_BYTE_ARRAY"},
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata({_METADATA_KEY: json.dumps(described, separators=(",", ":")).encode()})
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _decode(data: bytes, name: str) -> Index:
    what = f"manifest index {name!r}"
    with damaged(what):
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        described: object = json.loads((file.metadata.metadata or {})[_METADATA_KEY])
        layout = described.get("layout") if isinstance(described, dict) else None
    if layout != LAYOUT:
        raise IntegrityError(
            f"{what} has layout {layout!r}, expected {LAYOUT}",
            hint="It was written by a newer release; upgrade dataset-tasks.",
            kind="layout",
        )
    with damaged(what):
        table = file.read(use_threads=False)
        table.validate(full=True)
        if not table.schema.remove_metadata().equals(_SCHEMA):
            raise ValueError(f"unexpected columns {table.schema.names}")
        index = _assembled(tuple(_segments(table)), described)
    problem = _problem(index)
    if problem is not None:
        raise IntegrityError(f"{what} does not add up: {problem}", hint=HINT_DAMAGED)
    return index


def _assembled(segments: tuple[Segment, ...], described: object) -> Index:
    match described:
        case {
            "files": int(files),
            "bytes": int(size),
            "pending": int(pending),
            "content_hash": str(root),
            "objects": dict(objects),
        }:
            return Index(
                segments=segments,
                objects=MappingProxyType({str(key): _ref(str(key), value) for key, value in objects.items()}),
                files=files,
                bytes=size,
                pending=pending,
                content_hash=root,
            )
    raise ValueError("its metadata has another shape")


def _ref(key: str, described: object) -> ObjectRef:
    match described:
        case [str(store_id), int(size), str(sha256)]:
            return ObjectRef(store_id=store_id, key=key, size=size, sha256=sha256)
    raise ValueError(f"its metadata describes object {key!r} in another shape")


def _segments(table: pa.Table) -> Iterable[Segment]:
    plain = [column.to_pylist() for column in table.drop_columns(["chunks"]).columns]
    for row in zip(*plain, _chunks(flat(table["chunks"])), strict=True):
        first, last, count, size, pending, digest, pack, group, chunks = row
        yield Segment(
            first=first,
            last=last,
            count=count,
            bytes=size,
            pending=pending,
            digest=digest,
            pack=pack,
            group=group,
            chunks=chunks,
        )


def _chunks(column: pa.ListArray) -> Iterable[tuple[str, ...]]:
    """The chunks of each segment; each key is one string, however many segments name it."""
    named, known = column.values, dict[str, str]()
    for start, end in pairwise(column.offsets.to_pylist()):
        yield tuple(known.setdefault(key, key) for key in named.slice(start, end - start).to_pylist())


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
