"""Services that answer wrongly: each ends in an error that names the source and the mend."""

from __future__ import annotations

import base64
import datetime as dt
import time
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from keys.employees import ALICE, ISSUING, NOW, ROOT, certificate, employee, new_key
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.bao_client import BaoClient, TokenLogin
from mailsigil.keys.sources.est import EstAuthority
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.sources.openbao import BaoStore
from mailsigil.keys.subject import SubjectRequest
from servers.liar import Liar, Reply, http

REQUEST = SubjectRequest(address=ALICE)
NEW = NewKey.generate(REQUEST, KeyKind.P256)


def bag(*certificates: x509.Certificate) -> bytes:
    """A certs-only PKCS#7 in base64, as EST has it."""
    return base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))


def leaf(**profile: object) -> x509.Certificate:
    return certificate(NEW.private_key(), **profile)  # type: ignore[arg-type]


def est(url: str, timeout: float = 5) -> EstAuthority:
    tls = TlsFiles()
    http_client = HttpClient("est of the bank", url, tls=tls, timeout=timeout)
    return EstAuthority(http_client, tls=tls, login=None, kind=KeyKind.P256, now=lambda: NOW)


def answering(body: bytes, **how: object) -> Reply:
    """Tells the truth about the authority's certificates, and ``body`` to all else."""

    def reply(line: bytes) -> bytes:
        return http(bag(ISSUING, ROOT)) if b"cacerts" in line else http(body, **how)  # type: ignore[arg-type]

    return reply


def test_an_honest_answer_is_taken() -> None:
    with Liar(answering(bag(leaf()))) as server:
        chain = est(server.url).enrol(REQUEST, NEW)
    assert [x509.load_der_x509_certificate(each) for each in chain] == [leaf_of(chain), ISSUING]


def leaf_of(chain: tuple[bytes, ...]) -> x509.Certificate:
    return x509.load_der_x509_certificate(chain[0])


EMPTY_BAG = cms.ContentInfo(
    {
        "content_type": "signed_data",
        "content": {
            "version": "v1",
            "digest_algorithms": [],
            "encap_content_info": {"content_type": "data"},
            "signer_infos": [],
        },
    }
).dump()
TLS_ONLY = (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bag(certificate(new_key())), "for another key"),
        (bag(leaf(addresses=("eve@bank.example",))), "another person's: it names eve@bank.example"),
        (bag(leaf(addresses=())), "names no mail address"),
        (bag(leaf(days=20)), "expired on 2026-05-22"),
        (bag(leaf(begin=NOW + dt.timedelta(days=1))), "not valid before 2026-06-02"),
        (bag(leaf(purposes=TLS_ONLY)), "lacks emailProtection"),
        (bag(leaf(purposes=())), "without emailProtection"),
        (bag(leaf(may_sign=False)), "key usage does not allow signatures"),
        (bag(leaf(ca=True)), "an authority's"),
        (bag(leaf())[:-90], "cut off"),
        (base64.b64encode(base64.b64decode(bag(leaf()))[:-50]), "cut off or damaged"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "HTML instead of a certificate"),
        (b'{"error": "no"}', "JSON instead of a certificate"),
        (b"", "the answer is empty"),
        (EMPTY_BAG, "holds no certificate"),
        (b"\x30\x03\x02\x01\x05", "no certificate and no complete PKCS#7"),
        (bytes(range(256)), "no certificate and no complete PKCS#7"),
        (b"A" * 300_000, "larger than 262144 octets"),
    ],
    ids=[
        "another-key", "another-person", "no-address", "expired", "not-yet", "tls-only", "no-purpose",
        "no-signing", "authority", "cut-base64", "cut-pkcs7", "html", "json", "nothing", "empty-bag",
        "other-asn1", "noise", "huge",
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused_with_its_reason(body: bytes, words: str) -> None:
    with Liar(answering(body)) as server, pytest.raises(SourceAnswer, match=words) as caught:
        est(server.url).enrol(REQUEST, NEW)
    assert str(caught.value).startswith('source "est of the bank": ')
    assert caught.value.mend


def test_a_weak_key_is_refused() -> None:
    weak = NewKey(REQUEST, new_key("rsa1024"))  # type: ignore[arg-type]
    answer = bag(certificate(weak.private_key()))
    with Liar(answering(answer)) as server, pytest.raises(SourceAnswer, match="1024 bits, which is too weak"):
        est(server.url).enrol(REQUEST, weak)


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (lambda _: None, SourceUnavailable, "does not answer in time"),
        (lambda _: b"", SourceUnavailable, "breaks off"),
        (lambda _: b"220 mail.example ESMTP\r\n", SourceUnavailable, "another language than HTTP"),
        (lambda _: http(b"abc", length=500), SourceUnavailable, "cut off: it is shorter"),
        (lambda _: http(b"", status="503 Busy"), SourceUnavailable, "answers 503"),
        (lambda _: http(b"", status="302 Found"), SourceUnavailable, "answers 302"),
        (
            lambda _: http(b"no such label", status="404 No", kind="text/plain"),
            SourceRefused,
            "no such label",
        ),
        (lambda _: http(b"<b>x</b>", status="404 No", kind="text/html"), SourceRefused, "no reason is given"),
        (lambda _: http(b"", status="401 Who"), SourceRefused, "refuses the login"),
    ],
    ids=["silence", "hangs-up", "smtp", "short", "503", "redirect", "404", "404-html", "401"],
)
def test_trouble_on_the_way_is_named(reply: Reply, error: type[SourceError], words: str) -> None:
    with Liar(reply) as server, pytest.raises(error, match=words):
        est(server.url, timeout=0.5).enrol(REQUEST, NEW)


