"""The key agent's decisions: who may have what signed. No sockets here, and no threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from mailsigil.keys.errors import KeyAgentRefused, Refusal, SourceError, SourceLeftAlone
from mailsigil.keys.protocol import (
    Credential,
    Operation,
    Request,
    check_address,
    decode_request,
    encode_found,
    encode_pong,
    encode_refusal,
    encode_signature,
)
from mailsigil.keys.routes import DomainRoute, WhenSilent
from mailsigil.keys.source import KeySource, SigningKey, found_at_hand, source_name

log = logging.getLogger("mailsigil.keyd")

_SHOWN: Final = 80


_Ask = Callable[[KeySource, str], tuple[SigningKey, ...]]


def _found(source: KeySource, address: str) -> tuple[SigningKey, ...]:
    return source.find(address)


class KeyAgent:
    """Answers requests out of its sources. ``now`` gives the time, aware, in UTC."""

    def __init__(self, sources: Sequence[KeySource], *, now: Callable[[], datetime]) -> None:
        self._sources = tuple(sources)
        self._now = now
        self.on_signed: Callable[[SigningKey, str], None] | None = None
        """Is told of each signature: the key, and the address that it is for. Must not wait for anything."""

    def replace(self, sources: Sequence[KeySource]) -> None:
        """Puts others in the place of all sources; requests on their way end with the old ones."""
        self._sources = tuple(sources)

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """Where the keys come from."""
        return self._sources

    def find(
        self, address: str, *, source: str = "", without: str = "", at_hand: bool = False
    ) -> tuple[Credential, ...]:
        """Gives the credentials that are valid now for an address (key form), source by source.

        With ``source`` that one alone is asked, so that nobody waits for another one that stalls; the source
        that ``without`` names is not asked. With ``at_hand`` nothing is enrolled for the address. Raises
        KeyAgentRefused when one of those asked could not tell, and its settings do not let others sign in
        its place (when_silent), or none has any; or when it is not there at all.
        """
        check_address(address)
        now = self._now()
        ask = found_at_hand if at_hand else _found
        found = self._find(address, source.lower(), without.lower(), ask)
        return tuple(key.credential for key in found if key.valid_from <= now <= key.valid_until)

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes, peer_uid: int) -> bytes:
        """Signs for an address. Raises KeyAgentRefused; each use and each refusal is a line in the log."""
        try:
            signature = self._sign(key_id, address, scheme, data)
        except KeyAgentRefused as refused:
            log.warning(
                "refused key=%s address=%s peer_uid=%d scheme=%s reason=%s",
                _shown(key_id),
                _shown(address),
                peer_uid,
                _shown(scheme),
                refused.reason.value,
            )
            raise
        log.info("signed key=%s address=%s peer_uid=%d scheme=%s", key_id, _shown(address), peer_uid, scheme)
        return signature

    def answer(self, payload: bytes, *, peer_uid: int) -> bytes:
        """Answers one request payload. Never raises: trouble is an answer too."""
        try:
            return self._answer(decode_request(payload), peer_uid)
        except KeyAgentRefused as refused:
            return encode_refusal(refused.reason, refused.sentence)
        except Exception as error:
            # The one catch-all of the agent: the caller learns nothing of its inside.
            log.exception("request failed: %s", type(error).__name__)
            return encode_refusal(Refusal.FAILED, "the key agent could not do it, its log tells why")

    def refresh(self) -> None:
        """Lets each source take in what has changed."""
        for source in self._sources:
            self._let(source.refresh)

    def reload(self) -> None:
        """Lets each source read everything anew."""
        for source in self._sources:
            self._let(source.reload)

    def _answer(self, request: Request, peer_uid: int) -> bytes:
        match request.operation:
            case Operation.FIND:
                return encode_found(
                    self.find(
                        request.address,
                        source=request.source,
                        without=request.without,
                        at_hand=request.at_hand,
                    )
                )
            case Operation.SIGN:
                return encode_signature(
                    self.sign(
                        key_id=request.key_id,
                        address=request.address,
                        scheme=request.scheme,
                        data=request.data,
                        peer_uid=peer_uid,
                    )
                )
            case Operation.PING:
                return encode_pong(sum(source.count() for source in self._sources))

    def _sign(self, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        check_address(address)
        # 1. The key is one of ours.
        key = self._get(key_id, address)
        if key is None:
            raise KeyAgentRefused(Refusal.UNKNOWN_KEY, "the key agent holds no such key")
        # 2. Its certificate names the address, or its domain where the source's settings allow that.
        if address not in key.addresses and not key.credential.speaks_for(address):
            raise KeyAgentRefused(Refusal.ADDRESS, "the key's certificate does not name the address")
        # 3. The certificate is valid at this moment.
        if not key.valid_from <= self._now() <= key.valid_until:
            raise KeyAgentRefused(Refusal.NOT_VALID, "the key's certificate is not valid now")
        # 4. The key signs this way.
        if scheme not in key.credential.schemes:
            raise KeyAgentRefused(Refusal.SCHEME, "the key does not sign with this scheme")
        # 5. There is something to sign.
        if not data:
            raise KeyAgentRefused(Refusal.MALFORMED, "there is nothing to sign")
        try:
            signature = key.sign(scheme, data)
        except SourceError as error:
            level = logging.DEBUG if isinstance(error, SourceLeftAlone) else logging.WARNING
            log.log(level, "%s", error)
            raise _source_refusal(error) from error
        self._tell(key, address)
        return signature

    def _tell(self, key: SigningKey, address: str) -> None:
        if self.on_signed is None:
            return
        try:
            self.on_signed(key, address)
        except Exception as error:
            # A mail is not held up because it could not be counted.
            log.exception("a signature was not counted: %s", type(error).__name__)

    def _find(self, address: str, only: str, without: str, ask: _Ask) -> list[SigningKey]:
        keys, silent = self._ask(address, only, without, ask)
        for source, error in silent:
            # Another source's certificate may say less of the sender, or be trusted by nobody outside: it
            # does not sign in place of one that cannot tell, unless the settings say so.
            if not keys or _when_silent(source) is WhenSilent.WAIT:
                if keys:
                    log.warning(
                        'source "%s" is silent: mail of %s waits, and the keys of others do not sign in its'
                        ' place (when_silent = "wait")',
                        error.source,
                        _shown(address),
                    )
                raise _source_refusal(error) from error
        for _, error in silent:
            log.warning(
                'source "%s" is silent: %s gets the keys of others (when_silent = "others")',
                error.source,
                _shown(address),
            )
        return keys

    def _ask(
        self, address: str, only: str = "", without: str = "", ask: _Ask = _found
    ) -> tuple[list[SigningKey], list[tuple[KeySource, SourceError]]]:
        """What the sources have, and which of them could not tell."""
        named = [(source_name(source).lower(), source) for source in self._sources]
        asked = [source for name, source in named if only in ("", name) and name != without]
        if only and not asked:
            raise KeyAgentRefused(Refusal.SOURCE, f'there is no [[source]] "{_shown(only)}"')
        keys: list[SigningKey] = []
        silent: list[tuple[KeySource, SourceError]] = []
        for source in asked:
            try:
                keys.extend(ask(source, address))
            except SourceError as error:
                silent.append((source, error))
        return keys, silent

    def _get(self, key_id: str, address: str) -> SigningKey | None:
        for source in self._sources:
            key = source.get(key_id)
            if key is not None:
                return key
        # Another process of the agent may have found it; in this one the sources are asked now. Which of
        # them is silent decides nothing: the key was chosen before.
        keys, silent = self._ask(address)
        found = next((key for key in keys if key.credential.key_id == key_id), None)
        if found is None and silent:
            raise _source_refusal(silent[0][1]) from silent[0][1]
        return found

    def _let(self, action: Callable[[], None]) -> None:
        """What one source cannot do keeps no other from doing it."""
        try:
            action()
        except SourceError as error:
            log.warning("%s", error)
        except Exception as error:
            log.exception("a source failed: %s", type(error).__name__)


def _when_silent(source: KeySource) -> WhenSilent:
    return source.when_silent if isinstance(source, DomainRoute) else WhenSilent.WAIT


def _source_refusal(error: SourceError) -> KeyAgentRefused:
    # The mend is for the agent's own log: a mail server's log need not know how its keys are kept.
    return KeyAgentRefused(Refusal.SOURCE, f'source "{error.source}": {error.sentence}')


def _shown(text: str) -> str:
    """A value from outside as one bounded word of the log."""
    cut = text[:_SHOWN]
    return "".join(c if c.isprintable() and not c.isspace() and c != '"' else "?" for c in cut)
