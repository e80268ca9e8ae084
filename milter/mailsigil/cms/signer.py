"""One SignerInfo (RFC 5652 5.3) as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import Family
from mailsigil.cms.attributes import CertificateHash, SignedAttributes, find_misplaced, parse_attributes
from mailsigil.cms.ber import CmsSyntaxError, Cursor
from mailsigil.cms.elements import children, content
from mailsigil.cms.values import (
    MAX_REMEMBERED,
    AlgorithmIdentifier,
    algorithm_of,
    integer_of,
    read_algorithm,
    read_integer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerIdentifier:
    """Which certificate made the signature: issuer and serial number, or a subject key identifier."""

    issuer: bytes = b""
    """DER Name of the issuer; b"" when the signer is named by its key."""
    serial: int = 0
    subject_key_id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureAlgorithm:
    """The signatureAlgorithm field, understood."""

    identifier: AlgorithmIdentifier
    family: Family | None
    """None for an algorithm that we do not know."""
    digest: str
    """The digest that it fixes; "" when it leaves that to digestAlgorithm."""
    salt_length: int | None = None
    """RSASSA-PSS: length of the salt in octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerInfo:
    """One signer, with everything that a verdict about it needs."""

    sid: SignerIdentifier
    digest_identifier: AlgorithmIdentifier
    signature_algorithm: SignatureAlgorithm
    signature: bytes
    attributes: SignedAttributes | None
    """None when the signature stands directly over the content."""
    misplaced: str
    """A token when an attribute that must be signed stands among the unsigned ones, else ""."""

    @property
    def digest_algorithm(self) -> str:
        """Name of the digest as `hashlib` spells it; "" for one that we do not know."""
        return "" if self.digest_identifier.parameters else oids.DIGESTS.get(self.digest_identifier.oid, "")

    @property
    def signed_attributes(self) -> bytes | None:
        """The SET OF signed attributes as it was sent (tag 0x31), None when there are none."""
        return None if self.attributes is None else self.attributes.as_sent

    @property
    def message_digest(self) -> bytes:
        """The messageDigest attribute; b"" without one."""
        return b"" if self.attributes is None else self.attributes.message_digest

    @property
    def content_type(self) -> str:
        """The contentType attribute in dotted form; "" without one."""
        return "" if self.attributes is None else self.attributes.content_type

    @property
    def signing_time(self) -> datetime | None:
        """When the signer says it signed, in UTC (RFC 5652 11.3). Nobody vouches for it."""
        return None if self.attributes is None else self.attributes.signing_time

    @property
    def certificate_hashes(self) -> tuple[CertificateHash, ...]:
        """What the signer says about its certificate (RFC 5035); at most one of each version."""
        return () if self.attributes is None else self.attributes.certificate_hashes


def parse_signer(element: bytes, *, attribute_limit: int) -> SignerInfo:
    """Reads one SignerInfo. Raises CmsSyntaxError and CmsLimitError."""
    fields = children(element, der.SEQUENCE)
    signed = fields.pop(3) if len(fields) > 3 and fields[3][0] == _SIGNED else None
    unsigned = fields.pop() if len(fields) > 5 and fields[5][0] == _UNSIGNED else None
    if len(fields) != 5:
        raise CmsSyntaxError("signer-fields", "a signer has too few, too many or misplaced fields")
    version, sid, digest, algorithm, signature = fields
    integer_of(content(version, der.INTEGER))  # it repeats what the choice of sid says
    return SignerInfo(
        sid=_read_sid(sid),
        digest_identifier=algorithm_of(digest),
        signature_algorithm=_understood(algorithm_of(algorithm)),
        signature=content(signature, der.OCTET_STRING),
        attributes=None if signed is None else parse_attributes(signed, limit=attribute_limit),
        misplaced="" if unsigned is None else find_misplaced(unsigned, limit=attribute_limit),
    )


_SIGNED: Final = der.context(0)
_UNSIGNED: Final = der.context(1)
_BY_KEY: Final = der.context(0, constructed=False)


def _read_sid(element: bytes) -> SignerIdentifier:
    if element[0] == _BY_KEY:
        return SignerIdentifier(subject_key_id=content(element, _BY_KEY))
    return (_issuer_and_serial if len(element) <= MAX_REMEMBERED else _issuer_and_serial.__wrapped__)(element)


@lru_cache(maxsize=1024)
def _issuer_and_serial(element: bytes) -> SignerIdentifier:
    cursor = Cursor.over(element)
    with cursor.inside(der.SEQUENCE):
        issuer = cursor.raw(der.SEQUENCE)
        serial = read_integer(cursor)
    cursor.finish()
    return SignerIdentifier(issuer=issuer, serial=serial)


@lru_cache(maxsize=1024)
def _understood(identifier: AlgorithmIdentifier) -> SignatureAlgorithm:
    if identifier.oid == oids.RSASSA_PSS:
        return _read_pss(identifier)
    family, digest = oids.SIGNATURES.get(identifier.oid, (None, ""))
    if identifier.parameters:
        # RFC 5754 3, RFC 8419 2.1: none of the algorithms we know has parameters other than NULL
        family = None
    return SignatureAlgorithm(identifier=identifier, family=family, digest=digest)


def _read_pss(identifier: AlgorithmIdentifier) -> SignatureAlgorithm:
    """RSASSA-PSS-params with their defaults (RFC 4055 3.1)."""
    digest, mask_digest, salt_length, trailer = "sha1", "sha1", 20, 1
    cursor = Cursor.over(identifier.parameters or der.sequence())
    with cursor.inside(der.SEQUENCE):
        if cursor.tag() == der.context(0):
            with cursor.inside(der.context(0)):
                digest = oids.DIGESTS.get(read_algorithm(cursor).oid, "")
        if cursor.tag() == der.context(1):
            with cursor.inside(der.context(1)):
                mask_digest = _read_mgf(cursor)
        if cursor.tag() == der.context(2):
            with cursor.inside(der.context(2)):
                salt_length = read_integer(cursor)
        if cursor.tag() == der.context(3):
            with cursor.inside(der.context(3)):
                trailer = read_integer(cursor)
    if not 0 <= salt_length <= 2048:
        raise CmsSyntaxError("bad-salt-length", "the salt length of a PSS signature cannot be true")
    # RFC 4055 3.1: trailerField is 1; the mask's hash is required to be the signature's own
    known = trailer == 1 and digest == mask_digest != ""
    return SignatureAlgorithm(
        identifier=identifier,
        family=Family.RSA_PSS if known else None,
        digest=digest,
        salt_length=salt_length,
    )


def _read_mgf(cursor: Cursor) -> str:
    mask = read_algorithm(cursor)
    if mask.oid != oids.MGF1 or not mask.parameters:
        return ""
    return oids.DIGESTS.get(read_algorithm(Cursor.over(mask.parameters)).oid, "")
