"""Stores and stored objects as rows: a row comes before the bytes, and goes only after them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.writes import Content, Writes, lock
from dataset_tasks.errors import ConflictError
from dataset_tasks.model import ObjectRef

#: The kind of a `ConflictError` that says that what a commit refers to was given up meanwhile.
OBJECTS_GONE = "objects_gone"
_BATCH = 500


class Registry(Writes):
    """The part of a catalog that knows stores, objects and the journal."""

    def store_id(self, url: str) -> str:
        """The id of the store at a URL, recorded on first use."""

        def read(connection: Connection) -> str | None:
            return connection.execute(sa.select(t.stores.c.id).where(t.stores.c.url == url)).scalar()

        def work(connection: Connection) -> str:
            lock(connection)
            found = read(connection)
            if found is not None:
                return found
            made = secrets.token_hex(16)
            connection.execute(sa.insert(t.stores).values(id=made, url=url, created=self._now()))
            return made

        return self.db.read(read) or self.db.write(work, landed=read)

    def has_objects(self, store_id: str) -> bool:
        """Whether versions refer to objects in a store, or did until lately."""
        some = t.objects.c.state.in_(("live", "condemned")) & (t.objects.c.store_id == store_id)
        query = sa.select(t.objects.c.key).where(some).limit(1)
        return self.db.read(lambda connection: connection.execute(query).first() is not None)

    def begin_objects(self, version_id: str, refs: Iterable[tuple[str, str, str]]) -> None:
        """Records objects that are about to be written: store id, key, kind. The row comes before the bytes."""
        rows = [
            {
                "store_id": s,
                "key": k,
                "kind": kind,
                "state": "writing",
                "version_id": version_id,
                "created": self._now(),
            }
            for s, k, kind in refs
        ]
        if not rows:
            return
        keys = [row["key"] for row in rows]

        def landed(connection: Connection) -> bool | None:
            found = connection.execute(
                sa.select(sa.func.count()).select_from(t.objects).where(t.objects.c.key.in_(keys))
            ).scalar()
            return True if found == len(keys) else None

        self.db.write(lambda connection: bool(connection.execute(sa.insert(t.objects), rows)), landed=landed)

    def written(self, refs: Iterable[ObjectRef], *, delta: str | None = None) -> None:
        """Records size and hash of objects whose bytes stand; `delta` names the object that lists their entries.

        Raises:
            ConflictError: Somebody took the writer for dead and gave an object up; its bytes are of no use.
        """
        values = [(r.key, r.size, r.sha256) for r in refs]

        def work(connection: Connection) -> bool:
            for key, size, sha256 in values:
                done = connection.execute(
                    sa.update(t.objects)
                    .where((t.objects.c.key == key) & (t.objects.c.state != "going"))
                    .values(size=size, sha256=sha256, delta=delta)
                ).rowcount
                if not done:
                    raise ConflictError(
                        f"object {key} was given up while it was written: its writer was taken for dead",
                        hint="Run the operation again: it writes it anew.",
                        kind=OBJECTS_GONE,
                    )
            return True

        self.db.write(work, landed=lambda _connection: None)

    def let_go(self, keys: Collection[str], *, of: str | None = None) -> set[str]:
        """Gives up objects for good; says which: no commit can refer to them any more.

        Those that are live stay, but for those that only the version `of` had.
        """
        here = t.objects.c.key.in_(list(keys))
        may_go = t.objects.c.state != "live" if of is None else t.objects.c.version_id == of
        given_up = {"state": "going", "condemned": self._now()}

        def work(connection: Connection) -> set[str]:
            connection.execute(sa.update(t.objects).where(here & may_go).values(**given_up))
            stay = connection.execute(sa.select(t.objects.c.key).where(here & (t.objects.c.state == "live"))).scalars()
            return {*keys}.difference(stay)

        return self.db.write(work, landed=lambda _connection: None)

    def forget_objects(self, keys: Collection[str]) -> None:
        """Takes away the rows of objects whose bytes are gone; those that a version needs stay."""
        where = t.objects.c.key.in_(list(keys)) & (t.objects.c.state != "live")
        self.db.write(
            lambda connection: bool(connection.execute(sa.delete(t.objects).where(where))),
            landed=lambda _connection: None,
        )

    def mark_journaled(self, sequences: Collection[int]) -> None:
        """Records that the journal objects of these events stand."""
        where = t.events.c.sequence.in_(list(sequences))
        self.db.write(
            lambda connection: bool(connection.execute(sa.update(t.events).where(where).values(journaled=True))),
            landed=lambda _connection: None,
        )

    def _settle_objects(self, connection: Connection, content: Content, version_id: str) -> None:
        """Makes live what a commit refers to; what was condemned meanwhile is taken back, what is going is lost."""
        written = {"state": "live", "condemned": None, "version_id": version_id}
        done = _set(connection, content.objects, ("writing", "live", "condemned"), written)
        if done != len(content.objects):
            raise ConflictError(
                f"objects written for version {version_id} are gone: {done} of {len(content.objects)} are left",
                hint="Run the operation again: it writes them anew.",
                kind=OBJECTS_GONE,
            )
        found = _set(connection, content.needs, ("live", "condemned"), {"state": "live", "condemned": None})
        if found != len(content.needs):
            raise ConflictError(
                f"objects that version {version_id} would share are going: {found} of {len(content.needs)} are left",
                hint="Run the operation again: it stores the files anew.",
                kind=OBJECTS_GONE,
            )
        condemned = {"state": "condemned", "condemned": self._now()}
        _set(connection, content.gone, ("writing", "live", "condemned"), condemned)


def _set(connection: Connection, keys: Sequence[str], states: Sequence[str], values: Mapping[str, object]) -> int:
    """Changes those of some objects that are in one of the states; says how many there were."""
    done = 0
    for start in range(0, len(keys), _BATCH):
        where = t.objects.c.key.in_(keys[start : start + _BATCH]) & t.objects.c.state.in_(states)
        done += connection.execute(sa.update(t.objects).where(where).values(**values)).rowcount
    return done
