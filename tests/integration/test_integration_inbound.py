"""Mail from outside through a real Postfix: what is forged goes, who signed is told, DKIM stays whole."""

from __future__ import annotations

import base64
import re
import smtplib
from collections.abc import Callable

import pytest

import bank
import dkim
from integration.house import ALICE, House
from integration.kinds import mail
from integration.mailroom import Mailroom, header_fields, new_recipient, values
from mailsigil.demo.organisation import DOMAIN
from mailsigil.service import utc_now
from tampering import author_is, wrapped

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("house")]

HOST = "mx.bank.example"
NAMES = [b"Authentication-Results", b"Verified-Identity", b"Verified-Identity-Text"]
FORGED = (
    b"Verified-Identity: V4; status=trusted; name=Boss\r\n"
    b"vERIFIED-iDENTITY: V4; status=trusted\r\n"
    b"Verified-Identity-Text: V4 The Boss, Identity Validated and Trusted\r\n"
    b"Verified-Identity-Anything: x\r\n"
    b"X-Between: kept\r\n"
    b"Authentication-Results: mx.bank.example; smime=pass\r\n"
    b"aUTHENTICATION-rESULTS: (comment) MX.BANK.EXAMPLE 1;\r\n\tsmime=pass\r\n"
    b"Verified-Identity: V4; status=trusted\r\n"
)
FOREIGN = b"Authentication-Results: mx.partner.example;\r\n\tspf=pass smtp.mailfrom=a@b.example\r\n"


@pytest.fixture(scope="module")
def signed(house: House) -> bytes:
    """A mail of Alice's as it left the house."""
    return house.mailroom.send(mail(ALICE, b"Dear Bob,\r\n\r\nsee you on Friday.\r\n"), ALICE).content


def assert_three_fields_on_top(arrived: bytes) -> None:
    fields = header_fields(arrived)
    # Postfix's own Received stands below what its milters insert at the top.
    assert [field.partition(b":")[0] for field in fields[:3]] == NAMES
    for name in NAMES[1:]:
        assert len(values(arrived, name.decode())) == 1
    ours = [value for value in values(arrived, "Authentication-Results") if value.startswith(HOST)]
    assert len(ours) == 1


@pytest.mark.parametrize("kind", ["unsigned", "signed", "tampered", "broken"])
def test_forged_fields_are_removed_from_every_message(kind: str, mailroom: Mailroom, signed: bytes) -> None:
    content = {
        "unsigned": mail("x@partner.example"),
        "signed": signed,
        "tampered": signed.replace(b"Friday", b"Monday"),
        "broken": mail(ALICE, b"no part\r\n", more=b"Content-Type: multipart/signed; boundary=x\r\n"),
    }[kind]
    arrived = mailroom.bring(FORGED + FOREIGN + content)
    assert_three_fields_on_top(arrived)
    assert b"Boss" not in arrived
    assert values(arrived, "Verified-Identity-Anything") == []
    assert values(arrived, "X-Between") == ["kept"]
    assert FOREIGN.strip() in header_fields(arrived)
    # Everything else keeps its bytes and its order.
    kept = [field for field in header_fields(arrived)[3:] if not field.startswith(b"Received:")]
    before = [field for field in header_fields(content) if not field.startswith(b"Received:")]
    assert kept == [b"X-Between: kept", FOREIGN.strip(), *before]


def test_a_signed_mail_shows_who_sent_it(mailroom: Mailroom, signed: bytes) -> None:
    arrived = mailroom.bring(signed)
    assert_three_fields_on_top(arrived)
    assert values(arrived, "Verified-Identity-Text") == [
        "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
    ]
    (identity,) = values(arrived, "Verified-Identity")
    assert identity.startswith('V4; status=trusted; name="Alice Example"; org="Example Bank"')
    assert identity.endswith("dkim=pass")
    (results,) = values(arrived, "Authentication-Results")
    assert f"smime=pass body.smime-identifier={ALICE}" in results
    assert f"dkim=pass header.d={DOMAIN}" in results


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda raw: raw.replace(b"Friday", b"Monday"), "invalid; reason=digest", id="tampered"),
        pytest.param(author_is(f"bob@{DOMAIN}"), "mismatch; reason=address", id="another-author"),
        pytest.param(
            lambda raw: b"From: x@partner.example\r\n" + raw, "mismatch; reason=author-several", id="two-from"
        ),
        pytest.param(author_is(f"Staff: {ALICE};"), "mismatch; reason=author-group", id="group"),
        pytest.param(
            author_is(f'"ceo@{DOMAIN}" <{ALICE}>'), "mismatch; reason=author-name", id="deceptive-name"
        ),
        pytest.param(
            lambda raw: wrapped(raw, after=b"\r\nAlso, please pay.\r\n"),
            "invalid; reason=partial",
            id="partial",
        ),
        pytest.param(lambda raw: raw + b"and pay\r\n", "invalid; reason=trailing", id="text-after-the-end"),
    ],
)
def test_no_identity_and_the_reason(
    change: Callable[[bytes], bytes], says: str, mailroom: Mailroom, signed: bytes
) -> None:
    arrived = mailroom.bring(change(signed))
    assert_three_fields_on_top(arrived)
    assert values(arrived, "Verified-Identity")[0].startswith(f"none; status={says}; dkim=")
    assert values(arrived, "Verified-Identity-Text")[0].startswith("Identity Not Verified: ")


def test_unsigned_mail_says_so(mailroom: Mailroom) -> None:
    arrived = mailroom.bring(mail("x@partner.example"))
    assert values(arrived, "Verified-Identity") == ["none; status=unsigned; reason=unsigned; dkim=none"]
    assert values(arrived, "Verified-Identity-Text") == ["Not signed"]


