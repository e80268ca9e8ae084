"""What commands share that look into the lifecycle's database: by whose rights, and what its troubles are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mailsigil.cli.misuse import Misuse
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.upgrade import preload, upgrade
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
def opened_database(settings: LifecycleSettings) -> Iterator[Database]:
    """Open the database, brought up to date, and close it again; its troubles end the command."""
    try:
        with connect(settings) as database:
            upgrade(database)
            yield database
    except LifecycleError as error:
        raise Misuse(str(error)) from error
