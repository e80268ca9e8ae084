"""Certification requests (PKCS#10, RFC 2986) as clients send them: read, checked, turned into wishes."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mailsigil.ca.grants import Wish
from mailsigil.folding import fold
from mailsigil.keys.profile import PublicKey
from mailsigil.pki.names import certificate_addresses, clean_name, normalise_address

MAX_RSA_BITS: Final = 8192
_PEM: Final = re.compile(rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([^-]+)-----END", re.DOTALL)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class BadRequest(ValueError):
    """A request that cannot be read or must not be certified; the message goes to the client."""


@dataclass(frozen=True, slots=True)
class CertificationRequest:
    """A request whose signature holds: its sender has the key."""

    csr: x509.CertificateSigningRequest
    key: PublicKey
    wish: Wish


def read_request(body: bytes) -> CertificationRequest:
    """Reads a request: base64 (RFC 7030 4.2.1, RFC 8951 3.1), plain DER, or PEM. Raises BadRequest."""
    try:
        csr = x509.load_der_x509_csr(_der(body))
        wish = _wish(csr)
        key = csr.public_key()
        # RFC 7030 3.4: proof of possession of the key.
        signed = csr.is_signature_valid
    except InvalidSignature as error:
        raise BadRequest("the signature of the request does not hold") from error
    except _UNREADABLE as error:
        raise BadRequest("the body is no certification request (PKCS#10)") from error
    if not signed:
        raise BadRequest("the signature of the request does not hold")
    return CertificationRequest(csr, _fit(key), wish)


def same_subject(request: CertificationRequest, certificate: x509.Certificate) -> bool:
    """RFC 7030 4.2.2: a renewal asks for the subject and the names of the certificate that it renews.

    The order of a name's parts is of no account. Alternative names may be left out: what is issued has
    those of the certificate.
    """
    asked = {(part.oid, part.value) for part in request.csr.subject}
    if asked != {(part.oid, part.value) for part in certificate.subject}:
        return False
    wanted = {fold(address) for address in request.wish.addresses}
    return not wanted or wanted == {fold(address) for address in certificate_addresses(certificate)}


def _der(body: bytes) -> bytes:
    stripped = body.strip()
    armour = _PEM.search(stripped)
    if armour is not None:
        stripped = armour[1]
    elif body[:1] == b"\x30" and not body.isascii():
        return body  # As it is: the last octet of DER may look like white space.
    try:
        return base64.b64decode(b"".join(stripped.split()), validate=True)
    except binascii.Error as error:
        raise BadRequest("the body is neither base64 nor DER") from error


def _wish(csr: x509.CertificateSigningRequest) -> Wish:
    def first(oid: x509.ObjectIdentifier) -> str:
        values = csr.subject.get_attributes_for_oid(oid)
        return clean_name(str(values[0].value)) if values else ""

    # A request has the two properties of a certificate that are looked at: subject and extensions.
    addresses = certificate_addresses(cast("x509.Certificate", csr))
    named = normalise_address(first(NameOID.COMMON_NAME))
    return Wish(
        addresses=addresses or ((named,) if named else ()),
        given_name=first(NameOID.GIVEN_NAME),
        surname=first(NameOID.SURNAME),
        organisation=first(NameOID.ORGANIZATION_NAME),
        title=first(NameOID.TITLE),
    )


def _fit(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= MAX_RSA_BITS:
            raise BadRequest(f"an RSA key has 2048 to {MAX_RSA_BITS} bits here, this one {key.key_size}")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise BadRequest(f"the curve {key.curve.name} is not certified here; use P-256 or P-384")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise BadRequest("this kind of key signs no mail; use RSA, P-256, P-384 or Ed25519")
