"""Object identifiers of CMS and S/MIME, and what they stand for here."""

from __future__ import annotations

from typing import Final

from mailsigil.cms.algorithms import Family

# RFC 5652, RFC 5083, RFC 3274: content types
DATA: Final = "1.2.840.113549.1.7.1"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"
AUTH_ENVELOPED_DATA: Final = "1.2.840.113549.1.9.16.1.23"
COMPRESSED_DATA: Final = "1.2.840.113549.1.9.16.1.9"

# RFC 5652 11, RFC 8551 2.5, RFC 2634 5.4, RFC 5035 3, RFC 6211 2: signed attributes
CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
SMIME_CAPABILITIES: Final = "1.2.840.113549.1.9.15"
SIGNATURE_TYPE: Final = "1.2.840.113549.1.9.16.2.28"
DOMAIN_SIGNATURE: Final = "1.2.840.113549.1.9.16.9.2"
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
COUNTER_SIGNATURE: Final = "1.2.840.113549.1.9.6"
ALGORITHM_PROTECTION: Final = "1.2.840.113549.1.9.52"

# RFC 5940 2.1: other revocation infos
RI_OCSP_RESPONSE: Final = "1.3.6.1.5.5.7.16.2"

# RFC 3565 4.1: what smimeCapabilities announces
AES128_CBC: Final = "2.16.840.1.101.3.4.1.2"
AES256_CBC: Final = "2.16.840.1.101.3.4.1.42"

MGF1: Final = "1.2.840.113549.1.1.8"
RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
RSASSA_PSS: Final = "1.2.840.113549.1.1.10"
ED25519: Final = "1.3.101.112"

DIGESTS: Final = {
    "1.2.840.113549.2.2": "md2",
    "1.2.840.113549.2.4": "md4",
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Digest algorithms by OID (RFC 3370 2, RFC 5754 2)."""

DIGEST_OIDS: Final = {name: oid for oid, name in DIGESTS.items()}

SIGNATURES: Final = {
    RSA_ENCRYPTION: (Family.RSA_PKCS1, ""),
    "1.2.840.113549.1.1.2": (Family.RSA_PKCS1, "md2"),
    "1.2.840.113549.1.1.4": (Family.RSA_PKCS1, "md5"),
    "1.2.840.113549.1.1.5": (Family.RSA_PKCS1, "sha1"),
    "1.2.840.113549.1.1.14": (Family.RSA_PKCS1, "sha224"),
    "1.2.840.113549.1.1.11": (Family.RSA_PKCS1, "sha256"),
    "1.2.840.113549.1.1.12": (Family.RSA_PKCS1, "sha384"),
    "1.2.840.113549.1.1.13": (Family.RSA_PKCS1, "sha512"),
    "1.2.840.10045.4.1": (Family.ECDSA, "sha1"),
    "1.2.840.10045.4.3.1": (Family.ECDSA, "sha224"),
    "1.2.840.10045.4.3.2": (Family.ECDSA, "sha256"),
    "1.2.840.10045.4.3.3": (Family.ECDSA, "sha384"),
    "1.2.840.10045.4.3.4": (Family.ECDSA, "sha512"),
    ED25519: (Family.ED25519, "sha512"),
}
"""Signature algorithms by OID with the digest that the OID itself fixes, "" where digestAlgorithm says it
(RFC 3370 3.2, RFC 5754 3, RFC 5753 2, RFC 8419 2). RSASSA-PSS is not here: its parameters say the digest."""

ECDSA_OIDS: Final = {digest: oid for oid, (family, digest) in SIGNATURES.items() if family is Family.ECDSA}
