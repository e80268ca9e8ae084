"""OCSP answers, judged by our own verifier's side, and hostile requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mailsigil.ca.published import PublishedApplication
from mailsigil.ca.web import Request
from mailsigil.keys.authority import Authority
from mailsigil.keys.ocsp_responder import OcspResponder
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.register import Reason
from mailsigil.pki.policies import Level

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module", params=["p256", "p384", "rsa2048", "ed25519"])
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("ca") / "ca"
    return Authority.init(folder, organisation="Example Bank", key=KeyKind(request.param), now=NOW)


def responder(authority: Authority) -> OcspResponder:
    return OcspResponder(authority.issuers, authority.register, now=lambda: NOW, keep=timedelta(hours=12))


def leaf(authority: Authority) -> x509.Certificate:
    subject = Subject(level=Level.V1, address="alice@bank.example")
    return authority.certify(subject, key=KeyKind.P256.generate().public_key(), now=NOW)


def asked(
    certificate: x509.Certificate, issuer: x509.Certificate, *, nonce: bytes = b"", sha256: bool = False
) -> bytes:
    digest = hashes.SHA256() if sha256 else hashes.SHA1()
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, digest)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("sha256", [False, True], ids=["sha1", "sha256"])
def test_good_revoked_unknown(authority: Authority, sha256: bool) -> None:
    good, bad = leaf(authority), leaf(authority)
    authority.revoke(bad.serial_number, reason=Reason.AFFILIATION_CHANGED, now=NOW)
    elsewhere = Authority.load(authority.directory)  # Reads the register anew.
    answers = {}
    for name, certificate in (("good", good), ("bad", bad)):
        request = asked(certificate, authority.issuing, nonce=b"n" * 16, sha256=sha256)
        answers[name] = ocsp.load_der_ocsp_response(responder(elsewhere).answer(request))
        nonce = answers[name].extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        assert nonce == b"n" * 16
        assert answers[name].next_update_utc == NOW + timedelta(hours=12)
    assert answers["good"].certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answers["bad"].certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answers["bad"].revocation_reason is x509.ReasonFlags.affiliation_changed
    assert answers["bad"].revocation_time_utc == NOW
    # A certificate that somebody else wrote, under our issuer's name, is not known.
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        *_hashes(asked(good, authority.issuing)), 4711, hashes.SHA1()
    )
    found = ocsp.load_der_ocsp_response(
        responder(elsewhere).answer(builder.build().public_bytes(Encoding.DER))
    )
    assert found.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


def _hashes(request: bytes) -> tuple[bytes, bytes]:
    parsed = ocsp.load_der_ocsp_request(request)
    return parsed.issuer_name_hash, parsed.issuer_key_hash


def test_the_issuing_authority_is_answered_for_by_the_root(authority: Authority) -> None:
    request = asked(authority.issuing, authority.root)
    answer = ocsp.load_der_ocsp_response(responder(authority).answer(request))
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answer.certificates == [authority.root]


def test_another_issuer_is_none_of_ours(authority: Authority, tmp_path: Path) -> None:
    other = Authority.init(tmp_path / "other", organisation="Other", now=NOW)
    answer = ocsp.load_der_ocsp_response(responder(authority).answer(asked(leaf(other), other.issuing)))
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_a_nonce_out_of_bounds(authority: Authority) -> None:
    request = asked(leaf(authority), authority.issuing, nonce=b"n" * 129)
    answer = ocsp.load_der_ocsp_response(responder(authority).answer(request))
    assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200), at=st.integers(0, 120), mixed=st.booleans())
@example(junk=b"\0", at=19, mixed=True).via("a question that is no DER went into the answer")
def test_hostile_requests(authority: Authority, junk: bytes, at: int, mixed: bool) -> None:
    sample = asked(authority.issuing, authority.root, nonce=b"n" * 8)
    request = sample[:at] + junk + sample[at + len(junk) :] if mixed else junk
    ocsp.load_der_ocsp_response(responder(authority).answer(request))


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/issuing.cer", 200, "application/pkix-cert"),
        ("GET", "/root.cer", 200, "application/pkix-cert"),
        ("GET", "/issuing.crl", 200, "application/pkix-crl"),
        ("GET", "/issuing.key", 404, "text/plain; charset=utf-8"),
        ("GET", "/../issuing.key", 404, "text/plain; charset=utf-8"),
        ("GET", "/ocsp/!!!", 200, "application/ocsp-response"),
        ("GET", "/ocsp/" + "A" * 9000, 200, "application/ocsp-response"),
        ("POST", "/ocsp", 200, "application/ocsp-response"),
        ("POST", "/issuing.crl", 404, "text/plain; charset=utf-8"),
    ],
)
def test_what_is_published(authority: Authority, method: str, path: str, status: int, kind: str) -> None:
    authority.write_crls(now=NOW)
    application = PublishedApplication(authority, responder(authority))
    response = application(Request(method=method, path=path, headers={}, body=b"", peer="192.0.2.1"))
    assert (response.status, response.content_type) == (HTTPStatus(status), kind)
