"""Encrypted structures of an enemy: they end with an error of ours, soon, and in little memory."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelopes import ENTITY, encrypt, person
from mailsigil.cms import der, oids
from mailsigil.cms.ber import BytesSource, CmsError, CmsLimitError, CmsSyntaxError
from mailsigil.cms.content import DecryptionFailed, content_cipher, decrypt_content
from mailsigil.cms.encryption_oids import AES_CBC, AES_GCM, KEY_DERIVATIONS, KEY_WRAPS, TRIPLE_DES_CBC
from mailsigil.cms.enveloped import Enveloped, EnvelopeLimits, parse_enveloped
from mailsigil.cms.recipients import KeyScheme

AES256 = next(oid for oid, size in AES_CBC.items() if size == 32)
GCM256 = next(oid for oid, size in AES_GCM.items() if size == 32)
VECTOR = der.octet_string(bytes(16))
ISSUER = der.sequence()
RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL)


def recipient(serial: int = 1, *, encrypted: bytes = b"k" * 256, algorithm: bytes = RSA) -> bytes:
    name = der.sequence(ISSUER, der.integer(serial))
    return der.sequence(der.integer(0), name, algorithm, der.octet_string(encrypted))


def agreement(*, point: bytes = b"\x04" + bytes(64), count: int = 1, wrap: str = "", kdf: str = "") -> bytes:
    wrap = wrap or next(iter(KEY_WRAPS))
    kdf = kdf or next(oid for oid, digest in KEY_DERIVATIONS.items() if digest == "sha256")
    key = der.tlv(der.context(1), der.sequence(der.oid("1.2.840.10045.2.1")), der.tlv(3, b"\0" + point))
    keys = [
        der.sequence(der.sequence(ISSUER, der.integer(n)), der.octet_string(bytes(40))) for n in range(count)
    ]
    return der.tlv(
        der.context(1),
        der.integer(3),
        der.tlv(der.context(0), key),
        der.sequence(der.oid(kdf), der.sequence(der.oid(wrap))),
        der.sequence(*keys),
    )


def structure(
    *recipients: bytes,
    cipher: str = AES256,
    parameters: bytes = VECTOR,
    content: bytes = der.tlv(0x80, bytes(32)),
    kind: str = oids.ENVELOPED_DATA,
    after: bytes = b"",
) -> bytes:
    encrypted = der.sequence(der.oid(oids.DATA), der.sequence(der.oid(cipher), parameters), content)
    data = der.sequence(der.integer(2), der.tlv(der.SET, *recipients), encrypted, after)
    return der.sequence(der.oid(kind), der.tlv(der.context(0), data))


def parsed(cms: bytes, **limits: int) -> Enveloped:
    return parse_enveloped(BytesSource(cms), limits=EnvelopeLimits(**limits))


def test_the_structure_of_these_tests_is_sound() -> None:
    found = parsed(structure(recipient(1), agreement()))
    assert [each.wrapped.scheme for each in found.recipients] == [KeyScheme.RSA_PKCS1, KeyScheme.ECDH]
    assert b"".join(found.content.chunks()) == bytes(32)


def test_many_recipients_are_bounded() -> None:
    with pytest.raises(CmsLimitError, match="recipients"):
        parsed(structure(*(recipient(n) for n in range(11))), recipients=10)
    with pytest.raises(CmsLimitError, match="recipients"):
        parsed(structure(agreement(count=11)), recipients=10)
    with pytest.raises(CmsLimitError, match="recipients"):
        parsed(structure(agreement(count=6), agreement(count=6)), recipients=10)
    assert len(parsed(structure(*(recipient(n) for n in range(10))), recipients=10).recipients) == 10


def test_recipients_without_a_certificate_count_too() -> None:
    password = der.tlv(der.context(3), der.integer(0))
    with pytest.raises(CmsLimitError, match="recipients"):
        parsed(structure(*[password] * 11), recipients=10)
    assert parsed(structure(password, recipient())).recipients[0].wrapped.scheme is KeyScheme.RSA_PKCS1


def test_the_octets_beside_the_content_are_bounded() -> None:
    with pytest.raises(CmsLimitError):
        parsed(structure(recipient(encrypted=bytes(2000))), rest_bytes=1500)
    with pytest.raises(CmsLimitError):
        parsed(structure(recipient(encrypted=bytes(5000))))


def test_pieces_of_the_content_are_bounded() -> None:
    pieces = der.tlv(0xA0, *[der.octet_string(b"x")] * 20)
    assert b"".join(parsed(structure(recipient(), content=pieces)).content.chunks()) == b"x" * 20
    with pytest.raises(CmsLimitError, match="segments"):
        parsed(structure(recipient(), content=pieces), segments=10)


def test_nested_pieces_are_bounded() -> None:
    nested = der.octet_string(b"x")
    for _ in range(50):
        nested = der.tlv(0x24, nested)
    with pytest.raises(CmsLimitError, match="depth"):
        parsed(structure(recipient(), content=der.tlv(0xA0, nested)))


BAD = {
    "empty": b"",
    "signed-data": structure(recipient(), kind=oids.SIGNED_DATA),
    "compressed": structure(recipient(), kind=oids.COMPRESSED_DATA),
    "trailing": structure(recipient()) + b"\0",
    "more-fields": structure(recipient(), after=der.integer(1)),
    "content-elsewhere": structure(recipient(), content=b""),
    "content-of-another-tag": structure(recipient(), content=der.integer(1)),
    "length-of-exabytes": structure(recipient(), content=b"\x80\x88" + b"\x7f" * 8),
    "authenticated-without-tag": structure(recipient(), kind=oids.AUTH_ENVELOPED_DATA),
    "set-that-is-none": structure().replace(b"\x31\x00", b"\x30\x00"),
    "half-a-bit": structure(agreement().replace(b"\x00\x04", b"\x03\x04", 1)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_structures(name: str) -> None:
    with pytest.raises(CmsSyntaxError):
        parsed(BAD[name])


CIPHERS = {
    "no-vector": (AES256, b""),
    "short-vector": (AES256, der.octet_string(bytes(15))),
    "des-with-a-vector-of-aes": (TRIPLE_DES_CBC, VECTOR),
    "gcm-without-parameters": (GCM256, b""),
    "gcm-with-a-tag-of-4": (GCM256, der.sequence(der.octet_string(bytes(12)), der.integer(4))),
    "gcm-with-a-tag-of-17": (GCM256, der.sequence(der.octet_string(bytes(12)), der.integer(17))),
    "gcm-without-nonce": (GCM256, der.sequence(der.octet_string(b""))),
    "rc2": ("1.2.840.113549.3.2", VECTOR),
    "none": ("1.2.3", b""),
}


@pytest.mark.parametrize("name", CIPHERS)
def test_bad_ciphers(name: str) -> None:
    cipher, parameters = CIPHERS[name]
    enveloped = parsed(structure(recipient(), cipher=cipher, parameters=parameters))
    with pytest.raises(CmsError):
        content_cipher(enveloped.algorithm)
    with pytest.raises(CmsError):
        decrypt_content(enveloped, bytes(32))


def test_gcm_in_a_structure_without_a_tag_is_refused() -> None:
    """Else the tag would be the attacker's to leave out (RFC 5084 1)."""
    parameters = der.sequence(der.octet_string(bytes(12)), der.integer(16))
    enveloped = parsed(structure(recipient(), cipher=GCM256, parameters=parameters))
    with pytest.raises(CmsSyntaxError):
        decrypt_content(enveloped, bytes(32))


