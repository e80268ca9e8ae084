"""Decrypting the content of an encrypted mail, once its key is known.

Whatever goes wrong here is one and the same failure: which check failed, and how far it came, would tell an
attacker who sends altered copies what the content is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from mailsigil.cms import der
from mailsigil.cms import encryption_oids as known
from mailsigil.cms.ber import CmsError, CmsSyntaxError, Cursor
from mailsigil.cms.enveloped import Enveloped
from mailsigil.cms.values import AlgorithmIdentifier, read_integer

_BLOCK: Final = 16
_DES_BLOCK: Final = 8
_DES_KEY: Final = 24
_MIN_TAG: Final = 12  # RFC 5084 3.2
_MAX_TAG: Final = 16


class DecryptionFailed(Exception):
    """The content does not decrypt with this key. Nothing more is told, on purpose."""


class UnknownCipher(CmsError):
    """The content is encrypted with an algorithm that is not read here."""

    def __init__(self, oid: str) -> None:
        super().__init__(
            "cipher", f"the content is encrypted with an algorithm that is not read here ({oid})"
        )


class CipherKind(StrEnum):
    """The ciphers that are read."""

    AES_CBC = "aes-cbc"
    AES_GCM = "aes-gcm"
    TRIPLE_DES_CBC = "3des-cbc"


@dataclass(frozen=True, slots=True)
class ContentCipher:
    """contentEncryptionAlgorithm, understood."""

    kind: CipherKind
    key_size: int
    """Octets of the key."""
    start: bytes
    """Initialisation vector or nonce."""
    tag_size: int = 0

    @property
    def authenticated(self) -> bool:
        """The cipher itself shows whether the content was altered."""
        return self.kind is CipherKind.AES_GCM


def content_cipher(algorithm: AlgorithmIdentifier) -> ContentCipher:
    """Reads the algorithm of the content. Raises UnknownCipher, and CmsSyntaxError for bad parameters."""
    if size := known.AES_CBC.get(algorithm.oid):
        return ContentCipher(CipherKind.AES_CBC, size, _vector(algorithm, _BLOCK))
    if algorithm.oid == known.TRIPLE_DES_CBC:
        return ContentCipher(CipherKind.TRIPLE_DES_CBC, _DES_KEY, _vector(algorithm, _DES_BLOCK))
    if size := known.AES_GCM.get(algorithm.oid):
        return _gcm(algorithm, size)
    raise UnknownCipher(algorithm.oid)


def decrypt_content(enveloped: Enveloped, key: bytes) -> Iterator[bytes]:
    """Gives the content in pieces. What came before DecryptionFailed must not be used.

    Raises CmsError as ``content_cipher`` does, before anything is decrypted.
    """
    cipher = content_cipher(enveloped.algorithm)
    if cipher.authenticated != bool(enveloped.mac):
        # RFC 5083 2.1, RFC 5084 1: a cipher with a tag in a structure without a place for it, or the reverse
        raise CmsSyntaxError("bad-cipher", "the cipher does not fit the kind of structure")
    if len(key) != cipher.key_size:
        raise DecryptionFailed
    if cipher.authenticated:
        return _authenticated(enveloped, cipher, key)
    return _unpadded(enveloped, cipher, key)


def _authenticated(enveloped: Enveloped, cipher: ContentCipher, key: bytes) -> Iterator[bytes]:
    if len(enveloped.mac) != cipher.tag_size:
        raise DecryptionFailed
    mode = modes.GCM(cipher.start, enveloped.mac, min_tag_length=_MIN_TAG)
    context = Cipher(AES(key), mode).decryptor()
    context.authenticate_additional_data(enveloped.authenticated)
    yield from _updated(context, enveloped)
    try:
        context.finalize()
    except InvalidTag:
        raise DecryptionFailed from None


def _unpadded(enveloped: Enveloped, cipher: ContentCipher, key: bytes) -> Iterator[bytes]:
    algorithm = AES(key) if cipher.kind is CipherKind.AES_CBC else TripleDES(key)
    context = Cipher(algorithm, modes.CBC(cipher.start)).decryptor()
    unpadder = padding.PKCS7(len(cipher.start) * 8).unpadder()  # RFC 5652 6.3
    for chunk in _updated(context, enveloped):
        if piece := unpadder.update(chunk):
            yield piece
    try:
        last = unpadder.update(context.finalize()) + unpadder.finalize()
    except ValueError:
        raise DecryptionFailed from None
    if last:
        yield last


def _updated(context: CipherContext, enveloped: Enveloped) -> Iterator[bytes]:
    for chunk in enveloped.content.chunks():
        if piece := context.update(chunk):
            yield piece


def _vector(algorithm: AlgorithmIdentifier, size: int) -> bytes:
    cursor = Cursor.over(algorithm.parameters)
    vector = cursor.value(der.OCTET_STRING)
    cursor.finish()
    if len(vector) != size:
        raise CmsSyntaxError("bad-parameters", "the initialisation vector has the wrong length")
    return vector


def _gcm(algorithm: AlgorithmIdentifier, size: int) -> ContentCipher:
    # RFC 5084 3.2: GCMParameters; the default of the tag's length is 12
    cursor, tag_size = Cursor.over(algorithm.parameters), _MIN_TAG
    with cursor.inside(der.SEQUENCE):
        nonce = cursor.value(der.OCTET_STRING)
        if cursor.tag() is not None:
            tag_size = read_integer(cursor)
    cursor.finish()
    if not 8 <= len(nonce) <= 64 or not _MIN_TAG <= tag_size <= _MAX_TAG:
        raise CmsSyntaxError("bad-parameters", "the nonce or the tag has a length that it must not have")
    return ContentCipher(CipherKind.AES_GCM, size, nonce, tag_size)
