"""sync: makes a part of a draft equal to a folder, or to what lies below a URL."""

from __future__ import annotations

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest import PathRange
from dataset_tasks.model import Version
from dataset_tasks.ops.add import require_no_connection, scanned
from dataset_tasks.ops.content import commit_edit
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.imported import imported
from dataset_tasks.ops.requests import SyncFolder, SyncFolderResult
from dataset_tasks.paths import normalise
from dataset_tasks.scan import Source
from dataset_tasks.sources import is_url


def run(context: Context, request: SyncFolder) -> SyncFolderResult:
    """Adds what the folder has, replaces what differs, removes what it does not have. Nothing changed: nothing written.

    Raises:
        InvalidArgumentError: The path is a file, or `dataset_path` or a pattern is no good.
        SourceError: The folder is missing, or files in it can't be read; all are named, nothing changes.
        StateError: The version is no draft and would change.
    """
    version = draft_or_final(context, request.ref)
    within = PathRange.under(normalise(request.dataset_path))
    base = context.session.manifest(version)
    if is_url(request.path):
        edit, _ = imported(context, version, base, request, within=within)
    else:
        edit, _ = scanned(
            context,
            version.dataset,
            base,
            _folder(request),
            max_workers=request.max_workers,
            within=within,
            version=version,
        )

    def result(now: Version) -> SyncFolderResult:
        return SyncFolderResult(
            **about(now),
            removed=edit.removed,
            added=edit.added,
            modified=edit.modified,
            files=edit.files,
            bytes=edit.bytes,
        )

    return result(commit_edit(context, request, version, edit, result, base=base))


def _folder(request: SyncFolder) -> Source:
    require_no_connection(request.path, request.connection)
    source = Source.locate(
        request.path, wildcard=request.wildcard, exclude=request.exclude, dataset_path=request.dataset_path
    )
    if source.name is not None:
        raise InvalidArgumentError(f"{request.path!r} is a file", hint="Sync a folder, or add the file.")
    return source
