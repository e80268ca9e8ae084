"""The part of a message that gets signed, in a form that no relay has a reason to change.

RFC 8551 3.1.2 and RFC 1847 2.1 want 7-bit octets there, in lines of at most 998. A message that is so
already is signed as it stands, byte for byte; any other is written anew, each part with the same
decoded content.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mailsigil.message.cleanliness import Cleanliness, is_clean, scan
from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import parse_media_type
from mailsigil.message.mime import IDENTITY_ENCODINGS, MimeLimits, Part, parse_mime, transfer_encoding
from mailsigil.message.rewrite import WIDE_LABELS, Unsignable, survey, write_header, write_parts
from mailsigil.message.spool import Spool

__all__ = ["ONE_MEANING", "Cleanliness", "Entity", "Unsignable", "as_it_is", "scan", "to_seven_bit"]

ONE_MEANING = frozenset({"header-field", "message-part", "nested-signature", "unknown-encoding"})
"""Reasons of Unsignable for messages that every reader divides the same way and that are merely not 7-bit."""

_SMALL = 65536
_US_ASCII = b"Content-Type: text/plain; charset=us-ascii\r\n"


@dataclass(frozen=True, slots=True)
class Entity:
    """The MIME entity that a signature will cover: header block, empty line, a range of a spool.

    ``header`` ends with CRLF, the empty line after it is not in it. ``start`` and ``end`` are offsets into
    ``body``, which may be the spool of the message itself.
    """

    header: bytes
    body: Spool
    start: int
    end: int

    @property
    def size(self) -> int:
        """Length of the whole in octets."""
        return len(self.header) + 2 + self.end - self.start

    def chunks(self) -> Iterator[bytes]:
        """Give the octets in pieces. May be called again."""
        head = self.header + b"\r\n"
        if self.end - self.start <= _SMALL:
            yield head + self.body.read(self.start, self.end)
            return
        yield head
        yield from self.body.chunks(self.start, self.end)


def to_seven_bit(
    fields: Sequence[Field],
    body: Spool,
    *,
    limits: MimeLimits | None = None,
    new_spool: Callable[[], Spool] = Spool,
) -> Entity:
    """Give the 7-bit entity of a message: its ``Content-*`` fields and its body.

    A clean body is not copied; a body that must be written anew goes to a spool from ``new_spool``, which
    the caller closes. What follows the closing boundary is cut, except blank lines. Raises Unsignable,
    and MimeLimitError when a message that must be looked into passes ``limits``.
    """
    content = tuple(_tidy_name(each) for each in fields if each.name[:8].lower() == b"content-")
    size = len(body)
    clean = scan(body, 0, size).is_clean
    if clean:
        header = _ready_header(content, body)
        if header is not None:
            return Entity(header, body, 0, size)
    root = parse_mime(content, body, limits=limits)
    end = _signed_end(root, body)
    if end < size:
        root = replace(root, body_end=end, epilogue=(end, end))
        clean = clean or scan(body, 0, end).is_clean
    found = survey(body, root, bodies_clean=clean)
    header = _type_field(root, body) + write_header(content, found)
    if not found.changes_body:
        return Entity(header, body, 0, end)
    out = new_spool()
    try:
        write_parts(body, out, found)
        _must_be_the_same(root, parse_mime(content, out, limits=limits))
        if not scan(out, 0, len(out)).is_clean:
            raise Unsignable(
                "not-expressible", "the structure of the message cannot be written in 7-bit lines"
            )
    except BaseException:
        out.close()
        raise
    return Entity(header, out, 0, len(out))


def as_it_is(fields: Sequence[Field], body: Spool) -> Entity:
    """Give the entity of a message as it came, for a signature that carries any octets (RFC 8551 3.1.2)."""
    content = [_tidy_name(each) for each in fields if each.name[:8].lower() == b"content-"]
    return Entity(b"".join(each.raw for each in content), body, 0, len(body))


def _tidy_name(field: Field) -> Field:
    """Drop white space before the colon (RFC 5322 4.5), which many readers of a body part do not take."""
    return Field(field.name.rstrip(b" \t"), field.value) if field.name[-1:] in b" \t" else field


def _ready_header(content: tuple[Field, ...], body: Spool) -> bytes | None:
    """Give the header block of a clean body that needs no walk through its parts; None if it may need one."""
    header = b"".join([each.raw for each in content])
    if not is_clean(header):
        return None
    types = named(content, b"content-type")
    encodings = named(content, b"content-transfer-encoding")
    if any(transfer_encoding(each.value) in WIDE_LABELS for each in encodings):
        return None
    if not types:
        return _type_for(content, _US_ASCII) + header
    media_type = parse_media_type(types[0].value)
    if media_type.type not in ("multipart", "message"):
        return header
    return header if _is_plain_multipart(media_type.params.get("boundary", ""), body) else None


def _is_plain_multipart(boundary: str, body: Spool) -> bool:
    """Tell whether a small clean multipart ends with its closing boundary and has no labels to correct."""
    boundary = boundary.rstrip(" \t")
    if len(body) > _SMALL or not boundary or not boundary.isascii():
        return False
    data = body.read(0, _SMALL)
    lowered = data.lower()
    if b"8bit" in lowered or b"binary" in lowered:
        return False
    closing = b"\n--%b--" % boundary.encode("ascii")
    at = data.find(closing)
    # RFC 2046 5.1.1: white space may follow the boundary on its line. Blank lines after it do no harm.
    return at >= 0 and not data[at + len(closing) :].strip(b" \t\r\n")


def _type_for(content: tuple[Field, ...], field: bytes) -> bytes:
    """Name the character set of a body without Content-Type, unless it is encoded and so not looked at."""
    encodings = named(content, b"content-transfer-encoding")
    if all(transfer_encoding(each.value) in IDENTITY_ENCODINGS for each in encodings):
        return field
    return b"Content-Type: text/plain\r\n"


def _type_field(root: Part, body: Spool) -> bytes:
    """Give the Content-Type field that a message without one gets, else nothing."""
    if named(root.fields, b"content-type"):
        return b""
    if not scan(body, root.body_start, root.body_end).eight_bit:
        return _type_for(root.fields, _US_ASCII)
    charset = b"utf-8" if _is_utf8(body, root.body_start, root.body_end) else b"unknown-8bit"  # RFC 1428 3
    return _type_for(root.fields, b"Content-Type: text/plain; charset=%b\r\n" % charset)


def _is_utf8(body: Spool, start: int, end: int) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in body.chunks(start, end):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _signed_end(root: Part, body: Spool) -> int:
    """Say where the signed part ends: after the closing boundary when something that shows follows it.

    Outlook calls a signature over such bytes altered, and no reader shows them. Where the boundary comes
    again, some readers would show another part, so that is refused.
    """
    start, end = root.epilogue
    if not root.terminated or not root.children:
        return end
    delimiter = b"\n--" + root.boundary
    blank = True
    held = b"\n"
    for chunk in body.chunks(start, end):
        data = held + chunk
        blank = blank and not chunk.strip(b" \t\r\n")
        if delimiter in data:
            raise Unsignable("parts-after-end", "the message has a boundary again after its closing boundary")
        held = data[-len(delimiter) :]
    return end if blank else start


def _must_be_the_same(before: Part, after: Part) -> None:
    """Hold the structure that was written against the one that came: a last line of defence."""
    same = (
        before.media_type == after.media_type
        and before.boundary == after.boundary
        and before.terminated == after.terminated
        and len(before.children) == len(after.children)
    )
    if not same:
        raise Unsignable("not-expressible", "the structure of the message cannot be kept in 7-bit lines")
    for one, other in zip(before.children, after.children, strict=True):
        _must_be_the_same(one, other)
