"""Which versions a dataset's retention (`keep` of its spec) would let go. Read by `gc` alone.

A version stays when it is among the last so many, among the last so many published ones, or young enough. Whatever the
numbers say, these stay: drafts; the latest and the published version; what an alias names; what waits for an answer; what
a draft was made from; and what a version of another dataset, that itself stands, was made from. Parents within one
dataset may go: their children keep their content, and the tombstone keeps the line.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from dataset_tasks import versioning
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Keep, State, Version


def remember(catalog: Catalog, project: str, name: str, keep: Keep | None) -> None:
    """Makes `keep` the retention of a dataset where it is another; an empty one takes it away, None changes nothing."""
    if keep is None or catalog.retentions(project=project, name=name).get((project, name), Keep()) == keep:
        return
    catalog.set_retention(project, name, None if keep == Keep() else keep)


def expired(catalog: Catalog, now: datetime) -> list[Version]:
    """Every final version that no retention keeps, by creation."""
    found: list[Version] = []
    for (project, name), keep in catalog.retentions().items():
        if keep == Keep():
            continue
        versions = [v for v in catalog.versions(project=project, name=name) if v.state.is_final]
        stay = kept(versions, keep, now)
        found += [each for each in versions if each.id not in stay and not catalog.is_wanted(each)]
    return sorted(found, key=lambda version: version.sequence)


def kept(versions: Sequence[Version], keep: Keep, now: datetime) -> set[str]:
    """Ids of those final versions of a dataset that its numbers keep; each partition is counted by itself.

    A version that is quarantined counts for nothing, and stays as long as one that is older than it does.
    """
    stay: set[str] = set()
    for _, group in groupby(sorted(versions, key=_order), key=lambda version: version.partition or ""):
        newest_first = list(group)[::-1]
        last = max(keep.last or 0, 1)
        published = max(keep.published or 0, 1)
        stay |= _first(newest_first, last, (State.COMPLETED, State.PUBLISHED))
        stay |= _first(newest_first, published, (State.PUBLISHED,), only_counted=True)
        if keep.seconds is not None:
            young = now - timedelta(seconds=keep.seconds)
            stay |= {version.id for version in newest_first if (version.finalized or version.created) > young}
    return stay


def _first(
    versions: Sequence[Version], count: int, states: Collection[State], *, only_counted: bool = False
) -> set[str]:
    """The first so many good ones in some states; those passed over on the way too unless `only_counted`."""
    stay: set[str] = set()
    for version in versions:
        if count <= 0:
            break
        counts = version.state in states and not version.quarantined
        count -= counts
        if counts or not only_counted:
            stay.add(version.id)
    return stay


def _order(version: Version) -> tuple[str, datetime, str, int]:
    """By partition, and in it as `@latest` chooses: by window first, so that windows filled late push out none of later ones."""
    window = version.window or datetime.min.replace(tzinfo=UTC)
    return version.partition or "", window, versioning.sort_key(version.version), version.sequence


def check_durations(**seconds: float) -> None:
    """Refuses durations that can't be.

    Raises:
        InvalidArgumentError: One is negative, or no number.
    """
    for name, value in seconds.items():
        if not 0 <= value < math.inf:
            raise InvalidArgumentError(f"{name} {value} is no duration", hint="Give seconds, 0 or more.")
