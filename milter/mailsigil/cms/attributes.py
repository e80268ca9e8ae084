"""The signed attributes of one signer (RFC 5652 11, RFC 8551 2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms.ber import CmsLimitError, CmsSyntaxError, Cursor
from mailsigil.cms.values import AlgorithmIdentifier, read_algorithm, read_oid, read_time


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
    canonical = der.set_of(der.sequence(oid, der.set_of(values)) for _name, oid, values in attributes)
    known: dict[str, bytes] = {}
    fault = ""
    for dotted, _oid, values in attributes:
        if dotted == oids.COUNTER_SIGNATURE:  # RFC 5652 11.4: it must not be signed
            fault = fault or "counter-signature-signed"
        if dotted in _NAMES:
            # RFC 5652 11.1, 11.2, 11.3, RFC 5035 3, RFC 6211 2: once, and with one value
            if dotted in known or len(values) != 1:
                fault = fault or f"{_NAMES[dotted]}-repeated"
            else:
                known[dotted] = values[0]
    for dotted in (oids.CONTENT_TYPE, oids.MESSAGE_DIGEST):
        if dotted not in known:  # RFC 5652 5.3
            fault = fault or f"{_NAMES[dotted]}-missing"
    if fault:
        return SignedAttributes(as_sent=set_of, sorted_der=canonical, fault=fault)
    return _with_values(set_of, canonical, known)


def find_misplaced(element: bytes, *, limit: int) -> str:
    """Reads the unsignedAttrs element ([1]) and gives a token when one stands there that must be signed."""
    for dotted, _oid, _values in _read_set(element, 1, limit=limit):
        if dotted in _NAMES:  # RFC 5652 11.1, 11.2, 11.3, RFC 5035 3, RFC 6211 2
            return f"{_NAMES[dotted]}-unsigned"
    return ""


def _read_set(element: bytes, number: int, *, limit: int) -> list[tuple[str, bytes, list[bytes]]]:
    attributes: list[tuple[str, bytes, list[bytes]]] = []
    cursor = Cursor.over(element)
    with cursor.inside(der.context(number)):
        while cursor.tag() is not None:
            if len(attributes) == limit:
                raise CmsLimitError("cms-attributes")
            with cursor.inside(der.SEQUENCE):
                dotted = read_oid(cursor)
                values: list[bytes] = []
                with cursor.inside(der.SET):
                    while cursor.tag() is not None:
                        values.append(cursor.raw())
            attributes.append((dotted, der.oid(dotted), values))
    cursor.finish()
    return attributes


def _with_values(as_sent: bytes, sorted_der: bytes, known: dict[str, bytes]) -> SignedAttributes:
    name = ""
    try:
        content_type, message_digest = "", b""
        signing_time: datetime | None = None
        hashes: list[CertificateHash] = []
        protection: tuple[AlgorithmIdentifier, AlgorithmIdentifier] | None = None
        for dotted, value in known.items():
            name = _NAMES[dotted]
            cursor = Cursor.over(value)
            if dotted == oids.CONTENT_TYPE:
                content_type = read_oid(cursor)
            elif dotted == oids.MESSAGE_DIGEST:
                message_digest = cursor.value(der.OCTET_STRING)
            elif dotted == oids.SIGNING_TIME:
                signing_time = read_time(cursor)
            elif dotted == oids.ALGORITHM_PROTECTION:
                protection = _read_protection(cursor)
            else:
                hashes.append(_read_certificate_hash(cursor, dotted))
            cursor.finish()
    except CmsSyntaxError:
        return SignedAttributes(as_sent=as_sent, sorted_der=sorted_der, fault=f"{name}-malformed")
    return SignedAttributes(
        as_sent=as_sent,
        sorted_der=sorted_der,
        content_type=content_type,
        message_digest=message_digest,
        signing_time=signing_time,
        certificate_hashes=tuple(hashes),
        protection=protection,
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
