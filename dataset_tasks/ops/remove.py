"""remove: takes what patterns match out of a draft."""

from __future__ import annotations

from dataset_tasks.manifest import Manifest, PathRange
from dataset_tasks.model import Version
from dataset_tasks.ops.content import Edit, commit_edit
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.requests import RemoveFiles, RemoveFilesResult
from dataset_tasks.paths import DatasetPattern


def run(context: Context, request: RemoveFiles) -> RemoveFilesResult:
    """Removes all that any of the patterns matches, in one commit; no match removes nothing.

    Raises:
        InvalidArgumentError: A pattern is empty or no good.
        StateError: The version is no draft and would change.
    """
    version = draft_or_final(context, request.ref)
    patterns = [DatasetPattern(each, request.recursive) for each in request.patterns or (None,)]
    edit = Edit()
    edit.removals.extend(matching(context.session.manifest(version), patterns))
    edit.removed = len(edit.removals)

    def result(now: Version) -> RemoveFilesResult:
        return RemoveFilesResult(**about(now), removed=edit.removed)

    return result(commit_edit(context, request, version, edit, result))


def matching(manifest: Manifest, patterns: list[DatasetPattern]) -> list[bytes]:
    """The paths that any of the patterns matches, sorted; reads only where one of them may."""
    found: set[bytes] = set()
    for pattern in patterns:
        for batch in manifest.batches(("path",), within=PathRange(*pattern.span())):
            found.update(path for path in batch["path"].to_pylist() if pattern.matches(path))
    return sorted(found)
