"""Certificates with the one slip in DER that is too common to refuse.

Many private authorities write out ``cA FALSE`` and ``critical FALSE``, which DER leaves out. ``cryptography``
refuses the extensions of such a certificate; OpenSSL and Thunderbird do not. So those two spellings are taken
out before it reads. What it gives then serves for reading alone: signatures are checked over the true octets.
"""

from __future__ import annotations

from typing import Final

from asn1crypto import x509 as asn1_x509
from cryptography import x509

from mailsigil.pki.names import UNREADABLE

_SLIP: Final = "EncodedDefault"
_BASIC_FALSE: Final = bytes.fromhex("3003010100")
_BASIC_EMPTY: Final = bytes.fromhex("3000")


def load_certificate(der: bytes) -> x509.Certificate:
    """Read a certificate in DER. Raises what ``cryptography`` raises, mostly ``ValueError``.

    Extensions that cannot be read are no reason: whoever asks for one meets them.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        if _SLIP not in str(error):
            raise
        return x509.load_der_x509_certificate(_without_defaults(der))
    try:
        _ = certificate.extensions
    except UNREADABLE as error:
        if _SLIP in str(error):
            return x509.load_der_x509_certificate(_without_defaults(der))
    return certificate


def _without_defaults(der: bytes) -> bytes:
    certificate = asn1_x509.Certificate.load(der, strict=True)
    content = certificate["tbs_certificate"]
    content["extensions"] = [_rewritten(extension) for extension in content["extensions"]]
    rewritten: bytes = certificate.dump()
    return rewritten


def _rewritten(extension: asn1_x509.Extension) -> asn1_x509.Extension:
    value: bytes = extension["extn_value"].contents
    if extension["extn_id"].native == "basic_constraints" and value == _BASIC_FALSE:
        value = _BASIC_EMPTY
    return asn1_x509.Extension(
        {
            "extn_id": extension["extn_id"].dotted,
            "critical": extension["critical"].native,
            "extn_value": asn1_x509.ParsableOctetString(value),
        }
    )
