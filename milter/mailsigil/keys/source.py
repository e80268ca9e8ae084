"""What a source of keys offers to the agent. The next kind of source is one more file like folder.py."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Protocol

from mailsigil.keys.protocol import Credential


class SigningKey(Protocol):
    """A private key with its certificate: an operation, never bytes."""

    @property
    def credential(self) -> Credential:
        """What a caller may know."""
        ...

    @property
    def addresses(self) -> frozenset[str]:
        """The mail addresses that the certificate names, in key form."""
        ...

    @property
    def valid_from(self) -> datetime:
        """Begin of the certificate's validity, in UTC."""
        ...

    @property
    def valid_until(self) -> datetime:
        """End of the certificate's validity, in UTC, inclusive (RFC 5280 4.1.2.5)."""
        ...

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``; ``scheme`` is one of the credential's."""
        ...


class KeySource(Protocol):
    """A place where keys live. Its methods may be called from several threads at once."""

    def find(self, address: str) -> tuple[SigningKey, ...]:
        """Gives all keys whose certificate names an address (key form), the newest first."""
        ...

    def get(self, key_id: str) -> SigningKey | None:
        """Gives the key of a name."""
        ...

    def count(self) -> int:
        """Tells how many keys there are."""
        ...

    def refresh(self) -> None:
        """Takes in what has changed; called every few seconds, so cheap when nothing has."""
        ...

    def reload(self) -> None:
        """Reads everything anew."""
        ...


def key_id_of(certificate: bytes) -> str:
    """Names the key of a certificate (DER): the same in each process and after each restart."""
    return hashlib.sha256(certificate).hexdigest()[:32]
