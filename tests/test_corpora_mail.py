"""Mail that nobody on this project wrote, judged whole: published S/MIME, and broken and hostile MIME."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bank
from mailsigil.inbound import InboundParts, inbound
from mailsigil.message.reader import read_message
from mailsigil.pki.anchors import AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.policies import Level
from mailsigil.rewrite import rewritten
from mailsigil.verdict import Reason, SmimeWord, Status, Verdict
from mailsigil.verification import VerificationParts, verify

Corpus = Callable[[str], Path]


def trusting(*files: Path) -> VerificationParts:
    """Trusts what these files hold."""
    certificates = tuple(certificate for file in files for certificate in load_anchor_file(file))
    return bank.verification(TrustStore((AnchorSet(name="x", certificates=certificates, level=Level.V1),)))


def judged(raw: bytes, parts: VerificationParts | None = None, *, at: datetime = bank.NOW) -> Verdict:
    message = read_message(io.BytesIO(raw))
    verdict = verify(message.fields, message.body, parts or bank.verification(), at=at, damage=message.damage)
    message.body.close()
    return verdict


# --- RFC 9788: header protection -------------------------------------------------------------------------

HP_AT = datetime(2021, 2, 20, 15, 10, tzinfo=UTC)
HP_MAILS = ["smime-multipart-hp", "smime-one-part-hp"]


@pytest.fixture(scope="module")
def lamps(corpus: Corpus) -> VerificationParts:
    """Trusts the authority of RFC 9216, which certified the people of RFC 9788."""
    return trusting(corpus("rfc9216") / "rfc9216" / "rsa_certification_authority_root_certificate.pem")


@pytest.mark.parametrize("name", HP_MAILS)
def test_header_protection_by_its_authors(name: str, corpus: Corpus, lamps: VerificationParts) -> None:
    verdict = judged((corpus("rfc9788") / "rfc9788" / f"{name}.eml").read_bytes(), lamps, at=HP_AT)
    assert verdict.identity is not None, (verdict.reason, verdict.detail)
    assert verdict.identity.address == "alice@smime.example"


@pytest.mark.parametrize("name", HP_MAILS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(rb"(?m)^Subject: .*$", b"Subject: Pay", id="subject"),
        pytest.param(rb"(?m)^To: .*$", b"To: Carl <carl@smime.example>", id="to"),
        pytest.param(rb"(?m)^Date: .*$", b"Date: Sun, 21 Feb 2021 10:07:02 -0500", id="date"),
        pytest.param(rb"(?m)^From: .*$", b"From: Bob <alice@smime.example>", id="name"),
        pytest.param(rb"(?m)^From:", b"Reply-To: mallory@evil.example\nFrom:", id="added"),
    ],
)
def test_a_changed_header_of_theirs(
    name: str, old: bytes, new: bytes, corpus: Corpus, lamps: VerificationParts
) -> None:
    raw = (corpus("rfc9788") / "rfc9788" / f"{name}.eml").read_bytes().replace(b"\r\n", b"\n")
    changed = re.sub(old, new, raw, count=1)
    assert changed != raw
    verdict = judged(changed, lamps, at=HP_AT)
    assert (verdict.identity, verdict.reason) == (None, Reason.HEADER_MISMATCH)


# --- James -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "mail_with_signature",
        "mail_with_signature_and_content_type_xpkcs7mime",
        "mail-with-signature-and-multi-certs",
    ],
)
def test_signed_mail_of_james(name: str, corpus: Corpus) -> None:
    folder = corpus("james-smime") / "james-smime"
    raw = (folder / f"{name}.eml").read_bytes()
    parts = trusting(folder / "rootCA.crt")
    verdict = judged(raw, parts, at=datetime(2025, 1, 1, tzinfo=UTC))
    assert verdict.word is SmimeWord.PASS, (verdict.reason, verdict.detail)
    assert verdict.identity is not None
    assert verdict.identity.address == "user@james.org"


@pytest.mark.parametrize("old", [b"Subject: test", b"test SMIME"])
def test_changed_mail_of_james(old: bytes, corpus: Corpus) -> None:
    raw = (corpus("james-smime") / "james-smime" / "mail_with_signature.eml").read_bytes()
    cut = raw.index(b"\n\n") if b"\n\n" in raw else raw.index(b"\r\n\r\n")
    changed = raw[:cut] + raw[cut:].replace(old, old[:-1] + b"X", 1)
    assert changed != raw
    assert judged(changed).reason is Reason.DIGEST


# --- RFC 4134: the examples of S/MIME version 3, all of them SHA-1 or DSA -----------------------------------

RFC4134 = {
    "4.8.eml": (SmimeWord.POLICY, Reason.WEAK),
    "4.9.eml": (SmimeWord.POLICY, Reason.WEAK),
    "5.3.eml": (SmimeWord.NEUTRAL, Reason.ENCRYPTED),
}


@pytest.mark.parametrize("name", RFC4134)
def test_examples_of_version_3(name: str, corpus: Corpus) -> None:
    folder = corpus("rfc4134") / "rfc4134"
    verdict = judged(
        (folder / name).read_bytes(), trusting(folder / "CarlRSASelf.cer", folder / "CarlDSSSelf.cer")
    )
    assert verdict.identity is None
    assert (verdict.word, verdict.reason) == RFC4134[name], verdict.detail


def test_openssl_mail_without_digests(corpus: Corpus) -> None:
    raw = (corpus("openssl-cms") / "openssl-cms" / "pkcs7-empty-digest-set.eml").read_bytes()
    verdict = judged(raw)
    assert (verdict.word, verdict.status, verdict.reason) == (
        SmimeWord.FAIL,
        Status.INVALID,
        Reason.ATTRIBUTES,
    )


# As opaque mails, the contents of the four files whose attributes break a rule.
BAD_ATTRIBUTES = ["bad_signtime_attr.cms", "ct_multiple_attr.cms", "no_ct_attr.cms", "no_md_attr.cms"]


@pytest.mark.parametrize("name", BAD_ATTRIBUTES)
def test_openssl_bad_attributes(name: str, corpus: Corpus) -> None:
    raw = (corpus("openssl-cms") / "openssl-cms" / "80-test_cms_data" / name).read_bytes()
    if b"\n\n" in raw.replace(b"\r\n", b"\n")[:4000] and b"ontent-" in raw[:4000]:
        mail = b"From: a@smime.example\n" + raw
    else:
        body = re.sub(rb"-----[^-]*-----", b"", raw)
        mail = b"From: a@smime.example\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime\n"
        mail += b"Content-Transfer-Encoding: base64\n\n" + body
    verdict = judged(mail)
    assert verdict.identity is None
    assert verdict.status is Status.INVALID
    assert verdict.reason in {Reason.ATTRIBUTES, Reason.SYNTAX, Reason.STRUCTURE}, verdict.detail


# --- Robustness ------------------------------------------------------------------------------------------

ARCHIVES = ["mimekit", "stalwart-mail-parser", "mime4j", "mikel-mail", "cpython-email", "dkimpy"]

NOT_MAIL = {".json": "expected results", ".xml": "expected results", ".txt": "licences and expected results"}
SLOWEST = 1.0
"""Seconds that one message may take."""


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not (
            path.suffix in NOT_MAIL and path.name.lower().startswith(("licen", "readme"))
        ):
            yield path


@pytest.mark.integration
@pytest.mark.parametrize("archive", ARCHIVES)
def test_odd_mail_is_judged_quickly_and_has_no_identity(archive: str, corpus: Corpus) -> None:
    count = 0
    for path in _files(corpus(archive)):
        raw = path.read_bytes()
        begin = time.process_time()
        verdict = judged(raw)
        done = bank.receive(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert time.process_time() - begin < SLOWEST, path
        assert verdict.identity is None, path
        assert verdict.word is not SmimeWord.PASS, path
        if b"pkcs7" not in raw.lower() and b".p7" not in raw.lower():
            assert verdict.word is SmimeWord.NONE, path
        assert done.value("Verified-Identity").startswith("none; "), path
        count += 1
    assert count > 10


def test_signed_odd_mail_says_why(corpus: Corpus) -> None:
    found: dict[str, int] = {}
    for path in _files(corpus("mimekit")):
        raw = path.read_bytes()
        if b"pkcs7" in raw.lower():
            verdict = judged(raw)
            found[verdict.reason.token] = found.get(verdict.reason.token, 0) + 1
            assert verdict.reason.sentence
    assert found


def test_annotated_odd_mail_loses_nothing(corpus: Corpus) -> None:
    """What is added stands above; body and other fields stay byte for byte."""
    given = InboundParts(
        verification=bank.verification(),
        txt=bank.no_dns,
        now=lambda: bank.NOW,
        authserv_id=bank.HOST,
        dkim_max_bytes=1_000_000,
        dkim_max_signatures=5,
    )
    for path in _files(corpus("mime4j")):
        message = read_message(io.BytesIO(path.read_bytes()))
        before = b"".join(rewritten(message.fields, message.body, ()))
        plan = inbound(message.fields, message.body, given, damage=message.damage)
        after = b"".join(rewritten(message.fields, message.body, plan.edits))
        assert after.endswith(before), path
