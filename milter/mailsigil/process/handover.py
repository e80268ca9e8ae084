"""Octets that a supervisor hands to its workers: sealed, so that all of them read the same, and for good."""

from __future__ import annotations

import fcntl
import os
from typing import Final

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def sealed(data: bytes) -> int:
    """Put octets into memory that nobody can change any more, and give its descriptor (memfd_create(2))."""
    descriptor = os.memfd_create("mailsigil-reload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unsealed(descriptor: int) -> bytes:
    """Give the octets. The position is left alone: it is the same for all who have the descriptor."""
    size = os.fstat(descriptor).st_size
    found = bytearray()
    while len(found) < size:
        part = os.pread(descriptor, size - len(found), len(found))
        if not part:
            raise OSError("what was handed over ends early")
        found += part
    return bytes(found)
