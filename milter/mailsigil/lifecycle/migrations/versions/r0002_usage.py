"""Counts of signatures, and which batches of them were added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _key(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "usage",
        sa.Column("month", _key(7), nullable=False),
        sa.Column("address", _key(320), nullable=False),
        sa.Column("key_id", _key(32), nullable=False),
        sa.Column("serial", _key(64), nullable=False),
        sa.Column("level", sa.String(2), nullable=False),
        sa.Column("signatures", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("month", "address", "key_id", name="pk_usage"),
    )
    op.create_table(
        "usage_batch",
        sa.Column("id", _key(64), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage_batch"),
    )
