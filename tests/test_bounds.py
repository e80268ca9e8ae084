"""Each bound of verification: past it ``smime=policy`` with the reason ``limit``, in bounded time."""

from __future__ import annotations

import itertools
import time

import pytest
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509

import bank
from bank import judge, mail, outcome, signed
from mailsigil.cms.parse import CmsLimits
from mailsigil.message.mime import MimeLimits
from mailsigil.verdict import Reason, SmimeWord, Status
from stopwatch import work_of_less_than
from tampering import with_signature

LIMIT = (SmimeWord.POLICY, Status.UNCHECKED, Reason.LIMIT)


def ticking(seconds: float) -> object:
    """A clock on which this much time goes by between two looks."""
    times = itertools.count(0.0, seconds)
    return lambda: next(times)


def test_time() -> None:
    verdict = judge(signed(mail()), parts=bank.verification(seconds=5.0, clock=ticking(6.0)))
    assert outcome(verdict) == LIMIT
    assert verdict.detail == "time"
    assert judge(signed(mail()), parts=bank.verification(seconds=5.0, clock=ticking(0.01))).identity


@pytest.mark.parametrize("form", ["clear", "opaque"])
def test_content(form: str) -> None:
    raw = signed(mail(body=b"text\r\n" * 1000), form=form)
    assert outcome(judge(raw, parts=bank.verification(content_bytes=5000))) == LIMIT
    assert judge(raw, parts=bank.verification(content_bytes=7000)).identity


def test_certificates() -> None:
    def crowd(info: cms.ContentInfo) -> None:
        extra = [
            asn1_x509.Certificate.load(info["content"]["certificates"][0].chosen.dump()) for _ in range(40)
        ]
        info["content"]["certificates"] = [
            *info["content"]["certificates"],
            *(cms.CertificateChoices("certificate", certificate) for certificate in extra),
        ]

    assert outcome(judge(with_signature(signed(mail()), crowd))) == LIMIT


def test_signers() -> None:
    def crowd(info: cms.ContentInfo) -> None:
        (signer,) = info["content"]["signer_infos"]
        info["content"]["signer_infos"] = [signer.copy() for _ in range(11)]

    assert outcome(judge(with_signature(signed(mail()), crowd))) == LIMIT


def test_signers_within_the_bound_are_all_checked() -> None:
    def crowd(info: cms.ContentInfo) -> None:
        (signer,) = info["content"]["signer_infos"]
        info["content"]["signer_infos"] = [signer.copy() for _ in range(10)]

    verdict = judge(with_signature(signed(mail()), crowd))
    assert outcome(verdict) == (SmimeWord.POLICY, Status.INVALID, Reason.SEVERAL_SIGNERS)
    assert verdict.detail == "10 signers, 10 of whose signatures hold"
    assert verdict.signers == (bank.ALICE,)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"mime_limits": MimeLimits(parts=2)}, id="mime-parts"),
        pytest.param({"mime_limits": MimeLimits(depth=1)}, id="mime-depth"),
        pytest.param({"mime_limits": MimeLimits(header_bytes=20)}, id="part-header"),
        pytest.param({"cms_limits": CmsLimits(rest_bytes=500)}, id="octets-of-cms"),
        pytest.param({"cms_limits": CmsLimits(attributes=2)}, id="attributes"),
    ],
)
def test_structure(limits: dict[str, object]) -> None:
    assert outcome(judge(signed(mail()), parts=bank.verification(**limits))) == LIMIT


def test_parts_inside_an_opaque_signature() -> None:
    inner = b"".join(b"--m\r\n\r\nx\r\n" for _ in range(20))
    raw = signed(
        mail(
            more=b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n",
            body=inner + b"--m--\r\n",
        ),
        form="opaque",
    )
    assert judge(raw).identity
    assert outcome(judge(raw, parts=bank.verification(mime_limits=MimeLimits(parts=10)))) == LIMIT


def _nested(depth: int) -> bytes:
    opened = b"".join(
        b"Content-Type: multipart/mixed; boundary=x%d\r\n\r\n--x%d\r\n" % (n, n) for n in range(depth)
    )
    return b"From: a@b.example\r\nMIME-Version: 1.0\r\n" + opened + b"\r\ntext\r\n"


SIGNED_TYPE = b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=b\r\n\r\n'
OPAQUE_TYPE = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_nested(3000), id="multiparts-in-multiparts"),
        pytest.param(b"From: a@b.example\r\n" + SIGNED_TYPE + b"--b\r\n" * 100_000, id="boundaries"),
        pytest.param(b"From: a@b.example\r\n" + SIGNED_TYPE + b"--b\r\n\r\nx\r\n" * 100_000, id="parts"),
        pytest.param(b"From: a@b.example\r\n" + SIGNED_TYPE + b"--" * 1_000_000, id="hyphens"),
        pytest.param(b"From: a@b.example\r\n" + OPAQUE_TYPE + b"MIAG" * 500_000, id="indefinite-lengths"),
        pytest.param(b"From: a@b.example\r\n" + OPAQUE_TYPE + b"JIAk" * 500_000, id="octet-strings"),
        pytest.param(b"From: a@b.example\r\n" + OPAQUE_TYPE + b"=" * 2_000_000, id="padding"),
        pytest.param(b"From: " + b"(" * 200_000 + b"\r\n" + SIGNED_TYPE, id="comments"),
        pytest.param(b"From: " + b"=?" * 100_000 + b"\r\n" + SIGNED_TYPE, id="encoded-words"),
        pytest.param(b"Content-Type: multipart/signed" + b';"' * 100_000 + b"\r\n\r\n", id="parameters"),
        pytest.param(b"Content-Type: multipart/signed" + b"\\(" * 15_000 + b"\r\n\r\n", id="escapes"),
    ],
)
def test_hostile_shapes_take_no_time(raw: bytes) -> None:
    begin = time.process_time()
    assert judge(raw).identity is None
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("filling", [b"\r", b"\n", b"\n\r\r\r", b"\n ", b"\r "])
def test_text_before_the_first_boundary_takes_no_time(filling: bytes) -> None:
    preamble = (b":" * 300 + filling * 700)[:990] + b"\r\n"
    raw = b"From: a@b.example\r\nMIME-Version: 1.0\r\n" + SIGNED_TYPE + preamble
    raw += b"--b\r\n\r\nx\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\nMAAA\r\n--b--\r\n"
    with work_of_less_than(0.2):
        assert judge(raw).identity is None


def test_signature_checks() -> None:
    """Certificates that all bear the signer's name: each would be tried, for each signer."""

    def crowd(info: cms.ContentInfo) -> None:
        content = info["content"]
        der = content["certificates"][0].chosen.dump()
        namesakes = [asn1_x509.Certificate.load(der[:-2] + number.to_bytes(2)) for number in range(20)]
        content["certificates"] = [
            *content["certificates"],
            *(cms.CertificateChoices("certificate", certificate) for certificate in namesakes),
        ]
        (signer,) = content["signer_infos"]
        content["signer_infos"] = [signer.copy() for _ in range(10)]

    raw = with_signature(signed(mail()), crowd)
    verdict = judge(raw)
    assert outcome(verdict) == LIMIT
    assert verdict.detail == "signature checks"
    assert outcome(judge(raw, parts=bank.verification(signature_checks=10_000))) != LIMIT
    assert judge(signed(mail()), parts=bank.verification(signature_checks=1)).identity
