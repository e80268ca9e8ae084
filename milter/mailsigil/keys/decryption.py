"""Keys that decrypt: what a source offers beside signatures, and what such a key must be.

The private half does one thing here: it unwraps the key of a content. The content itself never comes near it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailsigil.cms.content import DecryptionFailed
from mailsigil.cms.recipients import KeyScheme, WrappedKey
from mailsigil.cms.unwrap import accepted, from_agreement, oaep_padding
from mailsigil.keys.protocol import Credential


@runtime_checkable
class DecryptionKey(Protocol):
    """A private key that unwraps: an operation, never bytes."""

    @property
    def credential(self) -> Credential:
        """What a caller may know; without schemes where the certificate is for encryption alone."""
        ...

    @property
    def addresses(self) -> frozenset[str]:
        """The mail addresses that the certificate names, in key form."""
        ...

    @property
    def decrypts(self) -> bool:
        """The certificate lets others encrypt to this key, and the key can decrypt where it lies."""
        ...

    def unwrap(self, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content, which should have ``size`` octets.

        Raises DecryptionFailed without a reason, and SourceError when the place of the key does not answer.
        """
        ...


@runtime_checkable
class Decrypting(Protocol):
    """A source that has such keys."""

    def decrypting(self, address: str) -> tuple[DecryptionKey, ...]:
        """Gives the keys whose certificate names an address (key form), expired ones too.

        Nothing is enrolled or made for it. Raises SourceError.
        """
        ...


class PrivateOperation(Protocol):
    """The one thing that the place of a key has to do: RSA decryption, or the shared secret of ECDH."""

    def transport(self, wrapped: WrappedKey) -> bytes | None:
        """RSA: the content's key out of its padding; None where there is none. Raises SourceError."""
        ...

    def agreement(self, wrapped: WrappedKey) -> bytes | None:
        """ECDH: the x coordinate of the shared point; None where the point is none of the curve's."""
        ...


def unwrap_with(
    operation: PrivateOperation, public: CertificatePublicKeyTypes, wrapped: WrappedKey, size: int, name: str
) -> bytes:
    """Unwraps with a private key; ``name`` names it, the same in each process. Raises DecryptionFailed."""
    if isinstance(public, rsa.RSAPublicKey) and wrapped.scheme is KeyScheme.RSA_PKCS1:
        return accepted(operation.transport(wrapped), wrapped, size=size, bound_to=name.encode())
    if isinstance(public, rsa.RSAPublicKey) and wrapped.scheme is KeyScheme.RSA_OAEP:
        plain = operation.transport(wrapped)
    elif isinstance(public, ec.EllipticCurvePublicKey) and wrapped.scheme is KeyScheme.ECDH:
        secret = operation.agreement(wrapped)
        plain = None if secret is None else from_agreement(secret, wrapped)
    else:
        plain = None
    if plain is None or len(plain) != size:
        raise DecryptionFailed
    return plain


class InMemory:
    """The operation of a private key that is held in this process."""

    __slots__ = ("__key",)

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self.__key = key

    def transport(self, wrapped: WrappedKey) -> bytes | None:
        """RSA decryption."""
        if not isinstance(self.__key, rsa.RSAPrivateKey):
            return None
        oaep = wrapped.scheme is KeyScheme.RSA_OAEP
        try:
            return self.__key.decrypt(
                wrapped.encrypted, oaep_padding(wrapped) if oaep else padding.PKCS1v15()
            )
        except ValueError:
            return None

    def agreement(self, wrapped: WrappedKey) -> bytes | None:
        """ECDH with the sender's ephemeral key, on this key's curve."""
        if not isinstance(self.__key, ec.EllipticCurvePrivateKey):
            return None
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self.__key.curve, wrapped.ephemeral)
            return self.__key.exchange(ec.ECDH(), point)
        except ValueError:
            return None
