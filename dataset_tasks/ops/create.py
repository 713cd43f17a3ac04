"""create: makes a draft, from nothing, from parents, or from the dataset's own last good version."""

from __future__ import annotations

from dataclasses import replace

from dataset_tasks.catalog.registry import OBJECTS_GONE
from dataset_tasks.catalog.writes import Content, NewVersion
from dataset_tasks.errors import ConflictError, IntegrityError, InvalidArgumentError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import EMPTY
from dataset_tasks.model import Input, Version, check_dataset
from dataset_tasks.ops import retention, unchanged
from dataset_tasks.ops.content import merged
from dataset_tasks.ops.context import Context, about
from dataset_tasks.ops.requests import Create, CreateResult

#: How often a draft is begun anew whose parents' bytes were moved by `repack` and freed by `gc` in just that moment.
_TRIES = 3


def run(context: Context, request: Create) -> CreateResult:
    """Makes a draft.

    Parents and inputs are resolved to ids here, once; the content is the parents' merged, the last wins.

    Raises:
        InvalidArgumentError: No name, no project, a name with a `/`, or parents whose paths can't stand together.
        NotFoundError: A parent or input is not there.
        StateError: One of them is not final.
        AlreadyExistsError: The version string is taken.
        KeyReusedError: The key has made another draft, with other parameters.
        IntegrityError: The manifest of a parent is missing or damaged.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _made(context, request)
        except (ConflictError, IntegrityError) as error:
            if not left or (isinstance(error, ConflictError) and error.kind != OBJECTS_GONE):
                raise
    raise AssertionError("the last try returns or raises")


def _made(context: Context, request: Create) -> CreateResult:
    catalog = context.session.catalog
    parents = [catalog.resolve(ref) for ref in request.parents]
    inputs = [(each, catalog.resolve(each.ref)) for each in request.inputs]
    _require_finals([*parents, *(version for _, version in inputs)])
    project = request.project or (parents[-1].project if parents else None)
    if not request.name:
        raise InvalidArgumentError("a dataset needs a name", hint="Give `dataset_name`.")
    if not project:
        raise InvalidArgumentError(
            f"dataset {request.name!r} has no project", hint="Give `dataset_project`, or a parent to take it from."
        )
    check_dataset(project, request.name)
    previous = None
    if request.previous:
        previous = catalog.starting_point(project, request.name, request.partition, window=context.window)
    if previous is not None:
        parents = [previous, *(parent for parent in parents if parent.id != previous.id)]
    retention.remember(catalog, project, request.name, request.keep)
    store_id = context.session.store_id(request.store)
    record = context.record(request, lambda version: CreateResult(**about(version), parents=version.parents))
    failpoint("create.before_commit")
    version = catalog.create(
        NewVersion(
            project=project,
            name=request.name,
            store_id=store_id,
            version=request.version,
            parents=tuple(parent.id for parent in parents),
            inputs=tuple(Input(name=each.name, ref=found.id, files=each.files) for each, found in inputs),
            previous_id=previous.id if previous else None,
            partition=request.partition,
            tags=request.tags,
            description=request.description,
            metadata=request.metadata,
            origin={**context.origin, **({unchanged.HOLD: list(request.hold)} if request.hold else {})},
            recipe=request.recipe,
            skip_unchanged=request.skip_unchanged,
            window=context.window,
            content=_start(context, parents, store_id),
        ),
        record,
    )
    failpoint("create.after_commit")
    return CreateResult(**about(version), parents=version.parents)


def _require_finals(versions: list[Version]) -> None:
    waiting = [
        f"{version.label} ({version.id}) is {version.state}" for version in versions if not version.state.is_final
    ]
    if waiting:
        raise StateError(
            f"parents and inputs must be finalized: {'; '.join(waiting)}",
            kind="parent_not_final",
            hint="Upload and finalize them first, or choose other versions.",
        )


def _start(context: Context, parents: list[Version], store_id: str) -> Content:
    """The content a draft begins with; one parent's manifest is taken over as it is, whatever its size."""
    if not parents:
        return Content(index=None, pending=0, pending_object=None, files=0, bytes=0, content_hash=EMPTY.content_hash)
    if len(parents) == 1:
        (only,) = parents
        return Content(
            index=only.index,
            pending=0,
            pending_object=None,
            files=only.files,
            bytes=only.bytes,
            content_hash=only.content_hash,
            needs=(only.index.key,) if only.index is not None else (),  # it goes before what it refers to
        )
    return replace(merged(context, parents, store_id), new_bytes=0)
