"""The catalog: versions through their life, moved by compare-and-set, each change with its operation record."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import versioning
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.approvals import Approvals
from dataset_tasks.catalog.copying import Copying
from dataset_tasks.catalog.engine import Database, is_missing_file
from dataset_tasks.catalog.leases import Lease
from dataset_tasks.catalog.queries import select_versions
from dataset_tasks.catalog.reads import Reads
from dataset_tasks.catalog.rows import checked_alias, checked_text, dump, snapshot, to_micros
from dataset_tasks.catalog.upgrade import alone, check_schema, no_catalog, read_meta, upgrade_database
from dataset_tasks.catalog.writes import (
    Clock,
    Content,
    NewVersion,
    Record,
    advance,
    content_columns,
    insert_event,
    set_metadata,
    set_tags,
    tell_reports,
)
from dataset_tasks.errors import AlreadyExistsError, CatalogError, StateError
from dataset_tasks.model import JsonValue, State, Version
from dataset_tasks.paths import show

_log = logging.getLogger(__name__)


class Catalog(Copying, Approvals, Reads):
    """One catalog. Safe to share between threads."""

    @classmethod
    def open(cls, url: str, clock: Clock, *, create: bool = True, upgrade: bool = False) -> Catalog:
        """Opens the catalog at a URL.

        Args:
            url: Where it is.
            clock: Gives the present moment in UTC.
            create: Whether one is made where the database has none.
            upgrade: Whether one of an older schema is brought to this code's, its file copied before. Where others
                share the catalog, that is for its owner to decide.

        Raises:
            CatalogError: There is none and it must not be made, it is damaged, older and must not be upgraded, or
                newer than this code.
        """
        if not create and is_missing_file(url):
            raise no_catalog(url)
        database = Database(url)
        found = database.read(read_meta)
        if not found and create:
            found = make_catalog(database, clock)
        schema = int(found.get("schema", "0"))
        check_schema(schema, database.shown)
        if schema < t.SCHEMA and upgrade:
            _upgrade(database)
        elif schema < t.SCHEMA:
            raise CatalogError(
                f"the catalog at {database.shown} has schema {schema}, this code needs {t.SCHEMA}",
                hint="Run `dataset-tasks catalog upgrade`: it adds what is missing, and keeps what is there.",
                kind="older_catalog",
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
        sequence = advance(connection)
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
                window=to_micros(new.window) if new.window else self._last_window(connection, new),
                **(content_columns(content) if content else {}),
            )
        )
        edges: list[tuple[str, int, str, str, tuple[str, ...]]] = [
            ("parent", i, ref, "", ()) for i, ref in enumerate(new.parents)
        ]
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
        set_tags(connection, version_id, new.tags)
        set_metadata(connection, version_id, new.metadata)
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

    def _last_window(self, connection: Connection, new: NewVersion) -> int | None:
        """So that what is made by hand comes after what stands, and before the run of the next window."""
        here = (t.versions.c.project == new.project) & (t.versions.c.name == new.name)
        standing = t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        return connection.execute(sa.select(sa.func.max(t.versions.c.window)).where(here & standing)).scalar()

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
                f"{show(f'{new.project}/{new.name}@{number}')} exists already: {taken.id} ({taken.state})",
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
                raise AlreadyExistsError(
                    f"the operation key {key!r} has made version {candidate} already, and nothing is recorded of it",
                    hint="Use that version, or call again under another key, as a new run does. Records of operations are "
                    "lost where a catalog was rebuilt from its journals.",
                )
        raise CatalogError(f"the operation key {key!r} was used for 10,000 dropped drafts", hint="Use another key.")

    def commit_content(
        self, version: Version, content: Content, record: Record, *, lease: Lease | None = None
    ) -> Version:
        """Sets the content of a draft, when nobody moved it since `version` was read.

        Raises:
            ConflictError: Another writer did, or holds the draft, or took over the lease; nothing changed.
            StateError: The version is no draft any more.
        """

        def work(connection: Connection) -> Version:
            self._check_lease(connection, version.id, lease)
            now = self._move(connection, version, State.IN_PROGRESS, content_columns(content))
            self._settle_objects(connection, content, version.id)
            return now

        return self._write(work, record)

    def finalize(
        self,
        version: Version,
        record: Record,
        *,
        fingerprint: str = "",
        new_bytes: int = 0,
        origin: Mapping[str, JsonValue] | None = None,
        quarantined: str = "",
    ) -> Version:
        """Makes a draft final and writes its event; `origin` replaces what is known of where it came from.

        With `quarantined`, a mark of `dataset_tasks.holding`, no look-up by name finds the version yet.

        Raises:
            ConflictError: Another writer moved the draft.
            StateError: The version is no draft any more.
        """

        def work(connection: Connection) -> Version:
            values = {
                "state": State.COMPLETED,
                "finalized": self._now(),
                "pending_object": None,
                "new_bytes": new_bytes,
            }
            values |= {"fingerprint": fingerprint} if fingerprint else {}
            values |= {"origin": dump(dict(origin))} if origin is not None else {}
            values |= {"quarantined": quarantined} if quarantined else {}
            now = self._move(connection, version, State.IN_PROGRESS, values)
            insert_event(connection, advance(connection), "finalized", now, self._now(), snapshot(now))
            if quarantined:
                mark = {"quarantined": quarantined}
                insert_event(connection, advance(connection), "changed", now, self._now(), mark)
            tell_reports(connection, now, self._now())
            return now

        return self._write(work, record)

    def publish(self, version: Version, alias: str | None, record: Record) -> Version:
        """Makes a completed version published, once, and points the alias at it, unless that is ahead: see `is_ahead`.

        Raises:
            ConflictError: Another writer moved the version.
            InvalidArgumentError: No alias can be called so.
            StateError: The version is not final, or quarantined.
        """
        if alias is not None:
            checked_alias(alias)

        def work(connection: Connection) -> str | Version:
            now: str | Version = version.id
            if version.state is not State.PUBLISHED:
                moment = self._now()
                values = {"state": State.PUBLISHED, "published": moment}
                now = self._move(connection, version, State.COMPLETED, values)
                insert_event(connection, advance(connection), "published", version, moment, {"published": moment})
            if alias is not None and not self._is_ahead(connection, version, alias):
                self._set_alias(connection, version, alias)
            return now

        return self._write(work, record)

    def drop(
        self,
        version: Version,
        record: Record,
        *,
        origin: Mapping[str, JsonValue] | None = None,
        lease: Lease | None = None,
    ) -> Version:
        """Gives up a draft: its number is free again, its objects are left to gc.

        `origin` is added to what is known of where the draft came from. With a `lease`, only while nobody took it over.

        Raises:
            ConflictError: Another writer moved it, or took over the lease.
            StateError: It is no draft.
        """

        def work(connection: Connection) -> Version:
            dropped = self._move(
                connection,
                version,
                State.IN_PROGRESS,
                {"state": State.ABORTED, "origin": dump({**version.origin, **(origin or {})})},
            )
            if lease is not None:
                self._check_lease(connection, version.id, lease)  # behind the change, whose lock keeps takers waiting
            return dropped

        return self._write(work, record)

    def delete(self, version: Version, record: Record, *, force: bool, unless_wanted: bool = False) -> Version:
        """Leaves a tombstone where a final version was; with `unless_wanted` only while nothing holds it: see `is_wanted`.

        Raises:
            ConflictError: Another writer moved it.
            StateError: Another version was made from it and `force` is not set; or it is wanted.
        """

        def work(connection: Connection) -> Version:
            # First: from here on nobody can make a child, an alias or a question. The moment begins the grace, which ends by
            # the catalog's clock.
            sequence, moment = advance(connection), self.moment(connection)
            if unless_wanted and self._is_wanted(connection, version):
                raise StateError(f"{version.label} is wanted by now", kind="in_use", hint="It stays as it is.")
            if not force:
                self._refuse_parent(connection, version)
            now = self._move(connection, version, version.state, {"state": State.DELETED, "deleted": moment})
            insert_event(connection, sequence, "deleted", version, moment, {"forced": force})
            return now

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


def _upgrade(database: Database) -> None:
    done = upgrade_database(database)
    if done.copy is not None:
        _log.info("catalog upgraded from schema %d to %d; as it was: %s", done.before, done.after, done.copy)


def make_catalog(database: Database, clock: Clock, catalog_id: str | None = None) -> dict[str, str]:
    """Makes the tables and the catalog's id, a given one or a new one; of several processes at once, one does.

    Gives what `read_meta` would: of the catalog that is there, when there is one.
    """

    def work(connection: Connection) -> dict[str, str]:
        alone(connection)
        found = read_meta(connection)
        if found:
            return found
        t.metadata_obj.create_all(connection)
        created = str(to_micros(clock()))
        values = {"catalog_id": catalog_id or secrets.token_hex(16), "schema": str(t.SCHEMA), "created": created}
        connection.execute(sa.insert(t.meta), [{"key": k, "value": v} for k, v in values.items()])
        connection.execute(sa.insert(t.counters).values(name="sequence", value=0))
        return values

    return database.write(work, landed=lambda connection: read_meta(connection) or None)
