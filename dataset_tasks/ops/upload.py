"""upload: stores the bytes of pending files, in chunks; an interrupted one goes on where it stopped."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Manifest, PathRange, place
from dataset_tasks.manifest.columns import flat
from dataset_tasks.manifest.reading import cut
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops import scratch, unchanged
from dataset_tasks.ops.content import Change, commit
from dataset_tasks.ops.context import Context, about, require_draft
from dataset_tasks.ops.packing import Job, Packed, pack
from dataset_tasks.ops.requests import Upload, UploadResult
from dataset_tasks.ops.reuse import StoredBefore, in_order
from dataset_tasks.pending import Pending
from dataset_tasks.progress import Task

_MIB = 1 << 20
DEFAULT_CHUNK = 128 * _MIB
MOST_MEMBERS = 25_000
_SHOWN = 20


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
    if request.chunk_size is not None and not 0 < request.chunk_size < math.inf:
        raise InvalidArgumentError(f"chunk_size {request.chunk_size} MiB is not above 0", hint="Leave it out for 128.")
    if not version.pending:
        return UploadResult(**about(version))
    return _Upload(context, request, version).run()


@dataclass(slots=True)
class _Tally:
    """What the chunks of an upload hold, and what could not be packed."""

    placed: list[pa.Table] = field(default_factory=list)
    objects: dict[str, ObjectRef] = field(default_factory=dict)
    reused: dict[str, ObjectRef] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    stored: int = 0
    pending_bytes: int = 0

    def take(self, packed: Packed) -> None:
        if packed.placed is not None and packed.ref is not None:
            self.placed.append(packed.placed)
            self.objects[packed.ref.key] = packed.ref
            self.stored += packed.ref.size
        self.failures |= packed.failures
        self.files += packed.files
        self.bytes += packed.bytes


class _Upload:
    def __init__(self, context: Context, request: Upload, version: Version) -> None:
        self._context = context
        self._request = request
        self._version = version
        self._store_id = context.session.store_id(request.store) if request.store else version.store_id
        self._chunk_bytes = int((request.chunk_size or 0) * _MIB) or DEFAULT_CHUNK
        self._workers = max(1, request.max_workers or min(4, len(os.sched_getaffinity(0))))

    def run(self) -> UploadResult:
        """Packs, then commits; what was packed is committed also when some sources failed."""
        tally = _Tally()
        manifest = self._context.session.manifest(self._version)
        self._resume(manifest, tally)
        with self._context.progress.task(
            f"{self._version.dataset}: upload", files=self._version.pending, bytes=tally.pending_bytes
        ) as task:
            task.advance(files=tally.files, bytes=tally.bytes)
            for packed in self._packed(self._jobs(manifest, tally), task):
                tally.take(packed)
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

    # --- what is to be stored

    def _jobs(self, manifest: Manifest, done: _Tally) -> Iterator[Job]:
        """The pending files in path order, cut into what one chunk takes."""
        pending = self._read_pending()
        job = Job()
        for batch in pending_batches(manifest):
            todo = batch.filter(_unknown(batch, done.placed)) if done.placed else batch
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

    def _read_pending(self) -> Pending:
        ref = self._version.pending_object
        if ref is None:
            return Pending.nothing()
        return Pending.decode(self._context.session.objects.read(ref))

    def _packed(self, jobs: Iterator[Job], task: Task) -> Iterator[Packed]:
        """Packs jobs by a few threads, in order of their paths, no more of them at once than threads."""

        def work(job: Job) -> Packed:
            return pack(self._context, self._version, self._store_id, job, self._request, task)

        if self._workers == 1:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="dataset-tasks-upload") as pool:
            running: list[Future[Packed]] = [pool.submit(work, job) for job in islice(jobs, self._workers)]
            try:
                while running:
                    yield running.pop(0).result()
                    running += [pool.submit(work, job) for job in islice(jobs, 1)]
            finally:
                for future in running:
                    future.cancel()

    # --- what was stored

    def _resume(self, manifest: Manifest, tally: _Tally) -> None:
        """Takes over the chunks that an upload which was killed had recorded, and what the last version has stored."""
        session = self._context.session
        for chunk in session.catalog.objects_of(self._version.id, "chunk"):
            if chunk.delta is None or chunk.state != "writing":
                continue
            ref = ObjectRef(store_id=chunk.store_id, key=chunk.key, size=chunk.size, sha256=chunk.sha256)
            placed = still_pending(manifest, Packed.read_delta(session, chunk.store_id, chunk.delta))
            if len(placed):
                tally.take(Packed(ref=ref, placed=placed, files=len(placed)))
        before = StoredBefore(self._context, self._version, self._store_id)
        resumed = list(tally.placed)
        for batch in pending_batches(manifest):
            tally.pending_bytes += pc.sum(batch["size"]).as_py()
            found = before.find(batch.filter(_unknown(batch, resumed)) if resumed else batch)
            if found is not None:
                tally.placed.append(found)
                tally.files += len(found)
        tally.reused = before.chunks

    def _commit(self, tally: _Tally, result: UploadResult) -> None:
        every = list(in_order(tally.placed))

        def change(head: Version, manifest: Manifest) -> Change:
            placed = [still_pending(manifest, part) for part in every] if head is not self._version else every
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


def pending_batches(manifest: Manifest) -> Iterator[pa.Table]:
    """The pending entries of a manifest: path, size and hash, sorted by path; segments without any are not read."""
    for segment in manifest.index.segments:
        if segment.pending:
            table = manifest.read(segment)
            waits = pc.and_(pc.is_null(table["chunk"]), pc.is_null(table["link"]))
            yield table.filter(waits).select(["path", "size", "hash"])


def _unknown(batch: pa.Table, placed: list[pa.Table]) -> pa.Array:
    """Which rows of a batch have no place yet."""
    first, last = batch["path"][0].as_py(), batch["path"][len(batch) - 1].as_py()
    near = [cut(each, PathRange(first, last + b"\0")) for each in placed]
    known = pa.chunked_array([flat(each["path"]) for each in near if len(each)], type=pa.binary())
    return pc.invert(pc.is_in(flat(batch["path"]), value_set=flat(known)))


def still_pending(manifest: Manifest, placed: pa.Table) -> pa.Table:
    """The placements of files that a manifest has, pending, with just these hashes."""
    kept = []
    for batch in pending_batches(manifest):
        at = pc.index_in(flat(placed["path"]), value_set=flat(batch["path"]))
        same = pc.equal(flat(batch["hash"]).take(at), flat(placed["hash"]))
        kept.append(placed.filter(same))
    return pa.concat_tables(kept) if kept else placed.slice(0, 0)
