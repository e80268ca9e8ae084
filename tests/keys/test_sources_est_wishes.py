"""What an EST server wants in requests (csrattrs): read with care, and heeded."""

from __future__ import annotations

import base64
import contextlib
import logging
from pathlib import Path

import pytest
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.employees import ALICE
from mailsigil.ca.requests import CertificationRequest
from mailsigil.ca.web import Response
from mailsigil.config.sources import EnrolmentSettings, EstSource, SourceSettings
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.sources.build import build_source
from mailsigil.keys.sources.est_wishes import NONE, Wishes, read_wishes
from servers.lying_est import LyingEst, answer, bag, issued

# RFC 7030 4.5.2, the example there: a challengePassword, P-384, an extension, and ecdsa-with-SHA384.
EXAMPLE = base64.b64decode(
    "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
)
RSA, EC, ED25519 = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112"


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def oid(text: str) -> bytes:
    return bytes(core.ObjectIdentifier(text).dump())


def attribute(kind: str, *values: bytes) -> bytes:
    return _der(0x30, oid(kind), _der(0x31, *values))


def number(value: int) -> bytes:
    return bytes(core.Integer(value).dump())


@pytest.mark.parametrize(
    ("der", "wishes"),
    [
        (b"", NONE),
        (_der(0x30), NONE),
        (EXAMPLE, Wishes((KeyKind.P384,), password=True)),
        (_der(0x30, oid("1.2.840.113549.1.9.7")), Wishes(password=True)),
        (_der(0x30, attribute(RSA, number(3072))), Wishes((KeyKind.RSA3072,))),
        (_der(0x30, attribute(RSA)), Wishes((KeyKind.RSA2048, KeyKind.RSA3072, KeyKind.RSA4096))),
        (_der(0x30, oid(RSA)), Wishes((KeyKind.RSA2048, KeyKind.RSA3072, KeyKind.RSA4096))),
        (_der(0x30, oid(ED25519)), Wishes((KeyKind.ED25519,))),
        (
            _der(0x30, attribute(EC, oid("1.2.840.10045.3.1.7")), attribute(RSA, number(2048))),
            Wishes((KeyKind.P256, KeyKind.RSA2048)),
        ),
        # One that is not made here, beside one that is.
        (_der(0x30, attribute(RSA, number(1024)), oid(ED25519)), Wishes((KeyKind.ED25519,))),
        (_der(0x30, attribute("1.2.3.4", number(5))), NONE),
    ],
    ids=[
        "nothing",
        "empty",
        "example-of-the-rfc",
        "password",
        "size",
        "rsa-of-any-size",
        "rsa-as-identifier",
        "ed25519",
        "either",
        "too-weak-or-ed25519",
        "unknown",
    ],
)
def test_wishes_are_read(der: bytes, wishes: Wishes) -> None:
    assert read_wishes("ca", der) == wishes


@pytest.mark.parametrize(
    ("der", "error", "words"),
    [
        (b"\x30\x05\x06", SourceAnswer, "csrattrs cannot be read"),
        (b"<html>", SourceAnswer, "csrattrs cannot be read"),
        (b"\x30\x82\x50\x00" + bytes(0x5000), SourceAnswer, "csrattrs cannot be read"),
        (_der(0x30, attribute(EC, oid("1.3.36.3.3.2.8.1.1.7"))), SourceRefused, "not made here"),
        (_der(0x30, attribute(RSA, number(1024))), SourceRefused, "not made here"),
    ],
    ids=["cut-off", "html", "too-long", "brainpool", "too-weak"],
)
def test_what_cannot_be_heeded_is_told(der: bytes, error: type[SourceError], words: str) -> None:
    with pytest.raises(error, match=words):
        read_wishes("ca", der)


@settings(max_examples=150)
@given(
    st.binary(max_size=120)
    | st.integers(0, len(EXAMPLE) - 1).map(lambda at: EXAMPLE[:at] + b"\x9c" + EXAMPLE[at + 1 :])
)
def test_hostile_wishes_end_in_an_error_of_ours(der: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert isinstance(read_wishes("ca", der), Wishes)


def _enrol(home: Path, wishes: bytes, kind: str) -> CertificationRequest:
    asked: list[CertificationRequest] = []

    def issue(request: CertificationRequest) -> Response:
        asked.append(request)
        return answer(bag(issued(request)))

    with LyingEst(home, issue, wishes=wishes) as server:
        source = SourceSettings(
            name="ca",
            kind="est",
            domains=("bank.example",),
            timeout=20,
            est=EstSource(url=server.url, ca_file=str(server.ca_file)),
            enrolment=EnrolmentSettings(state=str(home / "state"), key=kind),
        )
        (key,) = build_source(source).source.find(ALICE)
        assert key.addresses == {ALICE}
    return asked[0]


@pytest.mark.parametrize(
    ("wishes", "configured", "curve"),
    [
        (b"", "p256", "secp256r1"),
        (EXAMPLE, "p256", "secp384r1"),
        (_der(0x30, attribute(RSA, number(2048)), oid(EC)), "p384", "secp384r1"),
    ],
    ids=["no-wish", "another-curve", "ours-will-do"],
)
def test_the_key_is_of_the_kind_that_the_server_wants(
    tmp_path: Path, wishes: bytes, configured: str, curve: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        request = _enrol(tmp_path, wishes, configured)
    assert request.csr.public_key().curve.name == curve  # type: ignore[union-attr]
    assert ("wants keys of the kind p384, and p256 is configured" in caplog.text) == (wishes == EXAMPLE)
    passwords = [each for each in request.csr.attributes if each.oid.dotted_string.endswith("9.7")]
    assert len(passwords) == (wishes == EXAMPLE)
    if passwords:
        # tls-unique of TLS 1.2: 12 octets of a Finished message (RFC 5929 3), in base64.
        assert len(base64.b64decode(passwords[0].value, validate=True)) == 12
