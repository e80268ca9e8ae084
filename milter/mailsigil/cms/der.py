"""Writing DER: the few types that a CMS signature is made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
NULL: Final = b"\x05\x00"
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31


def context(number: int, *, constructed: bool = True) -> int:
    """The identifier octet of a context-specific tag [number]."""
    return (0xA0 if constructed else 0x80) | number


def header(tag: int, length: int) -> bytes:
    """Identifier and length octets of an element whose content is `length` octets (X.690 10.1)."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element; its content is the parts one after the other."""
    content = b"".join(parts)
    return header(tag, len(content)) + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of encoded elements."""
    return tlv(SEQUENCE, *parts)


def set_of(elements: Iterable[bytes], *, tag: int = SET) -> bytes:
    """SET OF encoded elements in DER order (X.690 11.6)."""
    # No complete element is the beginning of another one, so plain byte order is the order of X.690
    return tlv(tag, *sorted(elements))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, content)


def integer(value: int) -> bytes:
    """INTEGER in the fewest octets of two's complement."""
    bits = (value if value >= 0 else ~value).bit_length()
    return tlv(INTEGER, value.to_bytes(bits // 8 + 1, "big", signed=True))


@lru_cache(maxsize=256)
def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form. Raises ValueError when that is not one."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    if first > 2 or second < 0 or (first < 2 and second > 39) or any(arc < 0 for arc in rest):
        raise ValueError(f"{dotted} is not an object identifier")
    return tlv(OBJECT_IDENTIFIER, *(_base128(arc) for arc in (first * 40 + second, *rest)))


def _base128(number: int) -> bytes:
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(0x80 | (number & 0x7F))
    return bytes(reversed(septets))


def time(moment: datetime) -> bytes:
    """Time in whole seconds: UTCTime for the years 1950 to 2049, GeneralizedTime otherwise (RFC 5652 11.3).

    Raises ValueError for a moment without time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a signing time needs its time zone")
    utc = moment.astimezone(UTC)
    # Three times as fast as strftime, and this is done for each mail.
    text = f"{utc.month:02d}{utc.day:02d}{utc.hour:02d}{utc.minute:02d}{utc.second:02d}Z"
    if 1950 <= utc.year <= 2049:
        return tlv(UTC_TIME, f"{utc.year % 100:02d}{text}".encode("ascii"))
    return tlv(GENERALIZED_TIME, f"{utc.year:04d}{text}".encode("ascii"))
