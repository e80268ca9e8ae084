"""A private key in memory, checked against its certificate before it may sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID

from mailsigil.cms.algorithms import Scheme, default_scheme, sign_with, verify_with
from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.protocol import MAX_INTERMEDIATES, Credential
from mailsigil.keys.source import key_id_of
from mailsigil.pki.names import certificate_addresses

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

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
_TRIAL: Final = b"mailsigil: does this key fit its certificate?"


class SoftKey:
    """A private key held in this process. It has no way to give the key away."""

    __slots__ = ("__key", "addresses", "credential", "origin", "valid_from", "valid_until")

    def __init__(
        self,
        key: PrivateKey,
        *,
        credential: Credential,
        addresses: frozenset[str],
        validity: tuple[datetime, datetime],
        origin: Path,
    ) -> None:
        self.__key = key
        self.credential = credential
        self.addresses = addresses
        self.valid_from, self.valid_until = validity
        self.origin = origin

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``; raises ValueError for a scheme that is not among the credential's."""
        if scheme not in self.credential.schemes:
            raise ValueError("the key does not sign with this scheme")
        return sign_with(self.__key, Scheme(scheme), data)

    def __repr__(self) -> str:
        return f"<SoftKey {self.credential.key_id} from {self.origin}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be copied out of its process")


def soft_key(
    key: PrivateKey, certificate: x509.Certificate, others: Sequence[x509.Certificate], *, origin: Path
) -> SoftKey:
    """Binds a key to its certificate; raises KeyFileError when the pair is not fit to sign mail."""
    addresses = frozenset(address.lower() for address in certificate_addresses(certificate))
    if not addresses:
        raise KeyFileError(
            origin,
            "the certificate names no mail address",
            "Have it issued with the employee's address as a subject alternative name",
        )
    _check_purpose(certificate, origin)
    schemes = _schemes(key, certificate, origin)
    _try_out(key, certificate, schemes[0], origin)
    der = certificate.public_bytes(Encoding.DER)
    return SoftKey(
        key,
        credential=Credential(
            key_id=key_id_of(der),
            certificate=der,
            intermediates=tuple(c.public_bytes(Encoding.DER) for c in _chain(certificate, others)),
            schemes=tuple(scheme.value for scheme in schemes),
        ),
        addresses=addresses,
        validity=(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
        origin=origin,
    )


def belongs_to(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Tells whether the certificate is for this key."""
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(*form) == key.public_key().public_bytes(*form)


def _schemes(key: PrivateKey, certificate: x509.Certificate, origin: Path) -> tuple[Scheme, ...]:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise KeyFileError(
                origin,
                f"the RSA key has {key.key_size} bits, which is too weak",
                f"Have a certificate issued for a key of {MIN_RSA_BITS} bits or more",
            )
        if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
            return _RSA_PSS  # RFC 4055 1.2: such a key signs in no other way.
        usable = _RSA
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise KeyFileError(
                origin,
                f"the curve {key.curve.name} is not one that mail programs know",
                "Have a certificate issued for a key on P-256 or P-384",
            )
        usable = _ECDSA
    else:
        usable = _ED25519
    preferred = default_scheme(key.public_key())
    return (preferred, *(scheme for scheme in usable if scheme is not preferred))


def _check_purpose(certificate: x509.Certificate, origin: Path) -> None:
    """RFC 8550 4.4: what a certificate must allow to sign mail."""
    try:
        extensions = {extension.oid: extension.value for extension in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise KeyFileError(
            origin, "the certificate's extensions cannot be read", "Have the certificate issued anew"
        ) from error
    constraints = extensions.get(x509.BasicConstraints.oid)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise KeyFileError(
            origin,
            "the certificate is an authority's, not an employee's",
            "Move the authority's key out of this folder",
        )
    usage = extensions.get(x509.KeyUsage.oid)
    if isinstance(usage, x509.KeyUsage) and not (usage.digital_signature or usage.content_commitment):
        raise KeyFileError(
            origin,
            "the certificate's key usage does not allow signatures",
            "Have it issued with digitalSignature",
        )
    purposes = extensions.get(x509.ExtendedKeyUsage.oid)
    if isinstance(purposes, x509.ExtendedKeyUsage) and not any(p in purposes for p in _MAIL_PURPOSES):
        raise KeyFileError(
            origin,
            "the certificate is not for mail: its extended key usage lacks emailProtection",
            "Have it issued with emailProtection",
        )


def _try_out(key: PrivateKey, certificate: x509.Certificate, scheme: Scheme, origin: Path) -> None:
    """One signature says more than the costly primality checks that are skipped when a key is read."""
    try:
        verify_with(certificate.public_key(), scheme, sign_with(key, scheme, _TRIAL), _TRIAL)
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            origin,
            "the private key does not make signatures that its certificate verifies",
            "Replace the file with an undamaged copy",
        ) from error


def _chain(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
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
