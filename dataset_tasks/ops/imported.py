"""What add and sync do with a URL: list it, read what is not known yet, and pack that at once, straight into the store.

A listing tells name, size and ETag of every object. Where these are what they were when the object was last read, its hash
is known (`remembered`) and nothing of it is read: a bucket that did not change costs a listing. Others are read once: hashed,
and packed into chunks on the way, which the upload then finds as it finds those of an upload that was killed. What has its
hash from before and is not stored yet is read by the upload, on condition of its ETag, and held against the hash.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from dataset_tasks import paths
from dataset_tasks.errors import SourceError, StorageError
from dataset_tasks.external import Found
from dataset_tasks.external.places import Place
from dataset_tasks.external.stream import Ahead, digest_of
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Manifest, PathRange
from dataset_tasks.model import State, Version
from dataset_tasks.ops.content import Comparer, Edit
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.packing import Job, Packed, chunk_bytes, pack
from dataset_tasks.ops.remembered import Remembered, key_of
from dataset_tasks.ops.requests import AddFiles, SyncFolder, Upload
from dataset_tasks.progress import Task
from dataset_tasks.scan import HINT_UNREADABLE, Batch
from dataset_tasks.sources import pinned

#: How many files go into one chunk.
_CHUNK_FILES: Final = 25_000
_WORKERS: Final = 2
#: Pages that wait for hashes before what is gathered so far is read, however little it is.
_PAGES_AHEAD: Final = 16
#: What is known is written down each time that so many bytes were read: a killed import need not read them again.
_SAVED_EACH: Final = 4 << 30
_SHOWN: Final = 100


def place_of(request: AddFiles | SyncFolder) -> Place:
    """What a request reads and where it lands; reads nothing.

    Raises:
        InvalidArgumentError: As `Place.locate`.
    """
    if isinstance(request, SyncFolder):
        return Place.locate(
            request.path,
            connection=request.connection,
            wildcard=request.wildcard,
            exclude=request.exclude,
            dataset_path=request.dataset_path,
            only_folders=True,
        )
    return Place.locate(
        request.path,
        connection=request.connection,
        wildcard=request.wildcard,
        exclude=request.exclude,
        local_base_folder=request.local_base_folder,
        dataset_path=request.dataset_path,
        recursive=request.recursive,
    )


def imported(
    context: Context,
    version: Version,
    base: Manifest,
    request: AddFiles | SyncFolder,
    *,
    within: PathRange | None = None,
) -> tuple[Edit, tuple[str, ...]]:
    """Imports what a URL leads to: the edit that brings it into a manifest, and what was left out.

    Raises:
        InvalidArgumentError: The URL can't be imported, or a pattern or folder is no good.
        SourceError: Objects can't be read, changed meanwhile, or have names that no dataset path can hold; all are named.
        SourceUnavailableError: A server does not answer. What was read before is kept for the next try.
    """
    place = place_of(request)
    memory = _memory(context, version.store_id, place)
    problems = _Problems(skips=isinstance(request, AddFiles) and request.on_error == "skip")
    comparer = Comparer(base, within)
    with context.progress.task(f"{version.dataset}: import") as task:
        work = _Import(context, version, base, memory, problems, task, request.max_workers or _WORKERS)
        try:
            for batch in work.batches(place):
                comparer.add(batch)
        except BaseException:
            with suppress(StorageError):  # the first error is the one to be told
                memory.save(whole=False)
            raise
        memory.save(whole=not problems.lines)
    problems.raise_any()
    for line in problems.lines:
        context.progress.note(f"left out: {line}")
    return comparer.finish(), tuple(problems.lines)


def listed(
    context: Context,
    store_id: str | None,
    base: Manifest,
    request: AddFiles | SyncFolder,
    *,
    within: PathRange | None = None,
) -> Edit:
    """As `imported`, but from the listing alone: what would have to be read counts as changed. Writes nothing.

    What is remembered is looked up in a store; None looks nowhere.

    Raises:
        InvalidArgumentError, SourceError, SourceUnavailableError: As `imported`.
    """
    place = place_of(request)
    memory = _memory(context, store_id, place) if store_id else None
    problems = _Problems(skips=isinstance(request, AddFiles) and request.on_error == "skip")
    comparer = Comparer(base, within)
    for page in place.pages(context.session.stores):
        rows = problems.well_named(page)
        if rows:
            known = memory.known(rows) if memory else [b""] * len(rows)
            hashes = [known[at] or hashlib.sha256(each.pin.encode()).digest() for at, each in enumerate(rows)]
            comparer.add(_batch(rows, hashes))
    problems.raise_any()
    return comparer.finish()


def _memory(context: Context, store_id: str, place: Place) -> Remembered:
    return Remembered(context.session.objects, store_id, key_of(place.what), context.session.clock())


class _Problems:
    """Objects that can't be taken, one line each."""

    def __init__(self, *, skips: bool) -> None:
        self.lines: list[str] = []
        self._skips = skips
        self._urls: list[str] = []

    @property
    def are_fatal(self) -> bool:
        """Whether it is sure that the import fails: from then on it is only listed."""
        return bool(self.lines) and not self._skips

    def add(self, url: str, line: str) -> None:
        self.lines.append(line)
        self._urls.append(url)

    def well_named(self, page: Sequence[Found]) -> list[Found]:
        """Those whose dataset path is one; the others are problems."""
        if paths.first_fault([each.path for each in page]) is None:
            return list(page)
        good = []
        for each in page:
            if why := paths.fault(each.path):
                self.add(each.url, f"{paths.show(each.url)}: its dataset path would be wrong: it {why}")
            else:
                good.append(each)
        return good

    def raise_any(self) -> None:
        """Raises the error that names all problems, unless they are left out."""
        if not self.are_fatal:
            return
        count = len(self.lines)
        shown = [f"  {line}" for line in self.lines[:_SHOWN]]
        more = [f"  and {count - _SHOWN:,} more"] if count > _SHOWN else []
        raise SourceError(
            "\n".join([f"{count:,} object{'s' if count > 1 else ''} can't be added:", *shown, *more]),
            paths=tuple(self._urls),
            hint=HINT_UNREADABLE,
        )


