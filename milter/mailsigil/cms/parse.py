"""SignedData (RFC 5652 5) out of hostile bytes of any length, without ever holding the content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
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
from mailsigil.cms.elements import children, content
from mailsigil.cms.signer import SignatureAlgorithm, SignerIdentifier, SignerInfo, parse_signer
from mailsigil.cms.values import algorithm_of, integer_of, oid_of, read_integer, read_oid

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
    # Both ways give the same; the second one never holds the content.
    small = len(source) <= min(WINDOW, limits.rest_bytes)
    fields = fields_at_once(source, limits) if small else fields_in_turn(source, limits)
    return _understand(fields, limits)


@dataclass(frozen=True, slots=True)
class SignedDataFields:
    """The fields of a SignedData (RFC 5652 5.1), taken apart and not yet understood.

    version is left out: it follows from the other fields and decides nothing.
    """

    digest_algorithms: bytes
    content_type: str
    content: Segments | None
    others: Sequence[bytes]
    """What follows encapContentInfo, each element with its header."""


def fields_at_once(source: Source, limits: CmsLimits) -> SignedDataFields:
    """Takes a ContentInfo apart that may be held in memory."""
    data = source.read(0, len(source))
    info = children(data, der.SEQUENCE) if len(data) == len(source) else []  # RFC 5652 3
    _require_signed_data(oid_of(content(info[0], der.OBJECT_IDENTIFIER)) if info else "")
    wrapped = children(info[1], der.context(0)) if len(info) == 2 else []
    fields = children(wrapped[0], der.SEQUENCE) if len(wrapped) == 1 else []
    if len(fields) < 4:
        raise CmsSyntaxError("truncated", "the signature has too few or too many fields")
    version, digests, encapsulated, *others = fields
    integer_of(content(version, der.INTEGER))
    inner = children(encapsulated, der.SEQUENCE)
    if len(inner) == 1:
        return SignedDataFields(digests, oid_of(content(inner[0], der.OBJECT_IDENTIFIER)), None, others)
    cursor = Cursor(BytesSource(encapsulated), budget=limits.rest_bytes, depth=limits.depth)
    return SignedDataFields(digests, *_read_content(cursor, limits), others)


def fields_in_turn(source: Source, limits: CmsLimits) -> SignedDataFields:
    """Takes a ContentInfo apart that may be of any length."""
    cursor = Cursor(source, budget=limits.rest_bytes, depth=limits.depth)
    with cursor.inside(der.SEQUENCE):  # RFC 5652 3
        _require_signed_data(read_oid(cursor))
        with cursor.inside(der.context(0)), cursor.inside(der.SEQUENCE):
            read_integer(cursor)
            digests = cursor.raw()
            content_type, octets = _read_content(cursor, limits)
            others: list[bytes] = []
            while cursor.tag() is not None:
                others.append(cursor.raw())
    cursor.finish()
    return SignedDataFields(digests, content_type, octets, others)


def _require_signed_data(oid: str) -> None:
    if oid != oids.SIGNED_DATA:
        raise CmsSyntaxError("not-signed-data", "this CMS structure is not a signature")


def _understand(fields: SignedDataFields, limits: CmsLimits) -> SignedData:
    algorithms = children(fields.digest_algorithms, der.SET)
    others = list(fields.others)
    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    responses: tuple[bytes, ...] = ()
    if others and others[0][0] == der.context(0):
        element = others.pop(0)
        # Senders send the same certificates with each mail.
        read = _certificates if len(element) <= _REMEMBERED_CERTIFICATES else _certificates.__wrapped__
        certificates = read(element, limits.certificates)
    if others and others[0][0] == der.context(1):
        choices = _choices(others.pop(0), 1, limits.crls, "cms-crls")
        crls = _of_tag(der.SEQUENCE, choices)
        responses = tuple(filter(None, map(_ocsp_response, _of_tag(der.context(1), choices))))
    if len(others) != 1:
        raise CmsSyntaxError("unexpected-element", "the signature has too few, too many or misplaced fields")
    signers = children(others[0], der.SET)
    if len(signers) > limits.signers:
        raise CmsLimitError("cms-signers")
    return SignedData(
        digest_algorithms=frozenset([algorithm_of(one).oid for one in algorithms]),
        content_type=fields.content_type,
        content=fields.content,
        certificates=certificates,
        crls=crls,
        ocsp_responses=responses,
        signers=tuple([parse_signer(one, attribute_limit=limits.attributes) for one in signers]),
    )


@lru_cache(maxsize=1024)
def _certificates(element: bytes, limit: int) -> tuple[bytes, ...]:
    return _of_tag(der.SEQUENCE, _choices(element, 0, limit, "cms-certificates"))


_REMEMBERED_CERTIFICATES: Final = 8192
"""Octets; two certificates, and a third one, if they are of the usual size."""


def _choices(element: bytes, number: int, limit: int, name: str) -> list[bytes]:
    """The choices of a CertificateSet or RevocationInfoChoices (RFC 5652 10.2)."""
    found = children(element, der.context(number))
    if len(found) > limit:
        raise CmsLimitError(name)
    return found


def _of_tag(wanted: int, choices: list[bytes]) -> tuple[bytes, ...]:
    return tuple([element for element in choices if element[0] == wanted])


def _ocsp_response(other: bytes) -> bytes:
    """The response in an OtherRevocationInfoFormat, b"" when it is of another kind or cannot be read."""
    cursor = Cursor.over(other)
    try:
        with cursor.inside(der.context(1)):
            return cursor.raw(der.SEQUENCE) if read_oid(cursor) == oids.RI_OCSP_RESPONSE else b""
    except CmsError:
        return b""


def _read_content(cursor: Cursor, limits: CmsLimits) -> tuple[str, Segments | None]:
    """EncapsulatedContentInfo (RFC 5652 5.2)."""
    octets: Segments | None = None
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
                octets = Segments(cursor.source, start, cursor.position, size, limits.depth)
    return content_type, octets
