"""How a version of another catalog becomes one of this: its id, number, labels and edges stay, its place in time too."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks import versioning
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.collect import Collecting
from dataset_tasks.catalog.labels import Labels
from dataset_tasks.catalog.registry import OBJECTS_GONE
from dataset_tasks.catalog.rows import dump, dump_object, snapshot, to_micros
from dataset_tasks.catalog.writes import (
    Content,
    Record,
    advance,
    insert_event,
    lock,
    set_metadata,
    set_tags,
    tell_reports,
)
from dataset_tasks.errors import AlreadyExistsError, ConflictError, StateError
from dataset_tasks.model import JsonValue, ObjectRef, Report, State, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Objects that are to be copied: `standing` are here already, where the references say; the bytes of `begun` may be."""

    standing: Mapping[str, ObjectRef]
    begun: Collection[str]


class Copying(Collecting, Labels):
    """The part of a catalog that takes in versions of others."""

    def claim_objects(self, version_id: str, store_id: str, refs: Iterable[ObjectRef]) -> Claimed:
        """Makes the rows of objects that are about to be copied under the keys that they have.

        Raises:
            ConflictError: One of them is being deleted just now.
        """
        wanted = {ref.key: ref for ref in refs}

        def work(connection: Connection) -> Claimed:
            lock(connection)
            moment = self.moment(connection)
            rows = {row["key"]: row for row in _rows(connection, list(wanted))}
            standing, begun = {}, set()
            for key, ref in wanted.items():
                row = rows.get(key)
                if row is None:
                    values = {"store_id": store_id, "kind": _kind(key), "state": "writing", "version_id": version_id}
                    connection.execute(sa.insert(t.objects).values(key=key, created=moment, **values))
                elif row["state"] == "going":
                    raise ConflictError(
                        f"object {key} is being deleted",
                        hint="Run the same call again when gc has ended.",
                        kind=OBJECTS_GONE,
                    )
                elif row["state"] == "writing":
                    begun.add(key)
                    again: dict[str, object] = {"created": moment, "store_id": store_id, "version_id": version_id}
                    connection.execute(sa.update(t.objects).where(t.objects.c.key == key).values(**again))
                else:
                    standing[key] = dataclasses.replace(ref, store_id=row["store_id"])
            return Claimed(standing=standing, begun=begun)

        return self.db.write(work, landed=lambda _connection: None)

    def stored(self, version_id: str, store_id: str, sha256: Iterable[str]) -> dict[str, tuple[ObjectRef, bool]]:
        """Chunks in a store by their hash: those that live, True, and those whose bytes were just copied for a version."""
        wanted = list(sha256)

        def work(connection: Connection) -> dict[str, tuple[ObjectRef, bool]]:
            found: dict[str, tuple[ObjectRef, bool]] = {}
            for start in range(0, len(wanted), 500):
                copied = (t.objects.c.state == "writing") & (t.objects.c.version_id == version_id)
                where = t.objects.c.sha256.in_(wanted[start : start + 500]) & ((t.objects.c.state == "live") | copied)
                query = sa.select(t.objects).where(
                    where & (t.objects.c.store_id == store_id) & (t.objects.c.kind == "chunk")
                )
                for row in connection.execute(query.order_by(t.objects.c.state.desc())).mappings():
                    ref = ObjectRef(store_id=store_id, key=row["key"], size=row["size"], sha256=row["sha256"])
                    found[row["sha256"]] = ref, row["state"] == "live"
            return found

        return self.db.read(work)

    def take(
        self,
        version: Version,
        record: Record,
        *,
        store_id: str,
        index: ObjectRef | None,
        objects: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        aliases: Collection[str] = (),
        lineage: Iterable[Version] = (),
    ) -> Version:
        """Takes in a final version with all that is known of it; one that is here already stays as it is.

        A tombstone that only stood for it becomes the version, and so does one of which the bytes are gone for good.

        Args:
            version: As the other catalog has it.
            record: Of the copy.
            store_id: Where its journal goes.
            index: Its manifest, in a store of this catalog.
            objects: Keys that become live with it.
            needs: Keys that are live already.
            aliases: Those that point at it there; one that points elsewhere here is left alone.
            lineage: All that it was made from, by creation: of those that are not here the catalog gets tombstones.

        Raises:
            AlreadyExistsError: Another version has its number here.
            StateError: It was deleted here, and could be brought back.
            ConflictError: An object is gone meanwhile.
        """

        def work(connection: Connection) -> str:
            state = connection.execute(sa.select(t.versions.c.state).where(t.versions.c.id == version.id)).scalar()
            if state is not None and State(state).is_final:
                return version.id
            if state is not None and not _is_purged(connection, version.id):
                raise StateError(
                    f"{version.label} ({version.id}) is {state} in catalog {self.id}",
                    kind=str(state),
                    hint="Bring it back with `dataset-tasks undelete`, or squash it into a version with another id.",
                )
            self._refuse_number(connection, version)
            for other in lineage:
                self._ensure(connection, other, store_id)
            if state is None:
                now = self._put(connection, version, store_id, index)
            else:
                now = self._fill(connection, version, store_id, index)
            self._settle_objects(connection, _content(index, objects, needs), version.id)
            for alias in aliases:
                if alias not in self._aliases(connection, now):
                    self._set_alias(connection, now, alias)
            return version.id

        return self._write(work, record)

    def deleted_here(self, version_ids: Iterable[str]) -> set[str]:
        """Which of some versions stood in this catalog and were deleted; no tombstones that only stand for a version.

        Those were told to be final and to be deleted in one moment.
        """
        v, e, wanted = t.versions.c, t.events.c, list(version_ids)

        def work(connection: Connection) -> set[str]:
            found: set[str] = set()
            for start in range(0, len(wanted), 500):
                stood = (e.version_id == v.id) & (e.kind == "finalized") & (e.created != v.deleted)
                query = sa.select(v.id).join(t.events, stood).where(v.state == State.DELETED)
                found.update(connection.execute(query.where(v.id.in_(wanted[start : start + 500]))).scalars())
            return found

        return self.db.read(work)

    def report_tokens(self, version_ids: Iterable[str]) -> set[tuple[str, str]]:
        """All that was reported about some versions: (version id, token)."""
        wanted = list(version_ids)

        def work(connection: Connection) -> set[tuple[str, str]]:
            found: set[tuple[str, str]] = set()
            for start in range(0, len(wanted), 500):
                where = t.reports.c.version_id.in_(wanted[start : start + 500])
                query = sa.select(t.reports.c.version_id, t.reports.c.token).where(where)
                found.update(connection.execute(query).tuples())
            return found

        return self.db.read(work)

    def take_reports(
        self, version_id: str, told: Mapping[str, Report], *, objects: tuple[str, ...], needs: tuple[str, ...]
    ) -> int:
        """Takes in what was reported about a version elsewhere; gives how much of it was not here.

        Args:
            version_id: A final version; nothing is taken of one that was deleted meanwhile.
            told: By token, as the other catalog has it, with the files where they are in stores of this one.
            objects: Keys of files that become live with it.
            needs: Keys of files that are live already.

        Raises:
            NotFoundError: There is no such version.
            ConflictError: An object is gone meanwhile.
        """

        def here(connection: Connection) -> set[str]:
            query = sa.select(t.reports.c.token).where(t.reports.c.version_id == version_id)
            return set(connection.execute(query).scalars())

        def work(connection: Connection) -> int:
            lock(connection)
            version, known = self._one(connection, version_id), here(connection)
            new = {token: report for token, report in told.items() if token not in known}
            if not new or not version.state.is_final:
                return 0
            numbers = [advance(connection) for _ in new]
            rows = [
                {
                    "version_id": version_id, "sequence": number, "kind": each.kind, "title": each.title,
                    "series": each.series, "iteration": each.iteration, "value": dump(each.value), "token": token,
                    "created": to_micros(each.created),
                }
                for number, (token, each) in zip(numbers, new.items(), strict=True)
            ]  # fmt: skip
            connection.execute(sa.insert(t.reports), rows)
            tell_reports(connection, version, self._now(), since=numbers[0])
            self._settle_objects(connection, _content(None, objects, needs), version_id)
            return len(new)

        return self.db.write(work, landed=lambda connection: len(told) if here(connection) >= told.keys() else None)

    def _refuse_number(self, connection: Connection, version: Version) -> None:
        same = (
            (t.versions.c.project == version.project)
            & (t.versions.c.name == version.name)
            & (t.versions.c.version == version.version)
            & (t.versions.c.id != version.id)
            & t.versions.c.state.not_in((State.ABORTED, State.DELETED))
        )
        taken = connection.execute(sa.select(t.versions.c.id, t.versions.c.state).where(same)).first()
        if taken is not None:
            raise AlreadyExistsError(
                f"catalog {self.id} has another {version.label}: {taken.id} ({taken.state}), not {version.id}",
                hint="Rename one of the two datasets, then copy again.",
            )

    def _aliases(self, connection: Connection, version: Version) -> set[str]:
        here = (t.aliases.c.project == version.project) & (t.aliases.c.name == version.name)
        return set(connection.execute(sa.select(t.aliases.c.alias).where(here)).scalars())

    def _ensure(self, connection: Connection, version: Version, store_id: str) -> None:
        """A tombstone where a version is not copied that others were made from."""
        if connection.execute(sa.select(t.versions.c.id).where(t.versions.c.id == version.id)).first() is None:
            self._put(connection, dataclasses.replace(version, state=State.DELETED), store_id, None)

    def _fill(self, connection: Connection, version: Version, store_id: str, index: ObjectRef | None) -> Version:
        """Makes the tombstone of a version the version itself; files that were reported about it went with it."""
        files = (t.reports.c.version_id == version.id) & t.reports.c.kind.in_(("image", "media"))
        connection.execute(sa.delete(t.reports).where(files))
        values = {"state": version.state, "deleted": None, "purged": False, "store_id": store_id}
        now = self._move(
            connection,
            self._one(connection, version.id),
            State.DELETED,
            {**values, "index_object": dump_object(index), "quarantined": version.quarantined},
        )
        for kind, payload in (
            ("undeleted", {"state": str(version.state)}),
            ("moved", {"index_object": json.loads(dump_object(index) or "null")}),
            ("changed", {"quarantined": version.quarantined}),
        ):
            insert_event(connection, advance(connection), kind, now, self._now(), payload)
        return now

    def _put(self, connection: Connection, version: Version, store_id: str, index: ObjectRef | None) -> Version:
        """Writes the rows and events of a version that is not here."""
        moment, sequence = self._now(), advance(connection)
        values: dict[str, object] = {
            name: getattr(version, name)
            for name in (
                "id", "project", "name", "version", "state", "previous_id", "description", "files", "bytes",
                "new_bytes", "content_hash", "fingerprint", "recipe", "skip_unchanged", "quarantined",
            )
        }  # fmt: skip
        values |= {
            "version_order": versioning.sort_key(version.version),
            "partition": version.partition or "",
            "revision": 0,
            "sequence": sequence,
            "store_id": store_id,
            "index_object": dump_object(index),
            "pending": 0,
            "origin": dump({**version.origin, "copied_from": version.catalog_id}),
            "deleted": moment if version.state is State.DELETED else None,
            "purged": version.state is State.DELETED,
        }
        for name in ("created", "finalized", "published", "window"):
            when = getattr(version, name)
            values[name] = to_micros(when) if when is not None else None
        connection.execute(sa.insert(t.versions).values(**values))
        edges: list[tuple[str, int, str, str, tuple[str, ...]]]
        edges = [("parent", i, ref, "", ()) for i, ref in enumerate(version.parents)]
        edges += [("input", i, each.ref, each.name, each.files) for i, each in enumerate(version.inputs)]
        for kind, position, ref, name, files in edges:
            row = {"kind": kind, "position": position, "parent_id": ref, "name": name, "files": dump(files)}
            connection.execute(sa.insert(t.parents).values(child_id=version.id, **row))
        set_tags(connection, version.id, version.tags)
        set_metadata(connection, version.id, version.metadata)
        now = self._one(connection, version.id)
        self._tell(connection, now, sequence, moment)
        return now

    def _tell(self, connection: Connection, version: Version, sequence: int, moment: int) -> None:
        """The events that a catalog is rebuilt from, as they were there."""
        insert_event(connection, sequence, "finalized", version, moment, snapshot(version))
        later: list[tuple[str, dict[str, JsonValue]]] = []
        if version.published is not None:
            later.append(("published", {"published": to_micros(version.published)}))
        if version.quarantined:
            later.append(("changed", {"quarantined": version.quarantined}))
        if version.state is State.DELETED:
            later.append(("deleted", {"forced": True}))
        for kind, payload in later:
            insert_event(connection, advance(connection), kind, version, moment, payload)


def _content(index: ObjectRef | None, objects: tuple[str, ...], needs: tuple[str, ...]) -> Content:
    """What comes in from another catalog, for `_settle_objects`."""
    return Content(
        index=index, pending=0, pending_object=None, files=0, bytes=0, content_hash="", objects=objects, needs=needs
    )


def _rows(connection: Connection, keys: list[str]) -> Iterable[sa.RowMapping]:
    for start in range(0, len(keys), 500):
        yield from connection.execute(
            sa.select(t.objects).where(t.objects.c.key.in_(keys[start : start + 500]))
        ).mappings()


def _kind(key: str) -> str:
    return {"chunks": "chunk", "packs": "pack", "indexes": "index", "reports": "report"}[key.partition("/")[0]]


def _is_purged(connection: Connection, version_id: str) -> bool:
    """Whether a tombstone is all that there can be of a version here, but one that tells whose it is."""
    v, e = t.versions.c, t.events.c
    told = sa.select(e.sequence).where((e.version_id == v.id) & (e.kind == "finalized")).exists()
    where = (v.id == version_id) & v.purged & (v.state == State.DELETED) & told
    return connection.execute(sa.select(v.id).where(where)).first() is not None
