"""Private keys on their way to the other mail servers: encrypted in the database, with a secret of their own.

AES-256-GCM (NIST SP 800-38D); the key is derived (HKDF, RFC 5869) from a file that all servers have and the
database has not. What was sealed for one certificate cannot be passed off as another's: source, address and
serial are part of what is authenticated.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.secret_files import SecretFile
from mailsigil.lifecycle.errors import LifecycleError

SECRET_BYTES: Final = 32
_SHARED: Final = (
    "Put the secret of the other mail servers there, for the key agent's user alone; the first server makes"
    " it: openssl rand -base64 32"
)
_VERSION: Final = b"\x01"
_NONCE: Final = 12
_INFO: Final = b"mailsigil: private keys in the lifecycle's database, 1"


class SealError(LifecycleError):
    """A key cannot be sealed or opened."""


class Seal:
    """Encrypts and decrypts key files. The secret shows nowhere."""

    def __init__(self, secret: bytes) -> None:
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_INFO)
        self.__cipher = AESGCM(derive.derive(secret))

    def close(self, content: bytes, *, source: str, address: str, serial: str) -> bytes:
        """Encrypt a key file for the certificate of this serial."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self.__cipher.encrypt(nonce, content, _bound_to(source, address, serial))

    def open(self, sealed: bytes, *, source: str, address: str, serial: str) -> bytes:
        """Decrypt a key file. Raises SealError."""
        nonce, rest = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            if sealed[:1] != _VERSION:
                raise InvalidTag
            return self.__cipher.decrypt(nonce, rest, _bound_to(source, address, serial))
        except (InvalidTag, ValueError):
            raise SealError(
                f"the key of {address} (serial {serial}) in the database cannot be decrypted",
                'See that "share_keys_with" is the same file on all mail servers',
            ) from None

    def __repr__(self) -> str:
        return "<Seal>"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not to be copied out of its process")


def load_seal(place: str) -> Seal | None:
    """Read the secret that ``share_keys_with`` names; None where nothing is shared. Raises SealError."""
    if not place:
        return None
    try:
        text = SecretFile("lifecycle", place).read()
    except SourceRefused as error:
        # What reads files of keys would have those removed that are none; nobody should remove this one.
        mend = error.mend if "emove it" not in error.mend else _SHARED
        raise SealError(f"the secret for shared keys cannot be read: {error.sentence}", mend) from error
    try:
        secret = base64.b64decode(text, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise SealError(
            f"{place} does not hold {SECRET_BYTES} octets in base64", "Make one: openssl rand -base64 32"
        )
    return Seal(secret)


def _bound_to(source: str, address: str, serial: str) -> bytes:
    return "\0".join((source, address, serial)).encode()
