"""How the catalog is changed: units of work that carry the record of their operation."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.catalog.queries import Queries, recorded, select_versions
from dataset_tasks.catalog.rows import checked_text, dump, dump_object, to_micros
from dataset_tasks.errors import AlreadyExistsError, ConflictError, NotFoundError, StateError
from dataset_tasks.model import Input, JsonValue, ObjectRef, State, Version

Clock: TypeAlias = Callable[[], datetime]

#: Statements that every change needs are made once: making one takes SQLAlchemy longer than SQLite takes to run it.
_PUT_EVENT = sa.insert(t.events)
_ADVANCE = (
    sa.update(t.counters)
    .where(t.counters.c.name == "sequence")
    .values(value=t.counters.c.value + 1)
    .returning(t.counters.c.value)
)


@cache
def _keep(*, is_sqlite: bool) -> sa.Executable:
    """Writes the record of an operation, over one that stands under its key. Each dialect is loaded where it is used."""
    rest = [column.name for column in t.operations.columns if not column.primary_key]
    if is_sqlite:
        from sqlalchemy.dialects import sqlite

        put = sqlite.insert(t.operations)
        return put.on_conflict_do_update(index_elements=["key"], set_={name: put.excluded[name] for name in rest})
    from sqlalchemy.dialects import postgresql

    new = postgresql.insert(t.operations)
    return new.on_conflict_do_update(index_elements=["key"], set_={name: new.excluded[name] for name in rest})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is written down with the effect of an operation: its key, the digest of its request, how to tell its result."""

    key: str
    verb: str
    digest: str
    result: Callable[[Version], Mapping[str, JsonValue]]
    token: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """What a draft starts as. Parents and inputs are resolved ids; `content` is the merged parents'.

    `window` is the start of the interval that the run stands for: of two versions the one of the later window is the
    latest, whichever was finished later. A version made without one takes that of the dataset's latest.
    """

    project: str
    name: str
    store_id: str
    version: str | None = None
    parents: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    previous_id: str | None = None
    partition: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    origin: Mapping[str, JsonValue] = field(default_factory=dict)
    recipe: str = ""
    skip_unchanged: bool = False
    window: datetime | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a commit of content sets in the row of a draft.

    `objects` become live with it, `needs` must be live already, `gone` are condemned.
    """

    index: ObjectRef | None
    pending: int
    pending_object: ObjectRef | None
    files: int
    bytes: int
    content_hash: str
    new_bytes: int = 0
    store_id: str | None = None
    fingerprint: str | None = None
    origin: Mapping[str, JsonValue] | None = None
    objects: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Writes(Queries):
    """A catalog with the means to change it.

    Args:
        database: Where it is.
        catalog_id: Its id.
        clock: Gives the present moment in UTC.
    """

    def __init__(self, database: Database, catalog_id: str, clock: Clock) -> None:
        super().__init__(database, catalog_id)
        self._clock = clock

    def _write(self, work: Callable[[Connection], str | Version], record: Record) -> Version:
        """Runs work that gives the version it changed, as it stands after it, or its id."""

        def whole(connection: Connection) -> Version:
            done = work(connection)
            version = self._one(connection, done) if isinstance(done, str) else done
            self._record(connection, record, version)
            return version

        def landed(connection: Connection) -> Version | None:
            found = recorded(connection, record.key)
            if found is None or found.token != record.token:
                return None
            return self._one(connection, found.version_id)

        try:
            return self.db.write(whole, landed=landed)
        except (AlreadyExistsError, ConflictError, StateError):
            found = self.db.read(landed)  # a commit whose answer was lost may land after it was looked for
            if found is None:
                raise
            return found

    def _record(self, connection: Connection, record: Record, version: Version) -> None:
        connection.execute(
            _keep(is_sqlite=self.db.is_sqlite),
            {
                "key": record.key,
                "verb": record.verb,
                "digest": record.digest,
                "token": record.token,
                "version_id": version.id,
                "result": dump(record.result(version)),
                "created": self._now(),
            },
        )

    def _move(
        self, connection: Connection, version: Version, expected: State | None, values: Mapping[str, object]
    ) -> Version:
        where = (t.versions.c.id == version.id) & (t.versions.c.revision == version.revision)
        if expected is not None:
            where &= t.versions.c.state == expected
        done = connection.execute(sa.update(t.versions).where(where).values(revision=version.revision + 1, **values))
        now = self._one(connection, version.id)
        if done.rowcount == 1:
            return now
        if expected is not None and now.state is not expected:
            raise StateError(
                f"{now.label} ({now.id}) is {now.state}, expected {expected}",
                kind="finalized" if now.state.is_final else str(now.state),
                hint="Make a new version to change its content." if now.state.is_final else "Choose another version.",
            )
        raise ConflictError(
            f"{now.label} ({now.id}) was moved by another writer: expected revision {version.revision}, "
            f"found {now.revision}",
            hint="Read it again and repeat.",
        )

    def _one(self, connection: Connection, version_id: str) -> Version:
        found = select_versions(connection, self.id, t.versions.c.id == version_id)
        if not found:
            raise NotFoundError(f"no version has the id {version_id!r} in catalog {self.id}")
        return found[0]

    def _now(self) -> int:
        return to_micros(self._clock())


def content_columns(content: Content) -> dict[str, object]:
    """The columns of a version's row that a commit of content sets."""
    columns: dict[str, object] = {
        "index_object": dump_object(content.index),
        "pending": content.pending,
        "pending_object": dump_object(content.pending_object),
        "files": content.files,
        "bytes": content.bytes,
        "content_hash": content.content_hash,
        "new_bytes": content.new_bytes,
    }
    optional = {"store_id": content.store_id, "fingerprint": content.fingerprint}
    columns |= {name: value for name, value in optional.items() if value is not None}
    return columns | ({"origin": dump(content.origin)} if content.origin is not None else {})


