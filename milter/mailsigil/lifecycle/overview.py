"""The certificates of the whole organisation, to be looked at: all, one with its history, and in numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, literal_column, or_, select, tuple_

from mailsigil.lifecycle.actions import Held
from mailsigil.lifecycle.database import Database
from mailsigil.lifecycle.rows import READ, held_of
from mailsigil.lifecycle.tables import OVER, Status, certificates, events, materials
from mailsigil.pki.policies import Level

SOON: Final = (7, 30, 90)
"""Days within which certificates are counted that run out."""
MANY: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A certificate, or a request for one."""

    held: Held
    certified: str
    """The level that it says; empty for a request."""
    issuer: str
    created_at: datetime
    changed_at: datetime

    @property
    def level(self) -> str:
        """What it says, or what was asked for."""
        return self.certified or self.held.request.level.value

    def days_left(self, at: datetime) -> int | None:
        """Whole days until it runs out, negative afterwards; None for a request."""
        end = self.held.valid_until
        return None if end is None else (end - at) // timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something that happened, by whose hand, and why."""

    at: datetime
    node: str
    who: str
    address: str
    source: str
    serial: str
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The organisation in numbers."""

    by_level: dict[str, int] = field(default_factory=dict)
    """Of the certificates that sign."""
    by_status: dict[str, int] = field(default_factory=dict)
    running_out: dict[int, int] = field(default_factory=dict)
    """How many of those that sign run out within so many days; each number holds the ones before it."""


class Overview:
    """Reads the lifecycle's database. Raises DatabaseError."""

    def __init__(self, database: Database, *, now: datetime) -> None:
        self._database = database
        self._now = now

    def certificates(
        self,
        *,
        address: str = "",
        statuses: Sequence[Status] = (),
        level: str = "",
        within_days: int | None = None,
        limit: int = 0,
    ) -> Iterator[Known]:
        """Give certificates by address, the newest first; without ``statuses``, those that are not over."""
        query = _query().where(
            certificates.c.status.in_([*statuses]) if statuses else certificates.c.status.not_in(sorted(OVER))
        )
        if address:
            query = query.where(certificates.c.address == address)
        if level:
            query = query.where(_said() == level)
        if within_days is not None:
            end = self._now + timedelta(days=within_days)
            query = query.where(certificates.c.valid_until <= end)
        query = query.order_by(certificates.c.address, certificates.c.source, certificates.c.id.desc())
        yield from self._known(query.limit(limit) if limit else query)

    def found(self, word: str, statuses: Collection[Status] = ()) -> list[Known]:
        """Give the certificates of an address, serial number or key name; ``statuses``: of these alone.

        What signs comes first, then what else is not over, then the rest; each the newest first.
        """
        serial = word.lower().replace(":", "").removeprefix("0x").lstrip("0")
        match = or_(
            certificates.c.address == word.lower(),
            and_(certificates.c.serial == serial, certificates.c.serial != ""),
            and_(certificates.c.key_id == word.lower(), certificates.c.key_id != ""),
        )
        query = _query().where(match)
        if statuses:
            query = query.where(certificates.c.status.in_(sorted(statuses)))
        # A hundred refused requests are newer than what signs, and must not crowd it out.
        rank = case(
            (certificates.c.status == Status.ISSUED, 0),
            (certificates.c.status.not_in(sorted(OVER)), 1),
            else_=2,
        )
        return list(self._known(query.order_by(rank, certificates.c.id.desc()).limit(MANY)))

    def history(self, known: Sequence[Known]) -> list[Happened]:
        """Give what happened to certificates, the oldest first."""
        # SQLite gives the number of a row that was deleted out again: the address says whose event it is.
        seats = [(each.held.id, each.held.address) for each in known]
        query = (
            select(events)
            .where(tuple_(events.c.certificate_id, events.c.address).in_(seats))
            .order_by(events.c.id.desc())
            .limit(MANY * 10)
        )
        with self._database.look() as connection:
            rows = list(connection.execute(query))
        return list(_told_once(_happened(row) for row in reversed(rows)))

    def public(self, known: Known) -> bytes:
        """Give a certificate (DER); empty where none came."""
        query = select(materials.c.certificate).where(materials.c.certificate_id == known.held.id)
        with self._database.look() as connection:
            found: bytes | None = connection.execute(query).scalar_one_or_none()
        return found or b""

    def all_public(self) -> Iterator[tuple[Known, bytes]]:
        """Give all certificates that sign, with their DER."""
        query = (
            _query()
            .add_columns(materials.c.certificate.label("der"))
            .join(materials, materials.c.certificate_id == certificates.c.id)
            .where(certificates.c.status == Status.ISSUED)
            .order_by(certificates.c.address, certificates.c.source)
        )
        for row in self._rows(query):
            yield _made(row), row.der

    def summary(self) -> Summary:
        """Give the organisation in numbers."""
        signing = certificates.c.status == Status.ISSUED
        by_level = select(_said(), func.count()).where(signing).group_by(_said())
        by_status = select(certificates.c.status, func.count()).group_by(certificates.c.status)
        ends = [
            select(func.count())
            .select_from(certificates)
            .where(signing, certificates.c.valid_until <= self._now + timedelta(days=days))
            for days in SOON
        ]
        with self._database.look() as connection:
            levels = {row[0]: row[1] for row in connection.execute(by_level)}
            statuses = {row[0]: row[1] for row in connection.execute(by_status)}
            running = [connection.execute(query).scalar_one() for query in ends]
        return Summary(
            by_level={level.value: levels[level.value] for level in Level if level.value in levels},
            by_status={one.value: statuses[one.value] for one in Status if one.value in statuses},
            running_out=dict(zip(SOON, running, strict=True)),
        )

    def _known(self, query: Select[Any]) -> Iterator[Known]:
        return (_made(row) for row in self._rows(query))

    def _rows(self, query: Select[Any]) -> Iterator[Row[Any]]:
        with self._database.look() as connection:
            yield from connection.execution_options(yield_per=500).execute(query)


def _query() -> Select[Any]:
    more = (certificates.c.certified, certificates.c.issuer, certificates.c.changed_at)
    return select(*READ, *more)


def _said() -> ColumnElement[str]:
    # No parameter: PostgreSQL would take the one of GROUP BY for another.
    return func.coalesce(func.nullif(certificates.c.certified, literal_column("''")), certificates.c.level)


def _made(row: Row[Any]) -> Known:
    return Known(
        held=held_of(row),
        certified=row.certified,
        issuer=row.issuer,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _told_once(history: Iterable[Happened]) -> Iterator[Happened]:
    """A step that fails is written down as the end of its request, and as what became of the step."""
    told: dict[tuple[object, ...], str] = {}
    for event in history:
        # The request has another number than the certificate that it was to replace.
        key = (event.at, event.node, event.who, event.address, event.source, event.what)
        first = told.setdefault(key, event.why)
        if not event.why.endswith(f": {first}"):
            yield event


def _happened(row: Row[Any]) -> Happened:
    return Happened(
        at=row.at,
        node=row.node,
        who=row.who,
        address=row.address,
        source=row.source,
        serial=row.serial,
        what=row.what,
        why=row.why,
    )
