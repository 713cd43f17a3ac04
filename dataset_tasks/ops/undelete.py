"""undelete: brings back a final version that was deleted, as long as its bytes were not given up."""

from __future__ import annotations

from dataset_tasks.errors import NotFoundError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import Reference, State, Version
from dataset_tasks.ops.context import Context, about
from dataset_tasks.ops.requests import Undelete, UndeleteResult
from dataset_tasks.ops.settling import settle


def run(context: Context, request: Undelete) -> UndeleteResult:
    """Makes a tombstone the version again that it was; one that stands stays as it is.

    A reference is an id, or `project/name@version` with the number it had: no other ever has it. Aliases that it had
    last name it again.

    Raises:
        NotFoundError: Nothing ever answered to the reference.
        StateError: Of kind `purged`: its bytes were given up; or it is a draft, or a dropped one.
        ConflictError: Another writer moved the version.
    """
    version = find(context, request.ref)
    if version.state.is_final:
        settle(context, version)
        return _result(version)
    if version.state is not State.DELETED:
        raise StateError(
            f"{version.label} ({version.id}) is {version.state}, expected deleted",
            kind=str(version.state),
            hint="A dropped draft does not come back: make it again.",
        )
    failpoint("undelete.before_commit")
    back = context.session.catalog.undelete(version, context.record(request, _result))
    failpoint("undelete.after_commit")
    settle(context, back)
    return _result(back)


def find(context: Context, ref: str) -> Version:
    """The version of a reference, a tombstone too where that is exact.

    Raises:
        NotFoundError: Nothing ever answered to it.
    """
    catalog = context.session.catalog
    wanted = Reference.parse(ref)
    try:
        return catalog.resolve(ref)
    except NotFoundError:
        gone = catalog.versions(
            project=wanted.project, name=wanted.name, version=wanted.selector, states=(State.DELETED,)
        )
        if not gone:
            raise
        return gone[-1]


def _result(version: Version) -> UndeleteResult:
    return UndeleteResult(**about(version), state=str(version.state))
