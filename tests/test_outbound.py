"""The way of one outbound message: who may be signed, and what is left alone."""

from __future__ import annotations

import pytest

import bank
import protected_mail
from bank import ALICE, CUSTOMER, POLICY, Done, mail, send
from mailsigil.claims import strictest_policy
from mailsigil.message.fields import Field
from mailsigil.plan import Envelope, Event, Outcome
from mailsigil.verdict import SmimeWord

ALLOW = POLICY.replace('unauthorised = "refuse"', 'unauthorised = "pass"').replace(
    'signing = "required"', 'signing = "preferred"'
)
"""Mail of others goes on unsigned, and mail that cannot be signed as well."""
NEVER = POLICY.replace('signing = "required"', 'signing = "never"')


def assert_untouched(done: Done, raw: bytes, reason: str) -> None:
    assert (done.plan.event, done.plan.outcome) == (Event.PASSED, Outcome.ACCEPT)
    assert done.plan.reason.startswith(reason)
    assert done.raw == raw


def assert_refused(done: Done) -> None:
    assert (done.plan.event, done.plan.outcome) == (Event.REFUSED, Outcome.REFUSE_SENDER)
    assert done.plan.edits == ()


# --- Signed --------------------------------------------------------------------------------------------


def test_the_mail_of_a_required_sender_is_signed() -> None:
    done = send(mail())
    assert done.plan.event is Event.SIGNED
    verdict = bank.judge(done.raw)
    assert verdict.word is SmimeWord.PASS
    assert verdict.identity is not None
    assert verdict.identity.address == ALICE


def test_the_log_names_author_key_scheme_form_and_the_policy_that_asked() -> None:
    plan = send(mail()).plan
    details = dict(plan.details)
    assert details["author"] == ALICE
    assert details["scheme"] == "ecdsa-sha256"
    assert details["form"] == "clear"
    assert details["key"]
    assert plan.reason == "policy.toml:2 domain bank.example"


def test_policy_may_ask_for_an_opaque_signature() -> None:
    done = send(mail(), policy=POLICY.replace("exempt_recipients", 'form = "opaque"\nexempt_recipients'))
    assert done.value("Content-Type").startswith("application/pkcs7-mime; smime-type=signed-data")
    assert bank.judge(done.raw).word is SmimeWord.PASS


@pytest.mark.parametrize(
    ("author", "login", "mail_from", "signer"),
    [
        pytest.param(ALICE, "alice", ALICE, ALICE, id="own-address"),
        pytest.param("ALICE@Bank.Example", "alice", ALICE, ALICE, id="letter-case-of-the-author"),
        pytest.param(ALICE, "ALICE", "Alice@BANK.example", ALICE, id="letter-case-of-login-and-envelope"),
        pytest.param(ALICE, "alice", "alice.example@bank.example", ALICE, id="envelope-sender-is-an-alias"),
        pytest.param("office@bank.example", "alice", ALICE, "office@bank.example", id="may-send-as-rule"),
        pytest.param(
            "müller@bank.example", "mueller", "müller@bank.example", "müller@bank.example", id="eai"
        ),
    ],
)
def test_who_is_signed_for(author: str, login: str, mail_from: str, signer: str) -> None:
    keys = bank.bank().keyring()
    done = send(mail(author), login=login, mail_from=mail_from, keys=keys)
    assert done.plan.event is Event.SIGNED, done.plan.reason
    assert keys.signed == [signer]
    assert bank.judge(done.raw).word is SmimeWord.PASS


def test_a_client_rule_stands_in_for_a_login() -> None:
    invoice = mail("info@bank.example")
    done = send(invoice, login="", mail_from="info@bank.example", client="192.0.2.10")
    assert done.plan.event is Event.SIGNED


# --- Refused, or passed and never signed ---------------------------------------------------------------

