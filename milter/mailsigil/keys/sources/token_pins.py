"""PINs that a token refused, remembered over all processes of the agent.

Each process trying a wrong PIN once would be enough to lock a token. So this module is loaded before the
agent forks, and its memory is shared from then on. It holds digests of where a PIN stood and when its file
changed, and nothing of the PIN.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailsigil.keys.secret_files import SecretFile

_SIZE: Final = 32
_SLOTS: Final = 64
_memory: Final = mmap.mmap(-1, _SIZE * _SLOTS)


def mark_of(module: str, token: str, pin: SecretFile) -> bytes:
    """Gives what stands for one state of a PIN's file; it differs after each change of the file."""
    return hashlib.sha256(b"\0".join((module.encode(), token.encode(), pin.mark()))).digest()


def was_refused(mark: bytes) -> bool:
    """Tells whether a token refused this PIN."""
    return mark in _marks()


def refused(mark: bytes) -> None:
    """Remembers that a token refused this PIN."""
    slots = _marks()
    empty = bytes(_SIZE)
    slot = slots.index(empty) if empty in slots else mark[0] % _SLOTS
    _memory[_SIZE * slot : _SIZE * (slot + 1)] = mark


@contextlib.contextmanager
def one_process(pin_file: Path) -> Iterator[None]:
    """Keeps other processes from trying the same PIN at the same time."""
    handle = os.open(pin_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _marks() -> list[bytes]:
    return [_memory[_SIZE * slot : _SIZE * (slot + 1)] for slot in range(_SLOTS)]
