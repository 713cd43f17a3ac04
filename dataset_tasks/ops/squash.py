"""squash: one standalone version from the content of a version, or from the changes of several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from dataset_tasks.catalog.rows import dump
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import NewVersion
from dataset_tasks.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Manifest, squash
from dataset_tasks.model import State, Version, check_dataset
from dataset_tasks.objects import new_key
from dataset_tasks.ops import finalize, retention, unchanged
from dataset_tasks.ops.alive import on_a_draft
from dataset_tasks.ops.content import Change, commit
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.inherited import inherited
from dataset_tasks.ops.requests import Create, CreateResult, Squash, SquashResult
from dataset_tasks.ops.restore import stored_anew
from dataset_tasks.ops.settling import settle

#: How often a squash is filled again that another process fills at once, under the same key.
_TRIES = 6


def run(context: Context, request: Squash) -> SquashResult:
    """Squashes; the outcome is final, and needs no chunk of the versions that were squashed.

    Raises:
        InvalidArgumentError: No versions, a name with a `/`, or an ancestor listed after its descendant.
        StateError: One of them is not final.
        IntegrityError: Their bytes can't be read back.
    """
    versions = [context.session.catalog.resolve(ref) for ref in request.refs]
    if not versions:
        raise InvalidArgumentError("squash needs at least one version", hint="Give ids or references.")
    if not request.name:
        raise InvalidArgumentError("a dataset needs a name", hint="Give `dataset_name`.")
    for version in versions:
        require_final(version, "squash")
    _refuse_disorder(context, versions)
    project = request.project or versions[0].project
    check_dataset(project, request.name)
    retention.remember(context.session.catalog, project, request.name, request.keep)
    fingerprint = unchanged.fingerprint({"squash": [version.id for version in versions]})
    if request.skip_unchanged:
        for last in unchanged.candidates(context.session, project, request.name, None, request.hold, context.window):
            if last.fingerprint == fingerprint:
                return _result(last, is_unchanged=True)
    return on_a_draft(
        context,
        lambda: _draft(context, request, versions, project).id,
        lambda draft_id: _made(context, request, versions, draft_id, fingerprint),
    )


def _made(
    context: Context, request: Squash, versions: Sequence[Version], draft_id: str, fingerprint: str
) -> SquashResult:
    """Fills the draft. Where another process does so at once, under the same key, whoever ends first made it."""
    draft = context.session.catalog.version(draft_id)
    for left in reversed(range(_TRIES)):
        try:
            return _fill(context, request, versions, draft, fingerprint)
        except (ConflictError, StateError) as error:
            draft = context.session.catalog.version(draft_id)
            if draft.state.is_final:
                settle(context, draft)
                return _result(draft)
            if not left or not isinstance(error, ConflictError):
                raise
    raise AssertionError("the last try returns or raises")


def _fill(
    context: Context, request: Squash, versions: Sequence[Version], draft: Version, fingerprint: str
) -> SquashResult:
    if draft.state.is_final:
        return _result(draft)
    failpoint("squash.after_draft")
    source = _content(context, versions, draft)
    own = None if len(versions) == 1 else {version.id for version in versions}
    restored = stored_anew(context, draft, source, own)
    failpoint("squash.after_copy")

    def change(_head: Version, _manifest: Manifest) -> Change:
        return Change(built=restored.built, objects=restored.chunks)

    filled = commit(context.part("fill"), request, draft, change, _result)
    failpoint("squash.after_fill")
    record = context.record(request, _result)
    final = finalize.commit(context, filled, record, fingerprint)
    failpoint("squash.after_final")
    settle(context, final)
    return _result(final)


def _draft(context: Context, request: Squash, versions: Sequence[Version], project: str) -> Version:
    """The draft, made once for the operation's key."""
    catalog = context.session.catalog
    part = context.part("create")
    begun = _begun(catalog, part.key)
    if begun is not None:
        return begun
    listed = {version.id for version in versions}
    inherited_from = () if len(versions) == 1 else versions[0].parents
    parents = tuple(i for i in inherited_from if i not in listed and catalog.version(i).state.is_final)
    new = NewVersion(
        project=project,
        name=request.name,
        store_id=context.session.store_id(request.store),
        parents=parents,
        tags=request.tags,
        description=request.description,
        metadata=request.metadata,
        origin={
            **context.origin,
            "squash": [version.id for version in versions],
            **({unchanged.HOLD: list(request.hold)} if request.hold else {}),
        },
        recipe=hashlib.sha256(dump(sorted(listed)).encode()).hexdigest(),
        skip_unchanged=request.skip_unchanged,
        window=context.window,
    )
    create = Create(name=request.name, project=project)
    try:
        return catalog.create(new, part.record(create, lambda version: CreateResult(**about(version))))
    except AlreadyExistsError:
        begun = _begun(catalog, part.key)
        if begun is None:
            raise
        return begun  # by another process, at once and under the same key


def _begun(catalog: Catalog, key: str) -> Version | None:
    """What another try under the key began and nobody gave up."""
    found = catalog.recorded(key)
    version = catalog.version(found.version_id) if found is not None else None
    return version if version is not None and version.state not in (State.ABORTED, State.DELETED) else None


def _content(context: Context, versions: Sequence[Version], draft: Version) -> Manifest:
    """The squashed content; not stored, it still refers to the chunks of the squashed versions."""
    session = context.session
    if len(versions) == 1:
        return session.manifest(versions[0])
    before = [inherited(session, version.parents) for version in versions]
    steps = [(old, session.manifest(version)) for old, version in zip(before, versions, strict=True)]
    built = squash(before[0], steps, new_key=lambda: new_key("pack"), store_id=draft.store_id)
    return built.manifest(session.objects.read)


def _refuse_disorder(context: Context, versions: Sequence[Version]) -> None:
    for position, version in enumerate(versions):
        behind = {later.id: later for later in versions[position + 1 :]}
        above = context.session.catalog.ancestors(version.id)
        wrong = [later.label for later_id, later in behind.items() if later_id in above]
        if wrong:
            raise InvalidArgumentError(
                f"{', '.join(wrong)} is listed after its descendant {version.label}",
                hint="List versions from the oldest to the newest, each once.",
            )


def _result(version: Version, *, is_unchanged: bool = False) -> SquashResult:
    return SquashResult(
        **about(version),
        unchanged=is_unchanged,
        why=f"{version.label} holds just these versions already" if is_unchanged else "",
        files=version.files,
        bytes=version.bytes,
        new_bytes=version.new_bytes,
        content_hash=version.content_hash,
        parents=version.parents,
    )
