"""What is done with final versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dataset_tasks.model import JsonValue, Keep
from dataset_tasks.ops.requests.base import Positive, Request, Result
from dataset_tasks.ops.requests.storing import FinalizeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(Request):
    """Asks whether a final version may be published; asked again, it looks whether there is an answer.

    There is one open question a version. `by` names who is asked; after `timeout` (seconds) without an answer,
    `otherwise` is the answer. `alias` is shown to whoever answers: the name that publishing will move.
    """

    verb: ClassVar[str] = "approve"
    ref: str
    by: tuple[str, ...] = ()
    timeout: float | None = None
    otherwise: Literal["reject", "approve"] = "reject"
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveResult(Result):
    """The question as it stands: `who` answered, with what `note`; `deadline` and `asked` in ISO 8601, UTC.

    `unchanged` when the version is published already, and there is nothing to ask.
    """

    state: Literal["open", "approved", "rejected"] = "open"
    who: str = ""
    note: str = ""
    asked: str | None = None
    deadline: str | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Request):
    """Publishes a final version and points an alias at it."""

    verb: ClassVar[str] = "publish"
    once: ClassVar[bool] = True
    ref: str
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult(Result):
    """`alias` is the one that now names the version; `unchanged` when it was published and aliased already."""

    alias: str | None = None
    files: int = 0
    bytes: int = 0
    content_hash: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Squash(Request):
    """Makes one standalone version from the content (one) or the changes (several) of versions. `hold`, `keep`: as `Create`."""

    verb: ClassVar[str] = "squash"
    once: ClassVar[bool] = True
    name: str
    refs: tuple[str, ...]
    project: str | None = None
    store: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    skip_unchanged: bool = False
    hold: tuple[str, ...] = ()
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SquashResult(FinalizeResult):
    """The squashed version, final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Request):
    """Compares a version with its entries: read back from the store, or a copy in `path`.

    `size` mode skips the hashes. A failed check of the store quarantines a final version when `quarantine` is set.
    """

    verb: ClassVar[str] = "verify"
    ref: str
    path: str | None = None
    mode: Literal["hash", "size"] = "hash"
    quarantine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult(Result):
    """`bad` are the paths that differ, sorted; empty when all is well. `files` and `bytes` were looked at."""

    bad: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCopy(Request):
    """Gives a folder with the content: the shared read-only copy in the cache, or a writable one in `target`.

    `files` are patterns; `part` of `num_parts` splits the files into parts of like size. `soft_links` None takes
    what is safe and cheapest.
    """

    verb: ClassVar[str] = "get"
    ref: str
    target: str | None = None
    overwrite: bool = False
    soft_links: bool | None = None
    files: tuple[str, ...] = ()
    part: int | None = None
    num_parts: int | None = None
    max_workers: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCopyResult(Result):
    """`folder` holds the copy."""

    folder: str = ""
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Request):
    """Ends a version: a draft is dropped, a final one leaves a tombstone; bytes go later, by gc."""

    verb: ClassVar[str] = "delete"
    once: ClassVar[bool] = True
    ref: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult(Result):
    """`state` is what the version is now: `aborted` or `deleted`."""

    state: str = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelete(Request):
    """Brings back a final version that was deleted, as long as `gc` has not given up its bytes."""

    verb: ClassVar[str] = "undelete"
    once: ClassVar[bool] = True
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteResult(Result):
    """`state` is what the version is again: `completed` or `published`."""

    state: str = "completed"