TWO_FROM = b"From: ceo@bank.example\r\n"
CASES = [
    pytest.param(mail("ceo@bank.example"), {}, id="author-is-somebody-else"),
    pytest.param(mail(f'"{ALICE}" <ceo@bank.example>'), {}, id="own-address-only-in-the-display-name"),
    pytest.param(mail(more=TWO_FROM), {}, id="two-from-fields"),
    pytest.param(mail(f"{ALICE}, ceo@bank.example"), {}, id="two-addresses"),
    pytest.param(mail(f"Staff: {ALICE};"), {}, id="group"),
    pytest.param(mail(f"undisclosed:;, {ALICE}"), {}, id="empty-group-before"),
    pytest.param(mail().replace(b"From:", b"X-From:"), {}, id="no-from"),
    pytest.param(mail(f"<<{ALICE}>"), {}, id="unreadable-from"),
    pytest.param(mail(f'"ceo@bank.example" <{ALICE}>'), {}, id="display-name-shows-another-address"),
    pytest.param(mail(), {"mail_from": "ceo@bank.example"}, id="envelope-sender-is-somebody-else"),
    pytest.param(mail(), {"mail_from": "alice@elsewhere.example"}, id="envelope-sender-elsewhere"),
    pytest.param(mail(), {"mail_from": "not an address"}, id="envelope-sender-unreadable"),
    pytest.param(mail(), {"login": "bob"}, id="login-of-a-colleague"),
    pytest.param(mail(), {"login": "nobody-knows"}, id="login-that-belongs-to-nobody"),
    pytest.param(mail(), {"login": ""}, id="no-login"),
    pytest.param(
        mail("info@bank.example"),
        {"login": "", "mail_from": "info@bank.example", "client": "192.0.2.11"},
        id="no-login-and-another-network",
    ),
    pytest.param(
        mail("info@bank.example"),
        {"login": "bob", "mail_from": "info@bank.example", "client": "192.0.2.10"},
        id="a-login-does-not-gain-from-the-client-rule",
    ),
]


@pytest.mark.parametrize(("raw", "how"), CASES)
def test_who_is_not_signed_for_is_refused(raw: bytes, how: dict[str, str]) -> None:
    keys = bank.bank().keyring()
    assert_refused(send(raw, keys=keys, **how))  # type: ignore[arg-type]
    assert keys.signed == []


@pytest.mark.parametrize(("raw", "how"), CASES)
def test_who_is_not_signed_for_may_pass_but_never_signed(raw: bytes, how: dict[str, str]) -> None:
    keys = bank.bank().keyring()
    done = send(raw, policy=ALLOW, keys=keys, **how)  # type: ignore[arg-type]
    assert done.plan.event is Event.PASSED
    assert done.raw == raw
    assert keys.signed == []


UNREADABLE = {
    "trailing-dot": b"<info@bank.example.>",
    "dots-in-a-row": b"<info@bank..example>",
    "blanks-around-the-at": b"<info @ bank.example>",
    "blanks-around-a-dot": b"<info@bank . example>",
    "folded": b"<info@bank\r\n .example>",
    "comment-inside": b"<info@(of the)bank.example>",
    "comments-in-a-comment": b"Bank <info@bank(a(b)c).example>",
    "comments-in-a-comment-after-the-at": b"info@(a(b)c)bank.example",
    "comments-in-a-comment-after-a-dot": b"info@bank.(a(b(c))(d))example",
    "comment-with-an-escaped-parenthesis": b"info@bank(a\\)b).example",
    "comment-with-a-quote": b'"(" info@bank(").example',
    "parentheses-in-quotes-around": b'"(" <info@bank(a(b)c).example> ")"',
    "comment-that-does-not-end": b"(x info@bank(a(b)c).example",
    "route": b"<@relay.example:info@bank.example>",
    "route-of-several": b"<@a.example,@b.example:info@bank.example>",
    "full-width-dot": "<info@bank\uff0eexample>".encode(),
    "ideographic-dot": "<info @bank\u3002example>".encode(),
    "full-width-letters": "<info@\uff42\uff41\uff4e\uff4b.example>".encode(),
    "full-width-at": "<info\uff20bank.example>".encode(),
    "letters-that-cannot-be-seen": "<info@bank\u200b.exam\u00adple>".encode(),
    "latin-1-name": b"B\xf6rse <info@bank.example>",
    "comma-without-quotes": b"Bank, Info <info@bank.example>",
    "colon-without-quotes": b"Bank: Info <info@bank.example>",
    "two-addresses": b"somebody@elsewhere.example, info@bank.example",
    "group": b"Bank: info@bank.example;",
    "second-at": b"info@bank.example@elsewhere.example",
    "quoted-local-part": b'"in fo"@bank.example, x@elsewhere.example',
    "encoded-word": b"=?utf-8?q?info=40bank.example?= <x@elsewhere.example>",
    "name-shows-another": b'"info@bank.example" <x@elsewhere.example>',
    "unclosed": b"<info@bank.example",
    "nothing-to-read": b"Bank of Example",
    "empty": b"",
    "longer-than-is-read": b"x@elsewhere.example, " * 400 + b"info@bank.example",
    "more-than-are-asked-for": b"".join(b"x%d@elsewhere.example, " % n for n in range(30)),
}
FROM = f"From: Alice Example <{ALICE}>".encode()
SERVER = POLICY.replace('may_send_as = ["info@', 'may_send_as = ["*@bounces.bank.example", "info@')


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"login": "nobody-knows"}, id="login"),
        pytest.param({"login": "", "client": "192.0.2.10"}, id="client-rule"),
    ],
)
def test_an_author_who_cannot_be_read_hides_no_policy(value: bytes, how: dict[str, str]) -> None:
    raw = mail().replace(FROM, b"From: " + value)
    assert_refused(send(raw, policy=SERVER, mail_from="x@bounces.bank.example", **how))  # type: ignore[arg-type]


