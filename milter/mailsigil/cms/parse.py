"""SignedData (RFC 5652 5) out of hostile bytes of any length, without ever holding the content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms.ber import (
    CONSTRUCTED_OCTETS,
    WINDOW,
    BytesSource,
    CmsError,
    CmsLimitError,
    CmsSyntaxError,
    Cursor,
    Source,
)
from mailsigil.cms.signer import SignatureAlgorithm, SignerIdentifier, SignerInfo, parse_signer
from mailsigil.cms.values import read_algorithm, read_integer, read_oid

__all__ = [
    "BytesSource",
    "CmsError",
    "CmsLimitError",
    "CmsLimits",
    "CmsSyntaxError",
    "ContentKind",
    "Segments",
    "SignatureAlgorithm",
    "SignedData",
    "SignerIdentifier",
    "SignerInfo",
    "Source",
    "content_kind",
    "parse_signed_data",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CmsLimits:
    """How much of a hostile structure is read before we give up on it."""

    signers: int = 10
    certificates: int = 30
    crls: int = 10
    attributes: int = 64
    """Signed attributes of one signer."""
    rest_bytes: int = 1 << 20
    """Octets apart from the content."""
    depth: int = 32
    """Elements inside elements."""
    segments: int = 400_000
    """Pieces of content; a 25 MB mail in pieces of one line each has about 330,000."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The content of an opaque signature: a place in the source, walked again at each reading."""

    source: Source
    start: int
    end: int
    size: int
    """Octets of content."""
    depth: int

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most 64 KiB, small pieces joined."""
        start, end = self.start, self.end
        cursor = Cursor(self.source, budget=end - start, depth=self.depth, start=start, end=end)
        gathered = bytearray()
        for start, end in cursor.runs():
            if end - start >= WINDOW // 2 and gathered:
                yield bytes(gathered)
                gathered.clear()
            for at in range(start, end, WINDOW // 2):
                gathered += cursor.octets(at, min(at + WINDOW // 2, end))
                if len(gathered) >= WINDOW // 2:
                    yield bytes(gathered)
                    gathered.clear()
        if gathered:
            yield bytes(gathered)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedData:
    """A SignedData as it was sent; nothing in it has been verified."""

    digest_algorithms: frozenset[str]
    """OIDs of the digests that the sender announces for the content."""
    content_type: str
    """eContentType in dotted form."""
    content: Segments | None
    """None when the signature is detached."""
    certificates: tuple[bytes, ...]
    """Certificates in the sender's order; attribute certificates and other kinds are left out."""
    crls: tuple[bytes, ...]
    ocsp_responses: tuple[bytes, ...]
    """OCSP responses among the other revocation infos (RFC 5940 2.1)."""
    signers: tuple[SignerInfo, ...]

    def content_chunks(self) -> Iterator[bytes]:
        """The content piece by piece, any number of times; nothing when the signature is detached."""
        return iter(()) if self.content is None else self.content.chunks()


class ContentKind(StrEnum):
    """What an application/pkcs7-mime part holds (RFC 8551 3.2.2)."""

    SIGNED_DATA = "signed-data"
    CERTS_ONLY = "certs-only"
    ENVELOPED_DATA = "enveloped-data"
    AUTH_ENVELOPED_DATA = "auth-enveloped-data"
    COMPRESSED_DATA = "compressed-data"
    UNKNOWN = "unknown"


_KINDS: Final = {
    oids.ENVELOPED_DATA: ContentKind.ENVELOPED_DATA,
    oids.AUTH_ENVELOPED_DATA: ContentKind.AUTH_ENVELOPED_DATA,
    oids.COMPRESSED_DATA: ContentKind.COMPRESSED_DATA,
}


def content_kind(source: Source, *, limits: CmsLimits = CmsLimits()) -> ContentKind:
    """What kind of ContentInfo this is. Never raises: bytes that are none are UNKNOWN.

    A damaged SignedData is SIGNED_DATA, and `parse_signed_data` then says what is wrong with it.
    """
    cursor = Cursor(source, budget=1024)
    try:
        cursor.enter(der.SEQUENCE)
        oid = read_oid(cursor)
    except CmsError:
        return ContentKind.UNKNOWN
    if oid != oids.SIGNED_DATA:
        return _KINDS.get(oid, ContentKind.UNKNOWN)
    try:
        signed = parse_signed_data(source, limits=limits)
    except CmsError:
        return ContentKind.SIGNED_DATA
    # RFC 8551 3.9: neither content nor signers
    bare = not signed.signers and signed.content is None
    return ContentKind.CERTS_ONLY if bare else ContentKind.SIGNED_DATA


