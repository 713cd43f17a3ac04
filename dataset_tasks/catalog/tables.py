"""The catalog's tables as they are now; `docs/format.md` says what each column holds.

A change here is a migration too: raise `SCHEMA`, add a script to `migrations/versions`, a table row to the page.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.engine import Connection

SCHEMA = 2

metadata_obj = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

meta = Table(
    "meta",
    metadata_obj,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

counters = Table(
    "counters",
    metadata_obj,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

stores = Table(
    "stores",
    metadata_obj,
    Column("id", String(32), primary_key=True),
    Column("url", Text, nullable=False, unique=True),
    Column("created", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata_obj,
    Column("id", String(32), primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("version_order", Text, nullable=False, server_default=""),
    Column("partition", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False, unique=True),
    Column("created", BigInteger, nullable=False),
    Column("finalized", BigInteger),
    Column("published", BigInteger),
    Column("previous_id", String(32)),
    Column("description", Text, nullable=False, server_default=""),
    Column("store_id", String(32), ForeignKey("stores.id"), nullable=False),
    Column("index_object", Text),
    Column("pending", BigInteger, nullable=False, server_default="0"),
    Column("pending_object", Text),
    Column("files", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("new_bytes", BigInteger, nullable=False, server_default="0"),
    Column("content_hash", String(64), nullable=False, server_default=""),
    Column("fingerprint", String(64), nullable=False, server_default=""),
    Column("recipe", Text, nullable=False, server_default=""),
    Column("skip_unchanged", Boolean, nullable=False, server_default=text("false")),
    Column("quarantined", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default="{}"),
    Column("window", BigInteger),
    Column("deleted", BigInteger),
    Column("purged", Boolean, nullable=False, server_default=text("false")),
)

_LIVE = text("state NOT IN ('aborted', 'deleted')")
Index(
    "uq_versions_number",
    versions.c.project,
    versions.c.name,
    versions.c.version,
    versions.c.partition,
    unique=True,
    sqlite_where=_LIVE,
)
Index("ix_versions_dataset", versions.c.project, versions.c.name, versions.c.version_order, versions.c.sequence)

parents = Table(
    "parents",
    metadata_obj,
    Column("child_id", String(32), ForeignKey("versions.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent_id", String(32), ForeignKey("versions.id"), nullable=False, index=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("files", Text, nullable=False, server_default="[]"),
)

objects = Table(
    "objects",
    metadata_obj,
    Column("key", String(96), primary_key=True),
    Column("store_id", String(32), ForeignKey("stores.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("sha256", String(64), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("version_id", String(32), nullable=False, index=True),
    Column("delta", String(96)),
    Column("created", BigInteger, nullable=False),
    Column("condemned", BigInteger),
)

tags = Table(
    "tags",
    metadata_obj,
    Column("version_id", String(32), ForeignKey("versions.id"), primary_key=True),
    Column("tag", Text, primary_key=True),
)

metadata = Table(
    "metadata",
    metadata_obj,
    Column("version_id", String(32), ForeignKey("versions.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

aliases = Table(
    "aliases",
    metadata_obj,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version_id", String(32), ForeignKey("versions.id"), nullable=False),
    Column("created", BigInteger, nullable=False),
)
Index("ix_aliases_name", aliases.c.project, aliases.c.name, aliases.c.alias, aliases.c.sequence)

operations = Table(
    "operations",
    metadata_obj,
    Column("key", String(512), primary_key=True),
    Column("verb", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("token", String(32), nullable=False),
    Column("version_id", String(32), nullable=False, index=True),
    Column("result", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata_obj,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("version_id", String(32), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Column("store_id", String(32), nullable=False),
    Column("journaled", Boolean, nullable=False, server_default=text("false")),
)
_WAITING = text("NOT journaled")
Index("ix_events_waiting", events.c.sequence, sqlite_where=_WAITING)

reports = Table(
    "reports",
    metadata_obj,
    Column("version_id", String(32), ForeignKey("versions.id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("series", Text, nullable=False, server_default=""),
    Column("iteration", BigInteger),
    Column("value", Text, nullable=False),
    Column("token", String(32), nullable=False),
    Column("created", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata_obj,
    Column("version_id", String(32), ForeignKey("versions.id"), primary_key=True),
    Column("holder", String(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("origin", Text, nullable=False, server_default="{}"),
    Column("acquired", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

approvals = Table(
    "approvals",
    metadata_obj,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("version_id", String(32), ForeignKey("versions.id"), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("requested", BigInteger, nullable=False),
    Column("by", Text, nullable=False, server_default="[]"),
    Column("otherwise", String(16), nullable=False),
    Column("deadline", BigInteger),
    Column("alias", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default="{}"),
    Column("answered", BigInteger),
    Column("who", Text, nullable=False, server_default=""),
    Column("note", Text, nullable=False, server_default=""),
)

retention = Table(
    "retention",
    metadata_obj,
    Column("project", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("last", BigInteger),
    Column("published", BigInteger),
    Column("seconds", BigInteger),
    Column("updated", BigInteger, nullable=False),
)

reads = Table(
    "reads",
    metadata_obj,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("version_id", String(32), ForeignKey("versions.id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("origin", Text, nullable=False, server_default="{}"),
)


@event.listens_for(metadata_obj, "before_create")
def _also_on_postgresql(_tables: MetaData, connection: Connection, **_: object) -> None:
    """Has PostgreSQL index the rows that SQLite does. Said in the tables themselves, every start would load its dialect."""
    if connection.dialect.name == "postgresql":
        for index in (index for table in metadata_obj.tables.values() for index in table.indexes):
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
