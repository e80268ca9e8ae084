"""A key that signs elsewhere, bound to its certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.fitness import signing_addresses, usable_schemes
from mailsigil.keys.protocol import Credential
from mailsigil.keys.source import key_id_of

_TRIAL = b"mailsigil: does this key fit its certificate?"

Signer = Callable[[Scheme, bytes], bytes]
"""Signs data with a scheme, in another place. Raises SourceError."""


class BoundKey:
    """A SigningKey whose private half is out of reach; made by :func:`bind`."""

    __slots__ = ("_signer", "addresses", "credential", "valid_from", "valid_until")

    def __init__(self, signer: Signer, certificate: x509.Certificate, credential: Credential) -> None:
        self._signer = signer
        self.credential = credential
        self.addresses = signing_addresses(certificate)
        self.valid_from: datetime = certificate.not_valid_before_utc
        self.valid_until: datetime = certificate.not_valid_after_utc

    def sign(self, scheme: str, data: bytes) -> bytes:
        """Signs ``data``. Raises SourceError, and ValueError for a scheme that is not the credential's."""
        if scheme not in self.credential.schemes:
            raise ValueError("the key does not sign with this scheme")
        return self._signer(Scheme(scheme), data)


def bind(
    question: Question, certificates: tuple[x509.Certificate, ...], signer: Signer, *, only: frozenset[Scheme]
) -> BoundKey:
    """Checks the certificates against the question, and the key against them by one signature.

    ``only`` are the schemes that the place of the key can do. Raises SourceError.
    """
    chain = checked_chain(question, certificates)
    certificate = x509.load_der_x509_certificate(chain[0])
    schemes = tuple(scheme for scheme in usable_schemes(certificate) if scheme in only)
    if not schemes:
        raise question.wrong("this kind of key signs no mail there", "Use RSA, P-256 or P-384")
    try:
        verify_with(certificate.public_key(), schemes[0], signer(schemes[0], _TRIAL), _TRIAL)
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise question.wrong(
            "the private key does not make signatures that the certificate verifies",
            "See that key and certificate that were issued together lie together",
        ) from error
    return BoundKey(
        signer,
        certificate,
        Credential(
            key_id=key_id_of(chain[0]),
            certificate=chain[0],
            intermediates=chain[1:],
            schemes=tuple(scheme.value for scheme in schemes),
        ),
    )
