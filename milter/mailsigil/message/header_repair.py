"""Make a header field of a part keep to 7-bit lines without changing what it says.

Parameters go by RFC 2231, words by RFC 2047, and lines over 998 octets are folded at white space.
"""

from __future__ import annotations

import binascii
import re

from mailsigil.message.cleanliness import is_clean
from mailsigil.message.fields import Field

WIDTH = 78  # RFC 5322 2.1.1
_MAX_PARAMETER = 900
_SECTION = 60
_WORD_OCTETS = 39  # of content: an encoded-word stays under 75 characters (RFC 2047 2)

_WITH_PARAMETERS = frozenset({b"content-type", b"content-disposition"})
_ADDRESSES = frozenset(
    name
    for base in (b"from", b"sender", b"to", b"cc", b"bcc", b"reply-to")
    for name in (base, b"resent-" + base)
) | {b"return-path", b"disposition-notification-to", b"errors-to", b"mail-followup-to", b"apparently-to"}
_NEVER_WORDS = frozenset(
    {
        b"content-transfer-encoding",
        b"content-id",
        b"content-md5",
        b"mime-version",
        b"date",
        b"resent-date",
        b"message-id",
        b"resent-message-id",
        b"in-reply-to",
        b"references",
        b"dkim-signature",
        b"arc-seal",
        b"arc-message-signature",
    }
)

