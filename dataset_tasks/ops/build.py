"""build: makes the next version of a dataset in one go, or finds that there is nothing new to make."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from dataset_tasks.errors import (
    ConflictError,
    IntegrityError,
    InvalidArgumentError,
    SourceError,
    StateError,
    TransformError,
)
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import diff
from dataset_tasks.model import Version
from dataset_tasks.ops import scratch, unchanged
from dataset_tasks.ops.alive import give_up_dead, on_a_draft
from dataset_tasks.ops.context import Context, about
from dataset_tasks.ops.onepass import Kept
from dataset_tasks.ops.requests import (
    AddFiles,
    Build,
    BuildResult,
    CheckResult,
    Create,
    Request,
    Result,
    Stage,
    SyncFolder,
    Transform,
    Upload,
    VerifyResult,
)
from dataset_tasks.ops.run import run as run_request
from dataset_tasks.ops.wire import with_versions

#: Stages that put files into the draft, and the one that stores them.
_FEEDING = (AddFiles, SyncFolder, Transform, Upload)
#: How often a build is gone over that another process makes at once, under the same key.
_TRIES = 6
_log = logging.getLogger("dataset_tasks")


def run(context: Context, request: Build) -> BuildResult:
    """Runs the stages in order. A failure, an interrupt too, drops the draft and is raised again.

    Killed and run again with the same key, it goes on with the draft; with another, it begins a new one. A draft that
    two tries were at is not dropped by the failure of one. What a killed build left of the same dataset a day ago is.

    Raises:
        InvalidArgumentError: The first stage does not create a draft.
        IntegrityError: The version was finalized, and could not be read back by a verify stage.
        DatasetError: Whatever a stage raises.
    """
    first, *rest = request.stages or (None,)
    if first is None or not isinstance(first.request, Create):
        raise InvalidArgumentError("a build begins with a create", hint="Put a create request first.")
    return on_a_draft(
        context,
        lambda: _stage(context, first, {}).version_id,
        lambda draft_id: _made(context, first, rest, draft_id),
    )


def _made(context: Context, first: Stage, rest: list[Stage], draft_id: str) -> BuildResult:
    """Fills the draft. Where another process does so at once, under the same key, it is gone over again as in a retry."""
    catalog = context.session.catalog
    for left in reversed(range(_TRIES)):
        try:
            return _fill(context, first, rest, draft_id)
        except (ConflictError, StateError, IntegrityError, SourceError, TransformError) as error:
            is_lost = error.kind == ConflictError.default_kind
            # Whoever ends it clears folders away, and objects on the way to it; what is damaged stays so.
            is_ended = error.kind != IntegrityError.default_kind and catalog.version(draft_id).state.is_final
            if not left or not (is_lost or is_ended):
                raise
    raise AssertionError("the last try returns or raises")


def _fill(context: Context, first: Stage, rest: list[Stage], draft_id: str) -> BuildResult:
    catalog = context.session.catalog
    draft = catalog.version(draft_id)
    give_up_dead(context, draft)
    before = catalog.previous(draft.project, draft.name, draft.partition, until=draft.window)
    versions = {first.id: draft_id}
    notes: list[str] = []
    uploads = [stage.request for stage in rest if isinstance(stage.request, Upload)]
    kept = Kept(uploads[0]) if len(uploads) == 1 else None
    for stage in rest:
        result = _stage(context, stage, versions, kept if isinstance(stage.request, _FEEDING) else None)
        failpoint("build.after_stage")
        versions[stage.id] = result.version_id
        if result.unchanged:
            standing = catalog.version(result.version_id)
            scratch.clear(context.session, draft)
            return replace(_result(standing), unchanged=True, why=result.why, notes=tuple(notes))
        if isinstance(result, VerifyResult) and result.bad:
            raise differing(result)  # it is quarantined: nobody below may get its id
        if isinstance(result, CheckResult):
            notes += [*result.findings, *result.notes]
    scratch.clear(context.session, draft)
    made = catalog.version(versions[rest[-1].id] if rest else draft_id)
    return replace(_compared(context, made, before), notes=tuple(notes))


def differing(result: VerifyResult) -> IntegrityError:
    """The error of a version that can't be read back as it was finalized."""
    more = f" and {len(result.bad) - 5} more" if len(result.bad) > 5 else ""
    return IntegrityError(
        f"{result.project}/{result.name}@{result.version}: {len(result.bad)} of {result.files} files differ from what was "
        f"finalized: {', '.join(result.bad[:5])}{more}",
        paths=result.bad,
        hint="The version is kept out of the way; run again to make a new one.",
    )


def _stage(context: Context, stage: Stage, versions: Mapping[str, str], kept: Kept | None = None) -> Result:
    part = context.part(stage.id)
    request: Request = with_versions(stage.request, versions)
    return run_request(
        context.session,
        request,
        key=part.key,
        origin=context.origin,
        progress=context.progress,
        functions=context.functions,
        kept=kept,
    )


def _compared(context: Context, made: Version, before: Version | None) -> BuildResult:
    if before is not None and before.id == made.id:
        return replace(_result(made), why="made by an earlier try of the same run")
    if before is None:
        return replace(_result(made), added=made.files, why="first version")
    changed = diff(context.session.manifest(before), context.session.manifest(made))
    counts = len(changed.added), len(changed.modified), len(changed.removed)
    changes = "files +{} ~{} -{}".format(*counts)
    why = "; ".join([*unchanged.reasons(context.session, before, unchanged.parts_of(made)), changes])
    return replace(_result(made), why=why, added=counts[0], modified=counts[1], removed=counts[2])


def _result(version: Version) -> BuildResult:
    return BuildResult(
        **about(version),
        files=version.files,
        bytes=version.bytes,
        new_bytes=version.new_bytes,
        content_hash=version.content_hash,
        parents=version.parents,
    )
