"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("state NOT IN ('aborted', 'deleted')")
_WAITING = sa.text("NOT journaled")


def upgrade() -> None:
    """Makes the tables in an empty database."""
    _make_roots()
    _make_versions()
    _make_contents()
    _make_labels()
    _make_records()


def _make_roots() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "stores",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("url", sa.Text, nullable=False, unique=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _make_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("version_order", sa.Text, nullable=False, server_default=""),
        sa.Column("partition", sa.Text, nullable=False, server_default=""),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False, unique=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("finalized", sa.BigInteger),
        sa.Column("published", sa.BigInteger),
        sa.Column("previous_id", sa.String(32)),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("store_id", sa.String(32), sa.ForeignKey("stores.id"), nullable=False),
        sa.Column("index_object", sa.Text),
        sa.Column("pending", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("pending_object", sa.Text),
        sa.Column("files", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("new_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("content_hash", sa.String(64), nullable=False, server_default=""),
        sa.Column("fingerprint", sa.String(64), nullable=False, server_default=""),
        sa.Column("recipe", sa.Text, nullable=False, server_default=""),
        sa.Column("skip_unchanged", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("quarantined", sa.Text, nullable=False, server_default=""),
        sa.Column("origin", sa.Text, nullable=False, server_default="{}"),
    )
    op.create_index(
        "uq_versions_number",
        "versions",
        ["project", "name", "version", "partition"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_index("ix_versions_dataset", "versions", ["project", "name", "version_order", "sequence"])


def _make_contents() -> None:
    op.create_table(
        "parents",
        sa.Column("child_id", sa.String(32), sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.String(32), sa.ForeignKey("versions.id"), nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("files", sa.Text, nullable=False, server_default="[]"),
    )
    op.create_table(
        "objects",
        sa.Column("key", sa.String(96), primary_key=True),
        sa.Column("store_id", sa.String(32), sa.ForeignKey("stores.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version_id", sa.String(32), nullable=False, index=True),
        sa.Column("delta", sa.String(96)),
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _make_labels() -> None:
    op.create_table(
        "tags",
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
    )
    op.create_table(
        "metadata",
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "aliases",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_aliases_name", "aliases", ["project", "name", "alias", "sequence"])


def _make_records() -> None:
    op.create_table(
        "operations",
        sa.Column("key", sa.String(512), primary_key=True),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("version_id", sa.String(32), nullable=False, index=True),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version_id", sa.String(32), nullable=False, index=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("store_id", sa.String(32), nullable=False),
        sa.Column("journaled", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_index("ix_events_waiting", "events", ["sequence"], sqlite_where=_WAITING, postgresql_where=_WAITING)
    op.create_table(
        "reports",
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("series", sa.Text, nullable=False, server_default=""),
        sa.Column("iteration", sa.BigInteger),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
