"""EnvelopedData (RFC 5652 6) and AuthEnvelopedData (RFC 5083) out of hostile bytes.

The content is never held: what is known of it is where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mailsigil.cms import der, oids
from mailsigil.cms.ber import WINDOW, CmsLimitError, CmsSyntaxError, Cursor, Source
from mailsigil.cms.recipients import Recipient, read_recipients
from mailsigil.cms.values import AlgorithmIdentifier, read_algorithm, read_integer, read_oid

_CONTENT: Final = der.context(0, constructed=False)
_CONTENT_IN_PIECES: Final = der.context(0)
_PIECE: Final = WINDOW // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeLimits:
    """How much of a hostile structure is read before we give up on it."""

    recipients: int = 1000
    rest_bytes: int = 1 << 20
    """Octets apart from the content."""
    depth: int = 32
    """Elements inside elements."""
    segments: int = 400_000
    """Pieces of content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedContent:
    """Where the ciphertext lies in its source; walked again at each reading."""

    source: Source
    start: int
    end: int
    in_pieces: bool
    """The octets from `start` to `end` are elements, and not yet the ciphertext itself."""
    depth: int

    def chunks(self) -> Iterator[bytes]:
        """The ciphertext in pieces of at most 64 KiB, small pieces joined."""
        gathered = bytearray()
        for start, end in self._runs():
            for at in range(start, end, _PIECE):
                gathered += self.source.read(at, min(at + _PIECE, end))
                if len(gathered) >= _PIECE:
                    yield bytes(gathered)
                    gathered.clear()
        if gathered:
            yield bytes(gathered)

    def _runs(self) -> Iterator[tuple[int, int]]:
        if not self.in_pieces:
            yield self.start, self.end
            return
        size = self.end - self.start
        cursor = Cursor(self.source, budget=size, depth=self.depth, start=self.start, end=self.end)
        while cursor.tag() is not None:
            yield from cursor.runs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enveloped:
    """An encrypted structure as it was sent; nothing in it has been decrypted."""

    recipients: tuple[Recipient, ...]
    content_type: str
    """What is inside, in dotted form; it is not protected where there is no MAC."""
    algorithm: AlgorithmIdentifier
    content: EncryptedContent
    mac: bytes = b""
    """The authentication tag of AuthEnvelopedData; b"" for EnvelopedData, which has none."""
    authenticated: bytes = b""
    """The authenticated attributes as a SET, which the tag covers, too (RFC 5083 2.2)."""


def parse_enveloped(source: Source, *, limits: EnvelopeLimits = EnvelopeLimits()) -> Enveloped:
    """Reads a ContentInfo with EnvelopedData or AuthEnvelopedData, in BER or DER.

    Raises CmsSyntaxError for anything else, also when bytes follow it, and CmsLimitError past a bound.
    """
    cursor = Cursor(source, budget=limits.rest_bytes, depth=limits.depth)
    with cursor.inside(der.SEQUENCE):  # RFC 5652 3: ContentInfo
        kind = read_oid(cursor)
        if kind not in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
            raise CmsSyntaxError("not-enveloped-data", "this CMS structure is not an encrypted mail")
        with cursor.inside(der.context(0)), cursor.inside(der.SEQUENCE):
            enveloped = _read(cursor, source, limits, authenticated=kind == oids.AUTH_ENVELOPED_DATA)
    cursor.finish()
    return enveloped


def _read(cursor: Cursor, source: Source, limits: EnvelopeLimits, *, authenticated: bool) -> Enveloped:
    read_integer(cursor)  # the version follows from the other fields and decides nothing here
    if cursor.tag() == der.context(0):
        cursor.raw()  # originatorInfo: certificates of a sender whose key we do not use
    recipients = read_recipients(cursor, limit=limits.recipients)
    with cursor.inside(der.SEQUENCE):  # EncryptedContentInfo (RFC 5652 6.1)
        content_type = read_oid(cursor)
        algorithm = read_algorithm(cursor)
        content = _read_content(cursor, source, limits)
    attributes, mac = b"", b""
    if authenticated:
        if cursor.tag() == der.context(1):
            # RFC 5083 2.2: [1] IMPLICIT as it is sent, SET OF where the tag is computed
            attributes = bytes((der.SET,)) + cursor.raw()[1:]
        mac = cursor.value(der.OCTET_STRING)
    if cursor.tag() == der.context(2 if authenticated else 1):
        cursor.raw()  # unauthenticated or unprotected attributes
    return Enveloped(
        recipients=recipients,
        content_type=content_type,
        algorithm=algorithm,
        content=content,
        mac=mac,
        authenticated=attributes,
    )


def _read_content(cursor: Cursor, source: Source, limits: EnvelopeLimits) -> EncryptedContent:
    tag = cursor.tag()
    if tag == _CONTENT:
        _, start, end = cursor.element()
        if end is None:
            raise CmsSyntaxError("bad-length", "the encrypted content has no length")
        cursor.position = end
        return EncryptedContent(source=source, start=start, end=end, in_pieces=False, depth=limits.depth)
    if tag != _CONTENT_IN_PIECES:
        raise CmsSyntaxError("no-content", "the encrypted content lies elsewhere")
    with cursor.inside(_CONTENT_IN_PIECES):
        start, number = cursor.position, 0
        while cursor.tag() is not None:
            for _ in cursor.runs():
                number += 1
                if number > limits.segments:
                    raise CmsLimitError("cms-segments")
        end = cursor.position
    return EncryptedContent(source=source, start=start, end=end, in_pieces=True, depth=limits.depth)
