"""Between rows and values: the only place that knows how a version is spelled in the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from dataset_tasks.catalog import tables as t
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import RESERVED_ALIASES, Input, JsonValue, ObjectRef, Report, State, Version

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 500
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)


def _beside() -> sa.CompoundSelect[Any]:  # Any: columns
    """What hangs on versions, in one query: `kind` is `parent`, `input`, `tag` or `metadata`."""
    p, g, m = t.parents.c, t.tags.c, t.metadata.c
    none: sa.ColumnElement[Any] = sa.literal_column("''")
    zero: sa.ColumnElement[Any] = sa.literal_column("0")
    columns: tuple[tuple[sa.ColumnElement[Any], ...], ...] = (
        (p.child_id, p.kind, p.position, p.parent_id, p.name, p.files),
        (g.version_id, sa.literal_column("'tag'"), zero, g.tag, none, none),
        (m.version_id, sa.literal_column("'metadata'"), zero, m.name, none, m.value),
    )
    names = ("version_id", "kind", "position", "ref", "name", "value")
    return sa.union_all(
        *(
            sa.select(*(column.label(name) for column, name in zip(each, names, strict=True))).where(each[0].in_(_IDS))
            for each in columns
        )
    )


_BESIDE = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a version, in commit order."""

    sequence: int
    kind: str
    version_id: str
    created: datetime
    payload: Mapping[str, JsonValue] = field(default_factory=dict)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC.

    Raises:
        InvalidArgumentError: It is no moment, or says nothing of its time zone.
    """
    if getattr(moment, "tzinfo", None) is None:
        raise InvalidArgumentError(
            f"{moment!r} is no moment in time", hint="Give a datetime with its zone, such as `datetime.now(UTC)`."
        )
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The UTC moment of `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def to_report(row: RowMapping) -> Report:
    """What was reported about a version."""
    return Report(
        sequence=row["sequence"],
        kind=row["kind"],
        title=row["title"],
        series=row["series"],
        iteration=row["iteration"],
        value=json.loads(row["value"]),
        created=from_micros(row["created"]),
    )


def dump(value: object) -> str:
    """Canonical JSON text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checked_text(value: str, what: str) -> str:
    """The text, when every catalog can hold it.

    Raises:
        InvalidArgumentError: It is no text, or holds a NUL byte or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} {value!r} is no text", hint="Give a str.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} {value!r} is not valid Unicode", hint="Write it in UTF-8.") from error
    if "\0" in value:
        raise InvalidArgumentError(f"{what} {value!r} holds a NUL byte", hint="Take it out.")
    return value


def checked_alias(alias: str) -> str:
    """The alias, when a reference can name it.

    Raises:
        InvalidArgumentError: It is empty, has a meaning of its own, or no catalog can hold it.
    """
    if not alias or alias in RESERVED_ALIASES:
        raise InvalidArgumentError(f"{alias!r} can't be an alias", hint="Take another name, such as prod.")
    return checked_text(alias, "alias")


def dump_object(ref: ObjectRef | None) -> str | None:
    """An object reference as the JSON text of a column."""
    if ref is None:
        return None
    return dump({"store_id": ref.store_id, "key": ref.key, "size": ref.size, "sha256": ref.sha256})


def load_object(text: str | None) -> ObjectRef | None:
    """The inverse of `dump_object`."""
    return ObjectRef(**json.loads(text)) if text else None


def load_versions(connection: Connection, rows: Sequence[RowMapping], catalog_id: str) -> list[Version]:
    """The versions of rows of the table, in their order, with parents, tags and metadata."""
    ids = [row["id"] for row in rows]
    edges: dict[str, list[RowMapping]] = {}
    tags: dict[str, list[str]] = {}
    notes: dict[str, dict[str, JsonValue]] = {}
    for some in _batches(ids):
        for row in connection.execute(_BESIDE, {"ids": some}).mappings():
            if row["kind"] == "tag":
                tags.setdefault(row["version_id"], []).append(row["ref"])
            elif row["kind"] == "metadata":
                notes.setdefault(row["version_id"], {})[row["ref"]] = json.loads(row["value"])
            else:
                edges.setdefault(row["version_id"], []).append(row)
    return [
        _version(
            row,
            sorted(edges.get(row["id"], []), key=lambda edge: int(edge["position"])),
            sorted(tags.get(row["id"], [])),
            notes.get(row["id"], {}),
            catalog_id,
        )
        for row in rows
    ]


def _version(
    row: RowMapping, edges: list[RowMapping], tags: list[str], notes: dict[str, JsonValue], catalog_id: str
) -> Version:
    return Version(
        id=row["id"],
        catalog_id=catalog_id,
        project=row["project"],
        name=row["name"],
        version=row["version"],
        state=State(row["state"]),
        revision=row["revision"],
        created=from_micros(row["created"]),
        sequence=row["sequence"],
        parents=tuple(e["ref"] for e in edges if e["kind"] == "parent"),
        inputs=tuple(
            Input(name=e["name"], ref=e["ref"], files=tuple(json.loads(e["value"])))
            for e in edges
            if e["kind"] == "input"
        ),
        previous_id=row["previous_id"],
        partition=row["partition"] or None,
        tags=tuple(tags),
        description=row["description"],
        metadata=notes,
        store_id=row["store_id"],
        index=load_object(row["index_object"]),
        pending=row["pending"],
        pending_object=load_object(row["pending_object"]),
        files=row["files"],
        bytes=row["bytes"],
        new_bytes=row["new_bytes"],
        content_hash=row["content_hash"],
        fingerprint=row["fingerprint"],
        recipe=row["recipe"],
        skip_unchanged=bool(row["skip_unchanged"]),
        quarantined=row["quarantined"],
        origin=json.loads(row["origin"]),
        finalized=from_micros(row["finalized"]) if row["finalized"] is not None else None,
        published=from_micros(row["published"]) if row["published"] is not None else None,
        window=from_micros(row["window"]) if row["window"] is not None else None,
    )


def snapshot(version: Version) -> dict[str, Any]:  # Any: JSON
    """A whole version as JSON: the payload of its `finalized` event, from which a catalog is rebuilt."""
    return {
        "id": version.id,
        "project": version.project,
        "name": version.name,
        "version": version.version,
        "partition": version.partition or "",
        "created": to_micros(version.created),
        "sequence": version.sequence,
        "finalized": to_micros(version.finalized) if version.finalized else None,
        "parents": list(version.parents),
        "inputs": [{"name": i.name, "ref": i.ref, "files": list(i.files)} for i in version.inputs],
        "previous_id": version.previous_id,
        "tags": list(version.tags),
        "description": version.description,
        "metadata": dict(version.metadata),
        "store_id": version.store_id,
        "index_object": json.loads(dump_object(version.index) or "null"),
        "files": version.files,
        "bytes": version.bytes,
        "new_bytes": version.new_bytes,
        "content_hash": version.content_hash,
        "fingerprint": version.fingerprint,
        "recipe": version.recipe,
        "skip_unchanged": version.skip_unchanged,
        "origin": dict(version.origin),
        "window": to_micros(version.window) if version.window else None,
    }


def _batches(items: list[str]) -> Iterable[list[str]]:
    return (items[i : i + _BATCH] for i in range(0, len(items), _BATCH))