NOBODY_SEEN = {"nothing-to-read", "empty", "longer-than-is-read", "more-than-are-asked-for"}


@pytest.mark.parametrize("name", sorted(UNREADABLE.keys() - NOBODY_SEEN))
def test_whose_address_is_seen_is_asked_for_from_anywhere(name: str) -> None:
    raw = mail().replace(FROM, b"From: " + UNREADABLE[name])
    assert_refused(send(raw, login="", mail_from="x@elsewhere.example"))


@pytest.mark.parametrize(
    "value", [b"Somebody, Else <x@elsewhere.example>", b"x@elsewhere.example, y@elsewhere.example", b""]
)
def test_a_faulty_author_from_elsewhere_passes_without_login(value: bytes) -> None:
    raw = mail().replace(FROM, b"From: " + value)
    assert_untouched(send(raw, login="", mail_from="x@elsewhere.example"), raw, "author ")


@pytest.mark.parametrize("name", [b"From", b"FROM", b"Sender", b"From\xc2\xa0"])
def test_every_field_that_shows_a_sender_counts(name: bytes) -> None:
    fields, _ = bank.cut(mail("x@elsewhere.example, y@elsewhere.example"))
    envelope = Envelope(mail_from="x@elsewhere.example", recipients=(CUSTOMER,))
    for value, mode in ((b" z@elsewhere.example", "never"), (b" Bank, Info <info@bank.example>", "required")):
        shown = (*fields, Field(name, value))
        policy = strictest_policy(shown, envelope, None, bank.directory(), at=bank.NOW)
        assert policy.signing.value == mode


def test_all_addresses_of_who_logged_in_are_asked_for() -> None:
    """The main address has no policy, and an alias one that must be kept."""
    policy = '[[person]]\naddress = "al@old.example"\naliases = ["al@bank.example"]\nlogins = ["alice"]\n'
    policy += '[[domain]]\nname = "bank.example"\nsigning = "required"\n'
    raw = mail("x@elsewhere.example, y@elsewhere.example")
    assert_refused(send(raw, policy=policy, mail_from="al@old.example"))


def test_required_is_stronger_than_pass_for_the_unauthorised() -> None:
    """Mail that must be signed never leaves unsigned, whatever another setting says."""
    policy = POLICY.replace('unauthorised = "refuse"', 'unauthorised = "pass"')
    assert_refused(send(mail("ceo@bank.example"), policy=policy))


