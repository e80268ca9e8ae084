"""Storage keys as values: read from PEM and PKCS#12, or made here.

Unlike a key that signs, a storage key has to leave the agent: Dovecot's process of the user decrypts with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from mailsigil.folding import fold
from mailsigil.keys.errors import SourceAnswer
from mailsigil.pki.names import normalise_address

MAX_KEYS: Final = 32
"""Keys of one user; Dovecot takes all of them with one login."""
MAX_ENTRY: Final = 262_144
"""Octets of all that is kept for one user."""
MIN_RSA: Final = 2048
_BLOCK: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{0,30}PRIVATE KEY)-----.{1,65536}?-----END \1-----", re.DOTALL
)
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_MEND: Final = "Store a private key of RSA (2048 bits or more), P-256, P-384 or P-521 as PKCS#8 in PEM"


class StorageKeyKind(StrEnum):
    """The kinds of storage keys that are made here."""

    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"


@dataclass(frozen=True, slots=True)
class StorageKey:
    """One key pair. Two are equal when their public halves are."""

    public: bytes
    """SubjectPublicKeyInfo, DER."""
    private_pem: bytes = field(repr=False, compare=False)
    """PKCS#8 in PEM, unencrypted."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, in hex."""
        return fingerprint(self.public)

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be copied out of its process")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store keeps for one user: the keys, the newest first. No keys: there is no such user."""

    keys: tuple[StorageKey, ...] = ()
    owners: frozenset[str] = frozenset()
    """Addresses that the entry itself records as its owner, folded; empty where it records none."""


class StorageStore(Protocol):
    """Where the storage keys of some mail domains are kept."""

    def fetch(self, address: str, *, passphrase: bytes | None = None) -> Entry:
        """Gives what is kept for an address, opened by this passphrase in place of the store's own.

        Raises SourceError.
        """
        ...

    def add(self, address: str, key: StorageKey) -> None:
        """Puts a key in front of what is kept for an address. Raises SourceError."""
        ...

    def reload(self) -> None:
        """Forgets logins and sessions: with the next call they are made anew."""
        ...


class StorageKeyMaker(Protocol):
    """Who makes new keys."""

    def make(self, address: str) -> StorageKey:
        """Makes a key. Raises SourceError."""
        ...


def fingerprint(public: bytes) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), in hex."""
    return hashlib.sha256(public).hexdigest()


def generate(kind: StorageKeyKind) -> StorageKey:
    """Makes a key from the system's randomness."""
    curves: dict[StorageKeyKind, type[ec.EllipticCurve]] = dict(
        zip((StorageKeyKind.P256, StorageKeyKind.P384, StorageKeyKind.P521), _CURVES, strict=True)
    )
    if kind in curves:
        return _storage_key(ec.generate_private_key(curves[kind]()))
    return _storage_key(rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:])))


def read_pem_keys(source: str, text: bytes, *, passphrase: bytes | None = None) -> tuple[StorageKey, ...]:
    """Reads all private keys of a PEM text, in its order. Raises SourceAnswer, which quotes nothing of it."""
    if len(text) > MAX_ENTRY:
        raise SourceAnswer(source, f"the keys are larger than {MAX_ENTRY} octets", "Remove what is no key")
    count = text.count(b"PRIVATE KEY-----") // 2
    if count > MAX_KEYS:
        raise SourceAnswer(
            source, f"there are more than {MAX_KEYS} keys", "Remove keys that encrypt no mail any more"
        )
    blocks = [match[0] + b"\n" for match in _BLOCK.finditer(text)]
    if len(blocks) != count or not blocks:
        raise SourceAnswer(source, "there is no private key in PEM, or one that is cut off", _MEND)
    return tuple(_read(source, block, passphrase) for block in blocks)


def read_der_key(source: str, der: bytes) -> StorageKey:
    """Reads one PKCS#8 in DER, unencrypted. Raises SourceAnswer."""
    try:
        key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(source) from None  # Not chained: it could quote what it read.
    return _checked(source, key)


def read_pkcs12_key(
    source: str, data: bytes, *, passphrase: bytes | None
) -> tuple[StorageKey, frozenset[str]]:
    """Reads the key of a PKCS#12, and the addresses that its certificate names. Raises SourceAnswer."""
    try:
        bag = pkcs12.load_pkcs12(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SourceAnswer(
            source,
            "the PKCS#12 cannot be opened: the passphrase is another one, or it is damaged",
            "Correct the passphrase's file",
        ) from None
    if bag.key is None:
        raise SourceAnswer(source, "the PKCS#12 holds no private key", "Store it anew together with its key")
    key = _checked(source, bag.key)
    certificates = [each.certificate for each in (bag.cert, *bag.additional_certs) if each is not None]
    return key, holders(certificates, key)


def holders(certificates: Sequence[x509.Certificate], key: StorageKey) -> frozenset[str]:
    """Gives the mail addresses of the certificates that are for a key, in lower case."""
    found: set[str] = set()
    for certificate in certificates[:MAX_KEYS]:
        try:
            public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
            continue
        except x509.UnsupportedGeneralNameType:
            continue
        if public == key.public:
            found.update(fold(normalise_address(name)) for name in names.get_values_for_type(x509.RFC822Name))
    return frozenset(found - {""})


def _read(source: str, block: bytes, passphrase: bytes | None) -> StorageKey:
    locked = b"BEGIN ENCRYPTED" in block or b"Proc-Type: 4,ENCRYPTED" in block
    try:
        key = load_pem_private_key(block, passphrase if locked else None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(source) from None
    return _checked(source, key)


def _unreadable(source: str) -> SourceAnswer:
    return SourceAnswer(
        source, "a private key cannot be read: it is damaged, or has another passphrase", _MEND
    )


def _checked(source: str, key: object) -> StorageKey:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA:
            raise SourceAnswer(source, f"a key of RSA with {key.key_size} bits is too weak", _MEND)
        if not _halves_fit(key):
            raise _unreadable(source)
    elif not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES)):
        raise SourceAnswer(source, "a private key is of a kind that encrypts no stored mail", _MEND)
    elif (
        ec.derive_private_key(key.private_numbers().private_value, key.curve).public_key() != key.public_key()
    ):
        raise _unreadable(source)
    return _storage_key(key)


def _halves_fit(key: rsa.RSAPrivateKey) -> bool:
    """Whether the private half belongs to the public one. OpenSSL's check of primes takes 40 ms a key."""
    numbers = key.private_numbers()
    public = numbers.public_numbers
    return numbers.p * numbers.q == public.n and all(
        numbers.d * public.e % (prime - 1) == 1 for prime in (numbers.p, numbers.q)
    )


def _storage_key(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> StorageKey:
    return StorageKey(
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