def parse_signed_data(source: Source, *, limits: CmsLimits = CmsLimits()) -> SignedData:
    """Reads a ContentInfo with SignedData, in BER or DER.

    Raises CmsSyntaxError for anything else, also when bytes follow it, and CmsLimitError past a bound.
    """
    cursor = Cursor(source, budget=limits.rest_bytes, depth=limits.depth)
    with cursor.inside(der.SEQUENCE):  # RFC 5652 3: ContentInfo
        if read_oid(cursor) != oids.SIGNED_DATA:
            raise CmsSyntaxError("not-signed-data", "this CMS structure is not a signature")
        with cursor.inside(der.context(0)), cursor.inside(der.SEQUENCE):
            signed = _read_signed_data(cursor, source, limits)
    cursor.finish()
    return signed


def _read_signed_data(cursor: Cursor, source: Source, limits: CmsLimits) -> SignedData:
    # RFC 5652 5.1. version follows from the other fields and decides nothing here.
    read_integer(cursor)
    digests: set[str] = set()
    with cursor.inside(der.SET):
        while cursor.tag() is not None:
            digests.add(read_algorithm(cursor).oid)
    content_type, content = _read_content(cursor, source, limits)
    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    responses: tuple[bytes, ...] = ()
    if cursor.tag() == der.context(0):
        choices = _read_choices(cursor, 0, limits.certificates, "cms-certificates")
        certificates = _of_tag(der.SEQUENCE, choices)
    if cursor.tag() == der.context(1):
        choices = _read_choices(cursor, 1, limits.crls, "cms-crls")
        crls = _of_tag(der.SEQUENCE, choices)
        responses = tuple(filter(None, map(_ocsp_response, _of_tag(der.context(1), choices))))
    signers: list[SignerInfo] = []
    with cursor.inside(der.SET):
        while cursor.tag() is not None:
            if len(signers) == limits.signers:
                raise CmsLimitError("cms-signers")
            signers.append(parse_signer(cursor, attribute_limit=limits.attributes))
    return SignedData(
        digest_algorithms=frozenset(digests),
        content_type=content_type,
        content=content,
        certificates=certificates,
        crls=crls,
        ocsp_responses=responses,
        signers=tuple(signers),
    )


def _read_choices(cursor: Cursor, number: int, limit: int, name: str) -> list[tuple[int, bytes]]:
    """CertificateSet or RevocationInfoChoices (RFC 5652 10.2): tag and octets of each choice."""
    found: list[tuple[int, bytes]] = []
    with cursor.inside(der.context(number)):
        while (tag := cursor.tag()) is not None:
            if len(found) == limit:
                raise CmsLimitError(name)
            found.append((tag, cursor.raw()))
    return found


def _of_tag(wanted: int, choices: list[tuple[int, bytes]]) -> tuple[bytes, ...]:
    return tuple(element for tag, element in choices if tag == wanted)


def _ocsp_response(other: bytes) -> bytes:
    """The response in an OtherRevocationInfoFormat, b"" when it is of another kind or cannot be read."""
    cursor = Cursor.over(other)
    try:
        with cursor.inside(der.context(1)):
            return cursor.raw(der.SEQUENCE) if read_oid(cursor) == oids.RI_OCSP_RESPONSE else b""
    except CmsError:
        return b""


def _read_content(cursor: Cursor, source: Source, limits: CmsLimits) -> tuple[str, Segments | None]:
    """EncapsulatedContentInfo (RFC 5652 5.2)."""
    content: Segments | None = None
    with cursor.inside(der.SEQUENCE):
        content_type = read_oid(cursor)
        if cursor.tag() is not None:
            with cursor.inside(der.context(0)):
                if cursor.tag() not in (der.OCTET_STRING, CONSTRUCTED_OCTETS):
                    raise CmsSyntaxError("content-not-octets", "the signed content is not an octet string")
                start, size = cursor.position, 0
                for number, (piece, end) in enumerate(cursor.runs(), 1):
                    if number > limits.segments:
                        raise CmsLimitError("cms-segments")
                    size += end - piece
                content = Segments(source, start, cursor.position, size, limits.depth)
    return content_type, content
