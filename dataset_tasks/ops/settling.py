"""What follows the commit that ends a version's draft. A try that was killed behind its commit left it undone."""

from __future__ import annotations

import logging

from dataset_tasks.errors import StorageError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import State, Version
from dataset_tasks.ops import scratch
from dataset_tasks.ops.context import Context

_log = logging.getLogger("dataset_tasks")


def settle(context: Context, version: Version) -> None:
    """Writes the journal, and removes what the draft needed and nobody needs now; again it does nothing.

    Raises:
        StorageError: The journal can't be written. What can't be removed costs space only and is logged.
    """
    context.session.flush_journal(version.id)
    if version.state is State.IN_PROGRESS:
        return
    scratch.clear(context.session, version)
    if version.state.is_final:
        _tidy(context, version)


def _tidy(context: Context, version: Version) -> None:
    """Removes what the draft had stored on the way and the final version does not refer to.

    Of a version that was moved since, nothing: what it referred to before may be what others, made from it, still need.
    """
    catalog, objects = context.session.catalog, context.session.objects
    if any(event.kind == "moved" for event in catalog.events(version_id=version.id)):
        return
    needed = {*context.session.manifest(version).index.objects, version.index.key if version.index else ""}
    left = [
        each
        for each in catalog.objects_of(version.id)
        if each.state != "writing" and each.kind != "report" and each.key not in needed
    ]
    if not left:
        return
    try:
        going = catalog.let_go([each.key for each in left], of=version.id)
        failpoint("finalize.after_condemn")
        objects.remove((each.store_id, each.key) for each in left if each.key in going)
        failpoint("finalize.after_tidy")
    except StorageError as error:
        _log.warning("%s left %d objects to gc: %s", version.label, len(left), error)
