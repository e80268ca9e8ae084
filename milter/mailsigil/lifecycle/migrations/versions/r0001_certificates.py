"""Certificates, who is at work on them, where their keys lie, what happened to them, and each run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPEN = sa.text("status NOT IN ('revoked', 'expired', 'withdrawn', 'failed')")


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _time() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "certificate",
        sa.Column("id", _number(), primary_key=True),
        sa.Column("source", _key(64), nullable=False),
        sa.Column("address", _key(320), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("level", sa.String(2), nullable=False),
        sa.Column("given_name", sa.String(200), nullable=False, server_default=""),
        sa.Column("surname", sa.String(200), nullable=False, server_default=""),
        sa.Column("organisation", sa.String(200), nullable=False, server_default=""),
        sa.Column("title", sa.String(200), nullable=False, server_default=""),
        sa.Column("certified", sa.String(2), nullable=False, server_default=""),
        sa.Column("serial", _key(64), nullable=False, server_default=""),
        sa.Column("issuer", sa.Text(), nullable=False, server_default=""),
        sa.Column("key_id", _key(32), nullable=False, server_default=""),
        sa.Column("valid_from", _time()),
        sa.Column("valid_until", _time()),
        sa.Column("node", _key(64), nullable=False),
        sa.Column("replaces", _number()),
        sa.Column("revoke_at", _time()),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("changed_at", _time(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_certificate"),
    )
    op.create_index("ix_certificate_source_address", "certificate", ["source", "address", "id"])
    op.create_index("ix_certificate_key_id", "certificate", ["key_id"])
    op.create_index("ix_certificate_serial", "certificate", ["serial"])
    op.create_index(
        "ix_certificate_open",
        "certificate",
        ["address", "source", "id"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    for status in ("requested", "issued"):
        where = sa.text(f"status = '{status}'")
        op.create_index(
            f"uq_certificate_{status}",
            "certificate",
            ["source", "address"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "material",
        sa.Column("certificate_id", _number(), autoincrement=False, nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("certificate_id", name="pk_material"),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificate.id"], name="fk_material_certificate_id"),
    )
    op.create_table(
        "claim",
        sa.Column("source", _key(64), nullable=False),
        sa.Column("address", _key(320), nullable=False),
        sa.Column("holder", _key(128), nullable=False),
        sa.Column("until", _time(), nullable=False),
        sa.PrimaryKeyConstraint("source", "address", name="pk_claim"),
    )
    op.create_table(
        "copy",
        sa.Column("node", _key(64), nullable=False),
        sa.Column("source", _key(64), nullable=False),
        sa.Column("address", _key(320), nullable=False),
        sa.Column("key_id", _key(32), nullable=False),
        sa.Column("mark", _key(100), nullable=False),
        sa.PrimaryKeyConstraint("node", "source", "address", name="pk_copy"),
    )
    op.create_table(
        "event",
        sa.Column("id", _number(), primary_key=True),
        sa.Column("at", _time(), nullable=False),
        sa.Column("node", _key(64), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("source", _key(64), nullable=False),
        sa.Column("address", _key(320), nullable=False),
        sa.Column("certificate_id", _number()),
        sa.Column("serial", _key(64), nullable=False, server_default=""),
        sa.Column("what", sa.String(24), nullable=False),
        sa.Column("why", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_address", "event", ["address", "id"])
    op.create_index("ix_event_at", "event", ["at"])
    op.create_table(
        "run",
        sa.Column("id", _number(), primary_key=True),
        sa.Column("node", _key(64), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("started_at", _time(), nullable=False),
        sa.Column("finished_at", _time()),
        sa.Column("outcome", sa.String(16), nullable=False, server_default=""),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_index("ix_run_started_at", "run", ["started_at"])
