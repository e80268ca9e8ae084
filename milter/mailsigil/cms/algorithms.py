"""Signature schemes: their names, their digests, and the calls into `cryptography` that use them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# At its first use cryptography would import this by itself: too late for a process that has become a user
# who may not read the folder it is installed in.
import cryptography.hazmat.backends.openssl  # noqa: F401
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import PublicKeyAlgorithmOID


class SchemeError(ValueError):
    """A key and a signature scheme that do not belong together. Hint: look at the key's type and curve."""


class Family(StrEnum):
    """The kinds of signature that S/MIME mail carries."""

    RSA_PKCS1 = "rsa-pkcs1"
    RSA_PSS = "rsa-pss"
    ECDSA = "ecdsa"
    ED25519 = "ed25519"


class Scheme(StrEnum):
    """A signature scheme together with its digest, by the name that the key agent and the log use."""

    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"
    RSA_PKCS1_SHA384 = "rsa-pkcs1-sha384"
    RSA_PKCS1_SHA512 = "rsa-pkcs1-sha512"
    RSA_PSS_SHA256 = "rsa-pss-sha256"
    RSA_PSS_SHA384 = "rsa-pss-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    ECDSA_SHA256 = "ecdsa-sha256"
    ECDSA_SHA384 = "ecdsa-sha384"
    ECDSA_SHA512 = "ecdsa-sha512"
    ED25519 = "ed25519"

    @property
    def family(self) -> Family:
        """The kind of signature, without its digest."""
        return _FAMILIES[self]

    @property
    def digest(self) -> str:
        """Name of the content digest, as `hashlib` spells it."""
        # RFC 8419 3.1: Ed25519 with signed attributes digests the content with SHA-512
        return _DIGESTS[self]

    @property
    def micalg(self) -> str:
        """The `micalg` parameter of multipart/signed (RFC 8551 3.5.3.2)."""
        return f"sha-{self.digest.removeprefix('sha')}"


_RSA: Final = (Family.RSA_PKCS1, Family.RSA_PSS)
_DIGESTS: Final = {
    scheme: "sha512" if scheme is Scheme.ED25519 else scheme.value.rpartition("-")[2] for scheme in Scheme
}
_FAMILIES: Final = {
    scheme: Family.ED25519 if scheme is Scheme.ED25519 else Family(scheme.value.rpartition("-")[0])
    for scheme in Scheme
}

DIGEST_SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
"""The digests that may stand under a signature, with their sizes in octets."""

WEAK_DIGESTS: Final = frozenset({"md2", "md4", "md5", "sha1", "sha224"})
"""Digests that are known and no longer trusted (RFC 8551 2.1 and its appendix B)."""

_HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_CURVES: Final = frozenset(
    {"secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"}
)


def default_scheme(public_key: CertificatePublicKeyTypes | PublicKeyTypes) -> Scheme:
    """The scheme to sign with when nobody asked for another one. Raises SchemeError for other key types."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return Scheme.RSA_PKCS1_SHA256
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return Scheme.ED25519
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in _CURVES:
        # RFC 5480 4: a digest about as strong as the curve
        if public_key.curve.key_size <= 256:
            return Scheme.ECDSA_SHA256
        return Scheme.ECDSA_SHA384 if public_key.curve.key_size <= 384 else Scheme.ECDSA_SHA512
    raise SchemeError("this type of key cannot sign mail: use RSA, P-256, P-384, P-521 or Ed25519")


def require_fit(key: object, scheme: Scheme) -> None:
    """Raises SchemeError unless the key (public or private) has the type and curve of the scheme."""
    family = scheme.family
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        fits = family in _RSA
    elif isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        fits = family is Family.ECDSA and key.curve.name in _CURVES
    else:
        fits = family is Family.ED25519 and isinstance(
            key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey
        )
    if not fits:
        raise SchemeError(f"a key of this type or curve cannot be used with {scheme.value}")


def require_certificate_fit(certificate: x509.Certificate, scheme: Scheme) -> None:
    """`require_fit` for the key of a certificate, which may also restrict an RSA key to PSS.

    Raises SchemeError, or what `cryptography` raises for a key that it cannot read.
    """
    require_fit(certificate.public_key(), scheme)
    # RFC 4055 1.2: a key under id-RSASSA-PSS is used with nothing else
    pss_only = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
    if pss_only and scheme.family is not Family.RSA_PSS:
        raise SchemeError(f"the certificate allows RSASSA-PSS alone, and not {scheme.value}")


def sign_with(private_key: PrivateKeyTypes, scheme: Scheme, data: bytes) -> bytes:
    """Signs `data` (the DER of the signed attributes). Raises SchemeError for a key of another type."""
    require_fit(private_key, scheme)
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(data)
    algorithm = _HASHES[scheme.digest]
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign(data, ec.ECDSA(algorithm))
    if isinstance(private_key, rsa.RSAPrivateKey):
        return private_key.sign(data, _rsa_padding(scheme, None), algorithm)
    raise SchemeError(f"a key of this type cannot be used with {scheme.value}")


def verify_with(
    public_key: CertificatePublicKeyTypes | PublicKeyTypes,
    scheme: Scheme,
    signature: bytes,
    data: bytes,
    *,
    salt_length: int | None = None,
    prehashed: bool = False,
) -> None:
    """Returns when the signature holds.

    Raises `cryptography.exceptions.InvalidSignature` when it does not, and SchemeError for a key of another
    type. `salt_length` is the PSS salt in octets (None: the digest's size). With `prehashed`, `data` is the
    digest itself; Ed25519 has no such form (RFC 8419 2.3 uses the pure mode).
    """
    require_fit(public_key, scheme)
    verify_fitting(public_key, scheme, signature, data, salt_length=salt_length, prehashed=prehashed)


def verify_fitting(
    public_key: CertificatePublicKeyTypes | PublicKeyTypes,
    scheme: Scheme,
    signature: bytes,
    data: bytes,
    *,
    salt_length: int | None = None,
    prehashed: bool = False,
) -> None:
    """`verify_with` for a key that `require_fit` or `require_certificate_fit` has passed.

    They know which curves are allowed, too.
    """
    family = scheme.family
    plain = _HASHES[scheme.digest]
    algorithm = Prehashed(plain) if prehashed else plain
    if family is Family.ECDSA and isinstance(public_key, ec.EllipticCurvePublicKey):
        public_key.verify(signature, data, ec.ECDSA(algorithm))
    elif family in _RSA and isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, data, _rsa_padding(scheme, salt_length), algorithm)
    elif family is Family.ED25519 and isinstance(public_key, ed25519.Ed25519PublicKey):
        if prehashed:
            raise SchemeError("Ed25519 signs the data itself and not a digest of it")
        public_key.verify(signature, data)
    else:
        raise SchemeError(f"a key of this type cannot be used with {scheme.value}")


def _rsa_padding(scheme: Scheme, salt_length: int | None) -> padding.AsymmetricPadding:
    if scheme.family is Family.RSA_PKCS1:
        return padding.PKCS1v15()
    # RFC 4056 3 and RFC 8017 9.1: the same hash in MGF1, a salt as long as the digest
    digest = _HASHES[scheme.digest]
    return padding.PSS(
        mgf=padding.MGF1(digest), salt_length=digest.digest_size if salt_length is None else salt_length
    )
