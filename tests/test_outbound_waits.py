"""Outbound mail that has to wait, signing times, and DKIM that came too early."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

import bank
from bank import ALICE, CUSTOMER, NOW, POLICY, Done, mail, send
from mailsigil.directory.api import Directory, DirectoryUnavailable
from mailsigil.keys.errors import KeyAgentRefused, KeyAgentUnavailable, Refusal
from mailsigil.message.mime import MimeLimits
from mailsigil.outbound import OutboundParts, outbound
from mailsigil.plan import DeleteField, Envelope, Event, Outcome, Plan

PREFERRED = POLICY.replace('signing = "required"', 'signing = "preferred"')


def signing_time(done: Done) -> datetime | None:
    return bank.judge(done.raw, at=NOW).signed


def assert_untouched(done: Done, raw: bytes, reason: str) -> None:
    assert (done.plan.event, done.plan.outcome) == (Event.PASSED, Outcome.ACCEPT)
    assert done.plan.reason.startswith(reason)
    assert done.raw == raw


# --- Cannot be signed ----------------------------------------------------------------------------------

DEFERRED = (Event.DEFERRED, Outcome.TEMPFAIL)


def assert_waits_or_passes(raw: bytes, *, ends: tuple[Event, Outcome] = DEFERRED, **how: object) -> None:
    """Required: deferred, or as ``ends`` says; preferred: goes on as it is."""
    required, preferred = send(raw, **how), send(raw, policy=PREFERRED, **how)  # type: ignore[arg-type]
    assert (required.plan.event, required.plan.outcome) == ends
    assert required.plan.edits == ()
    assert preferred.plan.event is Event.PASSED
    assert preferred.raw == raw


def test_without_a_certificate() -> None:
    raw = mail("nokey@bank.example")
    assert_waits_or_passes(raw, login="nokey", mail_from="nokey@bank.example")
    assert "no certificate" in send(raw, login="nokey", mail_from="nokey@bank.example").plan.reason


def test_the_certificate_must_name_the_author_and_not_only_the_person() -> None:
    """An alias may be sent as, but no certificate names it: nothing else is signed in its place."""
    assert_waits_or_passes(mail("alice.example@bank.example"))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(KeyAgentUnavailable("connection refused"), id="agent-away"),
        pytest.param(KeyAgentRefused(Refusal.FAILED, "the key failed"), id="agent-refuses"),
    ],
)
def test_when_the_key_agent_gives_no_signature(fault: Exception) -> None:
    keys = bank.bank().keyring()
    keys.fault = fault  # type: ignore[assignment]
    assert_waits_or_passes(mail(), keys=keys)


def test_when_the_message_has_several_readings_and_no_seven_bit_form() -> None:
    """Another try would change nothing, so the client is told for good."""
    inside = b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    nested = mail(
        more=b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n",
        body=b"--x\r\n\r\n\xff\r\n--x--\r\n--x\r\n\r\nshown by some\r\n--x--\r\n" + inside,
    )
    assert_waits_or_passes(nested, ends=(Event.REFUSED, Outcome.REFUSE_FORM))


def deep(levels: int) -> bytes:
    head = "".join(
        f'Content-Type: multipart/mixed; boundary="{n}x"\r\n\r\n--{n}x\r\n' for n in range(levels)
    ).encode()
    return head.removesuffix(b"\r\n") + b"\r\n\r\n\xff\r\n"


def test_when_the_structure_passes_the_bounds() -> None:
    body = deep(MimeLimits().depth + 5).partition(b"\r\n\r\n")
    raw = mail(more=body[0] + b"\r\n", body=body[2])
    assert_waits_or_passes(raw, ends=(Event.REFUSED, Outcome.REFUSE_SIZE))


class Away:
    """A directory that does not answer."""

    def __getattr__(self, name: str) -> object:
        raise DirectoryUnavailable("no server answers")


def without_directory(raw: bytes, *, login: str = "alice", mail_from: str = ALICE) -> Plan:
    away: Directory = Away()  # type: ignore[assignment]
    parts = OutboundParts(
        directory=away,
        keys=bank.bank().keyring(),
        now=lambda: NOW,
        new_boundary=lambda: "b",
        authserv_id=bank.HOST,
        mime_limits=MimeLimits(),
    )
    return outbound(Envelope(login=login, mail_from=mail_from, recipients=(CUSTOMER,)), *bank.cut(raw), parts)


AUTOMATIC = b"Auto-Submitted: auto-replied\r\n"


@pytest.mark.parametrize(
    ("raw", "mail_from"),
    [
        pytest.param(mail(), ALICE, id="one-author"),
        pytest.param(mail("a:;"), ALICE, id="no-author"),
        pytest.param(bank.signed(mail()), ALICE, id="signed"),
        pytest.param(mail(), "", id="null-sender"),
        pytest.param(mail(more=AUTOMATIC), "", id="answer-of-a-program"),
    ],
)
def test_without_the_directory_mail_waits(raw: bytes, mail_from: str) -> None:
    """Nobody knows then whether it must be signed."""
    plan = without_directory(raw, mail_from=mail_from)
    assert (plan.event, plan.outcome) == DEFERRED


@pytest.mark.parametrize("more", [b"", AUTOMATIC])
def test_bounces_without_login_wait_for_no_directory(more: bytes) -> None:
    raw = mail("Mail Delivery System <MAILER-DAEMON@bank.example>", more=more)
    plan = without_directory(raw, login="", mail_from="")
    assert (plan.event, plan.outcome, plan.reason) == (Event.PASSED, Outcome.ACCEPT, "bounce")


# --- Signing time --------------------------------------------------------------------------------------


def _date(moved: timedelta, zone: str = "+0000") -> bytes:
    return f"{NOW + moved:%a, %d %b %Y %H:%M:%S} {zone}".encode()


@pytest.mark.parametrize(
    ("date", "told"),
    [
        pytest.param(_date(timedelta(0)), True, id="now"),
        pytest.param(_date(-timedelta(minutes=54)), True, id="54-minutes-ago"),
        pytest.param(_date(timedelta(minutes=54)), True, id="in-54-minutes"),
        pytest.param(_date(-timedelta(minutes=56)), False, id="56-minutes-ago"),
        pytest.param(_date(-timedelta(hours=3)), False, id="scheduled-3-hours-ago"),
        pytest.param(_date(timedelta(hours=2)), False, id="clock-far-ahead"),
        pytest.param(_date(timedelta(hours=1), "+0100"), True, id="another-zone"),
        pytest.param(_date(timedelta(0), "-0000"), True, id="zone-of-unknown-origin"),
        pytest.param(_date(timedelta(0), "GMT (a comment)"), True, id="comment"),
        pytest.param(b"yesterday", False, id="no-date-at-all"),
        pytest.param(b"Sun, 99 Nov 2026 99:99:99 +9999", False, id="impossible"),
        pytest.param(b"Sun, 22 Nov 99999999 02:15:00 +0000", False, id="far-year"),
        pytest.param(b"\xff\xfe", False, id="eight-bit"),
    ],
)
def test_signing_time_is_told_only_near_the_date(date: bytes, told: bool) -> None:
    """Thunderbird calls a signature invalid when Date and signingTime are more than an hour apart."""
    assert signing_time(send(mail(date=date))) == (NOW if told else None)


def test_without_a_date_no_signing_time_is_told() -> None:
    assert signing_time(send(mail().replace(b"Date:", b"X-Date:"))) is None


# --- DKIM before S/MIME --------------------------------------------------------------------------------

OWN = b"DKIM-Signature: v=1; a=rsa-sha256; d=bank.example; s=mail; h=from; bh=x; b=y\r\n"
OTHER = b"DKIM-Signature: v=1; a=rsa-sha256; d=partner.example; s=mail; h=from; bh=x; b=y\r\n"
PASS, REFUSE = (
    POLICY.replace("exempt_recipients", f'misordered_dkim = "{word}"\nexempt_recipients')
    for word in ("pass", "refuse")
)


def test_own_dkim_is_stripped_with_a_warning_that_names_the_setting() -> None:
    done = send(mail(more=OTHER + OWN + OWN))
    assert done.plan.event is Event.SIGNED
    assert [edit for edit in done.plan.edits if isinstance(edit, DeleteField)] == [
        DeleteField(b"DKIM-Signature", 2),
        DeleteField(b"DKIM-Signature", 3),
    ]
    assert done.values("DKIM-Signature") == [OTHER.decode().strip().partition(": ")[2]]
    (warning,) = done.plan.warnings
    assert "smtpd_milters" in warning


def test_own_dkim_passes_unsigned_by_policy_where_signing_is_no_must() -> None:
    raw = mail(more=OWN)
    done = send(raw, policy=PASS.replace('"required"', '"preferred"'))
    assert_untouched(done, raw, "DKIM signature of our own before S/MIME")
    assert "smtpd_milters" in done.plan.reason


def test_required_mail_does_not_pass_unsigned_because_of_dkim() -> None:
    done = send(mail(more=OWN), policy=PASS)
    assert (done.plan.event, done.plan.outcome) == DEFERRED


def test_own_dkim_is_refused_by_policy() -> None:
    done = send(mail(more=OWN), policy=REFUSE)
    assert (done.plan.event, done.plan.outcome) == (Event.REFUSED, Outcome.REFUSE_CHAIN)
    assert done.plan.edits == ()
    assert (done.plan.outcome.code, done.plan.outcome.status) == ("550", "5.7.5")


@pytest.mark.parametrize("policy", [PASS, REFUSE], ids=["pass", "refuse"])
def test_dkim_of_others_is_no_misorder(policy: str) -> None:
    done = send(mail(more=OTHER), policy=policy)
    assert done.plan.event is Event.SIGNED
    assert done.plan.warnings == ()
    assert OTHER in done.raw


def test_warnings_of_passed_dkim_name_the_setting_too() -> None:
    """Stripping is not the only thing that an admin should hear of."""
    done = send(mail(more=OWN), policy=PASS.replace('"required"', '"preferred"'))
    assert any("smtpd_milters" in warning for warning in done.plan.warnings)
