"""What may change on a final version too: aliases, tags, metadata, description, name and project."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.queries import select_versions
from dataset_tasks.catalog.registry import OBJECTS_GONE
from dataset_tasks.catalog.rows import checked_alias, checked_text, dump
from dataset_tasks.catalog.writes import Record, Writes, advance, insert_event, set_metadata, set_tags, tell_reports
from dataset_tasks.errors import AlreadyExistsError, ConflictError, StateError
from dataset_tasks.model import JsonValue, ReportKind, State, Version
from dataset_tasks.paths import show


class Labels(Writes):
    """The part of a catalog that names and describes versions."""

    def set_alias(self, version: Version, alias: str, record: Record) -> Version:
        """Points an alias of the version's dataset at it; a move to where it points already does nothing.

        Raises:
            InvalidArgumentError: No alias can be called so.
            StateError: The version is not final, or was deleted.
        """
        checked_alias(alias)

        def work(connection: Connection) -> str:
            self._set_alias(connection, version, alias)
            return version.id

        return self._write(work, record)

    def is_ahead(self, version: Version, alias: str) -> bool:
        """Whether an alias of the version's dataset names one of a later interval: publishing moves none back."""
        return self.db.read(lambda connection: self._is_ahead(connection, version, alias))

    def _is_ahead(self, connection: Connection, version: Version, alias: str) -> bool:
        if version.window is None:
            return False
        same = (
            (t.aliases.c.project == version.project) & (t.aliases.c.name == version.name) & (t.aliases.c.alias == alias)
        )
        held = sa.select(t.aliases.c.version_id).where(same).order_by(t.aliases.c.sequence.desc()).limit(1)
        there = select_versions(connection, self.id, t.versions.c.id == held.scalar_subquery())
        return any(each.state.is_final and each.window is not None and each.window > version.window for each in there)

    def _set_alias(self, connection: Connection, version: Version, alias: str) -> None:
        same = (
            (t.aliases.c.project == version.project) & (t.aliases.c.name == version.name) & (t.aliases.c.alias == alias)
        )
        held = connection.execute(
            sa.select(t.aliases.c.version_id).where(same).order_by(t.aliases.c.sequence.desc()).limit(1)
        ).scalar()
        if held == version.id:
            return
        sequence, moment = advance(connection), self._now()
        now = self._one(connection, version.id)  # behind the lock: nobody deletes it any more
        if not now.state.is_final:
            is_draft = now.state is State.IN_PROGRESS
            raise StateError(
                f"{now.label} ({now.id}) is {now.state}; an alias names a final version",
                kind="not_finalized" if is_draft else str(now.state),
                hint="Finalize it first." if is_draft else "Choose another version.",
            )
        where = {"project": version.project, "name": version.name, "alias": alias, "version_id": version.id}
        connection.execute(sa.insert(t.aliases).values(sequence=sequence, created=moment, **where))
        insert_event(connection, sequence, "alias", version, moment, where)

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
                set_tags(connection, version.id, tags)
            set_metadata(connection, version.id, metadata or {})
            if now.state.is_final:
                payload: dict[str, Any] = dict(values)  # Any: JSON
                payload |= {"tags": list(tags)} if tags is not None else {}
                payload |= {"metadata": dict(metadata)} if metadata else {}
                insert_event(connection, advance(connection), "changed", version, self._now(), payload)
            return version.id

        return self._write(work, record)

    def add_report(
        self,
        version_id: str,
        *,
        kind: ReportKind,
        title: str,
        series: str,
        iteration: int | None,
        value: JsonValue,
        objects: Sequence[str] = (),
    ) -> int:
        """Keeps something that was reported about a version; gives its sequence number. Of a final version it is an event.

        Raises:
            NotFoundError: There is no such version.
            ConflictError: `gc` took an object away before it was part of the report.
        """
        for text, what in ((title, "title"), (series, "series"), (dump(value), "value")):
            checked_text(text, what)
        token = secrets.token_hex(16)

        def work(connection: Connection) -> int:
            version = self._one(connection, version_id)
            sequence = advance(connection)
            connection.execute(
                sa.insert(t.reports).values(
                    version_id=version_id,
                    sequence=sequence,
                    kind=kind,
                    title=title,
                    series=series,
                    iteration=iteration,
                    value=dump(value),
                    token=token,
                    created=self._now(),
                )
            )
            if version.state.is_final:
                tell_reports(connection, version, self._now(), since=sequence)
            where = t.objects.c.key.in_(list(objects)) & (t.objects.c.state != "going")
            live = sa.update(t.objects).where(where).values(state="live", condemned=None)
            if connection.execute(live).rowcount != len(objects):
                raise ConflictError(
                    f"the file of a report about {version_id} is gone before it was reported",
                    hint="Report it again.",
                    kind=OBJECTS_GONE,
                )
            return sequence

        def landed(connection: Connection) -> int | None:
            return connection.execute(sa.select(t.reports.c.sequence).where(t.reports.c.token == token)).scalar()

        return self.db.write(work, landed=landed)

    def move_dataset(self, project: str, name: str, *, to_project: str, to_name: str) -> None:
        """Gives every version of a dataset, and its aliases, another project and name; ids stay.

        Raises:
            AlreadyExistsError: The target name has versions already.
        """
        checked_text(to_project, "project")
        checked_text(to_name, "name")

        def work(connection: Connection) -> bool:
            sequence, moment = advance(connection), self._now()
            there = (t.versions.c.project == to_project) & (t.versions.c.name == to_name)
            standing = t.versions.c.state != State.ABORTED
            if connection.execute(sa.select(t.versions.c.id).where(there & standing).limit(1)).first():
                raise AlreadyExistsError(
                    f"{show(f'{to_project}/{to_name}')} exists already", hint="Choose a name that no dataset has."
                )
            here = (t.versions.c.project == project) & (t.versions.c.name == name)
            moved = select_versions(connection, self.id, here, order=(t.versions.c.sequence,))
            values = {"project": to_project, "name": to_name}
            connection.execute(sa.update(t.versions).where(here).values(**values, revision=t.versions.c.revision + 1))
            same = (t.aliases.c.project == project) & (t.aliases.c.name == name)
            connection.execute(sa.update(t.aliases).where(same).values(**values))
            taken = (t.retention.c.project == to_project) & (t.retention.c.name == to_name)
            kept = (t.retention.c.project == project) & (t.retention.c.name == name)
            connection.execute(sa.delete(t.retention).where(taken))
            connection.execute(sa.update(t.retention).where(kept).values(**values))
            for each in moved:
                if each.state.is_final:
                    insert_event(connection, sequence, "changed", each, moment, values)
                    sequence = advance(connection)
            return True

        def landed(connection: Connection) -> bool | None:
            here = (t.versions.c.project == project) & (t.versions.c.name == name)
            return connection.execute(sa.select(t.versions.c.id).where(here).limit(1)).first() is None or None

        self.db.write(work, landed=landed)
