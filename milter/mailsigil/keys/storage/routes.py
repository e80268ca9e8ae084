"""The stores of all mail domains, each behind its guard: who is asked for whom, and what is believed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailsigil.config.storage import StorageSettings
from mailsigil.keys.errors import KeyFileError, SourceRefused
from mailsigil.keys.guard import Guard
from mailsigil.keys.storage.belief import believed
from mailsigil.keys.storage.key import MAX_KEYS, StorageKey, StorageKeyMaker, StorageStore
from mailsigil.keys.storage.pins import PinFolder

log = logging.getLogger("mailsigil.keyd")

_PUBLIC: Final = "public keys"


@dataclass(frozen=True, slots=True)
class StorageRoute:
    """One [[storage]]: its settings, its store, who makes its keys, and the guard of all calls."""

    settings: StorageSettings
    store: StorageStore
    maker: StorageKeyMaker
    guard: Guard

    @property
    def name(self) -> str:
        """The name in the settings."""
        return self.settings.name


class StorageRoutes:
    """All of them, and the folder of public keys. Safe to share between threads; belongs to one process."""

    def __init__(self, routes: Sequence[StorageRoute], pins: PinFolder) -> None:
        self.pins = pins
        self.all = tuple(routes)
        self._by_domain = {domain: route for route in routes for domain in route.settings.domains}

    def of(self, address: str) -> StorageRoute | None:
        """Gives the route of an address (in lower case), or None: its domain has no storage keys."""
        return self._by_domain.get(address.rpartition("@")[2])

    def public_keys(self, route: StorageRoute, address: str) -> tuple[bytes, ...]:
        """Gives the public keys, the newest first; from the disk, and without a word to the key server.

        Only for somebody who has none, and where keys are adopted, the server is asked. Raises SourceError.
        """
        pinned = self._pinned(address)
        if pinned or not route.settings.adopt or route.settings.opened_by == "login":
            return pinned
        return tuple(key.public for key in self.fetch(route, address))

    def fetch(
        self, route: StorageRoute, address: str, *, passphrase: bytes | None = None
    ) -> tuple[StorageKey, ...]:
        """Gives the private keys, the newest first; none for somebody who has none. Raises SourceError.

        ``passphrase`` opens them where the store's own does not.
        """
        adopt = route.settings.adopt
        pinned = self._pinned(address)
        if not pinned and not adopt:
            return ()
        entry = route.guard.call(lambda: route.store.fetch(address, passphrase=passphrase))
        keys = believed(route.name, address, entry, pinned=pinned, adopt=adopt)
        if any(key.public not in pinned for key in keys):
            self._pin(address, [*(key.public for key in keys if key.public not in pinned), *pinned])
            log.info('source "%s": new storage keys of %s are taken over', route.name, address)
        return keys

    def pin(self, route: StorageRoute, address: str) -> tuple[StorageKey, ...]:
        """Takes over what the store has, on an administrator's word. Raises SourceError."""
        entry = route.guard.call(lambda: route.store.fetch(address))
        if not entry.keys:
            raise SourceRefused(
                route.name, f"it has no keys for {address}", "mailsigil storage create ADDRESS"
            )
        keys = believed(route.name, address, entry, pinned=[key.public for key in entry.keys], adopt=False)
        self._pin(address, [key.public for key in keys])
        return keys

    def add(self, route: StorageRoute, address: str) -> StorageKey:
        """Has a key made, stored, read back and pinned as the newest of its owner. Raises SourceError."""
        pinned = self._pinned(address)
        if len(pinned) >= MAX_KEYS:
            raise SourceRefused(
                route.name,
                f"{address} has {MAX_KEYS} keys already",
                "Remove keys that encrypt no mail any more",
            )
        key = route.guard.call(lambda: route.maker.make(address))
        route.guard.call(lambda: route.store.add(address, key))
        # Mail must not be encrypted to a key that cannot be had again.
        entry = route.guard.call(lambda: route.store.fetch(address))
        believed(route.name, address, entry, pinned=(key.public, *pinned), adopt=False)
        self._pin(address, [key.public, *pinned])
        return key

    def _pinned(self, address: str) -> tuple[bytes, ...]:
        try:
            return self.pins.read(address)
        except KeyFileError as fault:
            raise SourceRefused(_PUBLIC, f"{fault.path}: {fault.sentence}", fault.mend) from fault

    def _pin(self, address: str, keys: Sequence[bytes]) -> None:
        try:
            self.pins.write(address, keys)
        except KeyFileError as fault:
            raise SourceRefused(_PUBLIC, f"{fault.path}: {fault.sentence}", fault.mend) from fault
