"""Brings the tables of a database to what this version knows, one process at a time."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import DatabaseUnusable

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

log = logging.getLogger("mailsigil.lifecycle")

HEAD: Final = "0003"
"""The last step that this version knows."""
_LOCK: Final = 0x6D61696C736967
"""The advisory lock of PostgreSQL under which steps are taken; a number of our own."""


def preload(settings: LifecycleSettings) -> None:
    """Import what a database needs, before a process gives up root: its new user may not read all of it.

    Raises DatabaseUnusable where the driver is not installed.
    """
    connect(settings).close()
    importlib.import_module("alembic.ddl.sqlite")
    importlib.import_module("alembic.ddl.postgresql")
    importlib.import_module("alembic.operations")
    importlib.import_module("alembic.runtime.migration")
    _known_steps()


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
        _steps(connection, found, to)
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


def _steps(connection: Connection, found: str, to: str) -> None:
    # Imported here: it takes longer than most runs, and is needed once.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"render_as_batch": True})
    missing = tuple(_known_steps().iterate_revisions(to, found or "base"))
    with Operations.context(context):
        for step in reversed(missing):
            step.module.upgrade()
    context.stamp(_known_steps(), to)


@cache
def _known_steps() -> ScriptDirectory:
    """All steps, read once."""
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    tuple(directory.walk_revisions())
    return directory
