"""What drivers say when something is wrong with the database, in words for an administrator."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailsigil.lifecycle.errors import DatabaseError, DatabaseUnavailable, DatabaseUnusable

_Words = tuple[type[DatabaseError], str, str]

_SPACE: Final = "Make room there; the next run goes on where this one stopped"
_RIGHTS: Final = "Let the key agent's user write to the file and to its folder"

_SQLITE: Final[Mapping[int, _Words]] = {
    sqlite3.SQLITE_FULL: (DatabaseUnusable, "its disk is full", _SPACE),
    sqlite3.SQLITE_READONLY: (DatabaseUnusable, "it is read-only", _RIGHTS),
    sqlite3.SQLITE_PERM: (DatabaseUnusable, "it may not be opened", _RIGHTS),
    sqlite3.SQLITE_AUTH: (DatabaseUnusable, "it may not be opened", _RIGHTS),
    sqlite3.SQLITE_CANTOPEN: (DatabaseUnusable, "it cannot be opened", _RIGHTS),
    sqlite3.SQLITE_BUSY: (
        DatabaseUnavailable,
        "another process writes to it, and does not come to an end",
        "Try again, and see whether another mailsigil hangs",
    ),
    sqlite3.SQLITE_LOCKED: (DatabaseUnavailable, "another process writes to it", "Try again"),
    sqlite3.SQLITE_IOERR: (DatabaseUnusable, "its disk cannot be read or written", "See to the disk"),
    sqlite3.SQLITE_NOTADB: (
        DatabaseUnusable,
        "this file is no database",
        "Name another file, or move it away",
    ),
    sqlite3.SQLITE_CORRUPT: (DatabaseUnusable, "it is damaged", "Put back the copy from a backup"),
}
"""By primary result code (https://www.sqlite.org/rescode.html)."""

_POSTGRESQL: Final[Mapping[str, _Words]] = {
    "28": (DatabaseUnusable, "the login is refused", 'See to the user in "database" and to "password_file"'),
    "3D": (DatabaseUnusable, "there is no such database", "Create it: createdb --owner=USER NAME"),
    "25006": (
        DatabaseUnusable,
        "it is read-only",
        "Name the server that takes changes, not one that only follows it",
    ),
    "42501": (DatabaseUnusable, "the user lacks a right", "Make the user the owner of the database's schema"),
    "53100": (DatabaseUnusable, "its disk is full", _SPACE),
    "53300": (DatabaseUnavailable, "it has too many connections", "Raise max_connections, or try again"),
    "55P03": (DatabaseUnavailable, "another session keeps a lock", "Try again"),
    "40": (DatabaseUnavailable, "another session was quicker", "Try again"),
    "57014": (DatabaseUnavailable, "a statement took too long", "See what the server is busy with"),
    "42": (DatabaseUnusable, "its tables are not as they should be", "See which mailsigil made them"),
}
"""By SQLSTATE, or its first letters."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what drivers and SQLAlchemy raise into our own; ``name`` is the database's."""
    try:
        yield
    except IntegrityError as error:
        # The last fence: the database itself takes no second request or certificate for one employee.
        words = (DatabaseUnavailable, "another mail server was quicker", "Run again")
        raise _made(name, words) from error
    except DBAPIError as error:
        raise _translation(name, error) from error
    except PoolTimeout as error:
        raise _made(name, (DatabaseUnavailable, "all connections to it are busy", "Try again")) from error
    except SQLAlchemyError as error:
        raise _made(
            name, (DatabaseUnusable, f"it failed: {type(error).__name__}", "See the log of the database")
        ) from error


def _translation(name: str, error: DBAPIError) -> DatabaseError:
    cause = error.orig
    words = None
    if isinstance(cause, sqlite3.Error):
        words = _SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
    else:
        state = str(getattr(cause, "sqlstate", None) or "")
        words = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    return _made(name, words or _unknown(error))


def _unknown(error: DBAPIError) -> _Words:
    if isinstance(error.orig, sqlite3.Error):
        return (DatabaseUnusable, f"it failed: {_first_line(error.orig)}", "See to the file")
    text = _first_line(error.orig).lower()
    if "password" in text or "authentication" in text or "pg_hba" in text:
        return _POSTGRESQL["28"]
    if 'database "' in text and "does not exist" in text:
        return _POSTGRESQL["3D"]
    return (
        DatabaseUnavailable,
        f"it does not answer: {_first_line(error.orig)}",
        'See that PostgreSQL runs, and that "database" in [lifecycle] names it',
    )


def _first_line(error: BaseException | None) -> str:
    """The driver's own words, without the statement and its values, which SQLAlchemy would add."""
    line = str(error).strip().splitlines()[:1]
    return "".join(sign if sign.isprintable() else "?" for sign in "".join(line))[:300].rstrip(".")


def _made(name: str, words: _Words) -> DatabaseError:
    kind, sentence, mend = words
    return kind(f"the database {name} cannot be used now: {sentence}", mend)
