"""Leases: a draft held by one writer for a while, by the catalog's clock, and the number that tells a later holder.

A commit under a lease that somebody took over meanwhile changes nothing, however long its writer was stopped: each
holder has a higher `epoch` than the one before. A lease with `RUN` in its origin keeps nobody out: it says that the run
which makes the draft is alive, and once it ran out, that the run is dead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.rows import dump, from_micros
from dataset_tasks.catalog.writes import Writes
from dataset_tasks.errors import ConflictError
from dataset_tasks.model import JsonValue

#: In the origin of a lease: the key of the run whose draft it is.
RUN: Final = "run"
#: The kind of a `ConflictError`: another writer holds the version; it is free again later.
LEASED: Final = "leased"
#: The kind of a `ConflictError`: this writer was taken for dead, another one has taken over.
STALE_WRITER: Final = "stale_writer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds a version until when (UTC, by the catalog's clock). `origin` says who that is, for people."""

    version_id: str
    holder: str
    epoch: int
    expires: datetime
    origin: Mapping[str, JsonValue]

    @property
    def excludes(self) -> bool:
        """Whether writers without it have to wait."""
        return RUN not in self.origin

    @property
    def is_first(self) -> bool:
        """Whether nobody held the version before."""
        return self.epoch == 1

    @property
    def who(self) -> str:
        """The holder in words."""
        return ", ".join(f"{name} {value}" for name, value in self.origin.items() if value) or f"writer {self.holder}"


class Leases(Writes):
    """The part of a catalog that lets writers take turns."""

    def moment(self, connection: Connection) -> int:
        """The present moment in microseconds, by the catalog's clock: on PostgreSQL the server's, not a worker's."""
        if self.db.is_sqlite:
            return self._now()
        clock = sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        return int(connection.execute(clock).scalar_one())

    def lease(self, version_id: str) -> Lease | None:
        """The lease that holds now."""

        def work(connection: Connection) -> Lease | None:
            found = _lease(connection, version_id)
            return found if found is not None and self._holds(connection, found) else None

        return self.db.read(work)

    def take_lease(
        self, version_id: str, holder: str, *, seconds: float, origin: Mapping[str, JsonValue] | None = None
    ) -> Lease:
        """Takes the lease of a version, or prolongs one's own; its epoch is above that of every holder before.

        Args:
            version_id: Which version.
            holder: Names the writer, at most 32 characters; a retry under the same name takes over at once.
            seconds: How long it holds.
            origin: Who that is, for those who have to wait.

        Raises:
            ConflictError: Of kind `leased`: another writer holds it; the message says who.
        """

        def work(connection: Connection) -> Lease:
            now = self.moment(connection)
            where = t.leases.c.version_id == version_id
            # Holds back others, also where there is no lease yet whose row could be locked: two would insert one.
            connection.execute(sa.select(t.versions.c.id).where(t.versions.c.id == version_id).with_for_update())
            found = _lease(connection, version_id)
            if found is not None and found.holder != holder and self._holds(connection, found):
                raise leased(found)
            row = {
                "holder": holder,
                "epoch": found.epoch + 1 if found else 1,
                "origin": dump(dict(origin or {})),
                "acquired": now,
                "expires": now + int(seconds * 1_000_000),
            }
            if found is None:
                connection.execute(sa.insert(t.leases).values(version_id=version_id, **row))
            else:
                connection.execute(sa.update(t.leases).where(where).values(**row))
            taken = _lease(connection, version_id)
            assert taken is not None
            return taken

        def landed(connection: Connection) -> Lease | None:
            found = _lease(connection, version_id)
            return found if found is not None and found.holder == holder else None

        return self.db.write(work, landed=landed)

    def renew_lease(self, lease: Lease, *, seconds: float) -> None:
        """Prolongs a lease that nobody took over.

        Raises:
            ConflictError: Of kind `stale_writer`: somebody did.
        """

        def work(connection: Connection) -> bool:
            self._check_lease(connection, lease.version_id, lease)
            until = self.moment(connection) + int(seconds * 1_000_000)
            where = (t.leases.c.version_id == lease.version_id) & (t.leases.c.epoch == lease.epoch)
            connection.execute(sa.update(t.leases).where(where).values(expires=until))
            return True

        self.db.write(work, landed=lambda _connection: None)

    def end_lease(self, lease: Lease) -> None:
        """Lets the next one in; a lease that was taken over is left alone."""

        def work(connection: Connection) -> bool:
            where = (t.leases.c.version_id == lease.version_id) & (t.leases.c.epoch == lease.epoch)
            connection.execute(sa.update(t.leases).where(where).values(expires=self.moment(connection)))
            return True

        self.db.write(work, landed=lambda _connection: None)

    def is_forsaken(self, version_id: str, *, seconds: float, run: bool = False) -> bool:
        """Whether a version had a holder, and its lease ran out more than so many seconds ago, by the catalog's clock.

        With `run`, only where that was a run that made it.
        """

        def work(connection: Connection) -> bool:
            found = _lease(connection, version_id)
            before = from_micros(self.moment(connection) - int(seconds * 1_000_000))
            return found is not None and found.expires < before and not (run and found.excludes)

        return self.db.read(work)

    def _holds(self, connection: Connection, lease: Lease) -> bool:
        return lease.expires > from_micros(self.moment(connection))

    def _check_lease(self, connection: Connection, version_id: str, mine: Lease | None) -> None:
        """Refuses a writer whose lease was taken over, or one without where another writer has its turn."""
        found = _lease(connection, version_id)
        if mine is not None and (found is None or (found.holder, found.epoch) != (mine.holder, mine.epoch)):
            raise ConflictError(
                f"version {version_id} was taken over by {found.who if found else 'nobody known'}, after this writer "
                f"had not been heard of (lease {mine.epoch}, now {found.epoch if found else 'none'})",
                kind=STALE_WRITER,
                hint="Nothing was changed. Look what the other one made; run it again only when that is not it.",
            )
        if mine is None and found is not None and found.excludes and self._holds(connection, found):
            raise leased(found)


def leased(lease: Lease) -> ConflictError:
    """The error of a writer that has to wait its turn."""
    return ConflictError(
        f"version {lease.version_id} is held by {lease.who} until {lease.expires:%Y-%m-%d %H:%M:%S} UTC",
        kind=LEASED,
        hint="Run it again when the other one is done; a holder that died is passed over then.",
    )


def _lease(connection: Connection, version_id: str) -> Lease | None:
    row = connection.execute(sa.select(t.leases).where(t.leases.c.version_id == version_id)).mappings().first()
    if row is None:
        return None
    return Lease(
        version_id=version_id,
        holder=row["holder"],
        epoch=row["epoch"],
        expires=from_micros(row["expires"]),
        origin=json.loads(row["origin"]),
    )
