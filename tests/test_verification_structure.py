"""Which structures count as a signed message, and the bounds on what is looked at."""

from __future__ import annotations

import base64
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import ALICE, BOB, NOW, judge, mail, outcome, signed
from mailsigil.cms.parse import CmsLimits
from mailsigil.message.mime import MimeLimits
from mailsigil.verdict import Reason, SmimeWord, Status
from tampering import Change, second_signer, with_signature, wrapped

FORMS = ("clear", "opaque")


# --- Structure -----------------------------------------------------------------------------------------


TEXT = b"Content-Type: text/plain\r\n\r\nAlso, please pay.\r\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"after": TEXT}, id="footer-of-a-list"),
        pytest.param({"before": TEXT}, id="text-before"),
        pytest.param({}, id="nothing-else"),
    ],
)
def test_a_signature_over_a_part_is_no_identity(form: str, parts: dict[str, bytes]) -> None:
    raw = wrapped(signed(mail(), form=form), **parts)
    assert outcome(judge(raw)) == (SmimeWord.POLICY, Status.INVALID, Reason.PARTIAL)


def test_a_signed_message_that_is_forwarded_inside_is_not_the_message() -> None:
    inner = signed(mail())
    raw = mail(BOB, more=b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n", body=inner)
    assert outcome(judge(raw)) == (SmimeWord.NONE, Status.UNSIGNED, Reason.UNSIGNED)


SIGNATURE_PART = b"--b0undary\r\nContent-Type: application/pkcs7-signature"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda raw: raw + b"Pay here: http://evil.example\r\n",
            (SmimeWord.POLICY, Status.INVALID, Reason.TRAILING),
            id="text-after-the-closing-boundary",
        ),
        pytest.param(
            lambda raw: raw.replace(SIGNATURE_PART, b"--b0undary\r\n" + TEXT + b"\r\n" + SIGNATURE_PART),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="a-third-part",
        ),
        pytest.param(
            lambda raw: raw.replace(b"--b0undary--\r\n", b""),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="never-closed",
        ),
        pytest.param(
            lambda raw: raw.replace(SIGNATURE_PART, b"--b0undary\r\nContent-Type: text/plain"),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="the-second-part-is-no-signature",
        ),
        pytest.param(
            lambda raw: raw.replace(b'boundary="b0undary"', b'boundary="nowhere"'),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="the-boundary-never-appears",
        ),
        pytest.param(
            lambda raw: raw.replace(b'; boundary="b0undary"', b"").replace(b' boundary="b0undary"', b" x=y"),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="no-boundary",
        ),
        pytest.param(
            lambda raw: raw.replace(b"MIME-Version", b"Content-Type: text/plain\r\nMIME-Version", 1),
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="two-content-types",
        ),
    ],
)
def test_a_structure_that_is_not_that_of_a_signed_message(
    change: Change, expected: tuple[SmimeWord, Status, Reason]
) -> None:
    raw = signed(mail(more=b"MIME-Version: 1.0\r\n"))
    changed = change(raw)
    assert changed != raw
    assert outcome(judge(changed)) == expected


def test_a_signature_that_is_no_cms_structure() -> None:
    raw = signed(mail())
    head, marker, _ = raw.partition(b"Cryptographic Signature\r\n\r\n")
    verdict = judge(head + marker + b"bm9uc2Vuc2U=\r\n--b0undary--\r\n")
    assert outcome(verdict) == (SmimeWord.NEUTRAL, Status.INVALID, Reason.SYNTAX)


def test_unsigned_mail() -> None:
    assert outcome(judge(mail())) == (SmimeWord.NONE, Status.UNSIGNED, Reason.UNSIGNED)


def openssl(tmp_path: Path, *arguments: str, content: bytes = b"hello") -> bytes:
    """A mail body by OpenSSL, in base64."""
    pem = tmp_path / "alice.pem"
    pem.write_bytes(bank.bank().pem[ALICE])
    issuing = tmp_path / "issuing.pem"
    issuing.write_bytes(bank.bank().issuing.public_bytes(Encoding.PEM))
    filled = (argument.format(pem=pem, issuing=issuing) for argument in arguments)
    command = ["openssl", "cms", *filled, "-outform", "DER"]
    return base64.encodebytes(subprocess.run(command, input=content, capture_output=True, check=True).stdout)


def opaque(body: bytes, smime_type: str) -> bytes:
    more = (
        f"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type={smime_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
    )
    return mail(more=more.encode(), body=body.replace(b"\n", b"\r\n"))


ENCRYPT = ("-encrypt", "-aes256", "-secretkey", "00" * 32, "-secretkeyid", "01")


def test_an_encrypted_message_is_unchecked(tmp_path: Path) -> None:
    raw = opaque(openssl(tmp_path, *ENCRYPT), "enveloped-data")
    assert outcome(judge(raw)) == (SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.ENCRYPTED)


def test_encrypted_data_that_calls_itself_signed_is_unchecked(tmp_path: Path) -> None:
    raw = opaque(openssl(tmp_path, *ENCRYPT), "signed-data")
    assert outcome(judge(raw))[2] is Reason.ENCRYPTED


def test_certificates_only_are_no_signature(tmp_path: Path) -> None:
    pem = tmp_path / "alice.pem"
    pem.write_bytes(bank.bank().pem[ALICE])
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(pem), "-outform", "DER"]
    body = base64.encodebytes(subprocess.run(command, capture_output=True, check=True).stdout)
    verdict = judge(opaque(body, "certs-only"))
    assert outcome(verdict) == (SmimeWord.NONE, Status.UNSIGNED, Reason.UNSIGNED)


def test_a_signature_by_openssl_is_accepted(tmp_path: Path) -> None:
    content = b"Content-Type: text/plain\r\n\r\nhello\r\n"
    arguments = ("-sign", "-binary", "-nodetach", "-signer", "{pem}", "-certfile", "{issuing}")
    body = openssl(tmp_path, *arguments, content=content)
    verdict = judge(opaque(body, "signed-data"), at=NOW + timedelta(days=1))
    assert verdict.reason in {Reason.NONE, Reason.FUTURE}, verdict  # OpenSSL knows only the true time
    assert verdict.signers == (ALICE,)


# --- Bounds --------------------------------------------------------------------------------------------

LIMIT = (SmimeWord.POLICY, Status.UNCHECKED, Reason.LIMIT)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"cms_limits": CmsLimits(certificates=1)}, id="certificates"),
        pytest.param({"cms_limits": CmsLimits(rest_bytes=500)}, id="octets-of-cms"),
        pytest.param({"mime_limits": MimeLimits(parts=2)}, id="mime-parts"),
        pytest.param({"mime_limits": MimeLimits(depth=1)}, id="mime-depth"),
    ],
)
def test_past_a_bound_nothing_is_said_about_the_signer(limits: dict[str, object]) -> None:
    assert outcome(judge(signed(mail()), parts=bank.verification(**limits))) == LIMIT


def test_too_many_signers_are_not_looked_at() -> None:
    raw = with_signature(signed(mail()), second_signer)
    assert outcome(judge(raw, parts=bank.verification(cms_limits=CmsLimits(signers=1)))) == LIMIT
