"""Decryption on a token: the key of a content is unwrapped there, and the private key never leaves it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from pkcs11 import Attribute, KeyType, Mechanism, exceptions

from mailsigil.cms.recipients import KeyScheme, WrappedKey

_OAEP: Final = {
    "sha1": (Mechanism.SHA_1, pkcs11.MGF.SHA1),
    "sha224": (Mechanism.SHA224, pkcs11.MGF.SHA224),
    "sha256": (Mechanism.SHA256, pkcs11.MGF.SHA256),
    "sha384": (Mechanism.SHA384, pkcs11.MGF.SHA384),
    "sha512": (Mechanism.SHA512, pkcs11.MGF.SHA512),
}
_REFUSALS: Final = (
    exceptions.ArgumentsBad,
    exceptions.DataInvalid,
    exceptions.DataLenRange,
    exceptions.DomainParamsInvalid,
    exceptions.EncryptedDataInvalid,
    exceptions.EncryptedDataLenRange,
    exceptions.FunctionFailed,
    exceptions.GeneralError,
    exceptions.KeyTypeInconsistent,
    exceptions.MechanismInvalid,
    exceptions.MechanismParamInvalid,
    exceptions.PublicKeyInvalid,
)
"""What tokens say to a text that does not decrypt: an answer, and no reason to open the token anew."""


class TokenOperation:
    """A PrivateOperation (see ``decryption.py``) on a token.

    ``key`` gives the private key's handle, for as long as its block lasts. Raises SourceError.
    """

    def __init__(
        self, key: Callable[[], AbstractContextManager[Any]], public: CertificatePublicKeyTypes
    ) -> None:
        self._key = key
        self._public = public

    def transport(self, wrapped: WrappedKey) -> bytes | None:
        """RSA decryption, with the token's own check of the padding."""
        mechanism, parameters = Mechanism.RSA_PKCS, None
        if wrapped.scheme is KeyScheme.RSA_OAEP:
            digest, mask = _OAEP.get(wrapped.digest), _OAEP.get(wrapped.mask_digest)
            if digest is None or mask is None:
                return None
            mechanism, parameters = Mechanism.RSA_PKCS_OAEP, (digest[0], mask[1], wrapped.label or None)
        with self._key() as key:
            try:
                return bytes(key.decrypt(wrapped.encrypted, mechanism=mechanism, mechanism_param=parameters))
            except _REFUSALS:
                return None

    def agreement(self, wrapped: WrappedKey) -> bytes | None:
        """ECDH; the token gives the shared secret, which is good for this one mail."""
        if not isinstance(self._public, ec.EllipticCurvePublicKey):
            return None
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(self._public.curve, wrapped.ephemeral)
        except ValueError:
            return None  # Not every token looks whether the point is on the curve.
        size = (self._public.curve.key_size + 7) // 8
        with self._key() as key:
            try:
                secret = key.derive_key(
                    KeyType.GENERIC_SECRET,
                    size * 8,
                    mechanism=Mechanism.ECDH1_DERIVE,
                    mechanism_param=(pkcs11.KDF.NULL, None, wrapped.ephemeral),
                    template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
                )
            except _REFUSALS:
                return None
            try:
                return bytes(secret[Attribute.VALUE])
            except _REFUSALS:
                return None
            finally:
                # It would stay as long as the session, and tokens are small.
                secret.destroy()
