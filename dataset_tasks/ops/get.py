"""get: a folder with the content of a version, verified on the way; complete or absent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataset_tasks import external
from dataset_tasks.cache import TreeKey
from dataset_tasks.catalog.rows import dump
from dataset_tasks.copies import extract
from dataset_tasks.errors import IntegrityError, InvalidArgumentError, NotFoundError
from dataset_tasks.manifest import FILE, LINK, PathRange
from dataset_tasks.manifest.columns import int64s
from dataset_tasks.model import Version
from dataset_tasks.mutable import holds, sweep, write_folder
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.requests import GetCopy, GetCopyResult
from dataset_tasks.paths import DatasetPattern, show
from dataset_tasks.session import Session

_EVERYTHING = b"", None


def run(context: Context, request: GetCopy, *, may_be_empty: bool = False) -> GetCopyResult:
    """Gives the shared read-only copy, or fills a folder of the user's own.

    Args:
        context: Where it is done.
        request: What is wanted.
        may_be_empty: A pattern that matches no file is no mistake.

    Raises:
        NotFoundError: A pattern of `files` matches no file of the version.
        StateError: The version is not final, or was deleted while it was read.
        SourceError: External links are gone, or changed since they were added; they are named and there is no copy.
        SourceUnavailableError: The servers of external links do not answer; trying again may help.
        InvalidArgumentError: `part` and `num_parts` do not go together.
        TargetError: The target can't take the copy; it is as it was.
        IntegrityError: Stored bytes are missing or damaged; the files are named and there is no copy.
        StorageError: A disk is full, or the store does not answer.
    """
    version = context.session.catalog.resolve(request.ref)
    require_final(version, "a copy")
    if "run_id" in context.origin:  # a run of a plan, a DAG or a flow
        context.session.catalog.add_read(version.id, context.origin)
    try:
        return _copied(context, request, version, may_be_empty)
    except IntegrityError as error:
        now = _moved_since(context, version, error)
    return _copied(context, request, now, may_be_empty)


def _moved_since(context: Context, version: Version, error: IntegrityError) -> Version:
    """The version as it stands, when its bytes were moved while they were read.

    Raises:
        IntegrityError: The given one: they were not.
        StateError: It was deleted meanwhile, and `gc` has freed its bytes.
    """
    now = context.session.catalog.version(version.id)
    require_final(now, "a copy")
    if now.index == version.index:
        raise error
    return now


def _copied(context: Context, request: GetCopy, version: Version, may_be_empty: bool) -> GetCopyResult:
    wanted = _Wanted(context.session, version, request)
    fetch_link = partial(external.fetch, stores=context.session.stores)
    files, size = wanted.totals()
    if wanted.idle and not may_be_empty:
        raise NotFoundError(
            f"No file of {version.label} matches {', '.join(map(show, wanted.idle))}",
            hint="See `list_files()`, or `dataset-tasks ls`, for what is there.",
        )
    with context.progress.task(f"{version.dataset}: copy", files=files, bytes=size) as task:
        if request.target is not None and _is_done(context, request.target, wanted):
            place = Path(os.path.expanduser(request.target)).absolute()
        elif request.target is not None:
            write_folder(
                request.target,
                lambda folder: extract(
                    wanted.tables(),
                    context.session.chunk_opener(wanted.manifest),
                    folder,
                    fetch_link=fetch_link,
                    workers=request.max_workers,
                    task=task,
                ),
                overwrite=request.overwrite,
                keep_off=_ours(context.session),
            )
            place = Path(os.path.expanduser(request.target)).absolute()
        else:
            place = context.session.cache.get(
                TreeKey(version.catalog_id, version.id, wanted.part_name()),
                wanted.tables,
                context.session.chunk_opener(wanted.manifest),
                content=version.content_hash,
                fetch_link=fetch_link,
                parents=_relatives(version, request),
                soft_links=bool(request.soft_links),
                size=size,
                workers=request.max_workers,
                task=task,
            )
    return GetCopyResult(**about(version), folder=str(place), files=files, bytes=size)


def read_only_copy(context: Context, ref: str, *, files: Sequence[str] = ()) -> Path:
    """The shared copy of a version, or of the files that patterns name, if any: held until this process ends."""
    return Path(run(context, GetCopy(ref=ref, files=tuple(files)), may_be_empty=True).folder)


def _is_done(context: Context, target: str, wanted: _Wanted) -> bool:
    """Whether an earlier try of the same call, whose answer was lost, has filled the target already.

    Where links lead is read again, to compare: nobody else knows what they hold.
    """
    place = Path(os.path.expanduser(target)).absolute()
    if not context.is_retryable or place.is_symlink() or not place.is_dir() or not any(place.iterdir()):
        return False
    if not holds(place, wanted.files(), wanted.links()):
        return False
    sweep(place)
    return True


def _ours(session: Session) -> list[Path]:
    """Folders of ours that no copy may go into or replace: the cache, the home, and stores that are folders."""
    stores = [url for url in session.catalog.stores().values() if "://" not in url]
    return [session.settings.cache_dir, session.settings.home, *map(Path, stores)]


def _relatives(version: Version, request: GetCopy) -> list[TreeKey]:
    """Trees whose files may be shared by hard links; none for who asked for no links."""
    if request.soft_links is False:
        return []
    return [TreeKey(version.catalog_id, parent) for parent in version.parents]


class _Wanted:
    """The entries that a request means."""

    def __init__(self, session: Session, version: Version, request: GetCopy) -> None:
        if (request.part is None) != (request.num_parts is None):
            raise InvalidArgumentError("part and num_parts go together", hint="Give both, or neither.")
        if request.num_parts is not None and not 0 <= (request.part or 0) < request.num_parts:
            raise InvalidArgumentError(
                f"there is no part {request.part} of {request.num_parts}", hint="Parts are counted from 0."
            )
        self.manifest = session.manifest(version)
        self._request, self._stores = request, session.stores
        self._patterns = {each: DatasetPattern(each) for each in request.files}
        self._met: set[str] = set()

    @property
    def idle(self) -> list[str]:
        """The patterns that matched nothing; known once the totals are."""
        return [each for each in self._patterns if each not in self._met]

    def tables(self) -> Iterator[pa.Table]:
        """The entries, sorted by path."""
        tables = self.manifest.select(self._matches, within=self._span()) if self._patterns else self.manifest.batches()
        request = self._request
        if request.part is None or request.num_parts is None:
            return tables
        whole = sum(sum(table["size"].to_pylist()) for table in self._again())
        return _part(tables, request.part, request.num_parts, whole)

    def files(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Path, size and hash of each that is no link."""
        for kind, *file in self._columns("kind", "path", "size", "hash"):
            if kind == FILE:
                yield file[0], file[1], file[2]

    def links(self) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        """Path of each link, and what it leads to in pieces."""
        for kind, path, url, pin, size in self._columns("kind", "path", "link", "pin", "size"):
            if kind == LINK:
                yield path, external.fetch(url, pin or "", size, stores=self._stores)

    def _columns(self, *names: str) -> Iterator[tuple[Any, ...]]:  # Any: each column has its own type
        for table in self.tables():
            yield from zip(*(table[name].to_pylist() for name in names), strict=True)

    def totals(self) -> tuple[int, int]:
        """How many files and bytes; of a whole version from the index alone."""
        if not self._patterns and self._request.part is None:
            return len(self.manifest), self.manifest.bytes
        files = size = 0
        for table in self.tables():
            files += len(table)
            size += sum(table["size"].to_pylist())
        return files, size

    def part_name(self) -> str:
        """What tells the tree of these entries from other parts of the version; empty for all of it."""
        request = self._request
        words = []
        if request.part is not None:
            words.append(f"{request.part}-of-{request.num_parts}")
        if request.files:
            words.append(hashlib.sha256(dump(sorted(request.files)).encode()).hexdigest()[:16])
        if request.soft_links is False:
            words.append("unlinked")
        return "_".join(words)

    def _again(self) -> Iterator[pa.Table]:
        columns = ("path", "size")
        return self.manifest.select(self._matches, columns, within=self._span())

    def _matches(self, paths: Sequence[bytes]) -> list[bool]:
        if not self._patterns:
            return [True] * len(paths)
        hits = {text: [pattern.matches(path) for path in paths] for text, pattern in self._patterns.items()}
        self._met.update(text for text, each in hits.items() if any(each))
        return [any(each) for each in zip(*hits.values(), strict=True)]

    def _span(self) -> PathRange:
        if len(self._patterns) != 1:
            return PathRange(*_EVERYTHING)
        [pattern] = self._patterns.values()
        return PathRange(*pattern.span())


def _part(tables: Iterator[pa.Table], part: int, parts: int, whole: int) -> Iterator[pa.Table]:
    """The entries whose middle lies in one part of all bytes; where all are empty, every n-th entry."""
    seen = position = 0
    for table in tables:
        chosen = []
        for row, size in enumerate(table["size"].to_pylist()):
            mine = (2 * seen + size) * parts // (2 * whole) if whole else position % parts
            if min(mine, parts - 1) == part:
                chosen.append(row)
            seen += size
            position += 1
        if chosen:
            yield table.take(int64s(chosen))
