"""A sign of life: as long as a run works on its draft it prolongs a lease, so that gc can tell drafts of killed runs."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dataset_tasks.catalog.leases import RUN, Lease
from dataset_tasks.errors import CatalogError, ConflictError, DatasetError
from dataset_tasks.model import State, Version
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.delete import abandon
from dataset_tasks.ops.run import was_dropped
from dataset_tasks.paths import show

#: How long a run that is heard of no more is taken for alive.
SECONDS = 300.0
#: How long after that its draft is given up, by `gc` or by the next build of the dataset: its retry may come late.
DEAD = 86_400.0
#: How often a draft is begun anew that another process drops at once.
_TRIES = 6
_T = TypeVar("_T")
_log = logging.getLogger("dataset_tasks")


@contextmanager
def alive(context: Context, version_id: str) -> Iterator[Lease | None]:
    """Shows that the run which makes a draft is alive; a retry under the same key takes the lease over.

    Gives the lease; none where somebody has a turn at the draft.
    """
    catalog = context.session.catalog
    holder = hashlib.sha256(context.key.encode()).hexdigest()[:32]
    origin = {**context.origin, RUN: context.key}
    try:
        lease = catalog.take_lease(version_id, holder, seconds=SECONDS, origin=origin)
    except ConflictError:  # somebody has a turn at the draft: it is looked after
        yield None
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(context, lease, done), name="dataset-tasks-alive", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        done.set()
        beat.join()


def on_a_draft(context: Context, begin: Callable[[], str], work: Callable[[str], _T]) -> _T:
    """Works on the draft that `begin` gives (its id), showing that the run is alive.

    A failure, an interrupt too, drops the draft. One that another try under the same key was at, before or since, stays:
    that try may live, and this one's failure is not its. The next retry goes on with it, or it is given up once nobody
    is heard of. A draft that its maker dropped before this try was at it is begun anew.

    Raises:
        ConflictError: Another process drops each draft at once.
        Exception: Whatever `work` raises.
    """
    for _ in range(_TRIES):
        draft_id = begin()
        with alive(context, draft_id) as lease:
            if was_dropped(context.session, draft_id):
                continue
            try:
                return work(draft_id)
            except ConflictError:
                raise  # somebody else is at the draft: it is not ours to drop
            except BaseException as error:
                if lease is not None and lease.is_first:
                    abandon(context, draft_id, _why(error), lease)
                raise
    raise ConflictError(
        f"{context.key}: each of {_TRIES} drafts was dropped at once by another process with the same operation key",
        hint="Look why that one fails, and run it again.",
    )


def give_up_dead(context: Context, draft: Version) -> None:
    """Drops what killed builds left of the dataset (and partition) of a draft, once nobody can be expected back."""
    catalog = context.session.catalog
    for other in catalog.versions(project=draft.project, name=draft.name, states=[State.IN_PROGRESS]):
        is_same = other.id != draft.id and other.partition == draft.partition
        if is_same and catalog.is_forsaken(other.id, seconds=DEAD, run=True):
            _log.warning("%s (%s) is dropped: its run was last heard of more than a day ago", other.label, other.id)
            abandon(context, other.id, "its run was not heard of for more than a day")


def _why(error: BaseException) -> str:
    """In a line, why work on a draft ended; what others raise may hold anything, so only its kind is kept."""
    if isinstance(error, KeyboardInterrupt):
        return "its run was interrupted"
    said = error.message.partition("\n")[0] if isinstance(error, DatasetError) else type(error).__name__
    return f"its run failed: {show(said)[:200]}"


def _beat(context: Context, lease: Lease, done: threading.Event) -> None:
    while not done.wait(SECONDS / 3):
        try:
            context.session.catalog.renew_lease(lease, seconds=SECONDS)
        except ConflictError:
            return  # a retry of the run has taken over
        except CatalogError as error:
            _log.warning("the lease of the draft %s could not be prolonged: %s", lease.version_id, error)
