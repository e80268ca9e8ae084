"""The public-key service: Dovecot's Lua script asks here at delivery, one line for one line.

===========================  =====================================================================
``public-key USER``          the request
``key BASE64``               the newest public key, PEM in base64: new mail is encrypted to it
``none``                     the user has no key: mail is stored as Dovecot does without us
``later REASON``             it cannot be told just now: delivery has to be deferred
===========================  =====================================================================
"""

from __future__ import annotations

import base64
import logging
import socket
from typing import Final

from mailsigil.dovecot.conversation import answer_line
from mailsigil.dovecot.standing import Member, Outside, Strange, shown, standing_of
from mailsigil.keys.errors import SourceError
from mailsigil.keys.storage.pins import public_pem
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes

log = logging.getLogger("mailsigil.keyd")

MAX_REQUEST: Final = 16_384
MAX_ANSWER: Final = 8192
"""Octets that Dovecot's Lua takes."""
REQUEST_SECONDS: Final = 2.0
_WORD: Final = "public-key "


class PublicKeyService:
    """Answers for one process. Safe to share between threads."""

    def __init__(self, routes: StorageRoutes, *, bare_domain: str = "") -> None:
        self._routes = routes
        self._bare_domain = bare_domain

    def converse(self, connected: socket.socket) -> None:
        """Answers one request on a connection. Raises OSError when the other side is gone or too slow."""
        answer_line(connected, self.answer, most=MAX_REQUEST, seconds=REQUEST_SECONDS)

    def answer(self, data: bytes) -> str:
        """Gives the answer to a request, both without the end of line. Never raises."""
        line, end, rest = data.partition(b"\n")
        text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        if not end or rest or not text.startswith(_WORD):
            log.warning("public keys: a request that is none")
            return "later the request is none"
        return self.of_user(text.removeprefix(_WORD))

    def of_user(self, user: str) -> str:
        """Gives the answer for a user. Never raises."""
        match standing_of(self._routes, user, bare_domain=self._bare_domain):
            case Outside():
                return "none"
            case Strange():
                log.warning("delivery deferred user=%s: no key can have this name", shown(user))
                return "later no key can have this name"
            case Member(address, route):
                return self._member(address, route)

    def _member(self, address: str, route: StorageRoute) -> str:
        try:
            public = self._routes.public_keys(route, address)
        except SourceError as error:
            log.error("delivery deferred user=%s: %s", address, error)
            return "later the keys cannot be had just now"
        if public:
            return f"key {base64.b64encode(public_pem(public[0])).decode('ascii')}"
        if route.settings.without_key == "refuse":
            log.warning("delivery deferred user=%s: no storage key; mailsigil storage create", address)
            return "later the user has no key"
        return "none"
