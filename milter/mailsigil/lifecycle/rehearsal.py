"""A database for a look at what would be done: whatever is changed in it is gone when it is closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.pool import StaticPool

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.database import BUSY_SECONDS, Database, engine_of, refuse_open_file
from mailsigil.lifecycle.database_errors import translated
from mailsigil.lifecycle.errors import RunRefused
from mailsigil.lifecycle.upgrade import HEAD, revision


class Rehearsal(Database):
    """All that happens is one transaction, which is rolled back in the end. For one thread."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._only: Connection | None = None

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """As in the real one, for as long as the rehearsal lasts. Raises DatabaseError."""
        with translated(self.name):
            if self._only is None:
                self._only = self._engine.connect()
                self._only.begin()
            yield self._only

    look = change

    def close(self) -> None:
        """Undo everything."""
        if self._only is not None:
            self._only.close()
            self._only = None
        super().close()


def rehearse(settings: LifecycleSettings) -> Rehearsal:
    """Give the database of the settings for a rehearsal. Raises DatabaseError.

    PostgreSQL takes everything back, tables too. A file of SQLite would be locked for others meanwhile, or
    made where there is none: what stands in it is copied into memory.
    """
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        return Rehearsal(engine_of(settings))
    path = Path(url.database or "")
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def copy(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        if path.exists():
            refuse_open_file(path, path.stat())
            _copy(path, connection)

    rehearsal = Rehearsal(engine)
    rehearsal.name = str(path)
    return rehearsal


def refuse_behind(database: Database) -> None:
    """Refuse to rehearse the change of tables that others use: it would lock them out. Raises RunRefused."""
    found = revision(database)
    if database.is_shared and found and found < HEAD:
        raise RunRefused(
            f"the database {database.name} is at step {found}, and this mailsigil needs {HEAD}",
            "Run `mailsigil sync`, which brings it up to date, once all mail servers have this version",
        )


def _copy(path: Path, to: sqlite3.Connection) -> None:
    file = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    try:
        file.backup(to)
    finally:
        file.close()
