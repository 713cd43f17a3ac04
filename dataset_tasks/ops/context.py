"""What every operation works with, and the few things that all of them do alike."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from dataset_tasks.catalog.rows import dump
from dataset_tasks.catalog.writes import Record
from dataset_tasks.errors import StateError
from dataset_tasks.model import JsonValue, State, Version
from dataset_tasks.ops.requests import Request, Result
from dataset_tasks.ops.wire import to_json
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.session import Session

if TYPE_CHECKING:
    from dataset_tasks.ops.onepass import Kept

#: In the origin of a dropped draft: the id of the version that stands in its place.
STANDS = "stands"
#: In the origin of a dropped draft: when it was given up, why, and by whom.
DROPPED = "dropped"
#: What the keys begin with of calls that were given none.
RANDOM_KEY = "call/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One run of one operation.

    `functions` are live callables by the text of a request's `call`. With `kept` an upload follows in the same build: an
    add may store what it reads.
    """

    session: Session
    key: str
    origin: Mapping[str, JsonValue] = field(default_factory=dict)
    progress: Progress = SILENT
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # Any: users' functions
    kept: Kept | None = None

    def record(self, request: Request, result: Callable[[Version], Result]) -> Record:
        """What the catalog writes down beside the effect of the operation."""
        return Record(
            key=self.key, verb=request.verb, digest=digest(request), result=lambda version: to_json(result(version))
        )

    @property
    def is_retryable(self) -> bool:
        """Whether the key came from the caller, so that a retry of the same call can be told."""
        return not self.key.startswith(RANDOM_KEY)

    @property
    def window(self) -> datetime | None:
        """The start of the interval that the run stands for: `window` of its origin, in ISO 8601."""
        start = self.origin.get("window")
        return datetime.fromisoformat(str(start)).astimezone(UTC) if start else None

    def part(self, name: str) -> Context:
        """The context of an operation inside this one, with a key of its own."""
        return dataclasses.replace(self, key=f"{self.key}/{name}")


def digest(request: Request) -> str:
    """SHA-256 (hex) of the request: tells whether a key comes back with other parameters."""
    text = dump(to_json(request))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()  # a source folder's name may be no UTF-8


class About(TypedDict):
    """The fields that every result has."""

    catalog_id: str
    version_id: str
    project: str
    name: str
    version: str


def about(version: Version) -> About:
    """Which version a result is about."""
    return About(
        catalog_id=version.catalog_id,
        version_id=version.id,
        project=version.project,
        name=version.name,
        version=version.version,
    )


def dropped(context: Context, why: str) -> dict[str, JsonValue]:
    """What is added to the origin of a draft that is given up: no event tells of drafts."""
    at = context.session.clock().isoformat(timespec="seconds")
    return {DROPPED: {"at": at, "why": why, "by": dict(context.origin)}}


def draft(context: Context, ref: str) -> Version:
    """The draft that a reference names.

    Raises:
        NotFoundError: Nothing answers to the reference.
        StateError: The version is not a draft (any more).
    """
    version = context.session.catalog.resolve(ref)
    require_draft(version)
    return version


def draft_or_final(context: Context, ref: str) -> Version:
    """The version that a reference names, for a call that may turn out to change nothing.

    Such a call is fine on a final version: a run that is done again repeats its steps on what it finished before.

    Raises:
        NotFoundError: Nothing answers to the reference.
        StateError: The version is aborted or deleted.
    """
    version = context.session.catalog.resolve(ref)
    if not version.state.is_final:
        require_draft(version)
    return version


def require_draft(version: Version) -> None:
    """Refuses a version whose content can't change.

    Raises:
        StateError: Of kind `finalized`, `aborted` or `deleted`.
    """
    if version.state is State.IN_PROGRESS:
        return
    final = version.state.is_final
    raise StateError(
        f"{version.label} ({version.id}) is {version.state} and can't be changed",
        kind="finalized" if final else str(version.state),
        hint="Make a child of it and change that one." if final else "Create a new version.",
    )


def require_final(version: Version, what: str) -> None:
    """Refuses a version that is not finalized; `what` is what was to be done with it.

    Raises:
        StateError: Of kind `not_finalized`, `aborted` or `deleted`.
    """
    if version.state.is_final:
        return
    waiting = version.state is State.IN_PROGRESS
    raise StateError(
        f"{what} needs a finalized version; {version.label} ({version.id}) is {version.state}",
        kind="not_finalized" if waiting else str(version.state),
        hint="Upload and finalize it first." if waiting else "Choose another version.",
    )
