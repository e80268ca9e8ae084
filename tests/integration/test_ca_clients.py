"""``mailsigil ca serve`` with the clients of others: curl, OpenSSL, strongSwan's pki, libest's estclient."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from mailsigil.keys.register import Reason
from mailsigil.pki.level import asserted_levels
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.policies import Level
from mailsigil.service import utc_now
from servers import libest
from servers.ca_serve import PASSWORD, CaServe, why_not

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(why_not("openssl", "curl") != "", reason=why_not("openssl", "curl")),
]
ALICE, BOB = "alice@bank.example", "bob@bank.example"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaServe]:
    with CaServe(tmp_path_factory.mktemp("house")) as server:
        yield server


def run(*arguments: str | Path, ok: bool = True, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(each) for each in arguments],
        capture_output=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    assert (done.returncode == 0) is ok, said
    return said


class Curl:
    """curl, with OpenSSL for keys and requests: a client made of a shell."""

    def __init__(self, ca: CaServe, home: Path) -> None:
        self.ca = ca
        self.home = home

    def request(self, name: str, address: str, subject: str = "", *, key: str = "") -> Path:
        extra = ["-key", self.home / key] if key else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        made = self.home / f"{name}.csr"
        if not key:
            extra += ["-nodes", "-keyout", self.home / f"{name}.key"]
        run(
            *("openssl", "req", "-new", *extra, "-subj", subject or f"/CN={address}", "-outform", "DER"),
            *("-addext", f"subjectAltName=email:{address}", "-out", made),
        )
        (self.home / f"{name}.b64").write_bytes(base64.encodebytes(made.read_bytes()))
        return self.home / f"{name}.b64"

    def post(self, operation: str, body: Path, *login: str | Path) -> tuple[int, bytes]:
        answer = self.home / "answer"
        status = run(
            *("curl", "-sS", "--cacert", self.ca.root, *login, "-H", "Content-Type: application/pkcs10"),
            *("--data-binary", f"@{body}", "-o", answer, "-w", "%{http_code}", f"{self.ca.url}/{operation}"),
        )
        return int(status), answer.read_bytes()

    def enrol(self, name: str, operation: str, body: Path, *login: str | Path) -> x509.Certificate:
        status, answer = self.post(operation, body, *login)
        assert status == 200, answer
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        run(
            *("openssl", "x509", "-in", self._write(f"{name}.der", answer), "-inform", "DER"),
            *("-out", self.home / f"{name}.pem"),
        )
        return certificate

    def _write(self, name: str, answer: bytes) -> Path:
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        (self.home / name).write_bytes(certificate.public_bytes(Encoding.DER))
        return self.home / name


@pytest.fixture
def curl(ca: CaServe, tmp_path: Path) -> Curl:
    return Curl(ca, tmp_path)


def test_curl_enrols_signs_renews_and_is_revoked(ca: CaServe, curl: Curl) -> None:
    home = curl.home
    first = curl.enrol("a", "simpleenroll", curl.request("a", ALICE), "-u", f"alice:{PASSWORD}")
    names = CertificateNames.from_certificate(first)
    assert (names.full_name, names.organisation, names.title) == (
        "Alice Example",
        "Example Bank",
        "Account Manager",
    )
    assert [each.level for each in asserted_levels(first)] == [Level.V4]
    # OpenSSL believes a mail that was signed with it.
    (home / "mail").write_text("Content-Type: text/plain\n\nhello\n")
    signing = ("-signer", home / "a.pem", "-inkey", home / "a.key", "-certfile", ca.issuing)
    run("openssl", "cms", "-sign", "-in", home / "mail", *signing, "-out", home / "signed")
    verify = (
        "openssl",
        "cms",
        "-verify",
        "-CAfile",
        ca.root,
        "-purpose",
        "smimesign",
        "-in",
        home / "signed",
    )
    assert "hello" in run(*verify)
    # Renewed by its own certificate, with another key; the old names, in an order of its own.
    subject = "/CN=Alice Example/GN=Alice/SN=Example/title=Account Manager/O=Example Bank"
    holder = ("--cert", home / "a.pem", "--key", home / "a.key")
    second = curl.enrol("b", "simplereenroll", curl.request("b", ALICE, subject), *holder)
    assert second.subject == first.subject
    assert second.serial_number != first.serial_number
    # Good, then revoked, in the list and by OCSP; and renewed no more.
    assert "a.pem: good" in ocsp(ca, home / "a.pem")
    ca.authority.revoke(first.serial_number, reason=Reason.KEY_COMPROMISE, now=utc_now())
    assert "Reason: keyCompromise" in ocsp(ca, home / "a.pem")
    status, answer = curl.post("simplereenroll", home / "b.b64", *holder)
    assert (status, b"revoked" in answer) == (403, True)
    assert "certificate revoked" in crl_check(ca, home / "a.pem", home, ok=False)
    crl_check(ca, home / "b.pem", home)
    assert "b.pem: good" in ocsp(ca, home / "b.pem", "-sha256")


def ocsp(ca: CaServe, certificate: Path, *more: str) -> str:
    said = run(
        *("openssl", "ocsp", "-issuer", ca.issuing, *more, "-cert", certificate),
        *("-url", f"{ca.lookups}/ocsp", "-CAfile", ca.root),
    )
    assert "Response verify OK" in said
    # OpenSSL warns where the nonce does not come back.
    assert "no nonce" not in said
    return said


def crl_check(ca: CaServe, certificate: Path, home: Path, *, ok: bool = True) -> str:
    for name in ("issuing", "root"):
        run("curl", "-sS", "-o", home / f"{name}.crl", f"{ca.lookups}/{name}.crl")
        text = run("openssl", "crl", "-in", home / f"{name}.crl", "-inform", "DER", "-text", "-noout")
        assert "X509v3 CRL Number" in text
        run(
            *("openssl", "crl", "-inform", "DER", "-in", home / f"{name}.crl"),
            *("-out", home / f"{name}.crl.pem"),
        )
    lists = ("-crl_check_all", "-CRLfile", home / "issuing.crl.pem", "-CRLfile", home / "root.crl.pem")
    chain = ("-CAfile", ca.root, "-untrusted", ca.issuing)
    return run("openssl", "verify", *lists, *chain, "-purpose", "smimesign", certificate, ok=ok)


def test_ocsp_by_get_and_for_a_stranger(ca: CaServe, curl: Curl) -> None:
    home = curl.home
    curl.enrol("a", "simpleenroll", curl.request("a", BOB), "-u", f"keyd:{PASSWORD}")
    ask = ("openssl", "ocsp", "-issuer", ca.issuing)
    run(*ask, "-cert", home / "a.pem", "-serial", "0x1234", "-reqout", home / "req")
    text = base64.b64encode((home / "req").read_bytes()).decode().replace("+", "%2B").replace("=", "%3D")
    run("curl", "-sS", "-o", home / "resp", f"{ca.lookups}/ocsp/{text}")
    said = run(
        *(*ask, "-respin", home / "resp", "-no_nonce", "-CAfile", ca.root),
        *("-cert", home / "a.pem", "-serial", "0x1234"),
    )
    assert "a.pem: good" in said
    assert "0x1234: unknown" in said


@pytest.mark.parametrize(
    ("user", "password", "address", "status"),
    [
        pytest.param("alice", "wrong-password", ALICE, 401, id="wrong password"),
        pytest.param("nobody", PASSWORD, ALICE, 401, id="unknown user"),
        pytest.param("alice", PASSWORD, BOB, 403, id="another's address"),
        pytest.param("keyd", PASSWORD, "eve@elsewhere.example", 403, id="another domain"),
    ],
)
def test_curl_is_refused(curl: Curl, user: str, password: str, address: str, status: int) -> None:
    found, answer = curl.post("simpleenroll", curl.request("a", address), "-u", f"{user}:{password}")
    assert found == status
    assert answer.endswith(b".\n")


def test_a_certificate_renews_nobody_else(ca: CaServe, curl: Curl) -> None:
    home = curl.home
    curl.enrol("a", "simpleenroll", curl.request("a", ALICE), "-u", f"alice:{PASSWORD}")
    holder = ("--cert", home / "a.pem", "--key", home / "a.key")
    for operation in ("simplereenroll", "simpleenroll", "serverkeygen"):
        assert curl.post(operation, curl.request("b", BOB), *holder)[0] == 403
    # One that somebody else issued is none at all.
    run(
        *("openssl", "req", "-x509", "-key", home / "a.key", "-subj", "/CN=x", "-out", home / "own.pem"),
        *("-addext", f"subjectAltName=email:{ALICE}"),
    )
    stranger = ("--cert", home / "own.pem", "--key", home / "a.key")
    status, answer = curl.post("simplereenroll", home / "a.b64", *stranger)
    assert (status, b"not issued by this authority" in answer) == (403, True)


def test_curl_gets_a_key_made(curl: Curl) -> None:
    status, answer = curl.post("serverkeygen", curl.request("a", ALICE), "-u", f"alice:{PASSWORD}")
    assert status == 200
    parts = [part.split(b"\r\n\r\n")[1] for part in answer.split(b"--mailsigil-")[1:3]]
    pem = b"-----BEGIN PRIVATE KEY-----\n" + parts[0].strip() + b"\n-----END PRIVATE KEY-----\n"
    key = load_pem_private_key(pem, None)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(parts[1]))
    assert key.public_key() == certificate.public_key()


@pytest.mark.skipif(why_not("pki") != "", reason="strongswan-pki is not installed")
def test_strongswan(ca: CaServe, tmp_path: Path) -> None:
    def pki(*arguments: str | Path) -> bytes:
        done = subprocess.run(["pki", *map(str, arguments)], capture_output=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    url = f"https://localhost:{ca.est_port}"
    trust = ("--cacert", ca.root, "--cacert", ca.issuing)
    pki("--estca", "--url", url, "--cacert", ca.root, "--caout", "got", "--outform", "pem")
    assert (tmp_path / "got-1.pem").read_bytes().split() == ca.issuing.read_bytes().split()
    for name in ("old", "new"):
        (tmp_path / f"{name}.key").write_bytes(
            pki("--gen", "--type", "rsa", "--size", "2048", "--outform", "pem")
        )
        named = ("--dn", f"CN={BOB}", "--san", BOB)
        (tmp_path / f"{name}.csr").write_bytes(pki("--req", "--type", "rsa", "--in", f"{name}.key", *named))
    login = ("--userpass", f"keyd:{PASSWORD}")
    old = pki("--est", "--url", url, *trust, "--in", "old.csr", *login, "--outform", "pem")
    (tmp_path / "old.pem").write_bytes(old)
    holder = ("--cert", "old.pem", "--key", "old.key")
    new = pki("--est", "--url", url, *trust, "--in", "new.csr", *holder, "--outform", "pem")
    first, second = (x509.load_pem_x509_certificate(each) for each in (old, new))
    assert first.subject == second.subject
    assert first.public_key() != second.public_key()


@pytest.mark.skipif(libest.folder() is None, reason=libest.MISSING)
def test_libest(ca: CaServe, tmp_path: Path) -> None:
    base = libest.folder()
    assert base is not None
    env = {"LD_LIBRARY_PATH": f"{base}/usr/lib/x86_64-linux-gnu", "EST_OPENSSL_CACERT": str(ca.root)}
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "key")

    def client(*arguments: str | Path) -> None:
        where = ("-s", "localhost", "-p", str(ca.est_port), "-o", tmp_path)
        said = run(base / "usr/bin/estclient", *where, *arguments, env=env)
        assert "ERROR" not in said
        assert "ailed" not in said

    client("-g")
    assert (tmp_path / "cacert-0-0.pkcs7").stat().st_size > 500
    client("-a")
    assert (tmp_path / "csr-0-0.base64").read_bytes().startswith(b"MBQw")
    login = ("-u", "alice", "-h", PASSWORD, "--common-name", ALICE)
    client("-e", *login, "-x", tmp_path / "key", "--pem-output")
    first = x509.load_pem_x509_certificate((tmp_path / "cert-0-0.pem").read_bytes())
    assert CertificateNames.from_certificate(first).addresses == (ALICE,)
    shutil.move(tmp_path / "cert-0-0.pem", tmp_path / "first.pem")
    before = len(ca.authority.register.entries())
    client("-r", "-c", tmp_path / "first.pem", "-k", tmp_path / "key")
    assert len(ca.authority.register.entries()) == before + 1


def test_the_log_tells_who_got_what(ca: CaServe, curl: Curl) -> None:
    made = curl.enrol("a", "v1/simpleenroll", curl.request("a", BOB), "-u", f"keyd:{PASSWORD}")
    log = ca.log.read_text()
    assert (
        f"est enrolled client=keyd address={BOB} level=V1 serial={made.serial_number:x} peer=127.0.0.1" in log
    )
    assert PASSWORD not in log
