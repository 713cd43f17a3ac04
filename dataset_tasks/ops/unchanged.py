"""Whether a draft is what the dataset's last good version holds already, and if not, why not.

A version's fingerprint covers what it was made from: explicit parents, inputs, the dataset's definition (its recipe),
and, when a transform ran, its code and the content that was there before it. The version it started from is left out:
that one is another each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypedDict, cast

from dataset_tasks import holding
from dataset_tasks.catalog.rows import dump
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import Version
from dataset_tasks.ops import scratch
from dataset_tasks.ops.context import STANDS, Context, about, dropped
from dataset_tasks.ops.requests import Request, Result
from dataset_tasks.session import Session

#: In the origin of a version that a transform made: the digest of its code, and of the content it was given.
CODE = "code"
STAGED = "staged"
#: In the origin of a version: what it waits for once it is final; see `dataset_tasks.holding`.
HOLD = "hold"


class Parts(TypedDict):
    """What a fingerprint is made of."""

    parents: list[str]
    inputs: dict[str, list[str]]
    recipe: str
    code: str
    staged: str


def parts_of(version: Version) -> Parts:
    """What the version was made from, as its row tells."""
    return Parts(
        parents=[parent for parent in version.parents if parent != version.previous_id],
        inputs={each.name: [each.ref, *each.files] for each in version.inputs},
        recipe=version.recipe,
        code=str(version.origin.get(CODE, "")),
        staged=str(version.origin.get(STAGED, "")),
    )


def fingerprint(parts: Mapping[str, object]) -> str:
    """SHA-256 (hex) over the parts."""
    return hashlib.sha256(dump(parts).encode()).hexdigest()


def fingerprint_of(version: Version) -> str:
    """The fingerprint recorded with a version, or what it would be."""
    return version.fingerprint or fingerprint(cast("Mapping[str, object]", parts_of(version)))


def reads_something(version: Version) -> bool:
    """Whether what went into a draft so far can tell one run from another: inputs, parents or staged files."""
    return bool(version.inputs or version.files or any(p != version.previous_id for p in version.parents))


def same_as(standing: Version) -> str:
    """The sentence that says so."""
    return f"same content, and made from the same, as version {standing.version}"


def holds(version: Version) -> tuple[str, ...]:
    """What a version waits for once it is final."""
    held = version.origin.get(HOLD)
    return tuple(map(str, held)) if isinstance(held, Sequence) else ()


def candidates(
    session: Session, project: str, name: str, partition: str | None, hold: Collection[str], until: datetime | None
) -> Iterator[Version]:
    """The versions that a new one may turn out to repeat.

    The last good one; and before it, where publishing needs an answer, the one that was proposed last, so that the same
    content is not asked about twice. That one is not good: it stands for its own question only, no consumer gets it.
    None is of a window that begins after `until`.
    """
    proposed = session.catalog.proposed(project, name, partition, until=until) if holding.APPROVE in hold else None
    last = session.catalog.previous(project, name, partition, until=until)
    return (version for version in (proposed, last) if version is not None)


def standing_version(session: Session, draft: Version) -> Version | None:
    """The last good version, or the one proposed last, when the draft has its fingerprint and its content."""
    for version in candidates(session, draft.project, draft.name, draft.partition, holds(draft), draft.window):
        if fingerprint_of(draft) == version.fingerprint and draft.content_hash == version.content_hash:
            return version
    return None


def settle(context: Context, request: Request, draft: Version) -> Version | None:
    """Drops a draft that may be dropped when it brings nothing new, and gives the version that stands in its place."""
    if not draft.skip_unchanged:
        return None
    standing = standing_version(context.session, draft)
    if standing is not None:
        drop_for(context, request, draft, standing)
    return standing


def drop_for(context: Context, request: Request, draft: Version, standing: Version) -> None:
    """Drops a draft in favour of a version that holds the same; later steps on the draft find that one."""

    def result(_dropped: Version) -> Result:
        return Result(**about(standing), unchanged=True, why=same_as(standing))

    part = context.part("unchanged")
    failpoint("unchanged.before_drop")
    origin = {STANDS: standing.id, **dropped(context, same_as(standing))}
    context.session.catalog.drop(draft, part.record(request, result), origin=origin)
    failpoint("unchanged.after_drop")
    scratch.clear(context.session, draft)


def reasons(session: Session, last: Version | None, now: Parts) -> list[str]:
    """Why a new version is made, in words, one reason a line; what stayed as it was is not in it."""
    if last is None:
        return ["first version"]
    before = parts_of(last)
    found = [f"input {name} is new" for name in now["inputs"] if name not in before["inputs"]]
    found += [f"input {name} is gone" for name in before["inputs"] if name not in now["inputs"]]
    for name, ref in now["inputs"].items():
        old = before["inputs"].get(name)
        if old is not None and old != ref:
            found.append(f"input {name}: {_step(session, old[0], ref[0])}")
    if before["parents"] != now["parents"]:
        found.append(_parents(session, before["parents"], now["parents"]))
    if before["recipe"] != now["recipe"]:
        found.append("definition changed")
    if before["code"] != now["code"]:
        found.append("code changed")
    if before["staged"] != now["staged"]:
        found.append("source files changed")
    return found


def _step(session: Session, old: str, new: str) -> str:
    if old == new:
        return "other files of the same version"
    before, after = session.catalog.version(old), session.catalog.version(new)
    if before.dataset == after.dataset:
        return f"{before.version} → {after.version}"
    return f"{before.label} → {after.label}"


def _parents(session: Session, old: list[str], new: list[str]) -> str:
    named = [", ".join(session.catalog.version(each).label for each in ids) or "none" for ids in (old, new)]
    return f"parents: {named[0]} → {named[1]}"
