"""Looking after a catalog and its stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dataset_tasks.ops.requests.base import Request, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(Request):
    """Ends what nobody needs: versions past their retention, dead drafts, and the bytes of what is gone.

    All times in seconds. `grace`: how long a deleted version can be brought back. `idle`: how long an object stays that
    nothing refers to, and how long ago a write was begun that never ended. `drafts`: how long ago anything was done to a
    draft. `now` sets the grace to nothing, for what is deleted and for what nothing refers to.
    """

    verb: ClassVar[str] = "gc"
    dry_run: bool = True
    now: bool = False
    grace: float = 7 * 86_400.0
    idle: float = 86_400.0
    drafts: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectResult(Result):
    """What was done, or would be with `dry_run`. It is about no version: `version_id` and what goes with it are empty.

    `dropped` drafts, versions `retired` by retention, tombstones `purged` that can't come back and those `kept` that can, as
    their grace is not over, as `project/name@version`.
    `condemned` objects that nothing refers to any more, which `waiting` counts with those of before; `deleted` objects,
    `unfinished` ones and `parts` that writers left among them; `bytes` were freed, `waiting_bytes` are next.
    """

    dry_run: bool = True
    retired: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    purged: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    condemned: int = 0
    deleted: int = 0
    bytes: int = 0
    unfinished: int = 0
    parts: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repack(Request):
    """Copies what is still needed of stored archives that are mostly dead, so that `gc` can free them.

    An archive is repacked when at most the share `live` (0 to 1) of its bytes is needed by any version; with 1 all are.
    """

    verb: ClassVar[str] = "repack"
    dry_run: bool = True
    live: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RepackResult(Result):
    """What was done, or would be with `dry_run`; about no version, as `CollectResult`.

    `chunks` were repacked, `copied` bytes written anew; `bytes` is what `gc` frees then. `versions` were pointed there.
    """

    dry_run: bool = True
    chunks: int = 0
    copied: int = 0
    bytes: int = 0
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair(Request):
    """Looks for damage in everything stored, and heals what it can from wherever the same bytes are.

    Args:
        refs: Versions to look at; all when empty.
        copies: Other stores (folders or URLs) that hold a copy of this catalog's objects.
        folders: Where files are that may be what is missing, under any name.
        dry_run: Only tell what is damaged and what could be healed.
    """

    verb: ClassVar[str] = "repair"
    refs: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult(Result):
    """What was done, or would be with `dry_run`; about no version, as `CollectResult`.

    `damaged` objects were found among `objects`; `restored` of them have their bytes again, `healed` files lie elsewhere
    now, in the `versions` named. `lost` are files (`project/name@version: path`) found nowhere; their versions are
    `quarantined`.
    """

    dry_run: bool = False
    objects: int = 0
    damaged: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    healed: int = 0
    versions: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Request):
    """Copies a final version with its lineage into another catalog, or moves it to another store of its own.

    `to_catalog` is the URL of the other catalog, without a password; None: the version's own. `to_store` is the URL of
    the store its bytes come to, default the session's. `lineage` False leaves the bytes of what it was made from behind.
    """

    verb: ClassVar[str] = "copy"
    ref: str
    to_catalog: str | None = None
    to_store: str | None = None
    lineage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult(Result):
    """The version where it is now, in the catalog it came to; how much of it and of its lineage had to be copied.

    Files of reports count as `objects` and `bytes`, and `reports` is how many were copied of whatever kind.
    `unchanged` when all of it was there already.
    """

    versions: int = 0
    objects: int = 0
    bytes: int = 0
    reports: int = 0
