"""Is a certificate with its key fit to sign mail? The same questions for files, tokens and services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID

from mailsigil.cms.algorithms import Scheme, default_scheme
from mailsigil.folding import fold
from mailsigil.keys.protocol import MAX_INTERMEDIATES
from mailsigil.pki.names import certificate_addresses

MIN_RSA_BITS: Final = 2048
_RSA: Final[tuple[Scheme, ...]] = (
    Scheme.RSA_PKCS1_SHA256,
    Scheme.RSA_PKCS1_SHA384,
    Scheme.RSA_PKCS1_SHA512,
    Scheme.RSA_PSS_SHA256,
    Scheme.RSA_PSS_SHA384,
    Scheme.RSA_PSS_SHA512,
)
_RSA_PSS: Final[tuple[Scheme, ...]] = tuple(scheme for scheme in _RSA if "pss" in scheme.value)
_ECDSA: Final[tuple[Scheme, ...]] = (Scheme.ECDSA_SHA256, Scheme.ECDSA_SHA384, Scheme.ECDSA_SHA512)
_ED25519: Final[tuple[Scheme, ...]] = (Scheme.ED25519,)
_MAIL_PURPOSES: Final = (ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


class Unfit(Exception):
    """A certificate that must not sign mail. Texts end without a full stop."""

    def __init__(self, sentence: str, mend: str) -> None:
        super().__init__(f"{sentence}. {mend}.")
        self.sentence = sentence
        self.mend = mend


def signing_addresses(certificate: x509.Certificate) -> frozenset[str]:
    """Gives the addresses (key form) that a certificate names; raises Unfit when it names none."""
    addresses = frozenset(fold(address) for address in certificate_addresses(certificate))
    if not addresses:
        raise Unfit(
            "the certificate names no mail address",
            "Have it issued with the employee's address as a subject alternative name",
        )
    return addresses


def usable_schemes(certificate: x509.Certificate) -> tuple[Scheme, ...]:
    """Gives how a certificate's key may sign, the preferred way first; raises Unfit for a weak or odd key."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unfit(
            "the certificate's public key cannot be read", "Have a certificate issued for another key"
        ) from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise Unfit(
                f"the RSA key has {key.key_size} bits, which is too weak",
                f"Have a certificate issued for a key of {MIN_RSA_BITS} bits or more",
            )
        if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
            return _RSA_PSS  # RFC 4055 1.2: such a key signs in no other way.
        usable = _RSA
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise Unfit(
                f"the curve {key.curve.name} is not one that mail programs know",
                "Have a certificate issued for a key on P-256 or P-384",
            )
        usable = _ECDSA
    elif isinstance(key, ed25519.Ed25519PublicKey):
        usable = _ED25519
    else:
        raise Unfit("the key is of a kind that does not sign mail", "Use RSA, P-256, P-384 or Ed25519")
    preferred = default_scheme(key)
    return (preferred, *(scheme for scheme in usable if scheme is not preferred))


def check_purpose(certificate: x509.Certificate, *, encryption: bool = False) -> None:
    """RFC 8550 4.4: what a certificate must allow to sign mail. Raises Unfit.

    With ``encryption`` one will do that is for encryption alone.
    """
    try:
        extensions = {extension.oid: extension.value for extension in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Unfit(
            "the certificate's extensions cannot be read", "Have the certificate issued anew"
        ) from error
    constraints = extensions.get(x509.BasicConstraints.oid)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise Unfit(
            "the certificate is an authority's, not an employee's",
            "Use a certificate that was issued to an employee",
        )
    usage = extensions.get(x509.KeyUsage.oid)
    signs = not isinstance(usage, x509.KeyUsage) or usage.digital_signature or usage.content_commitment
    if not signs and not (encryption and allows_encryption(certificate)):
        raise Unfit(
            "the certificate's key usage does not allow signatures",
            "Have it issued with digitalSignature",
        )
    purposes = extensions.get(x509.ExtendedKeyUsage.oid)
    if isinstance(purposes, x509.ExtendedKeyUsage) and not any(p in purposes for p in _MAIL_PURPOSES):
        raise Unfit(
            "the certificate is not for mail: its extended key usage lacks emailProtection",
            "Have it issued with emailProtection",
        )


def allows_signatures(certificate: x509.Certificate) -> bool:
    """Tells whether a certificate's key usage allows to sign; for one that ``check_purpose`` has passed."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.digital_signature or usage.content_commitment


def allows_encryption(certificate: x509.Certificate) -> bool:
    """Tells whether others may encrypt to a certificate's key (RFC 5280 4.2.1.3, RFC 8550 4.4.2).

    A key that its certificate gives to signatures alone decrypts nothing: who can have it decrypt chosen
    texts can have it make signatures.
    """
    if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        return False  # RFC 4055 1.2
    try:
        public = certificate.public_key()
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    if isinstance(public, rsa.RSAPublicKey):
        return usage.key_encipherment
    return isinstance(public, ec.EllipticCurvePublicKey) and usage.key_agreement


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raises Unfit unless a certificate is valid at this moment."""
    if now > certificate.not_valid_after_utc:
        raise Unfit(
            f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "Have it renewed"
        )
    if now < certificate.not_valid_before_utc:
        raise Unfit(
            f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            "Compare the clocks of both sides",
        )


def public_key_of(certificate: x509.Certificate) -> bytes:
    """Gives a certificate's key as SubjectPublicKeyInfo, DER; empty where it cannot be read."""
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def issuers_of(
    certificate: x509.Certificate, others: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    """Gives the intermediates from the issuer upwards; a root is known to who trusts it."""
    left = [other for other in others if other.subject != other.issuer and other != certificate]
    wanted = [certificate.issuer]
    for _ in range(MAX_INTERMEDIATES):
        step = [other for other in left if other.subject in wanted]
        if not step:
            return
        yield from step
        left = [other for other in left if other not in step]
        wanted = [other.issuer for other in step]
