"""A signature that GnuPG makes gets an identity, in mails of the shapes that well-known programs write.

OpenSSL's mails are in test_attacks.py. NSS's cmsutil signs only where the key may encrypt as well.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificates

import bank
from bank import ALICE
from mailsigil.keys.profile import KeyKind

pytestmark = pytest.mark.integration  # GnuPG makes these signatures

PART = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nDear Carl,\r\n\r\nsee you on Friday.\r\n"
APPLE = (
    b'Content-Type: multipart/signed;\r\n\tboundary="Apple-Mail=_7AC4";\r\n'
    b'\tprotocol="application/pkcs7-signature";\r\n\tmicalg=sha-256\r\n'
    b"Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774.600.62\\))\r\n",
    b"\r\n\r\n",
    b"Content-Disposition: attachment; filename=smime.p7s\r\nContent-Type: application/pkcs7-signature;\r\n"
    b"\tname=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n",
    b"Apple-Mail=_7AC4",
)
OUTLOOK = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/signed;\r\n\tprotocol="application/x-pkcs7-signature";\r\n'
    b'\tmicalg=2.16.840.1.101.3.4.2.1;\r\n\tboundary="----=_NextPart_000_0042_01DA"\r\n'
    b"X-Mailer: Microsoft Outlook 16.0\r\nThread-Index: AdoX\r\nContent-Language: de\r\n",
    b"\r\nThis is a multipart message in MIME format.\r\n\r\n",
    b'Content-Type: application/pkcs7-signature;\r\n\tname="smime.p7s"\r\n'
    b'Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\tfilename="smime.p7s"\r\n',
    b"----=_NextPart_000_0042_01DA",
)
GMAIL = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol="application/pkcs7-signature";'
    b' micalg=sha-256;\r\n\tboundary="0000000000006b1e2f05b1"\r\n',
    b"\r\n",
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
    b'Content-Disposition: attachment; filename="smime.p7s"\r\n'
    b"Content-Description: S/MIME Cryptographic Signature\r\n",
    b"0000000000006b1e2f05b1",
)
THUNDERBIRD = (
    b"MIME-Version: 1.0\r\nUser-Agent: Mozilla Thunderbird\r\nContent-Type: multipart/signed;"
    b' protocol="application/pkcs7-signature"; micalg=sha-256; boundary="------------ms030402"\r\n',
    b"\r\nThis is a cryptographically signed message in MIME format.\r\n\r\n",
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
    b'Content-Disposition: attachment; filename="smime.p7s"\r\n'
    b"Content-Description: S/MIME Cryptographic Signature\r\n",
    b"------------ms030402",
)
LOTUS = (
    b'MIME-Version: 1.0\r\nContent-type: multipart/signed; protocol="application/pkcs7-signature";'
    b' micalg="sha256"; \r\n\tBoundary="0__=4EBB0A"\r\nContent-class: urn:content-classes:message\r\n',
    b"\r\n",
    b'Content-type: application/pkcs7-signature; \r\n\tname="smime.p7s"\r\n'
    b'Content-Disposition: attachment; filename="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n',
    b"0__=4EBB0A",
)
SHAPES = {
    "apple": APPLE,
    "outlook": OUTLOOK,
    "gmail": GMAIL,
    "thunderbird": THUNDERBIRD,
    "notes": LOTUS,
}


@cache
def house() -> bank.Bank:
    """These programs read the clock by themselves."""
    return bank.found_bank(bank.PEOPLE[:1], kind=KeyKind.RSA2048, now=datetime.now(UTC))


def expect_identity(raw: bytes) -> None:
    parts = bank.verification(house().trust())
    verdict = bank.judge(raw, parts=parts, at=datetime.now(UTC) + timedelta(seconds=5))
    assert verdict.identity is not None, (verdict.reason, verdict.detail)
    assert (verdict.identity.address, verdict.notes) == (ALICE, ())


def head() -> bytes:
    now = datetime.now(UTC)
    return (
        f"From: Alice Example <{ALICE}>\r\nTo: carl@customer.example\r\nSubject: Friday\r\n"
        f"Date: {now:%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: <1@bank.example>\r\n"
    ).encode()


def clear(signature: bytes, shape: tuple[bytes, bytes, bytes, bytes]) -> bytes:
    fields, preamble, part_head, boundary = shape
    encoded = base64.encodebytes(signature).replace(b"\n", b"\r\n")
    return b"%b%b%b--%b\r\n%b\r\n--%b\r\n%b\r\n%b\r\n--%b--\r\n" % (
        *(head(), fields, preamble, boundary, PART, boundary, part_head, encoded, boundary),
    )


def new_bag(path: Path) -> Path:
    """Alice's key and certificates as a PKCS#12 file with the password x and new salts."""
    pem = house().pem[ALICE]
    key = load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    own, *above = load_pem_x509_certificates(pem)
    # What gpgsm 2.2 reads.
    seal = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(b"x")
    )
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"alice", key, own, above, seal))
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_bag(tmp_path_factory.mktemp("bag") / "alice.p12")


def run(command: list[str], given: bytes = b"") -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stderr.decode(errors="replace"))
    return done.stdout


def import_bag(command: list[str], path: Path) -> None:
    """gpgsm 2.2 takes about one good bag in fifty for one with a wrong password: it is given another."""
    for left in range(3, -1, -1):
        try:
            run([*command, str(new_bag(path))], b"x\n")
        except AssertionError:
            if not left:
                raise
        else:
            return


@pytest.fixture(scope="module")
def by_gnupg() -> Iterator[bytes]:
    """A detached signature by gpgsm."""
    if shutil.which("gpgsm") is None:
        pytest.skip("gpgsm is not installed")
    with tempfile.TemporaryDirectory(prefix="gpgsm-") as home:  # a short path: gpg-agent's socket is here
        command = ["gpgsm", "--homedir", home, "--batch", "--no-tty", "--disable-dirmngr"]
        command += ["--disable-crl-checks", "--pinentry-mode", "loopback"]
        fingerprint = house().root.fingerprint(hashes.SHA1()).hex().upper()
        (Path(home) / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
        for certificate in (house().root, house().issuing):
            run([*command, "--import"], certificate.public_bytes(Encoding.PEM))
        import_bag([*command, "--passphrase-fd", "0", "--import"], Path(home) / "alice.p12")
        (Path(home) / "part").write_bytes(PART)
        sign = ["--passphrase-fd", "0", "--detach-sign", "-u", ALICE, str(Path(home) / "part")]
        yield run([*command, *sign], b"x\n")
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, timeout=30)


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_by_gnupg(by_gnupg: bytes, shape: str) -> None:
    expect_identity(clear(by_gnupg, SHAPES[shape]))
