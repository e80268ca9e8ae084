"""Reading the small values inside CMS: identifiers, numbers, times, algorithms, a certificate's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from mailsigil.cms import der
from mailsigil.cms.ber import CmsSyntaxError, Cursor

_MAX_OID: Final = 64
_MAX_INTEGER: Final = 64
MAX_REMEMBERED: Final = 1024
"""Octets of an element whose meaning is remembered."""
# RFC 5652 11.3: Z, seconds always there, no fraction
_UTC_TIME: Final = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_GENERALIZED_TIME: Final = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")


@dataclass(frozen=True, slots=True)
class AlgorithmIdentifier:
    """RFC 5280 4.1.1.2. `parameters` is their DER, b"" when they are absent or NULL."""

    oid: str
    parameters: bytes = b""


def read_oid(cursor: Cursor) -> str:
    """The next OBJECT IDENTIFIER in dotted form."""
    return oid_of(cursor.value(der.OBJECT_IDENTIFIER))


@lru_cache(maxsize=1024)
def oid_of(content: bytes) -> str:
    """The dotted form of the content of an OBJECT IDENTIFIER."""
    if not content or len(content) > _MAX_OID or content[-1] & 0x80:
        raise CmsSyntaxError("bad-oid", "an object identifier is empty, cut off or far too long")
    arcs: list[int] = []
    arc, begun = 0, False
    for octet in content:
        if not begun and octet == 0x80:
            # X.690 8.19.2
            raise CmsSyntaxError("bad-oid", "an object identifier is not in its shortest form")
        arc = arc << 7 | octet & 0x7F
        begun = bool(octet & 0x80)
        if not begun:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def read_integer(cursor: Cursor) -> int:
    """The next INTEGER, of at most 64 octets."""
    return integer_of(cursor.value(der.INTEGER))


def integer_of(content: bytes) -> int:
    """The number that the content of an INTEGER of at most 64 octets is."""
    if not 0 < len(content) <= _MAX_INTEGER:
        raise CmsSyntaxError("bad-integer", "a number is empty or far too long")
    return int.from_bytes(content, "big", signed=True)


def read_time(cursor: Cursor) -> datetime:
    """The next Time: UTCTime or GeneralizedTime as RFC 5652 11.3 allows them, in UTC."""
    if cursor.tag() == der.UTC_TIME:
        match = _UTC_TIME.fullmatch(cursor.value(der.UTC_TIME))
    else:
        match = _GENERALIZED_TIME.fullmatch(cursor.value(der.GENERALIZED_TIME))
    if match is None:
        raise CmsSyntaxError("bad-time", "a time is not written as CMS demands")
    year, *rest = (int(group) for group in match.groups())
    if len(match[1]) == 2:
        # RFC 5652 11.3: YY from 50 on is the twentieth century
        year += 1900 if year >= 50 else 2000
    try:
        month, day, hour, minute, second = rest
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise CmsSyntaxError("bad-time", "a time is no time of the calendar") from None


def read_algorithm(cursor: Cursor, tag: int = der.SEQUENCE) -> AlgorithmIdentifier:
    """The next AlgorithmIdentifier."""
    return algorithm_of(cursor.raw(tag), tag)


def algorithm_of(element: bytes, tag: int = der.SEQUENCE) -> AlgorithmIdentifier:
    """The AlgorithmIdentifier that an element is."""
    return (_algorithm if len(element) <= MAX_REMEMBERED else _algorithm.__wrapped__)(element, tag)


# The same few algorithms, names and attributes stand in every signature of a sender. What such small
# pieces say depends on their octets alone, so it is remembered, within bounds; errors are not.
@lru_cache(maxsize=1024)
def _algorithm(element: bytes, tag: int) -> AlgorithmIdentifier:
    cursor = Cursor.over(element)
    with cursor.inside(tag):
        oid = read_oid(cursor)
        parameters = b"" if cursor.tag() is None else cursor.raw()
    # RFC 5754 2 and 3: absent and NULL parameters mean the same
    return AlgorithmIdentifier(oid, b"" if parameters == der.NULL else parameters)


@lru_cache(maxsize=2048)
def certificate_identity(certificate: bytes) -> tuple[bytes, int]:
    """The issuer (DER Name) and the serial number of a certificate. Raises CmsSyntaxError."""
    cursor = Cursor.over(certificate)
    # RFC 5280 4.1: only the beginning of TBSCertificate is read, the rest is left to a real X.509 parser
    cursor.enter(der.SEQUENCE)
    cursor.enter(der.SEQUENCE)
    if cursor.tag() == der.context(0):
        cursor.raw()
    serial = read_integer(cursor)
    cursor.raw(der.SEQUENCE)
    return cursor.raw(der.SEQUENCE), serial
