"""One certificate, read by both libraries, with what path building asks of it.

``cryptography`` reads strictly and gives keys and names; asn1crypto is what the path validator works on.
A certificate has to satisfy both, so that no difference between two parsers can be played with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from mailsigil.pki.lenient import load_certificate
from mailsigil.pki.unreadable import why_unreadable

MAX_CERTIFICATE: Final = 65536
"""Octets. Real ones have one to four thousand."""

SHORT_NAMES: Final = {NameOID.GIVEN_NAME: "GN", NameOID.SURNAME: "SN", NameOID.TITLE: "title"}
"""What people call parts of a name that RFC 4514 has no word for."""

RSA_BITS: Final = (2048, 8192)
MAX_RSA_EXPONENT: Final = 1 << 256  # S/MIME BR 6.1.6
_CURVES: Final = frozenset(
    {"secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"}
)
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})


class UnreadableCertificate(ValueError):
    """A certificate does not follow RFC 5280; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A certificate and the values that are computed from it once."""

    der: bytes
    sha256: bytes
    certificate: x509.Certificate
    asn1: Any
    subject: str
    """The subject in the form that is compared (RFC 5280 7.1)."""
    issuer: str
    key: bytes
    """SubjectPublicKeyInfo."""
    key_weakness: str
    """Why the key is not accepted; empty when it is."""
    signature_weakness: str
    """Why the signature on the certificate is not accepted; empty when it is."""

    @property
    def not_before(self) -> datetime:
        """Start of validity."""
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """End of validity."""
        return self.certificate.not_valid_after_utc

    @property
    def label(self) -> str:
        """How a reason names this certificate."""
        text: str = self.certificate.subject.rfc4514_string(SHORT_NAMES)
        return text[:120] or "a certificate without a subject"


def parse_certificate(der: bytes) -> Parsed:
    """Read one certificate. Raises ``UnreadableCertificate``."""
    if len(der) > MAX_CERTIFICATE:
        raise UnreadableCertificate(f"the certificate is larger than {MAX_CERTIFICATE} octets")
    try:
        certificate = load_certificate(der)
        _ = (certificate.extensions, certificate.subject, certificate.issuer)
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        asn1 = asn1_x509.Certificate.load(der, strict=True)
        _spell_addresses(asn1)
        if asn1["signature_algorithm"].dump() != asn1["tbs_certificate"]["signature"].dump():
            # RFC 5280 4.1.1.2
            raise UnreadableCertificate("the certificate names two different signature algorithms")
        return Parsed(
            der=der,
            sha256=hashlib.sha256(der).digest(),
            certificate=certificate,
            asn1=asn1,
            subject=asn1.subject.hashable,
            issuer=asn1.issuer.hashable,
            key=asn1.public_key.dump(),
            key_weakness=_explicit_curve(asn1) or key_weakness(certificate),
            signature_weakness=_signature_weakness(certificate),
        )
    except UnreadableCertificate:
        raise
    except Exception as error:
        # Both parsers run on hostile octets and raise whatever comes up inside; all of it means the same.
        raise UnreadableCertificate(f"the certificate cannot be read: {why_unreadable(error)}") from error


def _spell_addresses(asn1: Any) -> None:
    """Make asn1crypto give mail addresses as they stand, in A-labels.

    It turns hosts of addresses into U-labels, by rules that do not know all domains of today, and leaves
    the hosts of name constraints as they are, so that the two would never be the same.
    """
    names = [*(asn1.subject_alt_name_value or ())]
    constraints = asn1.name_constraints_value
    for field in ("permitted_subtrees", "excluded_subtrees") if constraints is not None else ():
        names += [tree["base"] for tree in constraints[field]]
    values = [name.chosen for name in names if name.name == "rfc822_name"]
    for name in (asn1.subject, asn1.issuer):
        values += [pair["value"] for rdn in name.chosen for pair in rdn]
    for value in values:
        if isinstance(value, asn1_x509.EmailAddress):
            value._unicode = value.contents.decode("latin-1")


def _explicit_curve(asn1: Any) -> str:
    key = asn1.public_key
    if key.algorithm == "ec" and key["algorithm"]["parameters"].name != "named":
        return "its curve has no name"  # RFC 5480 2.1.1
    return ""


def key_weakness(certificate: x509.Certificate) -> str:
    """Tell why a certificate's public key is not accepted; empty when it is."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "its key is of a kind that is not known here"
    match key:
        case rsa.RSAPublicKey() if key.key_size < RSA_BITS[0]:
            return f"its RSA key has {key.key_size} bits and {RSA_BITS[0]} are the least"
        case rsa.RSAPublicKey() if key.key_size > RSA_BITS[1]:
            return f"its RSA key has {key.key_size} bits and {RSA_BITS[1]} are the most"
        case rsa.RSAPublicKey() if key.key_size % 8:
            return f"its RSA key has {key.key_size} bits, which is no number of octets"
        case rsa.RSAPublicKey() if not 3 <= key.public_numbers().e < MAX_RSA_EXPONENT:
            # A small message raised to 1 is itself; a large exponent costs whoever verifies.
            return "its RSA exponent is not between 3 and 2 to the 256th"
        case rsa.RSAPublicKey() | ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return ""
        case ec.EllipticCurvePublicKey():
            return "" if key.curve.name in _CURVES else f"its curve {key.curve.name} is not accepted"
        case _:
            return "its key is of a kind that cannot sign mail"


def _signature_weakness(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "it was signed with an algorithm that is not known here"
    if algorithm is None or not weak_hash(algorithm.name):  # None: EdDSA hashes by itself
        return ""
    return f"it was signed with {algorithm.name}"


def weak_hash(name: str) -> bool:
    """Tell whether no signature with this hash algorithm is accepted."""
    return name not in _HASHES
