"""Puts events of journals back into a catalog: what `dataset-tasks catalog rebuild` does inside the database.

Events come in the order of their sequence, batch by batch, each batch in one transaction. One that the catalog has
already is passed over, so that the same journal again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import versioning
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.rows import Event, dump, to_micros
from dataset_tasks.catalog.writes import advance, set_metadata, set_tags
from dataset_tasks.model import ObjectRef, State

#: JSON of an event's payload: whatever the release wrote that wrote it.
_Payload = Mapping[str, Any]  # Any: JSON
_TEXTS = ("description", "project", "name", "quarantined", "fingerprint")
#: That of a row which stands for a version; no version has it.
_NO_PROJECT = ""
_COPIED = (
    "id", "project", "name", "version", "partition", "created", "finalized", "previous_id", "description", "store_id",
    "files", "bytes", "new_bytes", "content_hash", "fingerprint", "recipe", "skip_unchanged",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """An event as it stands in the journal of a store."""

    event: Event
    store_id: str


class Replay:
    """Events on their way into one transaction; `problems` says what could not be as it was.

    Args:
        connection: In a transaction that nobody writes beside.
    """

    def __init__(self, connection: Connection) -> None:
        self.problems: list[str] = []
        self.applied = 0
        self._connection = connection

    def apply(self, batch: Sequence[Journaled]) -> None:
        """Puts in what the catalog lacks of a batch. An event that can't be applied is a problem, no end."""
        wanted = [each.event.sequence for each in batch]
        rows = self._connection.execute(sa.select(t.events).where(t.events.c.sequence.in_(wanted))).mappings()
        there = {row["sequence"]: row for row in rows}
        for each in batch:
            held = there.get(each.event.sequence)
            if held is not None and (held["kind"], held["version_id"]) == (each.event.kind, each.event.version_id):
                continue
            if held is not None and not self._make_room(each.event):
                continue
            self._put(each)
        where = t.events.c.sequence.in_(wanted) & ~t.events.c.journaled
        self._connection.execute(sa.update(t.events).where(where).values(journaled=True))

    def _make_room(self, event: Event) -> bool:
        """Gives another number to the event that holds this one: a catalog restored from a copy counted on from there."""
        here = t.events.c.sequence == event.sequence
        if self._connection.execute(sa.select(t.events.c.journaled).where(here)).scalar():
            self.problems.append(
                f"event {event.sequence}: the journal has {event.kind} of {event.version_id}, the catalog another event"
            )
            return False
        number = advance(self._connection)
        self._connection.execute(sa.update(t.events).where(here).values(sequence=number))
        alias = t.aliases.c.sequence == event.sequence
        self._connection.execute(sa.update(t.aliases).where(alias).values(sequence=number))
        return True

    def _put(self, each: Journaled) -> None:
        event = each.event
        apply = _KINDS.get(event.kind)
        try:
            if apply is not None:
                with self._connection.begin_nested():
                    apply(self, event, cast("_Payload", event.payload))
        except (KeyError, TypeError, ValueError) as error:
            self.problems.append(
                f"event {event.sequence} ({event.kind} of {event.version_id}) can't be read: {error!r}"
            )
            return
        if apply is None:
            self.problems.append(
                f"event {event.sequence} is of the kind {event.kind!r}, which this release can't apply"
            )
        self._connection.execute(
            sa.insert(t.events).values(
                sequence=event.sequence,
                kind=event.kind,
                version_id=event.version_id,
                created=to_micros(event.created),
                payload=dump(dict(event.payload)),
                store_id=each.store_id,
                journaled=True,
            )
        )
        self.applied += 1

    # --- one method a kind

    def finalized(self, event: Event, was: _Payload) -> None:
        """A version, whole."""
        values = {name: was[name] for name in _COPIED}
        values |= {
            "version_order": versioning.sort_key(was["version"]),
            "state": State.COMPLETED,
            "revision": 0,
            "sequence": was["sequence"],
            "index_object": dump(was["index_object"]) if was["index_object"] else None,
            "pending": 0,
            "pending_object": None,
            "origin": dump(was["origin"]),
            "window": was.get("window"),
            "deleted": None,
            "purged": False,
        }
        here = t.versions.c.id == event.version_id
        columns = (t.versions.c.state, t.versions.c.content_hash, _stands_in().label("stands_in"))
        row = self._connection.execute(sa.select(*columns).where(here)).first()
        state = row.state if row is not None else None
        if row is not None and not row.stands_in and state in (State.COMPLETED, State.PUBLISHED, State.DELETED):
            if row.content_hash != was["content_hash"]:
                self.problems.append(
                    f"version {event.version_id} was finished anew since, with other content than the journal tells of"
                )
            return
        self._free_sequence(event.version_id, was["sequence"])
        values["version"], values["version_order"] = self._free_number(event, was)
        if state is None:
            self._connection.execute(sa.insert(t.versions).values(**values))
        else:  # the draft that it was when the catalog was copied, or what stood for it
            self._connection.execute(sa.update(t.versions).where(here).values(**values))
            for table, column in ((t.parents, t.parents.c.child_id), (t.tags, t.tags.c.version_id)):
                self._connection.execute(sa.delete(table).where(column == event.version_id))
        self._put_edges(event.version_id, was)
        set_tags(self._connection, event.version_id, was["tags"])
        set_metadata(self._connection, event.version_id, was["metadata"])

    def published(self, event: Event, was: _Payload) -> None:
        """A completed version that became published."""
        self._set(event, state=State.PUBLISHED, published=was["published"])

    def deleted(self, event: Event, _was: _Payload) -> None:
        """A tombstone."""
        self._set(event, state=State.DELETED, deleted=to_micros(event.created))

    def undeleted(self, event: Event, was: _Payload) -> None:
        """A tombstone that became a version again."""
        self._set(event, state=State(was["state"]), deleted=None, purged=False)

    def moved(self, event: Event, was: _Payload) -> None:
        """A version whose bytes lie elsewhere since."""
        self._set(event, index_object=dump(was["index_object"]) if was["index_object"] else None)

    def changed(self, event: Event, was: _Payload) -> None:
        """Tags, metadata, texts."""
        here = t.versions.c.id == event.version_id
        texts = {name: was[name] for name in _TEXTS if name in was}
        row = self._connection.execute(sa.select(t.versions.c.project, t.versions.c.name).where(here)).first()
        self._set(event, **texts)
        if row is not None and ("project" in texts or "name" in texts):
            mine = (t.aliases.c.version_id == event.version_id) & (t.aliases.c.project == row[0])
            moved = {name: texts[name] for name in ("project", "name") if name in texts}
            self._connection.execute(sa.update(t.aliases).where(mine & (t.aliases.c.name == row[1])).values(**moved))
        if "tags" in was:
            self._connection.execute(sa.delete(t.tags).where(t.tags.c.version_id == event.version_id))
            set_tags(self._connection, event.version_id, was["tags"])
        set_metadata(self._connection, event.version_id, was.get("metadata", {}))

    def alias(self, event: Event, was: _Payload) -> None:
        """A move of an alias."""
        self._require(event.version_id)
        row = {name: was[name] for name in ("project", "name", "alias", "version_id")}
        self._connection.execute(
            sa.insert(t.aliases).values(sequence=event.sequence, created=to_micros(event.created), **row)
        )

    def approval(self, event: Event, was: _Payload) -> None:
        """A question as it stood after the event."""
        self._require(event.version_id)
        row = {column.name: was[column.name] for column in t.approvals.columns}
        self._connection.execute(sa.delete(t.approvals).where(t.approvals.c.sequence == row["sequence"]))
        self._connection.execute(sa.insert(t.approvals).values(**row))

    def reported(self, event: Event, was: _Payload) -> None:
        """What was said about a version, and the files that belong to it."""
        self._require(event.version_id)
        for row in was["reports"]:
            told = t.reports.c.version_id == event.version_id
            if self._connection.execute(
                sa.select(t.reports.c.sequence).where(told & (t.reports.c.token == row["token"]))
            ).first():
                continue
            taken = self._connection.execute(
                sa.select(t.reports.c.sequence).where(told & (t.reports.c.sequence == row["sequence"]))
            ).first()
            values = {column.name: row[column.name] for column in t.reports.columns} | {"value": dump(row["value"])}
            values |= {"sequence": advance(self._connection)} if taken else {}
            self._connection.execute(sa.insert(t.reports).values(**values))
            if row["kind"] in ("image", "media"):
                ref = ObjectRef(**{name: row["value"][name] for name in ("store_id", "key", "size", "sha256")})
                put_objects(
                    self._connection, event.version_id, [ref], kind_of=lambda _key: "report", created=row["created"]
                )

    # --- what they share

    def _set(self, event: Event, **values: object) -> None:
        self._require(event.version_id)
        where = t.versions.c.id == event.version_id
        self._connection.execute(
            sa.update(t.versions).where(where).values(revision=t.versions.c.revision + 1, **values)
        )

    def _require(self, version_id: str) -> None:
        """Makes a tombstone where a version should be whose own event is lost, so that what refers to it stays whole.

        Its event may come after all: an alias was set to the draft, or another store has it that is given later.
        """
        if self._connection.execute(sa.select(t.versions.c.id).where(t.versions.c.id == version_id)).first():
            return
        self._connection.execute(
            sa.insert(t.versions).values(
                id=version_id,
                project=_NO_PROJECT,
                name="lost",
                version=version_id,
                state=State.DELETED,
                revision=0,
                sequence=advance(self._connection),
                created=0,
                deleted=0,
                purged=True,
                store_id=self._connection.execute(sa.select(t.stores.c.id).limit(1)).scalar_one(),
            )
        )

    def _free_sequence(self, version_id: str, sequence: int) -> None:
        other = (t.versions.c.sequence == sequence) & (t.versions.c.id != version_id)
        if self._connection.execute(sa.select(t.versions.c.id).where(other)).first():
            values = {"sequence": advance(self._connection)}
            self._connection.execute(sa.update(t.versions).where(other).values(**values))

    def _free_number(self, event: Event, was: _Payload) -> tuple[str, str]:
        """The version string, or another one where a version of the catalog holds it by now."""
        number = was["version"]
        same = (
            (t.versions.c.project == was["project"])
            & (t.versions.c.name == was["name"])
            & (t.versions.c.version == number)
            & (t.versions.c.partition == was["partition"])
            & (t.versions.c.id != event.version_id)
            & t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        )
        holder = self._connection.execute(sa.select(t.versions.c.id).where(same)).scalar()
        if holder is not None:
            self.problems.append(
                f"{was['project']}/{was['name']}@{number}: {holder} has the number of {event.version_id} by now, "
                f"which is {number}+restored"
            )
            number = f"{number}+restored"
        return number, versioning.sort_key(number)

    def _put_edges(self, version_id: str, was: _Payload) -> None:
        edges = [
            {"kind": "parent", "position": i, "parent_id": ref, "name": "", "files": "[]"}
            for i, ref in enumerate(was["parents"])
        ]
        edges += [
            {"kind": "input", "position": i, "parent_id": e["ref"], "name": e["name"], "files": dump(e["files"])}
            for i, e in enumerate(was["inputs"])
        ]
        for edge in edges:
            self._require(edge["parent_id"])
        if edges:
            self._connection.execute(sa.insert(t.parents), [{"child_id": version_id, **edge} for edge in edges])