@dataclass(slots=True)
class _Page:
    """Consecutive objects on their way; `hashes` are empty where they are not known (yet). `new` were not remembered."""

    found: list[Found]
    hashes: list[bytes]
    unknown: int = 0
    new: int = 0


@dataclass(slots=True)
class _Work:
    """Objects that are read together, to be packed into one chunk, or only hashed because they may turn out the same."""

    packs: bool
    rows: list[tuple[_Page, int]] = field(default_factory=list)
    bytes: int = 0


class _Import:
    """One pass over a listing."""

    def __init__(
        self,
        context: Context,
        version: Version,
        base: Manifest,
        memory: Remembered,
        problems: _Problems,
        task: Task,
        workers: int,
    ) -> None:
        self._context, self._version, self._base = context, version, base
        self._memory, self._problems, self._task, self._workers = memory, problems, task, workers
        # An upload that follows in the same build says how; another one is not known yet, and takes over what it can use.
        self._upload = context.kept.upload if context.kept is not None else Upload(ref=version.id)
        store = self._upload.store
        self._store_id = context.session.store_id(store) if store else version.store_id
        self._chunk_bytes = chunk_bytes(self._upload)
        self._pages: deque[_Page] = deque()
        self._open = {packs: _Work(packs) for packs in (True, False)}
        self._running: deque[tuple[_Work, Future[None]]] = deque()
        self._unsaved = 0

    def batches(self, place: Place) -> Iterator[Batch]:
        """Everything that is there with its hash, in order."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="dataset-tasks-import") as pool:
            try:
                for found in place.pages(self._context.session.stores):
                    self._take(self._problems.well_named(found), pool)
                    while self._pages and (not self._pages[0].unknown or len(self._pages) > _PAGES_AHEAD):
                        yield from self._emit(pool)
                while self._pages:
                    yield from self._emit(pool)
            finally:
                for _, future in self._running:
                    future.cancel()

    def _take(self, found: list[Found], pool: ThreadPoolExecutor) -> None:
        if not found:
            return
        page = _Page(found, self._memory.known(found))
        held = self._held(found)
        for at, (each, digest) in enumerate(zip(found, page.hashes, strict=True)):
            if digest:
                self._task.advance(files=1, bytes=each.size)
            elif not self._problems.are_fatal:
                page.unknown += 1
                # What is there with the same size may well be the same: then packing it would only make garbage.
                packs = self._version.state is State.IN_PROGRESS and held.get(each.path) != each.size
                self._gather((page, at), self._open[packs], pool)
        page.new = page.unknown
        self._pages.append(page)

    def _held(self, found: Sequence[Found]) -> dict[bytes, int]:
        table = self._base.to_table(("path", "size"), within=PathRange(found[0].path, found[-1].path + b"\0"))
        return dict(zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True))

    def _gather(self, row: tuple[_Page, int], work: _Work, pool: ThreadPoolExecutor) -> None:
        size = row[0].found[row[1]].size
        if work.rows and (work.bytes + size > self._chunk_bytes or len(work.rows) >= _CHUNK_FILES):
            self._start(work, pool)
            work = self._open[work.packs]
        work.rows.append(row)
        work.bytes += size

    def _start(self, work: _Work, pool: ThreadPoolExecutor) -> None:
        """Has what was gathered read; when enough is under way, waits for the first."""
        self._open[work.packs] = _Work(work.packs)
        if work.rows:
            while len(self._running) > self._workers:
                self._finish()
            self._running.append((work, pool.submit(self._pack if work.packs else self._hash, work)))

    def _finish(self) -> None:
        work, future = self._running.popleft()
        future.result()
        for page, _ in work.rows:
            page.unknown -= 1
        self._unsaved += work.bytes

    def _emit(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        """The first page, once everything in it is known."""
        page = self._pages.popleft()
        while page.unknown:
            if not self._running:
                for work in list(self._open.values()):
                    self._start(work, pool)
            self._finish()
        rows = [at for at, digest in enumerate(page.hashes) if digest]
        found, hashes = [page.found[at] for at in rows], [page.hashes[at] for at in rows]
        self._memory.learn(found, hashes, new=page.new)
        if self._unsaved >= _SAVED_EACH:
            self._memory.save(whole=False)
            self._unsaved = 0
        if found and not self._problems.are_fatal:
            yield _batch(found, hashes)

    # --- in the threads ----------------------------------------------------------------------------------------------

    def _pack(self, work: _Work) -> None:
        """Stores objects as one chunk, which gives their hashes."""
        job = Job()
        for page, at in work.rows:
            each = page.found[at]
            job.add(each.path, each.size, b"", pinned(each.url, each.pin))
        packed: Packed = pack(self._context, self._version, self._store_id, job, self._upload, self._task)
        failpoint("import.after_chunk")
        digests: dict[bytes, bytes] = {}
        if packed.placed is not None:
            digests = dict(zip(packed.placed["path"].to_pylist(), packed.placed["hash"].to_pylist(), strict=True))
        for page, at in work.rows:
            each = page.found[at]
            page.hashes[at] = digests.get(each.path, b"")
            if not page.hashes[at]:
                self._problems.add(each.url, packed.failures[paths.to_text(each.path)])

    def _hash(self, work: _Work) -> None:
        asked = [_asked(page.found[at]) for page, at in work.rows]
        with Ahead(asked, self._context.session.stores) as ahead:
            for place, (page, at) in enumerate(work.rows):
                each = page.found[at]
                try:
                    page.hashes[at] = digest_of(ahead, place)
                except SourceError as error:
                    if error.retryable:
                        raise
                    self._problems.add(each.url, error.message)
                self._task.advance(files=1, bytes=each.size)


def _asked(found: Found) -> tuple[str, str, int]:
    return found.url, found.pin, found.size


def _batch(found: Sequence[Found], hashes: list[bytes]) -> Batch:
    count = len(found)
    return Batch(
        path=[each.path for each in found],
        size=[each.size for each in found],
        hash=hashes,
        source=[pinned(each.url, each.pin) for each in found],
        device=[0] * count,
        inode=[0] * count,
        mtime_ns=[0] * count,
        ctime_ns=[0] * count,
    )
