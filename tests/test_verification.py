"""Who signed a message? Each step of the verification, with what ends it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from asn1crypto import cms

import bank
from bank import ALICE, BOB, NOW, judge, mail, outcome, signed
from mailsigil.pki.anchors import TrustStore
from mailsigil.pki.policies import Level
from mailsigil.verdict import Identity, Reason, SmimeWord, Status
from tampering import Change, author_is, second_signer, with_signature

FORMS = ("clear", "opaque")


# --- Accepted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("author", "level", "name", "org", "title"),
    [
        pytest.param(ALICE, Level.V4, "Alice Example", "Example Bank", "Account Manager", id="V4"),
        pytest.param("office@bank.example", Level.V3, "", "Example Bank", "", id="V3"),
        pytest.param(BOB, Level.V2, "Bob Sample", "", "", id="V2"),
        pytest.param("info@bank.example", Level.V1, "", "", "", id="V1"),
        pytest.param("müller@bank.example", Level.V1, "", "", "", id="V1-eai-address-of-rfc-8398"),
    ],
)
def test_each_level_gets_its_names(
    form: str, author: str, level: Level, name: str, org: str, title: str
) -> None:
    verdict = judge(signed(mail(author), author=author, form=form))
    assert (verdict.word, verdict.status, verdict.reason) == (SmimeWord.PASS, Status.TRUSTED, Reason.NONE)
    assert verdict.identity == Identity(
        level=level, name=name, org=org, title=title, address=author, issuer="Example Bank Mail CA"
    )
    assert verdict.signers == (author,)
    assert verdict.signed == NOW
    assert verdict.issuer == "CN=Example Bank Mail CA,O=Example Bank"
    assert re.fullmatch("[0-9a-f]{8,}", verdict.serial)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(author_is("alice@BANK.Example"), id="domain-in-capitals"),
        pytest.param(author_is("ALICE@bank.example"), id="local-part-in-capitals"),
        pytest.param(author_is(f'"Alice \\"A.\\" Example" (the real) <{ALICE}>'), id="quotes-and-comment"),
        pytest.param(
            lambda raw: raw.replace(b"multipart/signed", b"Multipart/SIGNED"), id="type-in-capitals"
        ),
        pytest.param(
            lambda raw: raw.replace(b"application/pkcs7-signature", b"application/x-pkcs7-signature"),
            id="old-type-names",
        ),
        pytest.param(
            lambda raw: raw.replace(b"--b0undary\r\n", b"--b0undary \t\r\n"), id="boundary-with-spaces"
        ),
        pytest.param(lambda raw: raw + b"\r\n \r\n", id="blank-lines-after-the-end"),
        pytest.param(lambda raw: raw.replace(b"This is an S/MIME", b"Another"), id="another-preamble"),
        pytest.param(lambda raw: b"Received: from a by b; x\r\n" + raw, id="a-new-header-field"),
    ],
)
def test_what_a_relay_may_change_does_no_harm(change: Change) -> None:
    raw = signed(mail())
    changed = change(raw)
    assert changed != raw
    assert judge(changed).identity is not None


def test_an_old_type_of_an_opaque_message_is_read() -> None:
    raw = signed(mail(), form="opaque").replace(b"application/pkcs7-mime", b"Application/X-PKCS7-MIME")
    assert judge(raw).identity is not None


def test_a_gateway_that_turned_the_type_into_octet_stream_does_no_harm() -> None:
    raw = signed(mail(), form="opaque")
    raw = raw.replace(b"application/pkcs7-mime; smime-type=signed-data", b"application/octet-stream")
    assert judge(raw).identity is not None


def test_the_time_counts_at_which_it_is_asked() -> None:
    raw = signed(mail())
    assert outcome(judge(raw, at=NOW + timedelta(days=400))) == (
        SmimeWord.FAIL,
        Status.INVALID,
        Reason.EXPIRED,
    )
    assert outcome(judge(raw, at=NOW - timedelta(days=2)))[2] is Reason.FUTURE


def test_a_certificate_that_is_not_valid_yet() -> None:
    raw = signed(mail(date=b"x"))  # no signing time that could be in the future
    assert outcome(judge(raw, at=NOW - timedelta(days=2))) == (
        SmimeWord.FAIL,
        Status.INVALID,
        Reason.NOT_YET_VALID,
    )


@pytest.mark.parametrize(
    ("ahead", "fine"),
    [pytest.param(4, True, id="4-minutes"), pytest.param(6, False, id="6-minutes")],
)
def test_a_signing_time_may_be_ahead_a_little(ahead: int, fine: bool) -> None:
    raw = signed(mail())
    verdict = judge(raw, at=NOW - timedelta(minutes=ahead))
    assert (verdict.identity is not None) is fine


# --- Signers -------------------------------------------------------------------------------------------


def _no_signer(info: cms.ContentInfo) -> None:
    info["content"]["signer_infos"] = []


def _without_certificates(info: cms.ContentInfo) -> None:
    info["content"]["certificates"] = []


def _broken(info: cms.ContentInfo) -> None:
    signer = info["content"]["signer_infos"][0]
    other = signed(mail(body=b"another text, signed as well\r\n"))
    blob = other.partition(b"Cryptographic Signature\r\n\r\n")[2].partition(b"\r\n--")[0]
    theirs = cms.ContentInfo.load(base64.b64decode(blob))["content"]["signer_infos"][0]
    signer["signature"] = theirs["signature"].native


def _with_content(info: cms.ContentInfo) -> None:
    info["content"]["encap_content_info"]["content"] = b"Content-Type: text/plain\r\n\r\nother\r\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(_no_signer, (SmimeWord.FAIL, Status.INVALID, Reason.NO_SIGNER), id="no-signer"),
        pytest.param(
            second_signer, (SmimeWord.POLICY, Status.INVALID, Reason.SEVERAL_SIGNERS), id="two-signers"
        ),
        pytest.param(
            _without_certificates,
            (SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.NO_CERTIFICATE),
            id="no-certificate",
        ),
        pytest.param(_broken, (SmimeWord.FAIL, Status.INVALID, Reason.SIGNATURE), id="signature-of-another"),
        pytest.param(
            _with_content,
            (SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE),
            id="content-in-a-detached-one",
        ),
    ],
)
def test_signers_that_give_no_identity(
    change: Callable[[cms.ContentInfo], None], expected: tuple[SmimeWord, Status, Reason]
) -> None:
    assert outcome(judge(with_signature(signed(mail()), change))) == expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: raw.replace(b"on Friday", b"on Monday"), id="a-word"),
        pytest.param(lambda raw: raw.replace(b"charset=us-ascii", b"charset=utf-16be"), id="a-part-header"),
        pytest.param(lambda raw: raw.replace(b"Friday.\r\n", b"Friday. \r\n"), id="a-space"),
        pytest.param(lambda raw: raw.replace(b"Dear Carl", b"\r\nDear Carl"), id="a-line"),
    ],
)
def test_a_changed_message_fails(change: Change) -> None:
    raw = signed(mail())
    changed = change(raw)
    assert changed != raw
    assert outcome(judge(changed)) == (SmimeWord.FAIL, Status.INVALID, Reason.DIGEST)


# --- Path ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_authority_of_the_same_name_that_nobody_trusts(form: str) -> None:
    verdict = judge(signed(mail(), by=bank.stranger(), form=form))
    assert outcome(verdict) == (SmimeWord.POLICY, Status.UNTRUSTED, Reason.NO_PATH)
    assert verdict.signers == (ALICE,)


def test_without_any_anchor_nothing_is_trusted() -> None:
    verdict = judge(signed(mail()), parts=bank.verification(TrustStore(())))
    assert outcome(verdict)[1:] == (Status.UNTRUSTED, Reason.NO_PATH)


def test_an_authority_speaks_for_its_own_domains_only() -> None:
    parts = bank.verification(bank.bank().trust(domains=frozenset({"insurance.example"})))
    verdict = judge(signed(mail()), parts=parts)
    assert outcome(verdict) == (SmimeWord.POLICY, Status.UNTRUSTED, Reason.DOMAIN)


def test_an_authority_that_may_assert_nothing_vouches_for_the_mailbox_alone() -> None:
    identity = judge(signed(mail()), parts=bank.verification(bank.bank().trust(asserts=frozenset()))).identity
    assert identity is not None
    assert (identity.level, identity.name, identity.org) == (Level.V1, "", "")


# --- Author --------------------------------------------------------------------------------------------

MISMATCH = (SmimeWord.POLICY, Status.MISMATCH)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(author_is(BOB), Reason.ADDRESS, id="another-author"),
        pytest.param(author_is("alice@bank.example.evil.example"), Reason.ADDRESS, id="longer-domain"),
        pytest.param(author_is("alice@sub.bank.example"), Reason.ADDRESS, id="subdomain"),
        pytest.param(author_is("malice@bank.example"), Reason.ADDRESS, id="longer-local-part"),
        pytest.param(author_is("аlice@bank.example"), Reason.ADDRESS, id="cyrillic-look-alike"),
        pytest.param(
            lambda raw: b"From: ceo@bank.example\r\n" + raw, Reason.AUTHOR_SEVERAL, id="two-from-fields-above"
        ),
        pytest.param(
            lambda raw: raw.replace(b"Subject:", b"from : ceo@bank.example\r\nSubject:", 1),
            Reason.AUTHOR_SEVERAL,
            id="two-from-fields-below-in-odd-spelling",
        ),
        pytest.param(author_is(f"{ALICE}, {BOB}"), Reason.AUTHOR_SEVERAL, id="two-addresses"),
        pytest.param(author_is(f"Staff: {ALICE};"), Reason.AUTHOR_GROUP, id="group"),
        pytest.param(author_is(f'"ceo@bank.example" <{ALICE}>'), Reason.AUTHOR_NAME, id="deceptive-name"),
        pytest.param(
            author_is(f"=?utf-8?q?ceo=40bank.example?= <{ALICE}>"),
            Reason.AUTHOR_NAME,
            id="deceptive-encoded-word",
        ),
        pytest.param(author_is(f"ceo＠bank.example <{ALICE}>"), Reason.AUTHOR_NAME, id="deceptive-wide-at"),
        pytest.param(author_is(f"{ALICE} (ceo@bank.example)"), Reason.AUTHOR_NAME, id="deceptive-comment"),
        pytest.param(lambda raw: raw.replace(b"From:", b"X-From:"), Reason.AUTHOR_MISSING, id="no-from"),
        pytest.param(author_is(f"Alice <{ALICE}"), Reason.AUTHOR_MALFORMED, id="unreadable"),
        pytest.param(author_is(f"Alice \x07 <{ALICE}>"), Reason.AUTHOR_MALFORMED, id="control-character"),
    ],
)
def test_an_author_who_is_not_the_signer(change: Change, reason: Reason) -> None:
    raw = signed(mail())
    changed = change(raw)
    assert changed != raw
    assert outcome(judge(changed)) == (*MISMATCH, reason)


def test_without_identity_no_author_is_compared() -> None:
    verdict = judge(author_is(BOB)(signed(mail())), with_identity=False)
    assert (verdict.word, verdict.identity) == (SmimeWord.PASS, None)
    assert verdict.signers == (ALICE,)