_KINDS: dict[str, Callable[[Replay, Event, _Payload], None]] = {
    "finalized": Replay.finalized,
    "published": Replay.published,
    "deleted": Replay.deleted,
    "undeleted": Replay.undeleted,
    "moved": Replay.moved,
    "changed": Replay.changed,
    "alias": Replay.alias,
    "approval": Replay.approval,
    "reported": Replay.reported,
}


def _stands_in() -> sa.ColumnElement[bool]:
    """Whether a row only stands for a version that no journal has told of."""
    return (t.versions.c.project == _NO_PROJECT) & (t.versions.c.state == State.DELETED)


def lost(connection: Connection) -> list[str]:
    """Ids of the versions that are referred to, and that no journal has told of; by id."""
    return sorted(connection.execute(sa.select(t.versions.c.id).where(_stands_in())).scalars())


def put_stores(connection: Connection, stores: Iterable[tuple[str, str, int]]) -> None:
    """Makes the rows of stores (id, URL, created) that have none; one that has stands where it says."""
    there = set(connection.execute(sa.select(t.stores.c.id)).scalars())
    for store_id, url, created in stores:
        if store_id not in there:
            connection.execute(sa.insert(t.stores).values(id=store_id, url=url, created=created))


def put_objects(
    connection: Connection, version_id: str, refs: Iterable[ObjectRef], *, kind_of: Callable[[str], str], created: int
) -> None:
    """Makes the objects that a version refers to live: rows for those that have none, and for those begun in a copy."""
    wanted = {ref.key: ref for ref in refs}
    keys = list(wanted)
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        here = t.objects.c.key.in_(some)
        there = dict(map(tuple, connection.execute(sa.select(t.objects.c.key, t.objects.c.state).where(here)).all()))
        for ref in (wanted[key] for key in some if there.get(key, "live") != "live"):
            values = {"state": "live", "condemned": None, "size": ref.size, "sha256": ref.sha256}
            connection.execute(sa.update(t.objects).where(t.objects.c.key == ref.key).values(**values))
        rows = [
            {
                "key": ref.key,
                "store_id": ref.store_id,
                "kind": kind_of(ref.key),
                "size": ref.size,
                "sha256": ref.sha256,
                "state": "live",
                "version_id": version_id,
                "created": created,
            }
            for ref in (wanted[key] for key in some if key not in there)
        ]
        if rows:
            connection.execute(sa.insert(t.objects), rows)


