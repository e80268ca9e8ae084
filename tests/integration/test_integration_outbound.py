"""Who may be signed, and what leaves untouched, through a real Postfix."""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

import protected_mail
from integration.house import (
    ALIAS,
    ALICE,
    CEO,
    NEVER,
    NOKEY,
    OPAQUE,
    PASS_CHAIN,
    PREFERRED,
    REFUSE_CHAIN,
    SERVICE,
    STRANGER,
    House,
)
from integration.kinds import mail
from integration.mailroom import Mailroom, header_fields, is_signed, new_recipient, signed_parts, values
from mailsigil.cms.parse import BytesSource, parse_signed_data
from mailsigil.demo.organisation import PASSWORD
from mailsigil.service import utc_now

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("house")]


def refused(mailroom: Mailroom, content: bytes, login: str | None, *, mail_from: str) -> tuple[int, str]:
    """The reply to a message that is not taken; fails if anything of it left."""
    recipient = new_recipient()
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        mailroom.site.submit(content, login=login, mail_from=mail_from, recipients=(recipient,))
    error = refusal.value.smtp_error
    text = error.decode() if isinstance(error, bytes) else error
    # A mail that comes later has arrived: one that was refused would have been before it.
    mailroom.send(mail(ALICE), ALICE)
    assert mailroom.arrived(recipient) == []
    return refusal.value.smtp_code, text


