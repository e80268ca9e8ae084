"""The database: SQLite in a file of this machine, or PostgreSQL for several mail servers.

Everything that SQLAlchemy and the drivers raise becomes a :class:`DatabaseError` with a sentence; neither a
password nor the values of a statement stand in it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.files import write_private
from mailsigil.keys.secret_files import SecretFile
from mailsigil.lifecycle.database_errors import translated
from mailsigil.lifecycle.errors import DatabaseUnusable

BUSY_SECONDS: Final = 15
"""So long a writer waits for another one (SQLite), and a statement for a lock (PostgreSQL)."""
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 120


class Database:
    """An open database with the tables of this version. Safe to share between threads, not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = shown(engine.url)
        """Where it is, without any secret."""

    @property
    def is_shared(self) -> bool:
        """Whether other mail servers can be in it."""
        return self._engine.dialect.name != "sqlite"

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """A transaction that writes: done whole, or not at all. Raises DatabaseError."""
        with translated(self.name), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A transaction that reads one state of things. Raises DatabaseError."""
        with translated(self.name), self._engine.connect() as plain:
            connection = plain.execution_options(mailsigil_reads=True)
            if self.is_shared:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    def clock(self) -> datetime | None:
        """What time the database's machine has; None where that is this machine."""
        if not self.is_shared:
            return None
        with self.look() as connection:
            found: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            return found.astimezone(UTC)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(settings: LifecycleSettings) -> Database:
    """Give the database of the settings, without asking it anything yet. Raises DatabaseUnusable."""
    return Database(engine_of(settings))


def engine_of(settings: LifecycleSettings) -> Engine:
    """Give what makes connections to the database of the settings. Raises DatabaseUnusable."""
    url = make_url(settings.database)
    try:
        return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url, settings)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUnusable(
            f"the database {shown(url)} needs psycopg, which is not installed",
            "Install it: pip install 'mailsigil[postgresql]'",
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseUnusable(
            f"the database {shown(url)} cannot be used: {type(error).__name__}",
            'Correct "database" in [lifecycle]',
        ) from error


def shown(url: URL) -> str:
    """A database's address as it may stand in a log."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.database} on {url.host or 'this machine'}{f':{url.port}' if url.port else ''}"


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    # No pool: a connection costs little here, and belongs to no thread.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "do_connect")
    def make_private(*_: object) -> None:
        _make_private(path)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        # The driver's own transactions would leave changes of tables out.
        connection.isolation_level = None
        _write_ahead(connection)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("mailsigil_reads")
        # A writer that began as a reader could not wait for another writer.
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have the file written in WAL mode: readers and a writer are in nobody's way then.

    Where several open a new file at once, SQLite does not wait for the one that makes the change.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The lower octet is the kind of error, the others say more about it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _make_private(path: Path) -> None:
    """The file of mode 0600, before anything stands in it; SQLite gives its helpers the same mode.

    A file that is there is not opened here. Closing it would give up all locks that SQLite has on it for the
    other connections of this process (fcntl(2)); another process would take the database for unused then,
    and remove the log that they write to.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            with suppress(FileExistsError):  # Another process was quicker.
                write_private(path, b"")
        status = path.lstat()
    except OSError as error:
        raise DatabaseUnusable(
            f"the database {path} cannot be opened: {error.strerror}",
            "Let the key agent's user write to this file and its folder",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DatabaseUnusable(
            f"the database {path} cannot be opened: it is no regular file",
            "Name another file, or move it away",
        )
    refuse_open_file(path, status)


def refuse_open_file(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others than its owner may read or write. Raises DatabaseUnusable."""
    if status.st_mode & 0o077:
        raise DatabaseUnusable(f"the database {path} is open to other users", f"Run: chmod 600 '{path}'")


def _postgresql(url: URL, settings: LifecycleSettings) -> Engine:
    options = (
        f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c lock_timeout={BUSY_SECONDS * 1000}"
        " -c idle_in_transaction_session_timeout=300000 -c timezone=UTC"
    )
    secret = SecretFile("lifecycle", settings.password_file) if settings.password_file else None
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=2,
        max_overflow=settings.at_once + 4,
        pool_pre_ping=True,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": options,
            "application_name": "mailsigil",
            # A server that is cut off, not closed, is given up after about half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )
    if secret is not None:

        @event.listens_for(engine, "do_connect")
        def log_in(_dialect: object, _record: object, _args: object, keys: dict[str, Any]) -> None:
            # Read for each connection, so that it may be changed.
            keys["password"] = _password(secret)

    return engine


def _password(secret: SecretFile) -> str:
    try:
        return secret.read().decode("utf-8")
    except SourceRefused as error:
        _refuse(f"the password for PostgreSQL cannot be read: {error.sentence}", error.mend)
    except UnicodeDecodeError:
        _refuse(f"the password in {secret.place} is no UTF-8", "Write it anew")


def _refuse(sentence: str, mend: str) -> NoReturn:
    raise DatabaseUnusable(sentence, mend) from None
