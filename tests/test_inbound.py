"""The way of one inbound message: nothing forged stays, three fields are added, DKIM stays whole."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import bank
import dkim
from bank import ALICE, BOB, HOST, Done, mail, receive, signed
from mailsigil.plan import DeleteField, Event, InsertField, Outcome
from spare_keys import rsa_key
from tampering import author_is, wrapped

NAMES = ["Authentication-Results", "Verified-Identity", "Verified-Identity-Text"]

FORGED = (
    b"Verified-Identity: V4; status=trusted; name=Boss\r\n"
    b"VERIFIED-IDENTITY: V4; status=trusted\r\n"
    b"verified-identity-text: V4 The Boss, Identity Validated and Trusted\r\n"
    b"Verified-Identity-Extra: anything\r\n"
    b"Verified_Identity: V4\r\n"
    b"Authentication-Results: mx.bank.example; smime=pass\r\n"
    b"authentication-results: MX.Bank.Example 1; dkim=pass header.d=bank.example\r\n"
    b'Authentication-Results:\r\n\t(hi) "mx.bank.example"; smime=pass\r\n'
    b"Authentication-Results: (unclosed\r\n"
)
FOREIGN = b"Authentication-Results: mx.partner.example; spf=pass smtp.mailfrom=a@b.example\r\n"

MESSAGES = [
    pytest.param(mail(), id="unsigned"),
    pytest.param(signed(mail()), id="signed"),
    pytest.param(signed(mail()).replace(b"Friday", b"Monday"), id="tampered"),
    pytest.param(signed(mail(), by=bank.stranger()), id="foreign-authority"),
    pytest.param(wrapped(signed(mail())), id="partial"),
    pytest.param(b"From: x@y.example\r\n" + signed(mail()), id="two-from"),
    pytest.param(mail("Staff: a@b.example;"), id="group"),
    pytest.param(mail(more=b"Content-Type: multipart/signed\r\n"), id="broken-multipart"),
    pytest.param(mail(body=b""), id="empty"),
    pytest.param(b"\r\nno header at all\r\n", id="no-header"),
    pytest.param(mail(more=b"X-Odd: \xff\xfe\x80 bytes\r\n"), id="eight-bit-header"),
]


def top(done: Done) -> list[str]:
    fields, _ = bank.cut(done.raw)
    return [field.name.decode() for field in fields[:3]]


def rest(raw: bytes) -> bytes:
    """A message without its first three fields."""
    fields, body = bank.cut(raw)
    return b"".join(field.raw for field in fields[3:]) + b"\r\n" + b"".join(body.chunks())


@pytest.mark.parametrize("raw", MESSAGES)
def test_every_message_gets_each_field_once_at_the_top(raw: bytes) -> None:
    done = receive(raw)
    assert done.plan.outcome is Outcome.ACCEPT
    assert top(done) == NAMES
    for name in NAMES:
        assert len(done.values(name)) == 1
    assert rest(done.raw) == raw


@pytest.mark.parametrize("raw", MESSAGES)
def test_every_message_loses_what_was_forged(raw: bytes) -> None:
    done = receive(FORGED + FOREIGN + raw)
    assert rest(done.raw) == FOREIGN + raw
    assert len([edit for edit in done.plan.edits if isinstance(edit, DeleteField)]) == 9


def test_forged_fields_between_others_go_by_their_own_occurrence() -> None:
    done = receive(FOREIGN + FORGED + FOREIGN + mail())
    assert rest(done.raw) == FOREIGN + FOREIGN + mail()


def test_a_trusted_signature_is_shown() -> None:
    done = receive(signed(mail()))
    assert done.plan.event is Event.VERIFIED
    assert done.value("Verified-Identity") == (
        'V4; status=trusted; name="Alice Example"; org="Example Bank"; title="Account Manager";'
        f' address="{ALICE}"; issuer="Example Bank Mail CA"; signed="2026-11-22T02:15:16Z"; dkim=none'
    )
    assert done.value("Verified-Identity-Text") == (
        "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
    )
    results = done.value("Authentication-Results")
    assert results.startswith(f"{HOST}; smime=pass body.smime-identifier={ALICE} body.smime-serial=")
    assert results.endswith('body.smime-issuer="CN=Example Bank Mail CA,O=Example Bank"; dkim=none')


@pytest.mark.parametrize(
    ("raw", "word", "status", "reason"),
    [
        pytest.param(mail(), "none", "unsigned", "unsigned", id="unsigned"),
        pytest.param(
            signed(mail()).replace(b"Friday", b"Monday"), "fail", "invalid", "digest", id="tampered"
        ),
        pytest.param(signed(mail(), by=bank.stranger()), "policy", "untrusted", "no-path", id="foreign-ca"),
        pytest.param(author_is(BOB)(signed(mail())), "policy", "mismatch", "address", id="mismatch"),
        pytest.param(wrapped(signed(mail())), "policy", "invalid", "partial", id="partial"),
        pytest.param(
            b"From: x@y.example\r\n" + signed(mail()), "policy", "mismatch", "author-several", id="two-from"
        ),
        pytest.param(
            author_is(f'"ceo@bank.example" <{ALICE}>')(signed(mail())),
            "policy",
            "mismatch",
            "author-name",
            id="deceptive-name",
        ),
        pytest.param(
            author_is(f"Staff: {ALICE};")(signed(mail())), "policy", "mismatch", "author-group", id="group"
        ),
    ],
)
def test_without_an_identity_the_reason_is_told(raw: bytes, word: str, status: str, reason: str) -> None:
    done = receive(raw)
    assert done.value("Verified-Identity") == f"none; status={status}; reason={reason}; dkim=none"
    assert done.value("Authentication-Results").startswith(f"{HOST}; smime={word}")
    assert not done.value("Verified-Identity-Text").startswith("V")
    assert done.plan.event is (Event.PASSED if word == "none" else Event.FAILED)
    assert done.plan.reason.startswith(reason)


def test_the_log_has_what_was_found() -> None:
    details = dict(receive(signed(mail())).plan.details)
    assert details["smime"] == "pass"
    assert details["level"] == "V4"
    assert details["address"] == ALICE
    assert details["serial"]


# --- DKIM ----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _dkim_signs_at_our_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """dkimpy reads the clock itself; the mails of these tests are received at ``NOW``."""
    monkeypatch.setattr(dkim, "time", SimpleNamespace(time=bank.NOW.timestamp))


@pytest.fixture(scope="module")
def dkim_key() -> tuple[bytes, bytes]:
    """A private key in PEM, and its record."""
    key = rsa_key()
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return private, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


@pytest.mark.parametrize(
    "canonical", ["simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"]
)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(mail(), id="unsigned"),
        pytest.param(signed(mail()), id="signed"),
        pytest.param(mail(more=b"X-Fold:\t  odd \r\n\t white \r\n   space\r\n"), id="odd-folds"),
        pytest.param(mail(more=FOREIGN), id="foreign-results"),
    ],
)
def test_dkim_is_told_and_still_holds_afterwards(
    raw: bytes, canonical: str, dkim_key: tuple[bytes, bytes]
) -> None:
    private, record = dkim_key
    ways = tuple(way.encode() for way in canonical.split("/"))
    # Only what is there: a signer that lists Authentication-Results where there is none forbids every
    # receiver to add his own.
    present = {field.key for field in bank.cut(raw)[0]}
    include = [
        name for name in (b"from", b"subject", b"x-fold", b"authentication-results") if name in present
    ]
    signature = dkim.sign(raw, b"s1", b"bank.example", private, canonicalize=ways, include_headers=include)
    done = receive(signature + raw, txt=lambda name: record)
    assert "dkim=pass header.d=bank.example header.s=s1" in done.values("Authentication-Results")[0]
    assert done.value("Verified-Identity").endswith("; dkim=pass")
    # Somebody else's verifier, on what the next one gets.
    assert dkim.verify(done.raw, dnsfunc=lambda name, timeout=5: record)


def test_dkim_of_somebody_else_does_not_vouch_for_the_author(dkim_key: tuple[bytes, bytes]) -> None:
    private, record = dkim_key
    raw = mail()
    signature = dkim.sign(raw, b"s1", b"partner.example", private)
    done = receive(signature + raw, txt=lambda name: record)
    assert "dkim=pass header.d=partner.example" in done.value("Authentication-Results")
    assert done.value("Verified-Identity").endswith("; dkim=none")


def test_a_broken_dkim_signature_is_told(dkim_key: tuple[bytes, bytes]) -> None:
    private, record = dkim_key
    raw = mail()
    done = receive(
        dkim.sign(raw, b"s1", b"bank.example", private) + raw + b"more\r\n", txt=lambda name: record
    )
    assert "dkim=fail" in done.value("Authentication-Results")
    assert done.value("Verified-Identity").endswith("; dkim=fail")


def test_the_fields_go_in_as_inserts_in_reading_order() -> None:
    inserted = [
        edit.field.name.decode() for edit in receive(mail()).plan.edits if isinstance(edit, InsertField)
    ]
    assert inserted == NAMES
