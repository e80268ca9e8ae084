"""One signature: which credential signs, over what, and with which signing time.

The signature is made by the key agent; this process never holds a private key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from mailsigil.cms.algorithms import Scheme
from mailsigil.cms.build import SignatureBuilder
from mailsigil.keys.errors import KeyAgentRefused
from mailsigil.keys.protocol import Credential
from mailsigil.message.fields import Field, named
from mailsigil.message.seven_bit import Entity
from mailsigil.pki.level import Level, asserted_levels

TIME_TOLERANCE = timedelta(minutes=55)
"""Thunderbird calls a signature invalid when Date and signingTime are over an hour apart."""


class Keys(Protocol):
    """Signing with keys that this process never sees."""

    def find(self, address: str) -> tuple[Credential, ...]:
        """Gives what can sign for an address (key form), best first; raises KeyAgentUnavailable."""
        ...

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        """Signs ``data``; raises KeyAgentUnavailable or KeyAgentRefused."""
        ...


class NoCredential(Exception):
    """Nothing can sign for the author."""


@dataclass(frozen=True, slots=True)
class Made:
    """A signature, and what it was made with."""

    builder: SignatureBuilder
    attributes: bytes
    signature: bytes
    scheme: Scheme
    key_id: str


def sign(entity: Entity, address: str, when: datetime | None, keys: Keys) -> Made:
    """Signs an entity in the name of an address (key form), with the highest level it has.

    Raises NoCredential where nothing can sign for the address, and KeyServiceError.
    """
    try:
        return _sign(entity, address, when, keys)
    except KeyAgentRefused:
        # The key was replaced since it was found; the client has forgotten it, and finds the new one.
        return _sign(entity, address, when, keys)


def _sign(entity: Entity, address: str, when: datetime | None, keys: Keys) -> Made:
    credentials = keys.find(address)
    if not credentials:
        raise NoCredential(f"no certificate for {address}")
    # The highest level speaks for the sender; among equals the newest, which comes first.
    credential = max(credentials, key=lambda each: certified_level(each.certificate))
    scheme = Scheme(credential.schemes[0])
    builder = _builder(credential.certificate, credential.intermediates, scheme)
    attributes = builder.attributes(_digest(entity, scheme), when)
    signature = keys.sign(key_id=credential.key_id, address=address, scheme=scheme.value, data=attributes)
    return Made(builder, attributes, signature, scheme, credential.key_id)


@lru_cache(maxsize=4096)
def certified_level(certificate: bytes) -> Level:
    """The highest level that a certificate (DER) claims; V1 where it claims none."""
    claimed = asserted_levels(x509.load_der_x509_certificate(certificate))
    return max((assertion.level for assertion in claimed), default=Level.V1)


@lru_cache(maxsize=1024)
def _builder(certificate: bytes, intermediates: tuple[bytes, ...], scheme: Scheme) -> SignatureBuilder:
    return SignatureBuilder(certificate, intermediates, scheme)


def _digest(entity: Entity, scheme: Scheme) -> bytes:
    digest = hashlib.new(scheme.digest)
    for chunk in entity.chunks():
        digest.update(chunk)
    return digest.digest()


def signing_time(fields: Sequence[Field], now: datetime) -> datetime | None:
    """The signing time, or None where a client would hold it against the message's Date.

    A scheduled mail carries the Date of its writing. Telling another time than the true one is no
    choice for a signer, and the attribute is optional (RFC 8551 2.5.1), so it is left out.
    """
    dates = named(fields, b"date")
    if not dates:
        return None
    try:
        date = parsedate_to_datetime(dates[0].unfolded.decode("ascii"))
        if date.tzinfo is None:  # "-0000" (RFC 5322 3.3): UTC, of unknown origin
            date = date.replace(tzinfo=now.tzinfo)
        apart = abs(date - now)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return now if apart <= TIME_TOLERANCE else None