def test_the_reply_says_nothing_of_the_inside() -> None:
    plan = send(mail("ceo@bank.example")).plan
    assert "alice" in plan.reason
    assert (plan.outcome.code, plan.outcome.status) == ("550", "5.7.1")
    assert plan.outcome.text == "Sender is not allowed to send as this author"


def test_mail_of_a_sender_without_policy_passes_whoever_sends_it() -> None:
    raw = mail("friend@elsewhere.example")
    assert_untouched(send(raw), raw, "policy never (built-in default)")


# --- Left alone ----------------------------------------------------------------------------------------


def test_never_leaves_the_mail_alone() -> None:
    raw = mail()
    assert_untouched(send(raw, policy=NEVER), raw, "policy never (policy.toml:2 domain bank.example)")


def test_two_from_fields_of_a_never_sender_pass() -> None:
    raw = mail(more=TWO_FROM)
    assert_untouched(send(raw, policy=NEVER), raw, "author ")


REPORT = (
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n"
)
ANSWERS = {
    "read-receipt": REPORT,
    "vacation": b"Auto-Submitted: auto-replied\r\n",
    "vacation-with-a-parameter": b"Auto-Submitted: Auto-Replied (vacation); owner-email=x\r\n",
}
NO_ANSWERS = {
    "nothing-said": b"",
    "not-automatic": b"Auto-Submitted: no\r\n",
    "not-automatic-with-a-comment": b"Auto-Submitted: No (really)\r\n",
    "two-words": b"Auto-Submitted: auto-replied\r\nAuto-Submitted: no\r\n",
    "two-types": REPORT + b"Content-Type: text/html\r\n",
}
POSTMASTER = "Mail Delivery System <MAILER-DAEMON@bank.example>"


@pytest.mark.parametrize("more", [b"", *ANSWERS.values()])
def test_bounces_that_nobody_of_ours_sends_are_left_alone(more: bytes) -> None:
    raw = mail(POSTMASTER, more=more)
    assert_untouched(send(raw, login="", mail_from=""), raw, "bounce")


@pytest.mark.parametrize("more", ANSWERS.values(), ids=ANSWERS.keys())
def test_receipts_and_answers_of_a_program_are_left_alone(more: bytes) -> None:
    for author, how in (
        (ALICE, {}),
        ("office@bank.example", {}),
        ("info@bank.example", {"login": "", "client": "192.0.2.10"}),
    ):
        raw = mail(author, more=more)
        assert_untouched(send(raw, mail_from="", **how), raw, "bounce")  # type: ignore[arg-type]


@pytest.mark.parametrize("more", ANSWERS.values(), ids=ANSWERS.keys())
def test_nobody_answers_in_the_name_of_somebody_else(more: bytes) -> None:
    for author in ("ceo@bank.example", f"{ALICE}, ceo@bank.example"):
        raw = mail(author, more=more)
        assert_refused(send(raw, mail_from=""))
        done = send(raw, mail_from="", policy=ALLOW)
        assert done.plan.event is Event.PASSED
        assert done.plan.reason != "bounce"


