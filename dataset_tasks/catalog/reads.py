"""Which runs read a version, and which runs of a plan were brought to their end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.queries import recorded
from dataset_tasks.catalog.rows import dump, from_micros
from dataset_tasks.catalog.writes import Record, Writes, advance
from dataset_tasks.model import JsonValue, State, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A run read a version: `origin` says which run, step and runner."""

    sequence: int
    version_id: str
    created: datetime
    origin: Mapping[str, JsonValue] = field(default_factory=dict)


class Reads(Writes):
    """The part of a catalog that knows who read what."""

    def add_read(self, version_id: str, origin: Mapping[str, JsonValue]) -> None:
        """Writes down that a run read a version; the same again does nothing.

        Raises:
            CatalogError: The catalog can't be written.
        """
        said = dump(dict(origin))
        same = (t.reads.c.version_id == version_id) & (t.reads.c.origin == said)
        known = sa.select(t.reads.c.sequence).where(same).limit(1)
        if self.db.read(lambda connection: connection.execute(known).scalar()) is not None:
            return

        def work(connection: Connection) -> int:
            sequence = advance(connection)
            found = connection.execute(known).scalar()
            if found is not None:
                return int(found)
            values = {"version_id": version_id, "created": self._now(), "origin": said}
            connection.execute(sa.insert(t.reads).values(sequence=sequence, **values))
            return sequence

        self.db.write(work, landed=lambda connection: connection.execute(known).scalar())

    def reads(self, version_id: str) -> list[Read]:
        """The runs that read a version, the oldest first."""
        query = sa.select(t.reads).where(t.reads.c.version_id == version_id).order_by(t.reads.c.sequence)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [
            Read(
                sequence=row["sequence"],
                version_id=row["version_id"],
                created=from_micros(row["created"]),
                origin=json.loads(row["origin"]),
            )
            for row in rows
        ]

    def squashes(self, version_id: str) -> list[Version]:
        """The versions that still stand and were squashed from this one, by creation; reads the whole table."""
        named = t.versions.c.origin.contains(f'"{version_id}"', autoescape=True)
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        found = self._select(named & standing, order=(t.versions.c.sequence,))
        return [each for each in found if version_id in _ids(each.origin.get("squash"))]

    def remember(self, record: Record, version: Version) -> None:
        """Writes down an operation that changed nothing by itself, such as a run of a plan that came to its end."""

        def work(connection: Connection) -> bool:
            self._record(connection, record, version)
            return True

        def landed(connection: Connection) -> bool | None:
            found = recorded(connection, record.key)
            return True if found is not None and found.token == record.token else None

        self.db.write(work, landed=landed)


def _ids(held: JsonValue) -> Sequence[JsonValue]:
    return held if isinstance(held, Sequence) and not isinstance(held, str) else ()
