"""sync: makes a part of a draft equal to a folder."""

from __future__ import annotations

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest import PathRange
from dataset_tasks.model import Version
from dataset_tasks.ops.add import scanned
from dataset_tasks.ops.content import commit_edit
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.requests import SyncFolder, SyncFolderResult
from dataset_tasks.paths import normalise
from dataset_tasks.scan import Source


def run(context: Context, request: SyncFolder) -> SyncFolderResult:
    """Adds what the folder has, replaces what differs, removes what it does not have. Nothing changed: nothing written.

    Raises:
        InvalidArgumentError: The path is a file, or `dataset_path` or a pattern is no good.
        SourceError: The folder is missing, or files in it can't be read; all are named, nothing changes.
        StateError: The version is no draft and would change.
    """
    version = draft_or_final(context, request.ref)
    source = Source.locate(
        request.path, wildcard=request.wildcard, exclude=request.exclude, dataset_path=request.dataset_path
    )
    if source.name is not None:
        raise InvalidArgumentError(f"{request.path!r} is a file", hint="Sync a folder, or add the file.")
    within = PathRange.under(normalise(request.dataset_path))
    base = context.session.manifest(version)
    edit, _ = scanned(context, version.dataset, base, source, max_workers=request.max_workers, within=within)

    def result(now: Version) -> SyncFolderResult:
        return SyncFolderResult(
            **about(now),
            removed=edit.removed,
            added=edit.added,
            modified=edit.modified,
            files=edit.files,
            bytes=edit.bytes,
        )

    return result(commit_edit(context, request, version, edit, result))
