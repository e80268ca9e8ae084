"""What a process may do: its user and groups, and the kernel's switches for one process."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


class PrivilegeError(Exception):
    """The process cannot become what it was told to be; the text says why and what to do."""


def find_user(name: str) -> pwd.struct_passwd:
    """The account of a name. Raises :class:`PrivilegeError` when there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeError(
            f'there is no user "{name}" here: create it, or name another (mailsigil check shows where)'
        ) from None


def become(user: str, *, umask: int = 0o077) -> None:
    """Go on as ``user`` with its groups, for good, and set the umask. An empty name keeps the user.

    Raises :class:`PrivilegeError` when the account is missing or this process may not change to it.
    """
    os.umask(umask)
    if not user:
        return
    account = find_user(user)
    if os.geteuid() == account.pw_uid:
        return
    if os.geteuid() != 0:
        raise PrivilegeError(f'only root can change to user "{user}": start as root or as that user')
    os.initgroups(user, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def die_with_parent(number: signal.Signals) -> None:
    """Have the kernel send ``number`` to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, number)


def hide_memory() -> None:
    """No core dump of this process, and no look into its memory for others of the same user."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise PrivilegeError(f"prctl({option}) failed: {os.strerror(code)}")
