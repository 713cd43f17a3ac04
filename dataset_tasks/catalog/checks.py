"""Looks whether a catalog is whole in itself: its file, its references, its rows against each other. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import versioning
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.model import State

_MOST_NAMED = 10
_FINAL = (State.COMPLETED, State.PUBLISHED)
_OBJECT_STATES = ("writing", "live", "condemned", "going")
#: Tables whose rows are numbered by the counter.
_NUMBERED = (t.versions, t.events, t.aliases, t.reports, t.approvals, t.reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong: which check found it, and in words what; `ids` are the rows, at most ten of `count`."""

    check: str
    message: str
    count: int
    ids: tuple[str, ...] = ()


_Check = Callable[[Connection], Iterable[Finding]]


def check_catalog(database: Database) -> list[Finding]:
    """Everything that is wrong, on one consistent state of the database.

    Raises:
        CatalogError: The database can't be read at all.
    """
    found: list[Finding] = []
    with database.reading() as connection:
        for name, check in CHECKS.items():
            found += check(connection)
            if found and name == "shape":  # what is not there can't be looked at
                break
    return found


def _found(check: str, message: str, ids: Iterable[object]) -> Iterator[Finding]:
    """One finding for all the rows it is about; `{}` of the message is their number."""
    listed = [str(each) for each in ids]
    if listed:
        named = tuple(listed[:_MOST_NAMED])
        yield Finding(check=check, message=message.format(len(listed)), count=len(listed), ids=named)


def _file(connection: Connection) -> Iterator[Finding]:
    """The pages of an SQLite file; PostgreSQL looks after its own."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        yield from _found("file", "the file is damaged in {} places", [] if rows == ["ok"] else rows)


def _shape(connection: Connection) -> Iterator[Finding]:
    """Tables and columns against those of this schema."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    missing = [table.name for table in t.metadata_obj.sorted_tables if table.name not in there]
    for table in t.metadata_obj.sorted_tables:
        if table.name in there:
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            missing += [f"{table.name}.{column.name}" for column in table.columns if column.name not in columns]
            indexes = {index["name"] for index in inspector.get_indexes(table.name)}
            missing += [f"index {index.name}" for index in table.indexes if index.name not in indexes]
    yield from _found("shape", "{} tables, columns or indexes are missing", missing)


def _references(connection: Connection) -> Iterator[Finding]:
    """Foreign keys, also those that were not looked after when rows were written."""
    for table in t.metadata_obj.sorted_tables:
        for key in table.foreign_keys:
            there = sa.select(key.column).where(key.column == key.parent).exists()
            query = sa.select(key.parent).where(key.parent.is_not(None) & ~there).distinct()
            name = f"{table.name}.{key.parent.name}"
            yield from _found(
                "references", f"{{}} values of {name} name no row of {key.column.table.name}",
                connection.execute(query).scalars(),
            )  # fmt: skip


def _counter(connection: Connection) -> Iterator[Finding]:
    """The counter is at least where every numbered row is, and an edge leads to an older version."""
    held = connection.execute(sa.select(t.counters.c.value).where(t.counters.c.name == "sequence")).scalar()
    if held is None:
        yield Finding(check="counter", message="there is no counter 'sequence'", count=1)
        return
    for table in _NUMBERED:
        last = connection.execute(sa.select(sa.func.max(table.c.sequence))).scalar() or 0
        if last > held:
            message = f"{table.name} goes up to {last}, the counter stands at {held}"
            yield Finding(check="counter", message=message, count=1)
    child, parent = t.versions.alias("child"), t.versions.alias("parent")
    query = (
        sa.select(child.c.id)
        .join(t.parents, t.parents.c.child_id == child.c.id)
        .join(parent, parent.c.id == t.parents.c.parent_id)
        .where(parent.c.sequence >= child.c.sequence)
    )
    yield from _found("counter", "{} versions were made before their parents", connection.execute(query).scalars())


