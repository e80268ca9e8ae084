"""A look at the lifecycle for ``mailsigil check``: database, clocks, what was left undone, who can be listed.

Reads only: no table is made or brought up to date, and a file that is not there yet stays away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.config.surroundings import Remark, Severity, writable_folder
from mailsigil.directory.api import DirectoryUnavailable, Listed, Population
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.run import node_name
from mailsigil.lifecycle.safety import APART
from mailsigil.lifecycle.sealing import SealError, load_seal
from mailsigil.lifecycle.shortfall import people_with_shortfalls
from mailsigil.lifecycle.tables import claims, runs
from mailsigil.lifecycle.upgrade import HEAD, revision
from mailsigil.process.privileges import PrivilegeError, find_user

SUBJECT: Final = "lifecycle"
_DATABASE: Final = "lifecycle.database"
_SQLITE_HEADER: Final = b"SQLite format 3\0"
"""https://www.sqlite.org/fileformat2.html#magic_header_string"""
RECENT: Final = timedelta(days=7)
"""Mail servers that had a run since then are at work."""
MAX_NAMED: Final = 10
MAX_EXAMPLES: Final = 5


def review(
    settings: Settings, directory: Population | None, *, now: datetime, is_told: bool = False
) -> Iterator[Remark]:
    """Give all findings; nothing where the lifecycle is not enabled.

    ``directory`` is None where it cannot be opened, which others tell; ``is_told``: that it does not answer
    was told, too.
    """
    if not settings.lifecycle.enabled:
        return
    if directory is not None:
        yield from _people(settings, directory, now, is_told=is_told)
    file = _file(settings)
    if file is not None:
        yield from _password(settings.lifecycle)
        local = list(_sqlite(file, settings.keyd.user))
        yield from local
        if local or not file.exists():
            return
    try:
        with connect(settings.lifecycle) as database:
            yield from _inside(database, settings, now)
    except LifecycleError as error:
        yield Remark(Severity.ERROR, SUBJECT, error.sentence, error.mend)


def review_secret(settings: LifecycleSettings) -> Iterator[Remark]:
    """Try to read the secret for shared keys as a run does; to be called as the key agent's user."""
    if not settings.enabled:
        return
    try:
        load_seal(settings.share_keys_with)
    except SealError as error:
        yield Remark(Severity.ERROR, "lifecycle.share_keys_with", error.sentence, error.mend)


def _people(settings: Settings, directory: Population, now: datetime, *, is_told: bool) -> Iterator[Remark]:
    seen = 0

    def counted() -> Iterator[Listed]:
        nonlocal seen
        for listed in directory.people():
            seen += 1
            yield listed

    less: dict[str, list[str]] = {}
    try:
        for address, sentence in people_with_shortfalls(counted(), settings.source, at=now):
            less.setdefault(sentence, []).append(address)
    except DirectoryUnavailable as error:
        if is_told:
            return
        yield Remark(
            Severity.ERROR,
            SUBJECT,
            f"the directory does not list its people, so nobody is given a certificate: {error}",
            "let the login of [[directory]] search below its bases, page by page",
        )
        return
    if not seen:
        yield Remark(
            Severity.WARNING,
            SUBJECT,
            "the directory lists nobody, so nobody is given a certificate",
            "correct the bases and filters of [[directory]], or write people into the policy file",
        )
    yield from _less(less)


def _less(less: Mapping[str, Sequence[str]]) -> Iterator[Remark]:
    """Whose certificates say less than the directory does, cause by cause."""
    for sentence, addresses in less.items():
        named = ", ".join(addresses[:MAX_EXAMPLES])
        more = len(addresses) - MAX_EXAMPLES
        who = "1 person's" if len(addresses) == 1 else f"{len(addresses)} people's"
        yield Remark(
            Severity.WARNING,
            SUBJECT,
            f"{who} certificates say less than the directory does: {sentence}: {named}"
            + (f", and {more} more" if more > 0 else ""),
            "correct the names there; `mailsigil explain ADDRESS` shows what a certificate will say",
        )


def _file(settings: Settings) -> Path | None:
    url = make_url(settings.lifecycle.database)
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _password(settings: LifecycleSettings) -> Iterator[Remark]:
    if settings.password_file:
        yield Remark(
            Severity.WARNING,
            "lifecycle.password_file",
            "it is not used: SQLite is a file of this machine, and asks for no password",
            'remove it, or name a database of PostgreSQL in "database"',
        )


