"""RecipientInfos (RFC 5652 6.2): for whom a mail was encrypted, and how its key was wrapped for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms import encryption_oids as known
from mailsigil.cms.ber import CmsLimitError, CmsSyntaxError, Cursor
from mailsigil.cms.values import AlgorithmIdentifier, read_algorithm, read_integer

MAX_WRAPPED: Final = 2048
"""Octets of a wrapped key: RSA-16384 fills them."""
MAX_PART: Final = 1024
"""Octets of a label, of user keying material, of an ephemeral key."""
_BIT_STRING: Final = 0x03


class KeyScheme(StrEnum):
    """How the key of the content was wrapped for a recipient."""

    RSA_PKCS1 = "rsa-pkcs1"
    """Key transport with RSAES-PKCS1-v1_5 (RFC 3370 4.2.1)."""
    RSA_OAEP = "rsa-oaep"
    """Key transport with RSAES-OAEP (RFC 3560)."""
    ECDH = "ecdh"
    """Key agreement: ephemeral-static ECDH, X9.63 key derivation, AES key wrap (RFC 5753 3.1)."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientIdentifier:
    """Which certificate a key was wrapped for: issuer and serial number, or a subject key identifier."""

    issuer: bytes = b""
    """DER Name of the issuer; b"" when the certificate is named by its key."""
    serial: int = 0
    subject_key_id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A content-encryption key as it was wrapped, with all that unwrapping needs beside the private key."""

    scheme: KeyScheme
    encrypted: bytes
    digest: str = ""
    """OAEP: its hash; ECDH: the hash of the key derivation. As `hashlib` spells them."""
    mask_digest: str = ""
    """OAEP: the hash of MGF1."""
    label: bytes = b""
    """OAEP: the label that it is bound to."""
    ephemeral: bytes = b""
    """ECDH: the sender's public point (SEC 1 2.3.3)."""
    shared_info: bytes = b""
    """ECDH: DER of ECC-CMS-SharedInfo (RFC 5753 7.2)."""
    wrap_size: int = 0
    """ECDH: octets of the key that wraps."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of an encrypted mail."""

    identifier: RecipientIdentifier
    wrapped: WrappedKey


def read_recipients(cursor: Cursor, *, limit: int) -> tuple[Recipient, ...]:
    """Reads the RecipientInfos. Kinds without a certificate are passed over: we hold no key for them.

    Raises CmsSyntaxError, and CmsLimitError past ``limit`` recipients.
    """
    found: list[Recipient] = []
    seen = 0
    with cursor.inside(der.SET):
        while (tag := cursor.tag()) is not None:
            if tag == der.SEQUENCE:
                read = [_key_transport(cursor)]
            elif tag == der.context(1):
                read = _key_agreement(cursor, limit - seen)
            else:
                # kekri, pwri, ori (RFC 5652 6.2.3 to 6.2.5)
                cursor.raw()
                read = []
            seen += max(len(read), 1)
            if seen > limit:
                raise CmsLimitError("cms-recipients")
            found.extend(read)
    return tuple(found)


def _key_transport(cursor: Cursor) -> Recipient:
    # RFC 5652 6.2.1
    with cursor.inside(der.SEQUENCE):
        read_integer(cursor)
        identifier = _identifier(cursor, der.context(0, constructed=False))
        algorithm = read_algorithm(cursor)
        encrypted = _short(cursor.value(der.OCTET_STRING), MAX_WRAPPED)
    if algorithm.oid == known.RSA_ENCRYPTION and not algorithm.parameters:
        return Recipient(identifier, WrappedKey(scheme=KeyScheme.RSA_PKCS1, encrypted=encrypted))
    if algorithm.oid == known.RSAES_OAEP:
        return Recipient(identifier, _oaep(algorithm, encrypted))
    return Recipient(identifier, WrappedKey(scheme=KeyScheme.UNKNOWN, encrypted=b""))


def _oaep(algorithm: AlgorithmIdentifier, encrypted: bytes) -> WrappedKey:
    """RSAES-OAEP-params with their defaults (RFC 4055 4.1)."""
    digest, mask_digest, label = "sha1", "sha1", b""
    cursor = Cursor.over(algorithm.parameters or der.sequence())
    with cursor.inside(der.SEQUENCE):
        if cursor.tag() == der.context(0):
            with cursor.inside(der.context(0)):
                digest = oids.DIGESTS.get(read_algorithm(cursor).oid, "")
        if cursor.tag() == der.context(1):
            with cursor.inside(der.context(1)):
                mask = read_algorithm(cursor)
                inner = read_algorithm(Cursor.over(mask.parameters)) if mask.parameters else None
                mask_digest = oids.DIGESTS.get(inner.oid, "") if inner and mask.oid == known.MGF1 else ""
        if cursor.tag() == der.context(2):
            with cursor.inside(der.context(2)):
                source = read_algorithm(cursor)
                if source.oid != known.P_SPECIFIED:
                    raise CmsSyntaxError("bad-oaep", "the label of a wrapped key has an unknown source")
                if source.parameters:
                    label = _short(Cursor.over(source.parameters).value(der.OCTET_STRING), MAX_PART)
    scheme = KeyScheme.RSA_OAEP if digest and mask_digest else KeyScheme.UNKNOWN
    return WrappedKey(scheme=scheme, encrypted=encrypted, digest=digest, mask_digest=mask_digest, label=label)


