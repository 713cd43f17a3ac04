"""delete: drops a draft, or leaves a tombstone where a final version was. Bytes go later, by gc."""

from __future__ import annotations

from dataset_tasks.model import State, Version
from dataset_tasks.ops import scratch
from dataset_tasks.ops.context import Context, about
from dataset_tasks.ops.requests import Delete, DeleteResult


def run(context: Context, request: Delete) -> DeleteResult:
    """Ends a version. Its children keep their content; its number and id are not used again if it was final.

    Raises:
        NotFoundError: Nothing answers to the reference.
        StateError: Of kind `in_use`: it is the parent of others and `force` is not set.
        ConflictError: Another writer moved the version.
    """
    catalog = context.session.catalog
    version = catalog.resolve(request.ref)
    if version.state in (State.ABORTED, State.DELETED):
        return _result(version)
    record = context.record(request, _result)
    if version.state is State.IN_PROGRESS:
        ended = catalog.drop(version, record)
        scratch.clear(context.session, version)
    else:
        ended = catalog.delete(version, record, force=request.force)
        context.session.flush_journal()
    return _result(ended)


def _result(version: Version) -> DeleteResult:
    return DeleteResult(**about(version), state=str(version.state))
