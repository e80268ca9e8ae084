"""What is known of all certificates, in the database: read in one stream, changed in small transactions.

Whoever works on a seat (an address at a source) holds its claim, so that two mail servers never do the same.
A claim that ran out belonged to a process that died; what it left open is brought to an end by the next one.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from mailsigil.lifecycle.actions import Held, Seat
from mailsigil.lifecycle.database import Database
from mailsigil.lifecycle.records import Changes, Copy, Records
from mailsigil.lifecycle.rows import READ, held_of, public_key_in
from mailsigil.lifecycle.tables import (
    OVER,
    UNANSWERED,
    Status,
    certificates,
    claims,
    copies,
    events,
    materials,
    runs,
)

CHUNK = 500
"""Rows or values of one statement."""
CALLED_OFF = "called off"
"""How the reason of a request begins that was not wanted any more: nobody refused it."""
TAKEN = "taken away"
"""The word among a run's counts for people who lost a certificate unasked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an authority has refused, again and again."""

    held: Held
    """The last request."""
    times: int
    at: datetime
    """When it was refused for the last time."""

    @property
    def again_at(self) -> datetime:
        """When nobody who waits asks before: an hour after the second refusal, then longer, up to a day."""
        hours = 2.0 ** min(self.times - 2, 10) if self.times > 1 else 0.0
        return self.at + min(timedelta(hours=hours), timedelta(days=1))

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"it was refused {self.times} times, and is asked for again after {self.again_at:%Y-%m-%d %H:%M}"
            f" UTC, or by `mailsigil sync`; the last time: {self.held.reason}"
        )


