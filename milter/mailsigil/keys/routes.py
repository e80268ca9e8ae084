"""Which source serves which mail domains: a source behind a gate, that others never wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mailsigil.keys.decryption import Decrypting, DecryptionKey
from mailsigil.keys.protocol import Credential
from mailsigil.keys.source import KeySource, SigningKey, found_at_hand


class WhenSilent(StrEnum):
    """What a source's silence means for mail that another source has a key for."""

    WAIT = "wait"
    """Nobody else signs in its place."""
    OTHERS = "others"
    """What others have signs."""


@runtime_checkable
class Closing(Protocol):
    """A source that holds threads, sessions or connections."""

    def close(self) -> None:
        """Gives them back; calls on their way are finished."""
        ...


@dataclass(frozen=True, slots=True)
class RoutedKey:
    """A key of a source, with what the agent says about it."""

    key: SigningKey
    credential: Credential

    @property
    def addresses(self) -> frozenset[str]:
        """The mail addresses that the certificate names, in key form."""
        return self.key.addresses

    @property
    def valid_from(self) -> datetime:
        """Begin of the certificate's validity."""
        return self.key.valid_from

    @property
    def valid_until(self) -> datetime:
        """End of the certificate's validity."""
        return self.key.valid_until

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``."""
        return self.key.sign(scheme, data)


class DomainRoute:
    """A KeySource for the addresses of some mail domains alone.

    With ``domain_mailbox``, a certificate that names this mailbox of a domain (RFC 3183) signs for every
    sender of the domain.
    """

    def __init__(
        self,
        source: KeySource,
        *,
        name: str,
        domains: Iterable[str],
        domain_mailbox: str = "",
        when_silent: WhenSilent = WhenSilent.WAIT,
    ) -> None:
        self.name = name
        self.source = source
        self.when_silent = when_silent
        self._domains = frozenset(domains)
        self._mailbox = domain_mailbox

    def find(self, address: str) -> tuple[RoutedKey, ...]:
        """Gives the keys for an address, those of its own before those of its domain."""
        return self._of(address, self.source.find)

    def at_hand(self, address: str) -> tuple[RoutedKey, ...]:
        """Gives of these the ones that are there; none is enrolled."""
        return self._of(address, lambda one: found_at_hand(self.source, one))

    def decrypting(self, address: str) -> tuple[DecryptionKey, ...]:
        """Gives the keys to decrypt an address's mail with: its own, and never its domain's."""
        if address.rpartition("@")[2] not in self._domains or not isinstance(self.source, Decrypting):
            return ()
        return self.source.decrypting(address)

    def get(self, key_id: str) -> RoutedKey | None:
        """Gives the key of a name, when its certificate names an address of these domains."""
        key = self.source.get(key_id)
        if key is None or self._domains.isdisjoint(each.rpartition("@")[2] for each in key.addresses):
            return None
        return self._routed(key)

    def count(self) -> int:
        """Tells how many keys there are."""
        return self.source.count()

    def refresh(self) -> None:
        """Takes in what has changed."""
        self.source.refresh()

    def reload(self) -> None:
        """Reads everything anew."""
        self.source.reload()

    def close(self) -> None:
        """Gives back what the source holds, because it is used no more."""
        if isinstance(self.source, Closing):
            self.source.close()

    def _of(self, address: str, ask: Callable[[str], tuple[SigningKey, ...]]) -> tuple[RoutedKey, ...]:
        domain = address.rpartition("@")[2]
        if domain not in self._domains:
            return ()
        own = tuple(self._routed(key) for key in ask(address))
        everybody = f"{self._mailbox}@{domain}"
        if not self._mailbox or address == everybody or own:
            return own
        return tuple(self._routed(key) for key in ask(everybody))

    def _routed(self, key: SigningKey) -> RoutedKey:
        return RoutedKey(key, replace(key.credential, source=self.name, domains=self._whole_domains(key)))

    def _whole_domains(self, key: SigningKey) -> tuple[str, ...]:
        """All domains whose mailbox the certificate names: a company may have one for several."""
        if not self._mailbox:
            return ()
        return tuple(sorted(one for one in self._domains if f"{self._mailbox}@{one}" in key.addresses))
