"""publish: tells everybody that a final version may be used, once, and points an alias at it."""

from __future__ import annotations

from dataset_tasks.errors import ConflictError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import State, Version
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.requests import Publish, PublishResult


def run(context: Context, request: Publish) -> PublishResult:
    """Publishes a final version. There is one publish event a version, ever; again it does nothing.

    An alias moves forward only: where it names the version of a later interval, as when missed runs are made up for, it
    stays there.

    Raises:
        StateError: The version is not final, or is quarantined.
        ConflictError: Another writer moved the version.
    """
    catalog = context.session.catalog
    version = catalog.resolve(request.ref)
    require_final(version, "publish")
    if version.quarantined:
        raise StateError(
            f"{version.label} ({version.id}) is quarantined: {version.quarantined}",
            kind="quarantined",
            hint="Make a new version; this one stays as it is.",
        )

    alias = request.alias
    if alias is not None and catalog.is_ahead(version, alias):
        alias = None

    def result(now: Version) -> PublishResult:
        return _result(now, alias, unchanged=False)

    if version.state is State.PUBLISHED and _is_aliased(context, version, alias):
        context.session.flush_journal(version.id)
        return _result(version, alias, unchanged=True)
    try:
        failpoint("publish.before_commit")
        published = catalog.publish(version, alias, context.record(request, result))
        failpoint("publish.after_commit")
    except (ConflictError, StateError):
        published = catalog.version(version.id)
        if published.state is not State.PUBLISHED or not _is_aliased(context, published, alias):
            raise
    context.session.flush_journal(version.id)
    return result(published)


def _is_aliased(context: Context, version: Version, alias: str | None) -> bool:
    if alias is None:
        return True
    return context.session.catalog.aliases(version.project, version.name).get(alias) == version.id


def _result(version: Version, alias: str | None, *, unchanged: bool) -> PublishResult:
    return PublishResult(
        **about(version),
        unchanged=unchanged,
        why=f"{version.label} is published already" if unchanged else "",
        alias=alias,
        files=version.files,
        bytes=version.bytes,
        content_hash=version.content_hash,
        parents=version.parents,
    )
