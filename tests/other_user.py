"""For tests as root: what another user may do, without another process."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """This process may do what a user may, and goes by its name, until the end."""
    account, groups = pwd.getpwnam(name), os.getgroups()
    os.setgroups([])
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