def body_of(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[2]


def assert_untouched(before: bytes, after: bytes) -> None:
    """Byte for byte, apart from what Postfix and the DKIM signer write on top."""
    kept = header_fields(after)
    while kept[0].startswith((b"Received:", b"DKIM-Signature:")):
        del kept[0]
    assert kept == header_fields(before)
    assert body_of(after) == body_of(before)


# --- Who may be signed ---------------------------------------------------------------------------------

NOT_ALLOWED = (550, "5.7.1 Sender is not allowed to send as this author")


@pytest.mark.parametrize(
    ("author", "login", "mail_from"),
    [
        pytest.param(CEO, ALICE, ALICE, id="from-the-boss-by-another-login"),
        pytest.param(CEO, ALICE, CEO, id="from-and-envelope-of-the-boss"),
        pytest.param(ALICE, ALICE, CEO, id="envelope-of-the-boss"),
        pytest.param(ALICE, ALICE, "alice@partner.example", id="envelope-elsewhere"),
        pytest.param(ALICE, STRANGER, ALICE, id="login-that-is-nobody"),
        pytest.param(ALICE, None, ALICE, id="no-login"),
        pytest.param(f"Staff: {ALICE};", ALICE, ALICE, id="group"),
        pytest.param(f"{ALICE}, {CEO}", ALICE, ALICE, id="two-addresses"),
        pytest.param(f'"{CEO}" <{ALICE}>', ALICE, ALICE, id="display-name-of-the-boss"),
    ],
)
def test_who_is_refused(author: str, login: str | None, mail_from: str, mailroom: Mailroom) -> None:
    assert refused(mailroom, mail(author), login, mail_from=mail_from) == NOT_ALLOWED


def test_two_from_fields_are_refused(mailroom: Mailroom) -> None:
    content = mail(ALICE, more=f"From: {CEO}\r\n".encode())
    assert refused(mailroom, content, ALICE, mail_from=ALICE) == NOT_ALLOWED


@pytest.mark.parametrize(
    ("author", "login", "mail_from"),
    [
        pytest.param(ALICE, ALICE, ALICE, id="own-address"),
        pytest.param(ALICE, ALICE, ALIAS, id="envelope-of-an-alias"),
        pytest.param(SERVICE, ALICE, ALICE, id="may-send-as"),
        pytest.param(SERVICE, None, SERVICE, id="client-rule-without-login"),
        pytest.param(OPAQUE, OPAQUE, OPAQUE, id="opaque-by-policy"),
        pytest.param(PREFERRED, PREFERRED, PREFERRED, id="preferred"),
    ],
)
def test_who_is_signed(author: str, login: str | None, mail_from: str, mailroom: Mailroom) -> None:
    arrived = mailroom.send(mail(author), login, mail_from=mail_from)
    assert is_signed(arrived.content)
    assert arrived.mail_from == mail_from
    assert mailroom.dkim_holds(arrived.content)
    expected = "application/pkcs7-mime" if author == OPAQUE else "multipart/signed"
    assert values(arrived.content, "Content-Type")[0].startswith(expected)


def test_preferred_mail_of_others_passes_unsigned(mailroom: Mailroom) -> None:
    content = mail(PREFERRED)
    arrived = mailroom.send(content, ALICE, mail_from=ALICE)
    assert_untouched(content, arrived.content)


# --- What cannot, must not or need not be signed -------------------------------------------------------


def test_required_without_a_certificate_waits_and_nothing_leaves(mailroom: Mailroom) -> None:
    code, text = refused(mailroom, mail(NOKEY), NOKEY, mail_from=NOKEY)
    assert (code, text) == (451, "4.7.0 Message cannot be processed now, try again later")
    assert f"no certificate for {NOKEY}" in mailroom.log()


def test_the_alias_that_no_certificate_names_waits(mailroom: Mailroom) -> None:
    assert refused(mailroom, mail(ALIAS), ALICE, mail_from=ALICE)[0] == 451


def test_never_is_left_alone(mailroom: Mailroom) -> None:
    content = mail(NEVER)
    assert_untouched(content, mailroom.send(content, NEVER).content)


def test_an_answer_of_a_program_is_left_alone(mailroom: Mailroom) -> None:
    content = mail(ALICE, more=b"Auto-Submitted: auto-replied\r\n")
    arrived = mailroom.send(content, ALICE, mail_from="")
    assert arrived.mail_from == ""
    assert_untouched(content, arrived.content)


def test_a_null_sender_alone_makes_no_bounce(mailroom: Mailroom) -> None:
    assert refused(mailroom, mail(ALICE), ALICE, mail_from="")[0] == 550
    answer = mail(CEO, more=b"Auto-Submitted: auto-replied\r\n")
    assert refused(mailroom, answer, ALICE, mail_from="")[0] == 550


def test_mail_to_exempt_recipients_alone_is_left_alone(mailroom: Mailroom) -> None:
    content = mail(ALICE)
    recipient = new_recipient("lists.example")
    assert_untouched(content, mailroom.send(content, ALICE, recipients=(recipient,)).content)
    both = (new_recipient("lists.example"), new_recipient())
    assert is_signed(mailroom.send(content, ALICE, recipients=both).content)


@pytest.mark.parametrize("kind", protected_mail.genuine())
def test_protected_mail_is_untouched_byte_for_byte(kind: str, mailroom: Mailroom) -> None:
    if kind == "encrypted-in-binary":
        pytest.skip("Postfix gives binary away as lines")
    fields, body = protected_mail.genuine()[kind]
    content = mail(ALICE, body, more=b"MIME-Version: 1.0\r\n" + fields)
    assert_untouched(content, mailroom.send(content, ALICE).content)


@pytest.mark.parametrize("kind", ["signed-a-header-alone", "opaque-and-text", "pgp-quoted"])
def test_what_only_says_that_it_is_protected_is_signed(kind: str, mailroom: Mailroom) -> None:
    fields, body = protected_mail.pretended()[kind]
    content = mail(ALICE, body, more=b"MIME-Version: 1.0\r\n" + fields)
    assert is_signed(mailroom.send(content, ALICE).content)


def test_what_was_signed_here_is_not_signed_again(mailroom: Mailroom) -> None:
    once = mailroom.send(mail(ALICE), ALICE).content
    again = mailroom.send(once, ALICE).content
    assert body_of(again) == body_of(once)


# --- Fields and times ----------------------------------------------------------------------------------


def test_forged_identity_is_removed_on_the_way_out(mailroom: Mailroom) -> None:
    more = b"Verified-Identity: V4; status=trusted\r\nX-Kept: yes\r\nVERIFIED-identity-TEXT: V4 The Boss\r\n"
    for author in (ALICE, NEVER):
        arrived = mailroom.send(mail(author, more=more), author).content
        assert values(arrived, "X-Kept") == ["yes"]
        assert values(arrived, "Verified-Identity") == values(arrived, "Verified-Identity-Text") == []


def _signing_time(content: bytes) -> datetime | None:
    return parse_signed_data(BytesSource(signed_parts(content)[0])).signers[0].signing_time


def test_scheduled_mail_has_no_signing_time(mailroom: Mailroom) -> None:
    """Thunderbird would call it invalid: its Date is when it was written."""
    date = format_datetime(utc_now() - timedelta(hours=3)).encode()
    scheduled = mail(ALICE).replace(b"\r\nDate: ", b"\r\nDate: " + date + b"\r\nX-Date: ")
    arrived = mailroom.send(scheduled, ALICE).content
    assert is_signed(arrived)
    assert _signing_time(arrived) is None


def test_fresh_mail_has_its_signing_time(mailroom: Mailroom) -> None:
    time = _signing_time(mailroom.send(mail(ALICE), ALICE).content)
    assert time is not None
    assert abs(utc_now() - time) < timedelta(minutes=2)


def test_several_mails_in_one_session_are_judged_one_by_one(house: House, mailroom: Mailroom) -> None:
    """Nothing of the mail before may count for the next: not its author, not its body."""
    recipients = [new_recipient() for _ in range(3)]
    with smtplib.SMTP("127.0.0.1", house.site.submission_port, timeout=60) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, recipients[0], mail(ALICE))
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(ALICE, recipients[1], mail(CEO))
        client.sendmail(ALICE, recipients[2], mail(ALICE, b"third\r\n"))
    assert is_signed(mailroom.arrival(recipients[0]).content)
    assert b"third" in mailroom.arrival(recipients[2]).content
    assert mailroom.arrived(recipients[1]) == []


# --- DKIM before S/MIME --------------------------------------------------------------------------------


def _through_the_wrong_order(house: House, author: str) -> bytes:
    recipient = new_recipient()
    with smtplib.SMTP("127.0.0.1", house.wrong_order_port, timeout=60) as client:
        client.login(author, PASSWORD)
        client.sendmail(author, recipient, mail(author))
    return house.mailroom.arrival(recipient).content


def test_a_misordered_chain_is_stripped_with_a_warning(house: House, mailroom: Mailroom) -> None:
    content = _through_the_wrong_order(house, ALICE)
    assert is_signed(content)
    assert values(content, "DKIM-Signature") == []
    mailroom.wait_for(
        lambda: "warning" in mailroom.log() and "mend smtpd_milters" in mailroom.log(), "the warning"
    )


def test_a_misordered_chain_passes_unsigned_by_policy(house: House, mailroom: Mailroom) -> None:
    content = _through_the_wrong_order(house, PASS_CHAIN)
    assert not is_signed(content)
    assert mailroom.dkim_holds(content)


def test_a_misordered_chain_is_refused_by_policy(house: House) -> None:
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        _through_the_wrong_order(house, REFUSE_CHAIN)
    assert refusal.value.smtp_code == 550
    assert refusal.value.smtp_error == b"5.7.5 Message was DKIM-signed before it was S/MIME-signed"
