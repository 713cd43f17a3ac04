"""add: takes files of a folder, or from a URL, into a draft. Their bytes are hashed now and stored by upload."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import TypeVar, get_args

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.external.policy import check_path, may_read
from dataset_tasks.manifest import Manifest, PathRange
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.ops.content import Comparer, Edit, commit_edit
from dataset_tasks.ops.context import Context, about, draft, draft_or_final
from dataset_tasks.ops.imported import imported
from dataset_tasks.ops.onepass import Keeper
from dataset_tasks.ops.requests import AddFiles, AddFilesResult, OnError, Request, Result
from dataset_tasks.paths import show
from dataset_tasks.scan import Scan, Source
from dataset_tasks.sources import is_url
from dataset_tasks.statcache import StatCache

R = TypeVar("R", bound=Result)


def run(context: Context, request: AddFiles) -> AddFilesResult:
    """Adds a file or folder, or imports what a URL leads to.

    Raises:
        InvalidArgumentError: The base folder is not above the path, or a pattern or `dataset_path` is no good.
        SourceError: Files can't be read, changed meanwhile, or have names no dataset path can hold; all are named.
        StateError: The version is no draft and would change.
    """
    skipped: tuple[str, ...] = ()

    def result(version: Version, edit: Edit) -> AddFilesResult:
        return AddFilesResult(
            **about(version),
            added=edit.added,
            modified=edit.modified,
            skipped=skipped,
            files=edit.files,
            bytes=edit.bytes,
        )

    version = draft_or_final(context, request.ref)
    base = context.session.manifest(version)
    if is_url(request.path):
        edit, skipped = imported(context, version, base, request)
    else:
        source = source_of(request)
        edit, skipped = scanned(
            context, version.dataset, base, source, request.on_error, request.max_workers, version=version
        )
    return result(commit_edit(context, request, version, edit, lambda now: result(now, edit), base=base), edit)


def add_folder(
    context: Context,
    adding: AddFiles,
    *,
    request: Request,
    result: Callable[[Version, Edit], R],
    fingerprint: str,
    origin: Mapping[str, JsonValue],
) -> R:
    """As `run`, inside another operation, which also sets fingerprint and origin of the draft."""
    version = draft(context, adding.ref)
    edit, _ = scanned(
        context,
        version.dataset,
        context.session.manifest(version),
        source_of(adding),
        cached=False,
        version=version,
    )
    now = commit_edit(
        context,
        request,
        version,
        edit,
        lambda moved: result(moved, edit),
        fingerprint=fingerprint,
        origin=origin,
    )
    return result(now, edit)


def scanned(
    context: Context,
    title: str,
    base: Manifest,
    source: Source,
    on_error: OnError = "raise",
    max_workers: int | None = None,
    *,
    within: PathRange | None = None,
    cached: bool = True,
    version: Version | None = None,
) -> tuple[Edit, tuple[str, ...]]:
    """Scans a source and compares it with a manifest: the edit, and the sources that were left out.

    Given the draft, in a build, it stores what it has to read and is new.
    """
    if cached:  # what a transform wrote is taken wherever it is
        check_path(source.path)
    comparer = Comparer(base, within)
    cache = StatCache(context.session.settings.cache_dir) if cached else nullcontext()
    keeping = Keeper(context, version, base, context.kept) if version and context.kept else nullcontext()
    with cache as known, keeping as keeper, context.progress.task(f"{title}: scan") as task:
        scan = Scan(
            source,
            on_error=on_error,
            max_workers=max_workers,
            cache=known,
            task=task,
            keeper=keeper,
            may_follow=may_read if cached else None,
        )
        for batch in scan:
            comparer.add(batch)
    _tell(context, (*scan.notes, *map(str, scan.skipped)))
    return comparer.finish(), tuple(map(str, scan.skipped))


def source_of(request: AddFiles) -> Source:
    """What an add reads and where it lands; reads no file."""
    if request.on_error not in get_args(OnError):
        raise InvalidArgumentError(f"on_error {request.on_error!r} is not known", hint="Give `raise` or `skip`.")
    require_no_connection(request.path, request.connection)
    return Source.locate(
        request.path,
        wildcard=request.wildcard,
        exclude=request.exclude,
        local_base_folder=request.local_base_folder,
        dataset_path=request.dataset_path,
        recursive=request.recursive,
    )


def require_no_connection(path: str, connection: str | None) -> None:
    """Refuses a connection where there is nothing to connect to.

    Raises:
        InvalidArgumentError: One is named.
    """
    if connection is not None:
        raise InvalidArgumentError(
            f"{show(path)} is read without a connection", hint="Connections are for URLs of object stores."
        )


def _tell(context: Context, lines: Iterable[str]) -> None:
    for line in lines:
        context.progress.note(line)
