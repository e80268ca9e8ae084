"""The embedded authority's revocation lists (RFC 5280 5)."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.profile import Issuer, Validity, signature_hash
from mailsigil.keys.register import Reason, Revocation


def revocation_list(
    issuer: Issuer, revoked: Mapping[int, Revocation], *, number: int, valid: Validity
) -> bytes:
    """Makes a list, DER."""
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(valid.not_before.replace(microsecond=0))
        .next_update(valid.not_after.replace(microsecond=0))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    for serial, each in sorted(revoked.items()):
        builder = builder.add_revoked_certificate(_entry(serial, each))
    return builder.sign(issuer.key, signature_hash(issuer.key)).public_bytes(Encoding.DER)


def _entry(serial: int, revocation: Revocation) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revocation.at)
    # RFC 5280 5.3.1: "unspecified" is said by leaving the reason out.
    if revocation.reason is not Reason.UNSPECIFIED:
        builder = builder.add_extension(x509.CRLReason(revocation.reason.flag), critical=False)
    return builder.build()
