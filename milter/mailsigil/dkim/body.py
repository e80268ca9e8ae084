"""The body hash of a DKIM signature (RFC 6376 3.4.3, 3.4.4), in one pass over chunks.

dkimpy wants the whole body in memory and takes quadratic time on long runs of spaces, so this half
of the work is done here: memory stays flat and time linear, whatever the body holds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SPACES = re.compile(rb"[ \t]{2,}|\t")
_LINE_ENDS_REVERSED = re.compile(rb"(?:\n\r)*")
_END = b"\r\n"
_FLUSH = 8192
"""Held-back line ends are written in pieces of this many."""


@dataclass(frozen=True, slots=True)
class BodyHash:
    """SHA-256 over the canonical body, and how many octets the canonical body has in all."""

    digest: bytes
    size: int


def hash_body(chunks: Iterable[bytes], *, relaxed: bool, length: int | None) -> BodyHash:
    """Hash a body with CRLF line ends, the first ``length`` octets of its canonical form (``l=``) or all.

    ``size`` counts the whole canonical form also where ``length`` is shorter.
    """
    hasher = hashlib.sha256()
    size = 0
    canonical = _relaxed(chunks) if relaxed else _simple(chunks)
    for piece in canonical:
        if length is None or size + len(piece) <= length:
            hasher.update(piece)
        elif size < length:
            hasher.update(piece[: length - size])
        size += len(piece)
    return BodyHash(hasher.digest(), size)


def _simple(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from _without_last_lines(chunks)
    yield _END  # RFC 6376 3.4.3: one CRLF at the end, also of an empty body


def _relaxed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    empty = True
    for piece in _without_last_lines(_single_spaces(chunks)):
        empty = False
        yield piece
    if not empty:
        yield _END  # RFC 6376 3.4.4: an empty body stays empty


def _single_spaces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Bring runs of white space to one space and take it away at line ends."""
    held = b""
    for chunk in chunks:
        data = _SPACES.sub(b" ", held + chunk)
        # What may still become white space before a line end waits for the next chunk.
        cut = len(data)
        if data.endswith(b"\r"):
            cut -= 1
        if data.endswith(b" ", 0, cut):
            cut -= 1
        held = data[cut:]
        yield data[:cut].replace(b" \r\n", _END)
    if held and held != b" ":
        yield held


def _without_last_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give everything but the CRLFs at the end of the whole."""
    pending = 0
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)]
        ends = _count_last_ends(data)
        content = data[: len(data) - 2 * ends]
        if content:
            yield from _line_ends(pending)
            yield content
            pending = 0
        pending += ends
    if held:
        yield from _line_ends(pending)
        yield held


def _count_last_ends(data: bytes) -> int:
    last = data[len(data.rstrip(_END)) :]
    match = _LINE_ENDS_REVERSED.match(last[::-1])
    return match.end() // 2 if match else 0


def _line_ends(count: int) -> Iterator[bytes]:
    for _ in range(count // _FLUSH):
        yield _END * _FLUSH
    if count % _FLUSH:
        yield _END * (count % _FLUSH)
