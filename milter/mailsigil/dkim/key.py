"""The public key behind a selector, and the check of a signature with it (RFC 6376 3.6.1, RFC 8463)."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

from mailsigil.dkim.signature import Signature
from mailsigil.dkim.words import DkimFault, DkimWord

PublicKey = RSAPublicKey | Ed25519PublicKey

MAX_RECORD = 8192
"""Octets of a key record; 4096 bits of RSA take about 800."""
MIN_RSA_BITS = 1024
MAX_RSA_BITS = 8192


def read_key(record: bytes | None, signature: Signature, *, domain: str) -> PublicKey:
    """Give the key from a key record, if it may be used for this signature.

    Raises :class:`DkimFault`: ``permerror`` for what is missing or unreadable, ``policy`` for what is
    too weak.
    """
    tags = _read_record(record)
    _check_use(tags, signature, domain)
    encoded = b"".join(tags.get(b"p", b"").split())
    if not encoded:  # RFC 6376 3.6.1
        raise DkimFault(DkimWord.PERMERROR, "the key was revoked")
    try:
        data = base64.b64decode(encoded, validate=True)
        key = _load(data, signature.key_type)
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        raise DkimFault(DkimWord.PERMERROR, "the key cannot be read") from error
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:  # RFC 8301 3.2
            raise DkimFault(DkimWord.POLICY, "the key is too short")
        if key.key_size > MAX_RSA_BITS:
            raise DkimFault(DkimWord.POLICY, "the key is too long")
    return key


def check_signature(key: PublicKey, value: bytes, digest: bytes) -> None:
    """Check a signature value over a SHA-256 header hash. Raises :class:`DkimFault` with ``fail``."""
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(value, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        else:
            key.verify(value, digest)  # RFC 8463 3: the hash is what Ed25519 signs
    except InvalidSignature as error:
        raise DkimFault(DkimWord.FAIL, "the signature does not fit the header") from error


def _read_record(record: bytes | None) -> dict[bytes, bytes]:
    if not record:
        raise DkimFault(DkimWord.PERMERROR, "there is no key for the signature")
    if len(record) > MAX_RECORD:
        raise DkimFault(DkimWord.PERMERROR, "the key record is too long")
    try:
        tags: dict[bytes, bytes] = parse_tag_value(record)
    except (InvalidTagValueList, IndexError) as error:
        raise DkimFault(DkimWord.PERMERROR, "the key record cannot be read") from error
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise DkimFault(DkimWord.PERMERROR, "the key record has an unknown version")
    return tags


def _check_use(tags: dict[bytes, bytes], signature: Signature, domain: str) -> None:
    """RFC 6376 6.1.2: may this key make this signature?"""
    if tags.get(b"k", b"rsa").lower() != signature.key_type:
        raise DkimFault(DkimWord.PERMERROR, "the key is of another type than the signature")
    if b"h" in tags and b"sha256" not in _listed(tags[b"h"]):
        raise DkimFault(DkimWord.PERMERROR, "the key is not meant for SHA-256")
    if not {b"*", b"email"} & set(_listed(tags.get(b"s", b"*"))):
        raise DkimFault(DkimWord.PERMERROR, "the key is not meant for mail")
    if b"s" in _listed(tags.get(b"t", b"")) and signature.identity_domain != domain:
        raise DkimFault(DkimWord.PERMERROR, "the key is not meant for subdomains")


def _listed(value: bytes) -> list[bytes]:
    return [word.strip().lower() for word in value.split(b":")]


def _load(data: bytes, key_type: bytes) -> PublicKey:
    if key_type == b"ed25519":
        return Ed25519PublicKey.from_public_bytes(data)  # RFC 8463 4.2: the bare 32 octets
    key = load_der_public_key(data)
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")
    return key
