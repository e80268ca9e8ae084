"""What RFC 5280 section 4 demands of a certificate and the path algorithm does not look at.

An authority that breaks these rules is careless or forged, and readers of certificates differ over such
cases, so they are refused. Under a public anchor the S/MIME Baseline Requirements add more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509

from mailsigil.pki.names import has_unfit_address
from mailsigil.pki.parsed import Parsed

MAX_NAME_CHECKS: Final = 20_000
"""Looks at a name, and at a name with a constraint, on all paths of a certificate; more of them cost seconds
and serve nobody."""

_NEVER_CRITICAL: Final = (
    x509.AuthorityKeyIdentifier,  # RFC 5280 4.2.1.1
    x509.SubjectKeyIdentifier,  # RFC 5280 4.2.1.2
    x509.AuthorityInformationAccess,  # RFC 5280 4.2.2.1
)
_ALWAYS_CRITICAL: Final = (
    x509.PolicyConstraints,  # RFC 5280 4.2.1.11
    x509.InhibitAnyPolicy,  # RFC 5280 4.2.1.14
)


def nonconformity(leaf: Parsed, intermediates: Sequence[Parsed], *, public: bool) -> str:
    """Tell which certificate of a path, below the anchor, breaks a rule; empty when none does."""
    for parsed in (leaf, *intermediates):
        fault = _any_fault(parsed.certificate) or (_public_fault(parsed.certificate) if public else "")
        if fault:
            return f"{parsed.label}: {fault}"
    for parsed in intermediates:
        if not list(parsed.certificate.subject):
            return "an authority has no name"  # RFC 5280 4.1.2.6
        if public and not _has(parsed.certificate, x509.SubjectKeyIdentifier):
            return f"{parsed.label}: it has no key identifier"  # S/MIME BR 7.1.2.2
    return _leaf_fault(leaf.certificate)


def name_checks(certificates: Iterable[x509.Certificate]) -> int:
    """Count how many looks at names, alone and with each constraint, a path may cost."""
    names = constraints = 0
    for certificate in certificates:
        names += len(list(certificate.subject)) + 1
        for extension in certificate.extensions:
            value = extension.value
            if isinstance(value, x509.SubjectAlternativeName):
                names += len(list(value))
            elif isinstance(value, x509.NameConstraints):
                constraints += len(value.permitted_subtrees or ()) + len(value.excluded_subtrees or ())
    return names * (1 + constraints)


def _any_fault(certificate: x509.Certificate) -> str:
    serial = certificate.serial_number
    if serial <= 0 or serial.bit_length() > 159:
        return "its serial number is not one of 1 to 20 octets above zero"  # RFC 5280 4.1.2.2
    if certificate.version is not x509.Version.v3 and len(certificate.extensions):
        return "it has extensions, which its version does not have"  # RFC 5280 4.1.2.1
    for extension in certificate.extensions:
        value = extension.value
        if extension.critical and isinstance(value, _NEVER_CRITICAL):
            return f"its extension {extension.oid.dotted_string} must not be critical"
        if isinstance(value, x509.CertificatePolicies):
            policies = [policy.policy_identifier for policy in value]
            if len(set(policies)) != len(policies):
                return "it names a policy twice"  # RFC 5280 4.2.1.4
    return ""


def _leaf_fault(certificate: x509.Certificate) -> str:
    if _has(certificate, x509.NameConstraints):
        return "a sender's certificate holds name constraints"  # RFC 5280 4.2.1.10
    if has_unfit_address(certificate):
        return "the certificate holds a mail address that is none"  # RFC 5280 4.2.1.6
    return ""


def _public_fault(certificate: x509.Certificate) -> str:
    for extension in certificate.extensions:
        # Under other anchors they are obeyed all the same; some governments' authorities mark them so.
        if not extension.critical and isinstance(extension.value, _ALWAYS_CRITICAL):
            return f"its extension {extension.oid.dotted_string} has to be critical"
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return "it does not identify its issuer's key"
    if identifier.key_identifier is None:
        return "it does not identify its issuer's key"
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    if not names.critical and not list(certificate.subject):
        return "its alternative name is not critical and it has no subject"  # RFC 5280 4.2.1.6
    return ""


def _has(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    try:
        certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return False
    return True
