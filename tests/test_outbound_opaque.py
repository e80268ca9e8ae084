"""Mail that must be signed and has no 7-bit form: it travels opaque, and OpenSSL reads what was written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import POLICY, judge, mail, send
from mailsigil.plan import Event
from mailsigil.verdict import SmimeWord

LATIN = b"Gr\xfc\xdfe aus K\xf6ln"
PREFERRED = POLICY.replace('signing = "required"', 'signing = "preferred"')


def mixed(part: bytes) -> tuple[bytes, bytes]:
    """Content fields and body of a message with a text and this part."""
    fields = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x"\r\n'
    return fields, b"--x\r\n\r\nHello\r\n--x\r\n" + part + b"\r\n--x--\r\n"


PARTS = {
    "delivery-status": b"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Reporting-MTA: dns; mx.bank.example\r\n\r\nDiagnostic-Code: smtp; 550 " + LATIN,
    "signed-inside": b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=y\r\n'
    b"\r\n--y\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + LATIN
    + b"\r\n--y\r\nContent-Type: application/pkcs7-signature\r\n\r\nMAo=\r\n--y--\r\n",
    "address-inside": b"Content-Type: message/rfc822\r\n\r\nFrom: <\xc3\xbc@bank.example>\r\n\r\nHi",
    "unknown-encoding": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-house\r\n\r\n" + LATIN,
}


@pytest.mark.parametrize("policy", [POLICY, PREFERRED], ids=["required", "preferred"])
@pytest.mark.parametrize("name", PARTS)
def test_what_is_not_seven_bit_is_signed_opaque(name: str, policy: str, tmp_path: Path) -> None:
    fields, body = mixed(PARTS[name])
    done = send(mail(more=fields, body=body), policy=policy)
    assert done.plan.event is Event.SIGNED
    assert dict(done.plan.details)["form"] == "opaque"
    assert done.raw.isascii()
    assert max(map(len, done.raw.split(b"\r\n"))) <= 998
    verdict = judge(done.raw)
    assert (verdict.word, verdict.identity is not None) == (SmimeWord.PASS, True), verdict.detail

    anchor = tmp_path / "root.pem"
    anchor.write_bytes(bank.bank().root.public_bytes(Encoding.PEM))
    told = subprocess.run(
        [
            "openssl",
            "cms",
            "-verify",
            "-binary",
            "-CAfile",
            str(anchor),
            "-attime",
            str(int(bank.NOW.timestamp())),
        ],
        input=done.raw,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout == fields.partition(b"\r\n")[2] + b"\r\n" + body


def test_what_has_a_seven_bit_form_stays_clear() -> None:
    done = send(mail(more=b"Content-Type: text/plain; charset=iso-8859-1\r\n", body=LATIN + b"\r\n"))
    assert dict(done.plan.details)["form"] == "clear"
