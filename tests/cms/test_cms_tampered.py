"""Every way to change a signature, with the status that it must get."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cms.cms_pki import (
    CONTENT,
    EVERY_SCHEME,
    SIGNED_AT,
    authority,
    check_all,
    digest,
    owner,
    owner_for,
    sign_detached,
    sign_opaque,
)
from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import Scheme, sign_with
from mailsigil.cms.build import SignatureBuilder
from mailsigil.cms.parse import BytesSource, CmsSyntaxError, parse_signed_data
from mailsigil.cms.values import certificate_identity
from mailsigil.cms.verify import SignerStatus

RSA = Scheme.RSA_PKCS1_SHA256
P256 = Scheme.ECDSA_SHA256
SHA256 = der.oid(oids.DIGEST_OIDS["sha256"])
SHA512 = der.oid(oids.DIGEST_OIDS["sha512"])
DATA = der.oid(oids.DATA)
ECDSA = der.sequence(der.oid(oids.ECDSA_OIDS["sha256"]))


def attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of(values))


def good_attributes() -> list[bytes]:
    """The two that RFC 5652 demands and nothing else."""
    return [
        attribute(oids.CONTENT_TYPE, DATA),
        attribute(oids.MESSAGE_DIGEST, der.octet_string(digest(P256))),
    ]


def signed_over(sent: bytes, signed: bytes | None = None, *, scheme: Scheme = P256) -> bytes:
    """Alice's detached signature over attributes of our choice; `signed` may differ from `sent`."""
    alice = owner_for(scheme)
    builder = SignatureBuilder(alice.der, [authority().der], scheme)
    return builder.detached(sent, sign_with(alice.key, scheme, sent if signed is None else signed))


def status_of(blob: bytes, content: bytes | None = CONTENT) -> tuple[SignerStatus, str]:
    _, (check,) = check_all(blob, content)
    return check.status, check.reason


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
def test_untouched(scheme: Scheme) -> None:
    assert status_of(sign_detached(scheme)) == (SignerStatus.VALID, "")
    assert status_of(sign_opaque(scheme), None) == (SignerStatus.VALID, "")


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
def test_content_changed(scheme: Scheme) -> None:
    mismatch = (SignerStatus.DIGEST_MISMATCH, "content-changed")
    assert status_of(sign_detached(scheme), CONTENT + b" ") == mismatch
    assert status_of(sign_opaque(scheme).replace(b"is signed", b"is forged"), None) == mismatch


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
def test_signing_time_changed(scheme: Scheme) -> None:
    blob = sign_detached(scheme).replace(b"260504120000Z", b"260504130000Z")
    assert status_of(blob) == (SignerStatus.SIGNATURE_INVALID, "signature-invalid")


@pytest.mark.parametrize("scheme", EVERY_SCHEME, ids=str)
@pytest.mark.parametrize("place", [0, 1, -1], ids=["first", "second", "last"])
def test_signature_bytes_flipped(scheme: Scheme, place: int) -> None:
    blob = bytearray(sign_detached(scheme))
    signature = parse_signed_data(BytesSource(bytes(blob))).signers[0].signature
    blob[bytes(blob).rindex(signature) + place % len(signature)] ^= 1
    assert status_of(bytes(blob)) == (SignerStatus.SIGNATURE_INVALID, "signature-invalid")


def test_digest_and_content_changed_together() -> None:
    """Who changes the content and mends the digest breaks the signature."""
    other = CONTENT.replace(b"signed", b"forged")
    blob = sign_detached(RSA).replace(digest(RSA), digest(RSA, other))
    assert status_of(blob, other) == (SignerStatus.SIGNATURE_INVALID, "signature-invalid")


def test_minimal_attributes_are_enough() -> None:
    assert status_of(signed_over(der.set_of(good_attributes()))) == (SignerStatus.VALID, "")


def test_set_sent_unsorted_signed_as_sent() -> None:
    unsorted = der.tlv(der.SET, *sorted(good_attributes(), reverse=True))
    assert status_of(signed_over(unsorted)) == (SignerStatus.VALID, "")


def test_set_sent_unsorted_signed_sorted() -> None:
    unsorted = der.tlv(der.SET, *sorted(good_attributes(), reverse=True))
    assert status_of(signed_over(unsorted, der.set_of(good_attributes()))) == (SignerStatus.VALID, "")


