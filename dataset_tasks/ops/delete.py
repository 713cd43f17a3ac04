"""delete: drops a draft, or leaves a tombstone where a final version was. Bytes go later, by gc."""

from __future__ import annotations

import logging

from dataset_tasks.catalog.leases import Lease
from dataset_tasks.errors import DatasetError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import State, Version
from dataset_tasks.ops.context import Context, about, dropped
from dataset_tasks.ops.requests import Delete, DeleteResult
from dataset_tasks.ops.settling import settle

_log = logging.getLogger("dataset_tasks")


def run(context: Context, request: Delete) -> DeleteResult:
    """Ends a version. Its children keep their content; its number and id are not used again if it was final.

    Raises:
        NotFoundError: Nothing answers to the reference.
        StateError: Of kind `in_use`: it is the parent of others and `force` is not set.
        ConflictError: Another writer moved the version.
    """
    return _end(context, request, context.session.catalog.resolve(request.ref))


def abandon(context: Context, draft_id: str, why: str, lease: Lease | None = None) -> None:
    """Drops the draft of an operation that failed; when even that fails, the first error is the one to be told.

    With a `lease`, only while nobody took it over.
    """
    try:
        draft = context.session.catalog.version(draft_id)
        if draft.state is State.IN_PROGRESS:
            _end(context.part(f"abandon/{draft_id}"), Delete(ref=draft_id), draft, why, lease)
    except DatasetError as error:
        _log.warning("the draft %s could not be dropped: %s", draft_id, error)


def _end(
    context: Context, request: Delete, version: Version, why: str = "", lease: Lease | None = None
) -> DeleteResult:
    catalog = context.session.catalog
    if version.state in (State.ABORTED, State.DELETED):
        settle(context, version)
        return _result(version)
    record = context.record(request, _result)
    failpoint("delete.before_commit")
    if version.state is State.IN_PROGRESS:
        ended = catalog.drop(version, record, origin=dropped(context, why), lease=lease)
    else:
        ended = catalog.delete(version, record, force=request.force)
    failpoint("delete.after_commit")
    settle(context, ended)
    return _result(ended)


def _result(version: Version) -> DeleteResult:
    return DeleteResult(**about(version), state=str(version.state))
