"""One signature: which credential signs, over what, and with which signing time.

The signature is made by the key agent; this process never holds a private key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
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
from mailsigil.pki.anchors import TrustStore
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


LevelOf = Callable[[Credential], frozenset[Level]]
"""Tells which levels a credential's certificate claims."""

EVERY_LEVEL = frozenset(Level)


class NoCredential(Exception):
    """Nothing can sign for the author, or nothing that says no more than is true today."""


@dataclass(frozen=True, slots=True)
class Made:
    """A signature, and what it was made with."""

    builder: SignatureBuilder
    attributes: bytes
    signature: bytes
    scheme: Scheme
    key_id: str


def certified_levels(credential: Credential) -> frozenset[Level]:
    """The levels that a certificate claims by itself; V1 where it claims none."""
    return claimed_levels(credential.certificate)


def sign(
    entity: Entity,
    address: str,
    when: datetime | None,
    keys: Keys,
    *,
    levels: Collection[str] = EVERY_LEVEL,
    levels_of: LevelOf = certified_levels,
) -> Made:
    """Signs an entity in the name of an address (key form), with the highest of these levels it has.

    Raises NoCredential where nothing of these levels can sign for the address, and KeyServiceError.
    """

    def attempt() -> Made:
        credential = _choose(keys.find(address), address, levels, levels_of)
        return _make(credential, entity, address, when, keys)

    try:
        return attempt()
    except KeyAgentRefused:
        # The key was replaced since it was found; the client has forgotten it, and finds the new one.
        return attempt()


def _choose(
    credentials: Sequence[Credential], address: str, levels: Collection[str], levels_of: LevelOf
) -> Credential:
    if not credentials:
        raise NoCredential(f"no certificate for {address}")
    # A certificate that claims several levels must be entitled to each: readers may pick any of them.
    fitting = [each for each in credentials if all(level in levels for level in levels_of(each))]
    if not fitting:
        claimed = sorted({level.value for each in credentials for level in levels_of(each)})
        raise NoCredential(
            f"the certificates for {address} say {', '.join(claimed)}, and {', '.join(sorted(levels))} may be"
        )
    # The highest level speaks for the sender; among equals the newest, which comes first.
    return max(fitting, key=lambda each: max(levels_of(each)))


def _make(credential: Credential, entity: Entity, address: str, when: datetime | None, keys: Keys) -> Made:
    scheme = Scheme(credential.schemes[0])
    builder = _builder(credential.certificate, credential.intermediates, scheme)
    attributes = builder.attributes(_digest(entity, scheme), when)
    signature = keys.sign(key_id=credential.key_id, address=address, scheme=scheme.value, data=attributes)
    return Made(builder, attributes, signature, scheme, credential.key_id)


@lru_cache(maxsize=4096)
def claimed_levels(
    certificate: bytes, custom: frozenset[tuple[str, Level]] = frozenset()
) -> frozenset[Level]:
    """The levels that a certificate (DER) claims; V1 where it claims none.

    ``custom`` are identifiers of private authorities and what they stand for.
    """
    claimed = asserted_levels(x509.load_der_x509_certificate(certificate), dict(custom))
    return frozenset(assertion.level for assertion in claimed) or frozenset({Level.V1})


def levels_under(trust: TrustStore) -> LevelOf:
    """Gives the ``LevelOf`` of a house that has private authorities with policies or levels of their own."""
    custom = frozenset((oid, level) for anchors in trust.sets for oid, level in anchors.oids.items())
    fixed = {
        anchor.subject: anchors.level
        for anchors in trust.sets
        if anchors.level is not None
        for anchor in anchors.certificates
    }

    @lru_cache(maxsize=4096)
    def levels_of(credential: Credential) -> frozenset[Level]:
        chain = (credential.certificate, *credential.intermediates)
        issuers = {x509.load_der_x509_certificate(one).issuer for one in chain} if fixed else set()
        by_issuer = frozenset(fixed[name] for name in issuers if name in fixed)
        return claimed_levels(credential.certificate, custom) | by_issuer

    return levels_of


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
