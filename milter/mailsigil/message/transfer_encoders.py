"""Quoted-printable and base64, written in pieces (RFC 2045 6.7 and 6.8).

Each function takes the octets of one part in pieces and gives 7-bit lines with CRLF. No line of its
making starts with ``--`` unless the line was there before, so a new line never reads as a boundary.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator

from mailsigil.message.cleanliness import MAX_LINE
from mailsigil.message.decoding import NOT_BASE64

_BASE64_OCTETS = 57  # a line of 76 characters
_GATHER = _BASE64_OCTETS * 1024
_LONG_LINE = 65536
_SOFT_DASHES = re.compile(rb"(?<==\r\n)-{2,}")
_DASHES_IN_LINE = 25  # of =2D, so that the line keeps to 76
_FORBIDDEN = rb"[\x00-\x08\x0b-\x1f\x7f-\xff]"
# An equals sign that is no escape stands for itself with most readers; it must not become one.
_ESCAPED_HERE = re.compile(_FORBIDDEN + rb"|=(?=" + _FORBIDDEN + rb")")
# A cut never stands in an escape, even if the line gets longer than 76.
_PRINTED_LINE = re.compile(rb".{1,73}(?<!=)(?<!=.)|.{74,900}?(?<!=)(?<!=.)|.{1,900}")


def base64_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Encode octets as they are in base64, lines of 76."""
    held = b""
    for chunk in chunks:
        held += chunk
        whole = len(held) - len(held) % _BASE64_OCTETS
        if whole >= _GATHER:
            yield _base64(held[:whole])
            held = held[whole:]
    if held:
        yield _base64(held)


def _base64(data: bytes) -> bytes:
    return b"".join(
        binascii.b2a_base64(data[start : start + _BASE64_OCTETS], newline=False) + b"\r\n"
        for start in range(0, len(data), _BASE64_OCTETS)
    )


def quoted_printable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Encode text in quoted-printable. Line ends, LF alone too, become CRLF; a CR alone must not occur."""
    return _by_lines(crlf(chunks), _quoted_printable)


def _quoted_printable(data: bytes) -> bytes:
    encoded = binascii.b2a_qp(data, istext=True)
    # b2a_qp breaks long lines with the line end that it finds in the data, else with LF.
    return encoded if b"\r\n" in data else encoded.replace(b"\n", b"\r\n")


def repair_quoted_printable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Make quoted-printable that breaks the rules of 7bit keep them; it decodes to the same octets.

    Octets that must not stand there are escaped and lines over 998 broken; the rest stays as it is.
    """
    return _by_lines(crlf(chunks), _repair_lines)


def _repair_lines(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    for number, line in enumerate(lines):
        lines[number] = _repair_line(line)
    return b"\r\n".join(lines)


def _repair_line(line: bytes) -> bytes:
    if len(line) <= MAX_LINE and line.isascii() and not _ESCAPED_HERE.search(line):
        return line
    # RFC 2045 6.7 (3): white space at the end of a line is no content.
    content = line.rstrip(b" \t")
    soft = content.endswith(b"=")
    content = _ESCAPED_HERE.sub(_escape, content[:-1] if soft else content)
    if len(content) > 75:
        content = b"=\r\n".join(_PRINTED_LINE.findall(content))
    return content + b"=" if soft else content


def _escape(match: re.Match[bytes]) -> bytes:
    return b"=%02X" % ord(match[0])


def repair_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Make base64 that breaks the rules of 7bit keep them; it decodes to the same octets.

    What is not in the alphabet goes (RFC 2045 6.8 has readers ignore it), lines over 998 are broken.
    """
    return _by_lines(crlf(chunks), _repair_base64_lines, soft_break=b"\r\n")


def _repair_base64_lines(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    for number, line in enumerate(lines):
        kept = line.translate(None, NOT_BASE64)
        if len(kept) > MAX_LINE:
            kept = b"\r\n".join(kept[start : start + 76] for start in range(0, len(kept), 76))
        lines[number] = kept
    return b"\r\n".join(lines)


def crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn LF alone into CRLF; a CR alone stays."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        if held:
            data = data[:-1]
        if data.count(b"\n") != data.count(b"\r\n"):
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        yield data
    if held:
        yield held


def _by_lines(
    chunks: Iterable[bytes], encode: Callable[[bytes], bytes], *, soft_break: bytes = b"=\r\n"
) -> Iterator[bytes]:
    """Encode whole lines at a time; a line past all bounds is encoded in pieces with soft breaks."""
    held = b""
    continued = b""
    for chunk in chunks:
        data = held + chunk
        cut = data.rfind(b"\n") + 1
        soft = b""
        if not cut:
            if len(data) < _LONG_LINE:
                held = data
                continue
            cut = _safe_cut(data)
            soft = soft_break
        held = data[cut:]
        yield _protect(continued, encode(data[:cut]), soft)
        continued = soft
    if held:
        yield _protect(continued, encode(held), b"")


def _safe_cut(data: bytes) -> int:
    """Where to cut a line that does not end: not in an escape, not in white space, not before a CR."""
    cut = len(data.rstrip(b" \t\r")) or len(data)
    escape = data.rfind(b"=", max(cut - 2, 0), cut)
    return escape if escape > 0 else cut


def _protect(before: bytes, encoded: bytes, soft: bytes) -> bytes:
    """Hide hyphens that stand at the start of a line only because we broke a line before them."""
    if soft == b"=\r\n" and len(encoded) - encoded.rfind(b"\n") - 1 > 75:
        last = 3 if encoded[-3:-2] == b"=" else 1
        encoded = encoded[:-last] + soft + encoded[-last:]
    if b"=\r\n--" in encoded or (before and encoded.startswith(b"--")):
        encoded = _SOFT_DASHES.sub(_hide_dashes, before + encoded)[len(before) :]
    return encoded + soft


def _hide_dashes(match: re.Match[bytes]) -> bytes:
    count = match.end() - match.start()
    rows = [b"=2D" * min(_DASHES_IN_LINE, count - done) for done in range(0, count, _DASHES_IN_LINE)]
    return b"=\r\n".join([*rows, b""])
