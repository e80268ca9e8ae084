"""Keys that a service holds: looked up when needed, remembered for a while, and used while it is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from mailsigil.cms.content import DecryptionFailed
from mailsigil.cms.recipients import WrappedKey
from mailsigil.keys.decryption import DecryptionKey
from mailsigil.keys.errors import SourceError, SourceLeftAlone, SourceUnavailable
from mailsigil.keys.guard import Guard
from mailsigil.keys.known_addresses import KnownAddresses
from mailsigil.keys.protocol import Credential
from mailsigil.keys.soft_key import SoftKey
from mailsigil.keys.source import SigningKey

log = logging.getLogger("mailsigil.keyd")

MAX_ADDRESSES: Final = 100_000
"""Addresses that one source is remembered for; the oldest makes room."""
WARM_AT_ONCE: Final = 100
"""Addresses that are looked up for other processes' sake between two refreshes."""
NOTHING_SECONDS: Final = 30.0
"""So long it is believed that there is nothing for an address, or that the answer was wrong."""


class Lookup(Protocol):
    """A service that holds keys, asked address by address. Called from the threads of a guard."""

    def lookup(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address (key form), the newest first; () for none. Raises SourceError."""
        ...

    def reload(self) -> None:
        """Forgets what it knows of the service, a remembered failure included."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    keys: tuple[SigningKey, ...]
    since: float
    until: float
    """Fresh until then, in seconds of the clock."""
    error: SourceError | None = None


class RemoteKeys:
    """A KeySource on top of a :class:`Lookup`. Safe to share between threads.

    What was found is fresh for ``key_seconds``. While the service does not answer, or answers wrongly, it
    serves for ``stale_seconds`` more; then it is dropped from memory. With ``addresses``, what one process
    was asked for, the others look up, too; ``wall`` gives the seconds since 1970.
    """

    def __init__(
        self,
        service: Lookup,
        guard: Guard,
        *,
        key_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        addresses: KnownAddresses | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._guard = guard
        self._fresh = key_seconds
        self._stale = stale_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._by_id: dict[str, SigningKey] = {}
        self._addresses = addresses
        self._wall = wall
        self._to_warm: dict[str, float] = {}
        self._warming = threading.Lock()

    def find(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address; raises SourceError when nothing is known and nothing is told."""
        return tuple(key for key in self._found(address) if key.credential.schemes)

    def decrypting(self, address: str) -> tuple[DecryptionKey, ...]:
        """Gives the keys to decrypt an address's mail with. Raises SourceError as ``find`` does."""
        return tuple(key for key in self._found(address) if isinstance(key, DecryptionKey) and key.decrypts)

    def _found(self, address: str) -> tuple[SigningKey, ...]:
        now = self._clock()
        known = self._known.get(address)
        if known is not None and now < known.until:
            if known.error is not None and not known.keys:
                # Without where it was raised before: that would grow with each mail.
                raise known.error.with_traceback(None)
            return known.keys
        try:
            keys = self._guard.call(lambda: self._look_up(address))
        except SourceError as error:
            return self._last_known(address, error)
        if keys and self._addresses is not None:
            self._addresses.note(address, self._wall())
        return keys

    def get(self, key_id: str) -> SigningKey | None:
        """Gives a key that was found before."""
        return self._by_id.get(key_id)

    def held(self) -> tuple[SigningKey, ...]:
        """Gives the keys that are in memory."""
        return tuple(self._by_id.values())

    def count(self) -> int:
        """Tells how many keys are in memory."""
        return len(self._by_id)

    def refresh(self) -> None:
        """Drops what has been in memory for long enough, and looks up what other processes were asked for."""
        self._follow()
        now = self._clock()
        if all(now < each.since + self._fresh + self._stale for each in list(self._known.values())):
            return
        with self._lock:
            for address, known in list(self._known.items()):
                if now >= known.since + self._fresh + self._stale:
                    del self._known[address]
            self._index()

    def _follow(self) -> None:
        if self._addresses is None:
            return
        now = self._wall()
        before = now - self._fresh - self._stale
        for address, at in self._addresses.news().items():
            if before <= at and len(self._to_warm) < MAX_ADDRESSES:
                self._to_warm[address] = at
        self._addresses.tidy(before)
        if self._to_warm and not self._warming.locked():
            self._guard.start(self._warm)

    def _warm(self) -> None:
        """Looks up some of the addresses that others were asked for. Raises SourceError."""
        if not self._warming.acquire(blocking=False):
            return
        try:
            for address in list(self._to_warm)[:WARM_AT_ONCE]:
                at = self._to_warm[address]
                known = self._known.get(address)
                # Half a life before is soon enough, else processes would ask again and again for each other.
                age = self._clock() - known.since if known is not None and known.keys else None
                if age is None or self._wall() - age < at - self._fresh / 2:
                    try:
                        self._look_up(address)
                    except SourceUnavailable:
                        raise  # The rest waits until it is there again.
                    except SourceError as error:
                        log.debug("%s", error)
                self._to_warm.pop(address, None)
        finally:
            self._warming.release()

    def expire(self) -> None:
        """Asks anew from now on; what is known stays for the time when nobody answers."""
        with self._lock:
            for address, known in list(self._known.items()):
                self._known[address] = _Known(known.keys, known.since, until=0.0)

    def reload(self) -> None:
        """Asks anew from now on, and has the service forget what it knows."""
        self.expire()
        # Not here: the service may be stalling, and others are reloaded after it.
        self._guard.reset()
        self._guard.start(self._service.reload)

    def close(self) -> None:
        """Gives back what it holds of the service; calls on their way are finished."""
        self._guard.start(self._service.reload)
        self._guard.retire()

    def _look_up(self, address: str) -> tuple[SigningKey, ...]:
        keys = tuple(self._guarded(key) for key in self._service.lookup(address))
        now = self._clock()
        seconds = self._fresh if keys else min(self._fresh, NOTHING_SECONDS)
        # Here and not with the waiting caller: an answer that came too late serves the next one.
        self._remember(address, _Known(keys, now, now + seconds))
        return keys

    def _last_known(self, address: str, error: SourceError) -> tuple[SigningKey, ...]:
        now = self._clock()
        known = self._known.get(address)
        level = logging.DEBUG if isinstance(error, SourceLeftAlone) else logging.WARNING
        if known is not None and known.keys and now < known.since + self._fresh + self._stale:
            log.log(level, "%s Keys that are known go on signing.", error)
            return known.keys
        log.log(level, "%s", error)
        if not isinstance(error, SourceUnavailable):
            # Wrong answers are not asked for again with each mail.
            self._remember(address, _Known((), now, now + min(self._fresh, NOTHING_SECONDS), error))
        raise error

    def _guarded(self, key: SigningKey) -> SigningKey:
        return key if isinstance(key, SoftKey) else GuardedKey(key, self._guard)

    def _remember(self, address: str, known: _Known) -> None:
        with self._lock:
            replaced = self._known.pop(address, None)
            while len(self._known) >= MAX_ADDRESSES:
                del self._known[next(iter(self._known))]
            self._known[address] = known
            if replaced is None or not replaced.keys:
                self._by_id.update({key.credential.key_id: key for key in known.keys})
            else:
                self._index()

    def _index(self) -> None:
        self._by_id = {key.credential.key_id: key for known in self._known.values() for key in known.keys}


class GuardedKey:
    """A key that signs elsewhere: its signatures, too, have a time limit."""

    __slots__ = ("_guard", "_key")

    def __init__(self, key: SigningKey, guard: Guard) -> None:
        self._key = key
        self._guard = guard

    @property
    def credential(self) -> Credential:
        """What a caller may know."""
        return self._key.credential

    @property
    def addresses(self) -> frozenset[str]:
        """The mail addresses that the certificate names, in key form."""
        return self._key.addresses

    @property
    def valid_from(self) -> datetime:
        """Begin of the certificate's validity."""
        return self._key.valid_from

    @property
    def valid_until(self) -> datetime:
        """End of the certificate's validity."""
        return self._key.valid_until

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``. Raises SourceError."""
        return self._guard.call(lambda: self._key.sign(scheme, data))

    @property
    def decrypts(self) -> bool:
        """Others may encrypt to this key."""
        return isinstance(self._key, DecryptionKey) and self._key.decrypts

    def unwrap(self, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content. Raises DecryptionFailed and SourceError."""
        key = self._key
        if not isinstance(key, DecryptionKey):
            raise DecryptionFailed
        found = self._guard.call(lambda: _unwrapped(key, wrapped, size))
        if found is None:
            raise DecryptionFailed
        return found


def _unwrapped(key: DecryptionKey, wrapped: WrappedKey, size: int) -> bytes | None:
    """None for what does not decrypt: that is an answer, and no trouble of the source's."""
    try:
        return key.unwrap(wrapped, size)
    except DecryptionFailed:
        return None
