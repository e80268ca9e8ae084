"""Undo a part's transfer encoding, as forgiving as mail readers are (RFC 2045 6)."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from contextlib import suppress

from mailsigil.message.mime import Part
from mailsigil.message.spool import Spool

_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _ALPHABET)
_PADDING = b"= \t\r\n"
AT_ONCE = 65536
"""Octets of base64 that are decoded as a whole."""
LONG_LINE = 65536
"""A quoted-printable line that is longer is decoded in pieces."""


def decode_transfer(spool: Spool, part: Part) -> Iterator[bytes]:
    """Give the content of a part in pieces, its base64 or quoted-printable encoding undone.

    Never raises for bad encoding: what is not in the alphabet is passed over, an incomplete end gives
    what octets it holds. Every other encoding is taken as none.
    """
    chunks = spool.chunks(part.body_start, part.body_end)
    if part.encoding == "base64":
        if part.body_end - part.body_start <= AT_ONCE:
            return decode_short_base64(spool.read(part.body_start, part.body_end))
        return decode_base64(chunks)
    if part.encoding == "quoted-printable":
        return decode_quoted_printable(chunks)
    return chunks


def decode_short_base64(data: bytes) -> Iterator[bytes]:
    """Decode base64 that is in memory: the same as :func:`decode_base64`, faster for what is plain."""
    padding = data.find(b"=")
    # The library ends where padding ends, and readers go on: that is not plain, nor is an incomplete end.
    if padding < 0 or not data[padding:].translate(None, _PADDING):
        with suppress(binascii.Error):
            decoded = binascii.a2b_base64(data)
            return iter((decoded,) if decoded else ())
    return decode_base64((data,))


def decode_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decode base64 (RFC 2045 6.8), also several encodings one after the other."""
    held = b""
    for chunk in chunks:
        # RFC 2045 6.8: characters outside the alphabet are ignored.
        data = held + chunk.translate(None, NOT_BASE64)
        *finished, rest = data.split(b"=") if b"=" in data else (data,)
        decoded = [_decode_quanta(run) for run in finished if run]
        whole = len(rest) - len(rest) % 4
        decoded.append(binascii.a2b_base64(rest[:whole]))
        held = rest[whole:]
        if piece := b"".join(decoded):
            yield piece
    if piece := _decode_quanta(held):
        yield piece


def _decode_quanta(run: bytes) -> bytes:
    """Decode a run that ended with padding or with the data; one character alone holds no octet."""
    if len(run) % 4 == 1:
        run = run[:-1]
    return binascii.a2b_base64(run + b"=" * (-len(run) % 4))


def decode_quoted_printable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decode quoted-printable (RFC 2045 6.7); an escape that is none stands for itself."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        cut = data.rfind(b"\n") + 1
        if not cut:
            if len(data) < LONG_LINE:
                held = data
                continue
            cut = _safe_cut(data)
        held = data[cut:]
        yield _decode_lines(data[:cut])
    if held:
        yield _decode_lines(held, last=True)


def _safe_cut(data: bytes) -> int:
    """Where to cut a line that does not end: not in an escape, and not before white space or a CR."""
    cut = len(data.rstrip(b" \t\r"))
    if not cut:
        return len(data)
    escape = data.rfind(b"=", max(cut - 2, 0), cut)
    return escape if escape > 0 else cut


def _decode_lines(data: bytes, *, last: bool = False) -> bytes:
    # RFC 2045 6.7 (3): white space at the end of a line was added by transport.
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        if line.endswith((b" ", b"\t", b" \r", b"\t\r")):
            lines[number] = line[:-1].rstrip(b" \t") + b"\r" if line.endswith(b"\r") else line.rstrip(b" \t")
    if last:
        lines[-1] = lines[-1].rstrip(b" \t")
    return binascii.a2b_qp(b"\n".join(lines))