def test_a_body_that_drips_has_an_end() -> None:
    begin = time.monotonic()
    with (
        Liar(answering(bag(leaf())), drip=0.01) as server,
        pytest.raises(SourceUnavailable, match="too slowly"),
    ):
        est(server.url, timeout=0.5).cacerts()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>log in</html>", "HTML instead of JSON"),
        (b'{"data": {"data": ', "cut off, or no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"other": 1}', 'has no "data"'),
        (b'{"data": {"data": {"certificate": "x"}}}', 'has no "private_key"'),
        (b'{"data": {"data": {"private_key": "MIGH", "certificate": "x"}}}', "private key cannot be read"),
        (b"[" * 100_000, "no JSON"),
    ],
    ids=["html", "cut", "list", "no-data", "no-key", "bad-key", "deep"],
)
def test_a_store_that_answers_wrongly(body: bytes, words: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)

    def reply(line: bytes) -> bytes:
        told = b'{"data": {"ttl": 0}}' if b"lookup-self" in line else body
        return http(told, kind="application/json")

    with Liar(reply) as server:
        client = BaoClient(
            HttpClient("bao", server.url, tls=TlsFiles(), timeout=5),
            TokenLogin(SecretFile("bao", str(token))),
        )
        store = BaoStore(client, mount="", path="{local}", now=lambda: NOW)
        with pytest.raises(SourceAnswer, match=words):
            store.lookup(ALICE)


def test_errors_quote_no_secret() -> None:
    who = employee()
    body = who.key_pem() + b"-----BEGIN CERTIFICATE-----\nMIIB"
    with Liar(answering(body)) as server, pytest.raises(SourceError) as caught:
        est(server.url).enrol(REQUEST, NEW)
    assert "MIG" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_what_must_not_be_done_twice_is_sent_once() -> None:
    """A server that breaks off after the request may have issued: the request does not go out again."""

    def breaking(line: bytes) -> bytes:
        return http(bag(ISSUING, ROOT)) if b"cacerts" in line else b""

    with Liar(breaking) as server:
        with pytest.raises(SourceUnavailable, match="breaks off"):
            est(server.url).enrol(REQUEST, NEW)
        assert server.requests == 1


def test_what_may_be_done_twice_is_tried_again_on_a_new_connection() -> None:
    answers = iter([b"", http(bag(ROOT))])
    with Liar(lambda _: next(answers)) as server:
        assert est(server.url).cacerts() == (ROOT,)
        assert server.requests == 2


def test_a_missing_file_of_tls_is_the_trouble_of_who_asks(tmp_path: Path) -> None:
    tls = TlsFiles(ca_file=str(tmp_path / "none.pem"))
    asked = EstAuthority(
        HttpClient("est", "https://127.0.0.1:9", tls=tls, timeout=1),
        tls=tls,
        login=None,
        kind=KeyKind.P256,
        now=lambda: NOW,
    )
    with pytest.raises(SourceRefused, match=r"none.pem.*Correct the path"):
        asked.cacerts()
