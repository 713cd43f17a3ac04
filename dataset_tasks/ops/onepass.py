"""Add and upload in one reading: inside a build, files in new places are hashed and packed at once.

The manifest still says that they are pending, and where from, until the upload stage finds their chunks: by the deltas
that they have, as after an upload that was killed, or handed over in memory. So a crash in between costs at most the chunk
that was open, and whatever else comes between add and upload (remove, another add, a check) need not know.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from dataset_tasks.chunks import MOST_IN_MEMORY, ChunkWriter
from dataset_tasks.deflating import Prepared, prepare
from dataset_tasks.errors import SourceError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.hashing import Outcome, Reader, Reading, difference, hash_opened, open_file
from dataset_tasks.manifest import Manifest, PathRange
from dataset_tasks.members import Member
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.packing import MOST_MEMBERS, Packed, chunk_bytes, put_delta, recorded_chunks, table_of
from dataset_tasks.ops.requests import Compression, Upload
from dataset_tasks.ops.reuse import Placed
from dataset_tasks.store import Writer

_THREADS_PAY = 128 << 10
_AHEAD = 64 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What the adds of a build hand to its `upload`: chunks that stand, each the last of its add, which has no delta."""

    upload: Upload
    packed: list[Packed] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    """A file on its way into a chunk: `ready` once it is packed, by `job` where a thread does it; None if it can't be."""

    place: bytes
    size: int
    ready: Prepared | None = None
    job: Future[None] | None = None


