"""finalize: makes a draft a final version, which never changes again."""

from __future__ import annotations

from dataset_tasks import holding
from dataset_tasks.catalog.writes import Record
from dataset_tasks.errors import ConflictError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import Version
from dataset_tasks.ops import unchanged
from dataset_tasks.ops.content import BEFORE
from dataset_tasks.ops.context import Context, about, require_draft
from dataset_tasks.ops.requests import Finalize, FinalizeResult
from dataset_tasks.ops.settling import settle


def run(context: Context, request: Finalize) -> FinalizeResult:
    """Makes a draft final, once every chunk it refers to was seen in its store with its size.

    On a final version it does nothing. A draft that skips unchanged content may be dropped instead: the result then
    names the version that stands.

    Raises:
        StateError: Of kind `pending_uploads`, or the version is aborted or deleted.
        IntegrityError: A chunk is missing or has another size.
        ConflictError: Another writer moved the draft.
    """
    catalog = context.session.catalog
    version = catalog.resolve(request.ref)
    if version.state.is_final:
        settle(context, version)
        return result_of(version)
    require_draft(version)
    standing = unchanged.settle(context, request, version)
    if standing is not None:
        return result_of(standing, unchanged=True, why=unchanged.same_as(standing))
    if version.pending:
        raise StateError(
            f"{version.label} ({version.id}) has {version.pending} files whose bytes are not uploaded",
            kind="pending_uploads",
            hint="Call upload first.",
        )
    failpoint("finalize.before_check")
    _check_objects(context, version)
    fingerprint = unchanged.fingerprint_of(version)
    try:
        record = context.record(request, result_of)
        final = commit(context, version, record, fingerprint)
    except (ConflictError, StateError):
        final = catalog.version(version.id)
        if not (final.state.is_final and final.content_hash == version.content_hash):
            raise
    settle(context, final)
    return result_of(final)


def result_of(version: Version, *, unchanged: bool = False, why: str = "") -> FinalizeResult:
    """What finalize says of a version."""
    return FinalizeResult(
        **about(version),
        unchanged=unchanged,
        why=why,
        files=version.files,
        bytes=version.bytes,
        new_bytes=version.new_bytes,
        content_hash=version.content_hash,
        parents=version.parents,
    )


def commit(context: Context, version: Version, record: Record, fingerprint: str) -> Version:
    """Moves a draft whose objects all stand to final.

    Raises:
        ConflictError, StateError: As `Catalog.finalize`.
    """
    new_bytes = _new_bytes(context, version)
    failpoint("finalize.before_commit")
    origin = {name: value for name, value in version.origin.items() if name != BEFORE}
    final = context.session.catalog.finalize(
        version, record, fingerprint=fingerprint, new_bytes=new_bytes, origin=origin,
        quarantined=holding.mark(unchanged.holds(version)),
    )  # fmt: skip
    failpoint("finalize.after_commit")
    return final


def _new_bytes(context: Context, version: Version) -> int:
    """Bytes of the objects that this version brought."""
    own = {each.key for each in context.session.catalog.objects_of(version.id)}
    refs = [*context.session.manifest(version).index.objects.values(), *([version.index] if version.index else [])]
    return sum(ref.size for ref in refs if ref.key in own)


def _check_objects(context: Context, version: Version) -> None:
    context.session.objects.check_sizes(context.session.manifest(version).index.objects.values())