_PARAMETER = re.compile(
    rb";[ \t]*([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"[ \t]*|[^;\"]*)"
)
_SECTION_NAME = re.compile(rb"\*[0-9]+\*?\Z")
_ATTRIBUTE_CHAR = frozenset(b"!#$&+-.^_`{|}~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_FOLDABLE = re.compile(rb"[ \t]*[^ \t]+[ \t]*\Z|[ \t]*[^ \t]+|[ \t]+\Z")
_WORDS = re.compile(rb"[ \t]+|[^ \t]+")
_PHRASES = re.compile(
    # Strings and comments without end are taken as well, so that each octet is looked at once.
    rb"\"(?:[^\"\\]|\\.|\\\Z)*+\"?"
    rb"|\((?:[^()\\]|\\.|\\\Z)*+\)?"  # a comment, or one up to a comment in it
    rb"|<[^<>]*>|[,:;]|[^\",:;<>()]+|.",
    re.DOTALL,
)
_ENCODED_WORD_BEFORE = re.compile(rb"=\?[^ \t?]+\?[bBqQ]\?[^ \t?]*\?=[ \t]*\Z")
_ENCODED_WORD_AFTER = re.compile(rb"[ \t]*=\?[^ \t?]+\?[bBqQ]\?")


class HeaderInexpressible(Exception):
    """The field cannot be written in 7-bit lines; the text says why, to follow "the part has ..."."""


def repair_field(field: Field) -> Field:
    """Give a field that is pure ASCII in lines of at most 998 octets; a field that is clean comes back as is.

    Octets that are UTF-8 are labelled utf-8, others unknown-8bit (RFC 1428 3). Raises
    HeaderInexpressible.
    """
    if is_clean(field.raw):
        return field
    name = field.name.decode("ascii", "replace")[:40]
    if not field.name.isascii() or len(field.name) > WIDTH:
        raise HeaderInexpressible("a header field name that is not ASCII or too long")
    value = field.value.replace(b"\r\n", b"")
    if b"\0" in value or b"\r" in value or b"\n" in value:
        raise HeaderInexpressible(f"a control character in its {name} field")
    if field.key in _WITH_PARAMETERS:
        value = _repair_parameters(value, name)
    elif not value.isascii():
        value = _repair_words(field.key, value, name)
    else:
        value = field.value  # only too long: keep the folds that are there
    repaired = Field(field.name, fold(field.name, value))
    if not is_clean(repaired.raw):
        raise HeaderInexpressible(f"a line in its {name} field that is too long and cannot be folded")
    return repaired


def fold(name: bytes, value: bytes) -> bytes:
    """Fold the lines of a value that are over 78 octets at white space, before spaces where possible."""
    lines = value.split(b"\r\n")
    lines[0] = name + b":" + lines[0]
    folded = b"\r\n".join(_fold_line(line) if len(line) > WIDTH else line for line in lines)
    return folded[len(name) + 1 :]


def _fold_line(line: bytes) -> bytes:
    pieces: list[bytes] = []
    current = b""
    for piece in _FOLDABLE.findall(line):
        # RFC 5322 2.2.3: a fold stands before white space, and no line is white space alone.
        begun = current.strip(b" \t") and not current.endswith(b":")
        can_fold = piece[:1].isspace() and not piece.isspace()
        if begun and can_fold and len(current) + len(piece) > WIDTH:
            pieces.append(current)
            current = b""
        current += piece
    return b"\r\n".join([*pieces, current])


def _charset(octets: bytes) -> bytes:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return b"unknown-8bit"  # RFC 1428 3
    return b"utf-8"


def _repair_parameters(value: bytes, name: str) -> bytes:
    charset = _charset(value)
    names = [match[1].lower() for match in _PARAMETER.finditer(value)]

    def repair(match: re.Match[bytes]) -> bytes:
        text = match[2].strip(b" \t")
        if text.isascii() and len(text) <= _MAX_PARAMETER:
            return match[0]
        return _extended(match[1], text, charset, names, name)

    repaired = _PARAMETER.sub(repair, value)
    if not repaired.isascii():
        raise HeaderInexpressible(f"octets that are not ASCII outside of the parameters of its {name} field")
    return repaired


def _extended(attribute: bytes, text: bytes, charset: bytes, names: list[bytes], field: str) -> bytes:
    """Write one parameter as RFC 2231 4 has it, in numbered pieces (RFC 2231 3) when it is very long."""
    if attribute.lower() == b"boundary" or _SECTION_NAME.search(attribute):
        raise HeaderInexpressible(f"a parameter in its {field} field that cannot be written in ASCII lines")
    if attribute.endswith(b"*"):
        attribute = attribute[:-1]
        start, encoded = b"", _percent(text, keep=b"%'")  # has its character set already
    elif attribute.lower() + b"*" in names:
        raise HeaderInexpressible(f"the same parameter in two spellings in its {field} field")
    else:
        if text.startswith(b'"') and text.endswith(b'"') and len(text) > 1:
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
        start, encoded = charset + b"''", _percent(text)
    if len(encoded) <= _MAX_PARAMETER:
        return b"; %b*=%b%b" % (attribute, start, encoded)
    pieces = re.findall(rb".{1,%d}(?<!%%)(?<!%%.)" % _SECTION, start + encoded)
    if len(pieces) > 100:
        raise HeaderInexpressible(f"a parameter in its {field} field that is too long")
    return b"".join(b"; %b*%d*=%b" % (attribute, number, piece) for number, piece in enumerate(pieces))


def _percent(text: bytes, *, keep: bytes = b"") -> bytes:
    return b"".join(
        bytes((octet,)) if octet in _ATTRIBUTE_CHAR or octet in keep else b"%%%02X" % octet for octet in text
    )


def _repair_words(key: bytes, value: bytes, name: str) -> bytes:
    if key in _NEVER_WORDS:
        raise HeaderInexpressible(f"octets in its {name} field that are not ASCII")
    charset = _charset(value)
    if key not in _ADDRESSES:
        return _encode_words(value, charset, b"", b"")
    out: list[bytes] = [b""]
    pieces = _PHRASES.findall(value)
    for number, piece in enumerate(pieces):
        if piece.isascii():
            out.append(piece)
            continue
        rest = b"".join(pieces[number + 1 : number + 3])
        out.append(_repair_phrase(piece, charset, b"".join(out[-2:]), rest, name))
    return b"".join(out)


def _repair_phrase(piece: bytes, charset: bytes, before: bytes, after: bytes, name: str) -> bytes:
    quoted = piece.startswith(b'"')
    if piece.startswith(b"("):  # RFC 2047 5 (2)
        end = len(piece) - piece.endswith(b")")
        return b"(" + _encode_words(piece[1:end], charset, b"", b"") + piece[end:]
    if piece.startswith(b"<") or (b"@" in piece and not quoted) or (quoted and after.startswith(b"@")):
        raise HeaderInexpressible(f"an address in its {name} field that is not ASCII")
    if quoted and not (piece.endswith(b'"') and len(piece) > 1):
        raise HeaderInexpressible(f"a quoted string without end in its {name} field")
    if not quoted:  # RFC 2047 5 (3)
        return _encode_words(piece, charset, before, after)
    return _encode_run(re.sub(rb"\\(.)", rb"\1", piece[1:-1]), charset, before, after)


def _encode_words(text: bytes, charset: bytes, before: bytes, after: bytes) -> bytes:
    """Encode the words that are not ASCII, and the white space between two such words with them."""
    out: list[bytes] = [before]
    run: list[bytes] = []
    gap = b""
    for word in _WORDS.findall(text):
        if word.isspace():
            gap = word
            continue
        if not word.isascii():
            (run if run else out).append(gap)
            run.append(word)
        else:
            if run:
                out.append(_encode_run(b"".join(run), charset, b"".join(out[-2:]), gap + word))
                run = []
            out += (gap, word)
        gap = b""
    if run:
        out.append(_encode_run(b"".join(run), charset, b"".join(out[-2:]), gap + after))
    return b"".join([*out[1:], gap])


def _encode_run(run: bytes, charset: bytes, before: bytes, after: bytes) -> bytes:
    """Write encoded-words. Readers drop the white space between two of them, so it moves inside one."""
    if _ENCODED_WORD_BEFORE.search(before[-100:]):
        run = b" " + run
    if _ENCODED_WORD_AFTER.match(after):
        run += b" "
    return b" ".join(
        b"=?%b?b?%b?=" % (charset, binascii.b2a_base64(piece, newline=False))
        for piece in _pieces(run, charset)
    )


def _pieces(run: bytes, charset: bytes) -> list[bytes]:
    """Cut octets so that each piece fits an encoded-word; UTF-8 between characters (RFC 2047 5)."""
    pieces: list[bytes] = []
    start = 0
    while start < len(run):
        end = min(start + _WORD_OCTETS, len(run))
        while charset == b"utf-8" and end < len(run) and run[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(run[start:end])
        start = end
    return pieces
