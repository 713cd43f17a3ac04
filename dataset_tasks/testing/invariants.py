"""What must hold of a catalog and its stores at any moment, whatever was killed, retried or raced before.

`assert_invariants` reads everything: it is for tests, also for those of users' own pipelines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dataset_tasks.catalog.queries import StoredObject
from dataset_tasks.manifest import Index
from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import Verify, VerifyResult
from dataset_tasks.session import Session

_KINDS = ("chunks/", "packs/", "indexes/", "pending/", "deltas/")


def assert_invariants(session: Session, *, collected: bool = False) -> None:
    """Raises an `AssertionError` that lists every violation, each with its number.

    - I1, I2, I7: a final version has no pending file, and every one of its files reads back from the store with its hash;
      its counts and its content hash are those of its manifest, and its parents and inputs are known and not drafts.
    - I3: the events of a version tell its state: first `finalized`, once, `published` once exactly when it is published,
      `deleted` and `undeleted` in turn. A version's number is used once.
    - I6: every object that a version, or a report about it, refers to has a live row with the same size and hash, a
      draft's too; what was given up has no index. With `collected`, as `gc` with no grace leaves it, nothing else is in
      the stores.
    - I8, I12: every event stands in the journal.

    Args:
        session: Whose catalog and stores.
        collected: Also look for leftovers.
    """
    found = list(_violations(session))
    if collected:
        found += _leftovers(session)
    assert not found, "\n".join(["invariants do not hold:", *(f"- {each}" for each in found)])


def _violations(session: Session) -> Iterator[str]:
    versions = session.catalog.versions(states=tuple(State))
    known = {version.id: version for version in versions}
    rows = {each.key: each for owner in (*known, "") for each in session.catalog.objects_of(owner)}
    numbers = set()
    for version in versions:
        if version.state in (State.IN_PROGRESS, State.COMPLETED, State.PUBLISHED):
            number = (version.project, version.name, version.version)
            if number in numbers:
                yield f"I3: {version.label}: its number is used twice"
            numbers.add(number)
            yield from _counts(session, version)
            yield from _objects(session, version, rows)
        if version.state.is_final:
            yield from _final(session, version, known)
        yield from _events(session, version)
    waiting = session.catalog.unjournaled()
    if waiting:
        yield f"I12: {len(waiting)} events have no journal object"


def _counts(session: Session, version: Version) -> Iterator[str]:
    index = session.manifest(version).index
    for what, row, manifest in (
        ("files", version.files, index.files),
        ("bytes", version.bytes, index.bytes),
        ("pending", version.pending, index.pending),
        ("content hash", version.content_hash, index.content_hash),
    ):
        if row != manifest:
            yield f"I2: {version.label}: {what} is {row} in the catalog, {manifest} in the manifest"


def _final(session: Session, version: Version, known: dict[str, Version]) -> Iterator[str]:
    if version.pending:
        yield f"I2: {version.label}: final with {version.pending} pending files"
    for related in (*version.parents, *(each.ref for each in version.inputs)):
        if related not in known or known[related].state in (State.IN_PROGRESS, State.ABORTED):
            yield f"I2: {version.label}: made from {related}, which is no final version"
    result = session.run(Verify(ref=version.id))
    assert isinstance(result, VerifyResult)
    if result.bad and not version.quarantined:
        yield f"I1: {version.label}: {len(result.bad)} files do not read back: {', '.join(result.bad[:5])}"


def _objects(session: Session, version: Version, rows: Mapping[str, StoredObject]) -> Iterator[str]:
    own = [version.index, version.pending_object, *(each.file for each in session.catalog.reports(version.id))]
    for ref in (*session.manifest(version).index.objects.values(), *(each for each in own if each is not None)):
        row = rows.get(ref.key)
        if row is None or row.state != "live":
            yield f"I6: {version.label}: object {ref.key} is {row.state if row else 'unknown'} in the catalog"
        elif (row.size, row.sha256) != (ref.size, ref.sha256):
            yield f"I6: {version.label}: object {ref.key} has another size or hash in the catalog than in the index"


def _leftovers(session: Session) -> Iterator[str]:
    """What is in the stores, or in the catalog's list of objects, and serves no version."""
    roots = session.catalog.roots()
    needed = {ref.key for root in roots for ref in (*root.indexes, *root.others)}
    for root in roots:
        for ref in root.indexes:
            needed |= Index.from_bytes(session.objects.read(ref)).objects.keys()
    rows = session.catalog.known_keys()
    yield from (f"I6: {key} is {state} in the catalog" for key, state in rows.items() if state != "live")
    prefix = session.objects.full_key("")
    for store_id in session.catalog.stores():
        store = session.objects.store(store_id)
        keys = [key.removeprefix(prefix) for key, _ in store.list(prefix)]
        yield from (f"I6: nobody needs {key}" for key in keys if key.startswith(_KINDS) and key not in needed)
        yield from (f"I6: a part of {part.key} is left" for part in store.leftovers(prefix))


def _events(session: Session, version: Version) -> Iterator[str]:
    kinds = [event.kind for event in session.catalog.events(version_id=version.id)]
    was_final = version.finalized is not None
    if kinds.count("finalized") != was_final or (kinds and kinds[0] != "finalized"):
        yield f"I3: {version.label} ({version.state}): its events are {', '.join(kinds) or 'none'}"
    if kinds.count("published") != (version.published is not None):
        yield f"I3: {version.label} ({version.state}): {kinds.count('published')} publish events"
    ends = [kind for kind in kinds if kind in ("deleted", "undeleted")]
    if ends != (["deleted", "undeleted"] * len(ends))[: len(ends)] or (version.state is State.DELETED) != (
        len(ends) % 2
    ):
        yield f"I3: {version.label} ({version.state}): its ends are {', '.join(ends) or 'none'}"
