"""Looks at trust anchors as an administrator would: how long they last, how strong they are, what for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from mailsigil.pki.anchors import AnchorSet
from mailsigil.pki.names import clean_name
from mailsigil.pki.parsed import key_weakness
from mailsigil.pki.purpose import authority_misuse

SOON: Final = timedelta(days=60)


class Weight(Enum):
    """How much a remark matters."""

    PROBLEM = "problem"
    """Mail that should be trusted is not, or the anchor should go."""
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class AnchorRemark:
    """Something to know about one anchor."""

    weight: Weight
    anchor_set: str
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorFacts:
    """One anchor in words."""

    anchor_set: str
    subject: str
    key: str
    sha256: str
    self_signed: bool
    not_before: datetime
    not_after: datetime
    days_left: int
    """Negative when it has expired."""


def anchor_facts(anchors: AnchorSet, certificate: x509.Certificate, *, now: datetime) -> AnchorFacts:
    """Describe one anchor of a set."""
    return AnchorFacts(
        anchor_set=anchors.name,
        subject=clean_name(certificate.subject.rfc4514_string(), limit=200),
        key=key_kind(certificate),
        sha256=certificate.fingerprint(SHA256()).hex(),
        self_signed=is_self_signed(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - now).days,
    )


def review_anchors(sets: Sequence[AnchorSet], *, now: datetime) -> Iterator[AnchorRemark]:
    """Give everything that is to be said about all anchors."""
    seen: dict[bytes, str] = {}
    for anchors in sets:
        if not anchors.certificates:
            yield AnchorRemark(Weight.PROBLEM, anchors.name, "this entry", "has no authority in its files")
        for certificate in anchors.certificates:
            subject = clean_name(certificate.subject.rfc4514_string(), limit=200)
            for weight, sentence in _remarks(anchors, certificate, now):
                yield AnchorRemark(weight, anchors.name, subject, sentence)
            digest = certificate.fingerprint(SHA256())
            again = digest in seen
            first = seen.setdefault(digest, anchors.name)
            if again and first == anchors.name:
                yield AnchorRemark(Weight.NOTE, anchors.name, subject, "stands in this entry twice")
            elif again:
                sentence = f'stands in "{first}" already, and only what that set asserts counts'
                yield AnchorRemark(Weight.PROBLEM, anchors.name, subject, sentence)


def _remarks(
    anchors: AnchorSet, certificate: x509.Certificate, now: datetime
) -> Iterator[tuple[Weight, str]]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        yield Weight.PROBLEM, f"expired on {end:%Y-%m-%d}; ask the authority for its present certificate"
    elif end < now + SOON:
        yield Weight.PROBLEM, f"expires on {end:%Y-%m-%d}; ask the authority for its next certificate"
    if begin > now:
        yield Weight.PROBLEM, f"is not valid before {begin:%Y-%m-%d}"
    if weakness := key_weakness(certificate):
        yield Weight.PROBLEM, f"is too weak: {weakness}; nothing below it is trusted"
    if certificate.version is x509.Version.v1:
        yield Weight.NOTE, "is of version 1, which cannot say that it is an authority or what it is for"
    if authority_misuse([certificate], public=anchors.public):
        yield Weight.PROBLEM, "says itself that it does not issue certificates for mail"
    if not is_self_signed(certificate):
        yield Weight.NOTE, "is not self-signed: whoever issued it can no longer revoke it here"


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate's own key signed it."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError):
        # Roots of old times were signed with SHA-1, which is not computed any more: names have to do.
        return certificate.issuer == certificate.subject and weak_signature(certificate)
    return True


def weak_signature(certificate: x509.Certificate) -> bool:
    """Tell whether a signature is of a kind that is not checked any more."""
    algorithm = certificate.signature_hash_algorithm
    return algorithm is not None and algorithm.name in {"md5", "sha1"}


def key_kind(certificate: x509.Certificate) -> str:
    """Name a certificate's key: ``RSA 2048``, ``EC secp256r1``, ``Ed25519``."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")
