"""Two ways through one structure, plain elements at once and BER in turn, have to agree on everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cms.cms_pki import authority, owner, sign_detached, sign_opaque
from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import Scheme
from mailsigil.cms.ber import BytesSource, CmsError, Cursor
from mailsigil.cms.elements import children, content
from mailsigil.cms.parse import CmsLimits, SignedDataFields, fields_at_once, fields_in_turn

LIMITS = CmsLimits()
P256 = Scheme.ECDSA_SHA256


def by_cursor(element: bytes) -> list[bytes]:
    """What `children` has to give."""
    found = []
    cursor = Cursor.over(element)
    with cursor.inside(der.SEQUENCE):
        while cursor.tag() is not None:
            found.append(cursor.raw())
    cursor.finish()
    return found


def content_by_cursor(element: bytes) -> bytes:
    """What `content` has to give."""
    cursor = Cursor.over(element)
    octets = cursor.value(der.OCTET_STRING)
    cursor.finish()
    return octets


def answer(ask: Callable[[bytes], object], data: bytes) -> object:
    """What a way gives, or that it refuses."""
    try:
        return ask(data)
    except CmsError:
        return "refused"


def length(size: int, octets: int) -> bytes:
    """A length in the given number of octets; 0 for the short form where there is one."""
    if octets == 0 and size < 0x80:
        return bytes([size])
    octets = max(octets, (size.bit_length() + 7) // 8, 1)
    return bytes([0x80 | octets]) + size.to_bytes(octets, "big")


@st.composite
def element(draw: st.DrawFn, depth: int = 3) -> bytes:
    """An element as BER allows it, and now and then as it does not."""
    if depth == 0 or draw(st.booleans()):
        tag = draw(st.sampled_from([0x02, 0x04, 0x06, 0x80, 0x00, 0x1F, 0x05]))
        octets = draw(st.binary(max_size=6))
    else:
        tag = draw(st.sampled_from([0x30, 0x31, 0xA0, 0x24, 0x3F]))
        octets = b"".join(draw(st.lists(element(depth=depth - 1), max_size=3)))
        if draw(st.integers(0, 3)) == 0:
            return bytes([tag, 0x80]) + octets + b"\0\0"
    size = len(octets) + draw(st.sampled_from([0] * 10 + [1, -1, 200]))
    return bytes([tag]) + length(max(size, 0), draw(st.sampled_from([0, 0, 0, 1, 2, 4, 5, 9]))) + octets


@given(element(), st.sampled_from([b"", b"", b"\0", b"\x05\0"]))
@settings(max_examples=400)
def test_children_are_what_the_cursor_finds(data: bytes, after: bytes) -> None:
    data += after
    assert answer(lambda one: children(one, der.SEQUENCE), data) == answer(by_cursor, data)
    assert answer(lambda one: content(one, der.OCTET_STRING), data) == answer(content_by_cursor, data)


PLAIN = {
    "nothing inside": (b"\x30\x00", []),
    "two": (b"\x30\x05\x02\x01\x07\x05\x00", [b"\x02\x01\x07", b"\x05\x00"]),
    "long lengths": (b"\x30\x82\x00\x04\x04\x81\x01\x07", [b"\x04\x81\x01\x07"]),
    "an indefinite length inside": (b"\x30\x06\x30\x80\x05\x00\x00\x00", [b"\x30\x02\x05\x00"]),
    "an indefinite length around": (b"\x30\x80\x05\x00\x00\x00", [b"\x05\x00"]),
}
REFUSED = {
    "nothing": b"",
    "a tag alone": b"\x30",
    "another tag": b"\x31\x00",
    "octets behind it": b"\x30\x00\x00",
    "an octet inside that is no element": b"\x30\x01\x05",
    "an element longer than what it stands in": b"\x30\x02\x05\x01",
    "a tag of several octets": b"\x30\x03\x1f\x01\x00",
    "an end without a beginning": b"\x30\x02\x00\x00",
    "a length of nine octets": b"\x30\x0b\x04\x89" + bytes(9),
    "a length cut off": b"\x30\x02\x04\x82",
}


@pytest.mark.parametrize(("data", "found"), PLAIN.values(), ids=PLAIN.keys())
def test_children(data: bytes, found: list[bytes]) -> None:
    assert children(data, der.SEQUENCE) == found


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_no_children(data: bytes) -> None:
    with pytest.raises(CmsError):
        children(data, der.SEQUENCE)


def test_an_octet_string_in_pieces() -> None:
    assert content(b"\x24\x06\x04\x01a\x04\x01b", der.OCTET_STRING) == b"ab"
    with pytest.raises(CmsError):
        content(b"\x24\x03\x02\x01\x07", der.OCTET_STRING)


def bundle(*others: bytes) -> bytes:
    """A SignedData with content in pieces and odd lengths, and these fields after it."""
    pieces = b"\x24\x80" + der.octet_string(b"one ") + der.octet_string(b"two") + b"\0\0"
    encapsulated = b"\x30\x80" + der.oid(oids.DATA) + b"\xa0\x80" + pieces + b"\0\0\0\0"
    fields = (der.integer(1), b"\x31\x80\0\0", encapsulated, *others)
    return der.sequence(der.oid(oids.SIGNED_DATA), der.tlv(der.context(0), b"\x30\x80", *fields, b"\0\0"))


BLOBS = [
    sign_detached(P256),
    sign_opaque(P256),
    bundle(der.set_of([])),
    bundle(der.tlv(der.context(0), owner("p256").der, authority().der), b"\x31\x80\0\0"),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A signature with a few octets changed, taken out or put in."""
    blob = bytearray(draw(st.sampled_from(BLOBS)))
    for _ in range(draw(st.integers(0, 3))):
        # Most of the structure that is told apart here stands at the beginning.
        place = draw(st.integers(0, 80) | st.integers(0, len(blob) - 1))
        taken = draw(st.sampled_from([0, 1, 1, 2]))
        blob[place : place + taken] = draw(
            st.sampled_from([b"", b"\0", b"\0\0", b"\x80", b"\x05\0", b"\x30\x80", b"\x81", b"\xa0", b"\x24"])
            | st.binary(max_size=2)
        )
    return bytes(blob)


def plainly(fields: SignedDataFields) -> object:
    """The fields as values, wherever their content lies."""
    octets = None if fields.content is None else (fields.content.size, b"".join(fields.content.chunks()))
    return fields.digest_algorithms, fields.content_type, octets, list(fields.others)


@given(damaged())
@settings(max_examples=400)
def test_both_ways_agree(blob: bytes) -> None:
    at_once = answer(lambda data: plainly(fields_at_once(BytesSource(data), LIMITS)), blob)
    in_turn = answer(lambda data: plainly(fields_in_turn(BytesSource(data), LIMITS)), blob)
    assert at_once == in_turn


@pytest.mark.parametrize("blob", BLOBS, ids=["detached", "opaque", "in pieces", "with certificates"])
def test_both_ways_read_what_is_sound(blob: bytes) -> None:
    at_once = plainly(fields_at_once(BytesSource(blob), LIMITS))
    assert at_once == plainly(fields_in_turn(BytesSource(blob), LIMITS))
