"""What must hold of a catalog and its stores at any moment, whatever was killed, retried or raced before.

`assert_invariants` reads everything: it is for tests, also for those of users' own pipelines.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import Verify, VerifyResult
from dataset_tasks.session import Session


def assert_invariants(session: Session) -> None:
    """Raises an `AssertionError` that lists every violation.

    - A final version has no pending file, and every one of its files reads back from the store with its hash.
    - Its counts and its content hash are those of its manifest, and its parents and inputs are known and not drafts.
    - Every object it refers to has a live row with the same size and hash.
    - Its first event is `finalized`, there is one such event, and one `published` exactly when it is published.
    - A draft's counts are those of its manifest; a version's number is used once.
    - Every event stands in the journal.
    """
    found = list(_violations(session))
    assert not found, "\n".join(["invariants do not hold:", *(f"- {each}" for each in found)])


def _violations(session: Session) -> Iterator[str]:
    versions = session.catalog.versions(states=tuple(State))
    known = {version.id: version for version in versions}
    numbers = set()
    for version in versions:
        if version.state in (State.IN_PROGRESS, State.COMPLETED, State.PUBLISHED):
            number = (version.project, version.name, version.version)
            if number in numbers:
                yield f"{version.label}: its number is used twice"
            numbers.add(number)
            yield from _counts(session, version)
        if version.state.is_final:
            yield from _final(session, version, known)
        yield from _events(session, version)
    waiting = session.catalog.unjournaled()
    if waiting:
        yield f"{len(waiting)} events have no journal object"


def _counts(session: Session, version: Version) -> Iterator[str]:
    index = session.manifest(version).index
    for what, row, manifest in (
        ("files", version.files, index.files),
        ("bytes", version.bytes, index.bytes),
        ("pending", version.pending, index.pending),
        ("content hash", version.content_hash, index.content_hash),
    ):
        if row != manifest:
            yield f"{version.label}: {what} is {row} in the catalog, {manifest} in the manifest"


def _final(session: Session, version: Version, known: dict[str, Version]) -> Iterator[str]:
    if version.pending:
        yield f"{version.label}: final with {version.pending} pending files"
    for related in (*version.parents, *(each.ref for each in version.inputs)):
        if related not in known or known[related].state in (State.IN_PROGRESS, State.ABORTED):
            yield f"{version.label}: made from {related}, which is no final version"
    result = session.run(Verify(ref=version.id))
    assert isinstance(result, VerifyResult)
    if result.bad and not version.quarantined:
        yield f"{version.label}: {len(result.bad)} files do not read back: {', '.join(result.bad[:5])}"
    rows = {each.key: each for owner in known for each in session.catalog.objects_of(owner)}
    for ref in session.manifest(version).index.objects.values():
        row = rows.get(ref.key)
        if row is None or row.state != "live":
            yield f"{version.label}: object {ref.key} is {row.state if row else 'unknown'} in the catalog"
        elif (row.size, row.sha256) != (ref.size, ref.sha256):
            yield f"{version.label}: object {ref.key} has another size or hash in the catalog than in the index"


def _events(session: Session, version: Version) -> Iterator[str]:
    kinds = [event.kind for event in session.catalog.events(version_id=version.id)]
    was_final = version.finalized is not None
    if kinds.count("finalized") != was_final or (kinds and kinds[0] != "finalized"):
        yield f"{version.label} ({version.state}): its events are {', '.join(kinds) or 'none'}"
    if kinds.count("published") != (version.published is not None):
        yield f"{version.label} ({version.state}): {kinds.count('published')} publish events"
