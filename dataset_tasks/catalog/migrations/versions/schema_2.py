"""Leases, approvals, retention, reads; when versions and objects went; windows of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds four tables and four columns."""
    op.add_column("versions", sa.Column("window", sa.BigInteger))
    op.add_column("versions", sa.Column("deleted", sa.BigInteger))
    op.add_column("versions", sa.Column("purged", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.add_column("objects", sa.Column("condemned", sa.BigInteger))
    op.create_table(
        "leases",
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.Text, nullable=False, server_default="{}"),
        sa.Column("acquired", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), nullable=False, index=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False, server_default="[]"),
        sa.Column("otherwise", sa.String(16), nullable=False),
        sa.Column("deadline", sa.BigInteger),
        sa.Column("alias", sa.Text, nullable=False, server_default=""),
        sa.Column("origin", sa.Text, nullable=False, server_default="{}"),
        sa.Column("answered", sa.BigInteger),
        sa.Column("who", sa.Text, nullable=False, server_default=""),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "retention",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("last", sa.BigInteger),
        sa.Column("published", sa.BigInteger),
        sa.Column("seconds", sa.BigInteger),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reads",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id"), nullable=False, index=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.Text, nullable=False, server_default="{}"),
    )
    _tell_when_versions_went()


def _tell_when_versions_went() -> None:
    """Tombstones get the moment of their event: what gc counts its grace from."""
    op.execute(
        "UPDATE versions SET deleted = (SELECT MAX(events.created) FROM events "
        "WHERE events.version_id = versions.id AND events.kind = 'deleted') WHERE state = 'deleted'"
    )
