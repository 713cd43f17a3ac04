"""The index as it is stored: a small Parquet file with a row for each segment, and then one for each source and pack.

Written is layout 2; layout 1, in which segments named their chunks by key and packs their entries' owners, is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.codec import damaged
from dataset_tasks.manifest.columns import binaries, constant, digests, flat, int32s, int64s, ints_of, strings
from dataset_tasks.manifest.segments import Segment
from dataset_tasks.manifest.sources import Sources, chunk_keys, numbered
from dataset_tasks.model import ObjectRef

LAYOUT_OF_FILES = 2
"""Number of the layout of packs and indexes. It says where things stand; what content is has a number of its own."""

_METADATA_KEY = b"dataset-tasks.manifest"
_SEGMENT = [
    pa.field("first", pa.binary()),
    pa.field("last", pa.binary()),
    pa.field("count", pa.int32()),
    pa.field("bytes", pa.int64()),
    pa.field("pending", pa.int32()),
    pa.field("digest", pa.binary(32)),
    pa.field("pack", pa.string()),
    pa.field("group", pa.int32()),
]
_SEGMENTS = pa.schema([*_SEGMENT, pa.field("sources", pa.list_(pa.field("element", pa.int32(), nullable=False)))])
_NEEDS = pa.schema(
    [
        pa.field("number", pa.int32()),
        pa.field("owner", pa.string()),
        pa.field("object", pa.string()),
        pa.field("store", pa.string()),
        pa.field("length", pa.int64()),
        pa.field("sha256", pa.binary(32)),
    ]
)
_SCHEMA = pa.schema([*_SEGMENTS, *_NEEDS])
_FIRST_SCHEMA = pa.schema(
    [
        *(field.with_nullable(False) for field in _SEGMENT),
        pa.field("chunks", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What an index file says: segments in order, objects by key, and the totals, which should follow from these."""

    segments: tuple[Segment, ...]
    objects: Mapping[str, ObjectRef]
    files: int
    bytes: int
    pending: int
    content_hash: str


def encode(index: Stored) -> bytes:
    """The bytes to store; always the same for the same index."""
    chunks = [segment.sources.chunks for segment in index.segments]
    owners = [segment.sources.owners for segment in index.segments]
    packs = sorted(index.objects.keys() - chunk_keys(segment.sources for segment in index.segments))
    needs, numbers = numbered(
        pa.concat_arrays([*chunks, strings(packs)]), pa.concat_arrays([*owners, constant("", len(packs))])
    )
    described = {
        "layout": LAYOUT_OF_FILES,
        "files": index.files,
        "bytes": index.bytes,
        "pending": index.pending,
        "content_hash": index.content_hash,
    }
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="zstd",
        use_dictionary=["pack", "owner", "store"],
        column_encoding={"first": "DELTA_BYTE_ARRAY", "last": "DELTA_BYTE_ARRAY", "object": "DELTA_BYTE_ARRAY"}
        | dict.fromkeys(("sources.list.element", "number", "length"), "DELTA_BINARY_PACKED"),
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata({_METADATA_KEY: json.dumps(described, separators=(",", ":")).encode()})
        for table in (_segment_rows(index.segments, numbers), _need_rows(needs, index.objects)):
            if len(table):
                writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, what: str) -> Stored:
    """What an index file says; whether it adds up is for the caller to see.

    Raises:
        IntegrityError: It can't be decoded, or is of a layout this release does not know.
    """
    with damaged(what):
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        described: object = json.loads((file.metadata.metadata or {})[_METADATA_KEY])
        layout = described.get("layout") if isinstance(described, dict) else None
    if layout not in (1, LAYOUT_OF_FILES):
        raise IntegrityError(
            f"{what} has layout {layout!r}, expected 1 or {LAYOUT_OF_FILES}",
            hint="It was written by a newer release; upgrade dataset-tasks.",
            kind="layout",
        )
    with damaged(what):
        table = file.read(use_threads=False)
        table.validate(full=True)
        if not table.schema.remove_metadata().equals(_FIRST_SCHEMA if layout == 1 else _SCHEMA):
            raise ValueError(f"unexpected columns {table.schema.names}")
        if layout == 1:
            return _assembled(tuple(_first_segments(table)), _first_objects(described), described)
        return _read(table, described)


# --- writing


