"""The tasks that make, read and end a version. What their arguments have in common is told in `prefect_blocks.tasks`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from prefect.context import TaskRunContext
from prefect.states import Completed

from dataset_tasks.errors import IntegrityError, InvalidArgumentError, StateError
from dataset_tasks.model import JsonValue, Keep
from dataset_tasks.ops.references import Ref
from dataset_tasks.ops.requests import (
    Approve,
    Build,
    Compression,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    Squash,
    Stage,
    Upload,
    Verify,
)
from dataset_tasks.ops.wire import request_from_json
from prefect_blocks import reports
from prefect_blocks.approvals import POLL
from prefect_blocks.running import Catalog, Json, Work, many
from prefect_blocks.tasks.base import operation

_SHOWN_PATHS = 10
#: Name of the state of a task that asked a question which nobody answered yet.
WAITING = "Waiting"


@operation(Upload)
def upload_dataset(
    ref: Ref,
    store: str | None = None,
    compression: Compression = "deflate",
    chunk_size: float | None = None,
    max_workers: int | None = None,
    retries: int = 3,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Stores the bytes of all files of a draft that are not stored yet; a repeated try goes on where one stopped.

    Args:
        ref: The draft.
        store: URL that becomes the version's store.
        compression: How chunks hold their files.
        chunk_size: MiB, fractions allowed; default 128.
        max_workers: Threads that pack and send; default the number of cores.
        retries: How often one chunk is sent again.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `UploadResult`.

    Raises:
        SourceError: A file changed or vanished since it was added.
        StorageError: The store refused, or did not answer.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        Upload(
            ref=work.ref(ref),
            store=store,
            compression=compression,
            chunk_size=chunk_size,
            max_workers=max_workers,
            retries=retries,
        )
    )


@operation(Finalize)
def finalize_dataset(
    ref: Ref, catalog: Catalog = None, step: str | None = None, origin: Mapping[str, JsonValue] | None = None
) -> Json:
    """Makes a draft a final version, or drops it for the one it equals where the draft was made so.

    Args:
        ref: The draft.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `FinalizeResult`.

    Raises:
        StateError: Files are not uploaded yet.
        IntegrityError: A chunk is missing from the store.
    """
    work = Work.on(catalog, step, origin)
    return work.run(Finalize(ref=work.ref(ref)))


@operation(Build, retries=0)
def build_dataset(
    stages: Sequence[Stage | Mapping[str, object]],
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Makes the next version of a dataset in one go: create, fill, check, upload, finalize, verify.

    Args:
        stages: Requests under their ids, the first of them a create; `step:<id>` names an earlier one. As `Stage`, or as
            JSON: `{"id": "raw.create", "request": {"verb": "create", ...}}`.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `BuildResult`.

    Raises:
        InvalidArgumentError: A stage is not a request.
        DatasetError: As its stages say; the draft is dropped then.
    """
    given = tuple(_stage(stage) for stage in stages)
    return Work.on(catalog, step, origin).run(Build(stages=given))


