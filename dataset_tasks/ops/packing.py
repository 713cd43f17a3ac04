"""Packing: some pending files into one chunk, stored and recorded so that a retry need not do it again."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external.stream import SMALL, Ahead, is_worth_another_try
from dataset_tasks.failpoints import failpoint
from dataset_tasks.hashing import open_source
from dataset_tasks.manifest.codec import damaged
from dataset_tasks.manifest.columns import PLACEMENT_SCHEMA, placements
from dataset_tasks.members import Member
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.requests import Upload
from dataset_tasks.paths import show, to_text
from dataset_tasks.progress import Task
from dataset_tasks.session import Session
from dataset_tasks.sources import unpinned

_TRIES = 3


_MIB = 1 << 20
DEFAULT_CHUNK = 128 * _MIB
MOST_MEMBERS = 25_000
"""Members of one chunk, at most."""


def chunk_bytes(request: Upload) -> int:
    """Bytes of files that go into one chunk.

    Raises:
        InvalidArgumentError: The chunk size is not above 0.
    """
    if request.chunk_size is None:
        return DEFAULT_CHUNK
    if not 0 < request.chunk_size < math.inf:
        raise InvalidArgumentError(f"chunk_size {request.chunk_size} MiB is not above 0", hint="Leave it out for 128.")
    return int(request.chunk_size * _MIB) or DEFAULT_CHUNK


@dataclass(slots=True)
class Job:
    """The files of one chunk, sorted by path; `total` is their bytes. `is_last`: the commit follows at once, so no delta is needed.

    The hash of a file at a URL is empty where nobody knows it yet; then `Packed.placed` tells it.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    sources: list[bytes | None] = field(default_factory=list)
    total: int = 0
    is_last: bool = False

    def add(self, path: bytes, size: int, sha256: bytes, source: bytes | None) -> None:
        """Takes one more file."""
        self.paths.append(path)
        self.sizes.append(size)
        self.hashes.append(sha256)
        self.sources.append(source)
        self.total += size

    def remote(self) -> list[tuple[str, str, int] | None]:
        """URL, pin and size of each file that is at a URL, None for others."""
        where = [None if source is None else unpinned(source) for source in self.sources]
        return [None if each is None else (*each, size) for each, size in zip(where, self.sizes, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What came of a job: the chunk, where its files are in it, and why others are not."""

    ref: ObjectRef | None = None
    placed: pa.Table | None = None
    failures: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0

    @staticmethod
    def read_delta(session: Session, delta: ObjectRef) -> pa.Table:
        """The placements that a delta object lists.

        Raises:
            IntegrityError: It is missing, is not what was written, or can't be decoded.
        """
        data = session.objects.read(delta)
        with damaged(f"delta {delta.key!r}"):
            return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).cast(PLACEMENT_SCHEMA)


def recorded_chunks(
    context: Context, version: Version, kept: Iterable[Packed] = ()
) -> Iterator[tuple[ObjectRef, pa.Table]]:
    """The chunks that stand for a draft and are not live yet, with the places of their files: as their deltas say.

    Those that have no delta are given only when they are among the `kept` ones.

    Raises:
        IntegrityError: As `Packed.read_delta`.
    """
    places = {packed.ref.key: packed.placed for packed in kept if packed.ref is not None}
    objects = context.session.catalog.objects_of(version.id)
    refs = {
        each.key: ObjectRef(store_id=each.store_id, key=each.key, size=each.size, sha256=each.sha256)
        for each in objects
    }
    for chunk in objects:
        if chunk.kind != "chunk" or chunk.state != "writing":
            continue
        ref, delta = refs[chunk.key], refs.get(chunk.delta or "")
        if delta is not None:
            yield ref, Packed.read_delta(context.session, delta)
        elif chunk.key in places:
            yield ref, places[chunk.key]


def pack(
    context: Context,
    version: Version,
    store_id: str,
    job: Job,
    request: Upload,
    task: Task,
) -> Packed:
    """Stores the files of a job as one chunk. Files that fail are named in the outcome, the others are stored.

    Raises:
        StorageError: The store refused or did not answer.
    """
    objects = context.session.objects
    keys = [new_key("chunk")] + ([] if job.is_last else [new_key("delta")])
    failpoint("upload.before_chunk")
    objects.begin(version.id, store_id, keys)
    failures: dict[str, str] = {}
    members: list[Member] = []
    with objects.writer(store_id, keys[0]) as sink, Ahead(job.remote(), context.session.stores) as ahead:
        writer = ChunkWriter(sink, request.compression)
        known: dict[bytes, Member] = {}
        for at, (path, size, sha256) in enumerate(zip(job.paths, job.sizes, job.hashes, strict=True)):
            try:
                member = (known.get(sha256) if sha256 else None) or _add(writer, job, at, ahead)
            except SourceError as error:
                if error.retryable:  # no fault of the file: what is stored so far is kept for the next try
                    raise
                failures[to_text(path)] = error.message
                if writer.broken:
                    return _again_without(context, version, store_id, job, request, task, failures)
                continue
            known[member.sha256] = member
            members.append(member if member.path is path else member._replace(path=path))
            failpoint("upload.after_member")
            task.advance(files=1, bytes=size)
        if not members:
            objects.discard((store_id, key) for key in keys)
            return Packed(failures=failures)
        length, digest = writer.finish()
        sink.commit()
    failpoint("upload.after_chunk_bytes")
    placed = table_of(members, keys[0])
    ref = ObjectRef(store_id=store_id, key=keys[0], size=length, sha256=digest)
    if job.is_last:
        context.session.objects.written([ref])
    else:
        put_delta(context, store_id, keys[1], placed, ref)
    failpoint("upload.after_chunk")
    return Packed(
        ref=ref, placed=placed, failures=failures, files=len(members), bytes=sum(member.size for member in members)
    )


def _add(writer: ChunkWriter, job: Job, at: int, ahead: Ahead) -> Member:
    path, size, sha256, source = job.paths[at], job.sizes[at], job.hashes[at], job.sources[at]
    if source is None:
        raise SourceError(f"{show(path)}: nobody recorded where it is", hint="Add it again.")
    if not source.startswith(b"/"):
        return _add_remote(writer, job, at, ahead)
    try:
        fd = open_source(source)
    except OSError as error:
        raise SourceError(f"{show(path)}: {show(source)} can't be opened: {error.strerror}") from error
    try:
        return writer.add(fd, path, size, sha256)
    finally:
        os.close(fd)


def _add_remote(writer: ChunkWriter, job: Job, at: int, ahead: Ahead) -> Member:
    """Packs a file from its URL; other bytes than expected, and an answer that breaks off, are worth another try."""
    path, size, sha256 = job.paths[at], job.sizes[at], job.hashes[at] or None
    for left in reversed(range(_TRIES)):
        try:
            with closing(ahead.open(at)) as file:
                return writer.add(file, path, size, sha256)
        except SourceError as error:
            tried_already = error.retryable and size <= SMALL
            if writer.broken or not left or tried_already or not is_worth_another_try(error):
                url = to_text(job.sources[at] or b"").partition(" ")[0]
                where = "" if url in error.message else f" (from {show(url)})"
                name = "" if error.message.startswith(show(path)) else f"{show(path)}: "
                raise type(error)(
                    f"{name}{error.message}{where}", paths=(to_text(path),), hint=error.hint, kind=error.kind
                ) from error
    raise AssertionError("the last try returns or raises")


def _again_without(
    context: Context,
    version: Version,
    store_id: str,
    job: Job,
    request: Upload,
    task: Task,
    failures: dict[str, str],
) -> Packed:
    """Packs a job anew after a large file changed while it was packed, which spoils the chunk."""
    rest = Job(is_last=job.is_last)
    for path, size, sha256, source in zip(job.paths, job.sizes, job.hashes, job.sources, strict=True):
        if to_text(path) not in failures:
            rest.add(path, size, sha256, source)
    if not rest.paths:
        return Packed(failures=failures)
    packed = pack(context, version, store_id, rest, request, task)
    return Packed(
        ref=packed.ref,
        placed=packed.placed,
        failures=failures | packed.failures,
        files=packed.files,
        bytes=packed.bytes,
    )


def table_of(members: list[Member], chunk: str) -> pa.Table:
    """The members of a chunk as placements."""
    return placements(
        paths=[member.path for member in members],
        hashes=[member.sha256 for member in members],
        chunks=chunk,
        offsets=[member.offset for member in members],
        stored=[member.stored for member in members],
        methods=[member.method for member in members],
    )


def put_delta(context: Context, store_id: str, key: str, placed: pa.Table, chunk: ObjectRef) -> None:
    """Stores the placements of a chunk whose bytes stand, and records both."""
    sink = pa.BufferOutputStream()
    pq.write_table(placed, sink, compression="zstd", compression_level=1, write_statistics=False)
    data = sink.getvalue().to_pybytes()
    objects = context.session.objects
    objects.store(store_id).put(objects.full_key(key), data)
    failpoint("upload.after_delta_bytes")
    delta = ObjectRef(store_id=store_id, key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    context.session.objects.written([delta])
    context.session.objects.written([chunk], delta=key)
