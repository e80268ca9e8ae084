"""EST as values: requests in, responses out, without a socket."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.ca.approvals import Approvals
from mailsigil.ca.est import PREFIX, EstApplication
from mailsigil.ca.logins import Logins
from mailsigil.ca.passwords import Passwords
from mailsigil.ca.requests import BadRequest, read_request
from mailsigil.ca.web import Request, Response
from mailsigil.keys.authority import Authority
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.policies import Level
from spare_keys import rsa_key

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ALICE = "alice@bank.example"
SECRET = b"correct-horse-battery"
SETTINGS = """
[[enrol]]
user = "keyd"
addresses = ["*@bank.example"]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    folder.chmod(0o700)
    (folder / "ca.toml").write_text(SETTINGS)
    Authority.init(folder, organisation="Example Bank", now=NOW)
    Passwords(folder / "passwords").set("keyd", SECRET)
    return folder


class Est:
    def __init__(self, house: Path, now: datetime = NOW) -> None:
        self.authority = Authority.load(house)
        logins = Logins(Passwords(house / "passwords"), most_failures=100)
        approvals = Approvals(house, now=lambda: now)
        self._application = EstApplication(self.authority, logins, approvals, now=lambda: now)

    def __call__(
        self,
        operation: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        login: str = "keyd",
        kind: str = "application/pkcs10",
        certificate: x509.Certificate | None = None,
    ) -> Response:
        headers = {"content-type": kind}
        if login:
            headers["authorization"] = "Basic " + base64.b64encode(login.encode() + b":" + SECRET).decode()
        return self._application(
            Request(
                method=method,
                path=f"{PREFIX}/{operation}",
                headers=headers,
                body=body,
                peer="192.0.2.1",
                certificate=certificate,
            )
        )


def csr(address: str = ALICE) -> bytes:
    return base64.b64encode(NewKey.generate(SubjectRequest(address=address), KeyKind.P256).csr)


def certificates(response: Response) -> list[x509.Certificate]:
    assert response.status is HTTPStatus.OK, response.body
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(response.body))


def test_cacerts_needs_no_login(house: Path) -> None:
    est = Est(house)
    found = certificates(est("cacerts", method="GET", login=""))
    assert set(found) == {est.authority.issuing, est.authority.root}


def test_enrols(house: Path) -> None:
    (found,) = certificates(Est(house)("simpleenroll", csr()))
    assert found.subject.rfc4514_string() == f"CN={ALICE}"


@pytest.mark.parametrize(
    ("operation", "how", "status"),
    [
        ("simpleenroll", {"login": ""}, 401),
        ("simpleenroll", {"login": "nobody"}, 401),
        ("simpleenroll", {"body": b"junk"}, 400),
        ("simpleenroll", {"body": b""}, 400),
        ("simpleenroll", {"kind": "text/plain"}, 415),
        ("simpleenroll", {"method": "GET"}, 405),
        ("cacerts", {"method": "POST"}, 405),
        ("V9/simpleenroll", {}, 404),
        ("V4/simpleenroll", {}, 403),
        ("fullcmc", {}, 404),
        ("", {}, 404),
        ("../../etc/passwd", {}, 404),
        ("serverkeygen", {}, 501),
        ("simpleenroll", {"body": csr("eve@elsewhere.example")}, 403),
    ],
)
def test_refuses(house: Path, operation: str, how: dict[str, object], status: int) -> None:
    response = Est(house)(operation, **{"body": csr(), **how})  # type: ignore[arg-type]
    assert response.status == status
    assert response.body.endswith(b".\n")
    assert ("WWW-Authenticate" in response.headers) is (status == 401)


def test_a_certificate_renews_itself_while_it_is_valid(house: Path) -> None:
    (first,) = certificates(Est(house)("simpleenroll", csr()))
    (second,) = certificates(Est(house)("simplereenroll", csr(), login="", certificate=first))
    assert second.subject == first.subject
    late = Est(house, NOW + timedelta(days=400))("simplereenroll", csr(), login="", certificate=first)
    assert (late.status, b"expired" in late.body) == (HTTPStatus.FORBIDDEN, True)
    other = Est(house)("simplereenroll", csr("bob@bank.example"), login="", certificate=first)
    assert other.status is HTTPStatus.FORBIDDEN
    est = Est(house)
    est.authority.revoke(first.serial_number, now=NOW)
    revoked = est("simplereenroll", csr(), login="", certificate=first)
    assert (revoked.status, b"revoked" in revoked.body) == (HTTPStatus.FORBIDDEN, True)


def test_another_authority_with_our_name_renews_nothing(house: Path, tmp_path: Path) -> None:
    twin = Authority.init(tmp_path / "twin", organisation="Example Bank", now=NOW)
    (first,) = certificates(Est(house)("simpleenroll", csr()))
    key = ec.generate_private_key(ec.SECP256R1())
    forged = twin.certify(
        Subject(level=Level.V1, address=ALICE),
        key=key.public_key(),
        now=NOW,
        serial=lambda: first.serial_number,
    )
    assert Est(house)("simplereenroll", csr(), login="", certificate=forged).status == 403


def test_a_tampered_request_shows_no_key() -> None:
    der = bytearray(base64.b64decode(csr()))
    der[-1] ^= 1
    with pytest.raises(BadRequest):
        read_request(bytes(der))


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (rsa_key(1024), "2048"),
        (ec.generate_private_key(ec.SECP256K1()), "curve"),
    ],
    ids=["rsa 1024", "secp256k1"],
)
def test_unfit_keys(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, sentence: str) -> None:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(BadRequest, match=sentence):
        read_request(made.public_bytes(Encoding.DER))


@pytest.mark.parametrize("form", ["der", "base64", "lines", "pem"])
def test_forms_of_a_request(form: str) -> None:
    der = base64.b64decode(csr())
    text = base64.encodebytes(der)
    armour = b"-----BEGIN CERTIFICATE REQUEST-----\n" + text + b"-----END CERTIFICATE REQUEST-----\n"
    body = {"der": der, "base64": csr_text(der), "lines": text.replace(b"\n", b"\r\n"), "pem": armour}[form]
    assert read_request(body).wish.addresses == (ALICE,)


def csr_text(der: bytes) -> bytes:
    return base64.b64encode(der)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 400), st.booleans())
def test_hostile_requests_end_in_a_refusal(junk: bytes, at: int, mixed: bool) -> None:
    der = base64.b64decode(_SAMPLE)
    body = der[:at] + junk + der[at + len(junk) :] if mixed else junk
    try:
        read_request(body)
    except BadRequest:
        return
    assert read_request(body).csr.is_signature_valid


_SAMPLE = csr()
