"""Storage keys as settings of Dovecot's mail_crypt plugin, which are named differently in 2.3 and 2.4."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from mailsigil.keys.storage.key import StorageKey
from mailsigil.keys.storage.pins import public_pem

CIPHER: Final = "aes-256-gcm-sha256"
"""``mail_crypt_save_version = 2`` of 2.3 under its name in 2.4."""

Fields = list[tuple[str, str]]


class Release(StrEnum):
    """The releases of Dovecot whose settings are known."""

    V23 = "2.3"
    V24 = "2.4"


def encrypting(release: Release, public: bytes) -> Fields:
    """The fields that have new mail encrypted to a public key (DER); without them it is stored in clear."""
    pem = public_pem(public)
    if release is Release.V23:
        return [
            ("mail_crypt_global_public_key", base64.b64encode(pem).decode()),
            ("mail_crypt_save_version", "2"),
        ]
    return [
        ("crypt_global_public_key_file", f"inline:{pem.decode()}"),
        ("crypt_write_algorithm", CIPHER),
    ]


def decrypting(release: Release, keys: Sequence[StorageKey]) -> Fields:
    """The fields with the private keys, the newest first."""
    if release is Release.V23:
        return [
            (
                f"mail_crypt_global_private_key{number if number > 1 else ''}",
                base64.b64encode(key.private_pem).decode(),
            )
            for number, key in enumerate(keys, 1)
        ]
    names = [f"k{number}" for number in range(1, len(keys) + 1)]
    return [
        ("crypt_global_private_key", " ".join(names)),
        *(
            (
                f"crypt_global_private_key/{name}/crypt_private_key_file",
                f"inline:{key.private_pem.decode()}",
            )
            for name, key in zip(names, keys, strict=True)
        ),
    ]