@operation(Approve)
def approve_dataset(
    ref: Ref,
    by: str | Sequence[str] = (),
    timeout: float | None = None,
    otherwise: Literal["reject", "approve"] = "reject",
    alias: str | None = None,
    wait: bool = True,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Asks whether a version may be published, and waits for the answer of `dataset-tasks approve` or `reject`.

    It keeps its worker as long as it waits. `wait_for_approval`, called in the flow, pauses the run instead.

    Args:
        ref: The version.
        by: User names of those who are asked.
        timeout: Seconds after which `otherwise` is the answer.
        otherwise: The answer when nobody gave one in time.
        alias: The name that publishing will move; shown to whoever answers.
        wait: Whether the task ends only with the answer; else as `Waiting`, its result's `state` being `open`.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `ApproveResult`.

    Raises:
        StateError: The answer was no.
    """
    work = Work.on(catalog, step, origin)
    request = Approve(ref=work.ref(ref), by=many(by), timeout=timeout, otherwise=otherwise, alias=alias)
    result = work.run(request)
    while wait and result["state"] == "open":
        threading.Event().wait(POLL)
        result = work.run(request)
    label = f"{result['project']}/{result['name']}@{result['version']}"
    if result["state"] == "rejected":
        raise StateError(
            f"{label} {result['why']}",
            kind="rejected",
            hint=f"Ask again with `dataset-tasks approve {label} --reopen`, then run the flow again.",
        )
    if result["state"] == "open":
        return cast("Json", Completed(name=WAITING, message=f"{label} {result['why']}", data=result))
    return result


@operation(Publish)
def publish_dataset(
    ref: Ref,
    alias: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Publishes a final version and points an alias at it.

    Args:
        ref: The version.
        alias: Name that points at it from now on.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `PublishResult`.

    Raises:
        StateError: The version is not final.
    """
    work = Work.on(catalog, step, origin)
    return work.run(Publish(ref=work.ref(ref), alias=alias))


@operation(Squash)
def squash_datasets(
    name: str,
    refs: Ref | Sequence[Ref],
    project: str | None = None,
    store: str | None = None,
    tags: str | Sequence[str] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    skip_unchanged: bool = False,
    hold: str | Sequence[str] = (),
    keep: Keep | Mapping[str, int] | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Makes one version that stands alone from the content of one, or the changes of several.

    Args:
        name: Of the dataset made.
        refs: Final versions, ancestors first.
        project: Of the dataset made; default the first version's.
        store: URL of the store; default the catalog block's.
        tags: Of the version made.
        description: Of the version made.
        metadata: Of the version made, JSON values.
        skip_unchanged: Whether no version is made when the last good one holds just that.
        hold: What it waits for before any look-up by name finds it: `verify`, `approve`.
        keep: Retention of the dataset from now on, such as `{"last": 8, "published": 4, "seconds": 7_776_000}`.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `SquashResult`.

    Raises:
        StateError: A version is not final.
        InvalidArgumentError: A version comes after one made from it.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        Squash(
            name=name,
            refs=work.refs(refs),
            project=project,
            store=store,
            tags=many(tags),
            description=description,
            metadata=dict(metadata or {}),
            skip_unchanged=skip_unchanged,
            hold=many(hold),
            keep=Keep(**keep) if isinstance(keep, Mapping) else keep,
        )
    )


@operation(Verify)
def verify_dataset(
    ref: Ref,
    path: str | None = None,
    mode: Literal["hash", "size"] = "hash",
    quarantine: bool = False,
    fail_on_difference: bool = True,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Compares a version with its entries: read back from the store, or a copy of it.

    Args:
        ref: The version.
        path: Folder of a copy; default what the store holds.
        mode: `size` skips the hashes.
        quarantine: Whether a final version that differs in the store is passed over from now on.
        fail_on_difference: Whether the task fails when something differs; else the result says it.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `VerifyResult`.

    Raises:
        IntegrityError: Something differs.
    """
    work = Work.on(catalog, step, origin)
    result = work.run(Verify(ref=work.ref(ref), path=path, mode=mode, quarantine=quarantine))
    bad = cast("Sequence[str]", result["bad"])
    if bad and fail_on_difference:
        more = cast("Mapping[str, int]", result.get("left_out", {})).get("bad", 0) + max(len(bad) - _SHOWN_PATHS, 0)
        shown = ", ".join(bad[:_SHOWN_PATHS]) + (f" and {more:,} more" if more else "")
        raise IntegrityError(
            f"{result['project']}/{result['name']}@{result['version']}: of {result['files']} files these differ: {shown}",
            paths=tuple(bad),
            hint="Take another version, or make this one again; a copy on disk can be made again with get_copy.",
        )
    return result


@operation(GetCopy)
def get_copy(
    ref: Ref,
    target: str | None = None,
    overwrite: bool = False,
    soft_links: bool | None = None,
    files: str | Sequence[str] = (),
    part: int | None = None,
    num_parts: int | None = None,
    max_workers: int | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Gives a folder with the content of a version, on the worker that runs the task.

    Args:
        ref: The version.
        target: Folder for a writable copy; default the shared read-only one in the cache.
        overwrite: Whether a target that is there is replaced.
        soft_links: Whether the copy is a tree of links; None takes what is safe and cheapest.
        files: Only files that match one of these patterns.
        part: Which part, from 0.
        num_parts: How many parts of like size the files are split into.
        max_workers: Threads that copy; default the number of cores.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `GetCopyResult`; `folder` is the path.

    Raises:
        IntegrityError: Stored bytes are not what was finalized.
        TargetError: The target can't take the copy.
    """
    work = Work.on(catalog, step, origin)
    result = work.run(
        GetCopy(
            ref=work.ref(ref),
            target=target,
            overwrite=overwrite,
            soft_links=soft_links,
            files=many(files),
            part=part,
            num_parts=num_parts,
            max_workers=max_workers,
        )
    )
    if target is not None and TaskRunContext.get() is not None:
        label, folder = f"{result['project']}/{result['name']}@{result['version']}", Path(str(result["folder"]))
        about = f"A copy of {reports.markdown(label)}, on the worker that ran the task"
        reports.show_link(f"{result['project']}/{result['name']}", "copy", folder.as_uri(), str(folder), about)
    return result


@operation(Delete)
def delete_dataset(
    ref: Ref,
    force: bool = False,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Drops a draft, or ends a final version and leaves a tombstone.

    Args:
        ref: The version.
        force: Whether also a version goes that is a parent; its children still read back.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `DeleteResult`.

    Raises:
        StateError: The version is used as a parent.
    """
    work = Work.on(catalog, step, origin)
    return work.run(Delete(ref=work.ref(ref), force=force))


def _stage(stage: Stage | Mapping[str, object]) -> Stage:
    if isinstance(stage, Stage):
        return stage
    match stage:
        case {"id": str(name), "request": Mapping() as request}:
            return Stage(id=name, request=request_from_json(request))
    raise InvalidArgumentError(
        f"{stage!r} is not a stage of a build", hint='Give {"id": "raw.create", "request": {"verb": "create", ...}}.'
    )