@pytest.mark.parametrize("more", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
@pytest.mark.parametrize(
    ("author", "how"),
    [
        pytest.param(ALICE, {}, id="login"),
        pytest.param("ceo@bank.example", {}, id="login-of-somebody-else"),
        pytest.param("info@bank.example", {"login": "", "client": "192.0.2.10"}, id="client-rule"),
    ],
)
def test_a_null_sender_makes_no_bounce(author: str, how: dict[str, str], more: bytes) -> None:
    assert_refused(send(mail(author, more=more), mail_from="", **how))  # type: ignore[arg-type]


def test_recipients_who_are_all_exempt_get_it_unsigned() -> None:
    raw = mail()
    done = send(raw, recipients=("all@lists.example", "Some@LISTS.example"))
    assert_untouched(done, raw, "exempt recipients (policy.toml:2 domain bank.example)")


@pytest.mark.parametrize(
    "local", ["victim%outside.example", '"victim%outside.example"', "outside.example!victim"]
)
def test_who_is_reached_by_way_of_an_exempt_domain_is_not_exempt(local: str) -> None:
    assert send(mail(), recipients=(f"{local}@lists.example",)).plan.event is Event.SIGNED


def test_one_recipient_who_is_not_exempt_gets_the_mail_signed() -> None:
    assert send(mail(), recipients=("all@lists.example", CUSTOMER)).plan.event is Event.SIGNED


def content(sample: protected_mail.Sample, author: str = f"Alice Example <{ALICE}>") -> bytes:
    fields, body = sample
    return mail(author, body, more=b"MIME-Version: 1.0\r\n" + fields)


@pytest.mark.parametrize("name", protected_mail.genuine())
def test_signed_and_encrypted_mail_is_left_alone(name: str) -> None:
    raw = content(protected_mail.genuine()[name])
    assert_untouched(send(raw), raw, "already-protected")


@pytest.mark.parametrize("name", protected_mail.pretended())
def test_what_only_says_that_it_is_protected_is_signed(name: str) -> None:
    done = send(content(protected_mail.pretended()[name]))
    assert done.plan.event is Event.SIGNED, done.plan.reason
    assert bank.judge(done.raw).word is SmimeWord.PASS


@pytest.mark.parametrize("name", [*protected_mail.genuine(), *protected_mail.pretended()])
def test_protected_mail_in_the_name_of_somebody_else_is_refused(name: str) -> None:
    sample = (protected_mail.genuine() | protected_mail.pretended())[name]
    raw = content(sample, "The Boss <ceo@bank.example>")
    assert_refused(send(raw))
    assert_refused(send(raw, login="", mail_from="ceo@bank.example"))
    assert_untouched(send(raw, policy=ALLOW), raw, "login")


RECEIPT = (
    b"--b\r\nContent-Type: text/plain\r\n\r\nRead\r\n--b\r\n"
    b"Content-Type: message/disposition-notification\r\n\r\nDisposition: x; displayed\r\n--b--\r\n"
)


def test_a_signed_receipt_needs_no_envelope_sender() -> None:
    raw = bank.signed(mail(body=RECEIPT, more=REPORT))
    assert_untouched(send(raw, mail_from=""), raw, "already-protected clear-signed")


@pytest.mark.parametrize("name", protected_mail.genuine())
def test_protected_mail_without_envelope_sender_needs_its_author(name: str) -> None:
    sample = protected_mail.genuine()[name]
    for author, how in ((ALICE, {}), ("info@bank.example", {"login": "", "client": "192.0.2.10"})):
        raw = content(sample, author)
        assert_untouched(send(raw, mail_from="", **how), raw, "already-protected")  # type: ignore[arg-type]
        assert_refused(send(content(sample, "ceo@bank.example"), mail_from="", **how))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", protected_mail.pretended())
def test_what_only_says_that_it_is_protected_needs_an_envelope_sender(name: str) -> None:
    assert_refused(send(content(protected_mail.pretended()[name]), mail_from=""))


def test_protected_mail_of_a_faulty_author_is_refused() -> None:
    raw = content(protected_mail.genuine()["encrypted"], f"{ALICE}, ceo@bank.example")
    assert_refused(send(raw))


def test_what_was_signed_here_is_not_signed_again() -> None:
    once = send(mail()).raw
    assert_untouched(send(once), once, "already-protected clear-signed")


def test_forged_identity_fields_go_on_the_way_out_too() -> None:
    forged = (
        b"Verified-Identity: V4; status=trusted\r\nvErIfIeD-iDeNtItY-tExT: V4 The Boss\r\n"
        b"Authentication-Results: mx.bank.example; smime=pass\r\n"
        b"Authentication-Results: mx.other.example; x=y\r\n"
    )
    bounce = {"login": "", "mail_from": ""}
    for how in ({}, {"policy": NEVER}, bounce, {"recipients": ("a@lists.example",)}):
        done = send(mail(more=forged), **how)  # type: ignore[arg-type]
        assert done.plan.outcome is Outcome.ACCEPT
        assert b"erified-" not in done.raw.partition(b"\r\n\r\n")[0]
        assert b"mx.bank.example" not in done.raw
        assert b"mx.other.example; x=y" in done.raw
