"""The tasks that look after what is stored. What their arguments have in common is told in `prefect_blocks.tasks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from dataset_tasks.errors import IntegrityError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.references import Ref
from dataset_tasks.ops.requests import Collect, Copy, Repack, Repair, Undelete
from prefect_blocks.running import Catalog, Json, Work, many
from prefect_blocks.tasks.base import operation

_SHOWN_FILES = 10


@operation(Undelete)
def undelete_dataset(
    ref: Ref, catalog: Catalog = None, step: str | None = None, origin: Mapping[str, JsonValue] | None = None
) -> Json:
    """Brings back a final version that was deleted, as long as its bytes are there.

    Args:
        ref: The version: its id, or the number it had.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `UndeleteResult`.

    Raises:
        StateError: Its bytes were given up.
    """
    work = Work.on(catalog, step, origin)
    return work.run(Undelete(ref=work.ref(ref)))


@operation(Collect)
def collect_garbage(
    dry_run: bool = True,
    now: bool = False,
    grace: float = 7 * 86_400.0,
    idle: float = 86_400.0,
    drafts: float = 30 * 86_400.0,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Ends what nobody needs and frees its bytes: made to run once a day.

    Args:
        dry_run: Only tell what would be done.
        now: No grace for what is deleted.
        grace: How long a deleted version can be brought back, in seconds.
        idle: How long an object stays that nothing refers to, in seconds.
        drafts: How long a draft stays that nothing is done to, in seconds.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `CollectResult`.

    Raises:
        IntegrityError: The index of a version can't be read; nothing was let go.
        StorageError: The store refused, or did not answer.
    """
    request = Collect(dry_run=dry_run, now=now, grace=grace, idle=idle, drafts=drafts)
    return Work.on(catalog, step, origin).run(request)


@operation(Copy)
def copy_dataset(
    ref: Ref,
    to_catalog: str | None = None,
    to_store: str | None = None,
    lineage: bool = True,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Copies a final version with its lineage into another catalog, or moves it to another store of its own.

    Args:
        ref: The version.
        to_catalog: URL of the other catalog, without a password; None: the version's own.
        to_store: URL of the store its bytes come to; default the session's.
        lineage: Whether what it was made from is copied too; else its rows alone.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `CopyResult`.

    Raises:
        AlreadyExistsError: The other catalog has another version of that number.
        IntegrityError: Stored bytes are missing or damaged.
        StorageError: A store refused, or did not answer.
    """
    work = Work.on(catalog, step, origin)
    return work.run(Copy(ref=work.ref(ref), to_catalog=to_catalog, to_store=to_store, lineage=lineage))


@operation(Repack)
def repack_store(
    dry_run: bool = True,
    live: float = 0.5,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Copies what is still needed of archives that are mostly dead, so that gc can free them.

    Args:
        dry_run: Only tell what would be done.
        live: Archives are repacked of whose bytes at most this share is needed, 0 to 1.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `RepackResult`.

    Raises:
        StorageError: The store refused, or did not answer.
    """
    return Work.on(catalog, step, origin).run(Repack(dry_run=dry_run, live=live))


@operation(Repair)
def repair_store(
    refs: Ref | Sequence[Ref] = (),
    copies: str | Sequence[str] = (),
    folders: str | Sequence[str] = (),
    dry_run: bool = False,
    fail_on_loss: bool = True,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Looks for damage in everything stored, and heals what it can from wherever the same bytes are.

    Args:
        refs: Versions to look at; default all.
        copies: Folders or URLs of stores that hold a copy of the catalog's objects.
        folders: Where files are that may be what is missing.
        dry_run: Only tell what is damaged and what could be healed.
        fail_on_loss: Whether the task fails when files are lost; else the result says it.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `RepairResult`.

    Raises:
        IntegrityError: Files are lost.
        StorageError: The store refused, or did not answer.
    """
    work = Work.on(catalog, step, origin)
    request = Repair(refs=work.refs(refs), copies=many(copies), folders=many(folders), dry_run=dry_run)
    result = work.run(request)
    lost = cast("Sequence[str]", result["lost"])
    if lost and fail_on_loss:
        raise IntegrityError(
            f"files are damaged and were found nowhere: {', '.join(lost[:_SHOWN_FILES])}",
            paths=tuple(lost),
            hint="Give `copies` of the store, or `folders` with the files, and repair again.",
        )
    return result
