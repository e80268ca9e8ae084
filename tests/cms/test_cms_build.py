"""What build.py writes, read back by another parser, octet by octet where the standard says so."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from asn1crypto import cms

from cms.cms_pki import (
    CONTENT,
    EVERY_SCHEME,
    SIGNED_AT,
    authority,
    digest,
    owner,
    owner_for,
    sign_detached,
    sign_opaque,
)
from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import Scheme, SchemeError, default_scheme, sign_with, verify_with
from mailsigil.cms.build import SignatureBuilder
from mailsigil.cms.parse import BytesSource, parse_signed_data

ATTRIBUTES = {
    oids.CONTENT_TYPE,
    oids.MESSAGE_DIGEST,
    oids.SIGNING_TIME,
    oids.SMIME_CAPABILITIES,
    oids.SIGNING_CERTIFICATE_V2,
    oids.ALGORITHM_PROTECTION,
}


def builder_for(scheme: Scheme) -> SignatureBuilder:
    return SignatureBuilder(owner_for(scheme).der, [authority().der], scheme)


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
@pytest.mark.parametrize("form", ["detached", "opaque"])
def test_another_parser_reads_it(scheme: Scheme, form: str) -> None:
    blob = sign_detached(scheme) if form == "detached" else sign_opaque(scheme)
    info = cms.ContentInfo.load(blob, strict=True)
    signed = info["content"]
    assert signed["encap_content_info"]["content"].native == (None if form == "detached" else CONTENT)
    assert {choice.chosen.dump() for choice in signed["certificates"]} == {
        owner_for(scheme).der,
        authority().der,
    }
    (signer,) = signed["signer_infos"]
    assert signer["digest_algorithm"]["algorithm"].native == scheme.digest
    assert {attribute["type"].dotted for attribute in signer["signed_attrs"]} == ATTRIBUTES
    # Written anew in DER by the other library, it is the same
    assert info.dump(force=True) == blob
    # RFC 5652 5.4, and RFC 8419 3.1: Ed25519 stands over the attributes themselves
    verify_with(
        owner_for(scheme).key.public_key(),
        scheme,
        signer["signature"].native,
        signer["signed_attrs"].untag().dump(),
    )


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
def test_own_parser_reads_the_values_back(scheme: Scheme) -> None:
    signer = parse_signed_data(BytesSource(sign_detached(scheme))).signers[0]
    assert signer.attributes is not None
    assert signer.digest_algorithm == scheme.digest
    assert signer.message_digest == digest(scheme)
    assert signer.content_type == oids.DATA
    assert signer.signing_time == SIGNED_AT
    assert signer.signature_algorithm.family is scheme.family
    assert [(named.algorithm, named.digest) for named in signer.certificate_hashes] == [
        ("sha256", hashlib.sha256(owner_for(scheme).der).digest())
    ]
    assert signer.attributes.as_sent == signer.attributes.sorted_der
    assert signer.attributes.protection == (signer.digest_identifier, signer.signature_algorithm.identifier)


def test_signing_time_can_be_left_out() -> None:
    builder = builder_for(Scheme.ECDSA_SHA256)
    attributes = builder.attributes(digest(builder.scheme), None)
    signer = parse_signed_data(BytesSource(builder.detached(attributes, b"-"))).signers[0]
    assert signer.signing_time is None
    assert signer.signed_attributes == attributes


@pytest.mark.parametrize(
    ("moment", "encoded"),
    [
        pytest.param(datetime(1949, 12, 31, tzinfo=UTC), b"\x18\x0f19491231000000Z", id="before-UTCTime"),
        pytest.param(datetime(1950, 1, 1, tzinfo=UTC), b"\x17\x0d500101000000Z", id="first-UTCTime"),
        pytest.param(datetime(2049, 12, 31, 23, tzinfo=UTC), b"\x17\x0d491231230000Z", id="last-UTCTime"),
        pytest.param(datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z", id="after-UTCTime"),
        pytest.param(
            datetime(2026, 1, 1, 0, 30, 0, 999999, tzinfo=timezone(timedelta(hours=2))),
            b"\x17\x0d251231223000Z",
            id="other-zone-and-fractions",
        ),
    ],
)
def test_times(moment: datetime, encoded: bytes) -> None:
    builder = builder_for(Scheme.ECDSA_SHA256)
    assert der.time(moment) == encoded
    attributes = builder.attributes(digest(builder.scheme), moment)
    assert parse_signed_data(BytesSource(builder.detached(attributes, b"-"))).signers[0].signing_time == (
        moment.astimezone(UTC).replace(microsecond=0)
    )


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 24], ids=str)
def test_lengths_of_opaque_content(size: int) -> None:
    builder = builder_for(Scheme.ECDSA_SHA256)
    content = bytes(size)
    attributes = builder.attributes(hashlib.sha256(content).digest(), None)
    head, tail = builder.opaque(attributes, b"-", size)
    signed = parse_signed_data(BytesSource(head + content + tail))
    assert signed.content is not None
    assert signed.content.size == size
    assert b"".join(signed.content_chunks()) == content


def test_a_certificate_is_sent_once() -> None:
    alice = owner("p256").der
    builder = SignatureBuilder(alice, [authority().der, alice, authority().der], Scheme.ECDSA_SHA256)
    blob = builder.detached(builder.attributes(bytes(32), None), b"-")
    assert sorted(parse_signed_data(BytesSource(blob)).certificates) == sorted([alice, authority().der])


def test_wrong_use_is_refused() -> None:
    builder = builder_for(Scheme.RSA_PKCS1_SHA256)
    with pytest.raises(ValueError, match="digest of 32"):
        builder.attributes(bytes(64), None)
    with pytest.raises(ValueError, match="time zone"):
        builder.attributes(bytes(32), datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="SET OF"):
        builder.detached(b"\xa0\x00", b"-")
    with pytest.raises(ValueError, match="negative"):
        builder.opaque(b"\x31\x00", b"-", -1)
    for scheme in (Scheme.ED25519, Scheme.ECDSA_SHA256):
        with pytest.raises(SchemeError, match=scheme.value):
            SignatureBuilder(owner("rsa").der, [], scheme)
        with pytest.raises(SchemeError, match=scheme.value):
            sign_with(owner("rsa").key, scheme, b"")
    with pytest.raises(SchemeError, match="digest"):
        verify_with(owner("ed25519").key.public_key(), Scheme.ED25519, b"", b"", prehashed=True)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("rsa", Scheme.RSA_PKCS1_SHA256),
        ("p256", Scheme.ECDSA_SHA256),
        ("p384", Scheme.ECDSA_SHA384),
        ("p521", Scheme.ECDSA_SHA512),
        ("ed25519", Scheme.ED25519),
    ],
)
def test_default_schemes(kind: str, scheme: Scheme) -> None:
    assert default_scheme(owner(kind).key.public_key()) is scheme


def test_names_of_schemes() -> None:
    assert [scheme.micalg for scheme in (Scheme.RSA_PSS_SHA384, Scheme.ED25519)] == ["sha-384", "sha-512"]
    assert {scheme.digest for scheme in Scheme} == {"sha256", "sha384", "sha512"}


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [
        ("1.2.840.113549.1.7.2", "06092a864886f70d010702"),
        ("2.16.840.1.101.3.4.2.1", "0609608648016503040201"),
        ("2.999.3", "0603883703"),
        ("0.0", "060100"),
    ],
)
def test_object_identifiers(dotted: str, encoded: str) -> None:
    assert der.oid(dotted).hex() == encoded


@pytest.mark.parametrize("dotted", ["3.1", "1.40", "1.-1", "1.2.-3"])
def test_no_object_identifiers(dotted: str) -> None:
    with pytest.raises(ValueError, match="object identifier"):
        der.oid(dotted)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (-1, "0201ff"),
        (-128, "020180"),
        (-129, "0202ff7f"),
        (1 << 64, "0209010000000000000000"),
    ],
)
def test_integers(number: int, encoded: str) -> None:
    assert der.integer(number).hex() == encoded
