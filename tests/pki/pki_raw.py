"""Certificates that no honest library makes: changed in asn1crypto's form, and signed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asn1crypto import core as asn1_core
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding


class Raw:
    """A certificate in octets, with the key it is for: it can issue, and be judged, like the others."""

    def __init__(self, der: bytes, key: Any, certificate: Any = None) -> None:
        """``certificate`` is the honest one from which this was made: it has the name and the key."""
        self.der = der
        self.key = key
        self.certificate = certificate


def changed(made: Any, issuer: Any, change: Callable[[Any], None]) -> Raw:
    """Change the part that is signed, and sign it with the issuer's P-256 key and SHA-256."""
    certificate = asn1_x509.Certificate.load(made.der)
    change(certificate["tbs_certificate"])
    content = certificate["tbs_certificate"].dump()
    certificate["signature_value"] = issuer.key.sign(content, ec.ECDSA(hashes.SHA256()))
    return Raw(certificate.dump(), made.key, made.certificate)


def spliced(made: Any, issuer: Any, old: bytes, new: bytes) -> Raw:
    """Exchange octets of one length in the part that is signed, and sign it again."""
    certificate = asn1_x509.Certificate.load(made.der)
    content = certificate["tbs_certificate"].dump()
    if content.count(old) < 1 or len(old) != len(new):
        raise ValueError("the octets are not there, or not as many")
    content = content.replace(old, new)
    signature = issuer.key.sign(content, ec.ECDSA(hashes.SHA256()))
    algorithm = certificate["signature_algorithm"].dump()
    bits = b"\x03" + _length(len(signature) + 1) + b"\x00" + signature
    whole = content + algorithm + bits
    return Raw(b"\x30" + _length(len(whole)) + whole, made.key, made.certificate)


def sha1_signed(made: Any, issuer: Any) -> Raw:
    """Sign with RSA and SHA-1, which libraries of today do not offer."""
    certificate = asn1_x509.Certificate.load(made.der)
    algorithm = {"algorithm": "sha1_rsa", "parameters": asn1_core.Null()}
    certificate["tbs_certificate"]["signature"] = algorithm
    certificate["signature_algorithm"] = algorithm
    content = certificate["tbs_certificate"].dump()
    digest = hashes.SHA1()  # it is refused
    certificate["signature_value"] = issuer.key.sign(content, padding.PKCS1v15(), digest)
    return Raw(certificate.dump(), made.key, made.certificate)


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(octets)]) + octets


def extension(oid: str, der: bytes, *, critical: bool = False) -> Any:
    """An extension with any octets."""
    return asn1_x509.Extension(
        {"extn_id": oid, "critical": critical, "extn_value": asn1_x509.ParsableOctetString(der)}
    )
