"""Who a client is: HTTP Basic (RFC 7617) against the file of passwords, with an end to guessing."""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

from mailsigil.ca.passwords import Passwords

WINDOW: Final = 60.0
MAX_PEERS: Final = 10_000


class Refused(Enum):
    """Why nobody is logged in."""

    NONE = "no login"
    WRONG = "wrong user or password"
    TOO_MANY = "too many wrong passwords"


class Logins:
    """Checks logins. Safe to share between threads."""

    def __init__(
        self, passwords: Passwords, *, most_failures: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._passwords = passwords
        self._most = most_failures
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def user(self, header: str | None, peer: str) -> str | Refused:
        """Gives the user of an Authorization header. Raises PasswordError."""
        if not header:
            return Refused.NONE
        if self._too_many(peer):
            return Refused.TOO_MANY
        name, password = _basic(header)
        if name and self._passwords.accept(name, password):
            return name
        self._failed(peer)
        return Refused.WRONG

    def _too_many(self, peer: str) -> bool:
        since = self._clock() - WINDOW
        with self._lock:
            recent = [moment for moment in self._failures.get(peer, ()) if moment > since]
            return len(recent) >= self._most

    def _failed(self, peer: str) -> None:
        now = self._clock()
        with self._lock:
            recent = [moment for moment in self._failures.pop(peer, []) if moment > now - WINDOW]
            self._failures[peer] = [*recent, now][-self._most :]
            if len(self._failures) > MAX_PEERS:
                self._failures.popitem(last=False)


def _basic(header: str) -> tuple[str, bytes]:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(rest.strip(), validate=True).partition(b":")
        return name.decode("utf-8"), password
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
