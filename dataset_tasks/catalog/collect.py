"""What collecting garbage asks of a catalog and does to it, each step in one transaction.

An object is `writing`, `live`, `condemned`, `going`, gone. What nothing refers to is condemned first. A commit that refers
to a condemned object again makes it live, in its own transaction. One that is going is lost: its bytes may be deleted at
any moment, and a commit that wants it is told to write it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import holding
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.leases import RUN, Leases
from dataset_tasks.catalog.queries import FINAL, select_versions
from dataset_tasks.catalog.registry import Registry
from dataset_tasks.catalog.rows import dump_object, load_object
from dataset_tasks.catalog.writes import Content, Record, advance, insert_event
from dataset_tasks.errors import StateError
from dataset_tasks.model import Keep, ObjectRef, State, Version

_T = TypeVar("_T")
_BATCH = 500
#: In the origin of a draft: the head it can go back to, as `ops.content` writes it.
_SAVED_HEAD = "before_transform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """An object that serves nothing, or soon will not: `size` in bytes, 0 where it was never written to the end."""

    key: str
    store_id: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A version whose objects stay: the indexes of its heads, and what else its row refers to."""

    version_id: str
    label: str
    state: State
    indexes: tuple[ObjectRef, ...]
    others: tuple[ObjectRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What a mark came to. With `unread`, indexes that it must know, nothing was changed.

    `condemned` nothing refers to since just now; `going` nothing referred to for long enough, their bytes may be deleted;
    `waiting` are condemned and stay a while; `revived` were condemned and are referred to after all.
    """

    unread: tuple[Root, ...] = ()
    condemned: tuple[Garbage, ...] = ()
    going: tuple[Garbage, ...] = ()
    waiting: tuple[Garbage, ...] = ()
    revived: tuple[str, ...] = ()


class Collecting(Registry, Leases):
    """The part of a catalog that ends what nobody needs, and brings back what was ended by mistake."""

    # --- tombstones

    def undelete(self, version: Version, record: Record) -> Version:
        """Makes a tombstone the version again that it was.

        Raises:
            ConflictError: Another writer moved it.
            StateError: It is no tombstone, or its objects were given up already.
        """

        def work(connection: Connection) -> str:
            sequence, moment = advance(connection), self._now()
            purged = sa.select(t.versions.c.purged).where(t.versions.c.id == version.id)
            if connection.execute(purged).scalar():
                raise StateError(
                    f"{version.label} ({version.id}) was deleted too long ago: its bytes were given up",
                    kind="purged",
                    hint="Make a new version from its sources. `gc` waits for its grace period; give it a longer one.",
                )
            back = State.PUBLISHED if version.published is not None else State.COMPLETED
            self._move(connection, version, State.DELETED, {"state": back, "deleted": None})
            insert_event(connection, sequence, "undeleted", version, moment, {"state": str(back)})
            return version.id

        return self._write(work, record)

    def purge(self, *, grace: float, apply: bool) -> list[Version]:
        """Gives up the objects of dropped drafts, and of tombstones older than `grace` (seconds); their rows stay."""

        def work(connection: Connection) -> list[Version]:
            now = self.moment(connection)
            ended = t.versions.c.state == State.DELETED
            if apply:
                self._alone(connection)
                unknown = ended & t.versions.c.deleted.is_(None)
                connection.execute(sa.update(t.versions).where(unknown).values(deleted=now))
            over = ended & (t.versions.c.deleted <= now - _micros(grace))
            due = ~t.versions.c.purged & (over | (t.versions.c.state == State.ABORTED))
            found = select_versions(connection, self.id, due, order=(t.versions.c.sequence,))
            if apply:
                for some in _batches([version.id for version in found]):
                    connection.execute(
                        sa.update(t.versions)
                        .where(t.versions.c.id.in_(some))
                        .values(purged=True, index_object=None, pending_object=None, revision=t.versions.c.revision + 1)
                    )
            return found

        return self._do(work, apply)

    def tombstones(self) -> list[Version]:
        """The deleted versions whose objects were not given up yet, by creation."""
        where = ~t.versions.c.purged & (t.versions.c.state == State.DELETED)
        return self.db.read(
            lambda connection: select_versions(connection, self.id, where, order=(t.versions.c.sequence,))
        )

    def idle_drafts(self, *, seconds: float, dead: float) -> list[Version]:
        """Drafts that nothing was done to for so long, or whose run died: its lease ran out `dead` seconds ago."""

        def work(connection: Connection) -> list[Version]:
            now = self.moment(connection)
            drafts = select_versions(
                connection, self.id, t.versions.c.state == State.IN_PROGRESS, order=(t.versions.c.sequence,)
            )
            leases = connection.execute(sa.select(t.leases.c.version_id, t.leases.c.expires, t.leases.c.origin)).all()
            expires = {row.version_id: row.expires for row in leases}
            of_runs = {row.version_id for row in leases if RUN in json.loads(row.origin)}
            rows = connection.execute(sa.select(t.versions.c.id, t.versions.c.created)).all()
            seen: dict[str, int] = dict(map(tuple, rows))
            for table in (t.objects, t.operations):
                for version_id, moment in _last_by_version(connection, table).items():
                    seen[version_id] = max(moment, seen.get(version_id, 0))

            def is_idle(version: Version) -> bool:
                if version.id in of_runs:
                    return bool(expires[version.id] <= now - _micros(dead))
                return bool(max(seen[version.id], expires.get(version.id, 0)) <= now - _micros(seconds))

            return [draft for draft in drafts if is_idle(draft)]

        return self.db.read(work)

    # --- objects

    def mark(
        self, known: Mapping[str, Collection[str]], *, grace: float, apply: bool, ended: Collection[str] = ()
    ) -> Marked:
        """Condemns what no version refers to, and lets go what was condemned longer than `grace` (seconds) ago.

        Args:
            known: Of every index that a version has, the keys of the objects it refers to. When a version has another
                one by now, nothing changes and the outcome names it.
            grace: How long a condemned object stays.
            apply: False only tells what would come of it.
            ended: Versions that a run without `apply` takes for given up.
        """

        def work(connection: Connection) -> Marked:
            if apply:
                self._alone(connection)
            roots = [root for root in _roots(connection, self.id) if apply or root.version_id not in ended]
            unread = tuple(root for root in roots if any(ref.key not in known for ref in root.indexes))
            if unread:
                return Marked(unread=unread)
            marked = _judged(connection, roots, known, self.moment(connection) - _micros(grace))
            if apply:
                now = self.moment(connection)
                self._set(connection, [each.key for each in marked.condemned], "condemned", now)
                self._set(connection, [each.key for each in marked.going], "going", now)
                self._set(connection, marked.revived, "live", None)
            return marked

        return self._do(work, apply)

    def give_up_writes(self, *, ended: float, idle: float, apply: bool) -> list[Garbage]:
        """Lets go objects that were begun and never became part of anything.

        Args:
            ended: How old (seconds) those of a version are that is no draft any more.
            idle: How long ago the last object was begun, of a draft or of a create that never ended.
            apply: False only tells which.
        """

        def work(connection: Connection) -> list[Garbage]:
            if apply:
                self._alone(connection)
            now = self.moment(connection)
            drafts = set(
                connection.execute(sa.select(t.versions.c.id).where(t.versions.c.state == State.IN_PROGRESS)).scalars()
            )
            last = _last_by_version(connection, t.objects)
            rows = connection.execute(sa.select(t.objects).where(t.objects.c.state == "writing")).mappings().all()

            def is_given_up(row: sa.RowMapping) -> bool:
                if not row["version_id"]:
                    return bool(row["created"] <= now - _micros(idle))
                if row["version_id"] in drafts:
                    return last[row["version_id"]] <= now - _micros(idle)
                return bool(row["created"] <= now - _micros(ended))

            found = [_garbage(row) for row in rows if is_given_up(row)]
            if apply:
                self._set(connection, [each.key for each in found], "going", now)
            return found

        return self._do(work, apply)

    def going(self) -> list[Garbage]:
        """Objects whose bytes are to be deleted: also those that an earlier try did not come to."""
        query = sa.select(t.objects).where(t.objects.c.state == "going").order_by(t.objects.c.key)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [_garbage(row) for row in rows]

    def roots(self) -> list[Root]:
        """Every version whose objects stay, by creation."""
        return self.db.read(lambda connection: _roots(connection, self.id))

    def known_keys(self) -> dict[str, str]:
        """The state of every object that the catalog knows, by key."""
        query = sa.select(t.objects.c.key, t.objects.c.state)
        return self.db.read(lambda connection: dict(map(tuple, connection.execute(query).all())))

    def standing(self, keys: Iterable[str]) -> set[str]:
        """Those of some objects that a new version may refer to."""

        def work(connection: Connection) -> set[str]:
            found: set[str] = set()
            for some in _batches(keys):
                where = t.objects.c.key.in_(some) & t.objects.c.state.in_(("live", "condemned"))
                found.update(connection.execute(sa.select(t.objects.c.key).where(where)).scalars())
            return found

        return self.db.read(work)

    def repoint(
        self,
        version: Version,
        index: ObjectRef,
        record: Record,
        *,
        objects: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
    ) -> Version:
        """Gives a version another index for the same content: its bytes lie elsewhere now.

        `objects` become live with it, `needs` are live already.

        Raises:
            ConflictError: Another writer moved it, or an object is gone.
            StateError: It is in another state by now.
        """

        def work(connection: Connection) -> str:
            is_draft = version.state is State.IN_PROGRESS
            sequence = 0 if is_draft else advance(connection)
            self._move(connection, version, version.state, {"index_object": dump_object(index)})
            moved = Content(
                index=index, pending=0, pending_object=None, files=0, bytes=0, content_hash="",
                objects=objects, needs=needs,
            )  # fmt: skip
            self._settle_objects(connection, moved, "")  # nobody's own: others share them, or will
            self._share(connection, needs)
            if not is_draft:
                payload = {"index_object": json.loads(dump_object(index) or "null")}
                insert_event(connection, sequence, "moved", version, self._now(), payload)
            return version.id

        return self._write(work, record)

    # --- retention

    def retentions(self, *, project: str | None = None, name: str | None = None) -> dict[tuple[str, str], Keep]:
        """What is to be kept, by project and name of the dataset: of all, or of those of a project or name."""
        query = sa.select(t.retention).order_by(t.retention.c.project, t.retention.c.name)
        for column, wanted in ((t.retention.c.project, project), (t.retention.c.name, name)):
            query = query if wanted is None else query.where(column == wanted)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return {
            (row["project"], row["name"]): Keep(last=row["last"], published=row["published"], seconds=row["seconds"])
            for row in rows
        }

    def set_retention(self, project: str, name: str, keep: Keep | None) -> None:
        """Sets what is to be kept of a dataset; None: everything, as without a rule."""
        here = (t.retention.c.project == project) & (t.retention.c.name == name)

        def work(connection: Connection) -> bool:
            connection.execute(sa.delete(t.retention).where(here))
            if keep is not None:
                connection.execute(
                    sa.insert(t.retention).values(
                        project=project,
                        name=name,
                        last=keep.last,
                        published=keep.published,
                        seconds=keep.seconds,
                        updated=self._now(),
                    )
                )
            return True

        self.db.write(work, landed=lambda _connection: None)

    def is_wanted(self, version: Version) -> bool:
        """Whether something holds a version, whatever retention says.

        An alias names it, it waits for an answer, or a draft or a version of another dataset was made from it.
        """
        return self.db.read(lambda connection: self._is_wanted(connection, version))

    def _is_wanted(self, connection: Connection, version: Version) -> bool:
        if holding.APPROVE in holding.reasons(version.quarantined):  # also before it is asked about
            return True
        move, later = t.aliases, t.aliases.alias("later")
        same = (later.c.project == move.c.project) & (later.c.name == move.c.name) & (later.c.alias == move.c.alias)
        moved_on = sa.exists().where(same & (later.c.sequence > move.c.sequence))
        is_open = (t.approvals.c.version_id == version.id) & (t.approvals.c.state == "open")
        child = (t.parents.c.parent_id == version.id) & (t.parents.c.child_id == t.versions.c.id)
        own = (t.versions.c.project == version.project) & (t.versions.c.name == version.name)
        held = (t.versions.c.state == State.IN_PROGRESS) | (t.versions.c.state.in_(FINAL) & ~own)
        reasons = (
            sa.select(move.c.alias).where((move.c.version_id == version.id) & ~moved_on),
            sa.select(t.approvals.c.version_id).where(is_open),
            sa.select(t.versions.c.id).where(child & held),
        )
        return any(connection.execute(query.limit(1)).first() is not None for query in reasons)

    # --- inside

    def _alone(self, connection: Connection) -> None:
        """Waits for every commit under way and holds back others: what is read now is so until the commit."""
        if not self.db.is_sqlite:  # an SQLite transaction that writes is alone
            connection.execute(sa.text("LOCK TABLE versions IN SHARE ROW EXCLUSIVE MODE"))

    def _share(self, connection: Connection, keys: Iterable[str]) -> None:
        """Takes objects from the drafts that have them: else a draft that needs them no more would tidy them away."""
        drafts = sa.select(t.versions.c.id).where(t.versions.c.state == State.IN_PROGRESS)
        for some in _batches(keys):
            where = t.objects.c.key.in_(some) & t.objects.c.version_id.in_(drafts)
            connection.execute(sa.update(t.objects).where(where).values(version_id=""))

    def _do(self, work: Callable[[Connection], _T], apply: bool) -> _T:
        """Runs a step; one whose outcome is unknown is done again: it finds less to do."""
        return self.db.write(work, landed=lambda _connection: None) if apply else self.db.read(work)

    def _set(self, connection: Connection, keys: Iterable[str], state: str, moment: int | None) -> None:
        for some in _batches(keys):
            where = t.objects.c.key.in_(some)
            connection.execute(sa.update(t.objects).where(where).values(state=state, condemned=moment))


def _roots(connection: Connection, catalog_id: str) -> list[Root]:
    standing = ~t.versions.c.purged & (t.versions.c.state != State.ABORTED)
    return [
        _root(version) for version in select_versions(connection, catalog_id, standing, order=(t.versions.c.sequence,))
    ]


def _root(version: Version) -> Root:
    indexes = [version.index]
    others = [version.pending_object]
    saved = version.origin.get(_SAVED_HEAD)
    if isinstance(saved, Mapping):
        indexes.append(load_object(saved["index"]))  # type: ignore[arg-type]  # written by `ops.content.head_of`
        others.append(load_object(saved["pending_object"]))  # type: ignore[arg-type]  # as above
    return Root(
        version_id=version.id,
        label=version.label,
        state=version.state,
        indexes=tuple(ref for ref in indexes if ref is not None),
        others=tuple(ref for ref in others if ref is not None),
    )


def _judged(connection: Connection, roots: list[Root], known: Mapping[str, Collection[str]], cutoff: int) -> Marked:
    """What is to become of every object that is live or condemned."""
    needed: set[str] = set()
    for root in roots:
        needed.update(ref.key for ref in root.others)
        for ref in root.indexes:
            needed.add(ref.key)
            needed.update(known[ref.key])
    standing = {root.version_id for root in roots}
    condemned: list[Garbage] = []
    going: list[Garbage] = []
    waiting: list[Garbage] = []
    revived: list[str] = []
    query = sa.select(t.objects).where(t.objects.c.state.in_(("live", "condemned"))).order_by(t.objects.c.key)
    for row in connection.execute(query).mappings():
        is_needed = row["key"] in needed or (row["kind"] == "report" and row["version_id"] in standing)
        if row["state"] == "live" and not is_needed:
            condemned.append(_garbage(row))
        elif row["state"] == "condemned" and is_needed:
            revived.append(row["key"])
        elif row["state"] == "condemned":
            is_over = row["condemned"] is None or row["condemned"] <= cutoff
            (going if is_over else waiting).append(_garbage(row))
    return Marked(condemned=tuple(condemned), going=tuple(going), waiting=tuple(waiting), revived=tuple(revived))


def _last_by_version(connection: Connection, table: sa.Table) -> dict[str, int]:
    """When the newest row of each version was made."""
    query = sa.select(table.c.version_id, sa.func.max(table.c.created)).group_by(table.c.version_id)
    return dict(map(tuple, connection.execute(query).all()))


def _garbage(row: sa.RowMapping) -> Garbage:
    return Garbage(key=row["key"], store_id=row["store_id"], kind=row["kind"], size=row["size"])


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, _BATCH)):
        yield some


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
