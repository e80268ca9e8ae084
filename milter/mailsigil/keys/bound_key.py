"""A key that signs elsewhere, bound to its certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.cms.content import DecryptionFailed
from mailsigil.cms.recipients import WrappedKey
from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.decryption import PrivateOperation, unwrap_with
from mailsigil.keys.fitness import (
    allows_encryption,
    allows_signatures,
    signing_addresses,
    usable_schemes,
)
from mailsigil.keys.protocol import Credential
from mailsigil.keys.source import key_id_of

_TRIAL = b"mailsigil: does this key fit its certificate?"

Signer = Callable[[Scheme, bytes], bytes]
"""Signs data with a scheme, in another place. Raises SourceError."""


class BoundKey:
    """A SigningKey whose private half is out of reach; made by :func:`bind`."""

    __slots__ = (
        "_operation",
        "_public",
        "_signer",
        "addresses",
        "credential",
        "decrypts",
        "valid_from",
        "valid_until",
    )

    def __init__(
        self,
        signer: Signer,
        certificate: x509.Certificate,
        credential: Credential,
        operation: PrivateOperation | None,
    ) -> None:
        self._signer = signer
        self._operation = operation
        self._public = certificate.public_key()
        self.decrypts = operation is not None and allows_encryption(certificate)
        self.credential = credential
        self.addresses = signing_addresses(certificate)
        self.valid_from: datetime = certificate.not_valid_before_utc
        self.valid_until: datetime = certificate.not_valid_after_utc

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``. Raises SourceError, and ValueError for a scheme that is not the credential's."""
        if scheme not in self.credential.schemes:
            raise ValueError("the key does not sign with this scheme")
        return self._signer(Scheme(scheme), data)

    def unwrap(self, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content (see ``decryption.py``). Raises DecryptionFailed and SourceError."""
        if self._operation is None or not self.decrypts:
            raise DecryptionFailed
        return unwrap_with(self._operation, self._public, wrapped, size, self.credential.key_id)


def bind(
    question: Question,
    certificates: tuple[x509.Certificate, ...],
    signer: Signer,
    *,
    only: frozenset[Scheme],
    decryption: PrivateOperation | None = None,
) -> BoundKey:
    """Checks the certificates against the question, and the key against them by one signature.

    ``only`` are the schemes that the place of the key can do. With ``decryption`` the key decrypts, too,
    where its certificate allows that; one for encryption alone is not tried out, for it may not sign.
    Raises SourceError.
    """
    chain = checked_chain(question, certificates)
    certificate = x509.load_der_x509_certificate(chain[0])
    schemes = tuple(scheme for scheme in usable_schemes(certificate) if scheme in only)
    if not allows_signatures(certificate):
        return BoundKey(signer, certificate, _credential(chain, ()), decryption)
    if not schemes:
        raise question.wrong("this kind of key signs no mail there", "Use RSA, P-256 or P-384")
    try:
        verify_with(certificate.public_key(), schemes[0], signer(schemes[0], _TRIAL), _TRIAL)
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise question.wrong(
            "the private key does not make signatures that the certificate verifies",
            "See that key and certificate that were issued together lie together",
        ) from error
    return BoundKey(signer, certificate, _credential(chain, schemes), decryption)


def _credential(chain: tuple[bytes, ...], schemes: tuple[Scheme, ...]) -> Credential:
    return Credential(
        key_id=key_id_of(chain[0]),
        certificate=chain[0],
        intermediates=chain[1:],
        schemes=tuple(scheme.value for scheme in schemes),
    )
