"""A private key in memory, checked against its certificate before it may sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailsigil.cms.algorithms import Scheme, sign_with, verify_with
from mailsigil.cms.content import DecryptionFailed
from mailsigil.cms.recipients import WrappedKey
from mailsigil.keys.decryption import InMemory, unwrap_with
from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.fitness import (
    Unfit,
    allows_encryption,
    allows_signatures,
    check_purpose,
    issuers_of,
    public_key_of,
    signing_addresses,
    usable_schemes,
)
from mailsigil.keys.protocol import Credential
from mailsigil.keys.source import key_id_of

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_TRIAL: Final = b"mailsigil: does this key fit its certificate?"


class SoftKey:
    """A private key held in this process. It has no way to give the key away."""

    __slots__ = ("__key", "addresses", "credential", "decrypts", "origin", "valid_from", "valid_until")

    def __init__(
        self,
        key: PrivateKey,
        *,
        credential: Credential,
        addresses: frozenset[str],
        validity: tuple[datetime, datetime],
        origin: Path,
        decrypts: bool = False,
    ) -> None:
        self.__key = key
        self.credential = credential
        self.decrypts = decrypts
        self.addresses = addresses
        self.valid_from, self.valid_until = validity
        self.origin = origin

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``; raises ValueError for a scheme that is not among the credential's."""
        if scheme not in self.credential.schemes:
            raise ValueError("the key does not sign with this scheme")
        return sign_with(self.__key, Scheme(scheme), data)

    def unwrap(self, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content (see ``decryption.py``). Raises DecryptionFailed."""
        if not self.decrypts or isinstance(self.__key, ed25519.Ed25519PrivateKey):
            raise DecryptionFailed
        public = self.__key.public_key()
        return unwrap_with(InMemory(self.__key), public, wrapped, size, self.credential.key_id)

    def __repr__(self) -> str:
        return f"<SoftKey {self.credential.key_id} from {self.origin}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be copied out of its process")


def soft_key(
    key: PrivateKey, certificate: x509.Certificate, others: Sequence[x509.Certificate], *, origin: Path
) -> SoftKey:
    """Binds a key to its certificate; raises KeyFileError when the pair is not fit for mail.

    A certificate for encryption alone gives a key without schemes: it decrypts, and signs nothing.
    """
    try:
        addresses = signing_addresses(certificate)
        check_purpose(certificate, encryption=True)
        schemes = usable_schemes(certificate)
    except Unfit as unfit:
        raise KeyFileError(origin, unfit.sentence, unfit.mend) from unfit
    _try_out(key, certificate, schemes[0], origin)
    der = certificate.public_bytes(Encoding.DER)
    return SoftKey(
        key,
        credential=Credential(
            key_id=key_id_of(der),
            certificate=der,
            intermediates=tuple(c.public_bytes(Encoding.DER) for c in issuers_of(certificate, others)),
            schemes=tuple(scheme.value for scheme in schemes) if allows_signatures(certificate) else (),
        ),
        addresses=addresses,
        validity=(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
        origin=origin,
        decrypts=allows_encryption(certificate),
    )


def belongs_to(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Tells whether the certificate is for this key."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public_key_of(certificate) == key.public_key().public_bytes(*form)


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
