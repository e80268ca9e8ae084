"""Brings the tables of a database to what this version knows, one process at a time."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import DatabaseUnusable

log = logging.getLogger("mailsigil.lifecycle")

HEAD: Final = "0002"
"""The last step that this version knows."""
_LOCK: Final = 0x6D61696C736967
"""The advisory lock of PostgreSQL under which steps are taken; a number of our own."""


def preload(settings: LifecycleSettings) -> None:
    """Import what a database needs, before a process gives up root: its new user may not read all of it.

    Raises DatabaseUnusable where the driver is not installed.
    """
    connect(settings).close()
    for name in ("alembic.command", "alembic.config", "alembic.script", "alembic.runtime.environment"):
        importlib.import_module(name)
    importlib.import_module("alembic.ddl.sqlite")
    importlib.import_module("alembic.ddl.postgresql")


def upgrade(database: Database, *, to: str = HEAD) -> None:
    """Take the steps that are missing. Raises DatabaseError; then nothing was changed."""
    with database.look() as connection:
        if _revision(connection) == to:
            return
    with database.change() as connection:
        if database.is_shared:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Another process may have been quicker.
        found = _revision(connection)
        if found == to:
            return
        _refuse_unknown(database, found)
        _steps(connection, to)
    log.info("the database %s is brought from step %s to %s", database.name, found or "none", to)


def revision(database: Database) -> str:
    """Give the last step that was taken there; empty for none. Raises DatabaseError."""
    with database.look() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _refuse_unknown(database: Database, found: str) -> None:
    if found and found > HEAD:
        raise DatabaseUnusable(
            f"the database {database.name} was changed by a newer mailsigil (step {found}; {HEAD} here)",
            "Update mailsigil on this machine, too",
        )


def _steps(connection: Connection, to: str) -> None:
    # Imported here: it takes longer than most runs, and is needed once.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
