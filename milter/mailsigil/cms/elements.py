"""Small elements that are in memory already, taken apart at once.

What a signature carries beside the content is short and nearly always in definite lengths. For that a plain
loop does what the cursor of `mailsigil.cms.ber` does, in a fraction of the time. It judges nothing: whatever
is not plain, right or wrong, goes to the cursor, which alone knows BER and its errors.
"""

from __future__ import annotations

from typing import Final

from mailsigil.cms.ber import Cursor

_LENGTH_OCTETS: Final = 4
"""Longer lengths than those of this many octets are none that a plain element has."""
_ODD_TAGS: Final = frozenset([0, *(tag for tag in range(256) if tag & 0x1F == 0x1F)])
"""The end of an indefinite length, and tags of several octets, which CMS does not use."""


def children(element: bytes, tag: int) -> list[bytes]:
    """The elements inside a constructed one, each with its header.

    Raises CmsSyntaxError unless `element` is exactly one element with this identifier octet.
    """
    found: list[bytes] = []
    start = _start_of_content(element, tag)
    size = len(element)
    while 0 < start < size - 1:
        length = element[start + 1]
        end = start + 2 + length if length < 0x80 else _end_of_long(element, start)
        if element[start] in _ODD_TAGS or not start < end <= size:
            break
        found.append(element[start:end])
        start = end
    # Past the last element there is the end, if all of them were plain.
    return found if start == size else _children_in_ber(element, tag)


def content(element: bytes, tag: int) -> bytes:
    """The octets inside a primitive element, or of an OCTET STRING in pieces joined.

    Raises CmsSyntaxError unless `element` is exactly one element with this identifier octet.
    """
    start = _start_of_content(element, tag)
    return element[start:] if start > 0 else _content_in_ber(element, tag)


def _start_of_content(element: bytes, tag: int) -> int:
    """Where the content of a plain element starts, which fills all of `element`; -1 when it is not plain."""
    size = len(element)
    if size < 2 or element[0] != tag:
        return -1
    length = element[1]
    if length < 0x80:
        return 2 if 2 + length == size else -1
    return 2 + (length & 0x7F) if _end_of_long(element, 0) == size else -1


def _end_of_long(data: bytes, start: int) -> int:
    """Where the element ends whose length has octets of its own; -1 when these are none or too many."""
    count = data[start + 1] & 0x7F
    if not 1 <= count <= _LENGTH_OCTETS:
        return -1
    end = start + 2 + count
    return end + int.from_bytes(data[start + 2 : end], "big")


def _children_in_ber(element: bytes, tag: int) -> list[bytes]:
    found: list[bytes] = []
    cursor = Cursor.over(element)
    with cursor.inside(tag):
        while cursor.tag() is not None:
            found.append(cursor.raw())
    cursor.finish()
    return found


def _content_in_ber(element: bytes, tag: int) -> bytes:
    cursor = Cursor.over(element)
    octets = cursor.value(tag)
    cursor.finish()
    return octets
