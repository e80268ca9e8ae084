"""What a source of keys offers to the agent. The next kind of source is one more file in ``sources/``.

There are two kinds. A :class:`KeySource` holds keys, or reaches the place that does. An :class:`Issuer`
certifies keys that it does not hold; ``enrolment.py`` makes a key source of it. Both raise SourceError, and
what either of them answers is believed only after ``answers.py`` has looked at it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from mailsigil.keys.newkey import CertifiableKey, NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.protocol import Credential
from mailsigil.keys.register import Reason
from mailsigil.keys.subject import SubjectRequest

__all__ = [
    "CertifiableKey",
    "ChoosesKind",
    "Enrols",
    "HeldKey",
    "Issuer",
    "KeyMaker",
    "KeySource",
    "NewKey",
    "Recalls",
    "SigningKey",
    "SubjectRequest",
    "Withdraws",
    "found_at_hand",
    "key_id_of",
    "source_name",
]

FOLDER: Final = "keyd"
"""The name of the folder of [keyd] among the sources."""


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


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that was enrolled, with its certificate: what a renewal is authenticated by."""

    key: SigningKey
    file: Path | None
    """PEM with private key and chain, mode 0600: TLS client authentication takes it from there. None for a
    key that lies on a token or in a service."""

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, the certificate first."""
        return (self.key.credential.certificate, *self.key.credential.intermediates)


class Issuer(Protocol):
    """An authority that certifies keys made elsewhere. Its methods may be called from several threads.

    Each raises SourceUnavailable, SourceRefused, SourceAnswer; the first two of them also Pending. What they
    return has been checked (``answers.checked_chain``): the first certificate is for the key and the address.
    """

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        ...

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Has a new key certified (``new.csr``); gives the chain, DER, the certificate first."""
        ...

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Has the successor of a key certified, authenticated by the current one where the protocol can."""
        ...

    def revoke(self, certificate: bytes) -> None:
        """Has a certificate (DER) revoked; SourceRefused where the protocol knows no revocation."""
        ...


@runtime_checkable
class ChoosesKind(Protocol):
    """An issuer that may want another kind of key than the one that is configured."""

    def kind_for(self, kind: KeyKind) -> KeyKind:
        """Gives the kind of key to make, ``kind`` where the issuer has no wish. Raises SourceError."""
        ...


@runtime_checkable
class Withdraws(Protocol):
    """An issuer that takes reasons, suspends, and publishes many changes at once. Raises like Issuer.

    What is so already stays as it is: whoever was interrupted says it again.
    """

    def withdraw(self, certificate: bytes, reason: Reason) -> None:
        """Revokes a certificate (DER), or suspends it (certificateHold)."""
        ...

    def release(self, certificate: bytes) -> None:
        """Lets a suspended certificate (DER) be good again."""
        ...

    def publish(self) -> None:
        """Makes known what was withdrawn and released since the last time."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """An issuer that can be asked whether it certified a key, where its answer was lost.

    ``request`` is what was asked for then. Both raise NotSupported where it cannot tell after all.
    """

    def recall(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
        """Gives the chain (DER, the certificate first) of a good certificate for this key; None: no."""
        ...

    def issued_since(self, request: SubjectRequest, since: datetime) -> tuple[bytes, ...]:
        """Gives the good certificates (DER) that were issued for a request's address from a time on."""
        ...


class KeyMaker(Protocol):
    """An authority that makes the key, too (EST serverkeygen, OpenBao's ``issue``)."""

    def make(self, request: SubjectRequest) -> tuple[NewKey, tuple[bytes, ...]]:
        """Gives a key with its chain (DER, the certificate first), checked. Raises like :class:`Issuer`."""
        ...


@runtime_checkable
class Enrols(Protocol):
    """A KeySource whose ``find`` may have a key certified, and that can tell what is there without that."""

    def at_hand(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address that are there now."""
        ...


def found_at_hand(source: KeySource, address: str) -> tuple[SigningKey, ...]:
    """Gives the keys of a source for an address, and brings none about."""
    return source.at_hand(address) if isinstance(source, Enrols) else source.find(address)


def source_name(source: KeySource) -> str:
    """Gives the name of a [[source]], as its gate carries it; without one it is the folder of [keyd]."""
    return str(getattr(source, "name", FOLDER))


def key_id_of(certificate: bytes) -> str:
    """Names the key of a certificate (DER): the same in each process and after each restart."""
    return hashlib.sha256(certificate).hexdigest()[:32]
