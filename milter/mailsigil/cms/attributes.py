"""The signed attributes of one signer (RFC 5652 11, RFC 8551 2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms.ber import CmsLimitError, CmsSyntaxError, Cursor
from mailsigil.cms.elements import children, content
from mailsigil.cms.values import (
    MAX_REMEMBERED,
    AlgorithmIdentifier,
    oid_of,
    read_algorithm,
    read_oid,
    read_time,
)


@dataclass(frozen=True, slots=True)
class CertificateHash:
    """What signingCertificate or signingCertificateV2 says about the certificate of the signer."""

    algorithm: str
    """A digest name, or "" when it is none we know."""
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAttributes:
    """The attributes as values, and the bytes the signature may stand over."""

    as_sent: bytes
    """The SET OF in the order and spelling of the sender, with the tag 0x31."""
    sorted_der: bytes
    """The same attributes in DER order, which RFC 5652 5.4 demands and some senders sign but do not send."""
    content_type: str = ""
    message_digest: bytes = b""
    signing_time: datetime | None = None
    certificate_hashes: tuple[CertificateHash, ...] = ()
    protection: tuple[AlgorithmIdentifier, AlgorithmIdentifier] | None = None
    """cmsAlgorithmProtection: digest and signature algorithm (RFC 6211)."""
    fault: str = ""
    """A token for the rule that the attributes break, "" when they keep all of them."""


_NAMES: Final = {
    oids.CONTENT_TYPE: "content-type",
    oids.MESSAGE_DIGEST: "message-digest",
    oids.SIGNING_TIME: "signing-time",
    oids.SIGNING_CERTIFICATE: "signing-certificate",
    oids.SIGNING_CERTIFICATE_V2: "signing-certificate",
    oids.ALGORITHM_PROTECTION: "algorithm-protection",
}


def parse_attributes(element: bytes, *, limit: int) -> SignedAttributes:
    """Reads the signedAttrs element ([0], definite length) of a SignerInfo.

    A broken SET raises CmsSyntaxError; a broken rule about one attribute is told in `fault`, so that the
    verdict can still name the signer.
    """
    attributes = _read_set(element, 0, limit=limit)
    # RFC 5652 5.4: the signature stands over a SET OF, not over the [0] that is sent
    set_of = b"\x31" + element[1:]
    canonical = der.set_of(attribute.canonical for attribute in attributes)
    known: dict[str, _Value] = {}
    fault = ""
    for attribute in attributes:
        if attribute.dotted == oids.COUNTER_SIGNATURE:  # RFC 5652 11.4: it must not be signed
            fault = fault or "counter-signature-signed"
        if attribute.dotted in _NAMES:
            # RFC 5652 11.1, 11.2, 11.3, RFC 5035 3, RFC 6211 2: once, and with one value
            if attribute.dotted in known or attribute.count != 1:
                fault = fault or f"{_NAMES[attribute.dotted]}-repeated"
            else:
                known[attribute.dotted] = attribute.value
    for dotted in (oids.CONTENT_TYPE, oids.MESSAGE_DIGEST):
        if dotted not in known:  # RFC 5652 5.3
            fault = fault or f"{_NAMES[dotted]}-missing"
    for dotted, value in known.items():
        if value is None:
            fault = fault or f"{_NAMES[dotted]}-malformed"
    if fault:
        return SignedAttributes(as_sent=set_of, sorted_der=canonical, fault=fault)
    return _with_values(set_of, canonical, known)


def find_misplaced(element: bytes, *, limit: int) -> str:
    """Reads the unsignedAttrs element ([1]) and gives a token when one stands there that must be signed."""
    for attribute in _read_set(element, 1, limit=limit):
        if attribute.dotted in _NAMES:  # RFC 5652 11.1, 11.2, 11.3, RFC 5035 3, RFC 6211 2
            return f"{_NAMES[attribute.dotted]}-unsigned"
    return ""


Protection = tuple[AlgorithmIdentifier, AlgorithmIdentifier]
_Value = str | bytes | datetime | CertificateHash | Protection | None
"""What an attribute that we know says; None where its one value cannot be read."""


@dataclass(frozen=True, slots=True)
class _Attribute:
    dotted: str
    canonical: bytes
    """Its DER form."""
    count: int
    """How many values it has."""
    value: _Value


def _read_set(element: bytes, number: int, *, limit: int) -> list[_Attribute]:
    elements = children(element, der.context(number))
    if len(elements) > limit:
        raise CmsLimitError("cms-attributes")
    # All but digest and time are the same in all messages of a signer.
    return [(_attribute if len(one) <= MAX_REMEMBERED else _attribute.__wrapped__)(one) for one in elements]


@lru_cache(maxsize=1024)
def _attribute(element: bytes) -> _Attribute:
    fields = children(element, der.SEQUENCE)
    if len(fields) != 2:
        raise CmsSyntaxError("attribute-fields", "a signed attribute is not a name and its values")
    dotted = oid_of(content(fields[0], der.OBJECT_IDENTIFIER))
    values = children(fields[1], der.SET)
    value = _value(dotted, values[0]) if dotted in _NAMES and len(values) == 1 else None
    return _Attribute(dotted, der.sequence(_oid(dotted), der.set_of(values)), len(values), value)


_oid = lru_cache(maxsize=256)(der.oid)


def _value(dotted: str, element: bytes) -> _Value:
    cursor = Cursor.over(element)
    value: _Value
    try:
        if dotted == oids.MESSAGE_DIGEST:
            return content(element, der.OCTET_STRING)
        if dotted == oids.CONTENT_TYPE:
            value = read_oid(cursor)
        elif dotted == oids.SIGNING_TIME:
            value = read_time(cursor)
        elif dotted == oids.ALGORITHM_PROTECTION:
            value = _read_protection(cursor)
        else:
            value = _read_certificate_hash(cursor, dotted)
        cursor.finish()
    except CmsSyntaxError:
        return None
    return value


def _with_values(as_sent: bytes, sorted_der: bytes, known: dict[str, _Value]) -> SignedAttributes:
    content_type, message_digest = known.get(oids.CONTENT_TYPE), known.get(oids.MESSAGE_DIGEST)
    time, protection = known.get(oids.SIGNING_TIME), known.get(oids.ALGORITHM_PROTECTION)
    return SignedAttributes(
        as_sent=as_sent,
        sorted_der=sorted_der,
        content_type=content_type if isinstance(content_type, str) else "",
        message_digest=message_digest if isinstance(message_digest, bytes) else b"",
        signing_time=time if isinstance(time, datetime) else None,
        certificate_hashes=tuple(value for value in known.values() if isinstance(value, CertificateHash)),
        protection=protection if isinstance(protection, tuple) else None,
    )


def _read_protection(cursor: Cursor) -> tuple[AlgorithmIdentifier, AlgorithmIdentifier]:
    # RFC 6211 2: digestAlgorithm, then signatureAlgorithm [1] for signatures ([2] is for MACs)
    with cursor.inside(der.SEQUENCE):
        digest = read_algorithm(cursor)
        signature = read_algorithm(cursor, der.context(1))
    return digest, signature


def _read_certificate_hash(cursor: Cursor, dotted: str) -> CertificateHash:
    # RFC 5035 4: SEQUENCE { certs SEQUENCE OF ESSCertID(v2), policies OPTIONAL }; the first is the signer's
    with cursor.inside(der.SEQUENCE):
        with cursor.inside(der.SEQUENCE):
            with cursor.inside(der.SEQUENCE):
                algorithm = "sha1" if dotted == oids.SIGNING_CERTIFICATE else "sha256"
                if dotted == oids.SIGNING_CERTIFICATE_V2 and cursor.tag() == der.SEQUENCE:
                    algorithm = oids.DIGESTS.get(read_algorithm(cursor).oid, "")
                digest = cursor.value(der.OCTET_STRING)
                # issuerSerial is left out of account: the hash alone names one certificate
                if cursor.tag() is not None:
                    cursor.raw(der.SEQUENCE)
            while cursor.tag() is not None:
                cursor.raw(der.SEQUENCE)
        if cursor.tag() is not None:
            cursor.raw(der.SEQUENCE)
    return CertificateHash(algorithm, digest)
