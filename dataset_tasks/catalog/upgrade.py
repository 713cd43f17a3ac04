"""Brings a catalog of an older schema to that of this code, in one transaction; SQLite files are copied before.

Alembic is imported here and nowhere else, and only when there is something to do.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.errors import CatalogError
from dataset_tasks.failpoints import failpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What an upgrade did: the schema before and after, and where the file as it was before is, of SQLite."""

    before: int
    after: int
    copy: Path | None = None


def upgrade_database(database: Database) -> Upgraded:
    """Runs the migrations that a catalog lacks; of several processes that try at once, one does.

    Killed half-way nothing has changed, and the next call starts again.

    Raises:
        CatalogError: There is no catalog, or a newer one than this code knows.
        CatalogUnavailableError: Others held the tables until the deadline; nothing changed.
    """
    done = Upgraded(before=t.SCHEMA, after=t.SCHEMA)

    def work(connection: Connection) -> Upgraded:
        nonlocal done
        alone(connection)
        before = int(read_meta(connection).get("schema", "0"))
        check_schema(before, database.shown)
        done = Upgraded(before=before, after=t.SCHEMA)
        if before == t.SCHEMA:
            return done
        if database.is_sqlite:
            done = replace(done, copy=_copied(Path(database.url.database or ""), before))
            failpoint("upgrade.after_copy")
        migrate(connection, before)
        connection.execute(sa.update(t.meta).where(t.meta.c.key == "schema").values(value=str(t.SCHEMA)))
        return done

    def landed(connection: Connection) -> Upgraded | None:
        return done if read_meta(connection).get("schema") == str(t.SCHEMA) else None

    return database.write(work, landed=landed)


def migrate(connection: Connection, before: int, after: int = t.SCHEMA) -> None:
    """Runs the scripts of the schemas after `before` up to `after`, in the caller's transaction."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).with_name("migrations")))
    steps = list(scripts.iterate_revisions(str(after), str(before) if before else "base"))
    context = MigrationContext.configure(connection, opts={"target_metadata": t.metadata_obj})
    with Operations.context(context):
        for step in reversed(steps):
            step.module.upgrade()
            failpoint("upgrade.after_step")


def check_schema(found: int, shown: str) -> None:
    """Refuses what no migration leads away from.

    Raises:
        CatalogError: There is no catalog, or a newer one than this code knows.
    """
    if not found:
        raise no_catalog(shown)
    if found > t.SCHEMA:
        raise CatalogError(
            f"the catalog at {shown} has schema {found}, this code knows {t.SCHEMA}",
            hint="Update dataset-tasks on this machine.",
            kind="newer_catalog",
        )


def no_catalog(shown: str) -> CatalogError:
    """The error of there being no catalog where one should be."""
    return CatalogError(
        f"there is no catalog at {shown}",
        hint="Make one with `dataset-tasks catalog init`, or check its URL: --catalog, DATASET_TASKS_CATALOG_URL.",
    )


def read_meta(connection: Connection) -> dict[str, str]:
    """`catalog_id`, `schema` and `created` of a catalog; empty where there is none."""
    if not sa.inspect(connection).has_table("meta"):
        return {}
    return dict(map(tuple, connection.execute(sa.select(t.meta.c.key, t.meta.c.value)).all()))


def alone(connection: Connection) -> None:
    """Until the commit nobody else makes or upgrades this catalog; an SQLite transaction is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7230114)"))
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def _copied(place: Path, schema: int) -> Path:
    """Copies the file as it was last committed, while the caller's transaction keeps others from writing."""
    copy = place.with_name(f"{place.name}.schema-{schema}")
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.rename(copy)
    folder = os.open(copy.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return copy