def _broken_attributes() -> dict[str, tuple[list[bytes], str]]:
    content_type, message_digest = good_attributes()
    good = [content_type, message_digest]
    octets = der.octet_string(digest(P256))
    other = attribute(oids.MESSAGE_DIGEST, der.octet_string(bytes(32)))
    time = der.time(SIGNED_AT)
    sha1 = der.sequence(der.octet_string(bytes(20)))
    unknown_hash = der.sequence(der.sequence(der.oid("1.2.3")), der.octet_string(bytes(20)))
    protection = der.sequence(der.sequence(SHA512), der.tlv(der.context(1), der.oid("1.2.840.10045.4.3.2")))
    return {
        "digest twice, alike": ([*good, message_digest], "message-digest-repeated"),
        "digest twice, the other one false": ([*good, other], "message-digest-repeated"),
        "digest with two values": (
            [content_type, attribute(oids.MESSAGE_DIGEST, octets, der.octet_string(bytes(32)))],
            "message-digest-repeated",
        ),
        "digest without value": ([content_type, attribute(oids.MESSAGE_DIGEST)], "message-digest-repeated"),
        "digest missing": ([content_type], "message-digest-missing"),
        "digest of another type": (
            [content_type, attribute(oids.MESSAGE_DIGEST, DATA)],
            "message-digest-malformed",
        ),
        "content type missing": ([message_digest], "content-type-missing"),
        "content type twice": ([*good, content_type], "content-type-repeated"),
        "content type contradicts": (
            [message_digest, attribute(oids.CONTENT_TYPE, der.oid(oids.SIGNED_DATA))],
            "content-type-contradicts",
        ),
        "no attributes at all": ([], "content-type-missing"),
        "signing time twice": (
            [*good, attribute(oids.SIGNING_TIME, time, der.time(datetime.now(UTC)))],
            "signing-time-repeated",
        ),
        "signing time without seconds": (
            [*good, attribute(oids.SIGNING_TIME, der.tlv(der.UTC_TIME, b"2605041200Z"))],
            "signing-time-malformed",
        ),
        "signing time off the calendar": (
            [*good, attribute(oids.SIGNING_TIME, der.tlv(der.UTC_TIME, b"260230120000Z"))],
            "signing-time-malformed",
        ),
        "counter signature among the signed": (
            [*good, attribute(oids.COUNTER_SIGNATURE, der.sequence())],
            "counter-signature-signed",
        ),
        "another certificate's hash": (
            [*good, attribute(oids.SIGNING_CERTIFICATE, der.sequence(der.sequence(sha1)))],
            "signing-certificate-contradicts",
        ),
        "a certificate hash nobody knows": (
            [*good, attribute(oids.SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(unknown_hash)))],
            "unknown-certificate-hash",
        ),
        "an empty signing certificate": (
            [*good, attribute(oids.SIGNING_CERTIFICATE_V2, der.sequence(der.sequence()))],
            "signing-certificate-malformed",
        ),
        "algorithm protection of others": (
            [*good, attribute(oids.ALGORITHM_PROTECTION, protection)],
            "algorithm-protection-contradicts",
        ),
    }


STATUS_OF_REASON = {
    "signing-certificate-contradicts": SignerStatus.CERTIFICATE_MISMATCH,
    "unknown-certificate-hash": SignerStatus.UNSUPPORTED_ALGORITHM,
}


@pytest.mark.parametrize("name", _broken_attributes().keys())
def test_attributes_that_break_a_rule(name: str) -> None:
    """All of them carry a signature that would hold."""
    attributes, reason = _broken_attributes()[name]
    status = STATUS_OF_REASON.get(reason, SignerStatus.MALFORMED)
    assert status_of(signed_over(der.set_of(attributes))) == (status, reason)


@pytest.mark.parametrize(
    ("scheme", "name", "count", "status"),
    [
        pytest.param(RSA, "sha512", -1, SignerStatus.DIGEST_MISMATCH, id="stronger-everywhere"),
        pytest.param(RSA, "sha224", -1, SignerStatus.WEAK_ALGORITHM, id="weaker-everywhere"),
        pytest.param(RSA, "", -1, SignerStatus.UNSUPPORTED_ALGORITHM, id="unknown-everywhere"),
        pytest.param(RSA, "sha512", 1, SignerStatus.MALFORMED, id="in-digestAlgorithms-alone"),
        pytest.param(P256, "sha512", -1, SignerStatus.MALFORMED, id="against-ecdsa-with-SHA256"),
        pytest.param(
            Scheme.RSA_PSS_SHA256, "sha512", 2, SignerStatus.MALFORMED, id="against-the-pss-parameters"
        ),
    ],
)
def test_digest_algorithm_substituted(scheme: Scheme, name: str, count: int, status: SignerStatus) -> None:
    other = der.oid(oids.DIGEST_OIDS.get(name, "2.16.840.1.101.3.4.2.9"))
    blob = sign_detached(scheme)
    assert SHA256 in blob
    assert status_of(blob.replace(SHA256, other, count))[0] is status


