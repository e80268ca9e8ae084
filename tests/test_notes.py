"""What is told beside an identity: a signature older than the mail's date, replies that go elsewhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

import bank
from bank import mail, receive, signed
from mailsigil.shown import DATE_TOLERANCE
from mailsigil.verdict import Note
from stopwatch import work_of_less_than

DATE = b"Date: Sun, 22 Nov 2026 02:15:00 +0000\r\n"
TEXT = "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"


def notes_of(raw: bytes, **more: timedelta) -> tuple[Note, ...]:
    verdict = bank.judge(raw, at=bank.NOW + more.get("later", timedelta(0)))
    assert verdict.identity is not None, verdict.detail
    return verdict.notes


@pytest.mark.parametrize("form", ["clear", "opaque"])
@pytest.mark.parametrize(
    ("date", "told"),
    [
        pytest.param(DATE, False, id="as-signed"),
        pytest.param(b"Date: Mon, 23 Nov 2026 02:15:00 +0000\r\n", False, id="a-day-later"),
        pytest.param(b"Date: Tue, 24 Nov 2026 02:15:00 +0000\r\n", True, id="two-days-later"),
        pytest.param(b"Date: Thu, 25 Nov 2027 02:15:00 +0000\r\n", True, id="a-year-later"),
        pytest.param(b"Date: Tue, 24 Nov 2026 02:15:00\r\n", True, id="no-zone"),
        pytest.param(b"Date: Sun, 01 Nov 2026 02:15:00 +0000\r\n", False, id="written-before-it-was-signed"),
        pytest.param(DATE + b"Date: Tue, 24 Nov 2026 02:15:00 +0000\r\n", True, id="two-dates"),
        pytest.param(b"", False, id="no-date-and-received-at-once"),
        pytest.param(b"Date: some day\r\n", False, id="not-a-date-and-received-at-once"),
    ],
)
def test_a_date_after_the_signature(form: str, date: bytes, told: bool) -> None:
    raw = signed(mail(), form=form).replace(DATE, date, 1)
    assert notes_of(raw) == ((Note.SIGNED_EARLIER,) if told else ())


@pytest.mark.parametrize(
    "date", [b"", b"Date: some day\r\n", b"Date: \xff\r\n"], ids=["none", "odd", "octets"]
)
def test_without_a_date_the_receipt_counts(date: bytes) -> None:
    raw = signed(mail()).replace(DATE, date, 1)
    assert notes_of(raw, later=2 * DATE_TOLERANCE) == (Note.SIGNED_EARLIER,)
    # A mail that was long on its way says so by its own date.
    assert notes_of(signed(mail()), later=2 * DATE_TOLERANCE) == ()


def test_people_and_programs_are_told_of_an_old_signature() -> None:
    done = receive(signed(mail()).replace(DATE, b"Date: Thu, 25 Nov 2027 02:15:00 +0000\r\n", 1))
    assert 'signed="2026-11-22T02:15:16Z"; note="signed-earlier"; dkim=none' in done.value(
        "Verified-Identity"
    )
    assert done.value("Verified-Identity-Text") == f"{TEXT}, signed on 2026-11-22"
    assert dict(done.plan.details)["note"] == "signed-earlier"


@pytest.mark.parametrize(
    ("field", "told"),
    [
        pytest.param(b"Reply-To: Alice <alice@BANK.example>\r\n", False, id="herself"),
        pytest.param(b"Reply-To: team@bank.example\r\n", False, id="her-house"),
        pytest.param(b"Reply-To: Alice Example <alice@bank.evil.example>\r\n", True, id="another-domain"),
        pytest.param(b"Reply-To: a@bank.example, Eve <eve@evil.example>\r\n", True, id="one-of-two"),
        pytest.param(b"Reply-To: undisclosed:;\r\n", True, id="nobody"),
        pytest.param(b"Reply-To: \xff\xfe\r\n", True, id="octets"),
    ],
)
def test_replies_to_another_domain_are_told(field: bytes, told: bool) -> None:
    assert notes_of(field + signed(mail())) == ((Note.REPLY_ELSEWHERE,) if told else ())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param(b"Sender: alice@bank.example\r\n", False, id="herself"),
        pytest.param(b"Sender: Desk <desk@bank.example>\r\n", True, id="her-house"),
        pytest.param(
            b"List-Id: Friends <friends.lists.example>\r\nSender: friends-bounces@lists.example\r\n",
            True,
            id="a-list",
        ),
    ],
)
def test_another_sender_is_told(fields: bytes, told: bool) -> None:
    assert notes_of(fields + signed(mail())) == ((Note.OTHER_SENDER,) if told else ())


def test_several_notes_stand_in_one_parameter() -> None:
    raw = b"Sender: desk@bank.example\r\nReply-To: eve@evil.example\r\n" + signed(mail())
    assert 'note="reply-elsewhere, other-sender"' in receive(raw).value("Verified-Identity")
    assert receive(raw).value("Verified-Identity-Text") == TEXT


def test_without_an_identity_there_are_none() -> None:
    raw = b"Reply-To: eve@evil.example\r\n" + signed(mail()).replace(b"Friday", b"Sunday")
    assert bank.judge(raw).notes == ()
    assert "note" not in receive(raw).value("Verified-Identity")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b":" * 1500, id="colons"),
        pytest.param(b"(" * 1500, id="comments"),
        pytest.param(b"<" * 1500, id="brackets"),
        pytest.param(b'"' * 1501, id="quotes"),
        pytest.param(b"\\" * 1501, id="backslashes"),
        pytest.param(b"[" * 1500, id="literals"),
        pytest.param(b"a:;" * 600, id="groups"),
        pytest.param(b"alice@bank.example, " * 6000, id="longer-than-anybody-reads"),
    ],
)
def test_an_unreadable_reply_to_may_go_anywhere(value: bytes) -> None:
    with work_of_less_than(0.5):
        assert notes_of(b"Reply-To: " + value + b"\r\n" + signed(mail())) == (Note.REPLY_ELSEWHERE,)


def test_a_date_past_all_reason_is_none() -> None:
    raw = signed(mail()).replace(DATE, b"Date: Mon, 22 Nov 2026 02:15:00 +" + b"9" * 200_000 + b"\r\n", 1)
    with work_of_less_than(0.5):
        assert notes_of(raw, later=2 * DATE_TOLERANCE) == (Note.SIGNED_EARLIER,)
