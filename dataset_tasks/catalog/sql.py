"""The catalog: versions and what is known of them, moved by compare-and-set, each change with its operation record."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import versioning
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.catalog.queries import Queries, StoredObject, recorded, select_versions
from dataset_tasks.catalog.rows import checked_text, dump, dump_object, snapshot, to_micros
from dataset_tasks.errors import AlreadyExistsError, CatalogError, ConflictError, NotFoundError, StateError
from dataset_tasks.model import Input, JsonValue, ObjectRef, State, Version

T = TypeVar("T")
Clock = Callable[[], datetime]


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
    """What a draft starts as. Parents and inputs are resolved ids; `files`, `bytes`, `index` are the merged parents'."""

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
    content: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a commit of content sets in the row of a draft. `objects` become live with it, `gone` are forgotten."""

    index: ObjectRef | None
    pending: int
    pending_object: ObjectRef | None
    files: int
    bytes: int
    content_hash: str
    new_bytes: int = 0
    store_id: str | None = None
    objects: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Catalog(Queries):
    """One catalog. Safe to share between threads.

    Args:
        database: Where it is.
        clock: Gives the present moment in UTC.
    """

    def __init__(self, database: Database, catalog_id: str, clock: Clock) -> None:
        super().__init__(database, catalog_id)
        self._clock = clock

    @classmethod
    def open(cls, url: str, clock: Clock, *, create: bool = True) -> Catalog:
        """Opens the catalog at a URL; makes one where the database has none and `create` allows it.

        Raises:
            CatalogError: There is none and it must not be made, it is damaged, or newer than this code.
        """
        database = Database(url)
        found = database.read(_meta)
        if not found:
            if not create:
                raise CatalogError(
                    f"there is no catalog at {database.shown}",
                    hint="Make one with `dataset-tasks catalog init`, or check DATASET_TASKS_CATALOG_URL.",
                )
            found = _make(database, clock)
        if int(found["schema"]) > t.SCHEMA:
            raise CatalogError(
                f"the catalog at {database.shown} has schema {found['schema']}, this code knows {t.SCHEMA}",
                hint="Update dataset-tasks on this machine.",
            )
        return cls(database, found["catalog_id"], clock)

    def close(self) -> None:
        """Closes every connection; the catalog can't be used after."""
        self.db.close()

    # --- versions

    def create(self, new: NewVersion, record: Record) -> Version:
        """Makes a draft, its number allocated in the same transaction.

        Raises:
            AlreadyExistsError: The explicit version string is taken.
            StateError: A parent or input was deleted in between.
        """
        for value, what in ((new.project, "project"), (new.name, "name"), (new.description, "description")):
            checked_text(value, what)
        for tag in new.tags:
            checked_text(tag, "tag")
        return self._write(lambda connection: self._create(connection, new, record), record)

    def _create(self, connection: Connection, new: NewVersion, record: Record) -> str:
        sequence = _advance(connection)
        number = new.version or self._next_number(connection, new)
        self._refuse_taken(connection, new, number)
        self._refuse_gone(connection, [*new.parents, *(i.ref for i in new.inputs)])
        version_id = self._new_id(connection, record.key)
        content = new.content
        connection.execute(
            sa.insert(t.versions).values(
                id=version_id,
                project=new.project,
                name=new.name,
                version=checked_text(number, "version"),
                version_order=versioning.sort_key(number),
                partition=new.partition or "",
                state=State.IN_PROGRESS,
                revision=0,
                sequence=sequence,
                created=self._now(),
                previous_id=new.previous_id,
                description=new.description,
                store_id=new.store_id,
                origin=dump(dict(new.origin)),
                recipe=new.recipe,
                skip_unchanged=new.skip_unchanged,
                **(_content_columns(content) if content else {}),
            )
        )
        edges = [("parent", i, ref, "", ()) for i, ref in enumerate(new.parents)]
        edges += [("input", i, each.ref, each.name, each.files) for i, each in enumerate(new.inputs)]
        if edges:
            connection.execute(
                sa.insert(t.parents),
                [
                    {"child_id": version_id, "kind": k, "position": i, "parent_id": ref, "name": n, "files": dump(f)}
                    for k, i, ref, n, f in edges
                ],
            )
        if content:
            self._settle_objects(connection, content, version_id)
        _set_tags(connection, version_id, new.tags)
        _set_metadata(connection, version_id, new.metadata)
        return version_id

    def _next_number(self, connection: Connection, new: NewVersion) -> str:
        highest = connection.execute(
            sa.select(t.versions.c.version)
            .where(
                (t.versions.c.project == new.project)
                & (t.versions.c.name == new.name)
                & (t.versions.c.state != State.ABORTED)
                & (t.versions.c.version_order != "")
            )
            .order_by(t.versions.c.version_order.desc())
            .limit(1)
        ).scalar()
        return versioning.following(highest)

    def _refuse_taken(self, connection: Connection, new: NewVersion, number: str) -> None:
        taken = connection.execute(
            sa.select(t.versions.c.id, t.versions.c.state).where(
                (t.versions.c.project == new.project)
                & (t.versions.c.name == new.name)
                & (t.versions.c.version == number)
                & (t.versions.c.state != State.ABORTED)
            )
        ).first()
        if taken:
            raise AlreadyExistsError(
                f"{new.project}/{new.name}@{number} exists already: {taken.id} ({taken.state})",
                hint="Choose another version string, or leave it out to get the next number.",
            )

    def _refuse_gone(self, connection: Connection, ids: Collection[str]) -> None:
        if not ids:
            return
        rows = connection.execute(sa.select(t.versions.c.id, t.versions.c.state).where(t.versions.c.id.in_(ids))).all()
        final = {i for i, state in rows if State(state).is_final}
        wrong = [f"{i} ({dict(map(tuple, rows)).get(i, 'not found')})" for i in ids if i not in final]
        if wrong:
            raise StateError(
                f"parents and inputs must be finalized, these are not: {', '.join(wrong)}",
                kind="parent_not_final",
                hint="Finalize them first, or choose other versions.",
            )

    def _new_id(self, connection: Connection, key: str) -> str:
        for generation in range(10_000):
            parts = ("dataset-tasks/version/1", self.id, key, str(generation))
            candidate = hashlib.sha256("".join(f"{p}\0" for p in parts).encode()).hexdigest()[:32]
            state = connection.execute(sa.select(t.versions.c.state).where(t.versions.c.id == candidate)).scalar()
            if state is None:
                return candidate
            if state not in (State.ABORTED, State.DELETED):
                raise AlreadyExistsError(f"the operation key {key!r} has made version {candidate} already")
        raise CatalogError(f"the operation key {key!r} was used for 10,000 dropped drafts", hint="Use another key.")

    def commit_content(self, version: Version, content: Content, record: Record) -> Version:
        """Sets the content of a draft, when nobody moved it since `version` was read.

        Raises:
            ConflictError: Another writer did; nothing changed.
            StateError: The version is no draft any more.
        """

        def work(connection: Connection) -> str:
            self._move(connection, version, State.IN_PROGRESS, _content_columns(content))
            self._settle_objects(connection, content, version.id)
            return version.id

        return self._write(work, record)

    def finalize(self, version: Version, record: Record) -> Version:
        """Makes a draft final and writes its event.

        Raises:
            ConflictError: Another writer moved the draft.
            StateError: The version is no draft any more.
        """

        def work(connection: Connection) -> str:
            sequence = _advance(connection)
            values = {"state": State.COMPLETED, "finalized": self._now(), "pending_object": None}
            self._move(connection, version, State.IN_PROGRESS, values)
            now = self._one(connection, version.id)
            _event(connection, sequence, "finalized", now, self._now(), snapshot(now))
            return version.id

        return self._write(work, record)

    def publish(self, version: Version, alias: str | None, record: Record) -> Version:
        """Makes a completed version published, once, and points the alias at it.

        Raises:
            ConflictError: Another writer moved the version.
            StateError: The version is not final, or quarantined.
        """

        def work(connection: Connection) -> str:
            if version.state is not State.PUBLISHED:
                sequence = _advance(connection)
                moment = self._now()
                self._move(connection, version, State.COMPLETED, {"state": State.PUBLISHED, "published": moment})
                _event(connection, sequence, "published", version, moment, {"published": moment})
            if alias is not None:
                self._set_alias(connection, version, alias)
            return version.id

        return self._write(work, record)

    def set_alias(self, version: Version, alias: str, record: Record) -> Version:
        """Points an alias of the version's dataset at it; a move to where it points already does nothing."""
        checked_text(alias, "alias")

        def work(connection: Connection) -> str:
            self._set_alias(connection, version, alias)
            return version.id

        return self._write(work, record)

    def _set_alias(self, connection: Connection, version: Version, alias: str) -> None:
        same = (
            (t.aliases.c.project == version.project)
            & (t.aliases.c.name == version.name)
            & (t.aliases.c.alias == alias)
        )
        held = connection.execute(
            sa.select(t.aliases.c.version_id).where(same).order_by(t.aliases.c.sequence.desc()).limit(1)
        ).scalar()
        if held == version.id:
            return
        sequence, moment = _advance(connection), self._now()
        where = {"project": version.project, "name": version.name, "alias": alias, "version_id": version.id}
        connection.execute(sa.insert(t.aliases).values(sequence=sequence, created=moment, **where))
        _event(connection, sequence, "alias", version, moment, where)

    def drop(self, version: Version, record: Record) -> Version:
        """Gives up a draft: its number is free again, its objects are left to gc.

        Raises:
            ConflictError: Another writer moved it.
            StateError: It is no draft.
        """

        def work(connection: Connection) -> str:
            self._move(connection, version, State.IN_PROGRESS, {"state": State.ABORTED})
            return version.id

        return self._write(work, record)

    def delete(self, version: Version, record: Record, *, force: bool) -> Version:
        """Leaves a tombstone where a final version was.

        Raises:
            ConflictError: Another writer moved it.
            StateError: Another version was made from it and `force` is not set.
        """

        def work(connection: Connection) -> str:
            if not force:
                self._refuse_parent(connection, version)
            sequence, moment = _advance(connection), self._now()
            self._move(connection, version, version.state, {"state": State.DELETED})
            _event(connection, sequence, "deleted", version, moment, {"forced": force})
            return version.id

        return self._write(work, record)

    def _refuse_parent(self, connection: Connection, version: Version) -> None:
        related = sa.select(t.parents.c.child_id).where(
            (t.parents.c.parent_id == version.id) & (t.parents.c.kind == "parent")
        )
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        children = select_versions(connection, self.id, t.versions.c.id.in_(related) & standing)
        if children:
            raise StateError(
                f"{version.label} is the parent of {', '.join(f'{c.label} ({c.id})' for c in children)}",
                kind="in_use",
                hint="Delete those first, or use force: they keep their content.",
            )

    # --- what may change on a final version too

    def change(
        self,
        version: Version,
        record: Record,
        *,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        **columns: str,
    ) -> Version:
        """Sets tags (all of them), metadata (the named ones) and text columns that are no content.

        Columns: `description`, `project`, `name`, `quarantined`, `fingerprint`. Of a final version the change is an event.
        """

        def work(connection: Connection) -> str:
            values = {k: checked_text(v, k) for k, v in columns.items()}
            now = self._move(connection, version, None, values)
            if tags is not None:
                connection.execute(sa.delete(t.tags).where(t.tags.c.version_id == version.id))
                _set_tags(connection, version.id, tags)
            _set_metadata(connection, version.id, metadata or {})
            if now.state.is_final:
                payload: dict[str, Any] = dict(values)  # Any: JSON
                payload |= {"tags": list(tags)} if tags is not None else {}
                payload |= {"metadata": dict(metadata)} if metadata else {}
                _event(connection, _advance(connection), "changed", version, self._now(), payload)
            return version.id

        return self._write(work, record)

    def move_dataset(self, project: str, name: str, *, to_project: str, to_name: str) -> None:
        """Gives every version of a dataset, and its aliases, another project and name; ids stay.

        Raises:
            AlreadyExistsError: The target name has versions already.
        """
        checked_text(to_project, "project")
        checked_text(to_name, "name")

        def work(connection: Connection) -> bool:
            sequence, moment = _advance(connection), self._now()
            there = (t.versions.c.project == to_project) & (t.versions.c.name == to_name)
            standing = t.versions.c.state != State.ABORTED
            if connection.execute(sa.select(t.versions.c.id).where(there & standing).limit(1)).first():
                raise AlreadyExistsError(
                    f"{to_project}/{to_name} exists already", hint="Choose a name that no dataset has."
                )
            here = (t.versions.c.project == project) & (t.versions.c.name == name)
            moved = select_versions(connection, self.id, here, order=(t.versions.c.sequence,))
            values = {"project": to_project, "name": to_name}
            connection.execute(sa.update(t.versions).where(here).values(**values, revision=t.versions.c.revision + 1))
            same = (t.aliases.c.project == project) & (t.aliases.c.name == name)
            connection.execute(sa.update(t.aliases).where(same).values(**values))
            for each in moved:
                if each.state.is_final:
                    _event(connection, sequence, "changed", each, moment, values)
                    sequence = _advance(connection)
            return True

        def landed(connection: Connection) -> bool | None:
            here = (t.versions.c.project == project) & (t.versions.c.name == name)
            return connection.execute(sa.select(t.versions.c.id).where(here).limit(1)).first() is None or None

        self.db.write(work, landed=landed)

    # --- stores, objects, journal

    def store_id(self, url: str) -> str:
        """The id of the store at a URL, recorded on first use."""

        def read(connection: Connection) -> str | None:
            return connection.execute(sa.select(t.stores.c.id).where(t.stores.c.url == url)).scalar()

        def work(connection: Connection) -> str:
            _lock(connection)
            found = read(connection)
            if found is not None:
                return found
            made = secrets.token_hex(16)
            connection.execute(sa.insert(t.stores).values(id=made, url=url, created=self._now()))
            return made

        return self.db.read(read) or self.db.write(work, landed=read)

    def begin_objects(self, version_id: str, refs: Iterable[tuple[str, str, str]]) -> None:
        """Records objects that are about to be written: store id, key, kind. The row comes before the bytes."""
        rows = [
            {"store_id": s, "key": k, "kind": kind, "state": "writing", "version_id": version_id, "created": self._now()}
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
        """Records size and hash of objects whose bytes stand; `delta` names the object that lists their entries."""
        values = [(r.key, r.size, r.sha256) for r in refs]

        def work(connection: Connection) -> bool:
            for key, size, sha256 in values:
                connection.execute(
                    sa.update(t.objects).where(t.objects.c.key == key).values(size=size, sha256=sha256, delta=delta)
                )
            return True

        self.db.write(work, landed=lambda connection: None)

    def forget_objects(self, keys: Collection[str]) -> None:
        """Takes away the rows of objects that surely never became part of a version."""
        where = t.objects.c.key.in_(list(keys)) & (t.objects.c.state == "writing")
        self.db.write(
            lambda connection: bool(connection.execute(sa.delete(t.objects).where(where))),
            landed=lambda connection: None,
        )

    def mark_journaled(self, sequences: Collection[int]) -> None:
        """Records that the journal objects of these events stand."""
        where = t.events.c.sequence.in_(list(sequences))
        self.db.write(
            lambda connection: bool(connection.execute(sa.update(t.events).where(where).values(journaled=True))),
            landed=lambda connection: None,
        )

    def _settle_objects(self, connection: Connection, content: Content, version_id: str) -> None:
        if content.objects:
            done = connection.execute(
                sa.update(t.objects).where(t.objects.c.key.in_(content.objects)).values(state="live")
            ).rowcount
            if done != len(content.objects):
                raise ConflictError(
                    f"objects written for version {version_id} are gone: {done} of {len(content.objects)} are left",
                    hint="Run the operation again: it writes them anew.",
                )
        if content.gone:
            connection.execute(
                sa.update(t.objects).where(t.objects.c.key.in_(content.gone)).values(state="condemned")
            )

    # --- units of work

    def _write(self, work: Callable[[Connection], str], record: Record) -> Version:
        def whole(connection: Connection) -> Version:
            version = self._one(connection, work(connection))
            self._record(connection, record, version)
            return version

        def landed(connection: Connection) -> Version | None:
            found = recorded(connection, record.key)
            if found is None or found.token != record.token:
                return None
            return self._one(connection, found.version_id)

        return self.db.write(whole, landed=landed)

    def _record(self, connection: Connection, record: Record, version: Version) -> None:
        connection.execute(sa.delete(t.operations).where(t.operations.c.key == record.key))
        connection.execute(
            sa.insert(t.operations).values(
                key=record.key,
                verb=record.verb,
                digest=record.digest,
                token=record.token,
                version_id=version.id,
                result=dump(record.result(version)),
                created=self._now(),
            )
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


__all__ = ["Catalog", "Content", "NewVersion", "Record", "StoredObject"]


def _content_columns(content: Content) -> dict[str, object]:
    columns: dict[str, object] = {
        "index_object": dump_object(content.index),
        "pending": content.pending,
        "pending_object": dump_object(content.pending_object),
        "files": content.files,
        "bytes": content.bytes,
        "content_hash": content.content_hash,
        "new_bytes": content.new_bytes,
    }
    return columns | ({"store_id": content.store_id} if content.store_id else {})


def _advance(connection: Connection) -> int:
    """The next sequence number; from here to the commit no other writer has one (its row is locked)."""
    return int(
        connection.execute(
            sa.update(t.counters)
            .where(t.counters.c.name == "sequence")
            .values(value=t.counters.c.value + 1)
            .returning(t.counters.c.value)
        ).scalar_one()
    )


def _lock(connection: Connection) -> None:
    """Holds back other writers until the commit, without using up a sequence number."""
    connection.execute(
        sa.update(t.counters).where(t.counters.c.name == "sequence").values(value=t.counters.c.value)
    )


def _event(
    connection: Connection, sequence: int, kind: str, version: Version, created: int, payload: Mapping[str, object]
) -> None:
    connection.execute(
        sa.insert(t.events).values(
            sequence=sequence,
            kind=kind,
            version_id=version.id,
            created=created,
            payload=dump(payload),
            store_id=version.store_id,
            journaled=False,
        )
    )


def _set_tags(connection: Connection, version_id: str, tags: Iterable[str]) -> None:
    rows = [{"version_id": version_id, "tag": checked_text(tag, "tag")} for tag in dict.fromkeys(tags)]
    if rows:
        connection.execute(sa.insert(t.tags), rows)


def _set_metadata(connection: Connection, version_id: str, values: Mapping[str, JsonValue]) -> None:
    for name, value in values.items():
        where = (t.metadata.c.version_id == version_id) & (t.metadata.c.name == name)
        connection.execute(sa.delete(t.metadata).where(where))
        connection.execute(
            sa.insert(t.metadata).values(
                version_id=version_id, name=checked_text(name, "metadata name"), value=checked_text(dump(value), name)
            )
        )


def _meta(connection: Connection) -> dict[str, str]:
    if not sa.inspect(connection).has_table("meta"):
        return {}
    return {k: v for k, v in connection.execute(sa.select(t.meta.c.key, t.meta.c.value)).all()}


def _make(database: Database, clock: Clock) -> dict[str, str]:
    """Makes the tables and the catalog's id; of several processes that try at once, one does."""

    def work(connection: Connection) -> dict[str, str]:
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7230114)"))
        found = _meta(connection)
        if found:
            return found
        t.metadata_obj.create_all(connection)
        created = str(to_micros(clock()))
        values = {"catalog_id": secrets.token_hex(16), "schema": str(t.SCHEMA), "created": created}
        connection.execute(sa.insert(t.meta), [{"key": k, "value": v} for k, v in values.items()])
        connection.execute(sa.insert(t.counters).values(name="sequence", value=0))
        return values

    return database.write(work, landed=lambda connection: _meta(connection) or None)