def _segment_rows(segments: Sequence[Segment], numbers: pa.Array) -> pa.Table:
    """Rows of segments, the numbers of whose sources stand one behind the other."""
    starts = int32s(accumulate((len(segment.sources) for segment in segments), initial=0))
    columns = [
        binaries([segment.first for segment in segments]),
        binaries([segment.last for segment in segments]),
        int32s(segment.count for segment in segments),
        int64s(segment.bytes for segment in segments),
        int32s(segment.pending for segment in segments),
        digests([segment.digest for segment in segments]),
        strings([segment.pack for segment in segments]),
        int32s(segment.group for segment in segments),
        pa.ListArray.from_arrays(starts, numbers, type=_SEGMENTS.field("sources").type),
    ]
    return _padded(columns, _SEGMENTS)


def _need_rows(needs: Sources, objects: Mapping[str, ObjectRef]) -> pa.Table:
    pairs = list(needs)
    refs = [objects.get(key) for key, _ in pairs]
    hashes = b"".join(bytes(32) if ref is None else bytes.fromhex(ref.sha256) for ref in refs)
    # A row without an object has no store; the other two columns are then of no meaning.
    columns = [
        int32s(range(len(pairs))),
        strings([owner or None for _, owner in pairs]),
        strings([key or None for key, _ in pairs]),
        strings([None if ref is None else ref.store_id for ref in refs]),
        int64s(0 if ref is None else ref.size for ref in refs),
        digests(hashes),
    ]
    return _padded(columns, _NEEDS)


def _padded(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.Table:
    """Rows with all columns of an index, those of the other kind of row null."""
    count = len(columns[0])
    known = dict(zip(schema.names, columns, strict=True))
    filled = [known[field.name] if field.name in known else pa.nulls(count, field.type) for field in _SCHEMA]
    return pa.Table.from_arrays(filled, schema=_SCHEMA)


# --- reading


def _read(table: pa.Table, described: object) -> Stored:
    count = table["number"].null_count
    rows, needs = table.slice(0, count).select(_SEGMENTS.names), table.slice(count).select(_NEEDS.names)
    if any(column.null_count for column in rows.columns) or needs["number"].to_pylist() != [*range(len(needs))]:
        raise ValueError("its rows are not in order")
    objects = {
        key: _ref(key, *ref)
        for key, *ref in zip(*(needs[name].to_pylist() for name in _NEEDS.names[2:]), strict=True)
        if key is not None and None not in ref
    }
    chunks, owners = (strings([each or "" for each in needs[name].to_pylist()]) for name in ("object", "owner"))
    numbers = flat(rows["sources"])
    starts = numbers.offsets.to_pylist()
    used = numbers.values.slice(starts[0], starts[-1] - starts[0])
    wrong = set(ints_of(used)).difference(range(len(needs)))
    if wrong:
        raise ValueError(f"a segment has a source {wrong.pop()}, of {len(needs)}")
    sources = (Sources(chunks, owners, numbers.values.slice(a, b - a)) for a, b in pairwise(starts))
    return _assembled(tuple(_segments(rows, sources)), objects, described)


def _segments(rows: pa.Table, sources: Iterable[Sources]) -> Iterator[Segment]:
    columns = (rows[field.name].to_pylist() for field in _SEGMENT)
    for first, last, count, size, pending, digest, pack, group, of_it in zip(*columns, sources, strict=True):
        yield Segment(
            first=first,
            last=last,
            count=count,
            bytes=size,
            pending=pending,
            digest=digest,
            pack=pack,
            group=group,
            sources=of_it,
        )


def _ref(key: str, store_id: str, size: int, sha256: bytes) -> ObjectRef:
    return ObjectRef(store_id=store_id, key=key, size=size, sha256=sha256.hex())


def _assembled(segments: tuple[Segment, ...], objects: Mapping[str, ObjectRef], described: object) -> Stored:
    match described:
        case {"files": int(files), "bytes": int(size), "pending": int(pending), "content_hash": str(root)}:
            return Stored(
                segments=segments, objects=objects, files=files, bytes=size, pending=pending, content_hash=root
            )
    raise ValueError("its metadata has another shape")


# --- reading layout 1


def _first_segments(table: pa.Table) -> Iterator[Segment]:
    """Segments that name their chunks by key."""
    column = flat(table["chunks"])
    owners = constant("", len(column.values))
    bounds = pairwise(column.offsets.to_pylist())
    return _segments(table, (Sources(column.values.slice(a, b - a), owners.slice(a, b - a)) for a, b in bounds))


def _first_objects(described: object) -> dict[str, ObjectRef]:
    match described:
        case {"objects": dict(objects)}:
            return {str(key): _first_ref(str(key), value) for key, value in objects.items()}
    raise ValueError("its metadata has another shape")


def _first_ref(key: str, described: object) -> ObjectRef:
    match described:
        case [str(store_id), int(size), str(sha256)]:
            return ObjectRef(store_id=store_id, key=key, size=size, sha256=sha256)
    raise ValueError(f"its metadata describes object {key!r} in another shape")
