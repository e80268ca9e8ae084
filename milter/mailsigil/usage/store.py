"""Counts in the database: added once, and given month by month."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from mailsigil.lifecycle.database import Database
from mailsigil.lifecycle.tables import usage_batches, usages
from mailsigil.usage.batch import Batch

CHUNK: Final = 500
REMEMBERED: Final = timedelta(days=400)
"""So long it is known that a batch was added, whose writer never said that its file is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A sender's signatures in a month with certificates of one level."""

    address: str
    level: str
    signatures: int

    @property
    def domain(self) -> str:
        """The sender's mail domain."""
        return self.address.rpartition("@")[2]


class UsageStore:
    """The tables of counts. Raises DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: Batch, *, gone: Sequence[str] = (), now: datetime) -> bool:
        """Add a batch, unless it was added before (False); ``gone`` are batches whose files are no more."""
        insert: Any = postgresql_insert if self._database.is_shared else sqlite_insert
        with self._database.change() as connection:
            if gone:
                connection.execute(
                    delete(usage_batches).where(usage_batches.c.id == bindparam("its_id")),
                    [{"its_id": name} for name in gone],
                )
            new = insert(usage_batches).values(id=batch.id, added_at=now).on_conflict_do_nothing()
            if connection.execute(new.returning(usage_batches.c.id)).scalar_one_or_none() is None:
                return False
            # In one order everywhere: mail servers that add at the same time wait, and never for each other.
            counts = sorted(batch.counts.items())
            for start in range(0, len(counts), CHUNK):
                rows = [
                    {**what._asdict(), "signatures": number} for what, number in counts[start : start + CHUNK]
                ]
                statement = insert(usages).values(rows)
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[usages.c.month, usages.c.address, usages.c.key_id],
                        set_={"signatures": usages.c.signatures + statement.excluded.signatures},
                    )
                )
        return True

    def tidy(self, *, now: datetime, keep_months: int) -> None:
        """Drop what is not kept any longer."""
        with self._database.change() as connection:
            connection.execute(delete(usage_batches).where(usage_batches.c.added_at < now - REMEMBERED))
            if keep_months:
                connection.execute(delete(usages).where(usages.c.month < _months_before(now, keep_months)))

    def month(self, month: str) -> Iterator[Usage]:
        """Give what was counted in a month (``2026-11``), by sender and level."""
        query = (
            select(usages.c.address, usages.c.level, func.sum(usages.c.signatures).label("signatures"))
            .where(usages.c.month == month)
            .group_by(usages.c.address, usages.c.level)
            .order_by(usages.c.address, usages.c.level)
        )
        with self._database.look() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield Usage(address=row.address, level=row.level, signatures=int(row.signatures))

    def months(self) -> list[str]:
        """Give the months that something was counted in."""
        with self._database.look() as connection:
            return _months(connection)


def _months(connection: Connection) -> list[str]:
    return list(connection.execute(select(usages.c.month).distinct().order_by(usages.c.month)).scalars())


def _months_before(now: datetime, months: int) -> str:
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return f"{year:04}-{month + 1:02}"
