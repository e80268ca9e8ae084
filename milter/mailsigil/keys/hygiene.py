"""Keeps what a process holds in memory from core dumps, debuggers and swap, as far as the kernel lets it."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from typing import Final

from mailsigil.process.privileges import PrivilegeError, hide_memory

log = logging.getLogger("mailsigil.keyd")

# mman.h of Linux
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4


def allow_memory_lock() -> None:
    """Raises the limit of locked memory, where that is allowed: as root, before the change of user."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError) as error:
        log.debug("the limit of locked memory stays as it is: %s", error)


def guard_memory() -> None:
    """Guards this process; to be called after its last change of user, and again in each child.

    What cannot be had is a line in the log: at warning for dumps, at debug for swap, which most systems
    allow only with a higher limit (systemd: LimitMEMLOCK=infinity).
    """
    try:
        hide_memory()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (PrivilegeError, OSError, ValueError) as error:
        log.warning("core dumps cannot be switched off: %s", error)
    _lock_memory()


def _lock_memory() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # With a finite limit, pages to come must stay free: the limit would turn into failing allocations.
    # ONFAULT: a thread's stack takes room only as far as it is used.
    flags = _MCL_CURRENT | _MCL_ONFAULT
    if limit == resource.RLIM_INFINITY:
        flags |= _MCL_FUTURE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(flags) != 0:
        log.debug("memory is not locked against swapping: %s", os.strerror(ctypes.get_errno()))