def _key_agreement(cursor: Cursor, limit: int) -> list[Recipient]:
    # RFC 5652 6.2.2
    with cursor.inside(der.context(1)):
        read_integer(cursor)
        with cursor.inside(der.context(0)):
            ephemeral = _originator_key(cursor)
        material = None
        if cursor.tag() == der.context(1):
            with cursor.inside(der.context(1)):
                material = _short(cursor.value(der.OCTET_STRING), MAX_PART)
        algorithm = read_algorithm(cursor)
        template = _agreed(algorithm, ephemeral, material)
        found: list[Recipient] = []
        with cursor.inside(der.SEQUENCE):
            while cursor.tag() is not None:
                if len(found) >= limit:
                    raise CmsLimitError("cms-recipients")
                with cursor.inside(der.SEQUENCE):
                    identifier = _identifier(cursor, der.context(0))
                    encrypted = _short(cursor.value(der.OCTET_STRING), MAX_WRAPPED)
                found.append(Recipient(identifier, template(encrypted)))
    return found


class _Agreed:
    """What the recipients of one key agreement share; called with the key of each."""

    def __init__(self, *, digest: str, ephemeral: bytes, shared_info: bytes, wrap_size: int) -> None:
        self._digest = digest
        self._ephemeral = ephemeral
        self._shared_info = shared_info
        self._wrap_size = wrap_size

    def __call__(self, encrypted: bytes) -> WrappedKey:
        complete = self._digest and self._ephemeral and self._wrap_size
        return WrappedKey(
            scheme=KeyScheme.ECDH if complete else KeyScheme.UNKNOWN,
            encrypted=encrypted,
            digest=self._digest,
            ephemeral=self._ephemeral,
            shared_info=self._shared_info,
            wrap_size=self._wrap_size,
        )


def _agreed(algorithm: AlgorithmIdentifier, ephemeral: bytes, material: bytes | None) -> _Agreed:
    wrap_size, info = 0, b""
    digest = known.KEY_DERIVATIONS.get(algorithm.oid, "")
    if digest and algorithm.parameters:
        # RFC 5753 7.1.5: the parameters are the algorithm that wraps; as they were sent, they are hashed
        wrap = read_algorithm(Cursor.over(algorithm.parameters))
        wrap_size = known.KEY_WRAPS.get(wrap.oid, 0) if not wrap.parameters else 0
        info = _shared_info(algorithm.parameters, material, wrap_size)
    return _Agreed(digest=digest, ephemeral=ephemeral, shared_info=info, wrap_size=wrap_size)


def _shared_info(wrap: bytes, material: bytes | None, wrap_size: int) -> bytes:
    """ECC-CMS-SharedInfo (RFC 5753 7.2): keyInfo, entityUInfo [0], suppPubInfo [2]."""
    parts = [wrap]
    if material is not None:
        parts.append(der.tlv(der.context(0), der.octet_string(material)))
    bits = (wrap_size * 8).to_bytes(4, "big")
    parts.append(der.tlv(der.context(2), der.octet_string(bits)))
    return der.sequence(*parts)


def _originator_key(cursor: Cursor) -> bytes:
    """The ephemeral public key; b"" where the sender used one of a certificate, which we do not have."""
    if cursor.tag() != der.context(1):
        cursor.raw()
        return b""
    with cursor.inside(der.context(1)):
        read_algorithm(cursor)
        bits = _short(cursor.value(_BIT_STRING), MAX_PART)
    if len(bits) < 2 or bits[0] != 0:
        raise CmsSyntaxError("bad-key", "the sender's ephemeral key is no whole number of octets")
    return bits[1:]


def _identifier(cursor: Cursor, by_key: int) -> RecipientIdentifier:
    if cursor.tag() != by_key:
        with cursor.inside(der.SEQUENCE):
            issuer = cursor.raw(der.SEQUENCE)
            return RecipientIdentifier(issuer=issuer, serial=read_integer(cursor))
    if not by_key & 0x20:
        return RecipientIdentifier(subject_key_id=_short(cursor.value(by_key), MAX_PART))
    # RFC 5652 6.2.2: RecipientKeyIdentifier, whose date and other attribute choose between keys of one name
    with cursor.inside(by_key):
        identifier = RecipientIdentifier(subject_key_id=_short(cursor.value(der.OCTET_STRING), MAX_PART))
        while cursor.tag() is not None:
            cursor.raw()
    return identifier


def _short(value: bytes, most: int) -> bytes:
    if len(value) > most:
        raise CmsLimitError("cms-recipient-bytes")
    return value
