"""The tables of the database. ``migrations/`` makes them; a test holds that both agree.

Times are kept in UTC. Addresses are in key form and sorted by their octets, on every kind of database, so
that they can be compared with the directory's in one pass.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Status(StrEnum):
    """Where a certificate is in its life."""

    REQUESTED = "requested"
    """It is about to be asked for, or the authority has not decided yet, or the answer was lost."""
    ISSUED = "issued"
    """It is the one that signs."""
    SUPERSEDED = "superseded"
    """Another has taken its place; it is good until it is revoked or runs out."""
    HELD = "held"
    """It is suspended, and may come back."""
    REVOKED = "revoked"
    """For good."""
    EXPIRED = "expired"
    """It ran out."""
    WITHDRAWN = "withdrawn"
    """Its key is gone from here, and its authority knows no revocation: it is good until it runs out."""
    FAILED = "failed"
    """The authority gave none."""


UNANSWERED: Final = "unanswered"
"""The word of an event: a request was made, and its answer never came."""
OVER: Final = frozenset({Status.REVOKED, Status.EXPIRED, Status.WITHDRAWN, Status.FAILED})


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give what is stored."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("a time without its zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give what was stored."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def key_text(length: int) -> Any:
    """Text that is compared octet by octet."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


_NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")
_OPEN: Final = text("status NOT IN ('revoked', 'expired', 'withdrawn', 'failed')")

certificates: Final = Table(
    "certificate",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("source", key_text(64), nullable=False),
    Column("address", key_text(320), nullable=False),
    Column("status", String(16), nullable=False),
    Column("level", String(2), nullable=False),
    Column("given_name", String(200), nullable=False, server_default=""),
    Column("surname", String(200), nullable=False, server_default=""),
    Column("organisation", String(200), nullable=False, server_default=""),
    Column("title", String(200), nullable=False, server_default=""),
    # What the authority said; empty before that. It may certify less, or more, than was asked for.
    Column("certified", String(2), nullable=False, server_default=""),
    Column("serial", key_text(64), nullable=False, server_default=""),
    Column("issuer", Text, nullable=False, server_default=""),
    Column("key_id", key_text(32), nullable=False, server_default=""),
    Column("valid_from", UtcTime),
    Column("valid_until", UtcTime),
    # Which mail server asked for it, and holds the key where keys are not shared.
    Column("node", key_text(64), nullable=False),
    Column("replaces", _NUMBER),
    # A superseded certificate is revoked then; empty: it runs out by itself.
    Column("revoke_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    # What a person wants the authority to be told of it (RFC 5280 5.3.1); empty: what follows by itself.
    Column("told", String(32), nullable=False, server_default=""),
    Index("ix_certificate_source_address", "source", "address", "id"),
    Index("ix_certificate_key_id", "key_id"),
    Index("ix_certificate_serial", "serial"),
    # The comparison with the directory reads these alone, in this order.
    Index("ix_certificate_open", "address", "source", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    # Two requests for one employee, or two certificates that sign: the database itself refuses them.
    Index(
        "uq_certificate_requested",
        "source",
        "address",
        unique=True,
        sqlite_where=text("status = 'requested'"),
        postgresql_where=text("status = 'requested'"),
    ),
    Index(
        "uq_certificate_issued",
        "source",
        "address",
        unique=True,
        sqlite_where=text("status = 'issued'"),
        postgresql_where=text("status = 'issued'"),
    ),
)
"""Every certificate that was asked for, and what became of it."""

materials: Final = Table(
    "material",
    metadata,
    Column("certificate_id", _NUMBER, ForeignKey("certificate.id"), primary_key=True, autoincrement=False),
    Column("certificate", LargeBinary, nullable=False),  # DER
    # Key and chain, encrypted for the other mail servers; see sealing.py.
    Column("sealed", LargeBinary),
)
"""The certificates themselves, apart, so that the comparison does not read them."""

claims: Final = Table(
    "claim",
    metadata,
    Column("source", key_text(64), nullable=False),
    Column("address", key_text(320), nullable=False),
    # One run of one process: a number that nobody else draws.
    Column("holder", key_text(128), nullable=False),
    Column("until", UtcTime, nullable=False),
    PrimaryKeyConstraint("source", "address"),
)
"""Who is at work on an employee's certificates now. A claim that ran out belonged to a node that died."""

copies: Final = Table(
    "copy",
    metadata,
    Column("node", key_text(64), nullable=False),
    Column("source", key_text(64), nullable=False),
    Column("address", key_text(320), nullable=False),
    Column("key_id", key_text(32), nullable=False),
    # By what a change of the file shows, without opening it.
    Column("mark", key_text(100), nullable=False),
    PrimaryKeyConstraint("node", "source", "address"),
)
"""Which key file lies in which mail server's state folder."""

events: Final = Table(
    "event",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("node", key_text(64), nullable=False),
    Column("who", String(100), nullable=False),
    Column("source", key_text(64), nullable=False),
    Column("address", key_text(320), nullable=False),
    Column("certificate_id", _NUMBER),
    Column("serial", key_text(64), nullable=False, server_default=""),
    Column("what", String(24), nullable=False),
    Column("why", Text, nullable=False, server_default=""),
    Index("ix_event_address", "address", "id"),
    Index("ix_event_at", "at"),
)
"""What happened to whom, when, why, and by whose hand. Only ever added to."""

usages: Final = Table(
    "usage",
    metadata,
    Column("month", key_text(7), nullable=False),
    Column("address", key_text(320), nullable=False),
    Column("key_id", key_text(32), nullable=False),
    Column("serial", key_text(64), nullable=False),
    Column("level", String(2), nullable=False),
    Column("signatures", BigInteger, nullable=False),
    PrimaryKeyConstraint("month", "address", "key_id"),
)
"""Signatures of each sender in each month (UTC), by certificate."""

usage_batches: Final = Table(
    "usage_batch",
    metadata,
    Column("id", key_text(64), primary_key=True),
    Column("added_at", UtcTime, nullable=False),
)
"""Which batches of counts were added, so that one that comes again counts once."""

runs: Final = Table(
    "run",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("node", key_text(64), nullable=False),
    Column("who", String(100), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("outcome", String(16), nullable=False, server_default=""),
    Column("counts", JSON, nullable=False),
    Index("ix_run_started_at", "started_at"),
)
"""Each run, for the clock's sake and for whoever looks after it."""
