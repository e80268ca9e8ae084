"""The key agent's second desk: it unwraps the keys of contents, for the delivery filter alone.

It decides who may have what unwrapped: the key's certificate must name the address whose mail is delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from mailsigil.cms.content import DecryptionFailed
from mailsigil.keys.decryption import Decrypting, DecryptionKey
from mailsigil.keys.decryption_protocol import (
    DecryptionCertificate,
    FindRequest,
    UnwrapRequest,
    decode_request,
    encode_found,
    encode_key,
)
from mailsigil.keys.errors import KeyAgentRefused, Refusal, SourceError, SourceLeftAlone
from mailsigil.keys.protocol import check_address, encode_refusal
from mailsigil.keys.source import KeySource

log = logging.getLogger("mailsigil.keyd")

_SHOWN: Final = 80
_UNOPENED: Final = "the wrapped key does not open"


class DecryptionDesk:
    """Answers the delivery filter out of the agent's sources. Safe to share between threads.

    ``sources`` gives those in force: a reload puts others in their place.
    """

    def __init__(self, sources: Callable[[], Sequence[KeySource]]) -> None:
        self._sources = sources

    def find(self, address: str) -> tuple[DecryptionCertificate, ...]:
        """Gives the certificates that an address's mail can be encrypted to, expired ones too.

        Raises KeyAgentRefused when there is none, and a source could not tell.
        """
        keys = self._keys(address)
        return tuple(DecryptionCertificate(k.credential.key_id, k.credential.certificate) for k in keys)

    def unwrap(self, request: UnwrapRequest, *, peer_uid: int) -> bytes:
        """Gives the key of a content. Raises KeyAgentRefused; each use and refusal is a line in the log."""
        said = (_shown(request.key_id), _shown(request.address), peer_uid, request.wrapped.scheme.value)
        try:
            key = self._unwrap(request)
        except KeyAgentRefused as refused:
            line = "not unwrapped key=%s address=%s peer_uid=%d scheme=%s reason=%s"
            log.warning(line, *said, refused.reason.value)
            raise
        # PKCS#1 v1.5 never fails here, on purpose (see cms/unwrap.py), so this line may stand before nothing.
        log.info("unwrapped key=%s address=%s peer_uid=%d scheme=%s", *said)
        return key

    def answer(self, payload: bytes, *, peer_uid: int) -> bytes:
        """Answers one request payload. Never raises: trouble is an answer too."""
        try:
            match decode_request(payload):
                case FindRequest(address):
                    return encode_found(self.find(address))
                case UnwrapRequest() as request:
                    return encode_key(self.unwrap(request, peer_uid=peer_uid))
        except KeyAgentRefused as refused:
            return encode_refusal(refused.reason, refused.sentence)
        except Exception as error:
            # The one catch-all of the desk, as in agent.py.
            log.exception("request failed: %s", type(error).__name__)
            return encode_refusal(Refusal.FAILED, "the key agent could not do it, its log tells why")

    def _unwrap(self, request: UnwrapRequest) -> bytes:
        address = request.address
        # 1. The key is one of the address's: its certificate names it, and lets others encrypt.
        keys = [key for key in self._keys(address) if key.credential.key_id == request.key_id]
        if not keys or address not in keys[0].addresses:
            raise KeyAgentRefused(Refusal.UNKNOWN_KEY, "the key agent holds no such key for the address")
        # 2. The key unwraps.
        try:
            return keys[0].unwrap(request.wrapped, request.size)
        except DecryptionFailed:
            raise KeyAgentRefused(Refusal.DECRYPTION, _UNOPENED) from None
        except SourceError as error:
            raise _refusal(error) from error

    def _keys(self, address: str) -> list[DecryptionKey]:
        check_address(address)
        keys: list[DecryptionKey] = []
        trouble: SourceError | None = None
        for source in self._sources():
            if not isinstance(source, Decrypting):
                continue
            try:
                keys.extend(key for key in source.decrypting(address) if address in key.addresses)
            except SourceError as error:
                trouble = error
        if trouble is not None and not keys:
            raise _refusal(trouble) from trouble
        return keys


def _refusal(error: SourceError) -> KeyAgentRefused:
    log.log(logging.DEBUG if isinstance(error, SourceLeftAlone) else logging.WARNING, "%s", error)
    return KeyAgentRefused(Refusal.SOURCE, f'source "{error.source}": {error.sentence}')


def _shown(text: str) -> str:
    """A value from outside as one bounded word of the log."""
    cut = text[:_SHOWN]
    return "".join(c if c.isprintable() and not c.isspace() and c != '"' else "?" for c in cut)
