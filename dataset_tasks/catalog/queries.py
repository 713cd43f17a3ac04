"""Everything that is asked of the catalog. Nothing here changes a row."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.catalog.rows import Event, dump, from_micros, load_versions, to_micros, to_report
from dataset_tasks.errors import NotFoundError
from dataset_tasks.model import JsonValue, Reference, Report, State, Version
from dataset_tasks.nearest import did_you_mean
from dataset_tasks.paths import show

FINAL = (State.COMPLETED, State.PUBLISHED)
_LOOK = "List what there is with `dataset-tasks list`."
_MOST_COMPARED = 2000
_BEST = (
    sa.func.coalesce(t.versions.c.window, -(2**62)).desc(),
    t.versions.c.version_order.desc(),
    t.versions.c.sequence.desc(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The record of an operation: what its key was used for and what came of it."""

    key: str
    verb: str
    digest: str
    token: str
    version_id: str
    result: dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A row of the table of objects."""

    key: str
    store_id: str
    kind: str
    size: int
    sha256: str
    state: str
    version_id: str
    delta: str | None


def up_to(window: datetime | None) -> sa.ColumnElement[bool]:
    """Versions of windows that begin then or before, and those of none; all of them without a window."""
    if window is None:
        return sa.true()
    return t.versions.c.window.is_(None) | (t.versions.c.window <= to_micros(window))


def _good(project: str, name: str, partition: str | None) -> sa.ColumnElement[bool]:
    return (
        (t.versions.c.project == project)
        & (t.versions.c.name == name)
        & (t.versions.c.partition == (partition or ""))
        & (t.versions.c.quarantined == "")
        & t.versions.c.state.in_(FINAL)
    )


class Queries:
    """The reading half of a catalog."""

    def __init__(self, database: Database, catalog_id: str) -> None:
        self.db = database
        self.id = catalog_id

    # --- versions

    def version(self, version_id: str) -> Version:
        """The version of that id, whatever its state.

        Raises:
            NotFoundError: No version has this id.
        """
        found = self._select(t.versions.c.id == version_id)
        if not found:
            raise NotFoundError(
                f"no version has the id {version_id!r} in catalog {self.id}",
                hint="List what there is with `dataset-tasks list`.",
            )
        return found[0]

    def resolve(self, ref: str) -> Version:
        """The version that a reference names now.

        `@latest` and `@published` take, of the final, published versions that are not quarantined, those of the latest
        window (see `NewVersion`), and of these the highest.

        Raises:
            InvalidArgumentError: The text is not a reference.
            NotFoundError: Nothing answers to it.
        """
        wanted = Reference.parse(ref)
        if wanted.id is not None:
            return self.version(wanted.id)
        if wanted.step is not None:
            raise NotFoundError(
                f"{ref!r} names a step of a plan that has given no version in this run",
                hint="Run the step first, or give a reference to a version.",
            )
        found = self._resolve_named(wanted)
        if found is None:
            raise self._nothing_for(wanted)
        return found

    def _resolve_named(self, wanted: Reference) -> Version | None:
        here = (t.versions.c.project == wanted.project) & (t.versions.c.name == wanted.name)
        if wanted.partition is not None:
            here &= t.versions.c.partition == wanted.partition
        good = here & (t.versions.c.quarantined == "")
        if wanted.selector == "latest":
            return self._first(good & t.versions.c.state.in_(FINAL))
        if wanted.selector == "published":
            return self._first(good & (t.versions.c.state == State.PUBLISHED))
        gone = t.versions.c.state.in_((State.ABORTED, State.DELETED))
        exact = self._first(here & (t.versions.c.version == wanted.selector) & ~gone)
        if exact is not None:
            return exact
        aliased = self.aliases(wanted.project, wanted.name).get(wanted.selector)
        return self._first(good & (t.versions.c.id == aliased) & ~gone) if aliased else None

    def _nothing_for(self, wanted: Reference) -> NotFoundError:
        dataset, selector = f"{wanted.project}/{wanted.name}", wanted.selector
        held = self.versions(project=wanted.project, name=wanted.name)
        deleted = self.versions(project=wanted.project, name=wanted.name, states=[State.DELETED])
        named = any(each.version == selector for each in deleted)
        if named or (deleted and not held):
            return NotFoundError(
                f"version {selector!r} of {dataset!r} was deleted" if named else f"all of {dataset!r} was deleted",
                hint=f"`dataset-tasks log {show(dataset)}` shows when; `dataset-tasks undelete` brings a version back, "
                "until gc has given up its bytes.",
            )
        if not held:
            near = did_you_mean(dataset, self._labels())
            return NotFoundError(f"there is no dataset {dataset!r} in catalog {self.id}{near}", hint=_LOOK)
        if wanted.partition is not None:
            return NotFoundError(
                f"{dataset!r} has no version {selector!r} in the partition {wanted.partition!r}", hint=_LOOK
            )
        if selector == "published":
            return NotFoundError(
                f"{dataset!r} was never published", hint=f"Publish a version, or read `{show(dataset)}@latest`."
            )
        known = [*self.aliases(wanted.project, wanted.name), *(version.version for version in held)]
        near = did_you_mean(str(selector), known)
        return NotFoundError(f"{dataset!r} has no version or alias {selector!r}{near}", hint=_LOOK)

    def previous(
        self, project: str, name: str, partition: str | None = None, *, until: datetime | None = None
    ) -> Version | None:
        """The last good version of a dataset (and partition): final and not quarantined.

        With `until`, the start of a window, those of later windows are passed over: a window that is run late is compared
        with what stood in its time.
        """
        return self._first(_good(project, name, partition) & up_to(until))

    def require(self, project: str, name: str | None = None) -> None:
        """Looks whether there is a dataset, or any dataset of a project; versions that were given up count too.

        Raises:
            NotFoundError: There is none.
        """
        here = t.versions.c.project == project
        if name is not None:
            here &= t.versions.c.name == name
        if self.db.read(lambda connection: connection.execute(sa.select(t.versions.c.id).where(here).limit(1)).first()):
            return
        labels = self._labels()
        if name is not None:
            wanted, near = f"dataset {f'{project}/{name}'!r}", did_you_mean(f"{project}/{name}", labels)
        else:
            wanted, near = f"project {project!r}", did_you_mean(project, {each.rpartition("/")[0] for each in labels})
        raise NotFoundError(f"there is no {wanted} in catalog {self.id}{near}", hint=_LOOK)

    def _labels(self) -> list[str]:
        """`project/name` of the datasets, as many as can be compared with a word in no time."""
        each = (t.versions.c.project, t.versions.c.name)
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        query = sa.select(*each).where(standing).distinct().order_by(*each).limit(_MOST_COMPARED)
        rows = self.db.read(lambda connection: connection.execute(query).all())
        return [f"{project}/{name}" for project, name in rows]

    def starting_point(
        self, project: str, name: str, partition: str | None = None, *, window: datetime | None = None
    ) -> Version | None:
        """The version that a new one goes on from: the last good one or, in the run of a window, the last before that.

        What runs of the same window made is passed over too, so that a window that is run again starts where it started
        before; what was made by hand since is not.
        """
        where = _good(project, name, partition) & up_to(window)
        if window is not None:
            by_hand = ~t.versions.c.origin.contains('"window":"', autoescape=True)
            where &= t.versions.c.window.is_(None) | (t.versions.c.window < to_micros(window)) | by_hand
        return self._first(where)

    def versions(
        self,
        *,
        project: str | None = None,
        name: str | None = None,
        partial_name: str | None = None,
        tags: Iterable[str] = (),
        ids: Collection[str] | None = None,
        states: Collection[State] | None = None,
        version: str | None = None,
        created_before: datetime | None = None,
        window: datetime | None = None,
    ) -> list[Version]:
        """Versions by creation; without `states` those that are neither aborted nor deleted.

        `partial_name` is a literal, case-insensitive part of the name; every one of `tags` must be there; `window` is
        the start of one.
        """
        where: list[sa.ColumnElement[bool]] = [
            t.versions.c.state.in_(states)
            if states is not None
            else t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        ]
        if project is not None:
            where.append(t.versions.c.project == project)
        if name is not None:
            where.append(t.versions.c.name == name)
        if version is not None:
            where.append(t.versions.c.version == version)
        if partial_name:
            where.append(t.versions.c.name.in_(self._names_with(partial_name)))
        if ids is not None:
            where.append(t.versions.c.id.in_(list(ids)))
        if created_before is not None:
            where.append(t.versions.c.created <= to_micros(created_before))
        if window is not None:
            where.append(t.versions.c.window == to_micros(window))
        where += [t.versions.c.id.in_(sa.select(t.tags.c.version_id).where(t.tags.c.tag == tag)) for tag in tags]
        return self._select(sa.and_(*where), order=(t.versions.c.sequence,))

    def datasets(self) -> list[tuple[str, str, int, int]]:
        """Each dataset as project, name, number of versions that stand and newest sequence number; by project and name."""
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        each = (t.versions.c.project, t.versions.c.name)
        query = (
            sa.select(*each, sa.func.count(), sa.func.max(t.versions.c.sequence))
            .where(standing)
            .group_by(*each)
            .order_by(*each)
        )
        rows = self.db.read(lambda connection: connection.execute(query).all())
        return [(project, name, count, sequence) for project, name, count, sequence in rows]

    def newest(
        self,
        *,
        project: str | None = None,
        name: str | None = None,
        origin: Mapping[str, str] | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Version]:
        """The versions that stand, the newest first, at most `limit`: a page of them.

        Args:
            project: Only of this project.
            name: Only of datasets of this name.
            origin: Only those whose origin has these texts.
            before: Only those with a lower sequence number: the last of the page before.
            limit: How many, at most.
        """
        where: list[sa.ColumnElement[bool]] = [t.versions.c.state.not_in((State.ABORTED, State.DELETED))]
        if project is not None:
            where.append(t.versions.c.project == project)
        if name is not None:
            where.append(t.versions.c.name == name)
        if before is not None:
            where.append(t.versions.c.sequence < before)
        for key, value in (origin or {}).items():
            where.append(t.versions.c.origin.contains(dump({key: value})[1:-1], autoescape=True))
        return self._select(sa.and_(*where), order=(t.versions.c.sequence.desc(),), limit=limit)

    def _names_with(self, part: str) -> list[str]:
        """Names that hold a text, upper and lower case alike in every script: databases differ in that."""
        query = sa.select(t.versions.c.name).distinct()
        names: Sequence[str] = self.db.read(lambda connection: connection.execute(query).scalars().all())
        wanted = part.casefold()
        return [name for name in names if wanted in name.casefold()]

    def children(self, version_id: str) -> list[Version]:
        """The versions that have this one as a parent or input and still stand, by creation."""
        related = sa.select(t.parents.c.child_id).where(t.parents.c.parent_id == version_id)
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        return self._select(t.versions.c.id.in_(related) & standing, order=(t.versions.c.sequence,))

    def ancestors(self, version_id: str) -> dict[str, Version]:
        """This version and all it comes from, tombstones too, by id."""
        edges = t.parents
        reached = sa.select(sa.literal(version_id).label("id")).cte("reached", recursive=True)
        reached = reached.union(sa.select(edges.c.parent_id).where(edges.c.child_id == reached.c.id))
        found = self._select(t.versions.c.id.in_(sa.select(reached.c.id)), order=(t.versions.c.sequence,))
        if version_id not in {v.id for v in found}:
            self.version(version_id)
        return {v.id: v for v in found}

    def _first(self, where: sa.ColumnElement[bool]) -> Version | None:
        found = self._select(where, order=_BEST, limit=1)
        return found[0] if found else None

    def _select(
        self,
        where: sa.ColumnElement[bool],
        *,
        order: Sequence[Any] = (),
        limit: int | None = None,  # Any: columns
    ) -> list[Version]:
        return self.db.read(lambda connection: select_versions(connection, self.id, where, order=order, limit=limit))

    # --- aliases, events, operations, objects, stores

    def aliases(self, project: str, name: str) -> dict[str, str]:
        """Alias to version id, as it stands now."""
        return {alias: version_id for alias, version_id, _ in self.alias_history(project, name)}

    def alias_history(self, project: str, name: str, alias: str | None = None) -> list[tuple[str, str, datetime]]:
        """Every move of the aliases of a dataset, oldest first: alias, version id, when."""
        query = (
            sa.select(t.aliases.c.alias, t.aliases.c.version_id, t.aliases.c.created)
            .where((t.aliases.c.project == project) & (t.aliases.c.name == name))
            .order_by(t.aliases.c.sequence)
        )
        if alias is not None:
            query = query.where(t.aliases.c.alias == alias)
        rows = self.db.read(lambda connection: connection.execute(query).all())
        return [(a, v, from_micros(when)) for a, v, when in rows]

    def events(self, *, after: int = 0, version_id: str | None = None, limit: int | None = None) -> list[Event]:
        """Events in commit order, those after a sequence number; a poller that keeps the last one misses nothing."""
        query = sa.select(t.events).where(t.events.c.sequence > after).order_by(t.events.c.sequence)
        if version_id is not None:
            query = query.where(t.events.c.version_id == version_id)
        if limit is not None:
            query = query.limit(limit)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [_event_of(row) for row in rows]

    def last_sequence(self) -> int:
        """The sequence number of the newest event; 0 in a new catalog."""
        query = sa.select(sa.func.max(t.events.c.sequence))
        return self.db.read(lambda connection: connection.execute(query).scalar()) or 0

    def unknown_events(self, sequences: Iterable[int]) -> list[int]:
        """Those of some sequence numbers, sorted, under which there is no event."""
        query = sa.select(t.events.c.sequence)
        return sorted(set(sequences) - set(self.db.read(lambda connection: connection.execute(query).scalars().all())))

    def publish_keys(self, version_ids: Collection[str]) -> dict[str, str]:
        """Under which key each of these versions was published, by version id; none for those of which it is not recorded."""
        query = (
            sa.select(t.operations.c.version_id, t.operations.c.key)
            .where(t.operations.c.verb == "publish", t.operations.c.version_id.in_(version_ids))
            .order_by(t.operations.c.created.desc())  # later ones found it published, and moved an alias
        )
        return dict(self.db.read(lambda connection: connection.execute(query).tuples().all()))

    def unjournaled(self, version_id: str | None = None, *, before: datetime | None = None) -> list[tuple[str, Event]]:
        """Events whose journal object does not stand yet, with the id of the store it belongs in.

        Args:
            version_id: Only those of this version, and those that were made `before` a moment.
            before: See `version_id`.
        """
        query = sa.select(t.events).where(~t.events.c.journaled).order_by(t.events.c.sequence)
        if version_id is not None:
            left = t.events.c.created < (to_micros(before) if before else 0)
            query = query.where((t.events.c.version_id == version_id) | left)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [(row["store_id"], _event_of(row)) for row in rows]

    def reports(self, version_id: str) -> list[Report]:
        """What was reported about a version, oldest first."""
        return list(self.told(version_id).values())

    def told(self, version_id: str) -> dict[str, Report]:
        """The same by a token that each has in every catalog."""
        query = sa.select(t.reports).where(t.reports.c.version_id == version_id).order_by(t.reports.c.sequence)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return {row["token"]: to_report(row) for row in rows}

    def recorded(self, key: str) -> Recorded | None:
        """What the operation key was used for, when it was."""
        return self.db.read(lambda connection: recorded(connection, key))

    def objects_of(self, version_id: str, kind: str | None = None) -> list[StoredObject]:
        """The objects that were written for a version, of one kind or of all, oldest first."""
        query = (
            sa.select(t.objects)
            .where(t.objects.c.version_id == version_id)
            .order_by(t.objects.c.created, t.objects.c.key)
        )
        if kind is not None:
            query = query.where(t.objects.c.kind == kind)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [StoredObject(**{k: row[k] for k in StoredObject.__slots__}) for row in rows]

    def store_url(self, store_id: str) -> str:
        """Where a store is.

        Raises:
            NotFoundError: The catalog knows no such store.
        """
        query = sa.select(t.stores.c.url).where(t.stores.c.id == store_id)
        url = self.db.read(lambda connection: connection.execute(query).scalar())
        if url is None:
            raise NotFoundError(f"catalog {self.id} knows no store {store_id!r}")
        return str(url)

    def stores(self) -> dict[str, str]:
        """Store id to URL."""
        query = sa.select(t.stores.c.id, t.stores.c.url).order_by(t.stores.c.created)
        return dict(map(tuple, self.db.read(lambda connection: connection.execute(query).all())))


def _event_of(row: RowMapping) -> Event:
    return Event(
        sequence=row["sequence"],
        kind=row["kind"],
        version_id=row["version_id"],
        created=from_micros(row["created"]),
        payload=json.loads(row["payload"]),
    )


def select_versions(
    connection: Connection,
    catalog_id: str,
    where: sa.ColumnElement[bool],
    *,
    order: Sequence[Any] = (),  # Any: columns
    limit: int | None = None,
) -> list[Version]:
    """Versions on a given connection, for reads and units of work alike."""
    query = sa.select(t.versions).where(where).order_by(*order)
    if limit is not None:
        query = query.limit(limit)
    return load_versions(connection, connection.execute(query).mappings().all(), catalog_id)


def recorded(connection: Connection, key: str) -> Recorded | None:
    """As `Queries.recorded`, on a given connection."""
    row = connection.execute(sa.select(t.operations).where(t.operations.c.key == key)).mappings().first()
    if row is None:
        return None
    return Recorded(
        key=row["key"],
        verb=row["verb"],
        digest=row["digest"],
        token=row["token"],
        version_id=row["version_id"],
        result=json.loads(row["result"]),
    )
