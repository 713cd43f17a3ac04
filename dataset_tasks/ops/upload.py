"""upload: stores the bytes of pending files, in chunks; an interrupted one goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import pyarrow as pa

from dataset_tasks.catalog.registry import OBJECTS_GONE
from dataset_tasks.errors import ConflictError, SourceError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.kernels import pc
from dataset_tasks.manifest import Manifest, PathRange, place
from dataset_tasks.manifest.columns import bounds_of, flat
from dataset_tasks.manifest.reading import EVERYTHING, cut
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops import scratch, unchanged
from dataset_tasks.ops.content import Change, commit
from dataset_tasks.ops.context import Context, about, require_draft
from dataset_tasks.ops.packing import MOST_MEMBERS, Job, Packed, chunk_bytes, pack, recorded_chunks
from dataset_tasks.ops.requests import Upload, UploadResult
from dataset_tasks.ops.reuse import Placed, StoredBefore
from dataset_tasks.pending import Pending
from dataset_tasks.progress import Task
from dataset_tasks.store import is_url

_SHOWN = 20
_FEW = 50_000
_TRIES = 2
_THREADS_PAY = 128 << 10
_LOOKED_AT = ("path", "kind", "size", "hash", "chunk", "link")


def run(context: Context, request: Upload) -> UploadResult:
    """Packs what is pending into chunks, hashing every byte again on the way; nothing pending: does nothing.

    Raises:
        SourceError: Files vanished, changed or can't be read; all are named, everything else is stored and kept.
        StorageError: The store refused or did not answer; whole chunks that were stored are kept.
        InvalidArgumentError: The chunk size is not above 0.
        StateError: The version is aborted or deleted.
    """
    catalog = context.session.catalog
    version = catalog.resolve(request.ref)
    if version.state.is_final:
        return UploadResult(**about(version))
    require_draft(version)
    standing = unchanged.settle(context, request, version)
    if standing is not None:
        return UploadResult(**about(standing), unchanged=True, why=unchanged.same_as(standing))
    size = chunk_bytes(request)
    if not version.pending:
        return UploadResult(**about(version))
    try:
        return _uploaded(context, request, version, size)
    except (ConflictError, StateError):
        now = catalog.version(version.id)
        if not now.state.is_final:
            raise
        return UploadResult(**about(now))  # another one stored all of it and finalized


def _uploaded(context: Context, request: Upload, version: Version, size: int) -> UploadResult:
    for _ in range(_TRIES):
        try:
            return _Upload(context, request, version, size).run()
        except ConflictError as error:
            if error.kind != OBJECTS_GONE:
                raise
        # chunks it shared or resumed from were given up: others take their place
        version = context.session.catalog.version(version.id)
        require_draft(version)
    return _Upload(context, request, version, size).run()


@dataclass(slots=True)
class _Tally:
    """What the chunks of an upload hold, and what could not be packed."""

    manifest: Manifest | None = None
    placed: Placed = field(default_factory=Placed)
    objects: dict[str, ObjectRef] = field(default_factory=dict)
    reused: dict[str, ObjectRef] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    stored: int = 0

    def take(self, packed: Packed) -> None:
        if packed.placed is not None and packed.ref is not None:
            self.placed.add(packed.placed)
            self.objects[packed.ref.key] = packed.ref
            self.stored += packed.ref.size
        self.failures |= packed.failures
        self.files += packed.files
        self.bytes += packed.bytes


class _Upload:
    def __init__(self, context: Context, request: Upload, version: Version, size: int) -> None:
        self._context = context
        self._request = request
        self._version = version
        self._store_id = context.session.store_id(request.store) if request.store else version.store_id
        self._few: list[pa.Table] | None = None
        self._chunk_bytes = size

    def run(self) -> UploadResult:
        """Packs, then commits; what was packed is committed also when some sources failed."""
        tally = self._stored()
        result = UploadResult(
            **about(self._version),
            files=tally.files,
            bytes=tally.bytes,
            stored_bytes=tally.stored,
            chunks=len(tally.objects),
        )
        if tally.placed:
            failpoint("upload.before_commit")
            self._commit(tally, result)
        if tally.failures:
            raise self._error(tally.failures)
        return result

    def _stored(self) -> _Tally:
        """Packs everything; the commit goes on with the manifest that was read here."""
        tally = _Tally()
        manifest = tally.manifest = self._context.session.manifest(self._version)
        self._resume(manifest, tally)
        size = self._pending_bytes(manifest)
        workers = self._request.max_workers or self._suitable_workers(size)
        with self._context.progress.task(
            f"{self._version.dataset}: upload", files=self._version.pending, bytes=size
        ) as task:
            task.advance(files=tally.files, bytes=tally.bytes)
            for packed in self._packed(self._jobs(manifest, tally), workers, task):
                tally.take(packed)
        return tally

    # --- what is to be stored

    def _jobs(self, manifest: Manifest, done: _Tally) -> Iterator[Job]:
        """The pending files in path order, cut into what one chunk takes."""
        pending = self._read_pending()
        job = Job()
        for batch in self._waiting(manifest):
            todo = _without(batch, done.placed)
            sources = pending.sources(flat(todo["path"]))
            for row in zip(
                todo["path"].to_pylist(), todo["size"].to_pylist(), todo["hash"].to_pylist(), sources, strict=True
            ):
                if job.paths and (job.total + row[1] > self._chunk_bytes or len(job.paths) >= MOST_MEMBERS):
                    yield job
                    job = Job()
                job.add(*row)
        if job.paths:
            job.is_last = True
            yield job

    def _pending_bytes(self, manifest: Manifest) -> int:
        if self._version.pending == self._version.files:
            return self._version.bytes
        return sum(sum(batch["size"].to_pylist()) for batch in self._waiting(manifest))

    def _waiting(self, manifest: Manifest) -> Iterable[pa.Table]:
        """The pending entries of the draft; where they are few, they are read once."""
        if self._version.pending > _FEW:
            return pending_batches(manifest)
        if self._few is None:
            self._few = list(pending_batches(manifest))
        return self._few

    def _read_pending(self) -> Pending:
        ref = self._version.pending_object
        if ref is None:
            return Pending.nothing()
        return Pending(self._context.session.objects.read(ref))

    def _suitable_workers(self, size: int) -> int:
        """Small files go to a near store one after another: two threads would only fight over the interpreter."""
        is_near = not is_url(self._context.session.catalog.store_url(self._store_id))
        if is_near and size < self._version.pending * _THREADS_PAY:
            return 1
        return min(4, len(os.sched_getaffinity(0)))

    def _packed(self, jobs: Iterator[Job], workers: int, task: Task) -> Iterator[Packed]:
        """Packs jobs by a few threads, in order of their paths, no more of them at once than threads."""

        def work(job: Job) -> Packed:
            return pack(self._context, self._version, self._store_id, job, self._request, task)

        if workers == 1:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="dataset-tasks-upload") as pool:
            running: list[Future[Packed]] = [pool.submit(work, job) for job in islice(jobs, workers)]
            try:
                while running:
                    yield running.pop(0).result()
                    running += [pool.submit(work, job) for job in islice(jobs, 1)]
            finally:
                for future in running:
                    future.cancel()

    # --- what was stored

    def _resume(self, manifest: Manifest, tally: _Tally) -> None:
        """Takes over the chunks that an add, or an upload that was killed, has stored, and what the last version has."""
        kept = self._context.kept.packed if self._context.kept is not None else []
        for ref, table in recorded_chunks(self._context, self._version, kept):
            if ref.store_id != self._store_id:
                continue
            placed = _without(still_pending(manifest, table), tally.placed)  # a try that began anew has packed it twice
            if len(placed):
                tally.take(Packed(ref=ref, placed=placed, files=len(placed)))
        before = StoredBefore(self._context, self._version, self._store_id)
        if before.is_empty:
            return
        for batch in self._waiting(manifest):
            found = before.find(_without(batch, tally.placed))
            if found is not None:
                tally.placed.add(found)
                tally.files += len(found)
        tally.reused = before.chunks

    def _commit(self, tally: _Tally, result: UploadResult) -> None:
        def change(head: Version, manifest: Manifest) -> Change:
            placed = tally.placed.in_order()
            if head is not self._version:
                placed = (still_pending(manifest, part) for part in placed)
            built = place(
                manifest,
                placed,
                new_key=lambda: new_key("pack"),
                store_id=self._store_id,
                objects=tally.objects | tally.reused,
            )
            return Change(built=built, objects=tuple(tally.objects), needs=tuple(tally.reused))

        now = commit(
            self._context,
            self._request,
            self._version,
            change,
            lambda moved: replace(result, version=moved.version),
            store_id=self._store_id,
            base=tally.manifest,
        )
        failpoint("upload.after_commit")
        if not now.pending:
            scratch.clear(self._context.session, now)

    def _error(self, failures: Mapping[str, str]) -> SourceError:
        lines = [f"- {why}" for why in islice(failures.values(), _SHOWN)]
        more = [f"- and {len(failures) - _SHOWN} more"] if len(failures) > _SHOWN else []
        host = self._read_pending().host
        return SourceError(
            "\n".join([f"{len(failures)} files of {self._version.label} can't be uploaded:", *lines, *more]),
            paths=tuple(failures),
            hint=f"They were added on host {host!r}. Put them back as they were, add them again, or run upload where "
            "they are visible. What was stored is kept: the next upload stores only what is missing.",
        )


def pending_batches(manifest: Manifest, within: PathRange = EVERYTHING) -> Iterator[pa.Table]:
    """The pending entries of a manifest: path, size and hash, sorted by path; segments without any are not read."""
    for segment in manifest.index.overlapping(within):
        if segment.pending:
            table = cut(manifest.read(segment, _LOOKED_AT, keep=True), within)  # the commit rewrites it
            waits = pc.and_(pc.is_null(table["chunk"]), pc.is_null(table["link"]))
            yield table.filter(waits).select(["path", "size", "hash"])


def _without(batch: pa.Table, placed: Placed) -> pa.Table:
    """The rows of a batch that have no place yet."""
    if not placed or not len(batch):
        return batch
    return batch.filter(pc.invert(placed.known(flat(batch["path"]))))


def still_pending(manifest: Manifest, placed: pa.Table) -> pa.Table:
    """The placements of files that a manifest has, pending, with just these hashes."""
    first, last = bounds_of(placed)
    kept = [placed.slice(0, 0)]
    for batch in pending_batches(manifest, PathRange(first, last + b"\0")):
        at = pc.index_in(flat(placed["path"]), value_set=flat(batch["path"]))
        same = pc.equal(flat(batch["hash"]).take(at), flat(placed["hash"]))
        kept.append(placed.filter(same))
    return pa.concat_tables(kept)
