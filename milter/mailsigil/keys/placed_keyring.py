"""Enrolled keys that were made on a token or in a service, and never leave it.

The state folder holds their certificates alone, one PEM file for each address. Which key belongs to which
certificate, the place finds out by the public key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.certificate_folder import CertificateFolder
from mailsigil.keys.fitness import signing_addresses
from mailsigil.keys.keyring import Enrolled, StateFolder, chain_pem
from mailsigil.keys.newkey import CertifiableKey, PlacedKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.remote import Lookup, RemoteKeys
from mailsigil.keys.source import HeldKey, SigningKey, key_id_of
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")


class KeyPlace(Lookup, Protocol):
    """A place that makes keys, and finds them by the certificates of a folder. Raises SourceError."""

    def make_key(self, request: SubjectRequest, kind: KeyKind) -> PlacedKey:
        """Makes a key for an address that never leaves this place."""
        ...

    def key_of(self, request: SubjectRequest, spki: bytes) -> PlacedKey | None:
        """Gives the key with a public key (SubjectPublicKeyInfo, DER); None where it is gone."""
        ...


class PlacedKeyring:
    """A Keyring (keyring.py) of keys in a :class:`KeyPlace`. ``place`` looks for its certificates in the
    state folder; ``keys`` remembers what it found there. ``now`` gives the time, aware, in UTC."""

    def __init__(
        self, state: StateFolder, place: KeyPlace, keys: RemoteKeys, *, now: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._place = place
        self._keys = keys
        self._now = now
        self._folder = CertificateFolder(state.source, state.path)

    def find(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address that has a certificate. Raises SourceError."""
        now = self._now()
        groups = self._folder.find(address)
        if not any(each[0].not_valid_after_utc >= now for each in groups):
            return ()  # The place would call an expired certificate a fault; here it is one to replace.
        return self._keys.find(address)

    def get(self, key_id: str) -> SigningKey | None:
        """Gives the key of a name, where it was looked up before."""
        return self._keys.get(key_id)

    def held(self) -> tuple[SigningKey, ...]:
        """Gives the keys that were looked up."""
        return self._keys.held()

    def count(self) -> int:
        """Tells how many certificates there are."""
        return sum(1 for _ in self.newest())

    def refresh(self) -> None:
        """Takes in the certificates that other processes stored."""
        if self._folder.refresh():
            for fault in self._folder.faults:
                log.warning('source "%s": %s', self._state.source, fault)
            self._keys.expire()
        self._keys.refresh()

    def reload(self) -> None:
        """Opens the place anew with the next call."""
        self._keys.reload()
        self.refresh()

    def newest(self) -> Iterator[Enrolled]:
        """Gives what each address enrolled last."""
        seen: set[str] = set()
        for groups in self._folder.newest_first():
            own = groups[0][0]
            key_id = key_id_of(own.public_bytes(Encoding.DER))
            if key_id not in seen:
                seen.add(key_id)
                yield Enrolled(
                    key_id=key_id,
                    address=min(signing_addresses(own)),
                    valid_from=own.not_valid_before_utc,
                    valid_until=own.not_valid_after_utc,
                )

    def held_key(self, enrolled: Enrolled) -> HeldKey | None:
        """Gives the key, and no file: there is none that holds it. Raises SourceError."""
        for key in self.find(enrolled.address):
            if key.credential.key_id == enrolled.key_id:
                return HeldKey(key, None)
        return None

    def new_key(self, request: SubjectRequest, kind: KeyKind) -> PlacedKey:
        """Gives the key that waits, or has one made there. Raises SourceError."""
        held = self._state.waiting(request.address)
        if held is not None:
            waiting = self._place.key_of(request, held)
            if waiting is not None:
                return waiting
        new = self._place.make_key(request, kind)
        # Its public key alone; what was made there is found again by it, whatever happens meanwhile.
        self._state.write(self._state.waiting_file(request.address), new.spki)
        return new

    def store(self, new: CertifiableKey, chain: tuple[bytes, ...]) -> None:
        """Writes the chain into the file of the address."""
        address = new.request.address
        self._state.write(self._state.file_of(address), chain_pem(chain))
        self._state.drop_waiting(address)
        self.refresh()

    def drop_waiting(self, address: str) -> None:
        """Keeps the key: tokens are small, so it is tried again, and no second one is made beside it."""

    def remove(self, key: SigningKey) -> None:
        """Removes the certificate of a key; the key stays where it is, and signs no more."""
        certificate = key.credential.certificate
        for address in key.addresses:
            path = self._state.file_of(address)
            if path.exists() and _begins_with(path.read_bytes(), certificate):
                path.unlink()
        self.refresh()


def _begins_with(pem: bytes, certificate: bytes) -> bool:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) == certificate