def _states(connection: Connection) -> Iterator[Finding]:
    """What the state of a version says about its other columns."""
    v = t.versions.c
    final = v.state.in_(_FINAL)
    wrong = {
        "{} versions are in no state that there is": v.state.not_in(list(State)),
        "{} final versions have no moment of it": final & v.finalized.is_(None),
        "{} final versions have pending files": final & ((v.pending != 0) | v.pending_object.is_not(None)),
        "{} final versions with files have no index": final & (v.files > 0) & v.index_object.is_(None),
        "{} published versions have no moment of it": (v.state == State.PUBLISHED) & v.published.is_(None),
        "{} versions that are not published have a moment of it": v.published.is_not(None)
        & v.state.in_((State.COMPLETED, State.IN_PROGRESS)),
        "{} tombstones have no moment of it": (v.state == State.DELETED) & v.deleted.is_(None),
        "{} versions that stand have a moment of their end": final & v.deleted.is_not(None),
        "{} versions that stand are purged": v.purged & v.state.not_in((State.DELETED, State.ABORTED)),
    }
    for message, where in wrong.items():
        yield from _found("states", message, connection.execute(sa.select(v.id).where(where)).scalars())
    numbers = connection.execute(sa.select(v.id, v.version, v.version_order)).all()
    disordered = [i for i, version, order in numbers if versioning.sort_key(version) != order]
    yield from _found("states", "{} versions sort where they should not", disordered)


def _events(connection: Connection) -> Iterator[Finding]:
    """Each change of a final version has its event, once."""
    v, e = t.versions.c, t.events.c
    for kind, where in (
        ("finalized", v.finalized.is_not(None)),
        ("published", v.published.is_not(None)),
        ("deleted", v.state == State.DELETED),
    ):
        of_kind = sa.select(e.version_id, sa.func.count().label("n")).where(e.kind == kind).group_by(e.version_id)
        counts: dict[str, int] = dict(map(tuple, connection.execute(of_kind).all()))
        wanted = set(connection.execute(sa.select(v.id).where(where & (v.created > 0))).scalars())
        yield from _found("events", f"{{}} versions have no event '{kind}'", sorted(wanted - counts.keys()))
        if kind != "deleted":  # one that was undeleted may be deleted again
            twice = sorted(i for i, n in counts.items() if n > 1)
            yield from _found("events", f"{{}} versions have more than one event '{kind}'", twice)
            yield from _found(
                "events", f"{{}} versions have an event '{kind}' and are not", sorted(counts.keys() - wanted)
            )


def _journal(connection: Connection) -> Iterator[Finding]:
    """Events whose journal object does not stand: a rebuild would not know of them."""
    waiting = connection.execute(sa.select(t.events.c.sequence).where(~t.events.c.journaled)).scalars()
    yield from _found("journal", "{} events are not in the journal yet; the next change writes them", waiting)


def _objects(connection: Connection) -> Iterator[Finding]:
    """Rows of objects against the versions that need them."""
    o, v = t.objects.c, t.versions.c
    strange = sa.select(o.key).where(o.state.not_in(_OBJECT_STATES))
    yield from _found("objects", "{} objects are in no state that there is", connection.execute(strange).scalars())
    unmeasured = sa.select(o.key).where((o.state == "live") & (o.sha256 == ""))
    yield from _found("objects", "{} live objects have no hash", connection.execute(unmeasured).scalars())
    rows = {
        row.key: row for row in connection.execute(sa.select(o.key, o.state, o.size, o.sha256).where(o.kind == "index"))
    }
    gone, other = [], []
    named = sa.select(v.id, v.index_object).where(v.index_object.is_not(None) & v.state.in_(_FINAL))
    for version_id, text in connection.execute(named):
        ref = json.loads(text)
        row = rows.get(ref["key"])
        if row is None or row.state != "live":
            gone.append(version_id)
        elif (row.size, row.sha256) != (ref["size"], ref["sha256"]):
            other.append(version_id)
    yield from _found("objects", "{} final versions have an index that is not live", gone)
    yield from _found("objects", "{} final versions have an index of another size or hash than its object", other)
    yield from _reported(connection)


def _reported(connection: Connection) -> Iterator[Finding]:
    """Images and media that were reported about versions that stand."""
    o, v = t.objects.c, t.versions.c
    files = {row.key: row for row in connection.execute(sa.select(o.key, o.state).where(o.kind == "report"))}
    told = (
        sa.select(v.id, t.reports.c.value)
        .join(t.reports, t.reports.c.version_id == v.id)
        .where(t.reports.c.kind.in_(("image", "media")) & v.state.in_((*_FINAL, State.IN_PROGRESS)))
    )
    lost = {
        version_id
        for version_id, value in connection.execute(told)
        if (row := files.get(json.loads(value)["key"])) is None or row.state != "live"
    }
    yield from _found("objects", "{} versions have a reported file that is not live", sorted(lost))


#: By name, in the order in which they are run.
CHECKS: dict[str, _Check] = {
    "file": _file,
    "shape": _shape,
    "references": _references,
    "counter": _counter,
    "states": _states,
    "events": _events,
    "journal": _journal,
    "objects": _objects,
}
