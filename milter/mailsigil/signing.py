"""One signature: which credential signs, over what, and with which signing time.

The signature is made by the key agent; this process never holds a private key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from mailsigil.cms.algorithms import Scheme
from mailsigil.cms.build import SignatureBuilder
from mailsigil.keys.errors import KeyAgentRefused, Refusal
from mailsigil.keys.protocol import Credential
from mailsigil.message.address import Address, AddressError
from mailsigil.message.dates import read_date
from mailsigil.message.fields import Field, named
from mailsigil.message.seven_bit import Entity
from mailsigil.pki.anchors import TrustStore
from mailsigil.pki.level import asserted_levels
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.policies import Level
from mailsigil.policy.certificates import CertificateRule, Otherwise

TIME_TOLERANCE = timedelta(minutes=55)
"""Thunderbird calls a signature invalid when Date and signingTime are over an hour apart."""


class Keys(Protocol):
    """Signing with keys that this process never sees."""

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        """Gives what can sign for an address (key form), best first.

        With ``source`` that one alone is asked; the source that ``without`` names is not.

        Raises KeyAgentUnavailable, and KeyAgentRefused.
        """
        ...

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        """Signs ``data``; raises KeyAgentUnavailable or KeyAgentRefused."""
        ...


LevelOf = Callable[[Credential], frozenset[Level]]
"""Tells which levels a credential's certificate claims."""

EVERY_LEVEL = frozenset(Level)

_REPLACED = frozenset({Refusal.UNKNOWN_KEY, Refusal.ADDRESS, Refusal.NOT_VALID, Refusal.SCHEME})
"""What the agent says of a key that was replaced since it was found."""


class NoCredential(Exception):
    """Nothing can sign for the author, or nothing that says no more than is true today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which credentials may sign."""

    levels: Collection[str] = EVERY_LEVEL
    """What a certificate of the sender may say."""
    domain_levels: Collection[str] = frozenset()
    """What a certificate of the sender's whole domain may say; empty: none of these signs."""
    rule: CertificateRule | None = None
    """The rule that the recipients fit."""
    hint: str = ""
    """Why no other level may be, for the log."""
    levels_of: LevelOf = field(default=lambda credential: certified_levels(credential))


@dataclass(frozen=True, slots=True)
class Made:
    """A signature, and what it was made with."""

    builder: SignatureBuilder
    attributes: bytes
    signature: bytes
    scheme: Scheme
    credential: Credential
    whole_domain: bool
    """The domain signed, and not its sender."""


def certified_levels(credential: Credential) -> frozenset[Level]:
    """The levels that a certificate claims by itself; V1 where it claims none."""
    return claimed_levels(credential.certificate)


def sign(
    entity: Entity, address: str, when: datetime | None, keys: Keys, *, wanted: Wanted = Wanted()
) -> Made:
    """Signs an entity in the name of an address (key form), with the best credential that may.

    Raises NoCredential where nothing can sign for the address, and KeyServiceError.
    """

    def attempt(wanted: Wanted) -> Made:
        return _make(choose(keys, address, wanted), entity, address, when, keys)

    try:
        return attempt(wanted)
    except KeyAgentRefused as refused:
        if refused.reason in _REPLACED:
            # The client has forgotten the key, and finds the new one.
            return attempt(wanted)
        if wanted.rule is None or wanted.rule.otherwise is Otherwise.FAIL:
            raise
        # The source told of the key before, and does not sign with it now.
        others = keys.find(address, without=wanted.rule.source)
        return _make(_best(others, address, wanted), entity, address, when, keys)


def choose(keys: Keys, address: str, wanted: Wanted) -> Credential:
    """Gives the credential that signs for an address; raises like :func:`sign`."""
    rule = wanted.rule
    if rule is None:
        return _best(keys.find(address), address, wanted)
    try:
        return _best(keys.find(address, source=rule.source), address, wanted)
    except (NoCredential, KeyAgentRefused) as error:
        if rule.otherwise is Otherwise.FAIL:
            raise NoCredential(f'the certificate of "{rule.source}" is to sign: {error}') from error
        return _best(keys.find(address, without=rule.source), address, wanted)


def whole_domain(credential: Credential, address: str) -> bool:
    """Tells whether a certificate signs for an address only because it stands for the whole domain."""
    return credential.speaks_for(address) and address not in _addresses(credential.certificate)


def _best(credentials: Sequence[Credential], address: str, wanted: Wanted) -> Credential:
    if not credentials:
        raise NoCredential(f"no certificate for {address}")
    own = [each for each in credentials if not whole_domain(each, address)]
    if not own and not wanted.domain_levels:
        raise NoCredential(
            f"no certificate for {address}; one of the domain is there, and policy does not let it sign"
            " (domain_signature)"
        )
    # Who has an own certificate is not spoken for by the domain.
    candidates, levels = (own, wanted.levels) if own else (credentials, wanted.domain_levels)
    # A certificate that claims several levels must be entitled to each: readers may pick any of them.
    fitting = [each for each in candidates if all(level in levels for level in wanted.levels_of(each))]
    if not fitting:
        claimed = sorted({level.value for each in candidates for level in wanted.levels_of(each)})
        may = ", ".join(sorted(levels))
        raise NoCredential(
            f"the certificates for {address} say {', '.join(claimed)}, and {may} may be: {wanted.hint}"
        )
    # The highest level speaks for the sender; among equals the newest, which comes first.
    return max(fitting, key=lambda each: max(wanted.levels_of(each)))


def _make(credential: Credential, entity: Entity, address: str, when: datetime | None, keys: Keys) -> Made:
    scheme = Scheme(credential.schemes[0])
    domain = whole_domain(credential, address)
    builder = _builder(credential.certificate, credential.intermediates, scheme, domain)
    attributes = builder.attributes(_digest(entity, scheme), when)
    signature = keys.sign(key_id=credential.key_id, address=address, scheme=scheme.value, data=attributes)
    return Made(builder, attributes, signature, scheme, credential, domain)


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
def _builder(
    certificate: bytes, intermediates: tuple[bytes, ...], scheme: Scheme, domain: bool
) -> SignatureBuilder:
    return SignatureBuilder(certificate, intermediates, scheme, whole_domain=domain)


@lru_cache(maxsize=1024)
def _addresses(certificate: bytes) -> frozenset[str]:
    """The addresses that a certificate (DER) names, in key form."""
    found = set()
    for text in CertificateNames.from_certificate(x509.load_der_x509_certificate(certificate)).addresses:
        with suppress(AddressError):
            found.add(Address.parse(text).key)
    return frozenset(found)


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
    date = read_date(dates[0]) if dates else None
    return now if date is not None and abs(date - now) <= TIME_TOLERANCE else None
