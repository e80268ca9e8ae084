"""Is a certificate meant for signing mail, and is an authority meant for issuing such certificates?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
_ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_NEVER_WITH_MAIL = (
    _ANY,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CODE_SIGNING,
    ExtendedKeyUsageOID.TIME_STAMPING,
)


def leaf_misuse(certificate: x509.Certificate, *, public: bool) -> str:
    """Tell why a signer's certificate is not for signing mail; empty when it is.

    Under a ``public`` anchor the extended key usage must name mail, and must not name what S/MIME BR
    7.1.2.3 f keeps apart from it.
    """
    # RFC 8550 2.2: readers take version 1, too. It has no extensions, so what follows finds none; public
    # authorities issue version 3 alone (S/MIME BR 7.1.1).
    if public and certificate.version is not x509.Version.v3:
        return "the certificate is of version 1, which cannot say what it is for"
    extensions = certificate.extensions
    basic = _value(extensions, x509.BasicConstraints)
    if basic is not None and basic.ca:
        return "the certificate is an authority's, not a sender's"
    usage = _value(extensions, x509.KeyUsage)
    if usage is not None:
        if usage.key_cert_sign:
            # RFC 5280 4.2.1.9: only authorities have it.
            return "the certificate may sign certificates, so it is not a sender's"
        if not (usage.digital_signature or usage.content_commitment):
            # RFC 8550 4.4.2
            return "the certificate's key usage does not include signing"
    extended = _value(extensions, x509.ExtendedKeyUsage)
    if public:
        return _public_leaf_misuse(extended)
    if extended is not None and _MAIL not in extended and _ANY not in extended:
        # RFC 8550 4.4.4
        return "the certificate's extended key usage does not include mail protection"
    return ""


def _public_leaf_misuse(extended: x509.ExtendedKeyUsage | None) -> str:
    if extended is None or _MAIL not in extended:
        return "the certificate is not meant for mail expressly, as a public authority's has to be"
    if any(usage in extended for usage in _NEVER_WITH_MAIL):
        return "the certificate is meant for mail and for something that must not be together with it"
    return ""


def authority_misuse(authorities: Sequence[x509.Certificate], *, public: bool) -> str:
    """Tell which authority of a path may not issue certificates for mail; empty when all may.

    An extended key usage in an authority's certificate limits what it issues (S/MIME BR 7.1.2.2 g).
    """
    for authority in authorities:
        extended = _value(authority.extensions, x509.ExtendedKeyUsage)
        if extended is not None and _MAIL not in extended and (public or _ANY not in extended):
            name: str = authority.subject.rfc4514_string()
            return f"{name[:120]} may not issue certificates for mail"
    return ""


def _value(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
