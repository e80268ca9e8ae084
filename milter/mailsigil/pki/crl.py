"""What a revocation list says about a certificate (RFC 5280 5 and 6.3).

Only complete, direct lists are read: one that was signed by the issuer of the certificate itself. Delta
lists, indirect lists, lists for some reasons only, and lists with critical extensions that are not known
here prove nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding

from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.names import UNREADABLE
from mailsigil.pki.parsed import Parsed
from mailsigil.pki.signatures import pss_scheme, require_strong, signature_holds, signed_part

WITHOUT_NEXT_UPDATE: Final = timedelta(days=1)
"""How long a list counts that does not say when the next one comes."""

_CRITICAL: Final = re.compile(rb"\x01\x01\xff\x04")
"""DER of the TRUE that marks an extension as critical, and the tag of the octets that follow it."""
_KNOWN: Final = (
    x509.CRLNumber,
    x509.AuthorityKeyIdentifier,
    x509.IssuingDistributionPoint,
    x509.FreshestCRL,
    x509.IssuerAlternativeName,
    x509.AuthorityInformationAccess,
)
_KNOWN_IN_ENTRY: Final = (x509.CRLReason, x509.InvalidityDate)


@dataclass(frozen=True, slots=True)
class CheckedCrl:
    """A list that its issuer signed. What it says about a certificate is still to be looked up."""

    octets: bytes = field(repr=False)
    crl: x509.CertificateRevocationList = field(repr=False)
    this_update: datetime
    until: datetime
    scope: x509.IssuingDistributionPoint | None


def check_crl(data: bytes, issuer: Parsed) -> CheckedCrl:
    """Read a list in DER and hold it against its issuer. Raises ``Unusable``."""
    try:
        crl = x509.load_der_x509_crl(data)
        name = asn1_x509.Name.load(crl.issuer.public_bytes()).hashable
        # RFC 5280 6.3.3 b: from the issuer of the certificate.
        if name != issuer.subject:
            raise Unusable("the revocation list is another authority's")
        require_strong(crl.signature_hash_algorithm, "the revocation list")
        # RFC 5280 6.3.3 f and g
        if not _may_sign(issuer.certificate):
            raise Unusable("the authority may not sign revocation lists")
        if not _signed_by(crl, data, issuer.certificate):
            raise Unusable("the revocation list was not signed by the authority")
        scope = _extensions(crl)
        _entries(crl, data)
        this_update = crl.last_update_utc
        until = crl.next_update_utc or this_update + WITHOUT_NEXT_UPDATE
        return CheckedCrl(data, crl, this_update, until, scope)
    except Unusable:
        raise
    except (*UNREADABLE, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Unusable(f"the revocation list cannot be read: {error}"[:200]) from error


def judge_crl(checked: CheckedCrl, link: Link) -> Evidence:
    """Give what a list says about a certificate of its issuer. Raises ``Unusable``."""
    certificate = link.certificate.certificate
    try:
        _require_scope(checked.scope, certificate)
        entry = _entry_of(checked, certificate.serial_number)
        if entry is None:
            return Evidence(
                status=RevocationStatus.GOOD, this_update=checked.this_update, until=checked.until
            )
        revoked_at, final = _entry(entry)
    except UNREADABLE as error:
        raise Unusable(f"the revocation list cannot be read: {error}"[:200]) from error
    return Evidence(
        status=RevocationStatus.REVOKED,
        this_update=checked.this_update,
        until=checked.until,
        revoked_at=revoked_at,
        final=final,
    )


def _entry_of(checked: CheckedCrl, serial: int) -> x509.RevokedCertificate | None:
    """Find a certificate in a list.

    Looking through a million entries one by one takes a tenth of a second; where the octets of the number
    stand nowhere, the number cannot be in any entry. DER has one way to write it.
    """
    size = serial.bit_length() // 8 + 1
    number = serial.to_bytes(size, signed=True)
    if size < 128 and bytes([0x02, size]) + number not in checked.octets:
        return None
    return checked.crl.get_revoked_certificate_by_serial_number(serial)


def _signed_by(crl: x509.CertificateRevocationList, data: bytes, issuer: x509.Certificate) -> bool:
    digest, scheme = crl.signature_hash_algorithm, crl.signature_algorithm_parameters
    if isinstance(scheme, padding.PSS):
        algorithm: Any = asn1_crl.CertificateList.load(data)["signature_algorithm"]
        scheme, digest = pss_scheme(algorithm["parameters"], "the revocation list")
    # The list's own method writes all entries anew first, which takes seconds where there are a million.
    return signature_holds(
        issuer.public_key(), crl.signature, signed_part(data), scheme=scheme, digest=digest
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _extensions(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    scope = None
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise Unusable("the revocation list holds changes only")  # RFC 5280 5.2.4
        if extension.critical and not isinstance(value, _KNOWN):
            # RFC 5280 5.2
            raise Unusable(
                f"the revocation list has the critical extension {extension.oid.dotted_string},"
                " which is not known here"
            )
        if extension.critical and isinstance(value, x509.CRLNumber):
            raise Unusable("the revocation list marks its number as critical")  # RFC 5280 5.2.3
        if isinstance(value, x509.IssuingDistributionPoint):
            scope = value
    return scope


def _entries(crl: x509.CertificateRevocationList, data: bytes) -> None:
    """Refuse a list with an entry that has an unknown critical extension (RFC 5280 5.3).

    A list may have a million entries, which are looked through only where the octets of a critical mark
    stand more often than the list's own extensions account for.
    """
    marks = sum(1 for _ in _CRITICAL.finditer(data))
    if marks > sum(extension.critical for extension in crl.extensions):
        for entry in crl:
            _entry(entry)


def _entry(entry: x509.RevokedCertificate) -> tuple[datetime, bool]:
    """Give when a certificate ceased to be good, and whether for ever."""
    since, final = entry.revocation_date_utc, True
    for extension in entry.extensions:
        value = extension.value
        if extension.critical and not isinstance(value, _KNOWN_IN_ENTRY):
            raise Unusable("the revocation list has an entry with a critical extension not known here")
        if isinstance(value, x509.CertificateIssuer):
            raise Unusable("the revocation list speaks of several authorities")  # RFC 5280 5.3.3
        if isinstance(value, x509.CRLReason):
            final = value.reason is not x509.ReasonFlags.certificate_hold
            if value.reason is x509.ReasonFlags.remove_from_crl:
                raise Unusable("the revocation list holds changes only")
        if isinstance(value, x509.InvalidityDate):
            since = min(since, value.invalidity_date.replace(tzinfo=UTC))  # RFC 5280 5.3.2
    return since, final


def _require_scope(scope: x509.IssuingDistributionPoint | None, certificate: x509.Certificate) -> None:
    """RFC 5280 6.3.3 b: the list is about certificates like this one."""
    points = _points(certificate)
    if points is not None and not points:
        raise Unusable("the certificate says that another authority lists its revocation")
    if scope is None:
        return
    if scope.indirect_crl or scope.only_contains_attribute_certs or scope.only_some_reasons is not None:
        raise Unusable("the revocation list is an indirect or a partial one")
    authority = _is_authority(certificate)
    if scope.only_contains_user_certs and certificate.version is x509.Version.v1:
        # X.509 8.6.2.2: a certificate that cannot say whether it is an authority's is not of this kind.
        raise Unusable("the revocation list is about senders only, and the certificate may be an authority")
    if scope.only_contains_user_certs and authority:
        raise Unusable("the revocation list is about senders only")
    if scope.only_contains_ca_certs and not authority:
        raise Unusable("the revocation list is about authorities only")
    if scope.relative_name is not None:
        raise Unusable("the revocation list names its place in a way that is not known here")
    if scope.full_name is not None and not set(scope.full_name) & (points or set()):
        raise Unusable("the revocation list is another part of the authority's lists")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _points(certificate: x509.Certificate) -> set[x509.GeneralName] | None:
    """Give the places of complete lists of the issuer itself; None where the certificate names no places."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return None
    return {
        name
        for point in points
        if point.crl_issuer is None and point.reasons is None
        for name in point.full_name or ()
    }