def purge(connection: Connection, version_id: str) -> None:
    """Says of a tombstone that its bytes are gone."""
    where = t.versions.c.id == version_id
    connection.execute(sa.update(t.versions).where(where).values(purged=True, index_object=None))
    _let_reports_go(connection, t.objects.c.version_id == version_id)


def purge_the_empty(connection: Connection) -> None:
    """Says of tombstones without an index that their bytes are gone."""
    where = (t.versions.c.state == State.DELETED) & t.versions.c.index_object.is_(None) & (t.versions.c.files > 0)
    connection.execute(sa.update(t.versions).where(where).values(purged=True))
    _let_reports_go(connection, t.objects.c.version_id.in_(sa.select(t.versions.c.id).where(where)))


def _let_reports_go(connection: Connection, of_versions: sa.ColumnElement[bool]) -> None:
    """Leaves to `gc` what is left of the files that were reported about purged versions."""
    where = of_versions & (t.objects.c.kind == "report") & (t.objects.c.state == "live")
    connection.execute(sa.update(t.objects).where(where).values(state="condemned"))


def without_objects(connection: Connection) -> list[tuple[str, str, str]]:
    """Id, state and index (JSON) of the versions whose index is not live among the objects, by creation."""
    rows = connection.execute(
        sa.select(t.versions.c.id, t.versions.c.state, t.versions.c.index_object)
        .where(t.versions.c.index_object.is_not(None))
        .order_by(t.versions.c.sequence)
    ).all()
    live = (t.objects.c.kind == "index") & (t.objects.c.state == "live")
    known = set(connection.execute(sa.select(t.objects.c.key).where(live)).scalars())
    return [(i, state, index) for i, state, index in rows if json.loads(index)["key"] not in known]


def raise_counter(connection: Connection, least: int) -> None:
    """Makes sure that the next sequence number is above `least`."""
    here = (t.counters.c.name == "sequence") & (t.counters.c.value < least)
    connection.execute(sa.update(t.counters).where(here).values(value=least))
