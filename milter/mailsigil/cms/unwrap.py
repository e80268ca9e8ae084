"""From a wrapped key to the key of the content: what is done around the one operation of the private key.

RSA with PKCS#1 v1.5 tells whoever may ask often enough everything (Bleichenbacher), as soon as a failure can
be told from a success. So there is no failure: a padding that does not fit gives a key all the same, one that
depends on the ciphertext and on a secret, and the content then fails to decrypt (RFC 3218 2.3, and implicit
rejection as OpenSSL has it).
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from mailsigil.cms.content import DecryptionFailed
from mailsigil.cms.recipients import WrappedKey

KEY_SIZES: Final = (16, 24, 32)
"""Octets that the key of a content may have."""

# Made when the module is read, before the key agent's processes are forked: all give the same answer.
_SECRET: Final = os.urandom(32)
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def accepted(plain: bytes | None, wrapped: WrappedKey, *, size: int, bound_to: bytes) -> bytes:
    """Gives what PKCS#1 v1.5 yielded, or, where that is no key of this size, a key that nobody can foretell.

    ``plain`` is None where the operation failed; ``bound_to`` names the private key.
    """
    made_up = hmac.digest(_SECRET, bound_to + b"\0" + wrapped.encrypted, "sha256")[:size]
    return plain if plain is not None and len(plain) == size else made_up


def oaep_padding(wrapped: WrappedKey) -> padding.OAEP:
    """The padding of a key that was wrapped by RSA-OAEP. Raises DecryptionFailed for an unknown hash."""
    digest, mask = _HASHES.get(wrapped.digest), _HASHES.get(wrapped.mask_digest)
    if digest is None or mask is None:
        raise DecryptionFailed
    return padding.OAEP(mgf=padding.MGF1(mask()), algorithm=digest(), label=wrapped.label or None)


def from_agreement(secret: bytes, wrapped: WrappedKey) -> bytes:
    """Gives the content's key out of the shared secret of ECDH. Raises DecryptionFailed."""
    digest = _HASHES.get(wrapped.digest)
    if digest is None or wrapped.wrap_size not in KEY_SIZES:
        raise DecryptionFailed
    # RFC 5753 3.1.3, SEC 1 3.6.1
    kdf = X963KDF(algorithm=digest(), length=wrapped.wrap_size, sharedinfo=wrapped.shared_info)
    try:
        return keywrap.aes_key_unwrap(kdf.derive(secret), wrapped.encrypted)  # RFC 3394 2.2.2
    except (keywrap.InvalidUnwrap, ValueError):
        raise DecryptionFailed from None
