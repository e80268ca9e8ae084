"""Certificates out of a PKCS#7 that carries nothing else (RFC 5652 5.1, "certs-only" of RFC 8551 3.2.2)."""

from __future__ import annotations

from asn1crypto import cms, core
from cryptography import x509


def pkcs7_certificates(der: bytes) -> tuple[x509.Certificate, ...]:
    """Gives the certificates in their order; raises ValueError for anything that is no complete PKCS#7."""
    # asn1crypto, because real servers send SETs that are not sorted.
    try:
        info = cms.ContentInfo.load(der, strict=True)
        if info["content_type"].native != "signed_data":
            raise ValueError("no SignedData")
        entries = info["content"]["certificates"]
        if isinstance(entries, core.Void):
            return ()
        found = [entry.chosen.dump() for entry in entries if entry.name == "certificate"]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("no PKCS#7") from error
    return tuple(x509.load_der_x509_certificate(each) for each in found)
