"""Bytes made to hurt a parser: it answers with CmsSyntaxError, CmsLimitError or a refusal, and soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cms.cms_pki import CONTENT, authority, check_all, owner, sign_detached, sign_opaque
from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import Scheme
from mailsigil.cms.parse import (
    BytesSource,
    CmsError,
    CmsLimitError,
    CmsLimits,
    CmsSyntaxError,
    content_kind,
    parse_signed_data,
)
from mailsigil.cms.verify import SignerStatus

SIGNED = der.oid(oids.SIGNED_DATA)
DATA = der.oid(oids.DATA)
HEAD = der.integer(1) + der.set_of([])
P256 = Scheme.ECDSA_SHA256


def info(*parts: bytes) -> bytes:
    """A ContentInfo around the fields of a SignedData."""
    return der.sequence(SIGNED, der.tlv(der.context(0), der.sequence(*parts)))


def with_content(octets: bytes) -> bytes:
    return info(HEAD, der.sequence(DATA, der.tlv(der.context(0), octets)), der.set_of([]))


def nested(opening: bytes, depth: int, core: bytes = b"", closing: bytes = b"\0\0") -> bytes:
    return opening * depth + core + closing * depth


SYNTAX = {
    "nothing": b"",
    "one octet": b"\x30",
    "length of 2^63 octets": b"\x30\x88\x7f" + b"\xff" * 7,
    "length of 127 octets of length": b"\x30\xff" + b"\xff" * 127,
    "length of no octets": b"\x30\x80",
    "primitive of indefinite length": der.sequence(b"\x06\x80\0\0"),
    "element longer than its parent": b"\x30\x04\x06\x09\x2a\x86",
    "high tag": b"\x3f\x81\x01\x00",
    "end of contents alone": b"\0\0",
    "end of contents in a definite length": der.sequence(SIGNED, b"\0\0"),
    "indefinite length without end": b"\x30\x80" + SIGNED,
    "not a signature": der.sequence(DATA, der.tlv(der.context(0), der.octet_string(b"mail"))),
    "signature without its content": der.sequence(SIGNED),
    "two contents": der.sequence(SIGNED, der.tlv(der.context(0), der.sequence(), der.sequence())),
    "content that is no octet string": with_content(der.integer(1)),
    "content of two octet strings": with_content(der.octet_string(b"a") + der.octet_string(b"b")),
    "piece of content that is no octet string": with_content(b"\x24\x03\x02\x01\x01"),
    "piece of content longer than the content": with_content(b"\x24\x03\x04\x02\x01"),
    "object identifier of no octets": der.sequence(b"\x06\0"),
    "object identifier cut off": der.sequence(b"\x06\x02\x2a\x86"),
    "object identifier padded": der.sequence(b"\x06\x03\x2a\x80\x01"),
    "object identifier far too long": der.sequence(b"\x06\x41" + b"\x01" * 65),
    "version of no octets": info(b"\x02\0", der.set_of([]), der.sequence(DATA), der.set_of([])),
    "version far too large": info(
        der.tlv(2, b"\x01" * 65), der.set_of([]), der.sequence(DATA), der.set_of([])
    ),
    "signers before certificates": info(HEAD, der.sequence(DATA), der.set_of([]), der.tlv(der.context(0))),
    "signer that is no SEQUENCE": info(HEAD, der.sequence(DATA), der.set_of([der.integer(1)])),
}
LIMITS = {
    "nested indefinite lengths in a certificate": (
        info(HEAD, der.sequence(DATA), der.tlv(der.context(0), nested(b"\x30\x80", 4000)), der.set_of([])),
        "cms-depth",
    ),
    "nested octet strings in the content": (with_content(nested(b"\x24\x80", 4000)), "cms-depth"),
    "31 certificates": (
        info(HEAD, der.sequence(DATA), der.tlv(der.context(0), *[der.sequence()] * 31), der.set_of([])),
        "cms-certificates",
    ),
    "11 revocation lists": (
        info(HEAD, der.sequence(DATA), der.tlv(der.context(1), *[der.sequence()] * 11), der.set_of([])),
        "cms-crls",
    ),
    "certificate of 1 MiB": (
        info(HEAD, der.sequence(DATA), der.tlv(der.context(0), der.sequence(bytes(1 << 20))), der.set_of([])),
        "cms-bytes",
    ),
    "half a million digests": (
        info(der.integer(1), der.tlv(der.SET, *[der.sequence(DATA)] * 100_000)),
        "cms-bytes",
    ),
    "half a million empty pieces of content": (
        with_content(der.tlv(0x24, b"\x04\0" * 500_000)),
        "cms-segments",
    ),
    "half a million empty boxes in the content": (
        with_content(der.tlv(0x24, b"\x24\x80\0\0" * 500_000)),
        "cms-bytes",
    ),
}


@pytest.mark.parametrize("blob", SYNTAX.values(), ids=SYNTAX.keys())
def test_what_is_no_signature(blob: bytes) -> None:
    with pytest.raises(CmsSyntaxError) as error:
        parse_signed_data(BytesSource(blob))
    assert error.value.reason
    assert error.value.sentence
    content_kind(BytesSource(blob))


@pytest.mark.parametrize(("blob", "limit"), LIMITS.values(), ids=LIMITS.keys())
def test_what_is_too_much(blob: bytes, limit: str) -> None:
    begun = time.process_time()
    with pytest.raises(CmsLimitError) as error:
        parse_signed_data(BytesSource(blob))
    assert error.value.reason == limit
    assert time.process_time() - begun < 5


def test_limits_are_settings() -> None:
    blob = sign_detached(P256)
    for limits, reason in (
        (CmsLimits(signers=0), "cms-signers"),
        (CmsLimits(certificates=1), "cms-certificates"),
        (CmsLimits(attributes=5), "cms-attributes"),
        (CmsLimits(rest_bytes=1000), "cms-bytes"),
    ):
        with pytest.raises(CmsLimitError) as error:
            parse_signed_data(BytesSource(blob), limits=limits)
        assert error.value.reason == reason
    with pytest.raises(CmsLimitError, match="depth"):
        parse_signed_data(BytesSource(with_content(nested(b"\x24\x80", 5))), limits=CmsLimits(depth=3))


class CountingSource:
    """A source far larger than memory: a head, content made up as it is read, a tail."""

    def __init__(self, head: bytes, size: int, tail: bytes) -> None:
        self.head, self.size, self.tail = head, size, tail
        self.read_octets = 0

    def __len__(self) -> int:
        return len(self.head) + self.size + len(self.tail)

    def read(self, start: int, end: int, /) -> bytes:
        end = min(end, len(self))
        self.read_octets += end - start
        content_end = len(self.head) + self.size
        middle = max(0, min(end, content_end) - max(start, len(self.head)))
        after = self.tail[max(0, start - content_end) : max(0, end - content_end)]
        return self.head[start:end] + bytes(middle) + after


def test_large_content_is_skipped() -> None:
    blob = sign_opaque(P256, b"")
    signed = parse_signed_data(BytesSource(blob))
    tail = der.tlv(der.context(0), *signed.certificates) + der.set_of([])
    size = 8 << 30
    octets = der.header(der.OCTET_STRING, size)
    explicit = der.header(der.context(0), len(octets) + size)
    encapsulated = der.header(der.SEQUENCE, len(DATA) + len(explicit) + len(octets) + size)
    opening = b"\x30\x80" + SIGNED + b"\xa0\x80\x30\x80" + HEAD + encapsulated + DATA + explicit + octets
    source = CountingSource(opening, size, tail + b"\0" * 6)
    parsed = parse_signed_data(source)
    assert parsed.content is not None
    assert parsed.content.size == size
    assert source.read_octets < 1 << 20


def test_source_that_lies_about_its_length() -> None:
    class Short(BytesSource):
        def __len__(self) -> int:
            return super().__len__() + 10

    with pytest.raises(CmsSyntaxError):
        parse_signed_data(Short(sign_detached(P256)))


def indefinite(blob: bytes) -> bytes:
    """The same structure with an indefinite length wherever BER allows one, certificates left alone."""
    cut = blob[1] & 0x7F if blob[1] & 0x80 else 0
    body = blob[2 + cut :]
    if not blob[0] & 0x20 or blob in (owner("p256").der, authority().der):
        return blob
    parts: list[bytes] = []
    while body:
        size = body[1] & 0x7F if body[1] & 0x80 else 0
        length = int.from_bytes(body[2 : 2 + size], "big") if size else body[1]
        end = 2 + size + length
        parts.append(indefinite(body[:end]))
        body = body[end:]
    return bytes((blob[0], 0x80)) + b"".join(parts) + b"\0\0"


@pytest.mark.parametrize("sign", [sign_detached, sign_opaque])
def test_indefinite_lengths_everywhere(sign: Callable[[Scheme], bytes]) -> None:
    """Also inside what is signed: its DER is what counts there, as RFC 5652 5.4 says."""
    blob = indefinite(sign(P256))
    assert blob.count(b"\x30\x80") > 10
    signed, (check,) = check_all(blob, CONTENT)
    assert sorted(signed.certificates) == sorted((owner("p256").der, authority().der))
    assert (check.status, check.reason) == (SignerStatus.VALID, "")


VALID_BLOBS = [sign_detached(P256), sign_opaque(P256)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good signature with a few octets changed, cut out, doubled or put in."""
    blob = bytearray(draw(st.sampled_from(VALID_BLOBS)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(blob) - 1))
        match draw(st.sampled_from(["flip", "set", "cut", "double", "put"])):
            case "flip":
                blob[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                blob[place] = draw(st.sampled_from([0, 0x04, 0x24, 0x30, 0x31, 0x80, 0x84, 0xA0, 0xFF]))
            case "cut":
                del blob[place : place + draw(st.integers(1, 40))]
            case "double":
                blob[place:place] = blob[place : place + draw(st.integers(1, 40))]
            case _:
                blob[place:place] = draw(st.binary(min_size=1, max_size=8))
        if not blob:
            break
    return bytes(blob)


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_mutations_never_crash(blob: bytes) -> None:
    content_kind(BytesSource(blob))
    try:
        signed, checks = check_all(blob, CONTENT)
    except (CmsSyntaxError, CmsLimitError):
        return
    for signer, check in zip(signed.signers, checks, strict=True):
        if check.status is SignerStatus.VALID:
            # Whatever was changed, it was nothing that Alice signed
            assert check.certificate == owner("p256").der
            assert signer.signed_attributes in (
                parse_signed_data(BytesSource(good)).signers[0].signed_attributes for good in VALID_BLOBS
            )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_crashes(noise: bytes) -> None:
    content_kind(BytesSource(noise))
    for blob in (noise, with_content(noise), info(HEAD, der.sequence(DATA), noise), info(noise)):
        with suppress(CmsError):
            signed = parse_signed_data(BytesSource(blob))
            b"".join(signed.content_chunks())
