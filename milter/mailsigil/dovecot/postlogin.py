"""The post-login service: Dovecot's imap process asks on this socket, and gets the user's private keys.

A refused login is told to the client itself, over the descriptor that came with the request; to Dovecot it is
a connection that ends without an answer.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mailsigil.config.storage import StorageSettings
from mailsigil.dovecot.conversation import close_all, receive
from mailsigil.dovecot.mail_crypt import Fields, Release, decrypting, encrypting
from mailsigil.dovecot.postlogin_wire import (
    PostloginError,
    PostloginRequest,
    is_complete,
    parse_request,
    write_reply,
)
from mailsigil.dovecot.standing import Member, Outside, Strange, shown, standing_of
from mailsigil.dovecot.storage_keys import StorageKeys
from mailsigil.keys.errors import SourceError
from mailsigil.keys.storage.routes import StorageRoute

log = logging.getLogger("mailsigil.keyd")

REQUEST_SECONDS: Final = 2.0
"""A request must be complete after this time, and an answer be taken."""
_PIECE: Final = 8192


class Sentence(Enum):
    """What a client is told (RFC 5530 for the codes). Nothing of the inside stands in it."""

    LATER = (
        "[UNAVAILABLE] Your stored mail cannot be opened just now, because its keys cannot be had."
        " Please try again in a few minutes."
    )
    WITHOUT_KEY = (
        "[CONTACTADMIN] Your account has no key for its stored mail yet. Please ask your mail administrator."
    )
    STRANGE_NAME = (
        "[CONTACTADMIN] An account of this name cannot have keys for its stored mail."
        " Please ask your mail administrator."
    )


@dataclass(frozen=True, slots=True)
class Admitted:
    """The login goes on, with these fields."""

    fields: Fields


@dataclass(frozen=True, slots=True)
class Refused:
    """The login ends, with this sentence."""

    sentence: Sentence


class _Left(Exception):
    """The other side closed before it asked anything."""


class PostloginService:
    """Decides about logins. Safe to share between threads; belongs to one process.

    ``on_login`` gets the address of each user who was admitted, and must not block.
    """

    def __init__(
        self,
        keys: StorageKeys,
        *,
        release: Release,
        bare_domain: str = "",
        on_login: Callable[[str], None] = lambda address: None,
    ) -> None:
        self._keys = keys
        self._release = release
        self._bare_domain = bare_domain
        self._on_login = on_login

    def converse(self, connected: socket.socket) -> None:
        """Answers one request on a connection. Raises OSError when the other side is gone or too slow."""
        descriptors: list[int] = []
        try:
            request = self._receive(connected, descriptors)
            decision = self.decide(request)
            if isinstance(decision, Refused):
                _tell_client(descriptors[0], decision.sentence)
                return
            connected.settimeout(REQUEST_SECONDS)
            connected.sendall(write_reply(request, decision.fields))
        except _Left:
            log.debug("post-login: a caller left without a word")
        except PostloginError as error:
            log.warning("post-login: %s", error)
        finally:
            close_all(descriptors)

    def decide(self, request: PostloginRequest) -> Admitted | Refused:
        """Decides about one login. Never raises."""
        user = shown(request.user)
        match standing_of(self._keys.routes, request.user, bare_domain=self._bare_domain):
            case Outside():
                return Admitted([])
            case Strange():
                log.warning("login refused user=%s: no key can have this name", user)
                return Refused(Sentence.STRANGE_NAME)
            case Member(address, route):
                return self._member(request, address, route)

    def _member(self, request: PostloginRequest, address: str, route: StorageRoute) -> Admitted | Refused:
        try:
            public = self._keys.routes.public_keys(route, address)
        except SourceError as error:
            # Without the public key a copy into a folder would be stored in clear: never "degraded".
            log.error("login refused user=%s: %s", address, error)
            return Refused(Sentence.LATER)
        if not public:
            return self._without_key(address, route.settings)
        fields = encrypting(self._release, public[0])
        if route.settings.opened_by == "login":
            # The private keys came with the password (passdb_keys.py), or did not.
            self._on_login(address)
            return Admitted(fields)
        if request.is_master:
            log.info("master login user=%s remote=%s: no private key given", address, shown(request.remote))
            return Admitted(fields)
        try:
            keys = self._keys.private(route, address)
        except SourceError as error:
            if route.settings.on_failure == "degraded":
                log.warning("login without its keys user=%s: %s", address, error)
                return Admitted(fields)
            log.error("login refused user=%s: %s", address, error)
            return Refused(Sentence.LATER)
        log.info(
            'storage keys given user=%s remote=%s keys=%d source="%s"',
            address,
            shown(request.remote),
            len(keys),
            route.name,
        )
        self._on_login(address)
        return Admitted([*fields, *decrypting(self._release, keys)])

    def _without_key(self, address: str, settings: StorageSettings) -> Admitted | Refused:
        if settings.without_key == "refuse":
            log.warning("login refused user=%s: no storage key; mailsigil storage create", address)
            return Refused(Sentence.WITHOUT_KEY)
        self._on_login(address)
        return Admitted([])

    @staticmethod
    def _receive(connected: socket.socket, descriptors: list[int]) -> PostloginRequest:
        until = time.monotonic() + REQUEST_SECONDS
        data = b""
        while not is_complete(data):
            piece = receive(connected, until=until, size=_PIECE, descriptors=descriptors)
            if not piece:
                raise _Left if not data else PostloginError("the request ends before it is complete")
            data += piece
            if len(descriptors) > 1:
                break
        if len(descriptors) != 1:
            raise PostloginError("the request came with another number of descriptors than one")
        return parse_request(data)


def _tell_client(descriptor: int, sentence: Sentence) -> None:
    """Tells the client why, if it takes the sentence at once: nobody waits for a client here."""
    line = f"* BYE {sentence.value}\r\n".encode("ascii")
    try:
        client = socket.socket(fileno=descriptor)
    except OSError as error:
        log.debug("post-login: the client's descriptor is no socket: %s", error)
        return
    try:
        # The descriptor is shared with Dovecot: its flags stay as they are.
        client.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        log.debug("post-login: the client could not be told: %s", error)
    finally:
        client.detach()
