"""What commands share that look into the lifecycle's database: by whose rights, and what its troubles are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import make_url

from mailsigil.cli.misuse import Misuse
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.upgrade import HEAD, preload, revision, upgrade
from mailsigil.process.privileges import PrivilegeError, become, find_user


def become_agents_user(settings: Settings) -> None:
    """Go on as the key agent's user, where root called: what is written has to be the agent's."""
    try:
        if os.geteuid() == 0:
            if settings.keyd.user:
                preload(settings.lifecycle)
            become(settings.keyd.user)
    except (PrivilegeError, LifecycleError) as error:
        raise Misuse(str(error)) from error


@contextmanager
def acting_as(settings: Settings) -> Iterator[None]:
    """Be the key agent's user for a while, where root called."""
    user = settings.keyd.user
    if os.geteuid() != 0 or not user:
        yield
        return
    try:
        account = find_user(user)
        preload(settings.lifecycle)
    except (PrivilegeError, LifecycleError) as error:
        raise Misuse(str(error)) from error
    groups, umask = os.getgroups(), os.umask(0o077)
    os.initgroups(user, account.pw_gid)
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(os.getgid())
        os.setgroups(groups)
        os.umask(umask)


@contextmanager
def opened_database(
    settings: LifecycleSettings, *, changes: bool = False, made_by: str = "the first `mailsigil sync`"
) -> Iterator[Database]:
    """Open the database that is there, and close it again; its troubles end the command.

    None is made: a path with a slip in it would show an empty house. With ``changes`` an older one is brought
    up to date; who only looks leaves that to a run.
    """
    try:
        with connect(settings) as database:
            if not _is_there(settings) or not (found := revision(database)):
                raise Misuse(
                    f"there is no database at {database.name} yet: {made_by} makes it; if there should be"
                    ' one, see "database" in [lifecycle]'
                )
            if changes or found > HEAD:
                upgrade(database)
            elif found < HEAD:
                raise Misuse(
                    f"the database {database.name} is at step {found}, and this mailsigil needs {HEAD}: run"
                    " `mailsigil sync`, which brings it up to date"
                )
            yield database
    except LifecycleError as error:
        raise Misuse(str(error)) from error


def _is_there(settings: LifecycleSettings) -> bool:
    """Whether the file of SQLite is there, and something in it; a server tells by itself."""
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        return True
    try:
        return os.stat(url.database or "").st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # What keeps it from being opened is told by whoever opens it.
