"""Reading the header block of one part out of the spool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mailsigil.message.delimiters import DelimiterFinder
from mailsigil.message.fields import Field, parse_fields
from mailsigil.message.spool import Spool

FIRST_WINDOW = 4096

REMEMBERED_BLOCK = 512
"""Octets; the parts of most mail have the same few headers, and longer ones are not worth the memory."""

_STOP = re.compile(rb"\n(?:(\r?\n)|(--[^\n]*))")


class HeaderTooLong(Exception):
    """The header block of a part passes the limit."""


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """The fields of a part and the offset of its body; ``separated``: a line break or an end divides them.

    Not separated means that the header stopped at a line that is no field, without an empty line;
    readers differ in what they make of that.
    """

    fields: tuple[Field, ...]
    body_start: int
    separated: bool


# "From :" is a field (RFC 5322 4.5).
_MBOX_LINE = re.compile(rb">?From [ \t]*[^: \t\r\n]")


def mbox_line(data: bytes) -> int:
    """Give the length of an mbox ``From`` line that a forwarded message starts with, 0 without one."""
    if not _MBOX_LINE.match(data):
        return 0
    return data.find(b"\n") + 1 or len(data)


def read_header(
    body: Spool, start: int, *, limit: int, finder: DelimiterFinder, is_message: bool
) -> HeaderBlock:
    """Read the header block at ``start``, which ends at an empty line, a boundary line or the end.

    Raises HeaderTooLong past ``limit`` octets.
    """
    size = len(body)
    wanted = min(FIRST_WINDOW, limit)
    while True:
        data = body.read(start, start + wanted)
        complete = start + len(data) >= size
        end, after = _find_end(data, finder)
        if end >= 0 or complete:
            break
        if wanted >= limit:
            raise HeaderTooLong
        wanted = min(wanted * 4, limit)
    if end < 0:
        end = after = len(data)
    return _cut(data[:end], start, start + after, is_message)


def _find_end(data: bytes, finder: DelimiterFinder) -> tuple[int, int]:
    """Give where the fields end and where the body starts, or -1 when that is not in ``data``."""
    if data.startswith((b"\n", b"\r\n")):
        return 0, data.index(b"\n") + 1
    if data.startswith(b"--") and finder.knows(data[: data.find(b"\n") + 1] or data):
        return 0, 0
    for match in _STOP.finditer(data):
        if match[1]:
            return match.start(1), match.end()
        if finder.knows(match[2]):
            return match.start(2), match.start(2)
    return -1, -1


def _cut(data: bytes, start: int, after: int, is_message: bool) -> HeaderBlock:
    skipped = mbox_line(data) if is_message else 0
    block = data[skipped:]
    ends = block.count(b"\r\n")
    if block.count(b"\n") != ends:
        block = block.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    fields, used = (_parse_remembered if len(block) <= REMEMBERED_BLOCK else parse_fields)(block)
    if used >= len(block):
        return HeaderBlock(fields, after, separated=True)
    # A line that is no field: the body starts there. Count lines, for the line ends may have been mended.
    lines = block.count(b"\n", 0, used)
    position = skipped
    for _ in range(lines):
        position = data.index(b"\n", position) + 1
    return HeaderBlock(fields, start + position, separated=False)


_parse_remembered = lru_cache(maxsize=1024)(parse_fields)