def rebuilt(
    certificates: Sequence[bytes],
    *,
    attributes: bytes | None = None,
    signature_algorithm: bytes = ECDSA,
    unsigned: bytes = b"",
) -> bytes:
    """Alice's P-256 signature over the two attributes (or these) in a SignedData written by hand."""
    alice = owner("p256")
    signed = der.set_of(good_attributes()) if attributes is None else attributes
    issuer, serial = certificate_identity(alice.der)
    info = der.sequence(
        der.integer(1),
        der.sequence(issuer, der.integer(serial)),
        der.sequence(SHA256),
        b"\xa0" + signed[1:],
        signature_algorithm,
        der.octet_string(sign_with(alice.key, P256, signed)),
        unsigned,
    )
    signed_data = der.sequence(
        der.integer(1),
        der.set_of([der.sequence(SHA256)]),
        der.sequence(DATA),
        der.tlv(der.context(0), *certificates),
        der.set_of([info]),
    )
    return der.sequence(der.oid(oids.SIGNED_DATA), der.tlv(der.context(0), signed_data))


def test_certificate_of_the_same_name_and_number() -> None:
    other, alice = owner("p256#2").der, owner("p256").der
    named = SignatureBuilder(alice, [], P256).attributes(digest(P256), SIGNED_AT)
    assert status_of(rebuilt([other], attributes=named)) == (
        SignerStatus.CERTIFICATE_MISMATCH,
        "signing-certificate-contradicts",
    )
    # Without signingCertificateV2 only the signature tells
    assert status_of(rebuilt([other])) == (SignerStatus.SIGNATURE_INVALID, "signature-invalid")
    for attributes in (named, None):
        _, (check,) = check_all(rebuilt([other, alice], attributes=attributes), CONTENT)
        assert (check.status, check.certificate) == (SignerStatus.VALID, alice)


def test_certificate_of_another_name() -> None:
    bag = [authority().der, b"\x30\x03\x02\x01\x01", owner("rsa").der]
    _, (check,) = check_all(rebuilt(bag), CONTENT)
    assert (check.status, check.certificate) == (SignerStatus.NO_CERTIFICATE, None)


def test_certificate_that_nobody_can_read() -> None:
    alice = owner("p256").der
    point = owner("p256").key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    malformed = (SignerStatus.MALFORMED, "certificate-malformed")
    assert status_of(rebuilt([alice.replace(point, point[:1] + bytes(64))])) == malformed
    future = alice.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")
    assert status_of(rebuilt([future])) == malformed


@pytest.mark.parametrize(
    ("algorithm", "status", "reason"),
    [
        pytest.param(
            der.sequence(der.oid(oids.RSA_ENCRYPTION), der.NULL),
            SignerStatus.CERTIFICATE_MISMATCH,
            "key-type-contradicts",
            id="rsa",
        ),
        pytest.param(
            der.sequence(der.oid("1.2.840.10040.4.3")),
            SignerStatus.UNSUPPORTED_ALGORITHM,
            "unknown-signature-algorithm",
            id="dsa",
        ),
        pytest.param(
            der.sequence(der.oid("1.2.840.10045.4.1")),
            SignerStatus.WEAK_ALGORITHM,
            "weak-sha1",
            id="ecdsa-sha1",
        ),
        pytest.param(
            der.sequence(der.oid(oids.RSASSA_PSS)),
            SignerStatus.WEAK_ALGORITHM,
            "weak-sha1",
            id="pss-defaults",
        ),
        pytest.param(
            der.sequence(der.oid(oids.ECDSA_OIDS["sha256"]), der.integer(1)),
            SignerStatus.UNSUPPORTED_ALGORITHM,
            "unknown-signature-algorithm",
            id="odd-parameters",
        ),
        pytest.param(
            der.sequence(der.oid(oids.ECDSA_OIDS["sha256"]), der.NULL),
            SignerStatus.VALID,
            "",
            id="null-parameters",
        ),
    ],
)
def test_signature_algorithm_substituted(algorithm: bytes, status: SignerStatus, reason: str) -> None:
    assert status_of(rebuilt([owner("p256").der], signature_algorithm=algorithm)) == (status, reason)


def test_unsigned_attributes() -> None:
    """Those that must be signed are refused there; any others change nothing."""
    alice = [owner("p256").der]
    time = attribute(oids.SIGNING_TIME, der.time(SIGNED_AT))
    counter = attribute(oids.COUNTER_SIGNATURE, der.sequence())
    assert status_of(rebuilt(alice, unsigned=der.tlv(der.context(1), time))) == (
        SignerStatus.MALFORMED,
        "signing-time-unsigned",
    )
    assert status_of(rebuilt(alice, unsigned=der.tlv(der.context(1), counter))) == (SignerStatus.VALID, "")


def test_every_truncation_is_refused() -> None:
    blob = sign_opaque(P256)
    for size in range(len(blob)):
        with pytest.raises(CmsSyntaxError):
            parse_signed_data(BytesSource(blob[:size]))


@pytest.mark.parametrize("garbage", [b"\0", b"\0\0", b"\r\n", b"\x30\x00"], ids=repr)
def test_trailing_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(CmsSyntaxError) as error:
        parse_signed_data(BytesSource(sign_detached(P256) + garbage))
    assert error.value.reason == "trailing-bytes"