class Ledger:
    """The database, as one process of one mail server uses it. ``who`` is by whose hand things happen.

    ``prefix`` names a line of processes of which one is at work at a time: what an earlier one of them had
    claimed when it died, the next one takes over at once.
    """

    def __init__(self, database: Database, *, node: str, who: str, prefix: str = "") -> None:
        self.database = database
        self.node = node
        self.who = who[:100]
        self.records = Records(node=node, who=who)
        self.holder = f"{prefix or node[:64]}/{secrets.token_hex(12)}"
        self._prefix = prefix

    # Reading

    def open_certificates(self, sources: Collection[str], *, address: str = "") -> Iterator[dict[str, Any]]:
        """Give all certificates that something may still happen to, by address and source, as columns.

        ``is_shared`` tells whether the database has the key. With ``address``, those of one person alone.
        """
        query = (
            select(*READ, materials.c.sealed.is_not(None).label("is_shared"))
            .outerjoin(materials, materials.c.certificate_id == certificates.c.id)
            .where(certificates.c.status.not_in(sorted(OVER)), certificates.c.source.in_(sorted(sources)))
            .order_by(certificates.c.address, certificates.c.source, certificates.c.id)
        )
        if address:
            query = query.where(certificates.c.address == address)
        with self.database.look() as connection:
            result = connection.execution_options(yield_per=1000).execute(query)
            for row in result.mappings():
                yield dict(row)

    def copies(self) -> dict[Seat, Copy]:
        """Give the key files of this machine, as they were when they were written."""
        query = select(copies.c.address, copies.c.source, copies.c.key_id, copies.c.mark)
        with self.database.look() as connection:
            rows = connection.execute(query.where(copies.c.node == self.node))
            return {(row.address, row.source): Copy(row.key_id, row.mark) for row in rows}

    def by_key_id(self, key_ids: Iterable[str]) -> dict[str, Held]:
        """Give what is known of certificates, also of those that are over."""
        found = {}
        wanted = sorted(set(key_ids))
        with self.database.look() as connection:
            for start in range(0, len(wanted), CHUNK):
                part = wanted[start : start + CHUNK]
                for row in connection.execute(select(*READ).where(certificates.c.key_id.in_(part))):
                    found[row.key_id] = held_of(row)
        return found

    def other_sources(self, sources: Collection[str]) -> dict[str, int]:
        """Give the names of sources that the settings do not know, and how many certificates they gave."""
        query = (
            select(certificates.c.source, func.count())
            .where(certificates.c.status == Status.ISSUED, certificates.c.source.not_in(sorted(sources)))
            .group_by(certificates.c.source)
        )
        with self.database.look() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def material(self, certificate_id: int) -> tuple[bytes, bytes | None]:
        """Give a certificate (DER) and its key, encrypted, where the database has it."""
        query = select(materials.c.certificate, materials.c.sealed)
        with self.database.look() as connection:
            row = connection.execute(query.where(materials.c.certificate_id == certificate_id)).one_or_none()
            return (row.certificate, row.sealed) if row is not None else (b"", None)

    def is_in_doubt(self, asked: Held) -> bool:
        """Tell whether a request was made whose answer nobody knows."""
        query = (
            select(events.c.what)
            .where(events.c.address == asked.address, events.c.certificate_id == asked.id)
            .order_by(events.c.id)
        )
        with self.database.look() as connection:
            told = list(connection.execute(query).scalars())
        # With nothing after the request, who made it died over it.
        return UNANSWERED in told or told[-1:] == [Status.REQUESTED]

    def revoked_keys(self, source: str, address: str) -> frozenset[bytes]:
        """Give the public keys (DER) of the latest revoked certificates of a seat."""
        query = (
            select(materials.c.certificate)
            .join(certificates, materials.c.certificate_id == certificates.c.id)
            .where(
                certificates.c.source == source,
                certificates.c.address == address,
                certificates.c.status.in_([Status.REVOKED, Status.WITHDRAWN]) | (certificates.c.told != ""),
            )
            .order_by(certificates.c.id.desc())
            .limit(CHUNK)
        )
        with self.database.look() as connection:
            return frozenset(map(public_key_in, connection.execute(query).scalars()))

    # Claims

    def claim(
        self, connection: Connection, seats: Sequence[Seat], *, now: datetime, lease: timedelta
    ) -> dict[Seat, list[Held]]:
        """Take the seats that nobody else works on; give each with its certificates as they are now."""
        make = postgresql_insert if self.database.is_shared else sqlite_insert
        # Leases of several mail servers are held against one clock, whatever their own say.
        now = self.database.clock() or now
        rows = [
            {"address": address, "source": source, "holder": self.holder, "until": now + lease}
            for address, source in sorted(seats)
        ]
        statement = make(claims).values(rows)
        taken = statement.on_conflict_do_update(
            index_elements=[claims.c.source, claims.c.address],
            set_={"holder": statement.excluded.holder, "until": statement.excluded.until},
            where=(claims.c.until < now) | self._ours(),
        ).returning(claims.c.address, claims.c.source)
        mine: dict[Seat, list[Held]] = {(row.address, row.source): [] for row in connection.execute(taken)}
        if not mine:
            return mine
        query = (
            select(*READ)
            .where(
                tuple_(certificates.c.address, certificates.c.source).in_(list(mine)),
                certificates.c.status.not_in(sorted(OVER)),
            )
            .order_by(certificates.c.id)
        )
        for row in connection.execute(query):
            mine[row.address, row.source].append(held_of(row))
        return mine

    def holders(self, connection: Connection, seats: Sequence[Seat]) -> dict[Seat, tuple[str, datetime]]:
        """Give which mail server works on seats, and until when it does at most."""
        if not seats:
            return {}
        query = select(claims).where(tuple_(claims.c.address, claims.c.source).in_(list(seats)))
        return {
            (row.address, row.source): (row.holder.partition("/")[0], row.until)
            for row in connection.execute(query)
        }

    def _ours(self) -> ColumnElement[bool]:
        if not self._prefix:
            return claims.c.holder == self.holder
        return claims.c.holder.startswith(f"{self._prefix}/", autoescape=True)

    def give_back(self, connection: Connection, seats: Sequence[Seat]) -> None:
        """Give up claims."""
        if seats:
            statement = delete(claims).where(
                claims.c.address == bindparam("its_address"),
                claims.c.source == bindparam("its_source"),
                claims.c.holder == literal(self.holder),
            )
            connection.execute(
                statement, [{"its_address": address, "its_source": source} for address, source in seats]
            )

    def write(self, changes: Changes, *, now: datetime) -> None:
        """Write down what was done, and give back the claims, in one transaction."""
        with self.database.change() as connection:
            self.records.write(connection, changes, now=now)
            self.give_back(connection, changes.seats)

    def refusals(self, sources: Collection[str], *, address: str = "") -> dict[Seat, Refusal]:
        """Give the seats whose last requests were all refused, with how often, and for what."""
        later = certificates.alias()
        query = (
            select(*READ, certificates.c.changed_at)
            .where(
                certificates.c.status == Status.FAILED,
                certificates.c.source.in_(sorted(sources)),
                certificates.c.reason.not_like(f"{CALLED_OFF}%"),
                ~exists().where(
                    later.c.source == certificates.c.source,
                    later.c.address == certificates.c.address,
                    later.c.status != Status.FAILED,
                    later.c.id > certificates.c.id,
                ),
            )
            .order_by(certificates.c.id)
        )
        if address:
            query = query.where(certificates.c.address == address)
        found: dict[Seat, Refusal] = {}
        with self.database.look() as connection:
            for row in connection.execute(query).mappings():
                held = held_of(dict(row))
                before = found.get((held.address, held.source))
                same = before is not None and before.held.request == held.request
                times = before.times + 1 if before is not None and same else 1
                found[held.address, held.source] = Refusal(held, times, row["changed_at"])
        return found

    def forget_failed(self, *, before: datetime) -> None:
        """Drop old requests that an authority refused; the events keep what happened."""
        with self.database.change() as connection:
            connection.execute(
                delete(certificates).where(
                    certificates.c.status == Status.FAILED, certificates.c.changed_at < before
                )
            )

    # Runs

    def last_run(self) -> datetime | None:
        """When the last run of any mail server began or ended.

        The last one that was begun, not the latest time: a clock that was ahead is no measure for ever.
        """
        query = select(runs.c.started_at, runs.c.finished_at).order_by(runs.c.id.desc()).limit(1)
        with self.database.look() as connection:
            found = connection.execute(query).one_or_none()
        return max((moment for moment in found or () if moment is not None), default=None)

    def taken_since(self, since: datetime) -> int:
        """How many people lost a certificate since then to runs that nobody was asked about."""
        query = select(runs.c.counts).where(runs.c.started_at > since)
        with self.database.look() as connection:
            return sum(int(counts.get(TAKEN, 0)) for counts in connection.execute(query).scalars())

    def begin_run(self, *, now: datetime, taken: int) -> int:
        """Write down that a run begins, and how much it means to take away; gives its number."""
        row = {"node": self.node, "who": self.who, "started_at": now, "counts": {TAKEN: taken}}
        with self.database.change() as connection:
            return int(connection.execute(insert(runs).returning(runs.c.id), row).scalar_one())

    def end_run(self, run: int, *, outcome: str, counts: Mapping[str, int], now: datetime) -> None:
        """Write down how a run ended."""
        with self.database.change() as connection:
            statement = update(runs).where(runs.c.id == run)
            connection.execute(statement.values(finished_at=now, outcome=outcome, counts=dict(counts)))
