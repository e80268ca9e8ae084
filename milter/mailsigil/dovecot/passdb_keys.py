"""A fallback: keys that only the login password opens, given to Dovecot's Lua password database.

It is the one place that sees the password. The price: the keys pass through Dovecot's auth process, whose log
and cache must be off (``review.py``), and no more than 8 KiB of them.

=====================================  ===========================================================
``open USER BASE64-OF-PASSWORD``       the request, after Dovecot has checked the password
``keys BASE64 BASE64 ...``             the private keys, PEM in base64, the newest first
``none``                               the user has no keys, or his are not opened this way
``locked``                             he has, and this login goes on without them (``degraded``)
``later REASON``                       the login has to be refused
=====================================  ===========================================================
"""

from __future__ import annotations

import base64
import binascii
import logging
import socket
from typing import Final

from mailsigil.dovecot.conversation import answer_line
from mailsigil.dovecot.standing import Member, Outside, Strange, shown, standing_of
from mailsigil.keys.errors import SourceError
from mailsigil.keys.storage.key import StorageKey
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes

log = logging.getLogger("mailsigil.keyd")

MAX_REQUEST: Final = 16_384
MAX_ANSWER: Final = 8192
"""Octets that Dovecot's Lua takes."""
REQUEST_SECONDS: Final = 2.0
_LATER: Final = "later the keys cannot be had just now"


class PasswordService:
    """Answers for one process. Safe to share between threads. No password is kept or logged."""

    def __init__(self, routes: StorageRoutes, *, bare_domain: str = "") -> None:
        self._routes = routes
        self._bare_domain = bare_domain

    def converse(self, connected: socket.socket) -> None:
        """Answers one request on a connection. Raises OSError when the other side is gone or too slow."""
        answer_line(connected, self.answer, most=MAX_REQUEST, seconds=REQUEST_SECONDS)

    def answer(self, data: bytes) -> str:
        """Gives the answer to a request, without the end of line. Never raises."""
        line, end, rest = data.partition(b"\n")
        words = line.decode("utf-8", "surrogateescape").split(" ")
        try:
            password = base64.b64decode(words[-1], validate=True)
        except (binascii.Error, ValueError):
            password = b""
        if not end or rest or len(words) != 3 or words[0] != "open" or not password:
            log.warning("login keys: a request that is none")
            return "later the request is none"
        match standing_of(self._routes, words[1], bare_domain=self._bare_domain):
            case Outside():
                return "none"
            case Strange():
                log.warning("login refused user=%s: no key can have this name", shown(words[1]))
                return "later no key can have this name"
            case Member(address, route):
                return self._member(address, route, password)

    def _member(self, address: str, route: StorageRoute, password: bytes) -> str:
        if route.settings.opened_by != "login":
            return "none"
        try:
            keys = self._routes.fetch(route, address, passphrase=password)
        except SourceError as error:
            if route.settings.on_failure == "degraded":
                log.warning("login without its keys user=%s: %s", address, error)
                return "locked"
            log.error("login refused user=%s: %s", address, error)
            return _LATER
        if not keys:
            return "none"
        log.info('storage keys given user=%s keys=%d source="%s"', address, len(keys), route.name)
        return _keys(address, keys)


def _keys(address: str, keys: tuple[StorageKey, ...]) -> str:
    answer = "keys"
    for number, key in enumerate(keys):
        more = f"{answer} {base64.b64encode(key.private_pem).decode('ascii')}"
        if len(more) >= MAX_ANSWER:
            log.warning("only %d of %d storage keys of %s fit through Lua", number, len(keys), address)
            break
        answer = more
    return answer
