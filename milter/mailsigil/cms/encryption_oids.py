"""Object identifiers of encrypted S/MIME mail, and what they stand for here."""

from __future__ import annotations

from typing import Final

# RFC 3370 4.2.1, RFC 3560 3, RFC 4055 4.1: key transport
RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
RSAES_OAEP: Final = "1.2.840.113549.1.1.7"
MGF1: Final = "1.2.840.113549.1.1.8"
P_SPECIFIED: Final = "1.2.840.113549.1.1.9"

KEY_DERIVATIONS: Final = {
    "1.3.133.16.840.63.0.2": "sha1",
    "1.3.132.1.11.0": "sha224",
    "1.3.132.1.11.1": "sha256",
    "1.3.132.1.11.2": "sha384",
    "1.3.132.1.11.3": "sha512",
}
"""dhSinglePass-stdDH-*kdf-scheme (RFC 5753 7.1.4): the digest of the X9.63 key derivation."""

KEY_WRAPS: Final = {
    "2.16.840.1.101.3.4.1.5": 16,
    "2.16.840.1.101.3.4.1.25": 24,
    "2.16.840.1.101.3.4.1.45": 32,
}
"""AES key wrap (RFC 3565 2.3.2): octets of the wrapping key."""

AES_CBC: Final = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.42": 32,
}
"""AES in CBC mode (RFC 3565 4.1): octets of the key."""

AES_GCM: Final = {
    "2.16.840.1.101.3.4.1.6": 16,
    "2.16.840.1.101.3.4.1.26": 24,
    "2.16.840.1.101.3.4.1.46": 32,
}
"""AES in Galois/Counter mode (RFC 5084 3.2): octets of the key."""

TRIPLE_DES_CBC: Final = "1.2.840.113549.3.7"
"""RFC 3370 5.1. RC2, DES and RC4 are not here: their content counts as unreadable."""