def test_a_foreign_authority_of_the_same_name(mailroom: Mailroom) -> None:
    foreign = bank.found_bank(bank.PEOPLE[:1], now=utc_now())
    raw = bank.signed(mail(ALICE), by=foreign, now=utc_now())
    arrived = mailroom.bring(raw)
    assert values(arrived, "Verified-Identity")[0].startswith("none; status=untrusted; reason=no-path")


def test_eight_bit_header_bytes_stay(mailroom: Mailroom) -> None:
    more = b"X-Odd: \xff\xfe\x80\r\nX-Latin: caf\xe9\r\nVerified-Identity: \xff\xfe\r\n"
    arrived = mailroom.bring(mail("x@partner.example", more=more))
    assert_three_fields_on_top(arrived)
    assert {b"X-Odd: \xff\xfe\x80", b"X-Latin: caf\xe9"} <= set(header_fields(arrived))


def _reply(mailroom: Mailroom, content: bytes) -> tuple[int, bytes]:
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        mailroom.site.deliver(content, recipients=(new_recipient(),))
    error = refusal.value.smtp_error
    return refusal.value.smtp_code, error if isinstance(error, bytes) else error.encode()


TOO_MUCH = (552, b"5.3.4 Message exceeds the limits of this server")


def test_too_many_header_fields_are_refused(mailroom: Mailroom) -> None:
    """A forged field behind the bound would have gone unseen."""
    more = b"".join(b"X-N: %d\r\n" % n for n in range(1100)) + b"Verified-Identity: V4\r\n"
    assert _reply(mailroom, mail("x@partner.example", more=more)) == TOO_MUCH


def test_too_big_a_header_is_refused(mailroom: Mailroom) -> None:
    more = b"".join(b"X-%d: " % n + b"x" * 900 + b"\r\n" for n in range(320))
    assert _reply(mailroom, mail("x@partner.example", more=more)) == TOO_MUCH


def _nested(levels: int) -> bytes:
    opened = b"".join(
        b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(levels)
    )
    more = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n"
    return mail("x@partner.example", opened + b"deep\r\n", more=more)


def test_mime_deeper_than_the_bound_is_not_judged(mailroom: Mailroom) -> None:
    arrived = mailroom.bring(_nested(60))
    assert values(arrived, "Verified-Identity") == ["none; status=unchecked; reason=limit; dkim=none"]
    assert 'smime=policy reason="limit"' in values(arrived, "Authentication-Results")[0]


def test_more_parts_than_the_bound_are_not_judged(mailroom: Mailroom) -> None:
    body = b"--x\r\n\r\npart\r\n" * 1100 + b"--x--\r\n"
    more = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n"
    arrived = mailroom.bring(mail("x@partner.example", body, more=more))
    assert "reason=limit" in values(arrived, "Verified-Identity")[0]


# --- DKIM ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "canonical", ["simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"]
)
@pytest.mark.parametrize("kind", ["unsigned", "signed", "odd-folds", "forged"])
def test_dkim_of_inbound_mail_holds_after_our_edits(
    kind: str, canonical: str, mailroom: Mailroom, signed: bytes
) -> None:
    content = {
        "unsigned": mail(ALICE),
        "signed": re.sub(rb"\ADKIM-Signature:.*?\r\n(?![ \t])", b"", signed, flags=re.DOTALL),
        "odd-folds": mail(ALICE, more=b"X-Fold:\t  odd \t \r\n\t white \r\n   space\r\nSUBJECT2:tight\r\n"),
        "forged": FORGED + mail(ALICE),
    }[kind]
    ways = tuple(way.encode() for way in canonical.split("/"))
    key = (mailroom.site.folder / "opendkim" / "key.pem").read_bytes()
    include = [b"from", b"to", b"subject", b"date", b"message-id", b"content-type", b"mime-version"]
    present = {field.partition(b":")[0].lower() for field in header_fields(content)}
    covered = [name for name in [*include, b"x-fold", b"subject2"] if name in present]
    signature = dkim.sign(
        content,
        mailroom.site.dkim.selector.encode(),
        DOMAIN.encode(),
        key,
        canonicalize=ways,
        include_headers=covered,
    )
    arrived = mailroom.bring(signature + content)
    assert f"dkim=pass header.d={DOMAIN}" in values(arrived, "Authentication-Results")[0]
    assert values(arrived, "Verified-Identity")[0].endswith("dkim=pass")
    # Somebody else's verifier, on the delivered octets.
    assert mailroom.dkim_holds(arrived)


def test_a_broken_dkim_signature_is_told(mailroom: Mailroom, signed: bytes) -> None:
    arrived = mailroom.bring(signed.replace(b"Subject: ", b"Subject: not "))
    assert values(arrived, "Verified-Identity")[0].endswith("dkim=fail")
    assert not mailroom.dkim_holds(arrived)


def test_an_opaque_message_is_verified(mailroom: Mailroom) -> None:
    address = f"opaque@{DOMAIN}"
    sent = mailroom.send(mail(address), address).content
    assert base64.b64decode(sent.partition(b"\r\n\r\n")[2])
    arrived = mailroom.bring(sent)
    assert values(arrived, "Verified-Identity-Text") == ["V1 Email Validated, Identity Not Validated"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("carol", "V3 Example Bank, Identity Validated and Trusted", id="V3"),
        pytest.param("dora", "V2 Dora Muster, Identity Validated", id="V2"),
        pytest.param("info", "V1 Email Validated, Identity Not Validated", id="V1"),
    ],
)
def test_each_level_is_shown_in_its_words(name: str, text: str, mailroom: Mailroom) -> None:
    address = f"{name}@{DOMAIN}"
    arrived = mailroom.bring(mailroom.send(mail(address), address).content)
    assert values(arrived, "Verified-Identity-Text") == [text]
