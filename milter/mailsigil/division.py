"""Does every reader divide a clear-signed message at the same lines?

Unsigned in it are the type of the whole, what stands before the signed part, and the header of the
signature part. A forger has these to himself: there must be nothing in them that a reader with other rules
takes for a part of the message.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailsigil.message.field_lines import header_fault
from mailsigil.message.fields import Field, named
from mailsigil.message.mime import Part
from mailsigil.message.spool import Spool

PREAMBLE_LIMIT = 1000
"""Octets before the first part; senders put a sentence there for readers without MIME."""
_HEADER_LIMIT = 65536
"""Octets of the signature part's header."""
_REMEMBERED = 1024
"""Octets of such a header that is remembered: a program writes the same one each time."""

# RFC 2046 5.1.1: transport may have put white space behind the boundary.
_OPENING = re.compile(rb"[ \t]*\r\n")
_CLOSING = re.compile(rb"--[ \t]*(?:\r\n)?")
_PADDING = 80

# A line that another parser, or one that was told another boundary, takes for a boundary line.
_LIKE_BOUNDARY = re.compile(rb"[\r\n][ \t]*--")
# There are parsers that take text before the first boundary for a part as soon as it begins like a header,
# and programs that look for uuencoded files in any text.
_LIKE_FIELD = re.compile(rb"^[ \t]*+(?:content-[a-z-]*+[ \t]*+:|begin[ \t]++[0-7]{3})", re.IGNORECASE | re.M)
_EMPTY_LINE = re.compile(rb"\n[ \t\r]*+\n\s*+\S")
# Some look for the word alone and do not know quotes.
_BOUNDARY_WORD = re.compile(rb"boundary[ \t]*+\*?[0-9]*+\*?[ \t]*+=", re.IGNORECASE)
# RFC 2045 4: "1.0", comments around it; Apple writes its version there.
_MIME_1 = re.compile(rb"(?:\((?:[^()\\]|\\.)*\)|[ \t])*1[ \t]*\.[ \t]*0(?![0-9.])")


def division_fault(body: Spool, root: Part) -> str:
    """Tell why readers may divide a ``multipart/signed`` of two parts differently, or nothing."""
    return (
        _type_fault(root)
        or _preamble_fault(body, root)
        or _line_fault(body, root)
        or _header_fault(body, root)
        or _padding_fault(body, root)
    )


def has_text_before(body: Spool, root: Part) -> bool:
    """Tell whether there is anything to see before the first part."""
    return bool(_preamble(body, root).strip())


def _type_fault(root: Part) -> str:
    for field in named(root.fields, b"content-type"):
        if len(_BOUNDARY_WORD.findall(field.unfolded)) > 1:
            return "a Content-Type in which some readers find another boundary"
    return ""


def _preamble(body: Spool, root: Part) -> bytes:
    start, end = root.preamble
    return body.read(start, min(end, start + PREAMBLE_LIMIT))


def _preamble_fault(body: Spool, root: Part) -> str:
    start, end = root.preamble
    preamble = _preamble(body, root)
    if end - start > PREAMBLE_LIMIT or b"\0" in preamble:
        return "too much stands before the signed part"
    # Readers that compare only the beginning of a line, or take a bare CR for its end, would start here.
    if b"--" + root.boundary in preamble:
        return "a second beginning before the signed part"
    if fault := _text_fault(preamble):
        return fault
    # Without MIME-Version some readers show the source, with the preamble on top (RFC 2045 4).
    versions = named(root.fields, b"mime-version")
    if preamble.strip() and not (versions and all(_MIME_1.match(each.unfolded) for each in versions)):
        return "text before the signed part, and no MIME-Version field that says 1.0"
    return ""


@lru_cache(maxsize=256)
def _text_fault(preamble: bytes) -> str:
    """The same few sentences come with almost every mail."""
    if _like_boundary(preamble):
        return "a second beginning before the signed part"
    if _like_part(preamble.replace(b"\r", b"\r\n").replace(b"\r\n\n", b"\r\n")):
        return "something like a part of its own before the signed part"
    return ""


def _like_part(text: bytes) -> bool:
    """A line like a field of a part, or a colon with an empty line and more text anywhere after it."""
    colon = text.find(b":")
    return _LIKE_FIELD.search(text) is not None or (
        colon >= 0 and _EMPTY_LINE.search(text, colon) is not None
    )


def _like_boundary(text: bytes) -> bool:
    # Most text has no two hyphens at all.
    return b"--" in text and _LIKE_BOUNDARY.search(b"\n" + text) is not None


def _line_fault(body: Spool, root: Part) -> str:
    signed, signature = root.children
    delimiter = b"--" + root.boundary
    between = (
        (root.preamble[1], signed.header_start, _OPENING),
        (signed.body_end, signature.header_start, _OPENING),
        (signature.body_end, root.epilogue[0], _CLOSING),
    )
    for start, end, rest in between:
        # One line each: "two in a row" would be an empty part to some readers.
        line = body.read(start, min(end, start + len(delimiter) + _PADDING)).removeprefix(b"\r\n")
        if not line.startswith(delimiter) or not rest.fullmatch(line, len(delimiter)):
            return "a boundary line that not all readers see"
    return ""


def _header_fault(body: Spool, root: Part) -> str:
    """The signature part: nobody signed it, and it has room for a whole part of somebody's own."""
    signature = root.children[1]
    end = min(signature.body_start, signature.header_start + _HEADER_LIMIT)
    header = body.read(signature.header_start, end)
    remembered = len(header) <= _REMEMBERED
    if fault := (_lines_fault if remembered else _lines_fault.__wrapped__)(header, signature.fields):
        return fault
    if b"--" + root.boundary in header:
        return "a boundary line in the header of the signature part"
    if signature.encoding != "base64" and _like_boundary(_whole(body, signature)):
        return "a boundary line in the signature"
    return ""


@lru_cache(maxsize=256)
def _lines_fault(header: bytes, fields: tuple[Field, ...]) -> str:
    if fault := header_fault(fields):
        return f"{fault} of the signature part"
    return "a boundary line in the header of the signature part" if _like_boundary(header) else ""


# What the header of a signature part holds in mail of all senders known.
_USUAL = {
    b"content-type": re.compile(
        rb'application/(?:x-)?pkcs7-signature(?:; ?name="?[a-z0-9.]{1,20}"?)?;?', re.IGNORECASE
    ),
    b"content-transfer-encoding": re.compile(rb"base64", re.IGNORECASE),
    b"content-disposition": re.compile(rb'attachment(?:; ?filename="?[a-z0-9.]{1,20}"?)?;?', re.IGNORECASE),
    b"content-description": re.compile(
        rb"S/MIME (?:Cryptographic|Digital) Signature|smime\.p7s", re.IGNORECASE
    ),
}


def _padding_fault(body: Spool, root: Part) -> str:
    """White space behind the boundary: readers that do not know the line show the header that follows it."""
    signed, signature = root.children
    line = body.read(signed.body_end, signature.header_start).removesuffix(b"\r\n")
    if line == line.rstrip(b" \t"):
        return ""
    for field in signature.fields:
        usual = _USUAL.get(field.key)
        if usual is None or not usual.fullmatch(field.unfolded):
            return f"a padded boundary line before a signature part with an unusual {field.key[:40].decode()}"
    return ""


def _whole(body: Spool, part: Part) -> bytes:
    # Bounded like any signature: what is longer is refused when it is read.
    return body.read(part.body_start, min(part.body_end, part.body_start + (1 << 20)))