def advance(connection: Connection) -> int:
    """The next sequence number; from here to the commit no other writer has one (its row is locked)."""
    return int(connection.execute(_ADVANCE).scalar_one())


def lock(connection: Connection) -> None:
    """Holds back other writers until the commit, without using up a sequence number."""
    connection.execute(sa.update(t.counters).where(t.counters.c.name == "sequence").values(value=t.counters.c.value))


def insert_event(
    connection: Connection, sequence: int, kind: str, version: Version, created: int, payload: Mapping[str, object]
) -> None:
    """Writes the event of a change, in the change's own transaction; its journal object follows after the commit."""
    connection.execute(
        _PUT_EVENT,
        {
            "sequence": sequence,
            "kind": kind,
            "version_id": version.id,
            "created": created,
            "payload": dump(payload),
            "store_id": version.store_id,
            "journaled": False,
        },
    )


def tell_reports(connection: Connection, version: Version, created: int, *, since: int = 0) -> None:
    """Writes the event of what was reported about a version from a sequence number on; none where nothing was."""
    here = (t.reports.c.version_id == version.id) & (t.reports.c.sequence >= since)
    rows = connection.execute(sa.select(t.reports).where(here).order_by(t.reports.c.sequence)).mappings().all()
    if rows:
        reports = [{**row, "value": json.loads(row["value"])} for row in rows]
        insert_event(connection, advance(connection), "reported", version, created, {"reports": reports})


def set_tags(connection: Connection, version_id: str, tags: Iterable[str]) -> None:
    """Adds tags to a version that has none of them."""
    rows = [{"version_id": version_id, "tag": checked_text(tag, "tag")} for tag in dict.fromkeys(tags)]
    if rows:
        connection.execute(sa.insert(t.tags), rows)


def set_metadata(connection: Connection, version_id: str, values: Mapping[str, JsonValue]) -> None:
    """Sets metadata by name; other names stay."""
    for name, value in values.items():
        where = (t.metadata.c.version_id == version_id) & (t.metadata.c.name == name)
        connection.execute(sa.delete(t.metadata).where(where))
        connection.execute(
            sa.insert(t.metadata).values(
                version_id=version_id, name=checked_text(name, "metadata name"), value=checked_text(dump(value), name)
            )
        )