class Keeper:
    """Reads files for a scan as `hashing.Reader` does, and packs those that stand where no version known here has any.

    A context manager: leaving it stores the open chunk, or drops it when there was an error.

    Args:
        context: Of the add.
        version: The draft.
        base: Its manifest.
        kept: Takes what the upload is to find.
    """

    def __init__(self, context: Context, version: Version, base: Manifest, kept: Kept) -> None:
        self._context = context
        self._version = version
        self._kept = kept
        self._compression: Compression = kept.upload.compression
        store = kept.upload.store
        self._store_id = context.session.store_id(store) if store else version.store_id
        self._chunk_bytes = chunk_bytes(kept.upload)
        self._manifests = [each for each in (base, self._previous()) if len(each)]
        self._recorded = Placed()
        for _, placed in recorded_chunks(context, version):
            self._recorded.add(placed)
        self._workers = kept.upload.max_workers or min(4, len(os.sched_getaffinity(0)))
        self._pool: ThreadPoolExecutor | None = None
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._open: _OpenChunk | None = None
        self._stop = threading.Event()

    def _previous(self) -> Manifest:
        version, session = self._version, self._context.session
        last = session.catalog.previous(version.project, version.name, version.partition)
        return session.manifest(last) if last is not None else Manifest.empty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._drain(-1)
                self._finish(is_last=True)
        finally:
            self._stop.set()
            if self._pool is not None:
                self._pool.shutdown()
            if self._open is not None:
                self._open.drop()

    def read(
        self, reader: Reader, names: Sequence[bytes], places: Sequence[bytes], folder: int, links: frozenset[bytes]
    ) -> Reading:
        """As `Reader.read`, which it leaves files to that may be known; `places` are the dataset paths, sorted."""
        if not names or not self._is_new(places):
            return reader.read(names, folder, links)
        outcomes: list[Outcome] = ["was not read"] * len(names)
        reading = Reading(outcomes)
        for at, (name, place) in enumerate(zip(names, places, strict=True)):
            opened = open_file(name, folder, follow=name in links)
            if not isinstance(opened, tuple):
                outcomes[at] = opened
                continue
            size = opened[1].st_size
            if size > MOST_IN_MEMORY:
                reading.jobs.append(self._threads().submit(self._hash, outcomes, at, *opened))
                continue
            waiting = _Waiting(place, size)
            if size >= _THREADS_PAY and self._workers > 1:
                waiting.job = self._threads().submit(self._prepare, outcomes, at, waiting, *opened)
                reading.jobs.append(waiting.job)
            else:
                self._prepare(outcomes, at, waiting, *opened)
            self._enqueue(waiting)
        return reading

    def _is_new(self, places: Sequence[bytes]) -> bool:
        """Whether nothing is known from the first to the last of some paths: what is known need perhaps not be packed."""
        span = PathRange(places[0], places[-1] + b"\0")
        known = any(True for manifest in self._manifests for _ in manifest.batches(("path",), within=span))
        return not known and not self._recorded.reaches(places[0], places[-1])

    def _threads(self) -> ThreadPoolExecutor:
        self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="dataset-tasks-pack")
        return self._pool

    def _prepare(self, outcomes: list[Outcome], at: int, waiting: _Waiting, fd: int, before: os.stat_result) -> None:
        try:
            if self._stop.is_set():
                return
            ready = prepare(fd, waiting.place, before.st_size, self._compression)
            wrong = difference(before, os.fstat(fd), ready.size)
        except SourceError as error:
            outcomes[at] = error.__cause__ if isinstance(error.__cause__, OSError) else error.message
            return
        finally:
            os.close(fd)
        outcomes[at] = wrong or (before, ready.sha256)
        waiting.ready = None if wrong else ready

    def _hash(self, outcomes: list[Outcome], at: int, fd: int, before: os.stat_result) -> None:
        outcomes[at] = hash_opened(fd, before, self._on_block)

    def _on_block(self, _count: int) -> None:
        if self._stop.is_set():
            raise InterruptedError(errno.EINTR, "given up")

    # --- from the queue into chunks, in the order of the paths

    def _enqueue(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._queued += waiting.size
        self._drain(_AHEAD)

    def _drain(self, most: int) -> None:
        """Puts away what is ready at the head of the queue, and waits for it while more than so many bytes are held."""
        while self._queue:
            first = self._queue[0]
            if first.job is not None and not first.job.done() and self._queued <= most:
                return
            if first.job is not None:
                first.job.result()
            self._queue.popleft()
            self._queued -= first.size
            if first.ready is not None:
                self._put(first.place, first.ready)

    def _put(self, place: bytes, ready: Prepared) -> None:
        chunk = self._open
        if chunk is not None and (chunk.total + ready.size > self._chunk_bytes or len(chunk.members) >= MOST_MEMBERS):
            self._finish(is_last=False)
        if self._open is None:
            self._open = _OpenChunk(self._context, self._version, self._store_id, self._compression)
        self._open.add(place, ready)

    def _finish(self, *, is_last: bool) -> None:
        chunk, self._open = self._open, None
        if chunk is not None:
            packed = chunk.finish(with_delta=not is_last)
            if is_last:
                self._kept.packed.append(packed)


class _OpenChunk:
    """A chunk that is being written, and what it holds."""

    def __init__(self, context: Context, version: Version, store_id: str, compression: Compression) -> None:
        self.members: list[Member] = []
        self.total = 0
        self._context = context
        self._version = version
        self._store_id = store_id
        self._key = new_key("chunk")
        self._known: dict[bytes, Member] = {}
        context.session.objects.begin(version.id, store_id, [self._key])
        self._stack = ExitStack()
        self._sink: Writer = self._stack.enter_context(context.session.objects.writer(store_id, self._key))
        self._writer = ChunkWriter(self._sink, compression)

    def add(self, place: bytes, ready: Prepared) -> None:
        member = self._known.get(ready.sha256) or self._writer.add_prepared(place, ready)
        self._known[ready.sha256] = member
        self.members.append(member if member.path is place else member._replace(path=place))
        self.total += ready.size
        failpoint("onepass.after_member")

    def finish(self, *, with_delta: bool) -> Packed:
        objects = self._context.session.objects
        with self._stack:
            size, sha256 = self._writer.finish()
            self._sink.commit()
        failpoint("onepass.after_chunk_bytes")
        placed = table_of(self.members, self._key)
        ref = ObjectRef(store_id=self._store_id, key=self._key, size=size, sha256=sha256)
        if with_delta:
            delta = new_key("delta")
            objects.begin(self._version.id, self._store_id, [delta])
            put_delta(self._context, self._store_id, delta, placed, ref)
        else:
            objects.written([ref])
        failpoint("onepass.after_chunk")
        return Packed(ref=ref, placed=placed, files=len(self.members), bytes=self.total)

    def drop(self) -> None:
        """Leaves nothing of it; its row goes with the draft."""
        self._stack.close()