def _sqlite(file: Path, user: str) -> Iterator[Remark]:
    """What the path leads to, its owner and rights; its folder, where the file is not there yet."""
    if not file.exists():
        yield from _folder_to_be(file, user)
    elif sentence := _no_database(file):
        # No mend here touches what is there: it is somebody else's.
        mend = 'name a file for it in "database" of [lifecycle]; mailsigil makes it'
        yield Remark(Severity.ERROR, _DATABASE, sentence, mend)
    else:
        yield from _rights(file, user)


def _folder_to_be(file: Path, user: str) -> Iterator[Remark]:
    errors = [
        remark
        for remark in writable_folder(_DATABASE, file.parent, user)
        if remark.severity is Severity.ERROR
    ]
    yield from errors
    if not errors and not file.parent.exists():
        yield Remark(
            Severity.WARNING,
            _DATABASE,
            f"there is no folder {file.parent} yet",
            f"if {file} is where the database should be, nothing: the first run makes both",
        )


def _no_database(file: Path) -> str:
    """Why this cannot be a database of SQLite; empty where it can, or may not be looked into."""
    if file.is_dir():
        return f"{file} is a folder, and no database"
    if not file.is_file():
        return f"{file} is no file"
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_SQLITE_HEADER))
    except OSError:
        return ""
    return f"{file} is another kind of file, and no database" if start and start != _SQLITE_HEADER else ""


def _rights(file: Path, user: str) -> Iterator[Remark]:
    status = file.stat()
    if status.st_mode & 0o077:
        yield Remark(Severity.ERROR, _DATABASE, f"{file} is open to other users", f"chmod 600 {file}")
    try:
        owner = find_user(user).pw_uid if user else status.st_uid
    except PrivilegeError:
        return  # Told where the user is looked at.
    if status.st_uid != owner:
        yield Remark(
            Severity.ERROR,
            _DATABASE,
            f"{file} does not belong to {user}, so the key agent cannot write to it",
            f"chown {user} {file}",
        )


def _inside(database: Database, settings: Settings, now: datetime) -> Iterator[Remark]:
    clock = database.clock()
    if clock is not None and abs(now - clock) > APART:
        yield Remark(
            Severity.ERROR,
            SUBJECT,
            f"this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC, and the database's"
            f" {clock:%Y-%m-%d %H:%M:%S} UTC, so no run is made",
            "set the clocks (NTP)",
        )
    found = revision(database)
    if found > HEAD:
        yield Remark(
            Severity.ERROR,
            SUBJECT,
            f"the database {database.name} was changed by a newer mailsigil (step {found}; {HEAD} here)",
            "update mailsigil on this machine, too",
        )
        return
    if found != HEAD:
        yield Remark(
            Severity.NOTE,
            SUBJECT,
            f"the database {database.name} is at step {found or 'none'}; the next run brings it to {HEAD}",
            "",
        )
        return
    yield from _left_over(database, now)
    yield from _nodes(database, settings, now)


def _left_over(database: Database, now: datetime) -> Iterator[Remark]:
    """What servers that died were at work on, and nobody has taken over."""
    query = select(claims.c.holder, func.count()).where(claims.c.until < now).group_by(claims.c.holder)
    with database.look() as connection:
        lapsed: dict[str, int] = {}
        for holder, number in connection.execute(query):
            node = holder.partition("/")[0]
            lapsed[node] = lapsed.get(node, 0) + number
    for node, number in sorted(lapsed.items())[:MAX_NAMED]:
        yield Remark(
            Severity.WARNING,
            SUBJECT,
            f"{node} ended in the middle of its work on the certificates of {number} addresses",
            "run `mailsigil sync`, or wait for the next run of the key agent: both take them over",
        )


def _nodes(database: Database, settings: Settings, now: datetime) -> Iterator[Remark]:
    query = select(runs.c.node).where(runs.c.started_at > now - RECENT).distinct()
    with database.look() as connection:
        nodes = {*connection.execute(query).scalars(), node_name(settings.lifecycle)}
    if len(nodes) > 1 and not settings.lifecycle.share_keys_with:
        named = ", ".join(sorted(nodes)[:MAX_NAMED])
        yield Remark(
            Severity.WARNING,
            SUBJECT,
            f"several mail servers look after certificates ({named}), and each can sign with those keys alone"
            " that it made",
            'name a file with the same secret on all of them in "share_keys_with"',
        )