def test_cbc_in_a_structure_with_a_tag_is_refused() -> None:
    """The tag would say nothing, and look as if it did."""
    tagged = structure(recipient(), kind=oids.AUTH_ENVELOPED_DATA, after=der.octet_string(bytes(16)))
    with pytest.raises(CmsSyntaxError):
        decrypt_content(parsed(tagged), bytes(32))


@pytest.mark.parametrize("size", [0, 1, 16, 24, 31, 33, 64])
def test_keys_of_another_size(size: int) -> None:
    with pytest.raises(DecryptionFailed):
        decrypt_content(parsed(structure(recipient())), bytes(size))


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32])
def test_every_failure_of_cbc_is_the_same(size: int) -> None:
    enveloped = parsed(structure(recipient(), content=der.tlv(0x80, bytes(range(size)))))
    with pytest.raises(DecryptionFailed) as caught:
        list(decrypt_content(enveloped, bytes(32)))
    assert (str(caught.value), caught.value.__cause__, caught.value.__suppress_context__) == ("", None, True)


POINTS = {
    "infinity": b"\0",
    "not-on-the-curve": b"\x04" + b"\x01" * 64,
    "of-another-curve": b"\x04" + bytes(96),
    "empty-form": b"\x04",
    "nonsense": b"\xff" * 65,
}


@pytest.mark.parametrize("name", POINTS)
def test_ephemeral_keys_that_are_none(name: str, tmp_path: Path) -> None:
    """An invalid point would give the private key away, bit by bit."""
    wrapped = parsed(structure(agreement(point=POINTS[name]))).recipients[0].wrapped
    with pytest.raises(DecryptionFailed):
        person("p256").soft_key(tmp_path).unwrap(wrapped, 32)


@pytest.mark.parametrize(
    ("wrap", "kdf"),
    [("1.2.840.113549.1.9.16.3.6", ""), ("", "1.3.133.16.840.63.0.3")],
    ids=["3des", "cofactor"],
)
def test_ways_of_agreement_that_are_not_known(wrap: str, kdf: str) -> None:
    assert parsed(structure(agreement(wrap=wrap, kdf=kdf))).recipients[0].wrapped.scheme is KeyScheme.UNKNOWN


@cache
def samples() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        both = (person("rsa"), person("p256"))
        return (
            encrypt(ENTITY, both, folder),
            encrypt(ENTITY, both, folder, "-stream", "-indef"),
            encrypt(ENTITY, both, folder, cipher="-aes-128-gcm"),
            encrypt(ENTITY, (both[0],), folder, options=("-keyopt", "rsa_padding_mode:oaep")),
        )


def _survives(cms: bytes) -> None:
    try:
        enveloped = parsed(cms)
        list(decrypt_content(enveloped, bytes(content_cipher(enveloped.algorithm).key_size)))
    except (CmsError, DecryptionFailed):
        pass


@given(st.integers(0, 3), st.data())
@settings(max_examples=300, deadline=None)
def test_altered_octets(number: int, data: st.DataObject) -> None:
    cms = bytearray(samples()[number])
    for _ in range(data.draw(st.integers(1, 4))):
        cms[data.draw(st.integers(0, len(cms) - 1))] = data.draw(st.integers(0, 255))
    _survives(bytes(cms))


@pytest.mark.parametrize("number", range(4))
def test_cut_off_anywhere(number: int) -> None:
    cms = samples()[number]
    for end in range(len(cms)):
        with pytest.raises(CmsSyntaxError):
            parsed(cms[:end])


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise(data: bytes) -> None:
    _survives(data)
    _survives(der.sequence(der.oid(oids.ENVELOPED_DATA), der.tlv(der.context(0), der.sequence(data))))
